//! The snapshot of the host itself: processor, memory, storage, network, processes.
//!
//! Every part is optional, since a kernel may lack it, the operator may have left it out, or reading it may have
//! failed; only in the last case [`HostSnapshot::errors`] says so.

mod compute;
mod network;
mod storage;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compute::{
    Cpu, CpuPercent, CpuSeconds, CpuUse, Load, Memory, Pressure, Processes, Stall, Stalls, Uptime,
};
pub use network::{
    Conntrack, Files, Interface, Network, Sockets, Softnet, SoftnetCpu, TcpCounters, UdpCounters,
};
pub use storage::{Disk, Disks, Filesystem, Filesystems};

/// What one run of the `host` collector saw.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct HostSnapshot {
    /// When the run began, in milliseconds since 1970 by the host's own clock.
    pub at_ms: u64,
    /// Random id of this boot (`/proc/sys/kernel/random/boot_id`); every counter begins anew when it changes.
    pub boot_id: String,
    /// Milliseconds since the snapshot before, by the monotonic clock; none for the first one. A part that failed
    /// in the run before has its rates over a longer time than this.
    pub interval_ms: Option<u64>,
    /// Processor time per mode and core (`/proc/stat`).
    pub cpu: Option<Cpu>,
    /// Memory and swap (`/proc/meminfo`, `/proc/vmstat`).
    pub memory: Option<Memory>,
    /// Load averages (`/proc/loadavg`).
    pub load: Option<Load>,
    /// Pressure stall information (`/proc/pressure/*`); none before kernel 4.20 or with `psi=0`.
    pub pressure: Option<Pressure>,
    /// Block devices (`/proc/diskstats`).
    pub disks: Option<Disks>,
    /// Mounted filesystems (`/proc/1/mountinfo`, `statvfs(3)`).
    pub filesystems: Option<Filesystems>,
    /// Network interfaces (`/proc/net/dev`, `/sys/class/net`).
    pub network: Option<Network>,
    /// Sockets, TCP and UDP counters, open files (`/proc/net/{sockstat,sockstat6,snmp,snmp6,netstat}`,
    /// `/proc/sys/fs/file-nr`).
    pub sockets: Option<Sockets>,
    /// Connection tracking table (`/proc/sys/net/netfilter`); none where it is not loaded.
    pub conntrack: Option<Conntrack>,
    /// Packets handed to the network stack, per core (`/proc/net/softnet_stat`).
    pub softnet: Option<Softnet>,
    /// Time since boot (`/proc/uptime`).
    pub uptime: Option<Uptime>,
    /// Processes by state (`/proc/<pid>/stat`).
    pub processes: Option<Processes>,
    /// What could not be read or understood in this run; everything else is as good as without it.
    pub errors: Vec<PartError>,
}

/// Why a part, or a piece of it, is missing from a snapshot.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct PartError {
    /// Name of the part, as in the collector's configuration: `disks`.
    pub part: String,
    /// What was tried, on what, and why it failed.
    pub error: String,
}

/// A count that only grows until it wraps or begins anew, and its speed over the last interval.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Counter {
    /// The exact count as the kernel gives it, in the unit of the field's name.
    pub total: u64,
    /// Growth per second since the sample before, rounded to a thousandth; none in the first sample, and when the
    /// count was found to have begun anew.
    pub per_s: Option<f64>,
}
