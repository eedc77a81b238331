//! The same as JSON: what `muster serve` repeats is what was said, under the same ids, also when one of two is killed; and
//! a new config takes the bindings away.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer};
use muster_harness::{Muster, Process, eventually_within, want};
use serde_json::Value;

use super::printed::{Language, Subscriber, firsts};
use super::{LIMIT, Stage, TOPIC};

/// Some of a message, in the terms of AMQP.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    key: String,
    kind: String,
    content_type: String,
    timestamp: Option<u64>,
    delivery_mode: Option<u8>,
    app_id: String,
    body: Value,
}

/// Everything on some exchanges, from now on.
struct Ear {
    consumer: Consumer,
    heard: Vec<(String, Seen)>,
}

fn text(property: &Option<lapin::types::ShortString>) -> String {
    property
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn seen(key: &str, properties: &BasicProperties, data: &[u8]) -> Result<Seen> {
    let content_type = text(properties.content_type());
    let body = match content_type.as_str() {
        "application/json" => serde_json::from_slice(data)?,
        _ => rmp_serde::from_slice(data)?,
    };
    Ok(Seen {
        key: key.to_owned(),
        kind: text(properties.kind()),
        content_type,
        timestamp: *properties.timestamp(),
        delivery_mode: *properties.delivery_mode(),
        app_id: text(properties.app_id()),
        body,
    })
}

impl Ear {
    async fn on(channel: &Channel, exchanges: &[&str]) -> Result<Self> {
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare("".into(), exclusive, FieldTable::default())
            .await?;
        for exchange in exchanges {
            let options = QueueBindOptions::default();
            channel
                .queue_bind(
                    queue.name().clone(),
                    (*exchange).into(),
                    "#".into(),
                    options,
                    FieldTable::default(),
                )
                .await?;
        }
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(
                queue.name().clone(),
                "".into(),
                options,
                FieldTable::default(),
            )
            .await?;
        Ok(Self {
            consumer,
            heard: Vec::new(),
        })
    }

    /// Takes what has come, until nothing comes for a moment.
    async fn listen(&mut self) -> Result<()> {
        let pause = Duration::from_millis(500);
        while let Ok(Some(delivery)) = tokio::time::timeout(pause, self.consumer.next()).await {
            let delivery = delivery?;
            let id = text(delivery.properties.message_id());
            // Jobs hold binary, which has another form as JSON; marks are not repeated.
            let kind = text(delivery.properties.kind());
            if ["muster.event/1", "muster.metrics/1", "muster.presence/1"].contains(&kind.as_str())
            {
                let seen = seen(
                    delivery.routing_key.as_str(),
                    &delivery.properties,
                    &delivery.data,
                )?;
                self.heard.push((id, seen));
            }
        }
        Ok(())
    }

    /// The messages of one kind, by id. Fails on two that differ.
    fn of_kind(&self, kind: &str) -> Result<BTreeMap<String, Seen>> {
        let mut found = BTreeMap::new();
        for (id, seen) in self.heard.iter().filter(|(_, seen)| seen.kind == kind) {
            let first = found.entry(id.clone()).or_insert_with(|| seen.clone());
            ensure!(first == seen, "{id} came as {first:?} and as {seen:?}");
        }
        Ok(found)
    }
}

/// Starts a `muster serve` that repeats everything.
fn serve(muster: &Muster, name: &str) -> Result<Process> {
    let config = muster.home().join(".config/muster/config.toml");
    let text = std::fs::read_to_string(&config)?;
    let sections = "\n[serve]\nlisten = \"\"\n[[republish]]\nevents = [\"#\"]\nmetrics = [\"#\"]\n";
    std::fs::write(&config, format!("{text}{sections}"))?;
    muster.start(name, &["-v", "serve"])
}

async fn bindings(stage: &Stage, queue: &str) -> Result<usize, String> {
    let path = format!("queues/{}/{queue}/bindings", stage.broker.vhost());
    let bindings = stage.broker.management().get(&path).await;
    let bindings = bindings.map_err(|error| format!("{error:#}"))?;
    // One is the default exchange's.
    Ok(bindings.as_array().map_or(0, Vec::len).saturating_sub(1))
}

#[tokio::test]
async fn what_is_repeated_is_what_was_said_and_nothing_is_missing() -> Result<()> {
    let stage = Stage::start(2).await?;
    let second_desk = stage.fleet.second_desk("second")?;
    let mut first = serve(&stage.fleet.muster, "serve-1")?;
    let consumed = stage.await_consumers("muster.republish", 1).await;
    consumed.with_context(|| first.stderr())?;
    let second = serve(&second_desk, "serve-2")?;
    let consumed = stage.await_consumers("muster.republish", 2).await;
    consumed.with_context(|| second.stderr())?;
    stage.await_consumers("muster.bridge.json", 2).await?;

    let (_connection, channel) = stage.broker.channel().await?;
    let mut said = Ear::on(&channel, &["muster.events", "muster.metrics"]).await?;
    let mut repeated = Ear::on(&channel, &["muster.json"]).await?;
    let folder = tempfile::tempdir()?;
    let access = stage.enroll("json").await?;
    let environment = [("MUSTER_EXCHANGE", "muster.json")];
    let topic = format!("{TOPIC}.#");
    let mut node = Subscriber::new(
        Language::Node,
        folder.path(),
        &access,
        &environment,
        &[&topic],
    )?;
    node.start()?;
    stage.await_consumers(&node.queue, 1).await?;

    // The one that repeats is killed in the middle; the other one takes over.
    stage.say(0..300)?;
    eventually_within("some of it is repeated", LIMIT, async || {
        repeated
            .listen()
            .await
            .map_err(|error| format!("{error:#}"))?;
        (!repeated.heard.is_empty())
            .then_some(())
            .ok_or_else(|| "nothing".to_owned())
    })
    .await?;
    stage.say(300..600)?;
    first.kill().await?;
    stage.say(600..700)?;
    stage.told(700).await?;

    eventually_within("all is repeated", LIMIT, async || {
        let heard = async {
            said.listen().await?;
            repeated.listen().await?;
            anyhow::Ok((
                said.of_kind("muster.event/1")?,
                repeated.of_kind("muster.event/1")?,
            ))
        };
        let (said, repeated) = heard.await.map_err(|error| format!("{error:#}"))?;
        want(
            said.keys().filter(|id| !repeated.contains_key(*id)).count(),
            0,
        )?;
        if said.len() < 1400 {
            return Err(format!("{} said, {} repeated", said.len(), repeated.len()));
        }
        Ok(())
    })
    .await
    .with_context(|| second.stderr())?;

    for kind in ["muster.event/1", "muster.metrics/1", "muster.presence/1"] {
        let (said, repeated) = (said.of_kind(kind)?, repeated.of_kind(kind)?);
        assert!(!repeated.is_empty(), "no {kind}");
        for (id, found) in repeated {
            let Some(said) = said.get(&id) else { continue };
            let mut wanted = said.clone();
            wanted.content_type = "application/json".to_owned();
            assert_eq!(found, wanted);
        }
    }

    // The page's program reads them, in order, however often they came.
    eventually_within("the program has printed all", LIMIT, async || {
        let lines = node.lines().map_err(|error| format!("{error:#}"))?;
        let firsts = firsts(lines.iter()).map_err(|error| format!("{error:#}"))?;
        let counts: Vec<usize> = firsts.values().map(BTreeMap::len).collect();
        want(counts, vec![700, 700])
    })
    .await?;

    // A new config without the section takes the bindings away, also those of the one that was killed.
    assert_eq!(bindings(&stage, "muster.republish").await, Ok(1));
    let config = second_desk.home().join(".config/muster/config.toml");
    let text = std::fs::read_to_string(&config)?;
    let (without, _) = text.split_once("[[republish]]").context("the section")?;
    std::fs::write(&config, without)?;
    second.hang_up()?;
    for queue in ["muster.republish", "muster.bridge.json"] {
        let what = format!("{queue} is bound to nothing");
        let unbound = eventually_within(&what, LIMIT, async || {
            want(bindings(&stage, queue).await?, 0)
        });
        unbound.await.with_context(|| second.stderr())?;
    }
    Ok(())
}
