//! What waits for a sink: in order, bounded in bytes, number and age. It must not know what a snapshot is.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_link::Incoming;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Snapshots that wait at the most: half of what the broker hands out unacked.
const NUMBER_MAX: usize = 10_000;

/// Bytes that a snapshot costs beside its own.
const OVERHEAD_BYTES: usize = 300;

/// A snapshot that waits.
pub(super) struct Held {
    pub(super) incoming: Incoming,
    pub(super) since: Instant,
}

impl Held {
    fn bytes(&self) -> usize {
        self.incoming.body.len() + OVERHEAD_BYTES
    }
}

/// What waits.
pub(super) struct Backlog {
    waiting: Mutex<Waiting>,
    more: Notify,
    bytes_max: usize,
    age_max: Duration,
}

#[derive(Default)]
struct Waiting {
    held: VecDeque<Held>,
    bytes: usize,
}

impl Waiting {
    fn pop(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.bytes -= held.bytes();
        Some(held)
    }
}

impl Backlog {
    pub(super) fn new(bytes_max: usize, age_max: Duration) -> Self {
        Self {
            waiting: Mutex::default(),
            more: Notify::new(),
            bytes_max,
            age_max,
        }
    }

    /// Puts a snapshot at the end; gives back what there is no room for, the oldest first.
    pub(super) fn push(&self, incoming: Incoming) -> Vec<Held> {
        let let_go = self.with(|waiting| {
            let since = Instant::now();
            let held = Held { incoming, since };
            waiting.bytes += held.bytes();
            waiting.held.push_back(held);
            let mut let_go = Vec::new();
            while waiting.bytes > self.bytes_max || waiting.held.len() > NUMBER_MAX {
                let_go.extend(waiting.pop());
            }
            let_go
        });
        self.more.notify_one();
        let_go
    }

    /// What has waited too long.
    pub(super) fn overdue(&self) -> Vec<Held> {
        self.with(|waiting| {
            let mut let_go = Vec::new();
            while let Some(first) = waiting.held.front()
                && first.since.elapsed() > self.age_max
            {
                let_go.extend(waiting.pop());
            }
            let_go
        })
    }

    /// The oldest, so many and so many bytes at the most, but one at least; waits until there is one.
    pub(super) async fn next(&self, number_max: usize, bytes_max: usize) -> Vec<Held> {
        loop {
            let taken = self.with(|waiting| {
                let mut taken = Vec::new();
                let mut bytes = 0;
                while let Some(first) = waiting.held.front()
                    && taken.len() < number_max
                    && (taken.is_empty() || bytes + first.bytes() <= bytes_max)
                {
                    bytes += first.bytes();
                    taken.extend(waiting.pop());
                }
                taken
            });
            if !taken.is_empty() {
                return taken;
            }
            self.more.notified().await;
        }
    }

    pub(super) fn clear(&self) {
        self.with(|waiting| *waiting = Waiting::default());
    }

    /// How many wait, their bytes, and since when the oldest does.
    pub(super) fn size(&self) -> (usize, usize, Option<Instant>) {
        self.with(|waiting| {
            let oldest = waiting.held.front().map(|held| held.since);
            (waiting.held.len(), waiting.bytes, oldest)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Waiting) -> T) -> T {
        work(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
