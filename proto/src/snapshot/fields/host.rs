//! The figures of the host's snapshot.

use super::Fold::{Max, Mean, Min, Sum};
use super::Unit::{
    BitsPerSecond, Bytes, Microseconds, Milliseconds, MomentSeconds, One, Percent, Seconds,
};
use super::{Declared, Field, Label, Table, amount, counter, gauge, label, share, state};

pub(super) static DECLARED: Declared = Declared {
    collector: "host",
    tables: TABLES,
    left_out: &[
        ("at_ms", "when it was taken"),
        ("interval_ms", "over what time its rates are"),
        (
            "cpu.total.core",
            "the total is of no core, and it is none there",
        ),
        ("cpu.cores[].core", "a label"),
        (
            "load.threads",
            "the same as processes.threads, which is counted",
        ),
        ("disks.devices[].major", "a name in numbers"),
        ("disks.devices[].minor", "a name in numbers"),
        ("disks.devices[].stacked", "a label"),
        ("network.interfaces[].index", "a name in numbers"),
        ("softnet.cpus[].core", "a label"),
    ],
};

static CORE: &[Label] = &[label("core", "core")];

static CPU_SECONDS: &[Field] = &[
    counter("user_s", Seconds, "Time in user mode, without guests"),
    counter("nice_s", Seconds, "Time of niced processes, without guests"),
    counter("system_s", Seconds, "Time in the kernel"),
    counter("idle_s", Seconds, "Time with nothing to do"),
    counter("iowait_s", Seconds, "Idle time while I/O was outstanding"),
    counter("irq_s", Seconds, "Time in hardware interrupts"),
    counter("softirq_s", Seconds, "Time in soft interrupts"),
    counter("steal_s", Seconds, "Time that the hypervisor took"),
    counter("guest_s", Seconds, "Time in guests"),
    counter("guest_nice_s", Seconds, "Time in niced guests"),
];

static CPU_PERCENT: &[Field] = &[
    share("busy_percent", "Share of all but idle and iowait"),
    share("user_percent", "Share in user mode"),
    share("nice_percent", "Share of niced processes"),
    share("system_percent", "Share in the kernel"),
    share("idle_percent", "Share with nothing to do"),
    share("iowait_percent", "Share idle while I/O was outstanding"),
    share("irq_percent", "Share in hardware interrupts"),
    share("softirq_percent", "Share in soft interrupts"),
    share("steal_percent", "Share that the hypervisor took"),
    share("guest_percent", "Share in guests"),
    share("guest_nice_percent", "Share in niced guests"),
];

static STALL: &[Field] = &[
    share("avg10_percent", "Stalled share of the last ten seconds"),
    share("avg60_percent", "Stalled share of the last minute"),
    share("avg300_percent", "Stalled share of the last five minutes"),
    counter("total_us", Microseconds, "Stalled time since boot"),
    share("interval_percent", "Stalled share of the last interval"),
];

static SOFTNET: &[Field] = &[
    counter("processed", One, "Packets handed to the network stack"),
    counter("dropped", One, "Packets dropped since a backlog was full"),
    counter("squeezed", One, "Times that a core stopped with work left"),
];

static UDP: &[Field] = &[
    counter("datagrams_in", One, "Datagrams received"),
    counter("datagrams_out", One, "Datagrams sent"),
    counter("no_ports", One, "Datagrams for a port without a listener"),
    counter("in_errors", One, "Datagrams received and not delivered"),
    counter(
        "receive_buffer_errors",
        One,
        "Datagrams dropped since a receive buffer was full",
    ),
    counter(
        "send_buffer_errors",
        One,
        "Datagrams dropped since a send buffer was full",
    ),
];

const fn plain(name: &'static str, under: &'static str, fields: &'static [Field]) -> Table {
    let labels = &[];
    Table {
        name,
        under,
        labels,
        fields,
    }
}

static TABLES: &[Table] = &[
    plain("cpu", "cpu.total.since_boot", CPU_SECONDS),
    plain("cpu", "cpu.total.interval", CPU_PERCENT),
    plain(
        "cpu",
        "cpu",
        &[
            amount(
                "clamped",
                One,
                "Processor times that went backwards in the interval",
            ),
            counter("context_switches", One, "Context switches"),
            counter("interrupts", One, "Interrupts serviced"),
            counter("soft_interrupts", One, "Soft interrupts serviced"),
            counter("forks", One, "Processes and threads created"),
            amount("running", One, "Threads that run or wait for a core"),
            amount("blocked", One, "Threads blocked on I/O"),
        ],
    ),
    Table {
        name: "core",
        under: "cpu.cores[].since_boot",
        labels: CORE,
        fields: CPU_SECONDS,
    },
    Table {
        name: "core",
        under: "cpu.cores[].interval",
        labels: CORE,
        fields: CPU_PERCENT,
    },
    plain("memory", "memory", MEMORY),
    plain(
        "load",
        "load",
        &[
            gauge("load1", One, Mean, "Load average over one minute"),
            gauge("load5", One, Mean, "Load average over five minutes"),
            gauge("load15", One, Mean, "Load average over fifteen minutes"),
            amount("runnable", One, "Threads that can run now"),
        ],
    ),
    plain("pressure_cpu_some", "pressure.cpu.some", STALL),
    plain("pressure_cpu_full", "pressure.cpu.full", STALL),
    plain("pressure_memory_some", "pressure.memory.some", STALL),
    plain("pressure_memory_full", "pressure.memory.full", STALL),
    plain("pressure_io_some", "pressure.io.some", STALL),
    plain("pressure_io_full", "pressure.io.full", STALL),
    plain("pressure_irq_some", "pressure.irq.some", STALL),
    plain("pressure_irq_full", "pressure.irq.full", STALL),
    Table {
        name: "disk",
        under: "disks.devices[]",
        labels: &[label("device", "name"), label("stacked", "stacked")],
        fields: DISK,
    },
    plain(
        "disks",
        "disks",
        &[amount("skipped", One, "Block devices left out")],
    ),
    Table {
        name: "filesystem",
        under: "filesystems.mounts[]",
        labels: &[
            label("mount_point", "mount_point"),
            label("source", "source"),
            label("fs_type", "fs_type"),
        ],
        fields: FILESYSTEM,
    },
    plain(
        "filesystems",
        "filesystems",
        &[amount("skipped", One, "Mounts left out")],
    ),
    Table {
        name: "interface",
        under: "network.interfaces[]",
        labels: &[label("interface", "name")],
        fields: INTERFACE,
    },
    plain(
        "network",
        "network",
        &[amount("skipped", One, "Interfaces left out")],
    ),
    plain("sockets", "sockets", SOCKETS),
    plain("tcp", "sockets.tcp", TCP),
    plain("udp", "sockets.udp", UDP),
    plain("udp6", "sockets.udp6", UDP),
    plain(
        "files",
        "sockets.files",
        &[
            amount("open", One, "File handles in use"),
            amount("open_max", One, "File handles that the kernel gives out"),
        ],
    ),
    plain(
        "conntrack",
        "conntrack",
        &[
            amount("entries", One, "Connections in the tracking table"),
            amount("entries_max", One, "Connections that the table holds"),
            share("used_percent", "Used share of the tracking table"),
            counter("drops", One, "Packets dropped since the table was full"),
            counter("early_drops", One, "Entries thrown out to make room"),
            counter("insert_failures", One, "Entries that could not be put in"),
        ],
    ),
    plain("softnet", "softnet", SOFTNET),
    Table {
        name: "softnet_core",
        under: "softnet.cpus[]",
        labels: CORE,
        fields: SOFTNET,
    },
    plain(
        "uptime",
        "uptime",
        &[
            gauge("uptime_s", Seconds, Min, "Time since boot"),
            counter("idle_s", Seconds, "Idle time of all cores"),
            gauge("boot_time_s", MomentSeconds, Max, "When the host booted"),
        ],
    ),
    plain(
        "processes",
        "processes",
        &[
            amount("total", One, "Processes"),
            amount("threads", One, "Threads"),
            amount("running", One, "Processes that run or wait for a core"),
            amount("sleeping", One, "Processes that wait for an event"),
            amount("disk_sleep", One, "Processes in uninterruptible sleep"),
            amount("zombie", One, "Ended processes that nobody has asked after"),
            amount("stopped", One, "Processes stopped by a signal"),
            amount("traced", One, "Processes stopped by a debugger"),
            amount("idle", One, "Idle kernel threads"),
            amount("other", One, "Processes in any other state"),
        ],
    ),
];

static MEMORY: &[Field] = &[
    amount("total_bytes", Bytes, "Usable memory"),
    amount("free_bytes", Bytes, "Memory not used for anything"),
    amount(
        "available_bytes",
        Bytes,
        "Memory that new programs can have",
    ),
    state(
        "available_estimated",
        "Whether the available memory is an estimate",
    ),
    share("used_percent", "Share of memory that is not available"),
    amount("buffers_bytes", Bytes, "Buffers of block devices"),
    amount("cached_bytes", Bytes, "Page cache"),
    amount("shared_bytes", Bytes, "Shared memory and tmpfs"),
    amount("anonymous_bytes", Bytes, "Memory that no file backs"),
    amount("slab_bytes", Bytes, "The kernel's caches of objects"),
    amount("slab_reclaimable_bytes", Bytes, "Slab that can be had back"),
    amount("slab_unreclaimable_bytes", Bytes, "Slab that can't be had"),
    amount("page_tables_bytes", Bytes, "Page tables"),
    amount("kernel_stack_bytes", Bytes, "Kernel stacks"),
    amount("dirty_bytes", Bytes, "Waiting to be written to disk"),
    amount("writeback_bytes", Bytes, "Being written to disk"),
    amount("committed_bytes", Bytes, "Memory promised to processes"),
    amount("commit_limit_bytes", Bytes, "Limit to those promises"),
    amount("swap_total_bytes", Bytes, "Swap space"),
    amount("swap_free_bytes", Bytes, "Swap space not used"),
    amount("swap_cached_bytes", Bytes, "Memory in swap and in memory"),
    amount("hugepages_total", One, "Huge pages in the pool"),
    amount("hugepages_free", One, "Free huge pages in the pool"),
    amount("hugepages_reserved", One, "Huge pages promised"),
    gauge("hugepage_size_bytes", Bytes, Max, "Size of a huge page"),
    counter("oom_kills", One, "Processes killed for want of memory"),
    counter("swap_in_bytes", Bytes, "Bytes read from swap"),
    counter("swap_out_bytes", Bytes, "Bytes written to swap"),
    counter("major_faults", One, "Page faults that needed I/O"),
];

static DISK: &[Field] = &[
    counter("reads", One, "Reads completed"),
    counter("reads_merged", One, "Reads merged into another"),
    counter("read_bytes", Bytes, "Bytes read"),
    counter("read_ms", Milliseconds, "Time spent by all reads"),
    counter("writes", One, "Writes completed"),
    counter("writes_merged", One, "Writes merged into another"),
    counter("written_bytes", Bytes, "Bytes written"),
    counter("write_ms", Milliseconds, "Time spent by all writes"),
    counter("discards", One, "Discards completed"),
    counter("discarded_bytes", Bytes, "Bytes discarded"),
    counter("flushes", One, "Flushes completed"),
    amount("in_flight", One, "Requests under way"),
    counter("io_ms", Milliseconds, "Time with any request under way"),
    counter(
        "io_weighted_ms",
        Milliseconds,
        "Time times requests under way",
    ),
    share(
        "utilisation_percent",
        "Share of the interval with any request under way",
    ),
    gauge("read_wait_ms", Milliseconds, Mean, "Mean time of a read"),
    gauge("write_wait_ms", Milliseconds, Mean, "Mean time of a write"),
    gauge("queue_length", One, Mean, "Mean number of requests"),
    counter("resets", One, "Times that the counters began anew"),
];

static FILESYSTEM: &[Field] = &[
    state("read_only", "Whether it is mounted read-only"),
    amount("size_bytes", Bytes, "Size"),
    amount("free_bytes", Bytes, "Space not used, root's included"),
    amount("available_bytes", Bytes, "Space for ordinary users"),
    gauge("used_percent", Percent, Max, "Used share, as df shows it"),
    amount("inodes", One, "Inodes"),
    amount("inodes_free", One, "Inodes not used"),
    gauge("inodes_used_percent", Percent, Max, "Used share of inodes"),
];

static INTERFACE: &[Field] = &[
    state("operstate", "Operational state"),
    gauge("speed_bits_per_s", BitsPerSecond, Sum, "Link speed"),
    gauge("mtu_bytes", Bytes, Min, "Largest packet"),
    counter("carrier_changes", One, "Times that the link came or went"),
    counter("rx_bytes", Bytes, "Bytes received"),
    counter("rx_packets", One, "Packets received"),
    counter("rx_errors", One, "Packets received in error"),
    counter("rx_dropped", One, "Packets received and dropped"),
    counter("rx_fifo", One, "Receive buffer overruns"),
    counter("rx_frame", One, "Framing errors on receipt"),
    counter("rx_multicast", One, "Multicast packets received"),
    counter("tx_bytes", Bytes, "Bytes sent"),
    counter("tx_packets", One, "Packets sent"),
    counter("tx_errors", One, "Packets that could not be sent"),
    counter("tx_dropped", One, "Packets dropped on the way out"),
    counter("tx_fifo", One, "Send buffer overruns"),
    counter("tx_collisions", One, "Collisions"),
    counter("tx_carrier", One, "Packets not sent for want of a link"),
    counter("resets", One, "Times that the counters began anew"),
];

static SOCKETS: &[Field] = &[
    amount("used", One, "Sockets of all kinds"),
    amount("tcp_in_use", One, "TCP sockets over IPv4"),
    amount("tcp6_in_use", One, "TCP sockets over IPv6"),
    amount("tcp_orphan", One, "TCP sockets that no process holds"),
    amount("tcp_time_wait", One, "TCP connections in TIME-WAIT"),
    amount("tcp_allocated", One, "TCP sockets in any state"),
    amount("tcp_memory_bytes", Bytes, "Buffers of TCP sockets"),
    amount("udp_in_use", One, "UDP sockets over IPv4"),
    amount("udp6_in_use", One, "UDP sockets over IPv6"),
    amount("udp_memory_bytes", Bytes, "Buffers of UDP sockets"),
    amount("raw_in_use", One, "Raw sockets over IPv4"),
    amount("fragments_memory_bytes", Bytes, "Memory of fragments"),
];

static TCP: &[Field] = &[
    amount("established", One, "Connections established now"),
    counter("active_opens", One, "Connections opened by this host"),
    counter("passive_opens", One, "Connections opened by others"),
    counter("attempt_failures", One, "Attempts that failed"),
    counter("established_resets", One, "Connections that were reset"),
    counter("segments_in", One, "Segments received"),
    counter("segments_out", One, "Segments sent"),
    counter("segments_retransmitted", One, "Segments sent again"),
    counter("segments_in_errors", One, "Segments received in error"),
    counter("resets_out", One, "Resets sent"),
    counter("listen_overflows", One, "Accept queue overflows"),
    counter("listen_drops", One, "Connections dropped at a listener"),
    counter("timeouts", One, "Retransmission timers that ran out"),
    counter("syn_retransmitted", One, "SYNs sent again"),
    counter("syncookies_sent", One, "SYN cookies sent"),
    counter("syn_queue_drops", One, "SYNs dropped, their queue full"),
    counter("backlog_drops", One, "Segments dropped, a backlog full"),
    counter("memory_aborts", One, "Connections aborted without memory"),
    counter("time_wait_overflows", One, "TIME-WAITs that were too many"),
];
