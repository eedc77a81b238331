//! The broker goes away in every way there is, and comes back: agents stay, and nothing that was accepted is lost.

mod half_open;
mod killed;
mod minute;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use muster_harness::{Agent, Broker, Fleet, FleetOptions, Muster, eventually_within, want};
use muster_proto::envelope;
use muster_proto::event::Event;
use muster_proto::job::Mark;
use serde_json::Value;

/// A broker takes up to a minute to be back on a busy machine, agents half a minute more.
const BACK_LIMIT: Duration = Duration::from_secs(150);

/// Scripts that leave their job's id in `ran`, at once or when they are let go.
fn options(agents: usize) -> FleetOptions {
    let hold = r#"echo "$MUSTER_JOB_ID" >> started
while [ -e started ] && [ ! -e go ]; do sleep 0.05; done
echo "$MUSTER_JOB_ID" >> ran"#;
    FleetOptions {
        agents,
        broker_keys: "reconnect_window = \"2s\"\nheartbeat = \"3s\"".to_owned(),
        scripts: vec![
            ("mark", r#"echo "$MUSTER_JOB_ID" >> ran"#.to_owned()),
            ("hold", hold.to_owned()),
        ],
        ..FleetOptions::default()
    }
}

/// Leaves a job with its hosts; its id.
async fn leave(muster: &Muster, script: &str) -> Result<String> {
    let name = format!("name={script}");
    let run = [
        "run",
        "script.run",
        &name,
        "-t",
        "*",
        "--no-wait",
        "-o",
        "json",
    ];
    let report = muster.succeed(&run).await?.json()?;
    let id = report["job"].as_str().context("a report without a job")?;
    Ok(id.to_owned())
}

/// Waits until all of a job's hosts have succeeded.
async fn await_success(fleet: &Fleet, job: &str) -> Result<Value> {
    let wanted = serde_json::json!({ "succeeded": fleet.agents.len() });
    let what = format!("job {job} has succeeded everywhere");
    eventually_within(&what, BACK_LIMIT, async || {
        let shown = fleet.muster.run(&["job", "show", job, "-o", "json"]).await;
        let report = shown
            .and_then(|output| output.json())
            .map_err(|error| format!("{error:#}"))?;
        want(report["states"].clone(), wanted.clone()).map(|()| report)
    })
    .await
}

async fn await_lines(agent: &Agent, file: &str, count: usize) -> Result<()> {
    let what = format!("{count} lines in {file} of {}", agent.host);
    eventually_within(&what, BACK_LIMIT, async || {
        want(agent.lines(file).len(), count)
    })
    .await
}

/// Every event of every host in the history, by its number on that host. Fails on a number with two messages.
pub(crate) async fn history(broker: &Broker) -> Result<BTreeMap<String, BTreeMap<u64, Event>>> {
    let (_connection, channel) = broker.channel().await?;
    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let mut from_first = FieldTable::default();
    from_first.insert(
        "x-stream-offset".into(),
        AMQPValue::LongString("first".into()),
    );
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume("muster.history".into(), "".into(), options, from_first)
        .await?;
    let end = envelope::encode(&Mark {
        reader: "test".to_owned(),
    })?;
    // Its own: an earlier reader's end is in the history, too.
    let end_id = muster_link::stamp::new_message_id().to_string();
    let publish = channel.basic_publish(
        "muster.events".into(),
        "job.mark.test".into(),
        lapin::options::BasicPublishOptions::default(),
        &end,
        lapin::BasicProperties::default()
            .with_type("test.end".into())
            .with_message_id(end_id.as_str().into()),
    );
    publish.await?.await?;
    let mut events: BTreeMap<String, BTreeMap<u64, Event>> = BTreeMap::new();
    let mut ids: BTreeMap<(String, u64), String> = BTreeMap::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(60), consumer.next()).await;
        let delivery = next
            .context("read the history")?
            .context("the consumer has ended")??;
        delivery.acker.ack(BasicAckOptions::default()).await?;
        let kind = delivery
            .properties
            .kind()
            .as_ref()
            .map_or("", |kind| kind.as_str());
        if kind == "test.end" {
            let id = delivery.properties.message_id().as_ref();
            if id.is_some_and(|id| id.as_str() == end_id) {
                return Ok(events);
            }
            continue;
        }
        let Ok(event) = envelope::decode::<Event>(kind, &delivery.data) else {
            continue;
        };
        let by_agent = delivery
            .properties
            .user_id()
            .as_ref()
            .is_some_and(|user| user.as_str() == event.host.as_str());
        if !by_agent {
            continue;
        }
        let host = event.host.to_string();
        let id = delivery
            .properties
            .message_id()
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let first = ids
            .entry((host.clone(), event.seq))
            .or_insert_with(|| id.clone());
        if *first != id {
            bail!(
                "the event {} of {host} has come as {first} and as {id}",
                event.seq
            );
        }
        events.entry(host).or_default().insert(event.seq, event);
    }
}

/// No number is missing in what a host has told.
pub(crate) fn assert_gapless(host: &str, events: &BTreeMap<u64, Event>) {
    let numbers: Vec<u64> = events.keys().copied().collect();
    let first = numbers.first().copied().unwrap_or(0);
    let all: Vec<u64> = (first..first + numbers.len() as u64).collect();
    assert_eq!(numbers, all, "{host} has told {events:?}");
    assert!(first <= 1, "{host} began with {first}");
}
