//! What there is on the broker, as one table: exchanges, queues, bindings, bounds, routing keys and permissions.
//!
//! Bounds, expiry and dead-lettering are policies and never queue arguments, so that changing them later breaks no
//! declaration. A host's name is the last part of every routing key that is about it.

mod permissions;
mod route;

pub use self::permissions::{
    Permissions, TopicPermission, agent_permissions, controller_permissions, is_subscriber,
    subscriber_permissions,
};
pub use self::route::{StreamSet, topic_matches};
use crate::id::{HostId, JobId};

/// Signed jobs, controllers to agents.
pub const JOBS: &str = "muster.jobs";
/// Acks, results and output, agents to controllers.
pub const REPLIES: &str = "muster.replies";
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

/// Routing key of a job for every host.
pub const ALL_KEY: &str = "all";

/// A topic exchange.
#[derive(Debug)]
pub struct ExchangeSpec {
    /// Its name.
    pub name: &'static str,
    /// Who writes what to it.
    pub summary: &'static str,
}

/// Every exchange; all are durable and of type topic.
pub static EXCHANGES: &[ExchangeSpec] = &[
    ExchangeSpec {
        name: JOBS,
        summary: "signed jobs; keys `all` and `host.<host>`; mandatory",
    },
    ExchangeSpec {
        name: REPLIES,
        summary: "`ack|result|output.<job>.<host>` from agents",
    },
    ExchangeSpec {
        name: EVENTS,
        summary: "`<topic>.<host>` from agents; `job.opened|note|mark.<issuer>` from controllers",
    },
    ExchangeSpec {
        name: METRICS,
        summary: "`<collector>.<host>` and `presence.<host>` from agents; may be lost",
    },
    ExchangeSpec {
        name: DEAD,
        summary: "dead letters of the agents' queues, with the key they came with",
    },
    ExchangeSpec {
        name: JSON,
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

/// The value of a policy's key.
#[derive(Debug)]
pub enum PolicyValue {
    /// A text.
    Text(&'static str),
    /// A number.
    Number(u64),
}

/// A policy for queues whose names match.
#[derive(Debug)]
pub struct PolicySpec {
    /// Its name.
    pub name: &'static str,
    /// Regular expression over queue names.
    pub pattern: &'static str,
    /// What it sets, and to what.
    pub definition: &'static [(&'static str, PolicyValue)],
}

/// Jobs that wait for one host, at most; more are dead-lettered, which the ledger shows.
pub const AGENT_QUEUE_LENGTH_MAX: u64 = 10_000;

/// Dead letters that wait to be taken over, at most: every host of a large fleet, ten times.
pub const DEAD_LETTERS_MAX: u64 = 100_000;

/// An agent's queue that nobody has used for this long is deleted: thirty days, well past the longest `deliver_by`.
pub const AGENT_QUEUE_EXPIRES_MS: u64 = 30 * 24 * 3600 * 1000;

/// A subscriber's queue that nobody has used for this long is deleted: as long as the history keeps events.
pub const SUBSCRIBER_QUEUE_EXPIRES_MS: u64 = 14 * 24 * 3600 * 1000;

/// Every policy but the streams', which follow from [`STREAMS`].
pub static POLICIES: &[PolicySpec] = &[
    PolicySpec {
        name: "muster-agents",
        pattern: r"^muster\.agent\.",
        definition: &[
            ("dead-letter-exchange", PolicyValue::Text(DEAD)),
            ("max-length", PolicyValue::Number(AGENT_QUEUE_LENGTH_MAX)),
            ("overflow", PolicyValue::Text("reject-publish-dlx")),
            ("expires", PolicyValue::Number(AGENT_QUEUE_EXPIRES_MS)),
        ],
    },
    PolicySpec {
        name: "muster-dead",
        pattern: r"^muster\.dead$",
        // Where no controller comes for a long time the oldest goes: of those jobs nobody has asked.
        definition: &[("max-length", PolicyValue::Number(DEAD_LETTERS_MAX))],
    },
    PolicySpec {
        name: "muster-bridges",
        pattern: r"^muster\.bridge\.",
        // Snapshots, of which the newest win: what a sink that is down has missed is of no use to it later.
        definition: &[
            ("max-length-bytes", PolicyValue::Number(64_000_000)),
            ("message-ttl", PolicyValue::Number(15 * 60 * 1000)),
            ("expires", PolicyValue::Number(7 * 24 * 3600 * 1000)),
        ],
    },
    PolicySpec {
        name: "muster-reactions",
        pattern: r"^muster\.reactions$",
        // Hours of a busy fleet's events, should no `muster serve` be there; the history keeps all of them.
        definition: &[("max-length-bytes", PolicyValue::Number(256_000_000))],
    },
    PolicySpec {
        name: "muster-republish",
        pattern: r"^muster\.republish$",
        definition: &[("max-length-bytes", PolicyValue::Number(256_000_000))],
    },
    PolicySpec {
        name: "muster-subscribers",
        pattern: r"^sub\.",
        // A subscriber that stays away must not fill the broker: the oldest goes, and is still in the history.
        definition: &[
            ("max-length-bytes", PolicyValue::Number(256_000_000)),
            ("expires", PolicyValue::Number(SUBSCRIBER_QUEUE_EXPIRES_MS)),
        ],
    },
    PolicySpec {
        name: "muster-controllers",
        pattern: r"^muster\.ctl\.",
        // A reader that stands still must not fill the broker: what it misses it finds in the ledger.
        definition: &[("max-length-bytes", PolicyValue::Number(512_000_000))],
    },
];

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
