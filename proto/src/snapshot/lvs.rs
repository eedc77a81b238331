//! The snapshot of the Linux Virtual Server: virtual servers, their real servers, and the load balancer as a whole.
//!
//! Three sources tell different things: generic netlink all of it, `/proc/net/ip_vs` neither counters of virtual and
//! real servers nor thresholds, `ipvsadm` no flags of newer kernels. [`LvsSnapshot::source`] says which it was, and
//! what it could not know is none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::{Counter, PartError};

/// What one run of the `lvs` collector saw.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct LvsSnapshot {
    /// When the run began, in milliseconds since 1970 by the host's own clock.
    pub at_ms: u64,
    /// Milliseconds since the snapshot before, by the monotonic clock; none for the first one.
    pub interval_ms: Option<u64>,
    /// Whether the kernel has IPVS in this network namespace. Without, everything below is empty, which is no error.
    pub present: bool,
    /// Where the table is from: `netlink`, `proc` or `ipvsadm`; none where there is none.
    pub source: Option<String>,
    /// Version of IPVS: `1.2.1`.
    pub version: Option<String>,
    /// Buckets of the kernel's connection table.
    pub table_size: Option<u32>,
    /// Timeouts of connections; unknown to `proc`.
    pub timeouts: Option<Timeouts>,
    /// Connection synchronisation daemons that run; unknown to `proc`.
    pub sync_daemons: Option<Vec<SyncDaemon>>,
    /// Settings under `/proc/sys/net/ipv4/vs` that change what is counted or where connections go, as they read.
    pub sysctls: BTreeMap<String, String>,
    /// All virtual servers together.
    pub totals: Totals,
    /// Virtual servers, sorted by kind, address and port.
    pub virtual_servers: Vec<VirtualServer>,
    /// Virtual and real servers that are not listed: beyond the configured bounds, or not understood (see `errors`).
    pub skipped: u32,
    /// What could not be read or understood in this run; everything else is as good as without it.
    pub errors: Vec<PartError>,
}

/// An [`LvsSnapshot`] whose virtual servers are somewhere else, `V` being serialized as a list of them. It has the same
/// bytes, and thousands of virtual servers need not be in memory at once.
#[derive(Serialize, Clone, Debug)]
pub struct LvsSnapshotOf<'a, V> {
    at_ms: u64,
    interval_ms: Option<u64>,
    present: bool,
    source: &'a Option<String>,
    version: &'a Option<String>,
    table_size: Option<u32>,
    timeouts: &'a Option<Timeouts>,
    sync_daemons: &'a Option<Vec<SyncDaemon>>,
    sysctls: &'a BTreeMap<String, String>,
    totals: &'a Totals,
    virtual_servers: V,
    skipped: u32,
    errors: &'a [PartError],
}

impl LvsSnapshot {
    /// This snapshot with `virtual_servers` in the place of its own.
    pub fn of<V: Serialize>(&self, virtual_servers: V) -> LvsSnapshotOf<'_, V> {
        LvsSnapshotOf {
            at_ms: self.at_ms,
            interval_ms: self.interval_ms,
            present: self.present,
            source: &self.source,
            version: &self.version,
            table_size: self.table_size,
            timeouts: &self.timeouts,
            sync_daemons: &self.sync_daemons,
            sysctls: &self.sysctls,
            totals: &self.totals,
            virtual_servers,
            skipped: self.skipped,
            errors: &self.errors,
        }
    }
}

/// Sums over a director, or over a virtual server's real servers.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Totals {
    /// Virtual servers.
    pub virtual_servers: u32,
    /// Virtual servers without any real server of a weight above 0.
    pub virtual_servers_down: u32,
    /// Real servers, once for each virtual server that they are in.
    pub real_servers: u32,
    /// Real servers with a weight above 0.
    pub real_servers_up: u32,
    /// Active connections.
    pub active_connections: u64,
    /// Inactive connections.
    pub inactive_connections: u64,
    /// Traffic since IPVS was loaded, that of virtual servers that are gone included (`/proc/net/ip_vs_stats`).
    pub traffic: Option<Traffic>,
}

/// A virtual server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct VirtualServer {
    /// Its name everywhere: `tcp/192.0.2.10:80`, `udp/[2001:db8::10]:53`, `fwmark/7`, `fwmark6/7`.
    pub name: String,
    /// Family of the packets that it takes: `ipv4`, `ipv6`.
    pub family: Cow<'static, str>,
    /// `tcp`, `udp`, `sctp`, or `proto<number>`; none for a firewall mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Virtual address; none for a firewall mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Port, 0 for all; none for a firewall mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Firewall mark, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
    /// Scheduler: `wlc`, `rr` …
    pub scheduler: String,
    /// Flags: `persistent`, `ops`, those of the scheduler (`sh-fallback`, `mh-port`, `flag-3`), and what has no name
    /// as a hexadecimal number. `proc` shows only the first two.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// How long connections of a client stick to a real server, in seconds; none where they don't, and from `proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_timeout_s: Option<u32>,
    /// Which clients stick together, as an IPv4 netmask: `255.255.255.0`; none where they don't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_netmask: Option<String>,
    /// Which clients stick together, as an IPv6 prefix length; none where they don't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_prefix_length: Option<u32>,
    /// Persistence engine: `sip`; none without one, and where the source does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<String>,
    /// Real servers.
    pub real_servers_total: u32,
    /// Real servers with a weight above 0. At 0, the virtual server is down.
    pub real_servers_up: u32,
    /// Sum of the weights.
    pub weight_total: u64,
    /// Active connections of all real servers.
    pub active_connections: u64,
    /// Inactive connections of all real servers.
    pub inactive_connections: u64,
    /// Persistence templates of all real servers; unknown to `proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_connections: Option<u64>,
    /// Traffic; unknown to `proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// How often the agent, since it started, saw these counters begin anew (`ipvsadm -Z`, removed and made again).
    #[serde(skip_serializing_if = "is_zero")]
    pub resets: u32,
    /// Real servers, sorted by address and port.
    pub real_servers: Vec<RealServer>,
    /// Attributes of a newer kernel that have no name here: their numbers, and their bytes in hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, String>,
}

/// A real server in a virtual server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct RealServer {
    /// Its name within its virtual server: `10.1.0.1:8080`, `[2001:db8:1::1]:80`.
    pub name: String,
    /// Family of its address: `ipv4`, `ipv6`; not always its virtual server's.
    pub family: Cow<'static, str>,
    /// Address.
    pub address: String,
    /// Port; 0 in virtual servers for all ports.
    pub port: u16,
    /// How packets get there: `masquerade`, `tunnel`, `route`, `local`, `bypass`, or `method-<number>`.
    pub forwarding: Cow<'static, str>,
    /// The tunnel, where packets get there by one and the source tells of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Its share of the work; at 0 it gets no new connections.
    pub weight: u32,
    /// Active connections.
    pub active_connections: u32,
    /// Inactive connections.
    pub inactive_connections: u32,
    /// Persistence templates; unknown to `proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_connections: Option<u32>,
    /// Connections, active and inactive, from which on it gets no new ones; 0 for no bound; unknown to `proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    /// Connections below which it gets new ones again; 0: three quarters of the upper threshold; unknown to `proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
    /// Whether it gets no new connections since it reached its upper threshold; unknown to `proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overloaded: Option<bool>,
    /// Traffic; unknown to `proc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// How often the agent, since it started, saw it come back after it had been removed.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u32,
    /// How often the agent, since it started, saw these counters begin anew.
    #[serde(skip_serializing_if = "is_zero")]
    pub resets: u32,
    /// Attributes of a newer kernel that have no name here: their numbers, and their bytes in hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, String>,
}

/// Counters with rates by the agent's own clock, beside the kernel's estimates (moving averages over about eight
/// seconds, which stand still where `run_estimation` is off).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: Counter,
    /// Packets from clients.
    pub in_packets: Counter,
    /// Packets to clients; 0 with direct routing and tunnels, where answers go past the director.
    pub out_packets: Counter,
    /// Bytes from clients.
    pub in_bytes: Counter,
    /// Bytes to clients; 0 with direct routing and tunnels.
    pub out_bytes: Counter,
    /// The kernel's estimate of connections per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_s_kernel: Option<u64>,
    /// The kernel's estimate of packets from clients per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_packets_per_s_kernel: Option<u64>,
    /// The kernel's estimate of packets to clients per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_packets_per_s_kernel: Option<u64>,
    /// The kernel's estimate of bytes from clients per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_bytes_per_s_kernel: Option<u64>,
    /// The kernel's estimate of bytes to clients per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_bytes_per_s_kernel: Option<u64>,
}

/// A tunnel to a real server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Tunnel {
    /// `ipip`, `gue`, `gre`, or `type-<number>`.
    pub kind: String,
    /// UDP port, for `gue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Flags: `checksum`, `remote-checksum`, and what has no name as a hexadecimal number.
    pub flags: Vec<String>,
}

/// Timeouts of connections.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Timeouts {
    /// Established TCP connections, in seconds.
    pub tcp_s: u32,
    /// TCP connections after a FIN, in seconds.
    pub tcp_fin_s: u32,
    /// UDP, in seconds.
    pub udp_s: u32,
}

/// A connection synchronisation daemon in the kernel.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct SyncDaemon {
    /// `master` sends the connections of this director, `backup` takes those of others; `state-<number>` else.
    pub role: String,
    /// Network interface.
    pub interface: String,
    /// Id of the group of directors; 0 takes from all.
    pub sync_id: u32,
    /// Longest message, in bytes.
    pub message_bytes_max: Option<u32>,
    /// Multicast group.
    pub group: Option<String>,
    /// UDP port.
    pub port: Option<u16>,
    /// Time to live of what it sends.
    pub ttl: Option<u8>,
}

const fn is_zero(count: &u32) -> bool {
    *count == 0
}
