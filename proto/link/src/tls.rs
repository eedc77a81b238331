//! TLS settings from PEM files, read at every connect so that renewed certificates are taken up.
//!
//! With a `ca_file`, nothing but what is in it is trusted: the client library's own way always adds the system's roots.

use std::path::Path;
use std::sync::Arc;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::TlsFiles;
use crate::error::OpenError;

/// Reads the files; fails when one can't be read or holds nothing of use.
pub(crate) fn connector(files: &TlsFiles) -> Result<RustlsConnector, OpenError> {
    let identity = match &files.identity {
        None => None,
        Some((cert, key)) => Some((
            certificates("certificate file", cert)?,
            private_key(key)?,
            cert,
        )),
    };
    let system = |why: std::io::Error| OpenError::File {
        what: "system's certificate store",
        path: Path::new("/etc/ssl/certs").to_owned(),
        why: format!("{why}; install ca-certificates, or set `ca_file`"),
    };
    match (&files.ca, identity) {
        (None, None) => RustlsConnectorConfig::new_with_native_certs()
            .and_then(RustlsConnectorConfig::connector_with_no_client_auth)
            .map_err(system),
        (None, Some((chain, key, _))) => RustlsConnectorConfig::new_with_native_certs()
            .and_then(|config| config.connector_with_single_cert(chain, key))
            .map_err(system),
        (Some(ca), identity) => {
            let builder = ClientConfig::builder_with_provider(Arc::new(
                rustls::crypto::ring::default_provider(),
            ))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("CA file", ca, error.to_string()))?
            .with_root_certificates(roots(ca)?);
            let config = match identity {
                None => builder.with_no_client_auth(),
                Some((chain, key, cert)) => builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| bad("certificate file", cert, error.to_string()))?,
            };
            Ok(Arc::new(config).into())
        }
    }
}

fn roots(ca: &Path) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("CA file", ca)? {
        roots
            .add(certificate)
            .map_err(|error| bad("CA file", ca, error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .and_then(std::iter::Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(bad(
            what,
            path,
            "it holds no certificate in PEM form".to_owned(),
        )),
        Ok(found) => Ok(found),
        Err(error) => Err(bad(what, path, error.to_string())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, OpenError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| bad("key file", path, error.to_string()))
}

fn bad(what: &'static str, path: &Path, why: String) -> OpenError {
    OpenError::File {
        what,
        path: path.to_owned(),
        why,
    }
}
