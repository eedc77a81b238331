//! Opening a session: every way to fail says which it is, in time, and leaves nothing behind.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use muster_harness::{Broker, eventually, want};
use muster_link::{BrokerConfig, OpenError, RawBroker, Session};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::{config, config_at, library_threads, seconds};

async fn failure(config: &BrokerConfig) -> Result<OpenError> {
    let failed = Session::open(config, "test").await.err();
    let error = failed.context("a session was opened")?;
    assert!(
        !error.to_string().contains("hunter2"),
        "it shows the password: {error}"
    );
    Ok(error)
}

fn at(address: &str) -> Result<BrokerConfig> {
    let raw = RawBroker {
        url: Some(format!("amqp://{address}").parse()?),
        connect_timeout: Some(seconds(1)),
        ..RawBroker::default()
    };
    Ok(raw.try_into()?)
}

#[tokio::test]
async fn wrong_password_user_vhost_and_permissions_are_told_apart() -> Result<()> {
    let broker = Broker::shared().await?;
    let stranger = format!("stranger-{}", broker.tag());
    broker
        .management()
        .put_user(&stranger, "hunter2", "")
        .await?;

    let wrong = config_at(&broker, broker.amqp(), |raw| {
        raw.password = Some("hunter2".to_owned().into())
    })?;
    let error = failure(&wrong).await?;
    assert!(
        matches!(&error, OpenError::Credentials { user, .. } if user == "admin"),
        "{error}"
    );
    assert!(error.to_string().contains("ACCESS_REFUSED"), "{error}");

    let nobody = config_at(&broker, broker.amqp(), |raw| {
        raw.user = Some("nobody".to_owned())
    })?;
    assert!(matches!(
        failure(&nobody).await?,
        OpenError::Credentials { .. }
    ));

    let no_password = config_at(&broker, broker.amqp(), |raw| raw.password = None)?;
    let error = failure(&no_password).await?;
    assert!(
        error.to_string().contains("no password is configured"),
        "{error}"
    );

    let nowhere = config_at(&broker, broker.amqp(), |raw| {
        raw.url = format!("amqp://{}/nowhere", broker.amqp()).parse().ok();
    })?;
    let error = failure(&nowhere).await?;
    assert!(
        matches!(&error, OpenError::Vhost { vhost, .. } if vhost == "nowhere"),
        "{error}"
    );

    let no_rights = config_at(&broker, broker.amqp(), |raw| {
        raw.user = Some(stranger.clone());
        raw.password = Some("hunter2".to_owned().into());
    })?;
    let error = failure(&no_rights).await?;
    assert!(matches!(error, OpenError::Vhost { .. }), "{error}");
    eventually("failed logins leave no thread", async || {
        want(library_threads(), 0)
    })
    .await
}

#[tokio::test]
async fn password_comes_from_a_file_and_its_lack_is_named() -> Result<()> {
    let broker = Broker::shared().await?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("password");
    let config = config_at(&broker, broker.amqp(), |raw| {
        raw.password = None;
        raw.password_file = Some(file.clone());
    })?;
    let error = failure(&config).await?;
    assert!(
        matches!(&error, OpenError::File { path, .. } if *path == file),
        "{error}"
    );
    std::fs::write(&file, "\n")?;
    assert!(failure(&config).await?.to_string().contains("it is empty"));
    std::fs::write(&file, "admin\n")?;
    Session::open(&config, "test").await?.close().await;
    Ok(())
}

#[tokio::test]
async fn nobody_there_and_somebody_else_there_are_told_apart() -> Result<()> {
    let refused = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let error = failure(&at(&refused.to_string())?).await?;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&refused.to_string()), "{error}");

    let error = failure(&at("no-such-host.invalid:5672")?).await?;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");

    let other = TcpListener::bind("127.0.0.1:0").await?;
    let address = other.local_addr()?.to_string();
    let says = async {
        let (mut client, _) = other.accept().await?;
        client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await
    };
    let (said, error) = tokio::join!(says, async { failure(&at(&address)?).await });
    said?;
    let error = error?;
    assert!(matches!(error, OpenError::Protocol { .. }), "{error}");
    eventually("no thread is left", async || want(library_threads(), 0)).await
}

#[tokio::test]
async fn a_listener_that_says_nothing_is_left_in_time() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let began = Instant::now();
    let error = failure(&at(&silent.local_addr()?.to_string())?).await?;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("took longer than 1s"), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    eventually("the abandoned handshake leaves no thread", async || {
        want(library_threads(), 0)
    })
    .await
}

#[tokio::test]
async fn of_several_brokers_one_that_answers_is_found() -> Result<()> {
    let broker = Broker::shared().await?;
    let refused = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let config = config_at(&broker, broker.amqp(), |raw| {
        let dead = format!("amqp://{refused}/{}", broker.vhost()).parse().ok();
        raw.urls = [dead, raw.url.take()].into_iter().flatten().collect();
    })?;
    for _ in 0..8 {
        Session::open(&config, "test").await?.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn the_name_is_shown_and_closing_leaves_nothing() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "muster-test lb1").await?;
    eventually("the broker lists the connection by its name", async || {
        let open = broker
            .management()
            .connections(broker.vhost())
            .await
            .map_err(|error| error.to_string())?;
        let names: Vec<_> = open
            .iter()
            .filter_map(|one| one.client_properties.get("connection_name"))
            .collect();
        want(names, vec![&serde_json::json!("muster-test lb1")])
    })
    .await?;
    session.close().await;
    assert!(session.has_ended());
    assert!(session.closed().await.why.contains("it was closed"));
    eventually("no thread is left", async || want(library_threads(), 0)).await?;
    eventually("the broker has no connection", async || {
        let open = broker
            .management()
            .connections(broker.vhost())
            .await
            .map_err(|error| error.to_string())?;
        want(open.len(), 0)
    })
    .await
}
