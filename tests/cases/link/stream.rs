//! Reading streams: from where one wants to, to the end, with every message's place.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use muster_harness::{Broker, NodeOptions, eventually, want};
use muster_link::{
    Acks, AgentPlan, Binding, Consume, Incoming, Link, Outgoing, QueueDecl, QueueKind, Receipt,
    Session, SetupError, StreamOffset, ends_before, stamp,
};

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::{config, consume, declare_stream, message, plan, up_after};

fn from(offset: StreamOffset) -> Consume {
    Consume {
        prefetch: 1000,
        acks: Acks::Batched,
        offset: Some(offset),
        ..consume("ledger")
    }
}

async fn fill(session: &Session, numbers: std::ops::Range<u32>) -> Result<()> {
    for receipt in
        join_all(numbers.map(|number| session.publish(message("ledger", &number.to_be_bytes()))))
            .await
    {
        assert_eq!(receipt?, Receipt::Confirmed);
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_catches_up_from_any_place_in_order() -> Result<()> {
    const MESSAGES: u32 = 20_000;
    let broker = Broker::shared().await?;
    declare_stream(&broker, "ledger").await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    for start in (0..MESSAGES).step_by(2000) {
        fill(&session, start..start + 2000).await?;
    }
    for (offset, first) in [
        (StreamOffset::First, 0),
        (StreamOffset::Offset(12_345), 12_345),
    ] {
        let mut deliveries = session.consume(from(offset)).await?;
        let mut bodies = BTreeSet::new();
        for place in first..MESSAGES {
            let got = deliveries.recv().await.context("the session ended")?;
            ensure!(
                got.stream_offset == Some(u64::from(place)),
                "{:?} instead of {place}",
                got.stream_offset
            );
            bodies.insert(got.body);
        }
        ensure!(
            bodies.len() == (MESSAGES - first) as usize,
            "{} different messages",
            bodies.len()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_may_begin_now_or_at_a_time() -> Result<()> {
    let broker = Broker::shared().await?;
    declare_stream(&broker, "ledger").await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    fill(&session, 0..100).await?;
    let mut new_only = session.consume(from(StreamOffset::Next)).await?;
    let mut all = session
        .consume(from(StreamOffset::TimestampMs(stamp::now_ms() - 3_600_000)))
        .await?;
    fill(&session, 100..101).await?;
    let got = new_only.recv().await.context("the session ended")?;
    assert_eq!(got.stream_offset, Some(100));
    let got = all.recv().await.context("the session ended")?;
    assert_eq!(got.stream_offset, Some(0));
    Ok(())
}

/// A node takes clients before its streams are up. What it is handed meanwhile is confirmed, since another queue takes it,
/// and passes the stream by: nobody may publish so early.
#[tokio::test]
async fn what_is_confirmed_after_a_restart_is_in_the_stream() -> Result<()> {
    const RESTARTS: u32 = 2;
    const LINKS: u32 = 30;
    let mut broker = Broker::private(NodeOptions::default()).await?;
    declare_stream(&broker, "ledger").await?;
    let config = config(&broker)?;
    let session = Session::open(&config, "test").await?;
    let beside = QueueDecl {
        name: "beside".to_owned(),
        kind: QueueKind::Quorum,
    };
    session.declare_queue(&beside).await?;
    for queue in ["ledger", "beside"] {
        let binding = Binding {
            exchange: "amq.fanout".to_owned(),
            key: String::new(),
        };
        session.bind(queue, &binding).await?;
    }
    session.close().await;

    // Many, so that some come in the first moment.
    let links: Vec<(Link, Receiver<Incoming>)> = (0..LINKS)
        .map(|number| {
            let plan = AgentPlan {
                streams: &["ledger"],
                ..plan(&format!("agent{number}"))
            };
            let stop = CancellationToken::new();
            Link::start(config.clone(), "test".to_owned(), plan, stop)
        })
        .collect();
    let mut confirmed = BTreeSet::new();
    let mut sessions = vec![0; links.len()];
    for restart in 0..=RESTARTS {
        if restart > 0 {
            broker.stop().await?;
        }
        let first_words = links.iter().zip(&mut sessions).zip(0_u32..);
        let first_words = join_all(first_words.map(async |(((link, _), session), number)| {
            *session = up_after(&mut link.status(), *session).await?;
            let number = restart * LINKS + number;
            let outgoing = Outgoing {
                exchange: "amq.fanout",
                mandatory: true,
                ..message("", &number.to_be_bytes())
            };
            ensure!(link.publish(outgoing).await? == Receipt::Confirmed);
            Ok(number)
        }));
        let (started, numbers) = if restart > 0 {
            tokio::join!(broker.start(), first_words)
        } else {
            (Ok(()), first_words.await)
        };
        started?;
        confirmed.extend(numbers.into_iter().collect::<Result<Vec<_>>>()?);
    }
    assert_eq!(confirmed.len(), ((RESTARTS + 1) * LINKS) as usize);

    let session = Session::open(&config, "test").await?;
    let absent = session.find_streams(&["ledger", "nowhere"]).await;
    ensure!(
        matches!(&absent, Err(SetupError::Missing { what, .. }) if what.contains("nowhere")),
        "{absent:?}"
    );
    let session = Session::open(&config, "test").await?;
    let mut deliveries = session.consume(from(StreamOffset::First)).await?;
    let mut missing = confirmed;
    while let Ok(Some(got)) =
        tokio::time::timeout(std::time::Duration::from_secs(5), deliveries.recv()).await
    {
        missing.remove(&u32::from_be_bytes(got.body.as_slice().try_into()?));
    }
    assert_eq!(missing, BTreeSet::new());
    Ok(())
}

/// A stream that is slow to bring something is no other stream.
#[tokio::test]
async fn a_stream_ends_before_what_it_never_had_and_nowhere_while_it_is_silent() -> Result<()> {
    let broker = Broker::shared().await?;
    declare_stream(&broker, "ledger").await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    let silence = std::time::Duration::from_secs(3);
    let ends = async |offset| ends_before(&session, "ledger", offset, silence).await;
    assert!(!ends(0).await?);
    assert!(!ends(100).await?, "it is empty, or the broker busy");
    fill(&session, 0..1000).await?;
    assert!(!ends(999).await?);
    assert!(ends(1000).await?);
    Ok(())
}

/// A reader is mostly dropped in the middle, with hundreds of messages on their way to it.
#[tokio::test]
async fn readers_dropped_in_the_middle_leave_the_session_good() -> Result<()> {
    let broker = Broker::shared().await?;
    declare_stream(&broker, "ledger").await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    fill(&session, 0..5000).await?;
    for round in 0..20_u64 {
        let mut first = session.consume(from(StreamOffset::First)).await?;
        let mut second = session.consume(from(StreamOffset::Offset(round))).await?;
        for place in 0..round * 30 {
            let (from_first, from_second) = (first.recv().await, second.recv().await);
            assert_eq!(from_first.and_then(|got| got.stream_offset), Some(place));
            assert_eq!(
                from_second.and_then(|got| got.stream_offset),
                Some(round + place)
            );
        }
        drop(first);
        let receipt = session.publish(message("ledger", b"on")).await;
        ensure!(
            receipt == Ok(Receipt::Confirmed),
            "round {round}: {receipt:?}"
        );
    }
    ensure!(!session.has_ended(), "{}", session.closed().await);
    eventually("their channels are closed", async || {
        let path = format!("vhosts/{}/channels", broker.vhost());
        let open = broker
            .management()
            .get(&path)
            .await
            .map_err(|error| error.to_string())?;
        want(open.as_array().map(Vec::len), Some(2))
    })
    .await
}
