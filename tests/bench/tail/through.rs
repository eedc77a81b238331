//! The whole way: a real agent reads the file, a real broker confirms the events, and a reader of the history counts
//! them. The agent is killed in the middle.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use muster_harness::{Broker, Fleet, FleetOptions, NodeOptions};
use muster_proto::envelope;
use muster_proto::event::Event;
use serde_json::{Value, json};

use super::corpus::Corpus;
use super::{Rules, peers, section_keys};
use crate::{note, say};

/// For all events to arrive.
const LIMIT: Duration = Duration::from_secs(600);

/// Measures and prints; a wrong count makes `good` false.
pub(super) async fn run(corpus: &Corpus, set: &Rules, good: &mut bool) -> Result<Value> {
    let (_, wanted) = peers::ripgrep(&corpus.path, &set.patterns)?;
    note("starting a private broker");
    let broker = Broker::private(NodeOptions::default()).await?;
    let rules = section_keys(&corpus.path, set).replace("[[rule]]", "[[tail.rule]]");
    let options = FleetOptions {
        agents: 1,
        tables: format!("[[tail]]\n{rules}"),
        ..FleetOptions::default()
    };
    let mut fleet = Fleet::enroll(&broker, &options).await?;
    let agent = fleet.agents.first_mut().context("an agent")?;
    let began = Instant::now();
    agent.start()?;
    let mut counted = Counted::default();
    let mut killed = false;
    let mut memory_kib = 0;
    let (_connection, channel) = broker.channel().await?;
    channel.basic_qos(1000, BasicQosOptions::default()).await?;
    let mut from_first = FieldTable::default();
    from_first.insert(
        "x-stream-offset".into(),
        AMQPValue::LongString("first".into()),
    );
    let consume = channel.basic_consume(
        "muster.history".into(),
        "".into(),
        BasicConsumeOptions::default(),
        from_first,
    );
    let mut consumer = consume.await?;
    while (counted.events.len() as u64) < wanted {
        let left = LIMIT
            .checked_sub(began.elapsed())
            .context("not all events came in time")?;
        let next = tokio::time::timeout(left, consumer.next()).await;
        let delivery = next
            .context("not all events came in time")?
            .context("the consumer has ended")??;
        delivery.acker.ack(BasicAckOptions::default()).await?;
        let kind = delivery
            .properties
            .kind()
            .as_ref()
            .map_or("", |kind| kind.as_str());
        if let Ok(event) = envelope::decode::<Event>(kind, &delivery.data)
            && event.host.as_str() == agent.host
        {
            counted.add(
                event,
                delivery
                    .properties
                    .message_id()
                    .as_ref()
                    .map(ToString::to_string),
            );
        }
        if !killed && counted.events.len() as u64 > wanted / 2 {
            killed = true;
            memory_kib = agent.process()?.memory()?.rss_kib;
            note("killing the agent in the middle");
            agent.kill().await?;
            agent.start()?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    // Whatever would come too often has come when the agent has said goodbye.
    agent.stop().await?;
    while let Ok(Some(delivery)) =
        tokio::time::timeout(Duration::from_secs(2), consumer.next()).await
    {
        let delivery = delivery?;
        let kind = delivery
            .properties
            .kind()
            .as_ref()
            .map_or("", |kind| kind.as_str());
        if let Ok(event) = envelope::decode::<Event>(kind, &delivery.data)
            && event.host.as_str() == agent.host
        {
            counted.add(
                event,
                delivery
                    .properties
                    .message_id()
                    .as_ref()
                    .map(ToString::to_string),
            );
        }
    }
    ensure!(killed, "the agent was never killed");
    let events = counted.events.len() as u64;
    let exact = events == wanted && counted.gapless() && counted.lost == 0;
    *good &= exact;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (rate, rss_mib) = (events as f64 / seconds, memory_kib as f64 / 1024.0);
    say(&format!(
        "to the broker: {events} of {wanted} events, {} sent again after the kill, {seconds:.1} s, {rate:.0} events/s, {rss_mib:.1} MiB",
        counted.again
    ));
    Ok(json!({
        "wanted": wanted, "events": events, "sent_again": counted.again, "exact": exact, "seconds": seconds,
        "events_s": rate, "rss_mib": rss_mib,
    }))
}

/// What has arrived.
#[derive(Default)]
struct Counted {
    /// Numbers of the rules' events.
    events: BTreeSet<u64>,
    /// Numbers of all events.
    all: BTreeSet<u64>,
    ids: BTreeSet<String>,
    /// Deliveries of a message that had come already.
    again: u64,
    lost: u64,
}

impl Counted {
    fn add(&mut self, event: Event, id: Option<String>) {
        if !self.ids.insert(id.unwrap_or_default()) {
            self.again += 1;
            return;
        }
        self.all.insert(event.seq);
        if event.topic.starts_with("bench.") {
            self.events.insert(event.seq);
        }
        self.lost += u64::from(event.topic == "agent.log.lost" || event.topic == "muster.gap");
    }

    /// Whether no number is missing, and none has come under two ids.
    fn gapless(&self) -> bool {
        let span = self.all.last().zip(self.all.first());
        span.is_some_and(|(last, first)| last - first + 1 == self.all.len() as u64)
            && self.ids.len() == self.all.len()
    }
}
