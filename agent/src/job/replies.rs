//! Answers that are kept in memory alone: published until the broker has them. The delivery of a small one is
//! acknowledged in one write with it, so that a crash loses both and the broker delivers the job again; that of a large
//! one when the broker has confirmed it. It must not know what the answers say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use muster_proto::id::JobId;
use tokio::task::JoinSet;

use super::{Acknowledge, Handed, JobCounters, ReplyWire};
use crate::state::OutMessage;

/// Answers that wait for the broker at the most. More deliveries are not taken from the queue meanwhile; the prefetch
/// keeps their number below this, too.
pub(super) const PENDING_MAX: usize = 1024;

/// Largest answer that is acknowledged in one write with it: it fits one frame, and many fit the connection's buffer.
const ONE_WRITE_BYTES_MAX: usize = 4096;

/// Pause before an answer that was not confirmed is published again.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// A delivery's acker, until it is used. A job that is delivered again while it is in hand brings a new one.
#[derive(Clone)]
pub(super) struct AckSlot(Arc<Mutex<Option<Arc<dyn Acknowledge>>>>);

impl AckSlot {
    pub(super) fn new(acker: Arc<dyn Acknowledge>) -> Self {
        Self(Arc::new(Mutex::new(Some(acker))))
    }

    pub(super) fn replace(&self, acker: Arc<dyn Acknowledge>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(acker);
    }

    /// Acknowledges the delivery, once. Handing it to the connection takes no time.
    pub(super) fn ack(&self) {
        let acker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(acker) = acker {
            acker.ack().now_or_never();
        }
    }
}

/// The answers that wait for the broker.
pub(super) struct Replies {
    wire: Arc<dyn ReplyWire>,
    counters: Arc<JobCounters>,
    slots: HashMap<JobId, AckSlot>,
    tasks: JoinSet<Option<JobId>>,
}

impl Replies {
    pub(super) fn new(wire: Arc<dyn ReplyWire>, counters: Arc<JobCounters>) -> Self {
        Self {
            wire,
            counters,
            slots: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.tasks.len() < PENDING_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The slot of a job whose answer is on its way.
    pub(super) fn slot(&self, job: JobId) -> Option<&AckSlot> {
        self.slots.get(&job)
    }

    /// Publishes `message` until it is confirmed, and acknowledges the delivery with it. `job` is given where the delivery was
    /// verified, so that one that comes again finds its slot; a forgery must not pass for the job whose id it bears.
    pub(super) fn send(&mut self, job: Option<JobId>, message: OutMessage, slot: AckSlot) {
        if let Some(job) = job {
            self.slots.insert(job, slot.clone());
        }
        let (wire, counters) = (self.wire.clone(), self.counters.clone());
        let one_write = message.body.len() <= ONE_WRITE_BYTES_MAX;
        self.tasks.spawn(async move {
            loop {
                wire.up().await;
                let acked = slot.clone();
                let ack: Handed = Box::new(move || acked.ack());
                let handed = one_write.then_some(ack);
                match wire.publish(message.clone(), handed).await {
                    Ok(()) => break,
                    Err(why) => tracing::debug!(why, "answer not confirmed, sending it again"),
                }
                JobCounters::count(&counters.resent);
                tokio::time::sleep(RESEND_AFTER).await;
            }
            // A large one's, or that of one which came again meanwhile.
            slot.ack();
            job
        });
    }

    /// Waits for the next answer that the broker has, and gives its job if it was a verified one; for ever where there
    /// is none.
    pub(super) async fn done(&mut self) -> Option<JobId> {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok(job)) => job.inspect(|job| {
                self.slots.remove(job);
            }),
            Some(Err(error)) => {
                tracing::error!(%error, "the task of an answer ended early; the broker will deliver its job again");
                None
            }
        }
    }
}
