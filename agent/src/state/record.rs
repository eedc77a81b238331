//! What the state file holds: messages that wait to be sent, and jobs. Knows no database and no clock.

use std::collections::BTreeMap;

use muster_proto::envelope::{self, EncodeError, Kind};
use muster_proto::event::{Event, Severity};
use muster_proto::id::{HostId, JobId, MessageId};
use muster_proto::job::{JobResult, Outcome};
use muster_proto::topology;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest summary and key of an event in bytes, once it had to be cut to fit its bound.
const TRIMMED_TEXT_BYTES_MAX: usize = 1024;

/// A message ready for the broker. The same at every resend, its id above all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutMessage {
    /// Where it goes.
    pub exchange: &'static str,
    /// Its routing key.
    pub routing_key: String,
    /// What it is: the AMQP `type`.
    pub kind: Kind,
    /// The AMQP `message_id`.
    pub message_id: MessageId,
    /// The job it belongs to.
    pub correlation_id: Option<JobId>,
    /// When it came about, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The encoded body.
    pub body: Vec<u8>,
}

/// How important a stored message is, least first; also the order in which the bounds drop what must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Class {
    /// Events of severity info.
    Info = 0,
    /// Events of severity notice.
    Notice = 1,
    /// Events of severity warning.
    Warning = 2,
    /// Events of severity error.
    Error = 3,
    /// Events of severity critical, and the events that say what was dropped.
    Critical = 4,
    /// Results of jobs.
    Reply = 5,
}

impl Class {
    /// Every class, least important first.
    pub const ALL: [Self; 6] = [
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Reply,
    ];

    /// The class of an event.
    #[must_use]
    pub const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Notice => Self::Notice,
            Severity::Warning => Self::Warning,
            Severity::Error => Self::Error,
            Severity::Critical => Self::Critical,
        }
    }

    /// The class's name in a gap event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Reply => "reply",
        }
    }
}

/// Which of the outbox's two queues: results don't wait behind a day's events. Each is in the order of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Results.
    Replies,
    /// Events.
    Events,
}

impl Lane {
    /// The classes in it.
    #[must_use]
    pub const fn classes(self) -> &'static [Class] {
        match self {
            Self::Replies => &[Class::Reply],
            Self::Events => &[
                Class::Info,
                Class::Notice,
                Class::Warning,
                Class::Error,
                Class::Critical,
            ],
        }
    }
}

/// A stored message's key. `seq` rises with every message of either lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutboxKey {
    /// How important.
    pub class: Class,
    /// Number, in the order of acceptance.
    pub seq: u64,
}

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRecord {
    /// Its key, for the next page and for the confirm.
    pub key: OutboxKey,
    /// Itself.
    pub message: OutMessage,
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredMessage {
    pub(super) kind: String,
    pub(super) routing_key: String,
    pub(super) message_id: MessageId,
    #[serde(default)]
    pub(super) correlation_id: Option<JobId>,
    pub(super) timestamp_ms: u64,
    /// When it was stored: its age counts from here.
    pub(super) accepted_at_ms: u64,
    #[serde(with = "serde_bytes")]
    pub(super) body: Vec<u8>,
}

impl StoredMessage {
    /// The message, or `None` where it is of a kind that the outbox does not carry.
    pub(super) fn into_message(self) -> Option<OutMessage> {
        let kind = Kind::from_wire_name(&self.kind)?;
        Some(OutMessage {
            exchange: exchange_of(kind)?,
            routing_key: self.routing_key,
            kind,
            message_id: self.message_id,
            correlation_id: self.correlation_id,
            timestamp_ms: self.timestamp_ms,
            body: self.body,
        })
    }

    pub(super) fn of(message: OutMessage, accepted_at_ms: u64) -> Self {
        Self {
            kind: message.kind.wire_name().to_owned(),
            routing_key: message.routing_key,
            message_id: message.message_id,
            correlation_id: message.correlation_id,
            timestamp_ms: message.timestamp_ms,
            accepted_at_ms,
            body: message.body,
        }
    }
}

const fn exchange_of(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Event => Some(topology::EVENTS),
        Kind::Result | Kind::Ack | Kind::Output => Some(topology::REPLIES),
        _ => None,
    }
}

/// An event before it has a number.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// What, in dotted words: `host.interface.down`.
    pub topic: String,
    /// When it was noticed, in milliseconds since 1970.
    pub at_ms: u64,
    /// How bad.
    pub severity: Severity,
    /// One line for people.
    pub summary: String,
    /// What it is about.
    pub key: String,
    /// More about it, by name.
    pub fields: BTreeMap<String, Value>,
    /// The state before, where it is a change of state.
    pub before: Value,
    /// The state after.
    pub after: Value,
    /// The message that made this happen.
    pub cause: Option<MessageId>,
}

impl NewEvent {
    /// An event with nothing but its topic, time, severity and summary.
    pub fn new(
        topic: impl Into<String>,
        at_ms: u64,
        severity: Severity,
        summary: impl Into<String>,
    ) -> Self {
        Self {
            topic: topic.into(),
            at_ms,
            severity,
            summary: summary.into(),
            key: String::new(),
            fields: BTreeMap::new(),
            before: Value::Null,
            after: Value::Null,
            cause: None,
        }
    }

    /// With one more field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The message for the broker; cut where it is over its bound, since a cut event is better than none.
    pub(super) fn into_message(
        self,
        host: &HostId,
        seq: u64,
        id: MessageId,
    ) -> Result<OutMessage, EncodeError> {
        let mut event = Event {
            topic: self.topic,
            host: host.clone(),
            at_ms: self.at_ms,
            severity: self.severity,
            summary: self.summary,
            key: self.key,
            fields: self.fields,
            before: self.before,
            after: self.after,
            seq,
            cause: self.cause,
        };
        let body = match envelope::encode(&event) {
            Err(EncodeError::TooLarge { bytes, .. }) => {
                event.before = Value::Null;
                event.after = Value::Null;
                event.fields = BTreeMap::from([("trimmed_bytes".to_owned(), Value::from(bytes))]);
                cut(&mut event.summary);
                cut(&mut event.key);
                envelope::encode(&event)?
            }
            other => other?,
        };
        Ok(OutMessage {
            exchange: topology::EVENTS,
            routing_key: topology::topic_key(&event.topic, host),
            kind: Kind::Event,
            message_id: id,
            correlation_id: None,
            timestamp_ms: event.at_ms,
            body,
        })
    }
}

fn cut(text: &mut String) {
    let mut end = TRIMMED_TEXT_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// The message of a job's result.
///
/// # Errors
/// When the result is over its bound.
pub fn result_message(result: &JobResult, id: MessageId) -> Result<OutMessage, EncodeError> {
    Ok(OutMessage {
        exchange: topology::REPLIES,
        routing_key: topology::result_key(result.job, &result.host),
        kind: Kind::Result,
        message_id: id,
        correlation_id: Some(result.job),
        timestamp_ms: result.finished_at_ms,
        body: envelope::encode(result)?,
    })
}

/// How far a recorded job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStage {
    /// Accepted; its turn has not come. It has not had any effect.
    Queued,
    /// Started; it may have had its effect.
    Started,
    /// Ended, and answered.
    Finished,
    /// Cancelled before it came.
    CancelledAhead,
}

/// A job as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// How far it is.
    pub stage: JobStage,
    /// The action; empty where it was cancelled before it came.
    #[serde(default)]
    pub action: String,
    /// Whether it may be run again after it was cut off.
    #[serde(default)]
    pub idempotent: bool,
    /// Whether it only says what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// When it came, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// Until when it may be started.
    pub deliver_by_ms: u64,
    /// When it was started.
    #[serde(default)]
    pub started_at_ms: Option<u64>,
    /// When it ended.
    #[serde(default)]
    pub finished_at_ms: Option<u64>,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// The run of the agent that recorded it, so that a later one knows it for left over.
    pub agent_run: u64,
    /// The request's bytes, as long as it may have to be run from this record.
    #[serde(default, with = "serde_bytes")]
    pub request: Option<Vec<u8>>,
}

/// A job to record before it is acknowledged and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The job.
    pub id: JobId,
    /// The action.
    pub action: String,
    /// Whether it may be run again after it was cut off.
    pub idempotent: bool,
    /// Whether it only says what it would do.
    pub dry_run: bool,
    /// When it came, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// When it was made, by its controller's clock.
    pub issued_at_ms: u64,
    /// Until when it may be started.
    pub deliver_by_ms: u64,
    /// When it starts; `None` where it has to wait for a place.
    pub started_at_ms: Option<u64>,
    /// The request's bytes.
    pub request: Vec<u8>,
}

/// What recording a job gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is recorded: run it.
    New,
    /// It was recorded before: don't run it.
    Known(JobRecord),
    /// It was cancelled before it came: answer so, with [`finish_job`](super::State::finish_job).
    CancelledAhead,
    /// It was made before the state file was damaged and begun anew: whether it was run already is not known. Refuse it.
    Lost,
    /// As many jobs are remembered as may be, and none may be forgotten yet: refuse it.
    Full,
}

/// What an earlier run of the agent left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Jobs to run now: accepted and never started, or idempotent; all within their deadline. The requests' bytes,
    /// verified when they came.
    pub resume: Vec<(JobId, JobRecord)>,
    /// How many were cut off and are answered as interrupted.
    pub interrupted: usize,
    /// How many had waited past their deadline and are answered as expired.
    pub expired: usize,
}
