//! The config file of `muster`: where it is, what may stand in it, and what holds where it is silent.
//!
//! `--config`, else `MUSTER_CONFIG`, else `muster/config.toml` in the user's config directory, else
//! `/etc/muster/muster.toml`; without any, the defaults. Unknown keys are refused with their line and column.

mod parse;
mod place;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use muster_proto::id::KeyId;
use muster_proto::signing::JobSigner;
use serde::Deserialize;
use toml::Table as BrokerConfig; // until muster-link has it

pub use self::parse::ConfigError;
use self::place::Place;
use crate::exit::usage;

/// The parsed config.
#[derive(Debug)]
pub struct Config {
    /// The file that it was read from; `None` where there is none.
    pub file: Option<PathBuf>,
    /// Directory of the keys: `keys` beside a config file that was named, else in the user's config directory.
    pub keys_dir: PathBuf,
    /// Who asks, in jobs and events: the login name unless set.
    pub issuer: KeyId,
    /// The private key that signs jobs.
    pub key_file: PathBuf,
    /// Where the ledger is kept.
    pub cache_dir: PathBuf,
    /// The management API.
    pub management: ManagementConfig,
    broker: Option<BrokerConfig>,
}

/// How RabbitMQ's management API is reached. What is left out follows from `[broker]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagementConfig {
    /// Its URL, e.g. `http://rabbit.example.com:15672`.
    pub url: Option<String>,
    /// The user; `broker init` and `enroll` need an administrator.
    pub user: Option<String>,
    /// A file that holds the user's password.
    pub password_file: Option<PathBuf>,
    /// A file with the CA certificates that the API's certificate is checked against.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    issuer: Option<KeyId>,
    key_file: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    broker: Option<BrokerConfig>,
    #[serde(default)]
    management: ManagementConfig,
}

impl Config {
    /// Reads the config file: `named`, or where it usually is.
    ///
    /// # Errors
    /// When a named file is not there, can't be read, or is wrong.
    pub fn load(named: Option<&Path>) -> Result<Self> {
        let place = Place::find(named)?;
        let Some(file) = &place.file else {
            return Self::from_raw(RawConfig::default(), place);
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| usage(format!("read the config {}: {error}", file.display())))?;
        let raw = parse::parse(&text, file)?;
        Self::from_raw(raw, place)
    }

    /// The defaults, without reading a file.
    ///
    /// # Errors
    /// When there is no home directory to put things in.
    pub fn without_file() -> Result<Self> {
        Self::from_raw(RawConfig::default(), Place::find_none()?)
    }

    fn from_raw(raw: RawConfig, place: Place) -> Result<Self> {
        let issuer = match raw.issuer {
            Some(issuer) => issuer,
            None => place::login_name()?,
        };
        let keys_dir = place.dir.join("keys");
        let key_file = match raw.key_file {
            Some(path) => place.absolute(&path),
            None => keys_dir.join(format!("{issuer}.pem")),
        };
        let cache_dir = match raw.cache_dir {
            Some(path) => place.absolute(&path),
            None => place::cache_dir()?,
        };
        let mut management = raw.management;
        management.password_file = management.password_file.map(|path| place.absolute(&path));
        management.ca_file = management.ca_file.map(|path| place.absolute(&path));
        Ok(Self {
            file: place.file,
            keys_dir,
            issuer,
            key_file,
            cache_dir,
            management,
            broker: raw.broker,
        })
    }

    /// The section `[broker]`.
    ///
    /// # Errors
    /// When there is none; the error says where to write one.
    pub fn broker(&self) -> Result<&BrokerConfig> {
        self.broker.as_ref().ok_or_else(|| {
            let place = match &self.file {
                Some(file) => file.display().to_string(),
                None => place::USUAL_PLACES.to_owned(),
            };
            usage(format!(
                "no broker is configured: write a section [broker] with url, user and password_file into {place}, \
                 as `muster broker enroll --operator NAME` prints it"
            ))
        })
    }

    /// The key that signs jobs, and its id: the file's name without `.pem`.
    ///
    /// # Errors
    /// When the file is missing or not a private key, and when its name is not one that a key may have.
    pub fn signer(&self) -> Result<(KeyId, JobSigner)> {
        let file = self.key_file.display();
        let text = std::fs::read_to_string(&self.key_file).map_err(|error| {
            usage(format!(
                "read the signing key {file}: {error}; make one with `muster key new {}`",
                self.issuer
            ))
        })?;
        let signer =
            JobSigner::from_pem(&text).with_context(|| format!("read the signing key {file}"))?;
        let stem = self
            .key_file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let id = stem
            .parse()
            .with_context(|| format!("take the key's id from the file name {file}"))?;
        Ok((id, signer))
    }
}
