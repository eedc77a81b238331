//! `muster broker`: setting up the broker, and the hosts and operators that may use it.

mod agent_config;
mod check;
mod enroll;
mod init;
mod retire;
mod topology;
mod users;

use anyhow::{Context as _, Result};
use muster_link::{Outgoing, Receipt, Session, stamp};
use muster_proto::envelope;
use muster_proto::event::{Event, Severity};
use muster_proto::id::HostId;
use muster_proto::topology::{ALL_STREAMS, EVENTS, is_subscriber, topic_key};
use serde_json::Value;

pub(crate) use self::check::Check;
pub(crate) use self::enroll::Enroll;
pub(crate) use self::init::Init;
pub(crate) use self::retire::Retire;
use crate::context::Context;
use crate::exit::{Exit, ending};

/// What every reader of the ledger must hear: a host came, or went for good.
#[derive(Debug)]
struct HostEvent<'a> {
    topic: &'static str,
    host: &'a HostId,
    summary: String,
    fields: [(&'static str, Value); 2],
}

impl HostEvent<'_> {
    /// Publishes it, and waits until the broker has it.
    async fn publish(self, session: &Session) -> Result<()> {
        let at_ms = stamp::now_ms();
        let event = Event {
            topic: self.topic.to_owned(),
            host: self.host.clone(),
            at_ms,
            severity: Severity::Notice,
            summary: self.summary,
            key: String::new(),
            fields: self
                .fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            before: Value::Null,
            after: Value::Null,
            seq: 0,
            cause: None,
        };
        let outgoing = Outgoing {
            exchange: EVENTS,
            routing_key: topic_key(self.topic, self.host),
            kind: envelope::Kind::Event,
            message_id: stamp::new_message_id(),
            correlation_id: None,
            timestamp_ms: at_ms,
            expiration_ms: None,
            mandatory: true,
            transient: false,
            reply_to: None,
            signature: None,
            body: envelope::encode(&event)?.into(),
        };
        let tell = || {
            format!(
                "tell the ledger that {} is {} (run the command again)",
                self.host, self.topic
            )
        };
        session.find_streams(ALL_STREAMS).await.with_context(tell)?;
        match session.publish(outgoing).await.with_context(tell)? {
            Receipt::Confirmed => Ok(()),
            Receipt::Returned { reason } => Err(ending(
                Exit::Failed,
                format!(
                    "{}: no stream takes it ({reason}); run `muster broker init`",
                    tell()
                ),
            )),
            Receipt::Refused => Err(ending(
                Exit::Failed,
                format!("{}: the broker refused it", tell()),
            )),
        }
    }
}

/// A session as the configured controller. `purpose` is shown in the broker's management.
async fn connect(context: &Context, purpose: &str) -> Result<Session> {
    let broker = context.config.broker()?;
    Ok(Session::open(
        broker,
        &format!("muster broker {purpose} ({})", context.config.issuer),
    )
    .await?)
}

/// The name of a subscriber, from the command line.
fn subscriber(text: &str) -> Result<String, String> {
    if is_subscriber(text) {
        Ok(text.to_owned())
    } else {
        Err("a subscriber's name has at most 64 small letters, digits, '-' and '_'".to_owned())
    }
}
