//! Messages as they go out and come in: our own fields to AMQP properties and back. It must not look into a body.

use std::sync::Arc;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use muster_proto::envelope::{APP_ID, HEADER_KEY, HEADER_SIGNATURE, Kind};
use muster_proto::id::{JobId, KeyId, MessageId};
use muster_proto::signing::JobSignature;
use muster_proto::topology::content_type;

use crate::deliver::Acker;

/// Where RabbitMQ says which place of a stream a message has.
const HEADER_STREAM_OFFSET: &str = "x-stream-offset";
/// Where RabbitMQ says from which queues a message was dead-lettered, the latest first.
const HEADER_DEATHS: &str = "x-death";

/// AMQP's mark of a message that is kept on disk.
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// A message to be published. The session adds `user_id`, `app_id`, `content_type` and the delivery mode.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The exchange; `""` is the default one.
    pub exchange: &'static str,
    /// The routing key, at most 255 bytes.
    pub routing_key: String,
    /// What it is; also says whether the broker keeps it on disk.
    pub kind: Kind,
    /// Its id, the same at every resend.
    pub message_id: MessageId,
    /// The job that it is about.
    pub correlation_id: Option<JobId>,
    /// When it was made, in milliseconds since 1970; AMQP carries whole seconds.
    pub timestamp_ms: u64,
    /// After how long the broker drops or dead-letters it, in milliseconds.
    pub expiration_ms: Option<u64>,
    /// Whether it comes back ([`Receipt::Returned`]) when no queue takes it.
    pub mandatory: bool,
    /// Whether the broker may lose it at a restart though messages of its kind are kept on disk. For a job that is sent
    /// again then: writing it for every queue costs the broker as much again as delivering it.
    pub transient: bool,
    /// The exchange that a small answer may go to.
    pub reply_to: Option<&'static str>,
    /// The key and the signature of a job.
    pub signature: Option<(KeyId, JobSignature)>,
    /// The body, shared where many messages have the same.
    pub body: Arc<[u8]>,
}

/// What the broker said to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// It has it, and every queue that wants it.
    Confirmed,
    /// No queue wants it (only with `mandatory`).
    Returned {
        /// The broker's words.
        reason: String,
    },
    /// It refused it: a queue is full, or something failed on its side.
    Refused,
}

/// Why a message was dead-lettered, by its latest death.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The queue that let it go.
    pub queue: String,
    /// `expired`, `rejected`, `maxlen` or `delivery_limit`.
    pub reason: String,
}

/// A message that came. Nothing in it was verified but `user_id`, which the broker checks.
#[derive(Debug)]
pub struct Incoming {
    /// The AMQP property `type`; empty when there is none.
    pub kind: String,
    /// Its id, when it has a good one.
    pub message_id: Option<MessageId>,
    /// The job that it is about, when it names one.
    pub correlation_id: Option<JobId>,
    /// The broker user who sent it; the broker checks it.
    pub user_id: Option<String>,
    /// When it was made, in milliseconds since 1970, to the second.
    pub timestamp_ms: Option<u64>,
    /// The exchange that it came by.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Whether it is lost when the broker goes: its sender sends it again.
    pub transient: bool,
    /// The exchange that a small answer may go to.
    pub reply_to: Option<String>,
    /// Which key its signature claims.
    pub key_id: Option<String>,
    /// Its signature, as text.
    pub signature: Option<String>,
    /// Why it was dead-lettered, if it was.
    pub death: Option<Death>,
    /// Its place in the stream that it was read from.
    pub stream_offset: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
    /// Says to the broker that the message is done with.
    pub acker: Acker,
}

impl Outgoing {
    /// The AMQP properties, for a message of the broker user `user`.
    pub(crate) fn properties(&self, user: &ShortString) -> BasicProperties {
        let mut properties = BasicProperties::default()
            .with_content_type(content_type(self.exchange).into())
            .with_app_id(APP_ID.into())
            .with_type(self.kind.wire_name().into())
            .with_message_id(self.message_id.to_string().into())
            .with_user_id(user.clone())
            .with_timestamp(self.timestamp_ms / 1000)
            .with_delivery_mode(if self.kind.persistent() && !self.transient {
                PERSISTENT
            } else {
                TRANSIENT
            });
        if let Some(job) = self.correlation_id {
            properties = properties.with_correlation_id(job.to_string().into());
        }
        if let Some(limit_ms) = self.expiration_ms {
            properties = properties.with_expiration(limit_ms.to_string().into());
        }
        if let Some(exchange) = self.reply_to {
            properties = properties.with_reply_to(exchange.into());
        }
        if let Some((key, signature)) = &self.signature {
            let mut headers = FieldTable::default();
            headers.insert(
                HEADER_KEY.into(),
                AMQPValue::LongString(key.as_str().into()),
            );
            headers.insert(
                HEADER_SIGNATURE.into(),
                AMQPValue::LongString(signature.to_string().into()),
            );
            properties = properties.with_headers(headers);
        }
        properties
    }
}

impl Incoming {
    /// What the client library delivered.
    pub(crate) fn new(delivery: Delivery, acker: Acker) -> Self {
        let properties = &delivery.properties;
        let headers = properties.headers().as_ref();
        let header = |name: &str| headers.and_then(|table| table.inner().get(name));
        Self {
            kind: text(properties.kind()).unwrap_or_default(),
            message_id: parsed(properties.message_id()),
            correlation_id: parsed(properties.correlation_id()),
            user_id: text(properties.user_id()),
            timestamp_ms: properties
                .timestamp()
                .map(|seconds| seconds.saturating_mul(1000)),
            reply_to: text(properties.reply_to()),
            key_id: header(HEADER_KEY).and_then(value_text),
            signature: header(HEADER_SIGNATURE).and_then(value_text),
            death: header(HEADER_DEATHS).and_then(latest_death),
            stream_offset: header(HEADER_STREAM_OFFSET).and_then(value_number),
            exchange: delivery.exchange.into(),
            routing_key: delivery.routing_key.into(),
            redelivered: delivery.redelivered,
            transient: *properties.delivery_mode() == Some(TRANSIENT),
            body: delivery.data,
            acker,
        }
    }
}

/// The message id in `properties`, when it is one of ours.
pub(crate) fn message_id(properties: &BasicProperties) -> Option<MessageId> {
    parsed(properties.message_id())
}

fn text(property: &Option<ShortString>) -> Option<String> {
    property.as_ref().map(|text| text.as_str().to_owned())
}

fn parsed<T: std::str::FromStr>(property: &Option<ShortString>) -> Option<T> {
    property.as_ref()?.as_str().parse().ok()
}

fn value_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

fn value_number(value: &AMQPValue) -> Option<u64> {
    match value {
        AMQPValue::LongLongInt(number) => u64::try_from(*number).ok(),
        AMQPValue::LongInt(number) => u64::try_from(*number).ok(),
        AMQPValue::LongUInt(number) => Some(u64::from(*number)),
        _ => None,
    }
}

fn latest_death(value: &AMQPValue) -> Option<Death> {
    let AMQPValue::FieldArray(deaths) = value else {
        return None;
    };
    let Some(AMQPValue::FieldTable(latest)) = deaths.as_slice().first() else {
        return None;
    };
    let field = |name: &str| latest.inner().get(name).and_then(value_text);
    Some(Death {
        queue: field("queue")?,
        reason: field("reason")?,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::stamp;

    #[test]
    fn what_goes_out_comes_in_the_same() {
        let signer = muster_proto::signing::JobSigner::from_seed(&[7; 32]);
        let out = Outgoing {
            exchange: "muster.jobs",
            routing_key: "all".to_owned(),
            kind: Kind::Job,
            message_id: stamp::new_message_id(),
            correlation_id: Some(stamp::new_job_id()),
            timestamp_ms: 1_700_000_000_999,
            expiration_ms: Some(60_000),
            mandatory: true,
            transient: false,
            reply_to: Some("muster.answers"),
            signature: Some(("ops@desk".parse().unwrap(), signer.sign(b"body"))),
            body: Arc::from(&b"body"[..]),
        };
        let mut delivery =
            Delivery::mock(1, out.exchange.into(), "all".into(), true, b"body".to_vec());
        delivery.properties = out.properties(&"ops".into());
        assert_eq!(
            delivery.properties.expiration().as_ref().unwrap().as_str(),
            "60000"
        );
        assert_eq!(*delivery.properties.delivery_mode(), Some(PERSISTENT));
        let got = Incoming::new(delivery, Acker::none());
        assert_eq!(got.kind, "muster.job/1");
        assert_eq!(got.message_id, Some(out.message_id));
        assert_eq!(got.correlation_id, out.correlation_id);
        assert_eq!(got.user_id.as_deref(), Some("ops"));
        assert_eq!(got.timestamp_ms, Some(1_700_000_000_000));
        assert_eq!(got.reply_to.as_deref(), Some("muster.answers"));
        assert_eq!(got.key_id.as_deref(), Some("ops@desk"));
        assert_eq!(got.signature, Some(signer.sign(b"body").to_string()));
        assert_eq!(
            (
                got.exchange.as_str(),
                got.routing_key.as_str(),
                got.redelivered
            ),
            ("muster.jobs", "all", true)
        );
        assert_eq!(
            (got.death, got.stream_offset, got.body),
            (None, None, b"body".to_vec())
        );
    }

    #[test]
    fn a_message_of_anyone_is_read_without_trust() {
        let mut delivery = Delivery::mock(1, "".into(), "".into(), false, Vec::new());
        let mut headers = FieldTable::default();
        headers.insert(HEADER_STREAM_OFFSET.into(), AMQPValue::LongLongInt(-1));
        headers.insert(HEADER_DEATHS.into(), AMQPValue::LongString("none".into()));
        headers.insert(HEADER_KEY.into(), AMQPValue::Boolean(true));
        delivery.properties = BasicProperties::default()
            .with_message_id("not an id".into())
            .with_headers(headers);
        let got = Incoming::new(delivery, Acker::none());
        assert_eq!(
            (got.kind.as_str(), got.message_id, got.user_id),
            ("", None, None)
        );
        assert_eq!(
            (got.death, got.stream_offset, got.key_id),
            (None, None, None)
        );
    }
}
