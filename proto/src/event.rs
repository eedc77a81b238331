//! Events: something happened on a host or in a controller (`muster.event/1`).

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::{Kind, Message};
use crate::id::{HostId, MessageId};

/// Longest topic in bytes, so that `<topic>.<host>` fits a routing key of 255.
pub const TOPIC_BYTES_MAX: usize = 54;

/// One thing that happened. Its AMQP `message_id` is the same at every resend; order holds per host, by `seq`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// What, in dotted words: `host.interface.down`. The routing key is `<topic>.<host>`.
    pub topic: String,
    /// Where.
    pub host: HostId,
    /// When it was noticed, in milliseconds since 1970 by the host's clock.
    pub at_ms: u64,
    /// How bad.
    pub severity: Severity,
    /// One line for people.
    pub summary: String,
    /// What it is about, e.g. an interface's name: state changes of the same topic and key belong together.
    #[serde(default)]
    pub key: String,
    /// More about it, by name.
    #[serde(default)]
    pub fields: BTreeMap<String, Value>,
    /// The state before, where it is a change of state.
    #[serde(default)]
    pub before: Value,
    /// The state after.
    #[serde(default)]
    pub after: Value,
    /// The agent's count of its events, rising for as long as the host keeps its `state_dir`. It skips far ahead where the
    /// state file was damaged and begun anew.
    #[serde(default)]
    pub seq: u64,
    /// The message that made this happen: a job, an event.
    #[serde(default)]
    pub cause: Option<MessageId>,
}

impl Message for Event {
    const KIND: Kind = Kind::Event;
}

/// How bad an event is, from least to most.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As expected.
    Info,
    /// Normal but worth knowing; also the end of something worse.
    Notice,
    /// May become worse.
    Warning,
    /// Something does not work.
    Error,
    /// A service is lost.
    Critical,
}

impl Severity {
    /// The name on the wire and on the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether `topic` is one or more words of lower-case letters, digits, `_` and `-`, parted by single dots.
#[must_use]
pub fn is_topic(topic: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    topic.len() <= TOPIC_BYTES_MAX && topic.split('.').all(word)
}
