//! Frames that another client forges: each is refused by its own reason, nothing runs, and a good job right after works.

use anyhow::{Context, Result};
use muster_proto::id::JobId;
use muster_proto::job::{Args, DELIVER_WINDOW_MS_MAX, JobRequest, Outcome, ReasonCode};
use serde_json::json;

use super::stage::Stage;
use super::wire::Frame;

const MINUTE_MS: u64 = 60_000;

/// A letter of the body's target, so that it decodes and says something else.
fn with_a_byte_changed(mut frame: Frame) -> Result<Frame> {
    let at = frame
        .body
        .windows(4)
        .position(|four| four == b"mark")
        .context("no mark in the body")?;
    frame.body[at] = b'b';
    Ok(frame)
}

#[tokio::test]
async fn a_frame_without_a_good_signature_is_refused() -> Result<()> {
    let mut stage = Stage::set().await?;
    let bad = (Outcome::Rejected, ReasonCode::BadSignature);
    let good = |stage: &Stage| stage.changed(|_| {});
    let with = |stage: &Stage, change: fn(&mut Frame)| -> Result<(JobId, Frame)> {
        let (job, mut frame) = good(stage)?;
        change(&mut frame);
        Ok((job, frame))
    };
    let cases: [(&str, (JobId, Frame), (Outcome, ReasonCode)); 9] = [
        (
            "no header at all",
            with(&stage, |frame| (frame.key, frame.signature) = (None, None))?,
            bad,
        ),
        (
            "no signature",
            with(&stage, |frame| frame.signature = None)?,
            bad,
        ),
        ("no key", with(&stage, |frame| frame.key = None)?, bad),
        (
            "not hexadecimal",
            with(&stage, |frame| frame.signature = Some("zz".repeat(64)))?,
            bad,
        ),
        (
            "of other bytes",
            {
                let (job, mut frame) = good(&stage)?;
                frame.signature = good(&stage)?.1.signature;
                (job, frame)
            },
            bad,
        ),
        (
            "a byte of the body changed",
            {
                let (job, frame) = good(&stage)?;
                (job, with_a_byte_changed(frame)?)
            },
            bad,
        ),
        (
            "of a key that the body does not name",
            {
                let (job, frame) = good(&stage)?;
                (job, stage.pinger.sign(frame.body))
            },
            bad,
        ),
        (
            "unknown key",
            with(&stage, |frame| frame.key = Some("nobody".to_owned()))?,
            (Outcome::Rejected, ReasonCode::UnknownKey),
        ),
        (
            "a key whose time is over",
            {
                let request = JobRequest {
                    key_id: stage.past.id.clone(),
                    ..stage.mark()
                };
                (request.id, stage.past.frame(&request)?)
            },
            (Outcome::Rejected, ReasonCode::KeyNotValid),
        ),
    ];
    for (what, frame, (outcome, code)) in cases {
        stage.refused(what, frame, outcome, code).await?;
    }
    stage.still_works(0).await
}

#[tokio::test]
async fn a_signed_job_that_this_host_must_not_run_is_refused() -> Result<()> {
    use ReasonCode as Code;
    let mut stage = Stage::set().await?;
    let cases: [(&str, fn(&mut JobRequest), Outcome, ReasonCode); 16] = [
        (
            "too late",
            |job| {
                (job.issued_at_ms, job.deliver_by_ms) = (
                    job.issued_at_ms - 10 * MINUTE_MS,
                    job.issued_at_ms - 2 * MINUTE_MS,
                )
            },
            Outcome::DeliveryExpired,
            Code::Expired,
        ),
        (
            "of the future",
            |job| job.issued_at_ms += 10 * MINUTE_MS,
            Outcome::Rejected,
            Code::BadTimes,
        ),
        (
            "over before it begins",
            |job| job.deliver_by_ms = job.issued_at_ms - 1,
            Outcome::Rejected,
            Code::BadTimes,
        ),
        (
            "valid for too long",
            |job| job.deliver_by_ms = job.issued_at_ms + DELIVER_WINDOW_MS_MAX + 1,
            Outcome::Rejected,
            Code::BadTimes,
        ),
        (
            "no time to run",
            |job| job.run_limit_ms = 0,
            Outcome::Rejected,
            Code::BadTimes,
        ),
        (
            "for ever",
            |job| job.run_limit_ms = u64::MAX,
            Outcome::Rejected,
            Code::BadTimes,
        ),
        (
            "for others",
            |job| job.target = "number=7".to_owned(),
            Outcome::Rejected,
            Code::NotTargeted,
        ),
        (
            "for whom?",
            |job| job.target = "number=(".to_owned(),
            Outcome::Rejected,
            Code::NotTargeted,
        ),
        (
            "no such action",
            |job| job.action = "make.coffee".to_owned(),
            Outcome::Rejected,
            Code::UnknownAction,
        ),
        (
            "no argument",
            |job| job.args.clear(),
            Outcome::Rejected,
            Code::BadArgument,
        ),
        (
            "unknown argument",
            |job| drop(job.args.insert("sugar".to_owned(), json!(2))),
            Outcome::Rejected,
            Code::BadArgument,
        ),
        (
            "ill-typed argument",
            |job| drop(job.args.insert("name".to_owned(), json!(["mark"]))),
            Outcome::Rejected,
            Code::BadArgument,
        ),
        (
            "an argument that is too long",
            |job| {
                drop(
                    job.args
                        .insert("name".to_owned(), json!("m".repeat(20_000))),
                )
            },
            Outcome::Rejected,
            Code::BadArgument,
        ),
        (
            "no such script",
            |job| drop(job.args.insert("name".to_owned(), json!("../mark"))),
            Outcome::Rejected,
            Code::BadArgument,
        ),
        (
            "no dry run",
            |job| (job.action, job.args, job.dry_run) = ("ping".to_owned(), Args::new(), true),
            Outcome::Rejected,
            Code::NoDryRun,
        ),
        (
            "a read that may take a day",
            |job| {
                job.args.clear();
                (job.action, job.run_limit_ms) = ("facts".to_owned(), 24 * 60 * MINUTE_MS);
            },
            Outcome::Rejected,
            Code::BadTimes,
        ),
    ];
    for (what, change, outcome, code) in cases {
        let frame = stage.changed(change)?;
        stage.refused(what, frame, outcome, code).await?;
    }
    let request = JobRequest {
        key_id: stage.pinger.id.clone(),
        ..stage.mark()
    };
    let frame = stage.pinger.frame(&request)?;
    stage
        .refused(
            "not in the policy",
            (request.id, frame),
            Outcome::Rejected,
            Code::PolicyDenied,
        )
        .await?;
    stage.still_works(0).await
}
