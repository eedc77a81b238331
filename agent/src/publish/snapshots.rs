//! Sends snapshots: in memory only, the newest of each collector, what is overtaken is counted. They never hold up
//! anything else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use muster_link::{Link, Outgoing, Receipt, stamp};
use muster_proto::envelope::Kind;
use muster_proto::id::HostId;
use muster_proto::metric::MetricsRef;
use muster_proto::packed::Packed;
use muster_proto::topology;
use tokio::sync::Notify;

use super::next_session;

/// One snapshot on its way.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// When it was taken, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Number among its collector's.
    pub(crate) seq: u64,
    /// Itself.
    pub(crate) snapshot: Packed,
}

/// The newest snapshot of each collector that was not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    waiting: Mutex<BTreeMap<&'static str, Snapshot>>,
    news: Notify,
    dropped: AtomicU64,
}

impl Snapshots {
    /// Takes a snapshot; one of the same collector that still waits is dropped.
    pub(crate) fn put(&self, collector: &'static str, snapshot: Snapshot) {
        let overtaken = self.lock().insert(collector, snapshot);
        self.drop_one(overtaken);
        self.news.notify_one();
    }

    /// Snapshots that were never sent, since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends what comes while there is a session; returns when the link was stopped.
    pub(crate) async fn publish(&self, link: &Link, host: &HostId) {
        let mut status = link.status();
        while next_session(&mut status).await.is_some() {
            let next = self.lock().pop_first();
            match next {
                Some((collector, snapshot)) => {
                    self.publish_one(link, host, collector, snapshot).await
                }
                None => self.news.notified().await,
            }
        }
    }

    async fn publish_one(
        &self,
        link: &Link,
        host: &HostId,
        collector: &'static str,
        snapshot: Snapshot,
    ) {
        let metrics = MetricsRef {
            host,
            collector,
            at_ms: snapshot.at_ms,
            seq: snapshot.seq,
            snapshot: &snapshot.snapshot,
        };
        let body = match metrics.body() {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(collector, %error, "a snapshot can't be sent");
                return self.drop_one(Some(snapshot));
            }
        };
        let outgoing = Outgoing {
            exchange: topology::METRICS,
            routing_key: topology::topic_key(collector, host),
            kind: Kind::Metrics,
            message_id: stamp::new_message_id(),
            correlation_id: None,
            timestamp_ms: snapshot.at_ms,
            expiration_ms: None,
            mandatory: false,
            transient: false,
            reply_to: None,
            signature: None,
            body,
        };
        match link.publish(outgoing).await {
            Ok(Receipt::Confirmed) => {}
            outcome => {
                tracing::debug!(collector, ?outcome, "a snapshot was not confirmed");
                self.drop_one(Some(snapshot));
            }
        }
    }

    fn drop_one(&self, snapshot: Option<Snapshot>) {
        if snapshot.is_some() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Snapshot>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_collector_waits_and_the_rest_is_counted() {
        let snapshots = Snapshots::default();
        let snapshot = |seq| Snapshot {
            at_ms: seq,
            seq,
            snapshot: Packed::of(&seq).unwrap(),
        };
        snapshots.put("host", snapshot(1));
        snapshots.put("host", snapshot(2));
        snapshots.put("nginx", snapshot(1));
        assert_eq!(snapshots.dropped(), 1);
        let waiting = snapshots.lock();
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting.get("host").unwrap().seq, 2);
    }
}
