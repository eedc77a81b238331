//! The snapshot of keepalived: its processes, its VRRP instances, and its virtual servers as the checkers see them.
//!
//! What keepalived tells depends on its version and on how it was built, so that nearly every figure is optional. What
//! it told and these types have no name for is carried as text.

mod checker;
mod vrrp;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use checker::{Checker, RealServer, TableEntry, VirtualServer};
pub use vrrp::{SyncGroup, TrackScript, VrrpCounters, VrrpInstance, VrrpState};

use super::host::PartError;

/// What one run of the `keepalived` collector saw.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct KeepalivedSnapshot {
    /// When the run began, in milliseconds since 1970 by the host's own clock.
    pub at_ms: u64,
    /// Every keepalived of the host, and those that were there before and are not now; empty where there is none.
    pub daemons: Vec<Daemon>,
    /// What could not be read or understood in this run; everything else is as good as without it.
    pub errors: Vec<PartError>,
}

/// One keepalived: a parent process with its children.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Daemon {
    /// The name that the agent's config gives it; `keepalived` for the only or the usual one.
    pub name: String,
    /// Whether its parent process is there.
    pub running: bool,
    /// Its version: `2.2.7`.
    pub version: Option<String>,
    /// The file that it was told to read.
    pub config_file: Option<String>,
    /// `router_id` of its configuration.
    pub router_id: Option<String>,
    /// The parent first, then its children.
    pub processes: Vec<Process>,
    /// Children that were seen in the place of others since the agent began to look.
    pub respawns: u64,
    /// How old what it told is; none where it was never asked or never answered.
    pub dumps: Dumps,
    /// The notify FIFOs that the agent reads.
    pub fifos: Vec<Fifo>,
    /// VRRP instances; none where keepalived has not told of any.
    pub vrrp: Option<Vec<VrrpInstance>>,
    /// VRRP sync groups; none where keepalived has not told of any.
    pub groups: Option<Vec<SyncGroup>>,
    /// Track scripts; none where keepalived has not told of any.
    pub scripts: Option<Vec<TrackScript>>,
    /// Virtual servers; none where keepalived has not told of any.
    pub virtual_servers: Option<Vec<VirtualServer>>,
}

/// One of keepalived's processes (`/proc/<pid>/stat`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Process {
    /// `parent`, `vrrp`, `checker`, `bfd`, or `child` where it can't be told which one it is.
    pub role: String,
    /// Its process id.
    pub pid: u32,
    /// When it began, in milliseconds since 1970.
    pub started_ms: Option<u64>,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
}

/// When keepalived wrote each of the files in which it tells of itself, in milliseconds since 1970. Data stays as it
/// was while a newer file is late.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Dumps {
    /// `keepalived.data`: VRRP instances, groups and scripts.
    pub vrrp_at_ms: Option<u64>,
    /// `keepalived_check.data`: virtual servers.
    pub checker_at_ms: Option<u64>,
    /// `keepalived.json` or `keepalived.stats`: counters of VRRP.
    pub counters_at_ms: Option<u64>,
    /// Whether the last request was not answered in time, so that something of this is older than it should be.
    pub late: bool,
}

/// A notify FIFO that the agent reads.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Fifo {
    /// Its path.
    pub path: String,
    /// Whether it is open.
    pub open: bool,
    /// Why it is not open.
    pub error: Option<String>,
    /// Lines read.
    pub lines: u64,
    /// Lines that say nothing that is known.
    pub unknown_lines: u64,
    /// Lines that were dropped because too many came at once.
    pub dropped_lines: u64,
    /// When the last line was read, in milliseconds since 1970.
    pub last_at_ms: Option<u64>,
}

impl KeepalivedSnapshot {
    /// Every VRRP instance with the name of its daemon.
    pub fn instances(&self) -> impl Iterator<Item = (&str, &VrrpInstance)> {
        self.daemons.iter().flat_map(|daemon| {
            let instances = daemon.vrrp.iter().flatten();
            instances.map(|instance| (daemon.name.as_str(), instance))
        })
    }
}
