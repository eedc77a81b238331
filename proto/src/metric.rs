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

/// [`Metrics`] whose parts others hold too. It has the same bytes ([`crate::envelope::encode_as`]), and a large snapshot
/// need not be copied for them.
#[derive(Debug, Clone, Serialize)]
pub struct MetricsRef<'a> {
    /// As in [`Metrics`].
    pub host: &'a HostId,
    /// As in [`Metrics`].
    pub collector: &'a str,
    /// As in [`Metrics`].
    pub at_ms: u64,
    /// As in [`Metrics`].
    pub seq: u64,
    /// As in [`Metrics`].
    pub snapshot: &'a Value,
}

impl Message for Metrics {
    const KIND: Kind = Kind::Metrics;
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::envelope::{encode, encode_as};

    #[test]
    fn borrowed_parts_have_the_same_bytes() {
        let metrics = Metrics {
            host: "lb1".parse().unwrap(),
            collector: "lvs".to_owned(),
            at_ms: 1,
            seq: 2,
            snapshot: json!({ "a": [1, "b", null, 0.5], "c": { "d": u64::MAX } }),
        };
        let borrowed = MetricsRef {
            host: &metrics.host,
            collector: &metrics.collector,
            at_ms: metrics.at_ms,
            seq: metrics.seq,
            snapshot: &metrics.snapshot,
        };
        assert_eq!(
            encode_as::<Metrics>(&borrowed).unwrap(),
            encode(&metrics).unwrap()
        );
    }
}
