//! Publishing: each message gets the one receipt that is true of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use muster_harness::{Broker, Direction, Flow, NodeOptions, Proxy, eventually};
use muster_link::{PublishError, Receipt, Session};
use serde_json::json;

use super::{classic, config, config_at, consume, mandatory, message, seconds};

#[tokio::test]
async fn confirmed_returned_and_refused_are_told_apart() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    session.declare_queue(&classic("full")).await?;
    let full = json!({ "max-length": 1, "overflow": "reject-publish" });
    broker
        .management()
        .put_policy(broker.vhost(), "full", "^full$", full)
        .await?;
    assert_eq!(
        session.publish(mandatory("full", b"1")).await?,
        Receipt::Confirmed
    );
    // The policy takes effect a moment later.
    eventually("the queue refuses", async || {
        match session.publish(message("full", b"2")).await {
            Ok(Receipt::Refused) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let lost = session.publish(mandatory("nowhere", b"3")).await?;
    assert!(
        matches!(&lost, Receipt::Returned { reason } if reason == "NO_ROUTE"),
        "{lost:?}"
    );
    assert_eq!(
        session.publish(message("nowhere", b"4")).await?,
        Receipt::Confirmed
    );
    let long = session.publish(message(&"k".repeat(256), b"5")).await;
    assert!(
        matches!(long, Err(PublishError::Invalid { .. })),
        "{long:?}"
    );
    ensure!(
        !session.has_ended(),
        "the session ended: {}",
        session.closed().await
    );
    Ok(())
}

/// The client library hands a returned message to whichever publish is confirmed next; of thousands under way, each
/// must still get its own answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_thousands_under_way_exactly_the_unroutable_ones_come_back() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    session.declare_queue(&classic("there")).await?;
    for round in 0..5 {
        let sent = (0..4000_u32).map(|number| {
            let session = &session;
            async move {
                let outgoing = match number % 4 {
                    0 => mandatory("there", b"x"),
                    1 => message("there", b"x"),
                    2 => message("nowhere", b"x"),
                    _ => mandatory("nowhere", b"x"),
                };
                (number, session.publish(outgoing).await)
            }
        });
        let mut wrong = Vec::new();
        for (number, receipt) in join_all(sent).await {
            let returned = matches!(receipt?, Receipt::Returned { .. });
            if returned != (number % 4 == 3) {
                wrong.push(number);
            }
        }
        ensure!(
            wrong.is_empty(),
            "round {round}: wrong receipts for {} messages: {wrong:?}",
            wrong.len()
        );
    }
    Ok(())
}

#[tokio::test]
async fn large_bodies_and_shared_bodies_arrive_whole() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    session.declare_queue(&classic("q")).await?;
    let sizes = [0_usize, 1, 8183, 8184, 8185, 65_536, 4 * 1024 * 1024];
    let bodies: Vec<Vec<u8>> = sizes
        .iter()
        .map(|size| (0..*size).map(|at| (at % 251) as u8).collect())
        .collect();
    for receipt in join_all(
        bodies
            .iter()
            .map(|body| session.publish(message("q", body))),
    )
    .await
    {
        assert_eq!(receipt?, Receipt::Confirmed);
    }
    let mut deliveries = session.consume(consume("q")).await?;
    for body in bodies {
        let got = deliveries.recv().await.context("the session ended")?;
        ensure!(
            got.body == body,
            "{} bytes of {} differ",
            got.body.len(),
            body.len()
        );
        ensure!(got.user_id.as_deref() == Some("admin"), "{:?}", got.user_id);
        ensure!(got.acker.ack().await);
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_exchange_ends_the_session_with_its_name() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    let lost = muster_link::Outgoing {
        exchange: "no-such-exchange",
        ..message("k", b"")
    };
    let error = session
        .publish(lost)
        .await
        .err()
        .context("published to nowhere")?;
    ensure!(matches!(error, PublishError::Down { .. }), "{error}");
    let why = session.closed().await.why;
    ensure!(why.contains("no exchange 'no-such-exchange'"), "{why}");
    ensure!(
        session.publish(message("k", b"")).await.is_err(),
        "published on a dead session"
    );
    Ok(())
}

#[tokio::test]
async fn a_confirm_that_does_not_come_ends_the_session() -> Result<()> {
    let broker = Broker::shared().await?;
    let proxy = Proxy::start(broker.amqp()).await?;
    let config = config_at(&broker, proxy.address(), |raw| {
        raw.confirm_timeout = Some(seconds(1));
        raw.heartbeat = Some(seconds(600));
    })?;
    let session = Session::open(&config, "test").await?;
    session.declare_queue(&classic("q")).await?;
    assert_eq!(
        session.publish(message("q", b"1")).await?,
        Receipt::Confirmed
    );
    proxy.set(Direction::Down, Flow::Stall);
    let error = session.publish(message("q", b"2")).await.err();
    assert_eq!(
        error,
        Some(PublishError::TimedOut {
            limit: Duration::from_secs(1)
        })
    );
    let why = session.closed().await.why;
    ensure!(why.contains("no confirm"), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_blocked_connection_says_so_holds_nothing_up_and_goes_on_afterwards() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let limited = config_at(&broker, broker.amqp(), |raw| {
        raw.confirm_timeout = Some(seconds(2))
    })?;
    let session = Session::open(&limited, "test").await?;
    session.declare_queue(&classic("q")).await?;
    let mut blocked = session.blocked();
    assert_eq!(*blocked.borrow_and_update(), None);
    assert_eq!(
        session.publish(message("q", b"before")).await?,
        Receipt::Confirmed
    );

    broker.block_publishers(true).await?;
    // The broker blocks a connection at its first message. What is on its way then waits for its limit, what is not
    // is told at once (also where it waited for room), and the session lives on.
    let first = join_all((0..1500).map(|_| session.publish(message("q", b"first"))));
    let first = tokio::time::timeout(Duration::from_secs(20), first).await?;
    let other = first
        .iter()
        .find(|receipt| !matches!(receipt, Err(PublishError::Blocked { .. })));
    ensure!(other.is_none(), "{other:?}");
    let why = blocked.wait_for(Option::is_some).await?.clone();
    assert_eq!(why.as_deref(), Some("low on memory"));
    let second = session.publish(message("q", b"second")).await;
    assert_eq!(
        second,
        Err(PublishError::Blocked {
            why: "low on memory".to_owned()
        })
    );
    ensure!(
        !session.has_ended(),
        "blocked is not broken: {}",
        session.closed().await
    );

    broker.block_publishers(false).await?;
    blocked.wait_for(Option::is_none).await?;
    assert_eq!(
        session.publish(message("q", b"after")).await?,
        Receipt::Confirmed
    );
    // What was on its way arrives: the window of a thousand at the most.
    let depth = broker.depth("q").await?;
    ensure!((3..=1002).contains(&depth), "{depth} messages");
    ensure!(!session.has_ended(), "{}", session.closed().await);
    Ok(())
}

#[tokio::test]
async fn closing_a_blocked_connection_takes_no_time() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    session.declare_queue(&classic("q")).await?;
    broker.block_publishers(true).await?;
    let waiting = session.publish(message("q", b"waits"));
    let mut blocked = session.blocked();
    let closed = async {
        blocked.wait_for(Option::is_some).await?;
        tokio::time::timeout(Duration::from_secs(10), session.close())
            .await
            .context("closing hangs")
    };
    let (waited, closed) = tokio::join!(waiting, closed);
    closed?;
    ensure!(
        matches!(waited, Err(PublishError::Down { .. })),
        "{waited:?}"
    );
    Ok(())
}
