//! Answers that are kept in memory alone: published until the broker has them, then their delivery is acknowledged.
//! After a crash the broker delivers the job again. It must not know what the answers say.
//!
//! Most answers are small, and to jobs that the broker itself would forget: those are sent ahead of their delivery's
//! acknowledgement on the same channel, and no confirm is asked for. A broker that has the acknowledgement has the
//! answer; one that has not delivers the job again, and gets the same answer. Confirms would cost both a quarter more.
//! The acknowledgements trail behind, in one packet with the next answer or after a moment: by itself each costs both as
//! much as an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use muster_proto::id::JobId;
use muster_proto::topology;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Acknowledge, JobCounters, ReplyWire, Underway};
use crate::state::OutMessage;

/// Answers that wait for the broker at the most. More deliveries are not taken from the queue meanwhile; the prefetch
/// keeps their number below this, too.
pub(super) const PENDING_MAX: usize = 1024;

/// Largest answer that is sent ahead of its acknowledgement: it fits one frame, and many fit the connection's buffer.
const AHEAD_BYTES_MAX: usize = 4096;

/// Bytes of answers that were sent so and are kept, should their delivery come again; of one that is not there any more
/// the job is read again.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// How long acknowledgements trail behind answers that are written.
const TRAIL_LIMIT: Duration = Duration::from_secs(1);

/// Pause before an answer that was not confirmed is published again.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// A delivery's acker. A job that is delivered again while it is in hand brings a new one.
#[derive(Clone)]
pub(super) struct AckSlot {
    acker: Arc<Mutex<Arc<dyn Acknowledge>>>,
    /// Whether the broker forgets the delivery when it goes, and the job's sender sends it again.
    transient: bool,
    /// Whether the job's sender takes a small answer by the exchange for those.
    direct: bool,
}

impl AckSlot {
    pub(super) fn new(acker: Arc<dyn Acknowledge>, transient: bool, direct: bool) -> Self {
        Self {
            acker: Arc::new(Mutex::new(acker)),
            transient,
            direct,
        }
    }

    pub(super) fn replace(&self, acker: Arc<dyn Acknowledge>) {
        *self.acker.lock().unwrap_or_else(PoisonError::into_inner) = acker;
    }

    pub(super) fn get(&self) -> Arc<dyn Acknowledge> {
        self.acker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// An answer that the broker has confirmed.
struct Answered {
    job: Option<JobId>,
    slot: AckSlot,
    /// Which was used.
    acker: Arc<dyn Acknowledge>,
}

/// An answer that went ahead, and its delivery, which is acknowledged when the answer is written.
struct Trailing {
    answer: Box<dyn Underway>,
    acker: Arc<dyn Acknowledge>,
}

/// The answers that wait for the broker.
pub(super) struct Replies {
    wire: Arc<dyn ReplyWire>,
    counters: Arc<JobCounters>,
    slots: HashMap<JobId, AckSlot>,
    tasks: JoinSet<Answered>,
    /// Deliveries whose answers were sent ahead, in that order.
    trailing: VecDeque<Trailing>,
    acknowledge_at: Option<Instant>,
    /// The last answers that were sent ahead of their acknowledgement, oldest first.
    kept: VecDeque<(JobId, OutMessage)>,
    kept_bytes: usize,
}

impl Replies {
    pub(super) fn new(wire: Arc<dyn ReplyWire>, counters: Arc<JobCounters>) -> Self {
        Self {
            wire,
            counters,
            slots: HashMap::new(),
            tasks: JoinSet::new(),
            trailing: VecDeque::new(),
            acknowledge_at: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
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

    /// Whether a job's answer was sent and is still kept.
    pub(super) fn has_sent(&self, job: JobId) -> bool {
        self.kept.iter().any(|(kept, _)| *kept == job)
    }

    /// Sends the answer that is kept of `job` once more, for a delivery that came again; `false` where there is none. It
    /// goes the long way, by which it arrives also where this host may not take the short one.
    pub(super) fn send_again(&mut self, job: JobId, mut slot: AckSlot) -> bool {
        let kept = self.kept.iter().find(|(kept, _)| *kept == job);
        let Some(message) = kept.map(|(_, message)| message.clone()) else {
            return false;
        };
        JobCounters::count(&self.counters.resent);
        slot.direct = false;
        self.send(Some(job), message, slot);
        true
    }

    fn keep(&mut self, job: JobId, message: OutMessage) {
        if self.has_sent(job) {
            return;
        }
        self.kept_bytes += message.body.len();
        self.kept.push_back((job, message));
        while self.kept_bytes > KEPT_BYTES_MAX
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.body.len();
        }
    }

    /// Publishes `message` and acknowledges the delivery: behind it where that is enough, or else when it is confirmed,
    /// for which it is published until then. `job` is given where the delivery was verified, so that one that comes
    /// again finds its answer; a forgery must not pass for the job whose id it bears.
    pub(super) fn send(&mut self, job: Option<JobId>, message: OutMessage, slot: AckSlot) {
        let Some(answer) = self.send_ahead(&message, &slot) else {
            return self.send_until_confirmed(job, message, slot);
        };
        // Those before it, in the same packet: the connection has been woken to write, and needs a moment to begin.
        self.acknowledge();
        self.trailing.push_back(Trailing {
            answer,
            acker: slot.get(),
        });
        self.acknowledge_at
            .get_or_insert_with(|| Instant::now() + TRAIL_LIMIT);
        if let Some(job) = job {
            self.keep(job, message);
        }
    }

    fn send_ahead(&self, message: &OutMessage, slot: &AckSlot) -> Option<Box<dyn Underway>> {
        if !slot.transient || message.body.len() > AHEAD_BYTES_MAX {
            return None;
        }
        let mut message = message.clone();
        if slot.direct
            && let Some(job) = message.correlation_id
        {
            message.exchange = topology::ANSWERS;
            message.routing_key = topology::answer_key(job);
        }
        self.wire.publish_ahead_of_ack(message)
    }

    /// When [`Replies::acknowledge`] is to be called; `None` while nothing trails.
    pub(super) fn acknowledge_at(&self) -> Option<Instant> {
        self.acknowledge_at
    }

    /// Acknowledges the deliveries whose answers were sent ahead, as far as those are written.
    pub(super) fn acknowledge(&mut self) {
        while let Some(written) = self
            .trailing
            .front_mut()
            .and_then(|first| first.answer.written())
        {
            let first = self.trailing.pop_front();
            // One whose answer was not written comes again: its session is gone.
            if let Some(first) = first.filter(|_| written) {
                // Handing it to the connection takes no time.
                first.acker.ack().now_or_never();
            }
        }
        self.acknowledge_at = (!self.trailing.is_empty()).then(|| Instant::now() + TRAIL_LIMIT);
    }

    fn send_until_confirmed(&mut self, job: Option<JobId>, message: OutMessage, slot: AckSlot) {
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
            let acker = slot.get();
            acker.ack().await;
            Answered { job, slot, acker }
        });
    }

    /// Waits for the next answer that the broker has confirmed, and gives its job if it was a verified one; for ever where
    /// there is none.
    pub(super) async fn done(&mut self) -> Option<JobId> {
        let answered = match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok(answered)) => answered,
            Some(Err(error)) => {
                tracing::error!(%error, "the task of an answer ended early; the broker will deliver its job again");
                return None;
            }
        };
        let Answered { job, slot, acker } = answered;
        let job = job?;
        self.slots.remove(&job);
        let newest = slot.get();
        if !Arc::ptr_eq(&acker, &newest) {
            newest.ack().now_or_never();
        }
        Some(job)
    }
}
