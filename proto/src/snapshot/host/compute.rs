//! Parts of the host snapshot about computing: processor, memory, load, pressure, uptime, processes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Counter;

/// Processor time (`/proc/stat`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Cpu {
    /// All cores together (line `cpu`).
    pub total: CpuUse,
    /// One entry for each core that is online (lines `cpuN`).
    pub cores: Vec<CpuUse>,
    /// How many mode counters went backwards since the sample before, all lines together. `iowait` and `idle` do so
    /// now and then; such a mode counts as zero for the interval, the others as they are.
    pub clamped: u32,
    /// Context switches (line `ctxt`).
    pub context_switches: Option<Counter>,
    /// Interrupts serviced (first figure of line `intr`).
    pub interrupts: Option<Counter>,
    /// Soft interrupts serviced (first figure of line `softirq`).
    pub soft_interrupts: Option<Counter>,
    /// Processes and threads created (line `processes`).
    pub forks: Option<Counter>,
    /// Threads that run or wait for a core (line `procs_running`).
    pub running: Option<u64>,
    /// Threads blocked on I/O (line `procs_blocked`).
    pub blocked: Option<u64>,
}

/// Use of one core, or of all together.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct CpuUse {
    /// Number of the core as the kernel counts, with gaps for cores that are offline; none for the total.
    pub core: Option<u32>,
    /// Seconds spent in each mode since boot.
    pub since_boot: CpuSeconds,
    /// Share of each mode in the interval since the sample before; none in the first sample, or when no time was
    /// accounted.
    pub interval: Option<CpuPercent>,
}

/// Seconds in each mode since boot; all cores added up in the total. Source: `/proc/stat`, divided by `USER_HZ`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct CpuSeconds {
    /// User mode, without what is in `guest_s` (the kernel counts guests in both).
    pub user_s: f64,
    /// User mode of niced processes, without what is in `guest_nice_s`.
    pub nice_s: f64,
    /// Kernel mode.
    pub system_s: f64,
    /// Nothing to do.
    pub idle_s: f64,
    /// Nothing to do while I/O was outstanding; an estimate of the kernel's that may go backwards.
    pub iowait_s: f64,
    /// Hardware interrupts.
    pub irq_s: f64,
    /// Soft interrupts.
    pub softirq_s: f64,
    /// Taken by the hypervisor for others.
    pub steal_s: f64,
    /// Running a guest.
    pub guest_s: f64,
    /// Running a niced guest.
    pub guest_nice_s: f64,
}

/// Shares of the modes in an interval, in percent of the time accounted (100 = the whole core, or all cores). The
/// ten modes add up to 100. Source: differences of [`CpuSeconds`].
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct CpuPercent {
    /// Everything but `idle_percent` and `iowait_percent`.
    pub busy_percent: f64,
    /// User mode, without guests.
    pub user_percent: f64,
    /// User mode of niced processes, without guests.
    pub nice_percent: f64,
    /// Kernel mode.
    pub system_percent: f64,
    /// Nothing to do.
    pub idle_percent: f64,
    /// Nothing to do while I/O was outstanding.
    pub iowait_percent: f64,
    /// Hardware interrupts.
    pub irq_percent: f64,
    /// Soft interrupts.
    pub softirq_percent: f64,
    /// Taken by the hypervisor for others.
    pub steal_percent: f64,
    /// Running a guest.
    pub guest_percent: f64,
    /// Running a niced guest.
    pub guest_nice_percent: f64,
}

/// Memory and swap. Source: `/proc/meminfo` (its kB are KiB) unless the field says otherwise.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Memory {
    /// Usable memory (`MemTotal`).
    pub total_bytes: u64,
    /// Not used for anything (`MemFree`).
    pub free_bytes: u64,
    /// What new programs can have without swapping (`MemAvailable`, since kernel 3.14; see `available_estimated`).
    pub available_bytes: u64,
    /// True where the kernel has no `MemAvailable` and `available_bytes` is free + buffers + page cache +
    /// reclaimable slab - shared memory.
    pub available_estimated: bool,
    /// Share of the total that is not available, in percent.
    pub used_percent: f64,
    /// Buffers of block devices (`Buffers`).
    pub buffers_bytes: u64,
    /// Page cache, with shared memory and tmpfs (`Cached`).
    pub cached_bytes: u64,
    /// Shared memory and tmpfs (`Shmem`).
    pub shared_bytes: Option<u64>,
    /// Memory of processes that no file backs (`AnonPages`).
    pub anonymous_bytes: Option<u64>,
    /// The kernel's own caches of objects (`Slab`).
    pub slab_bytes: Option<u64>,
    /// What of the slab can be taken back (`SReclaimable`).
    pub slab_reclaimable_bytes: Option<u64>,
    /// What of the slab cannot be taken back (`SUnreclaim`).
    pub slab_unreclaimable_bytes: Option<u64>,
    /// Page tables (`PageTables`).
    pub page_tables_bytes: Option<u64>,
    /// Kernel stacks (`KernelStack`).
    pub kernel_stack_bytes: Option<u64>,
    /// Waiting to be written to disk (`Dirty`).
    pub dirty_bytes: Option<u64>,
    /// Being written to disk (`Writeback`).
    pub writeback_bytes: Option<u64>,
    /// Memory promised to processes (`Committed_AS`).
    pub committed_bytes: Option<u64>,
    /// Limit to those promises where overcommit is off (`CommitLimit`).
    pub commit_limit_bytes: Option<u64>,
    /// Swap space (`SwapTotal`).
    pub swap_total_bytes: u64,
    /// Swap space not used (`SwapFree`).
    pub swap_free_bytes: u64,
    /// Memory that is in swap and in memory as well (`SwapCached`).
    pub swap_cached_bytes: Option<u64>,
    /// Huge pages in the pool, a number of pages (`HugePages_Total`).
    pub hugepages_total: Option<u64>,
    /// Huge pages of the pool that are free, a number of pages (`HugePages_Free`).
    pub hugepages_free: Option<u64>,
    /// Huge pages promised and not yet taken, a number of pages (`HugePages_Rsvd`).
    pub hugepages_reserved: Option<u64>,
    /// Size of one huge page (`Hugepagesize`).
    pub hugepage_size_bytes: Option<u64>,
    /// Processes killed for want of memory (`oom_kill` of `/proc/vmstat`, since kernel 4.13).
    pub oom_kills: Option<Counter>,
    /// Bytes read from swap (`pswpin` of `/proc/vmstat`, times the page size).
    pub swap_in_bytes: Option<Counter>,
    /// Bytes written to swap (`pswpout` of `/proc/vmstat`, times the page size).
    pub swap_out_bytes: Option<Counter>,
    /// Page faults that needed I/O (`pgmajfault` of `/proc/vmstat`).
    pub major_faults: Option<Counter>,
}

/// Load averages. Source: `/proc/loadavg`. Threads that run, wait for a core or wait uninterruptibly; to be compared
/// with the number of cores, not a percentage.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Load {
    /// Average over one minute, a number of threads.
    pub load1: f64,
    /// Average over five minutes, a number of threads.
    pub load5: f64,
    /// Average over fifteen minutes, a number of threads.
    pub load15: f64,
    /// Threads that can run now.
    pub runnable: u32,
    /// Threads that exist now.
    pub threads: u32,
}

/// Pressure stall information. Source: `/proc/pressure/*` (kernel 4.20 and later).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Pressure {
    /// Waiting for a core (`cpu`).
    pub cpu: Option<Stalls>,
    /// Waiting for memory (`memory`).
    pub memory: Option<Stalls>,
    /// Waiting for I/O (`io`).
    pub io: Option<Stalls>,
    /// Held up by interrupts (`irq`, kernel 6.1 and later, only `full`).
    pub irq: Option<Stalls>,
}

/// Stalls for want of one resource.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Stalls {
    /// At least one thread was stalled (line `some`).
    pub some: Option<Stall>,
    /// All threads with work were stalled at once (line `full`; for `cpu` since kernel 5.13).
    pub full: Option<Stall>,
}

/// How long threads were stalled.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Stall {
    /// Share of the last ten seconds, in percent, as the kernel averages it.
    pub avg10_percent: f64,
    /// Share of the last minute, in percent.
    pub avg60_percent: f64,
    /// Share of the last five minutes, in percent.
    pub avg300_percent: f64,
    /// Stalled time since boot, in microseconds.
    pub total_us: u64,
    /// Share of the interval since the sample before, in percent, from `total_us`; none in the first sample.
    pub interval_percent: Option<f64>,
}

/// Time since boot. Source: `/proc/uptime`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Uptime {
    /// Seconds since boot, suspended time included.
    pub uptime_s: f64,
    /// Seconds that the cores were idle, added up over the cores.
    pub idle_s: f64,
    /// When the host booted, in seconds since 1970: the host's clock now, less `uptime_s`. Moves when the clock is
    /// set, and by no less than two seconds.
    pub boot_time_s: u64,
}

/// Processes by state. Source: the state letter of `/proc/<pid>/stat`; kernel threads are counted too.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Processes {
    /// Processes seen; the states below add up to it.
    pub total: u32,
    /// Threads of all of them.
    pub threads: u64,
    /// Running or waiting for a core (`R`).
    pub running: u32,
    /// Waiting for an event (`S`).
    pub sleeping: u32,
    /// Waiting for an event and not to be interrupted, mostly disks (`D`).
    pub disk_sleep: u32,
    /// Ended, and the parent has not asked how (`Z`).
    pub zombie: u32,
    /// Stopped by a signal (`T`).
    pub stopped: u32,
    /// Stopped by a debugger (`t`).
    pub traced: u32,
    /// Idle kernel threads (`I`, since kernel 4.14).
    pub idle: u32,
    /// Any other state: being removed (`X`), parked (`P`) and those of old kernels.
    pub other: u32,
}
