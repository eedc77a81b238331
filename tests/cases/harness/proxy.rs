//! The proxy between a client and the broker: cut, refused, stalled, swallowed, delayed.

use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::{Broker, Direction, Flow, Proxy, eventually, want};

use super::{SILENCE, declare};

#[tokio::test]
async fn proxy_cut_resets_and_refuse_closes_the_port() -> Result<()> {
    let broker = Broker::shared().await?;
    let proxy = Proxy::start(broker.amqp()).await?;
    let uri = broker.uri_through(proxy.address(), "admin", "admin");
    let connection = muster_harness::broker::connect(&uri).await?;
    let channel = connection.create_channel().await?;
    declare(&channel, "q").await?;
    assert_eq!((proxy.counts().accepted, proxy.counts().open), (1, 1));

    proxy.cut();
    eventually("the client sees the reset", async || {
        want(connection.status().connected(), false)
    })
    .await?;
    eventually("the proxy has let go", async || {
        want(proxy.counts().open, 0)
    })
    .await?;

    proxy.refuse(true);
    eventually(
        "connecting is refused",
        async || match tokio::net::TcpStream::connect(proxy.address()).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    proxy.refuse(false);
    let connection = eventually("connecting works again", async || {
        muster_harness::broker::connect(&uri)
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await?;
    declare(&connection.create_channel().await?, "q").await
}

#[tokio::test]
async fn proxy_stall_holds_bytes_and_swallow_loses_them() -> Result<()> {
    let broker = Broker::shared().await?;
    let proxy = Proxy::start(broker.amqp()).await?;
    let uri = broker.uri_through(proxy.address(), "admin", "admin");
    let connection = muster_harness::broker::connect(&uri).await?;
    let channel = connection.create_channel().await?;

    proxy.set(Direction::Down, Flow::Stall);
    {
        let declaring = declare(&channel, "held");
        tokio::pin!(declaring);
        assert!(
            tokio::time::timeout(SILENCE, &mut declaring).await.is_err(),
            "an answer came through a stall"
        );
        assert_eq!(
            broker.depth("held").await?,
            0,
            "the request itself should have passed"
        );
        proxy.set(Direction::Down, Flow::Pass);
        declaring.await.context("after the stall")?;
    }

    proxy.set(Direction::Up, Flow::Swallow);
    let declaring = declare(&channel, "lost");
    assert!(
        tokio::time::timeout(SILENCE, declaring).await.is_err(),
        "an answer to a swallowed request"
    );
    assert!(
        connection.status().connected(),
        "a half-open connection should look alive"
    );
    assert!(
        broker.depth("lost").await.is_err(),
        "the swallowed request reached the broker"
    );
    Ok(())
}

#[tokio::test]
async fn proxy_delay_is_felt() -> Result<()> {
    let broker = Broker::shared().await?;
    let proxy = Proxy::start(broker.amqp()).await?;
    let uri = broker.uri_through(proxy.address(), "admin", "admin");
    let connection = muster_harness::broker::connect(&uri).await?;
    let channel = connection.create_channel().await?;
    proxy.set(Direction::Both, Flow::Delay(Duration::from_millis(100)));
    let began = std::time::Instant::now();
    declare(&channel, "q").await?;
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}
