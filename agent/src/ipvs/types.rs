//! What the kernel tells of virtual servers, real servers and the load balancer as a whole. Values only.

use std::net::IpAddr;

use super::name::{DestinationKey, Family, ServiceKey};

/// Attributes that this code does not know, by number, with their bytes as they came.
pub type Unknown = Vec<(u16, Box<[u8]>)>;

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What it is found by.
    pub key: ServiceKey,
    /// Scheduler: `wlc`, `rr`, or any name that the kernel may know.
    pub scheduler: String,
    /// Flags.
    pub flags: Flags,
    /// Persistence timeout in seconds, as the kernel keeps it; it counts where [`Flags::PERSISTENT`] is set.
    pub timeout_s: u32,
    /// Persistence granularity: an IPv4 netmask in host order (`0xffffff00`), or an IPv6 prefix length.
    pub netmask: u32,
    /// Persistence engine (`sip`), where there is one.
    pub engine: Option<String>,
    /// Counters.
    pub stats: Stats,
    /// What else the kernel said.
    pub unknown: Unknown,
}

/// Flags of a virtual server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(
    /// The kernel's bits.
    pub u32,
);

impl Flags {
    /// Connections of a client stick to a real server.
    pub const PERSISTENT: Self = Self(1);
    /// The kernel has it in its table; always set, of no use to people.
    pub const HASHED: Self = Self(2);
    /// Each UDP packet is scheduled by itself.
    pub const ONE_PACKET: Self = Self(4);
    /// First flag of the scheduler: `sh-fallback`, `mh-fallback`.
    pub const SCHEDULER_1: Self = Self(8);
    /// Second flag of the scheduler: `sh-port`, `mh-port`.
    pub const SCHEDULER_2: Self = Self(16);
    /// Third flag of the scheduler.
    pub const SCHEDULER_3: Self = Self(32);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Bits that this code has no name for.
    #[must_use]
    pub const fn nameless(self) -> u32 {
        self.0 & !63
    }
}

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Address translation (`ipvsadm -m`).
    Masquerade,
    /// The real server is this host.
    Local,
    /// In a tunnel (`ipvsadm -i`).
    Tunnel,
    /// By the link address, the packet unchanged (`ipvsadm -g`).
    Route,
    /// Past the cache cluster.
    Bypass,
    /// One that this code does not know.
    Other(u32),
}

impl Forward {
    /// By the kernel's number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Masquerade,
            1 => Self::Local,
            2 => Self::Tunnel,
            3 => Self::Route,
            4 => Self::Bypass,
            other => Self::Other(other),
        }
    }

    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Masquerade => 0,
            Self::Local => 1,
            Self::Tunnel => 2,
            Self::Route => 3,
            Self::Bypass => 4,
            Self::Other(number) => number,
        }
    }
}

/// How a tunnel to a real server is made (kernel 5.3 and later).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// 0 IP in IP, 1 GUE, 2 GRE; others are carried.
    pub kind: u8,
    /// UDP port, for GUE.
    pub port: u16,
    /// 1 checksum, 2 remote checksum offload; others are carried.
    pub flags: u16,
}

/// A real server of a virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What it is found by within its virtual server.
    pub key: DestinationKey,
    /// How packets get there.
    pub forward: Forward,
    /// Its share of the work; at 0 it gets no new connections.
    pub weight: u32,
    /// Connections, active and inactive, from which on it gets no new ones; 0 for no such bound.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0: three quarters of the upper threshold.
    pub lower_threshold: u32,
    /// Connections in which packets flow.
    pub active_connections: u32,
    /// Connections on their way out, or of protocols without states.
    pub inactive_connections: u32,
    /// Persistence templates.
    pub persistent_connections: u32,
    /// Tunnel; none where the kernel does not tell.
    pub tunnel: Option<Tunnel>,
    /// Counters.
    pub stats: Stats,
    /// What else the kernel said.
    pub unknown: Unknown,
}

/// Counters and estimates of a virtual or real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients; none with direct routing and tunnels, which answer past this host.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
    /// The kernel's estimate, over about eight seconds, of connections per second.
    pub connections_per_s: u64,
    /// The kernel's estimate of packets from clients per second.
    pub in_packets_per_s: u64,
    /// The kernel's estimate of packets to clients per second.
    pub out_packets_per_s: u64,
    /// The kernel's estimate of bytes from clients per second.
    pub in_bytes_per_s: u64,
    /// The kernel's estimate of bytes to clients per second.
    pub out_bytes_per_s: u64,
    /// Whether connections and packets are 64 bits wide; else, before kernel 4.1, they wrap at 32. Bytes are always 64
    /// bits wide.
    pub wide: bool,
}

/// The load balancer as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Version: major, minor, patch.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table.
    pub table_size: u32,
}

/// Timeouts of connections, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Of established TCP connections.
    pub tcp_s: u32,
    /// Of TCP connections after a FIN.
    pub tcp_fin_s: u32,
    /// Of UDP.
    pub udp_s: u32,
}

/// Which way a sync daemon works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonRole {
    /// Sends the connections of this host.
    Master,
    /// Takes those of others.
    Backup,
    /// One that this code does not know.
    Other(u32),
}

/// A connection synchronisation daemon in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Which way it works.
    pub role: DaemonRole,
    /// Network interface.
    pub interface: String,
    /// Which connections it takes: those of the same id; 0 takes all.
    pub sync_id: u32,
    /// Longest message, in bytes.
    pub message_bytes_max: Option<u16>,
    /// Multicast group.
    pub group: Option<IpAddr>,
    /// UDP port.
    pub port: Option<u16>,
    /// Time to live of what it sends.
    pub ttl: Option<u8>,
}

impl Destination {
    /// The family of its address, which may be another than its virtual server's where it is reached by a tunnel.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.key.address)
    }

    /// Active and inactive connections together: what the thresholds are about.
    #[must_use]
    pub const fn connections(&self) -> u64 {
        self.active_connections as u64 + self.inactive_connections as u64
    }
}
