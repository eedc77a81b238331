//! A host without an agent, on whose behalf a test says what it likes.

use anyhow::{Context, Result};
use muster_harness::Agent;
use muster_link::{BrokerConfig, Outgoing, Session, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::metric::Metrics;
use muster_proto::topology::{METRICS, topic_key};
use serde::Deserialize;
use serde_json::Value;

/// An enrolled host's own connection.
pub(super) struct Witness {
    pub(super) host: String,
    session: Session,
    started_at_ms: u64,
}

#[derive(Deserialize)]
struct Config {
    broker: BrokerConfig,
}

impl Witness {
    /// Connects with what the agent's config says.
    pub(super) async fn connect(agent: &Agent) -> Result<Self> {
        let text = std::fs::read_to_string(&agent.config)?;
        let config: Config = toml::from_str(&text).context("read the agent's [broker]")?;
        Ok(Self {
            host: agent.host.clone(),
            session: Session::open(&config.broker, "witness").await?,
            started_at_ms: stamp::now_ms(),
        })
    }

    /// Publishes a snapshot as the host's agent would.
    pub(super) async fn tell(&self, collector: &str, seq: u64, snapshot: &Value) -> Result<()> {
        let now_ms = stamp::now_ms().max(self.started_at_ms + seq);
        let metrics = Metrics {
            host: self.host.parse()?,
            collector: collector.to_owned(),
            at_ms: now_ms,
            seq,
            snapshot: snapshot.clone(),
        };
        let outgoing = Outgoing {
            exchange: METRICS,
            routing_key: topic_key(collector, &metrics.host),
            kind: Kind::Metrics,
            message_id: stamp::new_message_id(),
            correlation_id: None,
            timestamp_ms: now_ms,
            expiration_ms: None,
            mandatory: false,
            transient: false,
            reply_to: None,
            signature: None,
            body: envelope::encode(&metrics)?.into(),
        };
        self.session
            .publish(outgoing)
            .await
            .context("publish a snapshot")?;
        Ok(())
    }
}
