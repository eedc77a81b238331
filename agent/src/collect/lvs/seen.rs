//! What a source gives, in one shape for all of them. Values only.

use crate::ipvs::{
    Daemon, Destination, DestinationKey, Entry, Flags, Forward, Info, Service, ServiceKey, Stats,
    Timeouts,
};

/// One look at the load balancer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// The source's name in the snapshot.
    pub(super) source: &'static str,
    /// What that source can know.
    pub(super) knows: Knows,
    /// Virtual servers with their real servers, in any order.
    pub(super) entries: Vec<Entry>,
    /// Things in the table that could not be understood.
    pub(super) skipped: u32,
    /// Version and size.
    pub(super) info: Option<Info>,
    /// Timeouts.
    pub(super) timeouts: Option<Timeouts>,
    /// Sync daemons.
    pub(super) daemons: Option<Vec<Daemon>>,
    /// What failed, in words.
    pub(super) notes: Vec<String>,
}

/// Which fields of the kernel's types a source fills; the others are zero and mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Knows {
    pub(super) counters: bool,
    pub(super) estimates: bool,
    pub(super) thresholds: bool,
    pub(super) templates: bool,
    pub(super) persistence: bool,
    pub(super) tunnels: bool,
}

impl Knows {
    /// Everything.
    pub(super) const ALL: Self = Self {
        counters: true,
        estimates: true,
        thresholds: true,
        templates: true,
        persistence: true,
        tunnels: true,
    };
}

/// A virtual server of which only this much is known.
pub(super) fn bare_service(key: ServiceKey, scheduler: &str) -> Service {
    Service {
        key,
        scheduler: scheduler.to_owned(),
        flags: Flags::default(),
        timeout_s: 0,
        netmask: 0,
        engine: None,
        stats: Stats::default(),
        unknown: Vec::new(),
    }
}

/// A real server of which only this much is known.
pub(super) fn bare_destination(key: DestinationKey, forward: Forward) -> Destination {
    Destination {
        key,
        forward,
        weight: 0,
        upper_threshold: 0,
        lower_threshold: 0,
        active_connections: 0,
        inactive_connections: 0,
        persistent_connections: 0,
        tunnel: None,
        stats: Stats::default(),
        unknown: Vec::new(),
    }
}
