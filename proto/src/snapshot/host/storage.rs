//! Parts of the host snapshot about storage: block devices and mounted filesystems.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Counter;

/// Block devices. Source: `/proc/diskstats`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Disks {
    /// Whole devices, in the kernel's order; partitions only where the configuration asks for them.
    pub devices: Vec<Disk>,
    /// Lines left out: partitions, devices that the configuration excludes (loop, ram …), and those beyond the
    /// bound.
    pub skipped: u32,
}

/// One block device.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Disk {
    /// Name of the device: `sda`, `nvme0n1`, `dm-0`.
    pub name: String,
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// True for a device made of others (device mapper, md, bcache, drbd), told by its name: its traffic is counted
    /// at those as well, so leave it out of sums.
    pub stacked: bool,
    /// Reads completed.
    pub reads: Counter,
    /// Reads merged into another before they reached the device.
    pub reads_merged: Counter,
    /// Bytes read (sectors of 512 bytes, whatever the device's own sector).
    pub read_bytes: Counter,
    /// Milliseconds spent by all reads together; 32 bits wide in the kernel, wraps after 49 days of it.
    pub read_ms: u64,
    /// Writes completed.
    pub writes: Counter,
    /// Writes merged into another before they reached the device.
    pub writes_merged: Counter,
    /// Bytes written.
    pub written_bytes: Counter,
    /// Milliseconds spent by all writes together; wraps like `read_ms`.
    pub write_ms: u64,
    /// Discards completed (kernel 4.18 and later).
    pub discards: Option<Counter>,
    /// Bytes discarded (kernel 4.18 and later).
    pub discarded_bytes: Option<Counter>,
    /// Flushes completed (kernel 5.5 and later).
    pub flushes: Option<Counter>,
    /// Requests under way now.
    pub in_flight: u64,
    /// Milliseconds in which any request was under way; wraps like `read_ms`.
    pub io_ms: u64,
    /// Milliseconds times requests under way; wraps like `read_ms`.
    pub io_weighted_ms: u64,
    /// Share of the interval in which any request was under way, in percent, at most 100. A device that serves many
    /// requests at once can do more at 100.
    pub utilisation_percent: Option<f64>,
    /// Mean time of a read that ended in the interval, queueing included, in milliseconds; none without one.
    pub read_wait_ms: Option<f64>,
    /// Mean time of a write that ended in the interval, queueing included, in milliseconds; none without one.
    pub write_wait_ms: Option<f64>,
    /// Mean number of requests under way in the interval.
    pub queue_length: Option<f64>,
    /// How often the agent, since it started, saw this device's counters begin anew (device replaced).
    pub resets: u32,
}

/// Mounted filesystems. Source: `/proc/1/mountinfo` and `statvfs(3)`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Filesystems {
    /// Filesystems with a size, each once however often it is mounted.
    pub mounts: Vec<Filesystem>,
    /// Mounts left out: pseudo and excluded filesystems, further mounts of the same one, and those beyond the
    /// bound.
    pub skipped: u32,
    /// Mount points that do not answer (a dead file server); they are asked again once the call has come back.
    pub hung: Vec<String>,
}

/// One mounted filesystem.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Filesystem {
    /// Where it is mounted: `/var`. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub mount_point: String,
    /// What is mounted: `/dev/vda1`, `server:/export`.
    pub source: String,
    /// Type: `ext4`, `xfs`, `nfs4`.
    pub fs_type: String,
    /// Mounted read-only, or turned so by the kernel after an error.
    pub read_only: bool,
    /// Size.
    pub size_bytes: u64,
    /// Not used, what is reserved for root included.
    pub free_bytes: u64,
    /// Not used, for ordinary users.
    pub available_bytes: u64,
    /// Used share of what ordinary users can have (used / (used + available), as `df` shows), in percent.
    pub used_percent: f64,
    /// Inodes; 0 where the filesystem makes them as needed (btrfs, vfat).
    pub inodes: u64,
    /// Inodes not used.
    pub inodes_free: u64,
    /// Used share of the inodes, in percent; none where there is no fixed number.
    pub inodes_used_percent: Option<f64>,
}
