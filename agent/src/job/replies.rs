//! Answers that are kept in memory alone: published until the broker has them, then their delivery is acknowledged.
//! After a crash the broker delivers the job again. It must not know what the answers say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_proto::id::JobId;
use tokio::task::JoinSet;

use super::{Acknowledge, JobCounters, ReplyWire};
use crate::state::OutMessage;

/// Answers that wait for the broker at the most. More deliveries are not taken from the queue meanwhile; the prefetch
/// keeps their number below this, too.
pub(super) const PENDING_MAX: usize = 1024;

/// Pause before an answer that was not confirmed is published again.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// A delivery's acker. A job that is delivered again while it is in hand brings a new one.
#[derive(Clone)]
pub(super) struct AckSlot(Arc<Mutex<Arc<dyn Acknowledge>>>);

impl AckSlot {
    pub(super) fn new(acker: Arc<dyn Acknowledge>) -> Self {
        Self(Arc::new(Mutex::new(acker)))
    }

    pub(super) fn replace(&self, acker: Arc<dyn Acknowledge>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = acker;
    }

    pub(super) fn get(&self) -> Arc<dyn Acknowledge> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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

    /// Publishes `message` until it is confirmed, then acknowledges the delivery. `job` is given where the delivery was
    /// verified, so that one that comes again finds its slot; a forgery must not pass for the job whose id it bears.
    pub(super) fn send(&mut self, job: Option<JobId>, message: OutMessage, slot: AckSlot) {
        if let Some(job) = job {
            self.slots.insert(job, slot.clone());
        }
        let (wire, counters) = (self.wire.clone(), self.counters.clone());
        self.tasks.spawn(async move {
            loop {
                wire.up().await;
                match wire.publish(message.clone()).await {
                    Ok(()) => break,
                    Err(why) => tracing::debug!(why, "answer not confirmed, sending it again"),
                }
                JobCounters::count(&counters.resent);
                tokio::time::sleep(RESEND_AFTER).await;
            }
            slot.get().ack().await;
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
