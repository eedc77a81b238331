//! The part that gathers the figures of the fleet: the snapshots of every collector whose figures are declared, as the
//! agents publish them. What is kept of them, and how much, is the store's business.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use muster_link::{Incoming, Session, stamp};
use muster_proto::envelope;
use muster_proto::id::{HostId, KeyId};
use muster_proto::metric::Metrics;
use muster_proto::snapshot::fields::DECLARED;
use muster_proto::topology::METRICS;
use tokio::time::{MissedTickBehavior, interval};

use super::session::Part;
use crate::listen::{Listening, listen};
use crate::series::{Bounds, SeriesStore};

/// Snapshots under way.
const PREFETCH: u16 = 1000;

/// How often what is old is looked for.
const TICK: Duration = Duration::from_secs(10);

/// The figures, and what became of the snapshots.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) store: SeriesStore,
    /// Snapshots that were taken.
    pub(crate) taken: u64,
    /// Those that could not be read, or did not come from the host that they name.
    pub(crate) refused: u64,
}

/// The figures, shared with those who show them.
#[derive(Debug, Clone)]
pub(crate) struct SharedSeries(Arc<Mutex<Gathered>>);

/// The part.
pub(crate) struct Gather {
    pub(crate) series: SharedSeries,
    pub(crate) bounds: Bounds,
    /// In whose name its queue is.
    pub(crate) issuer: KeyId,
}

impl SharedSeries {
    /// None yet.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(Gathered {
            store: SeriesStore::new(bounds),
            taken: 0,
            refused: 0,
        })))
    }

    /// The figures, for as long as nobody else needs them: a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part for Gather {
    fn name(&self) -> &str {
        "series"
    }

    async fn work(&mut self, session: &Session) -> Result<()> {
        self.series.lock().store.set_bounds(self.bounds);
        let keys = DECLARED
            .iter()
            .map(|declared| format!("{}.#", declared.collector));
        let listening = Listening {
            issuer: &self.issuer,
            exchange: METRICS,
            keys: keys.collect(),
            prefetch: PREFETCH,
        };
        let (_, mut deliveries) = listen(session, listening).await?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = BTreeSet::new();
        loop {
            tokio::select! {
                incoming = deliveries.recv() => {
                    self.hear(&incoming.ok_or_else(|| anyhow!("the connection was lost"))?);
                }
                _ = tick.tick() => {
                    let store = &mut self.series.lock().store;
                    store.sweep(stamp::now_ms());
                    told = self.tell_left_out(store, &told);
                }
            }
        }
    }
}

impl Gather {
    fn hear(&self, incoming: &Incoming) {
        let found = envelope::decode::<Metrics>(&incoming.kind, &incoming.body)
            .ok()
            .filter(|metrics| incoming.user_id.as_deref() == Some(metrics.host.as_str()));
        let mut gathered = self.series.lock();
        match found {
            Some(metrics) => {
                gathered.store.take(&metrics, stamp::now_ms());
                gathered.taken += 1;
            }
            None => gathered.refused += 1,
        }
    }

    /// Says of which hosts figures find no room, of each once for as long as it is so.
    fn tell_left_out(&self, store: &SeriesStore, told: &BTreeSet<HostId>) -> BTreeSet<HostId> {
        let mut now = BTreeSet::new();
        for (host, left_out) in store.left_out() {
            if !told.contains(host) {
                tracing::warn!(
                    %host,
                    left_out,
                    "figures find no room: series_max is {} for all hosts, series_per_host_max {}",
                    self.bounds.series_max,
                    self.bounds.per_host_max
                );
            }
            now.insert(host.clone());
        }
        now
    }
}
