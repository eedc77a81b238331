//! Makes results. A result always fits its message: data that is too large is replaced by a note of its size.

use muster_proto::envelope::Kind;
use muster_proto::id::{HostId, JobId};
use muster_proto::job::{JobResult, Outcome, Reason};
use serde_json::{Value, json};

use crate::state::{OutMessage, new_message_id, result_message};

/// Longest message of a reason in bytes: people read it.
const REASON_BYTES_MAX: usize = 4096;

/// The times of a job on this host, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) received_at_ms: u64,
    pub(super) started_at_ms: Option<u64>,
    pub(super) finished_at_ms: u64,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) outcome: Outcome,
    pub(super) reason: Option<Reason>,
    pub(super) data: Value,
}

impl End {
    pub(super) fn of(outcome: Outcome, reason: Reason) -> Self {
        Self {
            outcome,
            reason: Some(reason),
            data: Value::Null,
        }
    }
}

/// A job's result, cut to its bound.
pub(super) fn result(
    job: JobId,
    host: &HostId,
    end: End,
    times: Times,
    dry_run: bool,
) -> JobResult {
    bounded(JobResult {
        job,
        host: host.clone(),
        outcome: end.outcome,
        reason: end.reason,
        data: end.data,
        received_at_ms: times.received_at_ms,
        started_at_ms: times.started_at_ms,
        finished_at_ms: times.finished_at_ms,
        dry_run,
    })
}

fn bounded(mut result: JobResult) -> JobResult {
    if let Some(reason) = &mut result.reason {
        let mut end = REASON_BYTES_MAX.min(reason.message.len());
        while !reason.message.is_char_boundary(end) {
            end -= 1;
        }
        reason.message.truncate(end);
    }
    match muster_proto::envelope::encode(&result) {
        Ok(_) => result,
        Err(error) => {
            let data_bytes = result.data.to_string().len();
            result.data = json!({
                "left_out": true,
                "data_bytes": data_bytes,
                "bytes_max": Kind::Result.body_bytes_max(),
                "why": error.to_string(),
            });
            result
        }
    }
}

/// The message of a result that is not kept in the state file.
pub(super) fn message(result: &JobResult) -> Option<OutMessage> {
    result_message(result, new_message_id(result.finished_at_ms)).ok()
}

#[cfg(test)]
mod tests {
    use muster_proto::job::ReasonCode;

    use super::*;

    #[test]
    fn a_result_that_is_too_large_keeps_everything_but_its_data() {
        let Ok(host) = "h1".parse::<HostId>() else {
            return;
        };
        let end = End {
            outcome: Outcome::Failed,
            reason: Some(Reason::new(ReasonCode::ActionFailed, "é".repeat(5000))),
            data: Value::from("x".repeat(2_000_000)),
        };
        let times = Times {
            received_at_ms: 1,
            started_at_ms: Some(2),
            finished_at_ms: 3,
        };
        let result = result(JobId::from_parts(1, [0; 10]), &host, end, times, false);
        assert_eq!(result.outcome, Outcome::Failed);
        assert_eq!(result.data.get("data_bytes"), Some(&Value::from(2_000_002)));
        assert!(
            result
                .reason
                .is_some_and(|reason| reason.message.len() <= REASON_BYTES_MAX)
        );
    }
}
