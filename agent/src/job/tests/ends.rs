//! How jobs end: limits, cancels, panics, stops and crashes.

use super::*;

fn end(result: &JobResult) -> (Outcome, Option<ReasonCode>) {
    (
        result.outcome,
        result.reason.as_ref().map(|reason| reason.code),
    )
}

#[tokio::test]
async fn a_failure_keeps_its_data_and_a_panic_is_contained() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.deliver(&change(1, "fail"), "a").await;
    let result = rig.stored_of(1).await;
    assert_eq!(
        (end(&result), result.data),
        (
            (Outcome::Failed, Some(ReasonCode::ActionFailed)),
            json!({ "x": 1 })
        )
    );
    for number in 2..=5 {
        rig.deliver(&change(number, "panic"), "a").await;
        assert_eq!(
            end(&rig.stored_of(number).await),
            (Outcome::Failed, Some(ReasonCode::ActionFailed))
        );
    }
    rig.deliver(&read(6, "panic"), "r").await;
    assert_eq!(
        end(&rig.result_of(6).await),
        (Outcome::Failed, Some(ReasonCode::ActionFailed))
    );
    assert_eq!(rig.counter("panicked"), 5);
    rig.deliver(&change(7, "x"), "a").await;
    assert_eq!(
        rig.stored_of(7).await.outcome,
        Outcome::Succeeded,
        "the places are free again"
    );
    rig.end().await;
}

#[tokio::test]
async fn the_run_limit_ends_a_job_even_one_that_does_not_listen() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.deliver(
        &JobRequest {
            run_limit_ms: 100,
            ..change(1, "wait")
        },
        "a",
    )
    .await;
    rig.deliver(
        &JobRequest {
            run_limit_ms: 100,
            ..change(2, "deaf")
        },
        "a",
    )
    .await;
    let result = rig.stored_of(1).await;
    assert_eq!(
        end(&result),
        (Outcome::ExecutionExpired, Some(ReasonCode::RunLimit))
    );
    assert_eq!(result.data, json!({ "half": true }), "what it had is kept");
    assert_eq!(
        end(&rig.stored_of(2).await),
        (Outcome::ExecutionExpired, Some(ReasonCode::RunLimit))
    );
    rig.end().await;
}

#[tokio::test]
async fn a_cancel_reaches_jobs_that_run_wait_or_have_not_come() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    for number in 1..=3 {
        rig.deliver(&change(number, "wait"), "a").await;
    }
    rig.until("ack a", 3).await;
    for (cancelled, number, state) in [(3, 13, "queued"), (1, 11, "running"), (9, 19, "unknown")] {
        rig.deliver(
            &request(number, "job.cancel", &job_id(cancelled).to_string()),
            "c",
        )
        .await;
        let result = rig.stored_of(number).await;
        assert_eq!(
            (result.outcome, &result.data["state"]),
            (Outcome::Succeeded, &json!(state))
        );
    }
    let cancelled = (Outcome::Cancelled, Some(ReasonCode::CancelRequested));
    assert_eq!(end(&rig.stored_of(1).await), cancelled);
    let waited = rig.stored_of(3).await;
    assert_eq!((end(&waited), waited.started_at_ms), (cancelled, None));
    // It is remembered over a restart, too.
    rig.gate.send_replace(true);
    rig.stored_of(2).await;
    let rig = rig.die_and_return().await;
    rig.deliver(&change(9, "x"), "ahead").await;
    assert_eq!(end(&rig.stored_of(9).await), cancelled);
    rig.until("ack ahead", 1).await;
    assert_eq!(rig.log.count("run x Some(Started)"), 0);
    rig.deliver(&change(9, "x"), "ahead").await;
    rig.until("ack ahead", 2).await;
    // A read that has not come.
    rig.deliver(&request(28, "job.cancel", &job_id(8).to_string()), "c")
        .await;
    rig.stored_of(28).await;
    rig.deliver(&read(8, "x"), "r").await;
    assert_eq!(end(&rig.result_of(8).await), cancelled);
    rig.end().await;
}

#[tokio::test]
async fn what_a_death_cut_off_is_interrupted_and_what_waited_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    for number in 1..=3 {
        rig.deliver(&change(number, "wait"), "a").await;
    }
    rig.until("ack a", 3).await;
    rig.until("run wait Some(Started)", 2).await;
    let rig = rig.die_and_return().await;
    for number in [1, 2] {
        assert_eq!(
            end(&rig.stored_of(number).await),
            (Outcome::Interrupted, Some(ReasonCode::AgentDied))
        );
    }
    rig.until("run wait Some(Started)", 3).await;
    rig.gate.send_replace(true);
    assert_eq!(rig.stored_of(3).await.outcome, Outcome::Succeeded);
    assert_eq!(
        rig.log.count("run wait Some(Started)"),
        3,
        "none was run twice"
    );
    rig.end().await;
}

#[tokio::test]
async fn a_stop_lets_jobs_finish_in_the_grace_then_ends_and_answers_them() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.deliver(&change(1, "wait"), "a").await;
    rig.until("run wait Some(Started)", 1).await;
    rig.stop.cancel();
    rig.gate.send_replace(true);
    assert_eq!(
        rig.stored_of(1).await.outcome,
        Outcome::Succeeded,
        "in the grace"
    );
    let rig = rig.die_and_return().await;
    for number in 2..=4 {
        rig.deliver(&change(number, "wait"), "b").await;
    }
    rig.deliver(&read(5, "wait"), "read").await;
    rig.until("ack b", 3).await;
    rig.until("run wait Some(Started)", 3).await;
    let (log, broker) = (rig.log.clone(), rig.broker.clone());
    rig.end().await;
    let rig = start(dir.path(), log, broker);
    for number in [2, 3] {
        let result = rig.stored_of(number).await;
        assert_eq!(
            end(&result),
            (Outcome::Interrupted, Some(ReasonCode::AgentStopped))
        );
        assert_eq!(result.data, json!({ "half": true }));
    }
    // What waited goes on; a read is left to the broker, which delivers it again.
    rig.until("run wait Some(Started)", 4).await;
    rig.gate.send_replace(true);
    assert_eq!(rig.stored_of(4).await.outcome, Outcome::Succeeded);
    assert_eq!(rig.log.count("ack read"), 0);
    rig.end().await;
}

#[tokio::test]
async fn a_job_that_can_not_be_recorded_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.deliver(&change(1, "x"), "a").await;
    rig.stored_of(1).await;
    // Damage since the job was made: what had run by then is not known.
    let made_before = change(2, "x");
    let (log, broker) = (rig.log.clone(), rig.broker.clone());
    rig.end().await;
    std::fs::write(dir.path().join("state.redb"), "no database").unwrap();
    let rig = start(dir.path(), log, broker);
    rig.deliver(&made_before, "b").await;
    assert_eq!(
        end(&rig.result_of(2).await),
        (Outcome::Rejected, Some(ReasonCode::NotRecorded))
    );
    rig.until("ack b", 1).await;
    rig.deliver(&change(3, "x"), "c").await;
    assert_eq!(rig.stored_of(3).await.outcome, Outcome::Succeeded);
    assert_eq!(rig.log.count("run x Some(Started)"), 2);
    rig.end().await;
}

#[tokio::test]
async fn of_many_jobs_at_once_each_is_answered_once() {
    const JOBS: u8 = 200;
    let dir = tempfile::tempdir().unwrap();
    let jobs = JobsSection {
        concurrency: 8,
        queue_max: 1000,
    };
    let rig = rig_with(dir.path(), jobs);
    // Ends, answers, deliveries and questions come all at the same time.
    for number in 0..JOBS {
        rig.deliver(&change(number, "x"), "change").await;
        let mut ping = request(number, "ping", "");
        ping.id = JobId::from_parts(1, [number; 10]);
        rig.deliver(&ping, "ping").await;
        let mut ask = request(number, "job.status", &job_id(number).to_string());
        ask.id = JobId::from_parts(2, [number; 10]);
        rig.deliver(&ask, "ask").await;
    }
    for what in ["ack change", "ack ping", "ack ask", "done x"] {
        rig.until(what, JOBS.into()).await;
    }
    rig.stored_of(JOBS - 1).await;
    let Rig {
        stop, task, state, ..
    } = &rig;
    stop.cancel();
    eventually("the runner ends", || task.is_finished(), String::new).await;
    let stored = state
        .next_outbox(crate::state::Lane::Replies, 0, 10_000_000)
        .await
        .unwrap();
    let of: std::collections::BTreeSet<_> = stored
        .iter()
        .map(|one| one.message.correlation_id)
        .collect();
    assert_eq!((stored.len(), of.len()), (JOBS.into(), JOBS.into()));
    let told = rig.broker.results();
    assert_eq!(told.len(), 2 * usize::from(JOBS));
    let failed = told.iter().find(|one| one.outcome != Outcome::Succeeded);
    assert_eq!(failed, None, "no question was cut off either");
    rig.end().await;
}
