//! What hosts' answers mean: as they come from their hosts, and as a controller has heard them. Pure.

use muster_proto::envelope::{self, Kind};
use muster_proto::job::{Heard, JobResult, Observation};
use muster_proto::topology::HEARD;
use serde_json::Value;

use super::{
    Answer, Change, DATA_BYTES_MAX, Entry, Ignored, Sighting, controller, decoded, from_host,
};

/// The answer in a message that is a host's own.
///
/// # Errors
/// When it is none, or another's.
pub fn answer_of(entry: &Entry) -> Result<JobResult, Ignored> {
    let result: JobResult = decoded(entry)?;
    from_host(entry, &result.host)?;
    Ok(result)
}

/// Answers that a controller has heard. That they are their hosts' own it has seen when they came.
pub(super) fn heard(entry: &Entry, is_host: &dyn Fn(&str) -> bool) -> Result<Vec<Change>, Ignored> {
    controller(entry, is_host)?;
    // Agents can't write to that exchange, also those that nobody has heard of yet.
    if entry.exchange != HEARD {
        return Err(Ignored::Impostor);
    }
    let heard: Heard = decoded(entry)?;
    let answers = heard.answers.iter();
    let results = answers.filter_map(|body| envelope::decode(Kind::Result.wire_name(), body).ok());
    Ok(results
        .map(|result| Change::Observe(Box::new(sighting_of(result, None))))
        .collect())
}

pub(super) fn result(entry: &Entry) -> Result<Vec<Change>, Ignored> {
    let result = answer_of(entry)?;
    Ok(vec![Change::Observe(Box::new(sighting_of(
        result,
        entry.timestamp_ms,
    )))])
}

/// What a result says of its host. `sent_at_ms` is when it was sent, by the host's clock.
#[must_use]
pub fn sighting_of(result: JobResult, sent_at_ms: Option<u64>) -> Sighting {
    let data = match &result.data {
        Value::Null => String::new(),
        data => data.to_string(),
    };
    let data_bytes = data.len() as u64;
    Sighting {
        job: result.job,
        host: result.host,
        observation: Observation::Ended(result.outcome),
        at_ms: sent_at_ms.unwrap_or(0).max(result.finished_at_ms),
        reason: result
            .reason
            .map(|reason| (code_name(&reason.code), reason.message)),
        answer: Some(Answer {
            data: if data.len() > DATA_BYTES_MAX {
                String::new()
            } else {
                data
            },
            data_bytes,
            received_at_ms: result.received_at_ms,
            started_at_ms: result.started_at_ms,
            finished_at_ms: result.finished_at_ms,
        }),
    }
}

/// The name of a code on the wire and on the screen.
pub fn code_name(code: &impl serde::Serialize) -> String {
    match serde_json::to_value(code) {
        Ok(Value::String(name)) => name,
        _ => "other".to_owned(),
    }
}
