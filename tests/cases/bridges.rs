//! Bridges to the programs themselves: what the agents measured is read back from statsd, carbon's files and a Zabbix
//! proxy; sinks that are down, slow or half closed delay no other, and what they cost is counted.

mod faults;
mod original;
mod values;
mod zabbix;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, Consumer};
use muster_harness::ports::PortBlock;
use muster_harness::{Broker, Fleet, Muster, Process, eventually};
use muster_proto::envelope;
use muster_proto::metric::Metrics;
use serde_json::Value;

/// A `muster serve` with bridges.
struct Serve {
    process: Process,
    address: String,
    _ports: PortBlock,
}

impl Serve {
    /// Starts it with these tables in its config, and waits until its queues are there.
    async fn start(muster: &Muster, tables: &str) -> Result<Self> {
        let ports = PortBlock::reserve()?;
        let address = format!("127.0.0.1:{}", ports.port(0));
        let config = muster.home().join(".config/muster/config.toml");
        let text = std::fs::read_to_string(&config).context("read the operator's config")?;
        let text = format!("{text}\n[serve]\nlisten = \"{address}\"\n{tables}");
        std::fs::write(&config, text)?;
        let checked = muster.succeed(&["serve", "--check"]).await?;
        assert!(checked.stderr.contains("good: the bridge "), "{checked:?}");
        let process = muster.start("serve", &["-v", "serve"])?;
        let serve = Self {
            process,
            address,
            _ports: ports,
        };
        eventually("it is ready", async || {
            let text = serve.get("/readyz").await?;
            let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            (value["ready"] == true).then_some(()).ok_or(text)
        })
        .await
        .with_context(|| serve.process.stderr())?;
        Ok(serve)
    }

    async fn get(&self, path: &str) -> Result<String, String> {
        let url = format!("http://{}{path}", self.address);
        let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
        answer.text().await.map_err(|error| error.to_string())
    }

    /// A figure of a bridge's in `/metrics`.
    async fn figure(&self, name: &str, bridge: &str) -> Result<f64, String> {
        let text = self.get("/metrics").await?;
        let wanted = format!("muster_bridge_{name}{{bridge=\"{bridge}\"}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&wanted));
        found
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("no {wanted}in {text}"))
    }
}

/// Every snapshot of one collector that comes to the broker from now on.
struct Tap {
    consumer: Consumer,
    _connection: Connection,
}

impl Tap {
    async fn open(broker: &Broker, collector: &str) -> Result<Self> {
        let (connection, channel) = broker.channel().await?;
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare("".into(), exclusive, FieldTable::default())
            .await?;
        let name = queue.name().as_str();
        let key = format!("{collector}.#");
        let nothing = FieldTable::default();
        channel
            .queue_bind(
                name.into(),
                "muster.metrics".into(),
                key.as_str().into(),
                QueueBindOptions::default(),
                nothing,
            )
            .await?;
        let no_ack = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(name.into(), "".into(), no_ack, FieldTable::default())
            .await?;
        Ok(Self {
            consumer,
            _connection: connection,
        })
    }

    /// All until each of the hosts has been heard `times` times.
    async fn hear(&mut self, hosts: usize, times: usize) -> Result<Vec<Metrics>> {
        let mut heard = Vec::new();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        while counts.len() < hosts || counts.values().any(|count| *count < times) {
            let next =
                tokio::time::timeout(muster_harness::eventually::PATIENCE, self.consumer.next());
            let metrics = read(
                next.await
                    .context("wait for a snapshot")?
                    .context("the consumer ended")??,
            )?;
            *counts.entry(metrics.host.to_string()).or_default() += 1;
            heard.push(metrics);
        }
        Ok(heard)
    }

    /// What else has come.
    async fn rest(&mut self) -> Result<Vec<Metrics>> {
        let mut heard = Vec::new();
        let quiet = std::time::Duration::from_secs(2);
        while let Ok(Some(next)) = tokio::time::timeout(quiet, self.consumer.next()).await {
            heard.push(read(next?)?);
        }
        Ok(heard)
    }
}

fn read(delivery: lapin::message::Delivery) -> Result<Metrics> {
    let kind = delivery.properties.kind().as_ref().context("a kind")?;
    Ok(envelope::decode(kind.as_str(), &delivery.data)?)
}

/// A `[[bridge]]` table.
fn bridge(name: &str, kind: &str, address: impl std::fmt::Display, more: &str) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "\n[[bridge]]\nname = \"{name}\"\nkind = \"{kind}\"\naddress = \"{address}\"\n{more}\n"
    );
    text
}

/// What a word from a host becomes in a path.
fn tame(word: &str) -> String {
    word.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// Waits until a bridge's sink has taken so many snapshots.
async fn await_taken(serve: &Serve, bridge: &str, snapshots: usize) -> Result<()> {
    let what = format!("{bridge} has passed {snapshots} snapshots on");
    let wanted: f64 = u32::try_from(snapshots)?.into();
    eventually(&what, async || {
        let taken = serve.figure("snapshots_total", bridge).await?;
        if taken >= wanted {
            Ok(())
        } else {
            Err(format!("{taken}"))
        }
    })
    .await
    .with_context(|| serve.process.stderr())
}

/// A fleet whose hosts measure each second, not started yet.
async fn enroll(broker: &Broker, agents: usize) -> Result<Fleet> {
    let options = muster_harness::FleetOptions {
        agents,
        tables: "[collect.host]\ninterval = \"1s\"\n".to_owned(),
        ..muster_harness::FleetOptions::default()
    };
    Fleet::enroll(broker, &options).await
}
