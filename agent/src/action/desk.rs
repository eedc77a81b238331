//! The desk at which actions ask after and cancel other jobs. The job registry sits behind it; an action must not know
//! how it keeps its jobs.

use muster_proto::id::JobId;
use muster_proto::job::Outcome;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the registry; more make their askers wait.
const QUESTIONS_MAX: usize = 64;

/// What the host knows of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobWhere {
    /// It waits for a place.
    Queued,
    /// It runs.
    Running,
    /// It ended so.
    Finished(Option<Outcome>),
    /// It was cancelled before it came.
    CancelledAhead,
    /// The host never heard of it, or no longer remembers it.
    Unknown,
}

/// A question to the registry.
#[derive(Debug)]
pub(crate) enum Question {
    /// Where is the job?
    Where(JobId, oneshot::Sender<Result<JobWhere, String>>),
    /// Cancel the job; where it was.
    Cancel(JobId, oneshot::Sender<Result<JobWhere, String>>),
}

/// The actions' side.
#[derive(Debug, Clone)]
pub struct JobDesk(mpsc::Sender<Question>);

/// The registry's side.
#[derive(Debug)]
pub struct DeskWindow(pub(crate) mpsc::Receiver<Question>);

/// A desk and its window.
#[must_use]
pub fn desk() -> (JobDesk, DeskWindow) {
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    (JobDesk(sender), DeskWindow(receiver))
}

impl JobDesk {
    /// What the host knows of a job.
    ///
    /// # Errors
    /// When the state file can't be read, or the agent stops.
    pub async fn whereabouts(&self, job: JobId) -> Result<JobWhere, String> {
        self.ask(|answer| Question::Where(job, answer)).await
    }

    /// Cancels a job: ends it where it runs, takes it out of the queue where it waits, refuses it when it comes where
    /// it has not come. Gives where it was.
    ///
    /// # Errors
    /// When that could not be recorded, or the agent stops.
    pub async fn cancel(&self, job: JobId) -> Result<JobWhere, String> {
        self.ask(|answer| Question::Cancel(job, answer)).await
    }

    async fn ask(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<JobWhere, String>>) -> Question,
    ) -> Result<JobWhere, String> {
        let stopping = || "the agent is stopping".to_owned();
        let (answer, answered) = oneshot::channel();
        self.0
            .send(question(answer))
            .await
            .map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}
