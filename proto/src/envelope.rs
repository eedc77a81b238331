//! From bytes to a typed message and back, within bounds. It must not know what the messages mean.
//!
//! A body is one MessagePack map with named fields. Its kind and version travel in the AMQP property
//! `type` (`muster.job/1`). A body over its kind's bound is refused before it is decoded; what is
//! nested too deep or followed by other bytes is refused too. Fields that a reader does not know are ignored.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The AMQP property `content_type` of every message.
pub const CONTENT_TYPE: &str = "application/vnd.muster+msgpack";

/// The AMQP property `app_id` of every message.
pub const APP_ID: &str = "muster";

/// Header that holds a job's signature: 128 hexadecimal digits (ed25519 over the domain prefix and the body's exact bytes).
pub const HEADER_SIGNATURE: &str = "muster-signature";

/// Header that names the key of a job's signature.
pub const HEADER_KEY: &str = "muster-key";

/// Deepest nesting of maps and arrays that is decoded. Ours need under ten; MessagePack's own limit (1,024) would let a
/// hostile body use a lot of stack.
pub const NESTING_MAX: usize = 48;

const KIB: usize = 1024;

/// What a message is, as its AMQP `type` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A signed job, controller to agents.
    Job,
    /// An agent has taken a job that is not done yet.
    Ack,
    /// How a job ended on one host.
    Result,
    /// A piece of a running job's output.
    Output,
    /// Something happened.
    Event,
    /// A collector's snapshot.
    Metrics,
    /// An agent is there.
    Presence,
    /// A job and all hosts it is meant for, before any of them hears of it.
    JobOpened,
    /// What the controller did with a job's hosts: released, unroutable, skipped, no longer waited for.
    JobNote,
    /// A reader's own mark in a stream: what was written before it has been read when it comes by.
    Mark,
    /// An agent's proof to itself that its queue still reaches it.
    Probe,
    /// Answers that came straight to a controller, for the ledger.
    Heard,
}

impl Kind {
    /// Every kind, in the order of the enumeration.
    pub const ALL: [Self; 12] = [
        Self::Job,
        Self::Ack,
        Self::Result,
        Self::Output,
        Self::Event,
        Self::Metrics,
        Self::Presence,
        Self::JobOpened,
        Self::JobNote,
        Self::Mark,
        Self::Probe,
        Self::Heard,
    ];

    /// The name and version on the wire: the AMQP property `type`.
    #[must_use]
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::Job => "muster.job/1",
            Self::Ack => "muster.ack/1",
            Self::Result => "muster.result/1",
            Self::Output => "muster.output/1",
            Self::Event => "muster.event/1",
            Self::Metrics => "muster.metrics/1",
            Self::Presence => "muster.presence/1",
            Self::JobOpened => "muster.job-opened/1",
            Self::JobNote => "muster.job-note/1",
            Self::Mark => "muster.mark/1",
            Self::Probe => "muster.probe/1",
            Self::Heard => "muster.heard/1",
        }
    }

    /// The kind of a message whose AMQP `type` is `name`.
    #[must_use]
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.wire_name() == name)
    }

    /// Largest body in bytes.
    #[must_use]
    pub const fn body_bytes_max(self) -> usize {
        match self {
            // Arguments are names and short lists, never content.
            Self::Job => 64 * KIB,
            Self::Ack | Self::Mark | Self::Probe => 4 * KIB,
            // The bounded output of a script (256 KiB) or a large snapshot, with room for its frame.
            Self::Result => 1024 * KIB,
            // A director with 1,000 virtual servers of 10 real servers takes 5.4 MB.
            Self::Metrics => 16 * 1024 * KIB,
            Self::Output | Self::Event | Self::Presence => 64 * KIB,
            // 10,000 hosts with names of 200 bytes, twice.
            Self::JobOpened | Self::JobNote | Self::Heard => 4096 * KIB,
        }
    }

    /// Whether the broker keeps it on disk. Metrics and presence are not kept: the newest wins.
    #[must_use]
    pub const fn persistent(self) -> bool {
        !matches!(self, Self::Metrics | Self::Presence | Self::Probe)
    }
}

/// A type that is the body of one kind of message.
pub trait Message: Serialize + DeserializeOwned {
    /// The kind.
    const KIND: Kind;
}

/// Why a message could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The body would be over its kind's bound.
    #[error("a {kind} of {bytes} bytes is over its bound of {max} bytes", kind = kind.wire_name(), max = kind.body_bytes_max())]
    TooLarge {
        /// What was encoded.
        kind: Kind,
        /// Its size.
        bytes: usize,
    },
    /// The serializer refused it.
    #[error("could not encode a {kind}: {why}", kind = kind.wire_name())]
    Encode {
        /// What was encoded.
        kind: Kind,
        /// The serializer's words.
        why: String,
    },
}

/// Why bytes are not the message that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The AMQP `type` is another one, or of a version that this program does not know.
    #[error("message type {found:?} instead of {wanted:?}")]
    Kind {
        /// What was wanted.
        wanted: &'static str,
        /// What came.
        found: String,
    },
    /// The body is over its kind's bound; it was not looked at.
    #[error("a {kind} of {bytes} bytes is over its bound of {max} bytes", kind = kind.wire_name(), max = kind.body_bytes_max())]
    TooLarge {
        /// What it should have been.
        kind: Kind,
        /// Its size.
        bytes: usize,
    },
    /// The body is not such a message.
    #[error("the body is not a {kind}: {why}", kind = kind.wire_name())]
    Body {
        /// What it should have been.
        kind: Kind,
        /// The decoder's words.
        why: String,
    },
}

/// The body of `message`.
///
/// # Errors
/// When it is over its bound, or a value has no MessagePack form.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    encode_as::<M>(message)
}

/// The body of a message `M`, from something that has its fields, such as one that borrows them.
///
/// # Errors
/// As [`encode`].
pub fn encode_as<M: Message>(message: &impl Serialize) -> Result<Vec<u8>, EncodeError> {
    let body = rmp_serde::to_vec_named(message).map_err(|error| EncodeError::Encode {
        kind: M::KIND,
        why: error.to_string(),
    })?;
    if body.len() > M::KIND.body_bytes_max() {
        return Err(EncodeError::TooLarge {
            kind: M::KIND,
            bytes: body.len(),
        });
    }
    Ok(body)
}

/// The message in `body`, whose AMQP `type` is `wire_name`.
///
/// # Errors
/// When the type is another, the body is over its bound, nested too deep, not the message, or longer than it.
pub fn decode<M: Message>(wire_name: &str, body: &[u8]) -> Result<M, DecodeError> {
    let kind = M::KIND;
    if wire_name != kind.wire_name() {
        let found = wire_name.chars().take(64).collect();
        return Err(DecodeError::Kind {
            wanted: kind.wire_name(),
            found,
        });
    }
    if body.len() > kind.body_bytes_max() {
        return Err(DecodeError::TooLarge {
            kind,
            bytes: body.len(),
        });
    }
    let refused = |why: String| DecodeError::Body { kind, why };
    let mut decoder = rmp_serde::Deserializer::new(std::io::Cursor::new(body));
    decoder.set_max_depth(NESTING_MAX);
    let message = M::deserialize(&mut decoder).map_err(|error| refused(error.to_string()))?;
    let rest = body
        .len()
        .saturating_sub(usize::try_from(decoder.position()).unwrap_or(usize::MAX));
    if rest > 0 {
        return Err(refused(format!("{rest} more bytes follow it")));
    }
    Ok(message)
}
