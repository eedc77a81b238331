//! A collector's snapshot on its way to whoever listens (`muster.metrics/1`). The newest wins.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::{self, EncodeError, Kind, Message};
use crate::id::HostId;
use crate::packed::Packed;

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

/// [`Metrics`] whose parts others hold too, the snapshot in its packed form. It has the same bytes.
#[derive(Debug, Clone)]
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
    pub snapshot: &'a Packed,
}

/// What is in front of the snapshot, which comes last in the message, and nil in its place.
#[derive(Serialize)]
struct Front<'a> {
    host: &'a HostId,
    collector: &'a str,
    at_ms: u64,
    seq: u64,
    snapshot: (),
}

impl MetricsRef<'_> {
    /// The message's body: the snapshot's bytes behind those of the rest.
    ///
    /// # Errors
    /// As [`envelope::encode`].
    pub fn body(&self) -> Result<Arc<[u8]>, EncodeError> {
        let mut body = envelope::encode_as::<Metrics>(&Front {
            host: self.host,
            collector: self.collector,
            at_ms: self.at_ms,
            seq: self.seq,
            snapshot: (),
        })?;
        body.pop(); // nil is one byte
        let bytes = body.len() + self.snapshot.bytes().len();
        if bytes > Kind::Metrics.body_bytes_max() {
            let kind = Kind::Metrics;
            return Err(EncodeError::TooLarge { kind, bytes });
        }
        body.reserve_exact(self.snapshot.bytes().len());
        body.extend_from_slice(self.snapshot.bytes());
        Ok(body.into())
    }
}

impl Message for Metrics {
    const KIND: Kind = Kind::Metrics;
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::envelope::{decode, encode};

    fn metrics(snapshot: Value) -> Metrics {
        Metrics {
            host: "lb1".parse().unwrap(),
            collector: "lvs".to_owned(),
            at_ms: 1,
            seq: 2,
            snapshot,
        }
    }

    fn body(metrics: &Metrics) -> Result<Arc<[u8]>, EncodeError> {
        MetricsRef {
            host: &metrics.host,
            collector: &metrics.collector,
            at_ms: metrics.at_ms,
            seq: metrics.seq,
            snapshot: &Packed::of(&metrics.snapshot).unwrap(),
        }
        .body()
    }

    #[test]
    fn borrowed_parts_have_the_same_bytes() {
        for snapshot in [
            json!({ "a": [1, "b", null, 0.5], "c": { "d": u64::MAX, "e": i64::MIN } }),
            json!({}),
            Value::Null,
        ] {
            let metrics = metrics(snapshot);
            let body = body(&metrics).unwrap();
            assert_eq!(*body, *encode(&metrics).unwrap());
            assert_eq!(
                decode::<Metrics>(Kind::Metrics.wire_name(), &body).unwrap(),
                metrics
            );
        }
    }

    #[test]
    fn the_bound_is_that_of_the_message() {
        let max = Kind::Metrics.body_bytes_max();
        let frame = encode(&metrics(json!("x".repeat(1 << 16)))).unwrap().len() - (1 << 16);
        let full = metrics(json!("x".repeat(max - frame)));
        assert_eq!(body(&full).unwrap().len(), max);
        let over = metrics(json!("x".repeat(max - frame + 1)));
        let said = |outcome: Result<usize, EncodeError>| outcome.unwrap_err().to_string();
        assert_eq!(
            said(body(&over).map(|body| body.len())),
            said(encode(&over).map(|body| body.len()))
        );
    }
}
