//! The link to RabbitMQ against real brokers that refuse, block, stall, die and come back.

mod ahead;
mod leader;
mod life;
mod open;
mod publish;
mod recover;
mod stream;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use muster_harness::Broker;
use muster_link::{
    Acks, AgentPlan, BrokerConfig, Consume, LinkStatus, Outgoing, QueueDecl, QueueKind, RawBroker,
    Span, stamp,
};
use muster_proto::envelope::Kind;
use tokio::sync::watch;

/// The administrator, at `address`, with what `change` makes of it.
fn config_at(
    broker: &Broker,
    address: SocketAddr,
    change: impl FnOnce(&mut RawBroker),
) -> Result<BrokerConfig> {
    let mut raw = RawBroker {
        url: Some(format!("amqp://{address}/{}", broker.vhost()).parse()?),
        user: Some("admin".to_owned()),
        password: Some("admin".to_owned().into()),
        reconnect_window: Some(seconds(1)),
        ..RawBroker::default()
    };
    change(&mut raw);
    Ok(raw.try_into()?)
}

fn config(broker: &Broker) -> Result<BrokerConfig> {
    config_at(broker, broker.amqp(), |_| {})
}

fn seconds(seconds: u64) -> Span {
    Span(std::time::Duration::from_secs(seconds))
}

/// A durable message straight to a queue.
fn message(queue: &str, body: &[u8]) -> Outgoing {
    Outgoing {
        exchange: "",
        routing_key: queue.to_owned(),
        kind: Kind::Event,
        message_id: stamp::new_message_id(),
        correlation_id: None,
        timestamp_ms: stamp::now_ms(),
        expiration_ms: None,
        mandatory: false,
        transient: false,
        reply_to: None,
        signature: None,
        body: Arc::from(body),
    }
}

fn mandatory(queue: &str, body: &[u8]) -> Outgoing {
    Outgoing {
        mandatory: true,
        transient: false,
        ..message(queue, body)
    }
}

fn classic(name: &str) -> QueueDecl {
    QueueDecl {
        name: name.to_owned(),
        kind: QueueKind::Classic,
    }
}

fn consume(queue: &str) -> Consume {
    Consume {
        queue: queue.to_owned(),
        exclusive: false,
        prefetch: 10,
        acks: Acks::Manual,
        offset: None,
    }
}

fn plan(queue: &str) -> AgentPlan {
    AgentPlan {
        queue: classic(queue),
        bindings: Vec::new(),
        prefetch: 10,
        exclusive: true,
        streams: &[],
    }
}

/// Waits until the link is up with a session after `session`; returns which.
async fn up_after(status: &mut watch::Receiver<LinkStatus>, session: u64) -> Result<u64> {
    let up = status
        .wait_for(|status| matches!(status, LinkStatus::Up { session: now, .. } if *now > session));
    let up = tokio::time::timeout(muster_harness::eventually::PATIENCE, up)
        .await
        .with_context(|| format!("wait for a session after {session}"))??;
    match &*up {
        LinkStatus::Up { session, .. } => Ok(*session),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Waits until the link is down for a reason in which `words` occur; returns the reason.
async fn down_for(status: &mut watch::Receiver<LinkStatus>, words: &str) -> Result<String> {
    let down = status
        .wait_for(|status| matches!(status, LinkStatus::Down { why, .. } if why.contains(words)));
    let down = tokio::time::timeout(muster_harness::eventually::PATIENCE, down)
        .await
        .with_context(|| format!("wait for the link to be down for {words:?}"))??;
    match &*down {
        LinkStatus::Down { why, .. } => Ok(why.clone()),
        other => anyhow::bail!("{other:?}"),
    }
}

/// A stream, made past the link, which has no business making any.
async fn declare_stream(broker: &Broker, name: &str) -> Result<()> {
    let (_connection, channel) = broker.channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("stream".into()),
    );
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), durable, arguments)
        .await?;
    Ok(())
}

/// Threads of the client library in this process (nextest gives each test its own).
fn library_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("lapin"))
        .count()
}
