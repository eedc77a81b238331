//! The whole way: a real agent reads the file, a real broker confirms the events, and a reader of the history counts
//! them. The agent is killed in the middle.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
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
    let (_connection, channel) = broker.channel().await?;
    let mut history = History::open(&channel, &agent.host).await?;
    let mut killed = false;
    let mut memory_kib = 0;
    while (history.counted.events.len() as u64) < wanted {
        let left = LIMIT.checked_sub(began.elapsed());
        let left = left.context("not all events came in time")?;
        ensure!(history.next(left).await?, "not all events came in time");
        if !killed && history.counted.events.len() as u64 > wanted / 2 {
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
    while history.next(Duration::from_secs(2)).await? {}
    let counted = history.counted;
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

/// The broker's history of one host.
struct History {
    consumer: Consumer,
    host: String,
    counted: Counted,
}

impl History {
    async fn open(channel: &Channel, host: &str) -> Result<Self> {
        channel.basic_qos(1000, BasicQosOptions::default()).await?;
        let mut from_first = FieldTable::default();
        let first = AMQPValue::LongString("first".into());
        from_first.insert("x-stream-offset".into(), first);
        let options = BasicConsumeOptions::default();
        let consume =
            channel.basic_consume("muster.history".into(), "".into(), options, from_first);
        Ok(Self {
            consumer: consume.await?,
            host: host.to_owned(),
            counted: Counted::default(),
        })
    }

    /// Counts one more; `false` where none comes within `limit`.
    async fn next(&mut self, limit: Duration) -> Result<bool> {
        let Ok(next) = tokio::time::timeout(limit, self.consumer.next()).await else {
            return Ok(false);
        };
        let delivery = next.context("the consumer has ended")??;
        delivery.acker.ack(BasicAckOptions::default()).await?;
        let properties = &delivery.properties;
        let kind = properties.kind().as_ref().map_or("", |kind| kind.as_str());
        if let Ok(event) = envelope::decode::<Event>(kind, &delivery.data)
            && event.host.as_str() == self.host
        {
            let id = properties.message_id().as_ref();
            self.counted.add(event, id.map(ToString::to_string));
        }
        Ok(true)
    }
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
