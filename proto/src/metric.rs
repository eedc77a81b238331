//! A collector's snapshot on its way to whoever listens (`muster.metrics/1`). The newest wins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::{Kind, Message};
use crate::id::HostId;

/// One snapshot of one collector on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    /// Where.
    pub host: HostId,
    /// The collector's name.
    pub collector: String,
    /// When it was taken, in milliseconds since 1970 by the host's clock.
    pub at_ms: u64,
    /// The agent's count of this collector's snapshots since it was started; a gap is a snapshot that was dropped.
    pub seq: u64,
    /// The snapshot; its shape is the collector's (see [`crate::snapshot`]).
    pub snapshot: Value,
}

impl Message for Metrics {
    const KIND: Kind = Kind::Metrics;
}
