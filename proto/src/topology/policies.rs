//! Bounds, expiry and dead-lettering: policies, so that changing one breaks no declaration.

use super::{DEAD, REPLIES};

/// The value of a policy's key.
#[derive(Debug)]
pub enum PolicyValue {
    /// A text.
    Text(&'static str),
    /// A number.
    Number(u64),
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFor {
    /// Queues.
    Queues,
    /// Queues that another policy's pattern matches, too: this one is theirs.
    SomeOfThese,
    /// Exchanges.
    Exchanges,
}

/// A policy for queues or exchanges whose names match.
#[derive(Debug)]
pub struct PolicySpec {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub of: PolicyFor,
    /// Regular expression over their names.
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

/// An answer that its controller has not taken within this is dead-lettered: one that is there takes it at once.
pub const ANSWERS_TTL_MS: u64 = 30 * 1000;

/// A queue for answers that nobody has used for this long is deleted, with what is in it: no answer may come so late, see
/// [`answers_come_in_time`].
pub const ANSWERS_QUEUE_EXPIRES_MS: u64 = 15 * 60 * 1000;

/// Whether the answers to a job, if its controller dies, are all dead-lettered before the queue goes that they wait in.
#[must_use]
pub const fn answers_come_in_time(deliver_within_ms: u64, run_limit_ms: u64) -> bool {
    let last_ms = deliver_within_ms.saturating_add(run_limit_ms);
    last_ms.saturating_add(2 * ANSWERS_TTL_MS) < ANSWERS_QUEUE_EXPIRES_MS
}

/// Every policy but the streams', which follow from [`STREAMS`](super::STREAMS).
pub static POLICIES: &[PolicySpec] = &[
    PolicySpec {
        name: "muster-agents",
        of: PolicyFor::Queues,
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
        of: PolicyFor::Queues,
        pattern: r"^muster\.dead$",
        // Where no controller comes for a long time the oldest goes: of those jobs nobody has asked.
        definition: &[("max-length", PolicyValue::Number(DEAD_LETTERS_MAX))],
    },
    PolicySpec {
        name: "muster-bridges",
        of: PolicyFor::Queues,
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
        of: PolicyFor::Queues,
        pattern: r"^muster\.reactions$",
        // Hours of a busy fleet's events, should no `muster serve` be there; the history keeps all of them.
        definition: &[("max-length-bytes", PolicyValue::Number(256_000_000))],
    },
    PolicySpec {
        name: "muster-republish",
        of: PolicyFor::Queues,
        pattern: r"^muster\.republish$",
        definition: &[("max-length-bytes", PolicyValue::Number(256_000_000))],
    },
    PolicySpec {
        name: "muster-subscribers",
        of: PolicyFor::Queues,
        pattern: r"^sub\.",
        // A subscriber that stays away must not fill the broker: the oldest goes, and is still in the history.
        definition: &[
            ("max-length-bytes", PolicyValue::Number(256_000_000)),
            ("expires", PolicyValue::Number(SUBSCRIBER_QUEUE_EXPIRES_MS)),
        ],
    },
    PolicySpec {
        name: "muster-controllers",
        of: PolicyFor::Queues,
        pattern: r"^muster\.ctl\.",
        // A reader that stands still must not fill the broker: what it misses it finds in the ledger.
        definition: &[("max-length-bytes", PolicyValue::Number(512_000_000))],
    },
    PolicySpec {
        name: "muster-controllers-answers",
        of: PolicyFor::SomeOfThese,
        pattern: r"^muster\.ctl\..*\.answers$",
        // Of a controller that died: what it has not told the ledger goes there by itself, then the queue goes.
        definition: &[
            ("max-length-bytes", PolicyValue::Number(512_000_000)),
            ("dead-letter-exchange", PolicyValue::Text(DEAD)),
            ("message-ttl", PolicyValue::Number(ANSWERS_TTL_MS)),
            ("expires", PolicyValue::Number(ANSWERS_QUEUE_EXPIRES_MS)),
        ],
    },
    PolicySpec {
        name: "muster-answers",
        of: PolicyFor::Exchanges,
        pattern: r"^muster\.answers$",
        // Nobody waits any more: to the ledger, as every other answer.
        definition: &[("alternate-exchange", PolicyValue::Text(REPLIES))],
    },
];
