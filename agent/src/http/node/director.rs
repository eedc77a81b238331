//! Asks the collector `lvs` for the virtual servers as they are now, and keeps what it gave in the last while for
//! `GetLvsTraffic`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_proto::snapshot::lvs::{LvsSnapshot, Traffic};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::refusal::Refusal;
use super::json::{Body, pretty};
use super::lvs::vip;
use super::traffic::{Counters, History, WINDOW_MS};
use crate::collect::schedule::Collectors;

/// The collector.
const NAME: &str = "lvs";

/// How often it is looked whether the collector has run; half of the window, so that ten seconds have an end inside.
const LOOK: Duration = Duration::from_millis(WINDOW_MS / 2);

/// A snapshot that seems to come later than this after it was taken does not: the clock was set.
const LATE_MS_MAX: u64 = 30_000;

/// The director's eyes and memory.
pub(super) struct Director {
    collectors: Collectors,
    began: Instant,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    at_ms: u64,
    history: History,
}

#[derive(Debug, Serialize)]
struct Added {
    vip: String,
    conns_sum_per: u64,
    inpkts_sum_per: u64,
    outpkts_sum_per: u64,
    inbytes_sum_per: u64,
    outbytes_sum_per: u64,
}

impl Director {
    pub(super) fn new(collectors: Collectors) -> Self {
        Self {
            collectors,
            began: Instant::now(),
            memory: Mutex::default(),
        }
    }

    /// The virtual servers, at most a second old.
    pub(super) async fn now(&self) -> Result<LvsSnapshot, Refusal> {
        let (mut snapshots, mut errors) = self.collectors.collect(&[NAME.to_owned()]).await;
        let Some(snapshot) = snapshots.remove(NAME) else {
            let why = errors.remove(NAME).unwrap_or_default();
            return Err(Refusal::unavailable(format!("the collector lvs: {why}")));
        };
        let snapshot = snapshot
            .read::<LvsSnapshot>()
            .map_err(|error| Refusal::unavailable(format!("read the snapshot of lvs: {error}")))?;
        if !snapshot.present {
            return Err(no_ipvs());
        }
        self.keep(&snapshot);
        Ok(snapshot)
    }

    /// The answer to `GetLvsTraffic`.
    pub(super) async fn traffic(&self) -> Result<Body, Refusal> {
        let snapshot = self.now().await?;
        if snapshot
            .virtual_servers
            .iter()
            .any(|server| server.traffic.is_none())
        {
            let why = snapshot.errors.first().map(|error| error.error.as_str());
            return Err(Refusal::unavailable(format!(
                "the source {:?} of the collector lvs does not tell the traffic of virtual servers; netlink does, for \
                 an agent with CAP_NET_ADMIN ({})",
                snapshot.source.as_deref().unwrap_or_default(),
                why.unwrap_or("[collect.lvs] source names another")
            )));
        }
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let added = memory.history.added().map_err(|missing_ms| {
            let seconds = missing_ms.div_ceil(1000).max(1);
            let why = "what the last ten seconds have added is not known yet";
            Refusal::not_yet(format!("{why}; ask again in {seconds} s"), seconds)
        })?;
        let each = snapshot.virtual_servers.iter().map(|server| {
            let counters = added.get(server.name.as_str()).copied().unwrap_or_default();
            let [conns, in_packets, out_packets, in_bytes, out_bytes] = counters;
            Added {
                vip: vip(server),
                conns_sum_per: conns,
                inpkts_sum_per: in_packets,
                outpkts_sum_per: out_packets,
                inbytes_sum_per: in_bytes,
                outbytes_sum_per: out_bytes,
            }
        });
        pretty(&each.collect::<Vec<_>>())
    }

    /// Keeps what the collector gives, and asks it where it runs more seldom than every ten seconds. For ever.
    pub(super) async fn follow(&self) -> std::convert::Infallible {
        let board = self.collectors.board();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let status = board.borrow().collectors.get(NAME).cloned();
            let Some(status) = status else {
                return std::future::pending().await; // it is switched off
            };
            if let Some(snapshot) = status
                .snapshot
                .and_then(|snapshot| snapshot.read::<LvsSnapshot>().ok())
            {
                if !snapshot.present {
                    continue; // what comes later has a past of its own
                }
                self.keep(&snapshot);
            }
            if self.oldness_ms() >= WINDOW_MS {
                // Where it fails, whoever asks hears of it.
                _ = self.now().await;
            }
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How old the newest sample is.
    fn oldness_ms(&self) -> u64 {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = memory.history.newest_ms();
        newest.map_or(u64::MAX, |newest| self.elapsed_ms().saturating_sub(newest))
    }

    fn keep(&self, snapshot: &LvsSnapshot) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.at_ms == snapshot.at_ms {
            return;
        }
        memory.at_ms = snapshot.at_ms;
        // The wall clock may be set; how late a snapshot comes by it is little, or wrong.
        let late_ms = muster_link::stamp::now_ms().saturating_sub(snapshot.at_ms);
        let late_ms = Some(late_ms).filter(|late| *late <= LATE_MS_MAX);
        let mono_ms = self
            .elapsed_ms()
            .saturating_sub(late_ms.unwrap_or_default());
        let servers = snapshot.virtual_servers.iter();
        let services: BTreeMap<String, Counters> = servers
            .filter_map(|server| Some((server.name.clone(), counters(server.traffic.as_ref()?))))
            .collect();
        memory.history.push(mono_ms, services);
    }
}

/// There is nothing to ask.
pub(super) fn no_ipvs() -> Refusal {
    Refusal::unavailable("this host's kernel has no IPVS, or its module ip_vs is not loaded")
}

fn counters(traffic: &Traffic) -> Counters {
    [
        traffic.connections.total,
        traffic.in_packets.total,
        traffic.out_packets.total,
        traffic.in_bytes.total,
        traffic.out_bytes.total,
    ]
}
