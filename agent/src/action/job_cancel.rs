//! `job.cancel`: ends a job that runs or waits, and has one refused that has not come yet. Its data is where the job
//! was, as `job.status` shapes it; cancelling what is finished succeeds and changes nothing.

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::job_status::{job_arg, shape};
use super::{Action, ActionContext, Call, Failure, JobDesk};

pub(super) struct JobCancel(pub(super) JobDesk);

pub(super) fn build(context: &ActionContext) -> Box<dyn Action> {
    Box::new(JobCancel(context.desk.clone()))
}

impl Action for JobCancel {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let job = job_arg(&call.args)?;
            if job == call.job {
                return Err(Failure::new("a job can't cancel itself"));
            }
            self.0.cancel(job).await.map(shape).map_err(Failure::new)
        })
    }
}
