//! The state file: the outbox and the jobs, in one embedded transactional file (redb) with one owner thread.
//!
//! What is answered with `Ok` is on disk, whatever happens next to the agent or the machine. Requests that come
//! together are committed together. It must not know the broker, nor what actions and collectors do.

mod bounds;
mod held;
mod open;
mod owner;
mod record;
mod request;
mod store;
mod tail;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
mod txn;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use muster_proto::id::{HostId, JobId, MessageId};
use muster_proto::job::JobResult;
use muster_proto::presence::OutboxDepth;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};

use held::Write;
pub use open::OpenError;
pub use owner::StateOwner;
pub use record::{
    Begun, Class, JobRecord, JobStage, Lane, NewEvent, NewJob, OutMessage, OutboxKey, OutboxRecord,
    Recovered, result_message,
};
use request::Request;
pub use tail::{TailBatch, TailChange, TailStored};

/// Requests that wait for the owner thread; more make their callers wait.
const REQUESTS_MAX: usize = 256;

/// Most bytes that the outbox may hold where the config does not say: at 300 bytes an event, a day at two a second.
pub const OUTBOX_BYTES_MAX_DEFAULT: u64 = 64 * 1024 * 1024;

/// Least bound of the outbox that a config may set: room for a few results at their largest.
pub const OUTBOX_BYTES_MAX_LEAST: u64 = 4 * 1024 * 1024;

/// Longest that a message waits in the outbox where the config does not say: as long as a job may be on its way.
pub const OUTBOX_AGE_MAX_MS_DEFAULT: u64 = 7 * 24 * 3600 * 1000;

/// Most jobs that are remembered: one every six seconds for the seven days for which a job may be on its way, at 300
/// bytes each.
pub const JOBS_REMEMBERED_MAX: u64 = 100_000;

/// Gives the time in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    })
}

/// A new message id for something that happened at `at_ms`.
#[must_use]
pub fn new_message_id(at_ms: u64) -> MessageId {
    let mut random = [0; 10];
    if getrandom::fill(&mut random).is_err() {
        // Without the kernel's random numbers an id of the clock alone is still unique enough to drop duplicates by.
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        random = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        random
            .iter_mut()
            .zip(nanos.to_be_bytes())
            .for_each(|(to, from)| *to = from);
    }
    MessageId::from_parts(at_ms, random)
}

/// The config's section `[outbox]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxSection {
    /// Most bytes that may wait to be sent.
    pub bytes_max: bytesize::ByteSize,
    /// Longest that anything may wait.
    pub age_max: jiff::SignedDuration,
}

impl Default for OutboxSection {
    fn default() -> Self {
        Self {
            bytes_max: bytesize::ByteSize(OUTBOX_BYTES_MAX_DEFAULT),
            age_max: jiff::SignedDuration::from_hours(24 * 7),
        }
    }
}

impl OutboxSection {
    /// Checks the values.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        if self.bytes_max.0 < OUTBOX_BYTES_MAX_LEAST {
            return Err(format!(
                "[outbox] bytes_max: expected at least 4 MiB, found {}",
                self.bytes_max
            ));
        }
        if self.age_max < jiff::SignedDuration::from_mins(1) {
            return Err(format!(
                "[outbox] age_max: expected at least 1m, found {}",
                self.age_max
            ));
        }
        Ok(())
    }
}

/// What the state file is opened with.
#[derive(Clone)]
pub struct StateConfig {
    /// The directory; made where it is missing.
    pub dir: PathBuf,
    /// This host, in whose name events are stored.
    pub host: HostId,
    /// Most bytes of the outbox.
    pub outbox_bytes_max: u64,
    /// Longest wait in the outbox in milliseconds.
    pub outbox_age_max_ms: u64,
    /// Most jobs that are remembered; [`JOBS_REMEMBERED_MAX`] but in tests.
    pub jobs_max: u64,
    /// The time.
    pub clock: Clock,
}

impl StateConfig {
    /// The usual bounds and the system's clock.
    #[must_use]
    pub fn new(dir: PathBuf, host: HostId, outbox: &OutboxSection) -> Self {
        Self {
            dir,
            host,
            outbox_bytes_max: outbox.bytes_max.0,
            outbox_age_max_ms: u64::try_from(outbox.age_max.as_millis())
                .unwrap_or(OUTBOX_AGE_MAX_MS_DEFAULT),
            jobs_max: JOBS_REMEMBERED_MAX,
            clock: system_clock(),
        }
    }
}

/// How the state file is, for presence, `/readyz`, `/metrics`, and to wake the publisher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateStatus {
    /// What waits to be sent. Its bytes are counted as stored, a little more than the bodies.
    pub depth: OutboxDepth,
    /// Number of the newest message in the outbox; it rises whenever there is something new to send.
    pub newest_seq: u64,
    /// Why nothing can be written, while that is so; what comes meanwhile is held in memory.
    pub unwritable: Option<String>,
    /// Events and results that are held in memory until they can be written.
    pub held: u64,
    /// How often a write has failed.
    pub write_failures: u64,
    /// How often a damaged file was set aside since the agent was started.
    pub damaged: u64,
}

/// Why a request to the state file failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It can't be written or read just now.
    #[error(
        "could not use the state file {path}: {why}; free some space or see to the disk, the agent goes on by itself"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The system's or the database's words.
        why: String,
    },
    /// An event that can't be a message.
    #[error("not an event: {0}")]
    BadEvent(String),
    /// The agent is stopping.
    #[error("the state file is closed: the agent is stopping")]
    Closed,
}

/// The handle to the state file. Cheap to clone.
#[derive(Clone)]
pub struct State {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<StateStatus>,
}

impl State {
    /// Opens the file in `config.dir` and starts its owner thread; a file that can't be used is set aside, a new one
    /// begun and the event `agent.state.damaged` put into it.
    ///
    /// # Errors
    /// When another agent uses the directory, or it can't be written to.
    pub fn open(config: StateConfig) -> Result<(Self, StateOwner), OpenError> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let (status_sender, status) = watch::channel(StateStatus::default());
        let owner = owner::start(config, (requests.clone(), receiver), status_sender)?;
        Ok((Self { requests, status }, owner))
    }

    /// Takes events over: they are on disk, or, while nothing can be written, in memory until it can.
    ///
    /// # Errors
    /// A topic that is none (nothing is taken over then), or the agent stops.
    pub async fn accept_events(&self, events: Vec<NewEvent>) -> Result<(), StateError> {
        for event in &events {
            if !muster_proto::event::is_topic(&event.topic) {
                return Err(StateError::BadEvent(format!(
                    "{:?} is not a topic",
                    event.topic
                )));
            }
        }
        self.ask(|answer| Request::Write(Write::Events(events), answer))
            .await
    }

    /// Records a job, before its delivery is acknowledged and before it runs.
    ///
    /// # Errors
    /// When it could not be recorded: it must not be run then.
    pub async fn begin_job(&self, job: NewJob) -> Result<Begun, StateError> {
        self.ask(|answer| Request::Begin(Box::new(job), answer))
            .await
    }

    /// Records that a queued job starts now.
    ///
    /// # Errors
    /// When it could not be recorded: it must not be run then.
    pub async fn start_job(&self, job: JobId, at_ms: u64) -> Result<(), StateError> {
        self.ask(|answer| Request::Start(job, at_ms, answer)).await
    }

    /// Records a job's end together with the message that says so. While nothing can be written it is held in memory.
    ///
    /// # Errors
    /// When the agent stops, or the result is over its bound (see `job::bounded`).
    pub async fn finish_job(&self, result: JobResult) -> Result<(), StateError> {
        self.ask(|answer| Request::Write(Write::Finish(Box::new(result)), answer))
            .await
    }

    /// Remembers that a job which has not come is to be refused when it comes. `false` where it is known already.
    ///
    /// # Errors
    /// When it could not be recorded.
    pub async fn cancel_ahead(&self, job: JobId) -> Result<bool, StateError> {
        self.ask(|answer| Request::CancelAhead(job, answer)).await
    }

    /// What is recorded of a job.
    ///
    /// # Errors
    /// When the file could not be read.
    pub async fn job(&self, job: JobId) -> Result<Option<JobRecord>, StateError> {
        self.ask(|answer| Request::Job(job, answer)).await
    }

    /// Settles what earlier runs of the agent left behind: answers what was cut off, gives what is still to be run.
    /// To be called until it succeeds once; jobs of this run are left alone.
    ///
    /// # Errors
    /// When the file could not be read or written.
    pub async fn recover(&self) -> Result<Recovered, StateError> {
        self.ask(Request::Recover).await
    }

    /// The next messages of a lane after number `after` (0: from the first), up to `bytes_max` of bodies but at least
    /// one if there is any. A publisher keeps its own place and starts again at 0 with each new connection.
    ///
    /// # Errors
    /// When the file could not be read.
    pub async fn next_outbox(
        &self,
        lane: Lane,
        after: u64,
        bytes_max: usize,
    ) -> Result<Vec<OutboxRecord>, StateError> {
        self.ask(|answer| Request::Next {
            lane,
            after,
            bytes_max,
            answer,
        })
        .await
    }

    /// The broker has confirmed these: they are deleted soon. After a crash some may be sent once more, with the same
    /// message ids.
    ///
    /// # Errors
    /// When the agent stops.
    pub async fn confirm(&self, keys: Vec<OutboxKey>) -> Result<(), StateError> {
        self.requests
            .send(Request::Confirm(keys))
            .await
            .map_err(|_| StateError::Closed)
    }

    /// How the file is; changes with everything stored and sent.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<StateStatus> {
        self.status.clone()
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StateError>>) -> Request,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(request(answer))
            .await
            .map_err(|_| StateError::Closed)?;
        answered.await.map_err(|_| StateError::Closed)?
    }
}
