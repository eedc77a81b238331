//! What the schedule sends: values only.

use muster_proto::packed::Packed;

use super::super::Change;

/// What one run, or the want of one, has to tell.
#[derive(Debug)]
pub struct Report {
    /// The collector.
    pub collector: &'static str,
    /// When the run began, in milliseconds since 1970.
    pub at_ms: u64,
    /// Count of the collector's snapshots since the start.
    pub seq: u64,
    /// What it saw; `None` where it failed.
    pub snapshot: Option<Packed>,
    /// What has changed since the run before.
    pub changes: Vec<Change>,
    /// Whether it began to fail, or works again.
    pub edge: Option<Edge>,
}

/// A collector's own change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    /// It worked, and does no more.
    Failed {
        /// Why.
        error: String,
    },
    /// It works again.
    Recovered {
        /// How long it did not, in milliseconds.
        failed_ms: u64,
    },
}
