//! Streams that get a new leader while messages are on their way to them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::FieldTable;
use muster_harness::{Broker, NodeOptions};
use muster_link::{Acks, Consume, Outgoing, Receipt, Session, StreamOffset};
use muster_proto::topology::{EVENTS, EXCHANGES, HISTORY, LEDGER, METRICS, REPLIES, STREAMS};
use tokio::sync::oneshot;

use super::{config, consume, declare_stream, message};

/// Times that each of the two streams gets a new leader.
const CHANGES: u32 = 8;

/// Messages on their way at a time.
const WINDOW: usize = 200;

/// How they come: some to one stream, some to the other, some to both, some to none.
const KINDS: [(&str, &str); 4] = [
    (EVENTS, "lvs.backend.down.h1"),
    (METRICS, "host.cpu.h1"),
    (EVENTS, "host.started.h1"),
    (REPLIES, "result.job.h1"),
];

fn kind(number: u32) -> usize {
    (number / 7 % 4) as usize
}

/// RabbitMQ before 4.0 drops messages that it confirms when a stream gets a new leader, as streams do while a node starts:
/// not those of a channel on which everything goes to the same streams.
#[tokio::test]
async fn what_is_confirmed_while_streams_change_their_leader_is_in_them_in_order() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    declare_topology(&broker).await?;
    let session = Session::open(&config(&broker)?, "test").await?;
    let mut changes = Box::pin(async {
        broker.kill_leader(LEDGER, CHANGES).await?;
        broker.kill_leader(HISTORY, CHANGES).await
    });
    let mut sending = FuturesUnordered::new();
    let mut confirmed = BTreeSet::new();
    let mut left: Option<u32> = None;
    for number in 0.. {
        match left.as_mut() {
            Some(0) => break,
            Some(left) => *left -= 1,
            // Some more come after the last change.
            None => {
                left = (&mut changes)
                    .now_or_never()
                    .map(|changed| changed.map(|()| 500))
                    .transpose()?
            }
        }
        let (told, handed) = oneshot::channel();
        let session = &session;
        sending.push(async move {
            let (exchange, key) = KINDS[kind(number)];
            let outgoing = Outgoing {
                exchange,
                ..message(key, &number.to_be_bytes())
            };
            let handed = Box::new(move || _ = told.send(()));
            (number, session.publish_then(outgoing, Some(handed)).await)
        });
        let mut handed = handed.fuse();
        let mut waits = true;
        while waits || sending.len() >= WINDOW {
            tokio::select! {
                _ = &mut handed, if waits => waits = false,
                sent = sending.next() => {
                    let (number, receipt) = sent.context("nothing is on its way")?;
                    ensure!(receipt == Ok(Receipt::Confirmed), "{number}: {receipt:?}");
                    confirmed.insert(number);
                }
                changed = &mut changes, if left.is_none() => {
                    changed?;
                    left = Some(500);
                }
            }
        }
    }
    while let Some((number, receipt)) = sending.next().await {
        ensure!(receipt == Ok(Receipt::Confirmed), "{number}: {receipt:?}");
        confirmed.insert(number);
    }
    ensure!(confirmed.len() > 1000, "only {} were sent", confirmed.len());

    for (stream, kinds) in [(HISTORY, [0, 2]), (LEDGER, [2, 3])] {
        let mut missing = confirmed.clone();
        missing.retain(|number| kinds.contains(&kind(*number)));
        let newest = missing.last().copied().context("none was sent to it")?;
        let mut seen = BTreeSet::new();
        let mut deliveries = session.consume(from_first(stream)).await?;
        while !seen.contains(&newest) {
            let got = tokio::time::timeout(Duration::from_secs(20), deliveries.recv()).await;
            let Ok(Some(got)) = got else { break };
            let number = u32::from_be_bytes(got.body.as_slice().try_into()?);
            ensure!(
                !seen.insert(number) || seen.last() == Some(&number),
                "{stream} has {number} only after {:?}",
                seen.last()
            );
        }
        missing.retain(|number| !seen.contains(number));
        ensure!(
            missing.is_empty(),
            "{stream} lost {} of {}, {missing:?}",
            missing.len(),
            confirmed.len()
        );
    }
    Ok(())
}

fn from_first(stream: &str) -> Consume {
    Consume {
        prefetch: 1000,
        acks: Acks::Batched,
        offset: Some(StreamOffset::First),
        ..consume(stream)
    }
}

/// Exchanges, streams and bindings as they are in a fleet.
async fn declare_topology(broker: &Broker) -> Result<()> {
    let (_connection, channel) = broker.channel().await?;
    for exchange in EXCHANGES {
        let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default());
        channel
            .exchange_declare(exchange.name.into(), ExchangeKind::Topic, options, none)
            .await?;
    }
    for stream in STREAMS {
        declare_stream(broker, stream.name).await?;
        for (exchange, key) in stream.bindings {
            let (name, from, key) = (stream.name.into(), (*exchange).into(), (*key).into());
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(name, from, key, options, none).await?;
        }
    }
    Ok(())
}
