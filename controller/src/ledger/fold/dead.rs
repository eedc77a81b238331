//! What a dead letter means: a host's copy of a job that the broker let go. Pure.

use muster_proto::envelope::Kind;
use muster_proto::id::JobId;
use muster_proto::job::{DeadLetter, JobRequest, Observation};
use muster_proto::topology::host_of_agent_queue;

use super::{Change, Entry, Ignored, Sighting, decoded};

/// The job and the host of a dead letter; nothing for one that is no job's.
///
/// # Errors
/// When it does not say whose it was.
pub fn letter_of(entry: &Entry) -> Result<Option<(JobId, DeadLetter)>, Ignored> {
    if Kind::from_wire_name(&entry.kind) == Some(Kind::Probe) {
        return Ok(None);
    }
    let (queue, reason) = entry.death.as_ref().ok_or(Ignored::Undecodable)?;
    let host = host_of_agent_queue(queue).ok_or(Ignored::Undecodable)?;
    let of_body = || decoded::<JobRequest>(entry).map(|request| request.id);
    let job = entry.job.map_or_else(of_body, Ok)?;
    let reason = reason.clone();
    Ok(Some((job, DeadLetter { host, reason })))
}

/// What becomes known by a dead letter.
pub(super) fn change_of(job: JobId, letter: DeadLetter, at_ms: u64) -> Change {
    let (observation, code, text) = match letter.reason.as_str() {
        "expired" => (
            Observation::DeadLettered,
            "expired",
            "its time was over before the host took it".to_owned(),
        ),
        "maxlen" => (
            Observation::Unroutable,
            "queue-full",
            "the host's queue is full: its agent has not taken jobs for long".to_owned(),
        ),
        "rejected" => (
            Observation::Unroutable,
            "refused-message",
            "the agent could not read the message, or its queue is full".to_owned(),
        ),
        other => (
            Observation::Unroutable,
            "dead-lettered",
            format!("the broker let it go: {other}"),
        ),
    };
    Change::Observe(Box::new(Sighting {
        job,
        host: letter.host,
        observation,
        at_ms,
        reason: Some((code.to_owned(), text)),
        answer: None,
    }))
}
