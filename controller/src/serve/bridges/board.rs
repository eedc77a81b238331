//! What every bridge has done, for `/metrics`. Knows their names only.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

/// The counts of all bridges. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<String, Counts>>>);

/// What a bridge has done since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Whether the sink took what it was sent last.
    pub(crate) up: bool,
    /// Snapshots that the sink has taken.
    pub(crate) snapshots: u64,
    /// Figures that the sink has taken.
    pub(crate) figures: u64,
    /// Figures that the sink said it does not want.
    pub(crate) failed: u64,
    /// Figures that the sink can't be told.
    pub(crate) left_out: u64,
    /// Snapshots that had to go, for they waited too long or were too many.
    pub(crate) dropped: u64,
    /// Messages that are no snapshot, or not of the host that sent them.
    pub(crate) unreadable: u64,
    /// Snapshots that came again and had been taken.
    pub(crate) repeated: u64,
    /// Times that the sink took nothing and was tried again.
    pub(crate) retries: u64,
    /// Snapshots that wait.
    pub(crate) held: usize,
    /// Their bytes.
    pub(crate) held_bytes: usize,
    /// Since when the oldest of them waits.
    pub(crate) oldest: Option<Instant>,
}

impl Board {
    /// Forgets all bridges but these.
    pub(crate) fn keep(&self, bridges: &[&str]) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.retain(|name, _| bridges.contains(&name.as_str()));
    }

    /// Works on the counts of one bridge.
    pub(crate) fn with<T>(&self, bridge: &str, work: impl FnOnce(&mut Counts) -> T) -> T {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match board.get_mut(bridge) {
            Some(counts) => work(counts),
            None => work(board.entry(bridge.to_owned()).or_default()),
        }
    }
}

type Figure = fn(&Counts) -> f64;

static GAUGES: &[(&str, &str, Figure)] = &[
    (
        "bridge_up",
        "Whether the sink took what it was sent last",
        |counts| {
            if counts.up { 1.0 } else { 0.0 }
        },
    ),
    (
        "bridge_held_snapshots",
        "Snapshots that wait for the sink",
        |counts| lossy(counts.held),
    ),
    (
        "bridge_held_bytes",
        "Bytes that wait for the sink",
        |counts| lossy(counts.held_bytes),
    ),
    (
        "bridge_lag_seconds",
        "How long the oldest snapshot has waited for the sink",
        |counts| {
            counts
                .oldest
                .map_or(0.0, |since| since.elapsed().as_secs_f64())
        },
    ),
];

type Count = fn(&Counts) -> u64;

static COUNTERS: &[(&str, &str, Count)] = &[
    (
        "bridge_snapshots",
        "Snapshots that the sink has taken",
        |counts| counts.snapshots,
    ),
    (
        "bridge_figures",
        "Figures that the sink has taken",
        |counts| counts.figures,
    ),
    (
        "bridge_failed_figures",
        "Figures that the sink did not want",
        |counts| counts.failed,
    ),
    (
        "bridge_left_out_figures",
        "Figures that the sink can't be told",
        |counts| counts.left_out,
    ),
    (
        "bridge_dropped_snapshots",
        "Snapshots let go: too old or too many",
        |counts| counts.dropped,
    ),
    (
        "bridge_unreadable",
        "Messages that are no snapshot of their sender",
        |counts| counts.unreadable,
    ),
    (
        "bridge_repeated_snapshots",
        "Snapshots that came again",
        |counts| counts.repeated,
    ),
    (
        "bridge_retries",
        "Times that the sink was tried again",
        |counts| counts.retries,
    ),
];

impl Collector for Board {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if board.is_empty() {
            return Ok(());
        }
        for (name, help, figure) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (bridge, counts) in board.iter() {
                let labels = [("bridge", bridge.as_str())];
                ConstGauge::new(figure(counts)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, count) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (bridge, counts) in board.iter() {
                let labels = [("bridge", bridge.as_str())];
                ConstCounter::new(count(counts)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people and graphs")]
fn lossy(value: usize) -> f64 {
    value as f64
}
