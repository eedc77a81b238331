//! Why the kernel's virtual servers could not be read or changed.

use std::io;
use std::time::Duration;

use super::name::{DestinationKey, ServiceKey};

/// Why a question to the kernel has no answer.
#[derive(Debug, thiserror::Error)]
pub enum IpvsError {
    /// The kernel has no ip_vs, or not in this network namespace.
    #[error(
        "this kernel has no ip_vs: {what}; nothing was loaded (modprobe ip_vs, where this host is to be a load balancer)"
    )]
    NoKernel {
        /// How it is known.
        what: String,
    },
    /// The kernel refuses for want of rights.
    #[error(
        "{doing} over netlink: not permitted: CAP_NET_ADMIN is needed in this network namespace"
    )]
    NoRights {
        /// What was tried.
        doing: &'static str,
    },
    /// There is no such virtual server.
    #[error("no virtual server {service}")]
    NoService {
        /// Which.
        service: ServiceKey,
    },
    /// There is no such real server.
    #[error("no real server {destination} in {service}")]
    NoDestination {
        /// In which virtual server.
        service: ServiceKey,
        /// Which.
        destination: DestinationKey,
    },
    /// The table changed during each of the tries to read it.
    #[error("{doing}: the table changed during each of {tries} tries")]
    Interrupted {
        /// What was tried.
        doing: &'static str,
        /// How often.
        tries: u32,
    },
    /// The kernel did not answer in time.
    #[error("{doing}: no answer from the kernel in {} s", limit.as_secs_f64())]
    Deadline {
        /// What was tried.
        doing: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The kernel refused, with its own error.
    #[error("{doing}: refused by the kernel: {source}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The socket failed.
    #[error("{doing}: netlink socket: {source}")]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The answer is not what the kernel's interface promises.
    #[error("{doing}: the kernel's answer does not read as expected: {what}")]
    Answer {
        /// What was tried.
        doing: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

impl IpvsError {
    /// Whether this host simply has no load balancer in its kernel, which is no fault.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::NoKernel { .. })
    }
}
