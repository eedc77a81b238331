//! `job.status`: what the host knows of a job: `{"known": true, "state": "finished", "outcome": "succeeded"}`.

use futures_util::future::BoxFuture;
use muster_proto::id::JobId;
use muster_proto::job::{Args, ReasonCode};
use serde_json::{Value, json};

use super::{Action, ActionContext, Call, Failure, JobDesk, JobWhere};

pub(super) struct JobStatus(pub(super) JobDesk);

pub(super) fn build(context: &ActionContext) -> Box<dyn Action> {
    Box::new(JobStatus(context.desk.clone()))
}

impl Action for JobStatus {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let job = job_arg(&call.args)?;
            self.0
                .whereabouts(job)
                .await
                .map(shape)
                .map_err(Failure::new)
        })
    }
}

/// The argument `job`.
pub(super) fn job_arg(args: &Args) -> Result<JobId, Failure> {
    args.get("job")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Failure::of(ReasonCode::BadArgument, "the argument job is not a job id"))
}

/// A job's whereabouts as data.
pub(super) fn shape(place: JobWhere) -> Value {
    let (state, outcome) = match place {
        JobWhere::Queued => ("queued", None),
        JobWhere::Running => ("running", None),
        JobWhere::Finished(outcome) => ("finished", outcome),
        JobWhere::CancelledAhead => ("cancelled", None),
        JobWhere::Unknown => ("unknown", None),
    };
    json!({ "known": place != JobWhere::Unknown, "state": state, "outcome": outcome })
}

#[cfg(test)]
mod tests {
    use muster_proto::job::Outcome;

    use super::*;

    #[test]
    fn shapes() {
        for (place, want) in [
            (
                JobWhere::Unknown,
                json!({ "known": false, "state": "unknown", "outcome": null }),
            ),
            (
                JobWhere::Running,
                json!({ "known": true, "state": "running", "outcome": null }),
            ),
            (
                JobWhere::Finished(Some(Outcome::ExecutionExpired)),
                json!({ "known": true, "state": "finished", "outcome": "execution-expired" }),
            ),
            (
                JobWhere::CancelledAhead,
                json!({ "known": true, "state": "cancelled", "outcome": null }),
            ),
        ] {
            assert_eq!(shape(place), want);
        }
    }
}
