//! TLS with a private authority, and certificates instead of passwords.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use muster_harness::ports::PortBlock;
use muster_harness::{Broker, NodeOptions};
use muster_link::{BrokerConfig, OpenError, RawBroker, Receipt, Session};

use super::{classic, config_at, message};

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("cases/link/tls")
        .join(format!("{name}.pem"))
}

/// A node that listens with TLS on the port, too.
async fn broker_with_tls(port: u16) -> Result<Broker> {
    let config = [
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        format!("ssl_options.cacertfile = {}", pem("ca").display()),
        format!("ssl_options.certfile = {}", pem("server").display()),
        format!("ssl_options.keyfile = {}", pem("server.key").display()),
        "ssl_options.verify = verify_peer".to_owned(),
        "ssl_options.fail_if_no_peer_cert = false".to_owned(),
        "ssl_cert_login_from = common_name".to_owned(),
        "auth_mechanisms.1 = PLAIN".to_owned(),
        "auth_mechanisms.2 = EXTERNAL".to_owned(),
    ];
    Broker::private(NodeOptions {
        config: config.to_vec(),
    })
    .await
}

async fn failure(config: BrokerConfig) -> Result<OpenError> {
    Session::open(&config, "test")
        .await
        .err()
        .context("a session was opened")
}

/// One node for all of them: it takes long to boot.
#[tokio::test]
async fn only_the_given_authority_is_trusted_and_a_certificate_is_a_login() -> Result<()> {
    let ports = PortBlock::reserve()?;
    let port = ports.port(0);
    let broker = broker_with_tls(port).await?;
    let to = |url: String, change: &dyn Fn(&mut RawBroker)| {
        config_at(&broker, broker.amqp(), |raw| {
            raw.url = format!("{url}/{}", broker.vhost()).parse().ok();
            raw.ca_file = url.starts_with("amqps").then(|| pem("ca"));
            change(raw);
        })
    };
    let certificate = |raw: &mut RawBroker| {
        raw.user = Some("tls-agent".to_owned());
        raw.password = None;
        raw.cert_file = Some(pem("client"));
        raw.key_file = Some(pem("client.key"));
    };

    for host in ["localhost", "127.0.0.1"] {
        let session =
            Session::open(&to(format!("amqps://{host}:{port}"), &|_| {})?, "test").await?;
        session.declare_queue(&classic("q")).await?;
        ensure!(session.publish(message("q", &[7; 100_000])).await? == Receipt::Confirmed);
        session.close().await;
    }

    let url = || format!("amqps://127.0.0.1:{port}");
    let unknown = failure(to(url(), &certificate)?).await?;
    ensure!(
        matches!(&unknown, OpenError::Credentials { user, .. } if user == "tls-agent"),
        "{unknown}"
    );
    broker.put_user("tls-agent", "another way in").await?;
    let session = Session::open(&to(url(), &certificate)?, "test").await?;
    // The broker checks that `user_id` is the certificate's name.
    ensure!(session.publish(message("q", b"x")).await? == Receipt::Confirmed);
    session.close().await;

    let other = failure(to(url(), &|raw| raw.ca_file = Some(pem("other-ca")))?).await?;
    ensure!(matches!(other, OpenError::Tls { .. }), "{other}");
    let system = failure(to(url(), &|raw| raw.ca_file = None)?).await?;
    ensure!(
        matches!(system, OpenError::Tls { .. } | OpenError::File { .. }),
        "{system}"
    );
    let no_tls_there = failure(to(format!("amqps://{}", broker.amqp()), &|_| {})?).await?;
    ensure!(
        matches!(no_tls_there, OpenError::Tls { .. }),
        "{no_tls_there}"
    );
    let tls_there = failure(to(format!("amqp://127.0.0.1:{port}"), &|_| {})?).await?;
    ensure!(
        matches!(tls_there, OpenError::Protocol { .. }),
        "{tls_there}"
    );
    Ok(())
}

#[tokio::test]
async fn a_bad_file_is_named() -> Result<()> {
    // Nobody listens there: files are looked at first.
    let config = |change: &dyn Fn(&mut RawBroker)| -> Result<BrokerConfig> {
        let mut raw = RawBroker {
            url: Some("amqps://127.0.0.1:1".parse()?),
            ca_file: Some(pem("ca")),
            ..RawBroker::default()
        };
        change(&mut raw);
        Ok(raw.try_into()?)
    };
    let missing = failure(config(&|raw| raw.ca_file = Some(pem("missing")))?).await?;
    ensure!(
        matches!(&missing, OpenError::File { path, .. } if *path == pem("missing")),
        "{missing}"
    );
    let no_certificate = failure(config(&|raw| raw.ca_file = Some(pem("client.key")))?).await?;
    ensure!(
        no_certificate
            .to_string()
            .contains("no certificate in PEM form"),
        "{no_certificate}"
    );
    let no_key = failure(config(&|raw| {
        raw.cert_file = Some(pem("client"));
        raw.key_file = Some(pem("client"));
    })?)
    .await?;
    ensure!(
        matches!(
            &no_key,
            OpenError::File {
                what: "key file",
                ..
            }
        ),
        "{no_key}"
    );
    Ok(())
}
