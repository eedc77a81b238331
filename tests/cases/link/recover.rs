//! The link that is always there or on its way back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt};
use muster_harness::{Broker, Direction, Flow, NodeOptions, Proxy, eventually, want};
use muster_link::{Acks, Consume, Link, LinkStatus, PublishError, Receipt, Session};
use muster_proto::id::MessageId;
use tokio_util::sync::CancellationToken;

use super::{
    classic, config, config_at, consume, down_for, library_threads, message, plan, seconds,
    up_after,
};

fn start(
    config: muster_link::BrokerConfig,
    queue: &str,
) -> (
    Link,
    tokio::sync::mpsc::Receiver<muster_link::Incoming>,
    CancellationToken,
) {
    let stop = CancellationToken::new();
    let (link, deliveries) = Link::start(config, "test link".to_owned(), plan(queue), stop.clone());
    (link, deliveries, stop)
}

#[tokio::test]
async fn it_starts_without_a_broker_and_finds_it_later() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    broker.stop().await?;
    let (link, mut deliveries, stop) = start(config(&broker)?, "q");
    let mut status = link.status();
    down_for(&mut status, "could not reach").await?;
    let early = link.publish(message("q", b"early")).await;
    ensure!(
        matches!(&early, Err(PublishError::Down { why }) if why.contains("could not reach")),
        "{early:?}"
    );

    broker.start().await?;
    up_after(&mut status, 0).await?;
    assert_eq!(
        link.publish(message("q", b"hello")).await?,
        Receipt::Confirmed
    );
    let got = deliveries.recv().await.context("no delivery")?;
    ensure!(got.body == b"hello" && got.acker.ack().await);

    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), link.stopped())
        .await
        .context("does not stop")?;
    assert_eq!(*status.borrow_and_update(), LinkStatus::Stopped);
    ensure!(deliveries.recv().await.is_none());
    ensure!(link.publish(message("q", b"late")).await.is_err());
    eventually("no thread is left", async || want(library_threads(), 0)).await
}

#[tokio::test]
async fn a_deleted_queue_is_made_again() -> Result<()> {
    let broker = Broker::shared().await?;
    let (link, mut deliveries, _stop) = start(config(&broker)?, "q");
    let mut status = link.status();
    let first = up_after(&mut status, 0).await?;
    broker
        .management()
        .delete(&format!("queues/{}/q", broker.vhost()))
        .await?;
    up_after(&mut status, first).await?;
    assert_eq!(
        link.publish(message("q", b"again")).await?,
        Receipt::Confirmed
    );
    assert_eq!(
        deliveries.recv().await.context("no delivery")?.body,
        b"again"
    );
    Ok(())
}

#[tokio::test]
async fn a_second_one_of_the_same_name_is_told_so_and_takes_over_when_it_can() -> Result<()> {
    let broker = Broker::shared().await?;
    let (first, _first_deliveries, stop_first) = start(config(&broker)?, "q");
    up_after(&mut first.status(), 0).await?;
    let (second, mut deliveries, _stop) = start(config(&broker)?, "q");
    let mut status = second.status();
    let why = down_for(&mut status, "another program with this name is connected").await?;
    ensure!(why.contains("the queue q is in use"), "{why}");
    ensure!(
        matches!(*first.status().borrow(), LinkStatus::Up { session: 1, .. }),
        "{first:?}"
    );

    stop_first.cancel();
    up_after(&mut status, 0).await?;
    second.publish(message("q", b"mine")).await?;
    assert_eq!(
        deliveries.recv().await.context("no delivery")?.body,
        b"mine"
    );
    Ok(())
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_its_ghost_waited_out() -> Result<()> {
    let broker = Broker::shared().await?;
    let (one, other) = (
        Proxy::start(broker.amqp()).await?,
        Proxy::start(broker.amqp()).await?,
    );
    let config = config_at(&broker, one.address(), |raw| {
        let second = format!("amqp://{}/{}", other.address(), broker.vhost())
            .parse()
            .ok();
        raw.urls = [raw.url.take(), second].into_iter().flatten().collect();
        raw.heartbeat = Some(seconds(2));
        raw.connect_timeout = Some(seconds(2));
        raw.confirm_timeout = Some(seconds(600));
    })?;
    let (link, mut deliveries, _stop) = start(config, "q");
    let mut status = link.status();
    let mut session = up_after(&mut status, 0).await?;
    for round in 0..2_u8 {
        // Whichever carries the connection goes dead without a word, and hides its end from the broker.
        let used = if one.counts().open > 0 { &one } else { &other };
        used.set(Direction::Both, Flow::Swallow);
        session = up_after(&mut status, session).await?;
        link.publish(message("q", &[round])).await?;
        let got = deliveries.recv().await.context("no delivery")?;
        ensure!(got.body == [round] && got.acker.ack().await, "{got:?}");
        used.set(Direction::Both, Flow::Pass);
        eventually("the dead connection is gone", async || {
            want(one.counts().open + other.counts().open, 1)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_rebuild_is_a_new_session() -> Result<()> {
    let broker = Broker::shared().await?;
    let (link, _deliveries, _stop) = start(config(&broker)?, "q");
    let mut status = link.status();
    let first = up_after(&mut status, 0).await?;
    link.rebuild("nothing came back from its own queue");
    up_after(&mut status, first).await?;
    Ok(())
}

/// Every message is published until it is confirmed. What was confirmed is there in the end, however often the broker
/// died; nothing hangs, and nothing is confirmed that is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_outlives_kill_9_with_thousands_under_way() -> Result<()> {
    const MESSAGES: usize = 6000;
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let setup = Session::open(&config(&broker)?, "test").await?;
    setup.declare_queue(&classic("kept")).await?;
    setup.close().await;
    let (link, _deliveries, stop) = start(config(&broker)?, "own");
    up_after(&mut link.status(), 0).await?;

    let until_confirmed = |link: Link| async move {
        let outgoing = message("kept", b"x");
        let mut failures = 0_u32;
        loop {
            match link.publish(outgoing.clone()).await {
                Ok(Receipt::Confirmed) => return (outgoing.message_id, failures),
                Ok(_) | Err(_) => {
                    failures += 1;
                    let _ = tokio::time::timeout(
                        Duration::from_millis(200),
                        up_after(&mut link.status(), 0),
                    )
                    .await;
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    let publishing = stream::iter(0..MESSAGES)
        .map(|_| until_confirmed(link.clone()))
        .buffer_unordered(2000);
    tokio::pin!(publishing);
    let mut confirmed = BTreeMap::new();
    let mut kills = 0;
    while let Some((id, failures)) =
        tokio::time::timeout(Duration::from_secs(120), publishing.next())
            .await
            .context("publishing hangs")?
    {
        confirmed.insert(id, failures);
        if confirmed.len() == MESSAGES / 6 * (kills + 1) * 2 && kills < 2 {
            kills += 1;
            broker.kill().await?;
            broker.start().await?;
        }
    }
    stop.cancel();
    link.stopped().await;
    assert_eq!(confirmed.len(), MESSAGES);
    ensure!(
        confirmed.values().any(|failures| *failures > 0),
        "the broker's death went unnoticed"
    );

    let present = all_ids(&broker, "kept").await?;
    let missing: Vec<_> = confirmed
        .keys()
        .filter(|id| !present.contains(id))
        .collect();
    ensure!(
        missing.is_empty(),
        "{} of {MESSAGES} confirmed messages are gone",
        missing.len()
    );
    ensure!(
        present.len() == MESSAGES,
        "{} messages that were never sent",
        present.len() - MESSAGES
    );
    Ok(())
}

/// The ids of all messages in a queue.
async fn all_ids(broker: &Broker, queue: &str) -> Result<BTreeSet<MessageId>> {
    let depth = broker.depth(queue).await?;
    let session = Session::open(&config(broker)?, "test").await?;
    let mut deliveries = session
        .consume(Consume {
            prefetch: 1000,
            acks: Acks::Batched,
            ..consume(queue)
        })
        .await?;
    let mut ids = BTreeSet::new();
    for _ in 0..depth {
        let got = tokio::time::timeout(Duration::from_secs(30), deliveries.recv()).await?;
        ids.extend(got.context("the session ended")?.message_id);
    }
    session.close().await;
    Ok(ids)
}
