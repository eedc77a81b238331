//! Whether a message is a job that this host must carry out now. Pure: bytes, headers, rules, labels and time in;
//! a job or a refusal out. It must not know the state file, so whether the id was seen is asked by the caller.
//!
//! The order is part of the contract: size, signature and key, times and deadline, target, policy, arguments.

use std::time::Duration;

use muster_proto::action::{self, ActionSpec, Effect};
use muster_proto::envelope::{self, Kind};
use muster_proto::id::{JobId, KeyId};
use muster_proto::job::{
    DELIVER_WINDOW_MS_MAX, JobRequest, Outcome, READ_RUN_LIMIT_MS_MAX, RUN_LIMIT_MS_MAX, Reason,
    ReasonCode,
};
use muster_proto::signing::JobSignature;
use muster_proto::target::{Subject, Target};

use super::policy::Access;

/// A message as it came.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Its AMQP `type`.
    pub kind: &'a str,
    /// Its body's exact bytes.
    pub body: &'a [u8],
    /// The header that names the key.
    pub key_id: Option<&'a str>,
    /// The header that holds the signature.
    pub signature: Option<&'a str>,
}

/// A job that this host must carry out, if it has not done so.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What is asked.
    pub request: JobRequest,
    /// The action's declaration.
    pub spec: &'static ActionSpec,
}

/// Why a message is not such a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// It is no job at all: nobody can be answered.
    Garbage(String),
    /// It is a job that is refused.
    Job {
        /// Its id.
        job: JobId,
        /// Whether it was a dry run.
        dry_run: bool,
        /// How it ends.
        outcome: Outcome,
        /// Why.
        reason: Reason,
    },
}

/// Checks a message.
///
/// # Errors
/// The first check that it does not pass.
pub fn verify(
    message: Signed<'_>,
    access: &Access,
    host: &dyn Subject,
    now_ms: u64,
    tolerance: Duration,
) -> Result<Verified, Refusal> {
    let tolerance_ms = u64::try_from(tolerance.as_millis()).unwrap_or(u64::MAX);
    if message.kind != Kind::Job.wire_name() || message.body.len() > Kind::Job.body_bytes_max() {
        return Err(Refusal::Garbage(match decode(message) {
            Err(why) => why,
            Ok(_) => "not a job".to_owned(),
        }));
    }
    let signed_by = match check_signature(message, access, now_ms, tolerance_ms) {
        Ok(key_id) => key_id,
        Err(reason) => {
            // The body is only looked at to name the job in the answer.
            let request = decode(message).map_err(Refusal::Garbage)?;
            return Err(refuse(&request, Outcome::Rejected, reason));
        }
    };
    let request = decode(message).map_err(Refusal::Garbage)?;
    if request.key_id != signed_by {
        let why = format!(
            "the job names the key {}, its signature is of {signed_by}",
            request.key_id
        );
        return Err(refuse(
            &request,
            Outcome::Rejected,
            Reason::new(ReasonCode::BadSignature, why),
        ));
    }
    match check_request(&request, access, host, now_ms, tolerance_ms) {
        Ok(spec) => Ok(Verified { request, spec }),
        Err(reason) if reason.code == ReasonCode::Expired => {
            Err(refuse(&request, Outcome::DeliveryExpired, reason))
        }
        Err(reason) => Err(refuse(&request, Outcome::Rejected, reason)),
    }
}

fn refuse(request: &JobRequest, outcome: Outcome, reason: Reason) -> Refusal {
    Refusal::Job {
        job: request.id,
        dry_run: request.dry_run,
        outcome,
        reason,
    }
}

fn decode(message: Signed<'_>) -> Result<JobRequest, String> {
    envelope::decode::<JobRequest>(message.kind, message.body).map_err(|error| error.to_string())
}

fn check_signature(
    message: Signed<'_>,
    access: &Access,
    now_ms: u64,
    tolerance_ms: u64,
) -> Result<KeyId, Reason> {
    let bad = |why: String| Reason::new(ReasonCode::BadSignature, why);
    let header = message
        .key_id
        .ok_or_else(|| bad("the job is not signed: it names no key".to_owned()))?;
    let key_id: KeyId = header
        .parse()
        .map_err(|error| bad(format!("the header that names the key: {error}")))?;
    let key = access.key(&key_id).ok_or_else(|| {
        Reason::new(ReasonCode::UnknownKey, format!("this host's config has no key {key_id}; add it to [[keys]] and give it a [[policy]]"))
    })?;
    let signature = message
        .signature
        .ok_or_else(|| bad("the job is not signed: it has no signature".to_owned()))?;
    let signature: JobSignature = signature
        .parse()
        .map_err(|error| bad(format!("the signature: {error}")))?;
    key.public
        .verify(message.body, &signature)
        .map_err(|error| bad(error.to_string()))?;
    if !key.valid_at(now_ms, tolerance_ms) {
        return Err(Reason::new(
            ReasonCode::KeyNotValid,
            format!("the key {key_id} is not valid at this time by this host's config"),
        ));
    }
    Ok(key_id)
}

fn check_request(
    request: &JobRequest,
    access: &Access,
    host: &dyn Subject,
    now_ms: u64,
    tolerance_ms: u64,
) -> Result<&'static ActionSpec, Reason> {
    check_times(request, now_ms, tolerance_ms)?;
    let target = Target::parse(&request.target).map_err(|error| {
        Reason::new(
            ReasonCode::NotTargeted,
            format!("the target does not parse: {error}"),
        )
    })?;
    if !target.matches(host) {
        let why = format!(
            "this host's labels do not match the target {}",
            request.target
        );
        return Err(Reason::new(ReasonCode::NotTargeted, why));
    }
    if !access.allows(request) {
        let why = format!(
            "no policy of this host lets the key {} run {} with these arguments",
            request.key_id,
            shown(&request.action)
        );
        return Err(Reason::new(ReasonCode::PolicyDenied, why));
    }
    let spec = action::find(&request.action).ok_or_else(|| {
        let why = format!(
            "this agent has no action {}; it may be older than the controller",
            shown(&request.action)
        );
        Reason::new(ReasonCode::UnknownAction, why)
    })?;
    spec.check(&request.args)
        .map_err(|error| Reason::new(ReasonCode::BadArgument, error.to_string()))?;
    if request.dry_run && !spec.dry_run {
        return Err(Reason::new(
            ReasonCode::NoDryRun,
            format!(
                "{} can't say what it would do; leave --dry-run out",
                spec.name
            ),
        ));
    }
    check_run_limit(request, spec)?;
    Ok(spec)
}

fn check_times(request: &JobRequest, now_ms: u64, tolerance_ms: u64) -> Result<(), Reason> {
    let bad = |why: String| Err(Reason::new(ReasonCode::BadTimes, why));
    if request.issued_at_ms > now_ms.saturating_add(tolerance_ms) {
        let ahead = request.issued_at_ms - now_ms;
        return bad(format!(
            "the job was made {ahead} ms in the future by this host's clock; set the clocks"
        ));
    }
    if request.deliver_by_ms < request.issued_at_ms {
        return bad("the job's deadline is before the time at which it was made".to_owned());
    }
    if request.deliver_by_ms - request.issued_at_ms > DELIVER_WINDOW_MS_MAX {
        return bad(format!(
            "the job's deadline is more than {DELIVER_WINDOW_MS_MAX} ms after the time at which it was made"
        ));
    }
    if now_ms > request.deliver_by_ms.saturating_add(tolerance_ms) {
        let late = now_ms - request.deliver_by_ms;
        return Err(Reason::new(
            ReasonCode::Expired,
            format!("the job came {late} ms after its deadline by this host's clock"),
        ));
    }
    Ok(())
}

fn check_run_limit(request: &JobRequest, spec: &ActionSpec) -> Result<(), Reason> {
    let max = match spec.effect {
        Effect::Read => READ_RUN_LIMIT_MS_MAX,
        Effect::Change => RUN_LIMIT_MS_MAX,
    };
    if request.run_limit_ms == 0 || request.run_limit_ms > max {
        let why = format!(
            "{} may run for 1 to {max} ms, not {}",
            spec.name, request.run_limit_ms
        );
        return Err(Reason::new(ReasonCode::BadTimes, why));
    }
    Ok(())
}

/// A name that came from elsewhere, short enough to show.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(64).collect::<String>())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#[path = "verify_tests.rs"]
mod tests;
