//! The kernel's virtual servers, read and changed over generic netlink (family `IPVS`, kernel:
//! `net/netfilter/ipvs/ip_vs_ctl.c`, `include/uapi/linux/ip_vs.h`).
//!
//! A pure codec ([`Service`], [`Destination`] … to and from bytes) beside a thin blocking client ([`Ipvs`]). It knows
//! neither the link, the state file nor the configuration, and no collector or action: both are built on it.
//!
//! ```no_run
//! use muster_agent::ipvs::{DestinationKey, Ipvs, ServiceKey};
//!
//! # fn main() -> Result<(), muster_agent::ipvs::IpvsError> {
//! let mut ipvs = Ipvs::open()?; // needs CAP_NET_ADMIN; never loads the kernel module
//! for entry in ipvs.table()?.entries {
//!     println!("{}: {} real servers", entry.service.key, entry.destinations.len());
//! }
//! // A name as in snapshots, events and on the command line.
//! let Ok(web) = "tcp/192.0.2.10:80".parse::<ServiceKey>() else { return Ok(()) };
//! let Ok(one) = "10.1.0.1:8080".parse::<DestinationKey>() else { return Ok(()) };
//! // Reads the real server anew and writes it back with that weight, everything else as it was.
//! let before = ipvs.set_weight(&web, &one, 0)?;
//! println!("{one} had weight {}", before.weight);
//! # Ok(())
//! # }
//! ```
//!
//! Everything blocks, for a bounded time ([`Ipvs::open`] says how long): call it where a thread may block. A dump that
//! the kernel says was torn by a change, or that names the same thing twice, is repeated a bounded number of times.
//! Counters are 64 bits wide where the kernel (4.1 and later) gives them. What the kernel says and this code does not
//! know (attributes, schedulers, protocols, forwarding methods, tunnels) is carried as it came.

mod attributes;
mod client;
mod decode;
mod encode;
mod error;
mod exchange;
mod name;
mod socket;
mod types;

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;

pub use client::{Entry, Ipvs, Table};
pub use error::IpvsError;
pub use name::{DestinationKey, Family, NameError, Protocol, ServiceKey};
pub use types::{
    Daemon, DaemonRole, Destination, Flags, Forward, Info, Service, Stats, Timeouts, Tunnel,
    Unknown,
};

/// Numbers of the kernel's interface (`include/uapi/linux/ip_vs.h`).
mod uapi {
    pub(super) const FAMILY_NAME: &str = "IPVS";
    pub(super) const FAMILY_VERSION: u8 = 1;

    pub(super) const CMD_GET_SERVICE: u8 = 4;
    pub(super) const CMD_SET_DEST: u8 = 6;
    pub(super) const CMD_GET_DEST: u8 = 8;
    pub(super) const CMD_GET_DAEMON: u8 = 11;
    pub(super) const CMD_GET_CONFIG: u8 = 13;
    pub(super) const CMD_GET_INFO: u8 = 15;

    pub(super) const ATTR_SERVICE: u16 = 1;
    pub(super) const ATTR_DEST: u16 = 2;
    pub(super) const ATTR_DAEMON: u16 = 3;
    pub(super) const ATTR_TIMEOUT_TCP: u16 = 4;
    pub(super) const ATTR_TIMEOUT_TCP_FIN: u16 = 5;
    pub(super) const ATTR_TIMEOUT_UDP: u16 = 6;

    pub(super) const INFO_VERSION: u16 = 1;
    pub(super) const INFO_CONN_TAB_SIZE: u16 = 2;

    pub(super) const SVC_AF: u16 = 1;
    pub(super) const SVC_PROTOCOL: u16 = 2;
    pub(super) const SVC_ADDR: u16 = 3;
    pub(super) const SVC_PORT: u16 = 4;
    pub(super) const SVC_FWMARK: u16 = 5;
    pub(super) const SVC_SCHED_NAME: u16 = 6;
    pub(super) const SVC_FLAGS: u16 = 7;
    pub(super) const SVC_TIMEOUT: u16 = 8;
    pub(super) const SVC_NETMASK: u16 = 9;
    pub(super) const SVC_STATS: u16 = 10;
    pub(super) const SVC_PE_NAME: u16 = 11;
    pub(super) const SVC_STATS64: u16 = 12;

    pub(super) const DEST_ADDR: u16 = 1;
    pub(super) const DEST_PORT: u16 = 2;
    pub(super) const DEST_FWD_METHOD: u16 = 3;
    pub(super) const DEST_WEIGHT: u16 = 4;
    pub(super) const DEST_U_THRESH: u16 = 5;
    pub(super) const DEST_L_THRESH: u16 = 6;
    pub(super) const DEST_ACTIVE_CONNS: u16 = 7;
    pub(super) const DEST_INACT_CONNS: u16 = 8;
    pub(super) const DEST_PERSIST_CONNS: u16 = 9;
    pub(super) const DEST_STATS: u16 = 10;
    pub(super) const DEST_ADDR_FAMILY: u16 = 11;
    pub(super) const DEST_STATS64: u16 = 12;
    pub(super) const DEST_TUN_TYPE: u16 = 13;
    pub(super) const DEST_TUN_PORT: u16 = 14;
    pub(super) const DEST_TUN_FLAGS: u16 = 15;

    pub(super) const STATS_CONNS: u16 = 1;
    pub(super) const STATS_INPKTS: u16 = 2;
    pub(super) const STATS_OUTPKTS: u16 = 3;
    pub(super) const STATS_INBYTES: u16 = 4;
    pub(super) const STATS_OUTBYTES: u16 = 5;
    pub(super) const STATS_CPS: u16 = 6;
    pub(super) const STATS_INPPS: u16 = 7;
    pub(super) const STATS_OUTPPS: u16 = 8;
    pub(super) const STATS_INBPS: u16 = 9;
    pub(super) const STATS_OUTBPS: u16 = 10;

    pub(super) const DAEMON_STATE: u16 = 1;
    pub(super) const DAEMON_MCAST_IFN: u16 = 2;
    pub(super) const DAEMON_SYNC_ID: u16 = 3;
    pub(super) const DAEMON_SYNC_MAXLEN: u16 = 4;
    pub(super) const DAEMON_MCAST_GROUP: u16 = 5;
    pub(super) const DAEMON_MCAST_GROUP6: u16 = 6;
    pub(super) const DAEMON_MCAST_PORT: u16 = 7;
    pub(super) const DAEMON_MCAST_TTL: u16 = 8;

    pub(super) const AF_INET: u16 = 2;
    pub(super) const AF_INET6: u16 = 10;

    /// Of the forwarding bits of a real server's flags.
    pub(super) const FORWARD_MASK: u32 = 7;
}
