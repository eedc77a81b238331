//! An agent is there (`muster.presence/1`): sent at connecting, at regular intervals, and as a goodbye.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Kind, Message};
use crate::id::{HostId, JobId};

/// An agent's word of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Presence {
    /// The host.
    pub host: HostId,
    /// When it was sent, in milliseconds since 1970 by the host's clock; against the broker's time it shows the offset.
    pub at_ms: u64,
    /// When the next one is due, in milliseconds from this.
    pub interval_ms: u64,
    /// Count since the agent was started.
    pub seq: u64,
    /// Whether the agent is stopping in good order.
    #[serde(default)]
    pub goodbye: bool,
    /// The agent's version.
    pub version: String,
    /// The kernel's boot id: another one is a reboot.
    #[serde(default)]
    pub boot_id: String,
    /// When the agent was started.
    pub started_at_ms: u64,
    /// The operator's labels, by which jobs are targeted.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the agent found out: `os.id`, `os.version`, `kernel`, `arch`, `cpus`, `memory_bytes`.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// What waits in the state file to be sent.
    #[serde(default)]
    pub outbox: OutboxDepth,
    /// The last job that came through the agent's queue.
    #[serde(default)]
    pub last_job: Option<JobId>,
    /// When the broker last confirmed something.
    #[serde(default)]
    pub last_confirm_at_ms: Option<u64>,
    /// Jobs that run or wait on the host.
    #[serde(default)]
    pub jobs_open: u32,
    /// Collectors that do not work, with their last error.
    #[serde(default)]
    pub failing: BTreeMap<String, String>,
}

impl Message for Presence {
    const KIND: Kind = Kind::Presence;
}

impl Presence {
    /// How long the agent has waited for the broker's word while messages wait to be sent, in milliseconds; 0 where none
    /// does.
    #[must_use]
    pub fn lag_ms(&self) -> u64 {
        let since_ms = self.last_confirm_at_ms.unwrap_or(self.started_at_ms);
        match self.outbox.records {
            0 => 0,
            _ => self.at_ms.saturating_sub(since_ms),
        }
    }
}

/// How much waits to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct OutboxDepth {
    /// Records.
    pub records: u64,
    /// Their bodies in bytes.
    pub bytes: u64,
    /// Records that the bounds have forced out since the state file was made.
    pub dropped: u64,
}
