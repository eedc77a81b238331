#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod file;

use std::collections::BTreeMap;

use muster_proto::envelope::{Message, encode};
use muster_proto::event::{Event, Severity};
use muster_proto::id::{HostId, JobId};
use muster_proto::job::{
    HostState, JobNote, JobOpened, JobRequest, JobResult, Outcome, Reason, ReasonCode,
};
use muster_proto::topology::{DEAD, EVENTS, REPLIES};
use proptest::prelude::*;
use serde_json::Value;

use super::super::read::Found;
use super::super::write::KEPT_MS;
use super::*;

const NOW: u64 = 1_800_000_000_000;

fn host(number: u8) -> HostId {
    format!("lb{number}").parse().unwrap()
}

fn job(number: u8) -> JobId {
    JobId::from_parts(NOW + u64::from(number), [number; 10])
}

fn message_id(offset: u64) -> MessageId {
    MessageId::from_parts(NOW, [u8::try_from(offset % 250).unwrap(); 10])
}

fn entry<M: Message>(offset: u64, message: &M, exchange: &str, user: &str) -> Entry {
    Entry {
        offset,
        kind: M::KIND.wire_name().to_owned(),
        message_id: Some(message_id(offset)),
        user_id: Some(user.to_owned()),
        timestamp_ms: Some(NOW + 1_000),
        exchange: exchange.to_owned(),
        body: encode(message).unwrap(),
        ..Entry::default()
    }
}

fn request(number: u8) -> JobRequest {
    JobRequest {
        id: job(number),
        issuer: "op".parse().unwrap(),
        key_id: "op".parse().unwrap(),
        target: "*".into(),
        action: "service.restart".into(),
        args: [("unit".to_owned(), Value::from("nginx"))].into(),
        issued_at_ms: NOW + u64::from(number),
        deliver_by_ms: NOW + 60_000,
        run_limit_ms: 10_000,
        dry_run: false,
        cause: None,
    }
}

fn opened(offset: u64, number: u8, hosts: u8, away: &[u8]) -> Entry {
    let opened = JobOpened {
        id: job(number),
        envelope: encode(&request(number)).unwrap(),
        signature: String::new(),
        hosts: (0..hosts).map(host).collect(),
        away: away.iter().copied().map(host).collect(),
        rollout: false,
        wait_until_ms: NOW + 30_000,
    };
    entry(offset, &opened, EVENTS, "op")
}

fn result(offset: u64, number: u8, from: u8, outcome: Outcome) -> Entry {
    let result = JobResult {
        job: job(number),
        host: host(from),
        outcome,
        reason: (outcome != Outcome::Succeeded)
            .then(|| Reason::new(ReasonCode::ActionFailed, "no")),
        data: Value::from("said"),
        received_at_ms: NOW + 5,
        started_at_ms: Some(NOW + 6),
        finished_at_ms: NOW + 7,
        dry_run: false,
    };
    entry(offset, &result, REPLIES, host(from).as_str())
}

fn note(offset: u64, number: u8, given_up: &[u8], closed: bool) -> Entry {
    let note = JobNote {
        job: job(number),
        at_ms: NOW + 20_000,
        released: vec![],
        unroutable: vec![],
        skipped: vec![],
        given_up: given_up.iter().copied().map(host).collect(),
        dead: Vec::new(),
        stopped_by: None,
        closed,
    };
    entry(offset, &note, EVENTS, "op")
}

fn states(store: &mut Store, number: u8) -> Vec<(String, HostState, bool, bool)> {
    let standings = store.standings(job(number)).unwrap();
    standings
        .into_iter()
        .map(|(host, s)| (host.to_string(), s.state, s.late, s.targeted))
        .collect()
}

fn story() -> Vec<Entry> {
    vec![
        opened(10, 1, 4, &[3]),
        result(11, 1, 0, Outcome::Succeeded),
        result(12, 1, 9, Outcome::Succeeded),
        note(13, 1, &[1, 2], true),
        result(14, 1, 1, Outcome::Failed),
        result(15, 1, 3, Outcome::Succeeded),
        result(16, 7, 3, Outcome::Succeeded),
        Entry {
            body: vec![0xc1],
            ..result(17, 1, 2, Outcome::Succeeded)
        },
        Entry {
            user_id: Some("lb0".into()),
            ..result(18, 1, 2, Outcome::Succeeded)
        },
    ]
}

fn check_story(store: &mut Store) {
    use HostState::{Failed, Succeeded, Unknown};
    let want = [
        ("lb0", Succeeded, false, true),
        ("lb1", Failed, true, true),
        ("lb2", Unknown, false, true),
        ("lb3", Succeeded, true, true),
        ("lb9", Succeeded, false, false),
    ];
    let want: Vec<_> = want
        .into_iter()
        .map(|(host, state, late, on)| (host.to_owned(), state, late, on))
        .collect();
    assert_eq!(states(store, 1), want);
    let row = store.job(job(1)).unwrap().unwrap();
    assert_eq!(
        (row.request, row.user.as_str(), row.closed_ms),
        (request(1), "op", Some(NOW + 20_000))
    );
    let reason = store.standings(job(1)).unwrap()[&host(1)].reason.clone();
    assert_eq!(reason, Some(("action-failed".to_owned(), "no".to_owned())));
}

#[test]
fn a_story_becomes_rows_and_what_is_wrong_is_counted() {
    let mut store = Store::in_memory().unwrap();
    store.apply(&story(), NOW).unwrap();
    check_story(&mut store);
    let counters = store.counters().unwrap();
    let want = [("impostor", 1), ("undecodable", 1), ("unknown-job", 1)];
    assert_eq!(
        counters,
        want.map(|(name, count)| (name.to_owned(), count)).into()
    );
    assert_eq!(
        store.position(Stream::Ledger).unwrap(),
        Some(Position {
            offset: 18,
            message_id: Some(message_id(18)),
            at_ms: NOW
        })
    );
}

#[test]
fn duplicates_and_what_another_program_wrote_are_left_out() {
    let mut store = Store::in_memory().unwrap();
    store.apply(&story(), NOW).unwrap();
    store.apply(&story(), NOW).unwrap();
    assert_eq!(
        store.counters().unwrap().get("undecodable"),
        Some(&1),
        "the same offsets are skipped"
    );
    let resent = Entry {
        offset: 30,
        ..result(11, 1, 0, Outcome::Succeeded)
    };
    store.apply(&[resent], NOW).unwrap();
    assert_eq!(store.counters().unwrap().get("duplicate"), Some(&1));
    check_story(&mut store);
}

#[test]
fn one_message_that_dies_in_two_queues_is_two_dead_letters() {
    let mut store = Store::in_memory().unwrap();
    let dead = |offset: u64, number: u8| Entry {
        message_id: Some(message_id(99)),
        death: Some((format!("muster.agent.lb{number}"), "expired".to_owned())),
        ..entry(offset, &request(1), DEAD, "op")
    };
    store
        .apply(&[opened(1, 1, 2, &[]), dead(2, 0), dead(3, 1)], NOW)
        .unwrap();
    assert!(
        states(&mut store, 1)
            .iter()
            .all(|(_, state, ..)| *state == HostState::DeliveryExpired)
    );
}

#[test]
fn jobs_are_named_by_either_end_of_their_id() {
    let mut store = Store::in_memory().unwrap();
    store
        .apply(&[opened(1, 1, 1, &[]), opened(2, 2, 1, &[])], NOW)
        .unwrap();
    let id = job(2).to_string();
    for text in [id.as_str(), &id[id.len() - 6..], "last", &id.to_uppercase()] {
        assert_eq!(store.find_job(text).unwrap(), Found::One(job(2)), "{text}");
    }
    assert_eq!(
        store.find_job(&id[..8]).unwrap(),
        Found::Many(vec![job(2), job(1)])
    );
    for text in ["", "%", "_", "nothing"] {
        assert_eq!(store.find_job(text).unwrap(), Found::Nothing, "{text:?}");
    }
    let newest: Vec<_> = store
        .jobs(0, 10)
        .unwrap()
        .into_iter()
        .map(|row| row.request.id)
        .collect();
    assert_eq!(newest, [job(2), job(1)]);
}

#[test]
fn old_jobs_are_let_go() {
    let mut store = Store::in_memory().unwrap();
    store.apply(&story(), NOW).unwrap();
    let later = NOW + KEPT_MS + 60_000;
    store.apply(&[note(50, 9, &[], true)], later).unwrap();
    assert_eq!(
        (
            store.jobs(0, 10).unwrap().len(),
            store.standings(job(1)).unwrap().len()
        ),
        (0, 0)
    );
}

#[test]
fn hosts_are_enrolled_started_and_retired() {
    let event = |offset, topic: &str, user: &str| {
        let fields =
            serde_json::json!({ "version": "1.0", "labels": { "role": "lb" }, "facts": {} });
        let event = Event {
            topic: topic.into(),
            host: host(1),
            at_ms: NOW + offset,
            severity: Severity::Info,
            summary: String::new(),
            key: String::new(),
            fields: fields.as_object().unwrap().clone().into_iter().collect(),
            before: Value::Null,
            after: Value::Null,
            seq: 0,
            cause: None,
        };
        entry(offset, &event, EVENTS, user)
    };
    let mut store = Store::in_memory().unwrap();
    let retired = |store: &mut Store| store.hosts().unwrap()[0].retired_ms;
    store
        .apply(
            &[
                event(1, "host.enrolled", "op"),
                event(2, "host.started", "lb1"),
            ],
            NOW,
        )
        .unwrap();
    let row = store.hosts().unwrap().remove(0);
    assert_eq!(
        (row.enrolled_ms, row.retired_ms, row.started_ms),
        (Some(NOW + 1), None, Some(NOW + 2))
    );
    assert_eq!(
        row.at_start.unwrap().labels.get("role").map(String::as_str),
        Some("lb")
    );
    store.apply(&[event(3, "host.retired", "op")], NOW).unwrap();
    assert_eq!(retired(&mut store), Some(NOW + 3));
    store
        .apply(&[event(4, "host.enrolled", "op")], NOW)
        .unwrap();
    assert_eq!(retired(&mut store), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However the stream is cut into batches, and however often parts of it come again, the rows are the same.
    #[test]
    fn batches_and_repeats_change_nothing(cuts in prop::collection::vec((0_usize..9, 1_usize..9), 0..12)) {
        let story = story();
        let mut store = Store::in_memory().unwrap();
        let mut done = 0;
        for (from, count) in cuts {
            let from = from.min(done);
            let to = (from + count).min(story.len());
            store.apply(&story[from..to], NOW).unwrap();
            done = done.max(to);
        }
        store.apply(&story[done..], NOW).unwrap();
        check_story(&mut store);
    }
}
