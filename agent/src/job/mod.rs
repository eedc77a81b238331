//! Jobs: verify, record, acknowledge, run, answer. One owner task, the [`Runner`], holds every job of the host.
//!
//! Jobs with effects are recorded in the state file before their delivery is acknowledged, and never run twice. Jobs
//! that only read, and refusals, are not recorded: their delivery is acknowledged when the broker has the answer, so
//! that the queue is their durable copy. It must not know how the broker is reached, nor what an action does.

mod answer;
mod intake;
mod live;
mod policy;
mod registry;
mod replies;
mod run_one;
mod runner;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
mod verify;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_proto::id::JobId;
use serde::Deserialize;

pub(crate) use policy::glob_matches;
pub use policy::{Access, AccessError, Globs, Key, KeySection, PolicySection};
pub use runner::{Runner, RunnerConfig};
pub use verify::{Refusal, Signed, Verified, verify};

use self::replies::AckSlot;
use crate::state::OutMessage;

/// Jobs that run at the same time where the config does not say.
pub const CONCURRENCY_DEFAULT: usize = 8;

/// Jobs that wait for a place where the config does not say; more are refused as busy.
pub const QUEUE_MAX_DEFAULT: usize = 256;

/// Unacknowledged deliveries that the consumer should be given at the most: what waits, what runs and what is being
/// answered, with some room for pings.
pub const PREFETCH: u16 = 512;

/// The config's section `[jobs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobsSection {
    /// Jobs that run at the same time.
    pub concurrency: usize,
    /// Jobs that wait for a place.
    pub queue_max: usize,
}

impl Default for JobsSection {
    fn default() -> Self {
        Self {
            concurrency: CONCURRENCY_DEFAULT,
            queue_max: QUEUE_MAX_DEFAULT,
        }
    }
}

impl JobsSection {
    /// Checks the values.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=1000).contains(&self.concurrency) {
            return Err(format!(
                "[jobs] concurrency: expected 1 to 1000, found {}",
                self.concurrency
            ));
        }
        if self.queue_max > 10_000 {
            return Err(format!(
                "[jobs] queue_max: expected 0 to 10000, found {}",
                self.queue_max
            ));
        }
        Ok(())
    }
}

/// Settles a delivery with the broker. Where its session is gone both do nothing: the broker delivers it again.
pub trait Acknowledge: Send + Sync {
    /// It is taken care of.
    fn ack(&self) -> BoxFuture<'_, ()>;

    /// It can't be used: to the dead letters, not to the queue again.
    fn reject(&self) -> BoxFuture<'_, ()>;
}

/// A message from the agent's queue.
pub struct Delivery {
    /// Its AMQP `type`.
    pub kind: String,
    /// Its body's exact bytes.
    pub body: Vec<u8>,
    /// The header that names the key.
    pub key_id: Option<String>,
    /// The header that holds the signature.
    pub signature: Option<String>,
    /// Whether the broker forgets it when it goes, and its sender sends it again.
    pub transient: bool,
    /// Whether its sender takes a small answer by the exchange for those.
    pub direct: bool,
    /// Settles it.
    pub acker: Arc<dyn Acknowledge>,
}

impl Delivery {
    fn slot(&self) -> AckSlot {
        AckSlot::new(Arc::clone(&self.acker), self.transient, self.direct)
    }
}

/// A message on its way into the connection.
pub trait Underway: Send + Sync {
    /// Whether it was written: `None` while it still waits, `Some(false)` when it never will be.
    fn written(&mut self) -> Option<bool>;
}

/// Carries answers that are not in the outbox.
pub trait ReplyWire: Send + Sync {
    /// Returns when a session with the broker is up (at once if it is).
    fn up(&self) -> BoxFuture<'_, ()>;

    /// Publishes on the channel that deliveries come by, so that what is acknowledged when it is written is acknowledged
    /// behind it; nobody tells what became of it. `None` where it can't be written now.
    fn publish_ahead_of_ack(&self, message: OutMessage) -> Option<Box<dyn Underway>>;

    /// Publishes; `Ok` when the broker has confirmed it. The caller tries again after an error.
    fn publish(&self, message: OutMessage) -> BoxFuture<'_, Result<(), String>>;
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// What happened to jobs since the agent was started, for `/metrics`.
        #[derive(Debug, Default)]
        pub struct JobCounters {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)+
        }

        impl JobCounters {
            /// Every counter's name and value.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)+]
            }
        }
    };
}

counters! {
    /// Jobs that passed every check.
    accepted,
    /// Jobs that were refused.
    refused,
    /// Jobs that came after their deadline.
    expired,
    /// Jobs that came again and were only acknowledged.
    duplicates,
    /// Messages that are no job.
    garbage,
    /// Jobs that were refused because they could not be recorded.
    not_recorded,
    /// Jobs that were refused because too many waited.
    busy,
    /// Jobs that ended with success.
    succeeded,
    /// Jobs that ended without.
    failed,
    /// Actions that panicked.
    panicked,
    /// Answers that had to be published again.
    resent,
}

impl JobCounters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the jobs are doing, for presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobsStatus {
    /// Jobs that run or wait.
    pub open: u32,
    /// The last job that came through the queue.
    pub last_job: Option<JobId>,
}

/// How long a job may take before its controller is told that it is there.
const ACK_AFTER: Duration = Duration::from_secs(1);
