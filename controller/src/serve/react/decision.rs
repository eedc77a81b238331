//! What the engine decides: values only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::event::Event;
use muster_proto::id::MessageId;

use super::heard::Heard;

/// Events in one firing; more begin another one. Their ids have to fit the event that tells of it.
pub(crate) const EVENTS_MAX: usize = 1200;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// A rule acts.
    Fire(Firing),
    /// A rule does not act.
    Suppress(Suppressed),
    /// A rule's breaker has opened or closed.
    Breaker {
        /// The rule.
        rule: usize,
        /// Whether it is open now.
        open: bool,
        /// Since when, in milliseconds since 1970.
        at_ms: u64,
    },
}

/// A rule that acts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Firing {
    /// Its id: follows from the rule and the first event, so that it is the same whoever decides.
    pub(crate) id: MessageId,
    /// The rule.
    pub(crate) rule: usize,
    /// The group.
    pub(crate) group: String,
    /// The events, the oldest first.
    pub(crate) events: Vec<Arc<Heard>>,
    /// When it was decided first, in milliseconds since 1970.
    pub(crate) begun_ms: u64,
    /// How many reactions stand behind it.
    pub(crate) depth: u32,
    /// Whether another `serve` had begun it, so that it may have happened before.
    pub(crate) again: bool,
    /// The actions that are known to have ended.
    pub(crate) done: BTreeSet<String>,
}

impl Firing {
    /// The one that `it` was not.
    pub(crate) fn of_suppressed(it: &Suppressed) -> Self {
        let id = it
            .events
            .first()
            .map_or(MessageId::from_bytes([0; 16]), |first| first.id);
        Self {
            id,
            rule: it.rule,
            group: String::new(),
            events: it.events.clone(),
            begun_ms: 0,
            depth: 0,
            again: false,
            done: BTreeSet::new(),
        }
    }

    /// One about an event of this program's own, of no rule.
    pub(crate) fn of_own(id: MessageId, event: Event) -> Self {
        let heard_ms = event.at_ms;
        let heard = Heard {
            id,
            event,
            labels: BTreeMap::new(),
            heard_ms,
        };
        Self {
            id,
            rule: usize::MAX,
            group: String::new(),
            events: vec![Arc::new(heard)],
            begun_ms: heard_ms,
            depth: 0,
            again: false,
            done: BTreeSet::new(),
        }
    }
}

/// Why a rule does not act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// What happened was undone within the rule's `for`.
    Undone,
    /// The rule's breaker is open.
    Breaker,
    /// It happened too long ago.
    Age,
    /// An operator's silence.
    Silence,
    /// A maintenance window.
    Maintenance,
    /// Too many reactions stand behind it.
    Depth,
    /// The host's budget is spent.
    HostBudget,
    /// The rule's budget is spent.
    Budget,
    /// The budget of all is spent.
    FleetBudget,
    /// It is a dry run.
    DryRun,
}

impl Reason {
    /// Every reason.
    pub(crate) const ALL: [Self; 10] = [
        Self::Undone,
        Self::Breaker,
        Self::Age,
        Self::Silence,
        Self::Maintenance,
        Self::Depth,
        Self::HostBudget,
        Self::Budget,
        Self::FleetBudget,
        Self::DryRun,
    ];

    /// Its name in events.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Undone => "undone",
            Self::Breaker => "breaker",
            Self::Age => "age",
            Self::Silence => "silence",
            Self::Maintenance => "maintenance",
            Self::Depth => "depth",
            Self::HostBudget => "host-budget",
            Self::Budget => "budget",
            Self::FleetBudget => "fleet-budget",
            Self::DryRun => "dry-run",
        }
    }

    /// Whether it counts for the breaker: a loop, or a rule that runs wild.
    pub(crate) const fn is_bad(self) -> bool {
        matches!(self, Self::Depth | Self::HostBudget | Self::Budget)
    }
}

/// A rule that does not act.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Suppressed {
    /// The rule.
    pub(crate) rule: usize,
    /// Why.
    pub(crate) reason: Reason,
    /// More about why: a silence's comment, a window's name.
    pub(crate) detail: String,
    /// The events.
    pub(crate) events: Vec<Arc<Heard>>,
}
