//! The state file, on real disks: order, bounds, jobs, damage, full disks and kills.

mod bounds;
mod crash;
mod damage;
mod full;
mod jobs;
mod tail;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_proto::envelope;
use muster_proto::event::{Event, Severity};
use muster_proto::job::{JobResult, Outcome};

use super::*;

/// A time at which clocks are set.
const NOW: u64 = 1_780_000_000_000;

/// A clock that the test sets.
#[derive(Clone)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn at(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let hands = self.0.clone();
        Arc::new(move || hands.load(Ordering::SeqCst))
    }
}

fn config(dir: &Path, hands: &Hands) -> StateConfig {
    let mut config = StateConfig::new(
        dir.to_owned(),
        "h1".parse().unwrap(),
        &OutboxSection::default(),
    );
    config.clock = hands.clock();
    config
}

fn open(dir: &Path) -> (State, StateOwner) {
    State::open(config(dir, &Hands::at(NOW))).unwrap()
}

fn event(severity: Severity, summary: impl Into<String>) -> NewEvent {
    NewEvent::new("test.event", NOW, severity, summary)
}

fn info(summary: impl Into<String>) -> NewEvent {
    event(Severity::Info, summary)
}

fn job_id(number: u8) -> JobId {
    JobId::from_parts(NOW, [number; 10])
}

fn result(job: JobId, outcome: Outcome) -> JobResult {
    JobResult {
        job,
        host: "h1".parse().unwrap(),
        outcome,
        reason: None,
        data: serde_json::Value::Null,
        received_at_ms: NOW,
        started_at_ms: Some(NOW),
        finished_at_ms: NOW + 1,
        dry_run: false,
    }
}

fn decoded_event(record: &OutboxRecord) -> Event {
    envelope::decode(record.message.kind.wire_name(), &record.message.body).unwrap()
}

fn decoded_result(record: &OutboxRecord) -> JobResult {
    envelope::decode(record.message.kind.wire_name(), &record.message.body).unwrap()
}

/// Everything in a lane, page by page.
async fn all(state: &State, lane: Lane) -> Vec<OutboxRecord> {
    let mut records: Vec<OutboxRecord> = Vec::new();
    loop {
        let after = records.last().map_or(0, |record| record.key.seq);
        let page = state.next_outbox(lane, after, 10_000).await.unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

async fn events(state: &State) -> Vec<Event> {
    all(state, Lane::Events)
        .await
        .iter()
        .map(decoded_event)
        .collect()
}

async fn results(state: &State) -> Vec<JobResult> {
    all(state, Lane::Replies)
        .await
        .iter()
        .map(decoded_result)
        .collect()
}

async fn eventually(what: &str, state: &State, done: impl Fn(&StateStatus) -> bool) {
    let mut status = state.status();
    let waited = tokio::time::timeout(
        Duration::from_secs(30),
        status.wait_for(|status| done(status)),
    )
    .await;
    assert!(
        waited.is_ok(),
        "{what}: {:?}",
        state.status().borrow().clone()
    );
}

#[tokio::test]
async fn events_are_numbered_kept_in_order_and_outlive_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let (state, owner) = open(dir.path());
    state
        .accept_events(vec![info("a"), event(Severity::Critical, "b")])
        .await
        .unwrap();
    state
        .accept_events(vec![event(Severity::Warning, "c")])
        .await
        .unwrap();
    owner.close().await;
    assert_eq!(
        state.accept_events(vec![info("late")]).await,
        Err(StateError::Closed)
    );
    let (state, owner) = open(dir.path());
    state.accept_events(vec![info("d")]).await.unwrap();
    let found = events(&state).await;
    let told: Vec<_> = found
        .iter()
        .map(|event| (event.seq, event.summary.as_str()))
        .collect();
    assert_eq!(told, [(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
    let first = &all(&state, Lane::Events).await[0];
    assert_eq!(
        (first.message.exchange, first.message.routing_key.as_str()),
        ("muster.events", "test.event.h1")
    );
    assert_eq!(
        first.message.message_id,
        all(&state, Lane::Events).await[0].message.message_id,
        "the same at every resend"
    );
    owner.close().await;
}

#[tokio::test]
async fn what_is_confirmed_is_deleted_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (state, owner) = open(dir.path());
    state
        .accept_events((0..10).map(|n| info(format!("{n}"))).collect())
        .await
        .unwrap();
    let keys: Vec<_> = all(&state, Lane::Events)
        .await
        .iter()
        .map(|record| record.key)
        .filter(|key| key.seq % 2 == 1)
        .collect();
    state.confirm(keys.clone()).await.unwrap();
    eventually("half is gone", &state, |status| status.depth.records == 5).await;
    state.confirm(keys).await.unwrap();
    owner.close().await;
    let (state, owner) = open(dir.path());
    let left: Vec<_> = events(&state)
        .await
        .into_iter()
        .map(|event| event.summary)
        .collect();
    assert_eq!(left, ["1", "3", "5", "7", "9"]);
    assert_eq!(state.status().borrow().depth.dropped, 0);
    state
        .confirm(
            all(&state, Lane::Events)
                .await
                .iter()
                .map(|record| record.key)
                .collect(),
        )
        .await
        .unwrap();
    eventually("all is gone", &state, |status| {
        status.depth.records == 0 && status.depth.bytes == 0
    })
    .await;
    owner.close().await;
}

#[tokio::test]
async fn pages_are_bounded_but_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (state, owner) = open(dir.path());
    state
        .accept_events(vec![
            info("x".repeat(5000)),
            info("y".repeat(5000)),
            info("z"),
        ])
        .await
        .unwrap();
    let page = state.next_outbox(Lane::Events, 0, 100).await.unwrap();
    assert_eq!(page.len(), 1);
    let page = state
        .next_outbox(Lane::Events, page[0].key.seq, 100_000)
        .await
        .unwrap();
    assert_eq!(page.len(), 2);
    assert!(
        state
            .next_outbox(Lane::Events, page[1].key.seq, 100_000)
            .await
            .unwrap()
            .is_empty()
    );
    owner.close().await;
}

#[tokio::test]
async fn an_event_that_is_too_large_is_cut_and_one_that_is_none_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (state, owner) = open(dir.path());
    let large = info("s".repeat(100)).field("dump", "x".repeat(100_000));
    state.accept_events(vec![large]).await.unwrap();
    let found = events(&state).await.remove(0);
    assert_eq!(found.summary.len(), 100);
    assert!(found.fields.contains_key("trimmed_bytes") && !found.fields.contains_key("dump"));
    let bad = NewEvent::new("Not A Topic", NOW, Severity::Info, "");
    assert!(matches!(
        state.accept_events(vec![bad]).await,
        Err(StateError::BadEvent(_))
    ));
    owner.close().await;
}

#[tokio::test]
async fn many_at_once_are_all_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (state, owner) = open(dir.path());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..500 {
        let state = state.clone();
        tasks.spawn(async move { state.accept_events(vec![info(format!("{number}"))]).await });
    }
    assert!(tasks.join_all().await.into_iter().all(|done| done.is_ok()));
    let found = events(&state).await;
    assert_eq!(found.len(), 500);
    assert!(found.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
    owner.close().await;
}
