//! What the collector remembers of a look, and what it finds when it compares the next one with it: which counters can
//! be turned into rates, which began anew, who is overloaded. Pure; the changes that people are told are in `changes`.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::super::rate::{Wrap, growth};
use crate::ipvs::{Daemon, Destination, DestinationKey, Entry, Service, ServiceKey, Stats};

/// Real servers that are gone and whose coming back would be noticed.
const GONE_MAX: usize = 65_536;

/// A virtual server as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Server {
    pub(super) service: Service,
    /// Sorted.
    pub(super) backends: Vec<Backend>,
    /// How often its counters began anew.
    pub(super) resets: u32,
    /// The counters of the look before, where a rate can be made with them.
    pub(super) base: Option<Stats>,
}

/// Sums over a virtual server's real servers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) real_servers: u32,
    pub(super) up: u32,
    pub(super) weight: u64,
    pub(super) active_connections: u64,
    pub(super) inactive_connections: u64,
    pub(super) persistent_connections: u64,
}

/// A real server as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Backend {
    pub(super) destination: Destination,
    pub(super) resets: u32,
    pub(super) base: Option<Stats>,
    /// How often it came back.
    pub(super) generation: u32,
    /// Whether it reached its upper threshold and has not left the lower one since.
    pub(super) overloaded: bool,
}

/// A look that is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// By the monotonic clock.
    pub(super) mono_ms: u64,
    pub(super) source: &'static str,
    /// Sorted.
    pub(super) servers: Vec<Server>,
    pub(super) daemons: Option<Vec<Daemon>>,
    pub(super) totals: Option<Stats>,
}

/// Real servers that were removed, with the number of their next life.
pub(super) type Gone = HashMap<(ServiceKey, DestinationKey), u32>;

/// What a look gave, sorted; of two with the same key the first counts.
pub(super) fn servers(entries: Vec<Entry>) -> Vec<Server> {
    let mut servers: Vec<Server> = entries
        .into_iter()
        .map(|entry| Server {
            service: entry.service,
            backends: backends(entry.destinations),
            resets: 0,
            base: None,
        })
        .collect();
    servers.sort_by_key(|server| server.service.key);
    servers.dedup_by_key(|server| server.service.key);
    servers
}

fn backends(destinations: Vec<Destination>) -> Vec<Backend> {
    let mut backends: Vec<Backend> = destinations
        .into_iter()
        .map(|destination| Backend {
            overloaded: is_overloaded(false, &destination),
            destination,
            resets: 0,
            base: None,
            generation: 0,
        })
        .collect();
    backends.sort_by_key(|backend| backend.destination.key);
    backends.dedup_by_key(|backend| backend.destination.key);
    backends
}

impl Server {
    /// Whether any real server takes new connections.
    pub(super) fn is_up(&self) -> bool {
        self.backends.iter().any(Backend::is_up)
    }

    /// Sums over its real servers.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for backend in &self.backends {
            let one = &backend.destination;
            sums.real_servers += 1;
            sums.up += u32::from(backend.is_up());
            sums.weight += u64::from(one.weight);
            sums.active_connections += u64::from(one.active_connections);
            sums.inactive_connections += u64::from(one.inactive_connections);
            sums.persistent_connections += u64::from(one.persistent_connections);
        }
        sums
    }
}

impl Backend {
    pub(super) fn is_up(&self) -> bool {
        self.destination.weight > 0
    }
}

/// A thing before, after, or both.
pub(super) enum Pair<'a, T> {
    Gone(&'a T),
    Kept(&'a T, &'a mut T),
    New(&'a mut T),
}

/// Walks two sorted lists side by side.
pub(super) fn pairs<'a, T, K: Ord>(
    before: &'a [T],
    after: &'a mut [T],
    key: fn(&T) -> K,
    mut take: impl FnMut(Pair<'a, T>),
) {
    let mut old = before.iter().peekable();
    let mut new = after.iter_mut().peekable();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => key(old).cmp(&key(new)),
        };
        let pair = match order {
            Ordering::Less => old.next().map(Pair::Gone),
            Ordering::Equal => old
                .next()
                .zip(new.next())
                .map(|(old, new)| Pair::Kept(old, new)),
            Ordering::Greater => new.next().map(Pair::New),
        };
        if let Some(pair) = pair {
            take(pair);
        }
    }
}

pub(super) fn server_key(server: &Server) -> ServiceKey {
    server.service.key
}

pub(super) fn backend_key(backend: &Backend) -> DestinationKey {
    backend.destination.key
}

/// Whether `after` lacks anything of `before`: then its dump may have been torn, and another look is due.
pub(super) fn is_missing(before: &[Server], after: &[Server]) -> bool {
    !covers(after, before, server_key, |new, old| {
        covers(&new.backends, &old.backends, backend_key, |_, _| true)
    })
}

/// Whether two looks are at the same table.
pub(super) fn are_same(one: &[Server], other: &[Server]) -> bool {
    !is_missing(one, other) && !is_missing(other, one)
}

/// Whether everything in `few` is in `all`, both sorted, and `fits` what it is there.
fn covers<T, K: Ord>(
    all: &[T],
    few: &[T],
    key: fn(&T) -> K,
    fits: impl Fn(&T, &T) -> bool,
) -> bool {
    let mut rest = all.iter();
    few.iter().all(|one| {
        rest.find(|known| key(known) >= key(one))
            .is_some_and(|known| key(known) == key(one) && fits(known, one))
    })
}

/// Carries over what is remembered of a server that is still there. Says whether its counters began anew.
pub(super) fn carry_server(old: &Server, new: &mut Server, counted: bool) -> bool {
    let reset = counted && began_anew(&old.service.stats, &new.service.stats);
    new.resets = old.resets + u32::from(reset);
    new.base = (counted && !reset).then_some(old.service.stats);
    reset
}

/// The same for a real server.
pub(super) fn carry_backend(old: &Backend, new: &mut Backend, counted: bool) -> bool {
    let reset = counted && began_anew(&old.destination.stats, &new.destination.stats);
    new.resets = old.resets + u32::from(reset);
    new.base = (counted && !reset).then_some(old.destination.stats);
    new.generation = old.generation;
    new.overloaded = is_overloaded(old.overloaded, &new.destination);
    reset
}

/// Remembers a real server that is gone.
pub(super) fn bury(gone: &mut Gone, service: ServiceKey, backend: &Backend) {
    if gone.len() >= GONE_MAX {
        gone.clear(); // a count of lives is not worth more memory than this
    }
    gone.insert((service, backend_key(backend)), backend.generation + 1);
}

/// How many lives a real server that is new had before.
pub(super) fn revive(gone: &mut Gone, service: ServiceKey, backend: &mut Backend) {
    if let Some(generation) = gone.remove(&(service, backend_key(backend))) {
        backend.generation = generation;
    }
}

/// Whether any counter went back by more than a wrap of its width explains.
pub(super) fn began_anew(before: &Stats, after: &Stats) -> bool {
    let packets = width(after);
    let back = |before, after, wrap| growth(before, after, wrap).is_none();
    back(before.connections, after.connections, packets)
        || back(before.in_packets, after.in_packets, packets)
        || back(before.out_packets, after.out_packets, packets)
        || back(before.in_bytes, after.in_bytes, Wrap::Never)
        || back(before.out_bytes, after.out_bytes, Wrap::Never)
}

/// Where connections and packets wrap; bytes never do.
pub(super) const fn width(stats: &Stats) -> Wrap {
    if stats.wide { Wrap::Never } else { Wrap::At32 }
}

/// The kernel's rule (`ip_vs_conn.c`: `ip_vs_bind_dest`, `ip_vs_unbind_dest`), whose own flag is not shown.
pub(super) fn is_overloaded(was: bool, one: &Destination) -> bool {
    let connections = one.connections();
    let (upper, lower) = (
        u64::from(one.upper_threshold),
        u64::from(one.lower_threshold),
    );
    if upper == 0 {
        false
    } else if connections >= upper {
        true
    } else if lower != 0 {
        was && connections >= lower
    } else {
        was && connections * 4 >= upper * 3
    }
}
