//! Jobs: never run twice, never forgotten while they may come again, settled after a crash.

use muster_proto::job::{DELIVER_WINDOW_MS_MAX, ReasonCode};

use super::*;

fn job(number: u8, started: bool) -> NewJob {
    NewJob {
        id: job_id(number),
        action: "script.run".to_owned(),
        idempotent: false,
        dry_run: false,
        received_at_ms: NOW,
        issued_at_ms: NOW,
        deliver_by_ms: NOW + 60_000,
        started_at_ms: started.then_some(NOW),
        request: vec![number],
    }
}

async fn stage(state: &State, number: u8) -> Option<JobStage> {
    state
        .job(job_id(number))
        .await
        .unwrap()
        .map(|record| record.stage)
}

#[tokio::test]
async fn a_job_is_begun_once() {
    let dir = tempfile::tempdir().unwrap();
    let (state, owner) = open(dir.path());
    assert_eq!(state.begin_job(job(1, true)).await.unwrap(), Begun::New);
    assert!(matches!(
        state.begin_job(job(1, true)).await.unwrap(),
        Begun::Known(_)
    ));
    state
        .finish_job(result(job_id(1), Outcome::Succeeded))
        .await
        .unwrap();
    state
        .finish_job(result(job_id(1), Outcome::Failed))
        .await
        .unwrap();
    owner.close().await;
    let (state, owner) = open(dir.path());
    let Begun::Known(record) = state.begin_job(job(1, true)).await.unwrap() else {
        unreachable!("it was recorded")
    };
    assert_eq!(
        (record.stage, record.outcome),
        (JobStage::Finished, Some(Outcome::Succeeded))
    );
    let told = results(&state).await;
    assert_eq!(told.len(), 1, "one end, one answer");
    assert_eq!(told[0].outcome, Outcome::Succeeded);
    owner.close().await;
}

#[tokio::test]
async fn what_a_crash_left_behind_is_settled_once() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::at(NOW);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    let idempotent = |number| NewJob {
        idempotent: true,
        ..job(number, true)
    };
    let short = |job: NewJob| NewJob {
        deliver_by_ms: NOW + 10,
        ..job
    };
    for new in [
        job(1, true),
        job(2, false),
        idempotent(3),
        short(job(4, false)),
        short(idempotent(5)),
        job(6, false),
    ] {
        assert_eq!(state.begin_job(new).await.unwrap(), Begun::New);
    }
    state.start_job(job_id(6), NOW).await.unwrap();
    owner.close().await; // no job was finished: to the file this is a crash

    hands.set(NOW + 1000);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    // One of this run is left alone.
    assert_eq!(state.begin_job(job(7, true)).await.unwrap(), Begun::New);
    let recovered = state.recover().await.unwrap();
    let resumed: Vec<_> = recovered
        .resume
        .iter()
        .map(|(id, record)| (*id, record.request.clone()))
        .collect();
    assert_eq!(
        resumed,
        [(job_id(2), Some(vec![2])), (job_id(3), Some(vec![3]))]
    );
    assert_eq!((recovered.interrupted, recovered.expired), (3, 1));
    let mut told: Vec<_> = results(&state)
        .await
        .into_iter()
        .map(|r| (r.job, r.outcome, r.reason.unwrap().code))
        .collect();
    told.sort_by_key(|(job, ..)| *job);
    assert_eq!(
        told,
        [
            (job_id(1), Outcome::Interrupted, ReasonCode::AgentDied),
            (job_id(4), Outcome::DeliveryExpired, ReasonCode::Expired),
            (job_id(5), Outcome::Interrupted, ReasonCode::AgentDied),
            (job_id(6), Outcome::Interrupted, ReasonCode::AgentDied),
        ]
    );
    assert_eq!(
        state.recover().await.unwrap(),
        Recovered::default(),
        "a second look finds nothing"
    );
    assert_eq!(stage(&state, 7).await, Some(JobStage::Started));
    owner.close().await;
}

#[tokio::test]
async fn a_cancel_is_remembered_for_a_job_that_has_not_come() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::at(NOW);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    assert!(state.cancel_ahead(job_id(1)).await.unwrap());
    assert!(!state.cancel_ahead(job_id(1)).await.unwrap());
    owner.close().await;
    hands.set(NOW + DELIVER_WINDOW_MS_MAX);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    assert_eq!(
        state.begin_job(job(1, true)).await.unwrap(),
        Begun::CancelledAhead
    );
    state
        .finish_job(result(job_id(1), Outcome::Cancelled))
        .await
        .unwrap();
    assert!(matches!(
        state.begin_job(job(1, true)).await.unwrap(),
        Begun::Known(_)
    ));
    owner.close().await;
}

#[tokio::test]
async fn jobs_are_forgotten_only_when_they_can_not_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::at(NOW);
    let few = |hands: &Hands| StateConfig {
        jobs_max: 3,
        ..config(dir.path(), hands)
    };
    let (state, owner) = State::open(few(&hands)).unwrap();
    for number in 1..=3 {
        assert_eq!(
            state.begin_job(job(number, true)).await.unwrap(),
            Begun::New
        );
    }
    state
        .finish_job(result(job_id(1), Outcome::Succeeded))
        .await
        .unwrap();
    state
        .finish_job(result(job_id(2), Outcome::Succeeded))
        .await
        .unwrap();
    assert_eq!(
        state.begin_job(job(4, true)).await.unwrap(),
        Begun::Full,
        "all may come again"
    );
    assert!(
        !state.cancel_ahead(job_id(9)).await.unwrap(),
        "nor is there room for this"
    );
    hands.set(NOW + 2 * 3600 * 1000);
    assert_eq!(
        state.begin_job(job(4, true)).await.unwrap(),
        Begun::New,
        "those past their deadline make room"
    );
    assert_eq!(stage(&state, 1).await, None);
    assert_eq!(
        stage(&state, 3).await,
        Some(JobStage::Started),
        "but not one that runs"
    );
    owner.close().await;
    hands.set(NOW + 3 * 24 * 3600 * 1000);
    let (state, owner) = State::open(few(&hands)).unwrap();
    assert_eq!(state.recover().await.unwrap().interrupted, 2);
    assert_eq!(state.begin_job(job(5, true)).await.unwrap(), Begun::New);
    owner.close().await;
}

#[tokio::test]
async fn without_pressure_jobs_are_remembered_for_a_day_after_their_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let day_ms = 24 * 3600 * 1000;
    let hands = Hands::at(NOW);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    state.begin_job(job(1, true)).await.unwrap();
    state
        .finish_job(result(job_id(1), Outcome::Succeeded))
        .await
        .unwrap();
    owner.close().await;
    // Each start looks for what is too old.
    for (at, want) in [
        (NOW + day_ms + 59_000, Some(JobStage::Finished)),
        (NOW + day_ms + 61_000, None),
    ] {
        hands.set(at);
        let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
        state
            .accept_events(vec![info("wakes the owner")])
            .await
            .unwrap();
        assert_eq!(stage(&state, 1).await, want);
        owner.close().await;
    }
}
