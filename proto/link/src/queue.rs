//! What a session is asked for: queues, bindings, consumers. Values only.

use lapin::types::AMQPValue;

/// How a queue is made. Its bounds, expiry and dead-lettering are the broker's policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDecl {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: QueueKind,
}

/// Kinds of queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// Durable, on one node.
    Classic,
    /// Durable, replicated.
    Quorum,
    /// This connection's alone, gone with it.
    Exclusive,
}

/// A queue's wish for the messages of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// The binding key.
    pub key: String,
}

/// How a queue is consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consume {
    /// The queue or stream.
    pub queue: String,
    /// Whether nobody else may consume it meanwhile.
    pub exclusive: bool,
    /// Most deliveries without an ack: the only bound on what piles up here.
    pub prefetch: u16,
    /// Who acks.
    pub acks: Acks,
    /// Where in a stream to begin; `None` for a queue.
    pub offset: Option<StreamOffset>,
}

/// Who tells the broker that a delivery is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// The receiver, with the message's [`crate::Acker`].
    Manual,
    /// [`Deliveries`](crate::Deliveries) itself, for every half a prefetch handed out: for streams, and for what may be lost.
    Batched,
}

/// Where in a stream to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOffset {
    /// With the oldest message that it still has.
    First,
    /// With the newest chunk that it has: its last messages, how many is the broker's affair.
    Last,
    /// With what comes from now on.
    Next,
    /// With this message.
    Offset(u64),
    /// At this time in milliseconds since 1970, to the chunk that holds it: earlier messages may come before.
    TimestampMs(u64),
}

impl StreamOffset {
    /// The consume argument `x-stream-offset`, in the types that RabbitMQ's stream queues take.
    pub(crate) fn argument(self) -> AMQPValue {
        match self {
            Self::First => AMQPValue::LongString("first".into()),
            Self::Last => AMQPValue::LongString("last".into()),
            Self::Next => AMQPValue::LongString("next".into()),
            Self::Offset(offset) => {
                AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))
            }
            Self::TimestampMs(at_ms) => AMQPValue::Timestamp(at_ms / 1000),
        }
    }
}
