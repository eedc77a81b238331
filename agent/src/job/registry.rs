//! The jobs that are in hand: who runs, who waits, who was just answered. Plain data; it does nothing by itself.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use muster_proto::action::{ActionSpec, Effect};
use muster_proto::id::JobId;
use muster_proto::job::JobRequest;

use super::replies::AckSlot;
use super::run_one::Stopper;
use crate::action::{Action, Lane};

/// Ids of answered reads that are remembered, for deliveries that come again because their acknowledgement was lost:
/// more than can be unacknowledged at once.
pub(super) const RECENT_MAX: usize = 2048;

/// A job in hand.
pub(super) struct Live {
    pub(super) request: JobRequest,
    pub(super) spec: &'static ActionSpec,
    pub(super) action: Arc<dyn Action>,
    pub(super) lane: Lane,
    pub(super) received_at_ms: u64,
    /// When it was started; `None` while it waits.
    pub(super) started_at_ms: Option<u64>,
    /// Whether its start is recorded already.
    pub(super) start_recorded: bool,
    /// Whether its controller was told that it waits.
    pub(super) told_waiting: bool,
    pub(super) stopper: Stopper,
    /// Its delivery, where that is acknowledged only after the answer.
    pub(super) slot: Option<AckSlot>,
}

impl Live {
    pub(super) fn is_change(&self) -> bool {
        self.spec.effect == Effect::Change
    }
}

/// The last so many ids.
#[derive(Default)]
pub(super) struct Recent {
    order: VecDeque<JobId>,
    ids: HashSet<JobId>,
}

impl Recent {
    pub(super) fn insert(&mut self, job: JobId) {
        if self.ids.insert(job) {
            self.order.push_back(job);
        }
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, job: JobId) -> bool {
        self.ids.contains(&job)
    }
}

/// All jobs in hand.
pub(super) struct Registry {
    pub(super) jobs: HashMap<JobId, Live>,
    /// Those that wait for a place, oldest first. Ids that are no longer in `jobs` are passed over.
    pub(super) queue: VecDeque<JobId>,
    /// Places taken.
    pub(super) working: usize,
    pub(super) places: usize,
    pub(super) queue_max: usize,
    /// Reads that were answered.
    pub(super) answered: Recent,
    /// Jobs that were cancelled before they came; the state file has them too, for those that it is asked about.
    pub(super) cancelled_ahead: Recent,
}

impl Registry {
    pub(super) fn new(places: usize, queue_max: usize) -> Self {
        Self {
            jobs: HashMap::new(),
            queue: VecDeque::new(),
            working: 0,
            places,
            queue_max,
            answered: Recent::default(),
            cancelled_ahead: Recent::default(),
        }
    }

    /// Whether a job of `lane` could start now.
    pub(super) fn has_place(&self, lane: Lane) -> bool {
        lane == Lane::Desk || (self.working < self.places && self.queue.is_empty())
    }

    /// Whether a job of `lane` could start or wait.
    pub(super) fn has_room(&self, lane: Lane) -> bool {
        self.has_place(lane) || self.queue.len() < self.queue_max
    }

    /// The job whose turn it is, if there is a place for it.
    pub(super) fn next_in_queue(&mut self) -> Option<JobId> {
        while self.working < self.places {
            let job = self.queue.pop_front()?;
            if self.jobs.contains_key(&job) {
                return Some(job);
            }
        }
        None
    }

    /// Takes a waiting job out.
    pub(super) fn withdraw(&mut self, job: JobId) -> Option<Live> {
        self.queue.retain(|queued| *queued != job);
        self.jobs.remove(&job)
    }
}
