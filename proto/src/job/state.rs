//! The states of a host in a job, and the one function that moves between them.
//!
//! Observations reach readers in any order, more than once, and late. So states have ranks, and an
//! observation moves a host only to a higher rank: the end does not depend on the order in which things
//! became known, except that of two answers of the same rank the first stays.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Outcome;

/// Where a host stands in a job. Every targeted host is in one of these at any time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// Its turn in a rollout has not come.
    Held,
    /// The job was sent, or is about to be; nothing was heard.
    Pending,
    /// The agent has it.
    Acked,
    /// The agent runs it.
    Running,
    /// The wait is over and nothing was heard, or not the end.
    Unknown,
    /// A stopped rollout left it out.
    Skipped,
    /// It has no queue on the broker, or its queue was full.
    Unroutable,
    /// The job's `deliver_by` passed before the host took it. Not a failure.
    DeliveryExpired,
    /// The agent refused.
    Rejected,
    /// The agent died while the job ran.
    Interrupted,
    /// Cancelled before or while it ran.
    Cancelled,
    /// The run limit was reached.
    ExecutionExpired,
    /// The action failed.
    Failed,
    /// The action did what was asked.
    Succeeded,
}

impl HostState {
    /// Every state.
    pub const ALL: [Self; 14] = [
        Self::Held,
        Self::Pending,
        Self::Acked,
        Self::Running,
        Self::Unknown,
        Self::Skipped,
        Self::Unroutable,
        Self::DeliveryExpired,
        Self::Rejected,
        Self::Interrupted,
        Self::Cancelled,
        Self::ExecutionExpired,
        Self::Failed,
        Self::Succeeded,
    ];

    /// Whether more is expected to happen.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(
            self,
            Self::Held | Self::Pending | Self::Acked | Self::Running
        )
    }

    /// The name on the wire and on the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Pending => "pending",
            Self::Acked => "acked",
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
            Self::Unroutable => "unroutable",
            Self::DeliveryExpired => "delivery-expired",
            Self::Rejected => "rejected",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::ExecutionExpired => "execution-expired",
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
        }
    }

    /// What is known outranks what is assumed, and what the agent says of its own deed outranks all.
    const fn rank(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Pending => 1,
            Self::Acked => 2,
            Self::Running => 3,
            Self::Unknown => 4,
            // The broker's or the controller's word; an answer from the host outranks it.
            Self::Skipped | Self::Unroutable | Self::DeliveryExpired => 5,
            // A refusal may answer a forged copy of the job; what was really done outranks it.
            Self::Rejected => 6,
            Self::Interrupted
            | Self::Cancelled
            | Self::ExecutionExpired
            | Self::Failed
            | Self::Succeeded => 7,
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that became known about a host in a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// Its turn in a rollout came.
    Released,
    /// The broker returned the job: the host has no queue; or its queue refused the job for being full.
    Unroutable,
    /// A stopped rollout left it out.
    Skipped,
    /// The agent has the job.
    Acked,
    /// The agent runs it.
    Running,
    /// The broker dead-lettered the host's copy because its time was over.
    DeadLettered,
    /// The controller no longer waits.
    WaitOver,
    /// The agent's result.
    Ended(Outcome),
}

impl Observation {
    const fn state(self) -> HostState {
        match self {
            Self::Released => HostState::Pending,
            Self::Unroutable => HostState::Unroutable,
            Self::Skipped => HostState::Skipped,
            Self::Acked => HostState::Acked,
            Self::Running => HostState::Running,
            Self::DeadLettered | Self::Ended(Outcome::DeliveryExpired) => {
                HostState::DeliveryExpired
            }
            Self::WaitOver => HostState::Unknown,
            Self::Ended(Outcome::Succeeded) => HostState::Succeeded,
            Self::Ended(Outcome::Failed) => HostState::Failed,
            Self::Ended(Outcome::Rejected) => HostState::Rejected,
            Self::Ended(Outcome::ExecutionExpired) => HostState::ExecutionExpired,
            Self::Ended(Outcome::Cancelled) => HostState::Cancelled,
            Self::Ended(Outcome::Interrupted) => HostState::Interrupted,
        }
    }
}

/// The state after `observation`, or `None` where it changes nothing.
///
/// The end of the wait makes nothing of a host that is still held: that one is skipped. A late `acked` does not take
/// `unknown` back, since the end is still not known; a late result does.
#[must_use]
pub fn transition(state: HostState, observation: Observation) -> Option<HostState> {
    if state == HostState::Held && observation == Observation::WaitOver {
        return None;
    }
    let next = observation.state();
    (next.rank() > state.rank()).then_some(next)
}
