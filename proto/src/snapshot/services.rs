//! The snapshot of the services that a host's systemd manages: the state of each watched unit, and what it uses.
//!
//! States come by signals of the service manager, whenever they change; uses are read from the control groups at each
//! run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::Counter;

/// What one run of the `services` collector saw.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct ServicesSnapshot {
    /// When the run began, in milliseconds since 1970 by the host's own clock.
    pub at_ms: u64,
    /// Milliseconds since the snapshot before, by the monotonic clock; none for the first one.
    pub interval_ms: Option<u64>,
    /// How the agent hears of the units.
    pub manager: Manager,
    /// Watched units that are active.
    pub active: u64,
    /// Watched units that have failed.
    pub failed: u64,
    /// Every watched unit by name, a bounded number of them.
    pub units: Vec<Unit>,
    /// Watched units that are not in `units`, because there are too many.
    pub units_left_out: u64,
    /// What could not be read in this run; everything else is as good as without it.
    pub errors: Vec<String>,
}

/// The connection to the service manager.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Manager {
    /// Whether it is connected, so that `units` is what is and not what was.
    pub connected: bool,
    /// Since when it is connected or not, in milliseconds since 1970; none before the first attempt is over.
    pub since_ms: Option<u64>,
    /// Why it is not connected.
    pub error: Option<String>,
    /// Its version, as it says: `252.38-1~deb12u1`.
    pub version: Option<String>,
    /// Method calls made since the agent's start: some for each connection and each start of a unit, none as time goes by.
    pub calls: u64,
    /// Signals heard since the agent's start.
    pub signals: u64,
    /// Changes that came too fast to be told one by one, since the agent's start: only the last of each unit was kept.
    pub changes_merged: u64,
}

/// One unit (`org.freedesktop.systemd1.Unit`, `….Service`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Unit {
    /// Its full name: `nginx.service`.
    pub name: String,
    /// `Description=`.
    pub description: String,
    /// `simple`, `forking`, `oneshot`, `notify` …; none where the unit is no service.
    pub kind: Option<String>,
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load_state: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub active_state: String,
    /// The state in the words of the unit's type: `running`, `exited`, `dead`, `auto-restart`.
    pub sub_state: String,
    /// `enabled`, `disabled`, `static`, `masked`, `generated` …; none where there is no unit file.
    pub unit_file_state: Option<String>,
    /// How it ended, or ends: `success`, `exit-code`, `signal`, `core-dump`, `timeout`, `oom-kill`, `watchdog`,
    /// `start-limit-hit` …; none where the unit is no service.
    pub result: Option<String>,
    /// When the state was last changed, in milliseconds since 1970; none where it never was.
    pub since_ms: Option<u64>,
    /// When it last became active, in milliseconds since 1970; none where it never did.
    pub active_since_ms: Option<u64>,
    /// Its main process; none where it has none.
    pub main_pid: Option<u32>,
    /// How its main process ended the last time; none where it has not.
    pub exit: Option<Exit>,
    /// Automatic restarts since the last start by hand (systemd sets it to zero then, and at `reset-failed`); none
    /// before systemd 235.
    pub n_restarts: Option<u32>,
    /// Restarts that the agent has seen since its own start, whoever made them.
    pub restarts_seen: u64,
    /// What its processes use; none where it has no control group now.
    pub usage: Option<Usage>,
}

/// How a process ended.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Exit {
    /// `exited`, `killed` or `dumped` (killed, with a core dump).
    pub how: String,
    /// The exit status; none where it was killed.
    pub status: Option<i32>,
    /// The signal that killed it; none where it exited.
    pub signal: Option<i32>,
    /// When, in milliseconds since 1970.
    pub at_ms: Option<u64>,
}

/// What the processes of a control group use (kernel: `cgroup-v2.rst`, `cgroup-v1/`). Each figure is none where the
/// kernel does not count it for this group.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Usage {
    /// Memory, page cache included (`memory.current`).
    pub memory_bytes: Option<u64>,
    /// The most memory it ever used (`memory.peak`, since Linux 5.19).
    pub memory_peak_bytes: Option<u64>,
    /// The limit of its memory; none without a limit.
    pub memory_max_bytes: Option<u64>,
    /// Swap (`memory.swap.current`).
    pub swap_bytes: Option<u64>,
    /// Processor time in microseconds; its rate is microseconds per second.
    pub cpu_us: Option<Counter>,
    /// Processor time over the last interval, in percent of one processor.
    pub cpu_percent: Option<f64>,
    /// Time in which its quota held it back, in microseconds (`throttled_usec`).
    pub cpu_throttled_us: Option<Counter>,
    /// Processes and threads (`pids.current`).
    pub tasks: Option<u64>,
    /// The limit of these; none without a limit.
    pub tasks_max: Option<u64>,
    /// Read from block devices.
    pub read_bytes: Option<Counter>,
    /// Written to block devices.
    pub written_bytes: Option<Counter>,
    /// Processes.
    pub processes: Option<u64>,
    /// Sockets that its processes hold open; none where the agent may not look, or where they hold more files than can
    /// be looked through.
    pub sockets: Option<u64>,
}
