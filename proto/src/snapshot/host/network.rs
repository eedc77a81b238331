//! Parts of the host snapshot about the network: interfaces, sockets, connection tracking, packet backlog.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Counter;

/// Network interfaces. Source: `/proc/net/dev`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Network {
    /// Interfaces in the kernel's order.
    pub interfaces: Vec<Interface>,
    /// Interfaces left out: excluded by the configuration (veth …), and those beyond the bound.
    pub skipped: u32,
}

/// One network interface. Counters from `/proc/net/dev`, the rest from `/sys/class/net/<name>`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Interface {
    /// Name: `eth0`.
    pub name: String,
    /// Index; an interface that was removed and made again has a new one (`ifindex`).
    pub index: Option<u32>,
    /// Operational state: `up`, `down`, `lowerlayerdown`, `dormant`, `notpresent`, `testing`, or `unknown`, as for
    /// loopback and tunnels, which do not tell (`operstate`).
    pub operstate: Option<String>,
    /// Link speed in bits per second; none for virtual interfaces and those without a link (`speed`).
    pub speed_bits_per_s: Option<u64>,
    /// Largest packet, in bytes (`mtu`).
    pub mtu_bytes: Option<u64>,
    /// How often the link came or went (`carrier_changes`, kernel 3.15 and later).
    pub carrier_changes: Option<u64>,
    /// Bytes received.
    pub rx_bytes: Counter,
    /// Packets received.
    pub rx_packets: Counter,
    /// Packets received in error.
    pub rx_errors: Counter,
    /// Packets received and dropped.
    pub rx_dropped: Counter,
    /// Receive buffer overruns.
    pub rx_fifo: Counter,
    /// Framing errors on receipt.
    pub rx_frame: Counter,
    /// Multicast packets received.
    pub rx_multicast: Counter,
    /// Bytes sent.
    pub tx_bytes: Counter,
    /// Packets sent.
    pub tx_packets: Counter,
    /// Packets that could not be sent.
    pub tx_errors: Counter,
    /// Packets dropped on the way out.
    pub tx_dropped: Counter,
    /// Send buffer overruns.
    pub tx_fifo: Counter,
    /// Collisions.
    pub tx_collisions: Counter,
    /// Packets not sent for want of a link.
    pub tx_carrier: Counter,
    /// How often the agent, since it started, saw this interface's counters begin anew (driver reset, interface
    /// made again).
    pub resets: u32,
}

/// Sockets and the counters of their protocols, of the agent's network namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Sockets {
    /// Sockets of all kinds (`sockets: used` of `/proc/net/sockstat`).
    pub used: Option<u64>,
    /// TCP sockets over IPv4 in use, listening ones included (`TCP: inuse`).
    pub tcp_in_use: Option<u64>,
    /// TCP sockets over IPv6 in use (`TCP6: inuse` of `/proc/net/sockstat6`).
    pub tcp6_in_use: Option<u64>,
    /// TCP sockets that no process holds any more (`TCP: orphan`).
    pub tcp_orphan: Option<u64>,
    /// TCP connections in TIME-WAIT (`TCP: tw`).
    pub tcp_time_wait: Option<u64>,
    /// TCP sockets allocated, in any state (`TCP: alloc`).
    pub tcp_allocated: Option<u64>,
    /// Buffers of TCP sockets (`TCP: mem`, pages times the page size).
    pub tcp_memory_bytes: Option<u64>,
    /// UDP sockets over IPv4 in use (`UDP: inuse`).
    pub udp_in_use: Option<u64>,
    /// UDP sockets over IPv6 in use (`UDP6: inuse`).
    pub udp6_in_use: Option<u64>,
    /// Buffers of UDP sockets (`UDP: mem`, pages times the page size).
    pub udp_memory_bytes: Option<u64>,
    /// Raw sockets over IPv4 in use (`RAW: inuse`).
    pub raw_in_use: Option<u64>,
    /// Memory of IPv4 fragments that wait for the rest (`FRAG: memory`).
    pub fragments_memory_bytes: Option<u64>,
    /// TCP counters, IPv4 and IPv6 together.
    pub tcp: Option<TcpCounters>,
    /// UDP counters over IPv4 (`Udp:` of `/proc/net/snmp`).
    pub udp: Option<UdpCounters>,
    /// UDP counters over IPv6 (`/proc/net/snmp6`).
    pub udp6: Option<UdpCounters>,
    /// Open files of the whole host.
    pub files: Option<Files>,
}

/// TCP counters. Source: `Tcp:` of `/proc/net/snmp` and `TcpExt:` of `/proc/net/netstat`; a counter that the kernel
/// does not have is none.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct TcpCounters {
    /// Connections established or in CLOSE-WAIT now (`CurrEstab`).
    pub established: Option<u64>,
    /// Connections opened by this host (`ActiveOpens`).
    pub active_opens: Option<Counter>,
    /// Connections opened by others (`PassiveOpens`).
    pub passive_opens: Option<Counter>,
    /// Attempts that failed, in both directions (`AttemptFails`).
    pub attempt_failures: Option<Counter>,
    /// Established connections that were reset (`EstabResets`).
    pub established_resets: Option<Counter>,
    /// Segments received (`InSegs`).
    pub segments_in: Option<Counter>,
    /// Segments sent, without retransmissions (`OutSegs`).
    pub segments_out: Option<Counter>,
    /// Segments sent again (`RetransSegs`).
    pub segments_retransmitted: Option<Counter>,
    /// Segments received in error (`InErrs`).
    pub segments_in_errors: Option<Counter>,
    /// Resets sent (`OutRsts`).
    pub resets_out: Option<Counter>,
    /// Connections dropped since a listener's accept queue was full (`ListenOverflows`).
    pub listen_overflows: Option<Counter>,
    /// Connections dropped at a listener for any reason, overflows included (`ListenDrops`).
    pub listen_drops: Option<Counter>,
    /// Retransmission timers that ran out (`TCPTimeouts`).
    pub timeouts: Option<Counter>,
    /// SYNs sent again (`TCPSynRetrans`).
    pub syn_retransmitted: Option<Counter>,
    /// SYN cookies sent (`SyncookiesSent`).
    pub syncookies_sent: Option<Counter>,
    /// SYNs dropped since the queue of half-open connections was full (`TCPReqQFullDrop`).
    pub syn_queue_drops: Option<Counter>,
    /// Segments dropped since a busy socket's backlog was full (`TCPBacklogDrop`).
    pub backlog_drops: Option<Counter>,
    /// Connections aborted for want of memory (`TCPAbortOnMemory`).
    pub memory_aborts: Option<Counter>,
    /// TIME-WAIT connections dropped since there were too many (`TCPTimeWaitOverflow`).
    pub time_wait_overflows: Option<Counter>,
}

/// UDP counters of one IP version.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct UdpCounters {
    /// Datagrams received (`InDatagrams`).
    pub datagrams_in: Option<Counter>,
    /// Datagrams sent (`OutDatagrams`).
    pub datagrams_out: Option<Counter>,
    /// Datagrams for a port on which nobody listens (`NoPorts`).
    pub no_ports: Option<Counter>,
    /// Datagrams received and not delivered, full buffers included (`InErrors`).
    pub in_errors: Option<Counter>,
    /// Datagrams dropped since a receive buffer was full (`RcvbufErrors`).
    pub receive_buffer_errors: Option<Counter>,
    /// Datagrams dropped since a send buffer was full (`SndbufErrors`).
    pub send_buffer_errors: Option<Counter>,
}

/// Open files of the whole host. Source: `/proc/sys/fs/file-nr`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Files {
    /// File handles in use.
    pub open: u64,
    /// The most that the kernel gives out.
    pub open_max: u64,
}

/// Connection tracking table. Source: `/proc/sys/net/netfilter/nf_conntrack_{count,max}` (before kernel 2.6.20
/// `ip_conntrack_*`), `/proc/net/stat/nf_conntrack`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Conntrack {
    /// Connections in the table.
    pub entries: u64,
    /// The most that it holds; then packets of new connections are dropped.
    pub entries_max: u64,
    /// Used share, in percent; 0 without a maximum.
    pub used_percent: f64,
    /// Packets dropped since the table was full or memory was short, all cores (`drop`).
    pub drops: Option<Counter>,
    /// Entries thrown out to make room, all cores (`early_drop`).
    pub early_drops: Option<Counter>,
    /// Entries that could not be put in, all cores (`insert_failed`).
    pub insert_failures: Option<Counter>,
}

/// Packets handed from the drivers to the network stack. Source: `/proc/net/softnet_stat`, 32-bit counters.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Softnet {
    /// Packets processed, all cores; `total` is the sum of counters that wrap at 32 bits.
    pub processed: Counter,
    /// Packets dropped since a core's backlog was full, all cores.
    pub dropped: Counter,
    /// Times that a core stopped with work left, out of budget or time, all cores.
    pub squeezed: Counter,
    /// The same per core.
    pub cpus: Vec<SoftnetCpu>,
}

/// Packets handed to the network stack by one core.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct SoftnetCpu {
    /// Number of the core; before kernel 5.10 the number of the line, which differs where cores are offline.
    pub core: u32,
    /// Packets processed.
    pub processed: Counter,
    /// Packets dropped since the backlog was full.
    pub dropped: Counter,
    /// Times that it stopped with work left.
    pub squeezed: Counter,
}
