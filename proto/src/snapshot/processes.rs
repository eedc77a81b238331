//! The snapshot of watched processes, found by name, command line or pidfile: for programs that no service manager
//! looks after.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::Counter;

/// What one run of the `processes` collector saw.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct ProcessesSnapshot {
    /// When the run began, in milliseconds since 1970 by the host's own clock.
    pub at_ms: u64,
    /// Milliseconds since the snapshot before, by the monotonic clock; none for the first one.
    pub interval_ms: Option<u64>,
    /// Watches without a process.
    pub down: u64,
    /// Every watch of the configuration, in its order.
    pub watches: Vec<Watch>,
    /// What could not be read in this run; everything else is as good as without it.
    pub errors: Vec<String>,
}

/// One watch and the processes that it found.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Watch {
    /// Its name in the configuration.
    pub name: String,
    /// Whether it has a process.
    pub up: bool,
    /// Processes that match.
    pub count: u64,
    /// Times that the agent saw it come back, or its main process replaced, since its own start.
    pub restarts_seen: u64,
    /// Its main process: that of the pidfile, else the oldest; none where it is down.
    pub main: Option<Process>,
    /// Memory of all its processes; what they share is counted for each.
    pub rss_bytes: u64,
    /// Processor time of all its processes over the last interval, in percent of one processor; none in the first
    /// sample.
    pub cpu_percent: Option<f64>,
    /// Threads of all its processes.
    pub threads: u64,
    /// Open files of all its processes; none where the agent may not look.
    pub open_files: Option<u64>,
    /// What is wrong with it where it is not just down: a pidfile that names a process which is gone.
    pub note: Option<String>,
}

/// One process (`/proc/<pid>/stat`, `proc_pid_stat(5)`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name, as the kernel has it: 15 bytes at the most.
    pub name: String,
    /// `R`, `S`, `D`, `Z`, `T` …
    pub state: String,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it has been running, in seconds.
    pub age_s: u64,
    /// Its parent.
    pub parent_pid: u32,
    /// Memory in core.
    pub rss_bytes: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open files; none where the agent may not look.
    pub open_files: Option<u64>,
    /// How many files it may open; none where the agent may not look, or without a limit.
    pub open_files_max: Option<u64>,
    /// Processor time in milliseconds; its rate is milliseconds per second.
    pub cpu_ms: Counter,
}
