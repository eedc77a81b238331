//! What there is on the broker, as one table: exchanges, queues, bindings, bounds, routing keys and permissions.
//!
//! Bounds, expiry and dead-lettering are policies and never queue arguments, so that changing them later breaks no
//! declaration. A host's name is the last part of every routing key that is about it.

mod permissions;
mod policies;
mod route;

pub use self::permissions::{
    Permissions, TopicPermission, agent_permissions, controller_permissions, is_subscriber,
    subscriber_permissions,
};
pub use self::policies::{
    AGENT_QUEUE_EXPIRES_MS, AGENT_QUEUE_LENGTH_MAX, ANSWERS_QUEUE_EXPIRES_MS, ANSWERS_TTL_MS,
    DEAD_LETTERS_MAX, POLICIES, PolicyFor, PolicySpec, PolicyValue, SUBSCRIBER_QUEUE_EXPIRES_MS,
    answers_come_in_time,
};
pub use self::route::{StreamSet, topic_matches};
use crate::id::{HostId, JobId};

/// Signed jobs, controllers to agents.
pub const JOBS: &str = "muster.jobs";
/// Acks, results and output, agents to controllers.
pub const REPLIES: &str = "muster.replies";
/// Small answers to jobs that only read, straight to whoever waits for them; what nobody waits for goes on to [`REPLIES`].
pub const ANSWERS: &str = "muster.answers";
/// What controllers have heard by [`ANSWERS`], for the ledger. Agents can't write to it: it is taken as their word.
pub const HEARD: &str = "muster.heard";
/// Events of agents and controllers.
pub const EVENTS: &str = "muster.events";
/// Snapshots and presence: the newest wins.
pub const METRICS: &str = "muster.metrics";
/// What the agents' queues let go: jobs past their time, garbage, overflow.
pub const DEAD: &str = "muster.dead";

/// Events and snapshots that `muster serve` was told to repeat as JSON, with the keys that they came with.
pub const JSON: &str = "muster.json";

/// The stream of what happened to every job.
pub const LEDGER: &str = "muster.ledger";
/// The stream of every event.
pub const HISTORY: &str = "muster.history";
/// The stream of the last hour's presence.
pub const PRESENCE: &str = "muster.presence";

/// The queue in which dead letters wait to be taken over into the ledger: RabbitMQ 3.10 drops
/// those that are routed to a stream without a word.
pub const DEAD_LETTERS: &str = "muster.dead";

/// The queue whose one exclusive consumer leads among the `muster serve` there are.
pub const LEAD: &str = "muster.lead";
/// The queue of events that reactions wait for.
pub const REACTIONS: &str = "muster.reactions";

/// The queue of events that are to be repeated as JSON.
pub const REPUBLISH: &str = "muster.republish";

/// Start of the name of every bridge's queue: `muster.bridge.<name>`.
pub const BRIDGE_QUEUE_PREFIX: &str = "muster.bridge.";

/// Start of the name of every agent's queue.
pub const AGENT_QUEUE_PREFIX: &str = "muster.agent.";
/// Start of the name of every controller's own queue.
pub const CONTROLLER_QUEUE_PREFIX: &str = "muster.ctl.";

/// Start of the name of every subscriber's own queues: `sub.<name>.<what for>`.
pub const SUBSCRIBER_QUEUE_PREFIX: &str = "sub.";

/// End of the name of a controller's queue for answers from [`ANSWERS`], which the ledger does not know yet.
pub const ANSWERS_QUEUE_SUFFIX: &str = ".answers";

/// Routing key of everything on [`HEARD`].
pub const HEARD_KEY: &str = "heard";

/// Routing key of a job for every host.
pub const ALL_KEY: &str = "all";

/// The kind of the exchange `name`.
#[must_use]
pub fn exchange_kind(name: &str) -> ExchangeKind {
    let spec = EXCHANGES.iter().find(|exchange| exchange.name == name);
    spec.map_or(ExchangeKind::Topic, |exchange| exchange.kind)
}

/// How an exchange compares keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By patterns. What a user may write to it is checked key by key.
    Topic,
    /// Letter by letter, which is all that it costs.
    Direct,
}

impl ExchangeKind {
    /// Its name in AMQP.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Direct => "direct",
        }
    }
}

/// An exchange.
#[derive(Debug)]
pub struct ExchangeSpec {
    /// Its name.
    pub name: &'static str,
    /// How it compares keys.
    pub kind: ExchangeKind,
    /// Who writes what to it.
    pub summary: &'static str,
}

/// Every exchange; all are durable.
pub static EXCHANGES: &[ExchangeSpec] = &[
    ExchangeSpec {
        name: JOBS,
        kind: ExchangeKind::Topic,
        summary: "signed jobs; keys `all` and `host.<host>`; mandatory",
    },
    ExchangeSpec {
        name: REPLIES,
        kind: ExchangeKind::Topic,
        summary: "`ack|result|output.<job>.<host>` from agents",
    },
    ExchangeSpec {
        name: ANSWERS,
        kind: ExchangeKind::Direct,
        summary: "small answers to reads, `result.<job>` from agents",
    },
    ExchangeSpec {
        name: HEARD,
        kind: ExchangeKind::Direct,
        summary: "those answers for the ledger, `heard` from controllers",
    },
    ExchangeSpec {
        name: EVENTS,
        kind: ExchangeKind::Topic,
        summary: "`<topic>.<host>` from agents; `job.opened|note|mark.<issuer>` from controllers",
    },
    ExchangeSpec {
        name: METRICS,
        kind: ExchangeKind::Topic,
        summary: "`<collector>.<host>` and `presence.<host>` from agents; may be lost",
    },
    ExchangeSpec {
        name: DEAD,
        kind: ExchangeKind::Topic,
        summary: "dead letters of the agents' queues, with the key they came with",
    },
    ExchangeSpec {
        name: JSON,
        kind: ExchangeKind::Topic,
        summary: "what `muster serve` repeats as JSON, with the key it came with",
    },
];

/// A durable stream.
#[derive(Debug)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// Exchange and binding key of each of its bindings.
    pub bindings: &'static [(&'static str, &'static str)],
    /// Longest age, in RabbitMQ's notation.
    pub age_max: &'static str,
    /// Largest size in bytes.
    pub bytes_max: u64,
    /// Size in bytes of the segments in which old messages are let go.
    pub segment_bytes: u64,
    /// What it is for.
    pub summary: &'static str,
}

/// What no policy can set, and so stands in a queue's declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueNature {
    /// A classic queue.
    Classic,
    /// A quorum queue of which one consumer at a time gets messages; the others wait to take over.
    QuorumWithOneActive,
}

/// A durable queue.
#[derive(Debug)]
pub struct QueueSpec {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub nature: QueueNature,
    /// Exchange and binding key of each of its bindings.
    pub bindings: &'static [(&'static str, &'static str)],
    /// What it is for.
    pub summary: &'static str,
}

/// Every queue that is not a stream, an agent's or a controller's own.
pub static QUEUES: &[QueueSpec] = &[
    QueueSpec {
        name: DEAD_LETTERS,
        nature: QueueNature::Classic,
        bindings: &[(DEAD, "#")],
        summary: "dead letters, until a controller that reads the ledger takes them over",
    },
    QueueSpec {
        name: LEAD,
        nature: QueueNature::Classic,
        bindings: &[],
        summary: "always empty: the `muster serve` that consumes it alone is the one that speaks for all",
    },
    QueueSpec {
        name: REACTIONS,
        nature: QueueNature::QuorumWithOneActive,
        bindings: &[],
        summary: "events that reactions wait for; bound to their topics by `muster serve`",
    },
    QueueSpec {
        name: REPUBLISH,
        // One at a time, so that the order of a host's events is kept.
        nature: QueueNature::QuorumWithOneActive,
        bindings: &[],
        summary: "events to be repeated as JSON; bound to their topics by `muster serve`",
    },
];

/// Every stream. (Agents declare their own queues, controllers their reply queues.)
pub static STREAMS: &[StreamSpec] = &[
    StreamSpec {
        name: LEDGER,
        bindings: &[
            (EVENTS, "job.#"),
            (EVENTS, "host.#"),
            (REPLIES, "ack.#"),
            (REPLIES, "result.#"),
            (HEARD, HEARD_KEY),
            (DEAD, "#"),
        ],
        age_max: "30D",
        bytes_max: 4_000_000_000, // a million results of 4 KB
        segment_bytes: 50_000_000,
        summary: "what happened to every job, and which hosts there are",
    },
    StreamSpec {
        name: HISTORY,
        bindings: &[(EVENTS, "#")],
        age_max: "14D",
        bytes_max: 4_000_000_000,
        segment_bytes: 50_000_000,
        summary: "every event",
    },
    StreamSpec {
        name: PRESENCE,
        bindings: &[(METRICS, "presence.#")],
        age_max: "1h",
        bytes_max: 500_000_000,
        segment_bytes: 10_000_000,
        summary: "the last hour's presence",
    },
];

/// The names of [`STREAMS`].
pub const ALL_STREAMS: &[&str] = &[LEDGER, HISTORY, PRESENCE];

/// The queue of `host`'s agent.
#[must_use]
pub fn agent_queue(host: &HostId) -> String {
    format!("{AGENT_QUEUE_PREFIX}{host}")
}

/// The host whose agent's queue is called `queue`.
#[must_use]
pub fn host_of_agent_queue(queue: &str) -> Option<HostId> {
    queue.strip_prefix(AGENT_QUEUE_PREFIX)?.parse().ok()
}

/// Routing key of a job for one host.
#[must_use]
pub fn host_key(host: &HostId) -> String {
    format!("host.{host}")
}

/// Routing key of an agent's ack.
#[must_use]
pub fn ack_key(job: JobId, host: &HostId) -> String {
    format!("ack.{job}.{host}")
}

/// Routing key of an agent's result.
#[must_use]
pub fn result_key(job: JobId, host: &HostId) -> String {
    format!("result.{job}.{host}")
}

/// Routing key of a piece of output.
#[must_use]
pub fn output_key(job: JobId, host: &HostId) -> String {
    format!("output.{job}.{host}")
}

/// Routing key on [`ANSWERS`] of an answer. On [`REPLIES`], where it comes if nobody waits for it, it is one of a result.
#[must_use]
pub fn answer_key(job: JobId) -> String {
    format!("result.{job}")
}

/// Binding key of all replies to one job.
#[must_use]
pub fn replies_binding(job: JobId) -> String {
    format!("*.{job}.#")
}

/// Routing key of an event or a snapshot: `topic`, then the host.
#[must_use]
pub fn topic_key(topic: &str, host: &HostId) -> String {
    format!("{topic}.{host}")
}

/// Routing key of an agent's presence.
#[must_use]
pub fn presence_key(host: &HostId) -> String {
    format!("presence.{host}")
}

/// The AMQP property `content_type` of everything on `exchange`.
#[must_use]
pub fn content_type(exchange: &str) -> &'static str {
    if exchange == JSON {
        crate::json::CONTENT_TYPE
    } else {
        crate::envelope::CONTENT_TYPE
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_named_among_all() {
        let names = STREAMS.iter().map(|stream| stream.name);
        assert!(names.eq(ALL_STREAMS.iter().copied()));
    }

    #[test]
    fn the_longest_keys_fit_amqp() {
        let host: HostId = "h".repeat(crate::id::HOST_BYTES_MAX).parse().unwrap();
        let job = JobId::from_parts(1, [0; 10]);
        assert!(output_key(job, &host).len() <= 255);
        assert!(topic_key(&"t".repeat(crate::event::TOPIC_BYTES_MAX), &host).len() <= 255);
        assert!(agent_queue(&host).len() <= 255);
    }
}
