//! Runs one action to its end: run limit, cancel and stop are enforced around it. It must not know where results go.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster_proto::job::{Outcome, Reason, ReasonCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::answer::End;
use crate::action::{Action, Call, Failure, TERM_GRACE};

/// How long after `stop` an action is waited for: its own grace and a moment to tidy up.
pub(super) const STOP_LIMIT: Duration = TERM_GRACE.saturating_add(Duration::from_secs(2));

/// Why a job has to end before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopWhy {
    /// Its run limit.
    RunLimit,
    /// Somebody cancelled it.
    Cancel,
    /// The agent stops.
    AgentStop,
}

/// Ends a job. The first reason counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Stopper {
    token: CancellationToken,
    why: Arc<OnceLock<StopWhy>>,
}

impl Stopper {
    pub(super) fn stop(&self, why: StopWhy) {
        // A second reason changes nothing.
        let _ = self.why.set(why);
        self.token.cancel();
    }

    pub(super) fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    fn why(&self) -> Option<StopWhy> {
        self.why.get().copied()
    }
}

/// Runs it. An action that does not end when it is told to is dropped, and all that it holds with it.
pub(super) async fn run_one(action: Arc<dyn Action>, call: Call, stopper: Stopper) -> End {
    let limit = call.run_limit;
    let run = action.run(call);
    tokio::pin!(run);
    let stopped = stopper.token();
    tokio::select! {
        biased;
        got = &mut run => return end(got, stopper.why(), limit),
        () = stopped.cancelled() => {}
        () = tokio::time::sleep(limit) => stopper.stop(StopWhy::RunLimit),
    }
    match tokio::time::timeout(STOP_LIMIT, &mut run).await {
        Ok(got) => end(got, stopper.why(), limit),
        Err(_) => end(
            Err(Failure::new("it did not end when it was told to")),
            stopper.why(),
            limit,
        ),
    }
}

/// What an action's answer means for its job.
pub(super) fn end(got: Result<Value, Failure>, why: Option<StopWhy>, limit: Duration) -> End {
    let failure = match got {
        Ok(data) => {
            return End {
                outcome: Outcome::Succeeded,
                reason: None,
                data,
            };
        }
        Err(failure) => failure,
    };
    let (outcome, reason) = match why {
        Some(why) => stopped(why, limit),
        None => {
            let outcome = match failure.reason.code {
                ReasonCode::RunLimit => Outcome::ExecutionExpired,
                ReasonCode::BadArgument | ReasonCode::PolicyDenied | ReasonCode::Unsafe => {
                    Outcome::Rejected
                }
                _ => Outcome::Failed,
            };
            (outcome, failure.reason)
        }
    };
    End {
        outcome,
        reason: Some(reason),
        data: failure.data,
    }
}

fn stopped(why: StopWhy, limit: Duration) -> (Outcome, Reason) {
    match why {
        StopWhy::RunLimit => {
            let message = format!("it was ended at its run limit of {} ms", limit.as_millis());
            (
                Outcome::ExecutionExpired,
                Reason::new(ReasonCode::RunLimit, message),
            )
        }
        StopWhy::Cancel => (
            Outcome::Cancelled,
            Reason::new(ReasonCode::CancelRequested, "it was cancelled while it ran"),
        ),
        StopWhy::AgentStop => {
            let message = "the agent was stopped while it ran, and ended it; what it had done until then is not known";
            (
                Outcome::Interrupted,
                Reason::new(ReasonCode::AgentStopped, message),
            )
        }
    }
}
