//! Deliveries and acks; sessions that end, and how they say why.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_harness::{Broker, Direction, Flow, NodeOptions, Proxy, eventually, want};
use muster_link::{
    Acks, Binding, Consume, Death, Incoming, QueueDecl, QueueKind, Receipt, Session, SetupError,
};
use serde_json::json;
use tokio::task::JoinSet;

use super::{classic, config, config_at, consume, library_threads, message, seconds};

async fn next(deliveries: &mut muster_link::Deliveries) -> Result<Incoming> {
    deliveries.recv().await.context("the session ended")
}

async fn opened(broker: &Broker) -> Result<Session> {
    Session::open(&config(broker)?, "test")
        .await
        .context("open a session")
}

#[tokio::test]
async fn what_is_acked_is_gone_and_what_is_not_comes_again() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    session.declare_queue(&classic("q")).await?;
    for body in [b"one", b"two"] {
        session.publish(message("q", body)).await?;
    }
    let mut deliveries = session.consume(consume("q")).await?;
    let (one, two) = (next(&mut deliveries).await?, next(&mut deliveries).await?);
    ensure!(one.acker.ack().await, "the first ack was not taken");
    ensure!(!one.acker.clone().ack().await, "a second ack was taken");
    ensure!(
        !one.acker.reject().await,
        "a rejection after an ack was taken"
    );
    session.close().await;
    ensure!(
        !two.acker.ack().await,
        "an ack was taken by a closed session"
    );
    ensure!(
        deliveries.recv().await.is_none(),
        "a closed session delivers"
    );

    let session = Session::open(&config(&broker)?, "test").await?;
    let mut deliveries = session.consume(consume("q")).await?;
    let again = next(&mut deliveries).await?;
    ensure!(again.body == b"two" && again.redelivered, "{again:?}");
    ensure!(
        !two.acker.ack().await,
        "an old ack was taken by a new session"
    );
    ensure!(again.acker.ack().await);
    session.close().await;
    assert_eq!(broker.depth("q").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_goodbye_comes_after_what_was_said_before() -> Result<()> {
    const ROUNDS: usize = 30;
    let broker = Broker::shared().await?;
    let session = opened(&broker).await?;
    session.declare_queue(&classic("q")).await?;
    for _ in 0..ROUNDS {
        session.publish(message("q", b"x")).await?;
    }
    for _ in 0..ROUNDS {
        let session = opened(&broker).await?;
        let mut deliveries = session.consume(consume("q")).await?;
        let one = next(&mut deliveries).await?;
        // It sees the consumer end while the connection is being closed.
        let mut watching = JoinSet::new();
        watching.spawn(async move { while deliveries.recv().await.is_some() {} });
        ensure!(one.acker.ack().await, "the ack was not taken");
        session.close().await;
        let ended = session.closed().await;
        ensure!(ended.why.contains("it was closed"), "{ended}");
        watching.join_next().await.context("a task")??;
    }
    assert_eq!(broker.depth("q").await?, 0);
    Ok(())
}

#[tokio::test]
async fn no_more_is_delivered_than_the_prefetch() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    session.declare_queue(&classic("q")).await?;
    for _ in 0..10 {
        session.publish(message("q", b"x")).await?;
    }
    let mut deliveries = session
        .consume(Consume {
            prefetch: 3,
            ..consume("q")
        })
        .await?;
    let first = next(&mut deliveries).await?;
    next(&mut deliveries).await?;
    next(&mut deliveries).await?;
    assert_eq!(broker.depth("q").await?, 7);
    let early = tokio::time::timeout(Duration::from_millis(300), deliveries.recv()).await;
    ensure!(early.is_err(), "more than the prefetch came: {early:?}");
    first.acker.ack().await;
    next(&mut deliveries).await?;
    Ok(())
}

#[tokio::test]
async fn dead_letters_say_where_they_died_and_of_what() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    for queue in ["agent", "dead"] {
        session.declare_queue(&classic(queue)).await?;
    }
    let policy = json!({ "dead-letter-exchange": "", "dead-letter-routing-key": "dead" });
    broker
        .management()
        .put_policy(broker.vhost(), "dlx", "^agent$", policy)
        .await?;
    let mut dead = session.consume(consume("dead")).await?;
    // The policy takes effect a moment later; until then what expires is just gone.
    let expired = async {
        loop {
            session
                .publish(muster_link::Outgoing {
                    expiration_ms: Some(1),
                    ..message("agent", b"old")
                })
                .await?;
            if let Ok(got) = tokio::time::timeout(Duration::from_secs(1), next(&mut dead)).await {
                return got;
            }
        }
    };
    let got = tokio::time::timeout(Duration::from_secs(30), expired).await??;
    assert_eq!(
        got.death,
        Some(Death {
            queue: "agent".to_owned(),
            reason: "expired".to_owned()
        })
    );

    let mut agent = session.consume(consume("agent")).await?;
    session.publish(message("agent", b"garbage")).await?;
    ensure!(next(&mut agent).await?.acker.reject().await);
    let got = next(&mut dead).await?;
    assert_eq!(got.body, b"garbage");
    assert_eq!(
        got.death,
        Some(Death {
            queue: "agent".to_owned(),
            reason: "rejected".to_owned()
        })
    );
    Ok(())
}

#[tokio::test]
async fn what_another_connection_holds_is_in_use() -> Result<()> {
    let broker = Broker::shared().await?;
    let (first, second) = (opened(&broker).await?, opened(&broker).await?);
    first.declare_queue(&classic("q")).await?;
    let exclusive = || Consume {
        exclusive: true,
        ..consume("q")
    };
    let held = first.consume(exclusive()).await?;
    let error = second
        .consume(consume("q"))
        .await
        .err()
        .context("two exclusive consumers")?;
    ensure!(
        matches!(&error, SetupError::InUse { queue, .. } if queue == "q"),
        "{error}"
    );
    drop(held);
    // The cancel is on its way.
    eventually("the queue is free again", async || {
        let session = opened(&broker).await.map_err(|error| error.to_string())?;
        session
            .consume(exclusive())
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await?;

    let own = QueueDecl {
        name: "own".to_owned(),
        kind: QueueKind::Exclusive,
    };
    first.declare_queue(&own).await?;
    let error = opened(&broker)
        .await?
        .declare_queue(&own)
        .await
        .err()
        .context("took another's queue")?;
    ensure!(matches!(error, SetupError::InUse { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn what_is_missing_or_different_is_said() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = opened(&broker).await?;
    session.declare_queue(&classic("q")).await?;
    let error = session
        .consume(consume("missing"))
        .await
        .err()
        .context("consumed nothing")?;
    ensure!(matches!(error, SetupError::Missing { .. }), "{error}");
    ensure!(
        session.closed().await.why.contains("missing"),
        "{}",
        session.closed().await
    );

    let quorum = QueueDecl {
        name: "q".to_owned(),
        kind: QueueKind::Quorum,
    };
    let error = opened(&broker)
        .await?
        .declare_queue(&quorum)
        .await
        .err()
        .context("declared it twice")?;
    ensure!(matches!(error, SetupError::Different { .. }), "{error}");

    let nowhere = Binding {
        exchange: "nowhere".to_owned(),
        key: "k".to_owned(),
    };
    let error = opened(&broker)
        .await?
        .bind("q", &nowhere)
        .await
        .err()
        .context("bound to nowhere")?;
    ensure!(matches!(error, SetupError::Missing { .. }), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_refusal_is_told_to_who_asked() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = opened(&broker).await?;
    session.declare_queue(&classic("q")).await?;
    let config = config(&broker)?;
    let mut asking = JoinSet::new();
    for _ in 0..30 {
        let config = config.clone();
        asking.spawn(async move {
            let session = Session::open(&config, "test").await?;
            let nowhere = Binding {
                exchange: "nowhere".to_owned(),
                key: "k".to_owned(),
            };
            anyhow::Ok(session.bind("q", &nowhere).await)
        });
    }
    while let Some(answer) = asking.join_next().await {
        let error = answer??.err().context("bound to nowhere")?;
        ensure!(matches!(error, SetupError::Missing { .. }), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_user_without_the_right_is_told_so() -> Result<()> {
    let broker = Broker::shared().await?;
    let user = format!("agent-{}", broker.tag());
    broker.management().put_user(&user, "secret", "").await?;
    let none = muster_harness::management::Permissions {
        configure: "^$",
        write: "^$",
        read: "^$",
    };
    broker
        .management()
        .put_permissions(&user, broker.vhost(), none)
        .await?;
    let config = config(&broker)?.with_login(&user, "secret".to_owned().into());
    let session = Session::open(&config, "test").await?;
    let error = session
        .declare_queue(&classic("q"))
        .await
        .err()
        .context("it may")?;
    ensure!(matches!(error, SetupError::Denied { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn bindings_come_and_go() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    session
        .declare_queue(&QueueDecl {
            name: "own".to_owned(),
            kind: QueueKind::Exclusive,
        })
        .await?;
    let binding = Binding {
        exchange: "amq.topic".to_owned(),
        key: "*.job1.#".to_owned(),
    };
    session.bind("own", &binding).await?;
    let reply = || muster_link::Outgoing {
        exchange: "amq.topic",
        mandatory: true,
        transient: false,
        ..message("result.job1.lb1", b"")
    };
    assert_eq!(session.publish(reply()).await?, Receipt::Confirmed);
    session.unbind("own", &binding).await?;
    ensure!(matches!(
        session.publish(reply()).await?,
        Receipt::Returned { .. }
    ));
    Ok(())
}

#[tokio::test]
async fn several_consumers_share_a_session() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    for queue in ["a", "b"] {
        session.declare_queue(&classic(queue)).await?;
    }
    let mut a = session.consume(consume("a")).await?;
    let mut b = session
        .consume(Consume {
            acks: Acks::Batched,
            ..consume("b")
        })
        .await?;
    for number in 0..25_u8 {
        session.publish(message("a", &[number])).await?;
        session.publish(message("b", &[number])).await?;
    }
    for number in 0..25_u8 {
        let (from_a, from_b) = (next(&mut a).await?, next(&mut b).await?);
        ensure!(from_a.body == [number] && from_b.body == [number]);
        ensure!(from_a.acker.ack().await);
        ensure!(
            !from_b.acker.ack().await,
            "batched deliveries are acked by themselves"
        );
    }
    session.close().await;
    // Half a prefetch is acked at a time: at most the last five come again.
    assert_eq!(broker.depth("a").await?, 0);
    assert!(
        broker.depth("b").await? <= 5,
        "{}",
        broker.depth("b").await?
    );
    Ok(())
}

#[tokio::test]
async fn a_session_closed_by_the_broker_says_so() -> Result<()> {
    let broker = Broker::shared().await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    session.declare_queue(&classic("q")).await?;
    let mut deliveries = session.consume(consume("q")).await?;
    eventually("the broker closes it", async || {
        let closed = broker
            .close_connections()
            .await
            .map_err(|error| error.to_string())?;
        want(closed, 1)
    })
    .await?;
    ensure!(deliveries.recv().await.is_none());
    let why = session.closed().await.why;
    ensure!(why.contains("CONNECTION_FORCED"), "{why}");
    eventually("no thread is left", async || want(library_threads(), 0)).await
}

#[tokio::test]
async fn a_broker_that_stands_still_is_noticed_and_left() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let quick = config_at(&broker, broker.amqp(), |raw| {
        raw.heartbeat = Some(seconds(1));
        raw.confirm_timeout = Some(seconds(600));
    })?;
    let beating = Session::open(&quick, "test").await?;
    let patient = Session::open(
        &config_at(&broker, broker.amqp(), |raw| {
            raw.heartbeat = Some(seconds(600))
        })?,
        "test",
    )
    .await?;
    broker.pause().await?;
    // No confirm and no answer is waited for: only the heartbeat can tell.
    let ended = tokio::time::timeout(Duration::from_secs(30), beating.closed())
        .await
        .context("not noticed")?;
    ensure!(ended.why.contains("no sign of life"), "{ended}");
    tokio::time::timeout(Duration::from_secs(10), patient.close())
        .await
        .context("closing hangs")?;
    tokio::time::timeout(Duration::from_secs(10), beating.close())
        .await
        .context("closing what is gone hangs")?;
    eventually("no thread is left", async || want(library_threads(), 0)).await?;
    broker.resume()
}

#[tokio::test]
async fn dropping_a_session_on_a_dead_network_leaves_nothing() -> Result<()> {
    let broker = Broker::shared().await?;
    let proxy = Proxy::start(broker.amqp()).await?;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(Session::open(&config_at(&broker, proxy.address(), |_| {})?, "test").await?);
    }
    assert_eq!(library_threads(), 20);
    proxy.set(Direction::Both, Flow::Swallow);
    drop(sessions);
    eventually("no thread is left", async || want(library_threads(), 0)).await
}
