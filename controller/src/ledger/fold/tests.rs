#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use muster_proto::envelope::encode;
use muster_proto::event::Severity;
use muster_proto::job::{Heard, JobResult, Outcome, Reason, ReasonCode};
use muster_proto::topology::{ANSWERS, EVENTS, HEARD, REPLIES};
use serde_bytes::ByteBuf;

use super::*;

fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

fn job() -> JobId {
    JobId::from_parts(1_000, [1; 10])
}

fn entry<M: envelope::Message>(message: &M, exchange: &str, user: &str) -> Entry {
    Entry {
        kind: M::KIND.wire_name().to_owned(),
        user_id: Some(user.to_owned()),
        exchange: exchange.to_owned(),
        body: encode(message).unwrap(),
        timestamp_ms: Some(5_000),
        ..Entry::default()
    }
}

fn folded(entry: &Entry) -> Result<Vec<Change>, Ignored> {
    fold(entry, &|user| user.starts_with("lb"))
}

fn request() -> JobRequest {
    JobRequest {
        id: job(),
        issuer: "op".parse().unwrap(),
        key_id: "op".parse().unwrap(),
        target: "*".into(),
        action: "ping".into(),
        args: BTreeMap::new(),
        issued_at_ms: 1_000,
        deliver_by_ms: 2_000,
        run_limit_ms: 500,
        dry_run: false,
        cause: None,
    }
}

fn result_of(name: &str) -> JobResult {
    JobResult {
        job: job(),
        host: host(name),
        outcome: Outcome::Failed,
        reason: Some(Reason::new(ReasonCode::ExitStatus, "exit status 3")),
        data: serde_json::json!({ "exit_code": 3 }),
        received_at_ms: 10,
        started_at_ms: Some(11),
        finished_at_ms: 12,
        dry_run: false,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn who_says_something_is_checked() {
    let opened = JobOpened {
        id: job(),
        envelope: encode(&request()).unwrap(),
        signature: String::new(),
        hosts: vec![host("lb1")],
        away: vec![],
        rollout: false,
        wait_until_ms: 9,
    };
    let note = JobNote {
        job: job(),
        at_ms: 7,
        released: vec![],
        unroutable: vec![],
        skipped: vec![],
        given_up: vec![host("lb1")],
        dead: Vec::new(),
        stopped_by: None,
        closed: true,
    };
    let ack = Ack {
        job: job(),
        host: host("lb1"),
        at_ms: 7,
        running: true,
    };
    let event = |topic: &str, name: &str| Event {
        topic: topic.into(),
        host: host(name),
        at_ms: 7,
        severity: Severity::Info,
        summary: String::new(),
        key: String::new(),
        fields: BTreeMap::new(),
        before: Value::Null,
        after: Value::Null,
        seq: 0,
        cause: None,
    };
    let cases: Vec<(&str, Entry, bool)> = vec![
        ("opened by an operator", entry(&opened, EVENTS, "op"), true),
        ("opened by a host", entry(&opened, EVENTS, "lb1"), false),
        ("a note of an operator", entry(&note, EVENTS, "op"), true),
        ("a note of a host", entry(&note, EVENTS, "lb2"), false),
        ("an ack of its own", entry(&ack, REPLIES, "lb1"), true),
        ("an ack of another", entry(&ack, REPLIES, "lb2"), false),
        ("an ack of an operator", entry(&ack, REPLIES, "op"), false),
        (
            "a result of its own",
            entry(&result_of("lb1"), REPLIES, "lb1"),
            true,
        ),
        (
            "a result of another",
            entry(&result_of("lb1"), REPLIES, "lb2"),
            false,
        ),
        (
            "started",
            entry(&event("host.started", "lb1"), EVENTS, "lb1"),
            true,
        ),
        (
            "started by another",
            entry(&event("host.started", "lb1"), EVENTS, "lb2"),
            false,
        ),
        (
            "enrolled by an operator",
            entry(&event("host.enrolled", "lb1"), EVENTS, "op"),
            true,
        ),
        (
            "retired by itself",
            entry(&event("host.retired", "db1"), EVENTS, "db1"),
            false,
        ),
        (
            "retired by another host",
            entry(&event("host.retired", "db1"), EVENTS, "lb2"),
            false,
        ),
    ];
    for (what, entry, good) in cases {
        assert_eq!(folded(&entry).is_ok(), good, "{what}");
        if !good {
            assert_eq!(folded(&entry), Err(Ignored::Impostor), "{what}");
        }
        let nobody = Entry {
            user_id: None,
            ..entry
        };
        assert_eq!(folded(&nobody), Err(Ignored::Impostor), "{what}, by nobody");
    }
}

#[test]
fn what_does_not_decode_is_ignored_and_what_is_not_for_the_ledger_says_nothing() {
    let good = entry(&result_of("lb1"), REPLIES, "lb1");
    let cut = Entry {
        body: good.body.get(..20).unwrap().to_vec(),
        ..good.clone()
    };
    assert_eq!(folded(&cut), Err(Ignored::Undecodable));
    let newer = Entry {
        kind: "muster.result/2".into(),
        ..good.clone()
    };
    assert_eq!(folded(&newer), Err(Ignored::UnknownKind));
    let mark = muster_proto::job::Mark { reader: "x".into() };
    assert_eq!(folded(&entry(&mark, EVENTS, "op")), Ok(vec![]));
    let forged = Entry {
        exchange: DEAD.into(),
        ..good
    };
    assert_eq!(
        folded(&forged),
        Err(Ignored::Undecodable),
        "a dead letter has died somewhere"
    );
}

#[test]
fn what_a_controller_has_heard_are_the_hosts_answers() {
    let body = |name: &str| ByteBuf::from(encode(&result_of(name)).unwrap());
    let heard = Heard {
        answers: vec![body("lb1"), ByteBuf::from(b"garbage".to_vec()), body("lb2")],
    };
    let changes = folded(&entry(&heard, HEARD, "op")).unwrap();
    let sightings = ["lb1", "lb2"].map(|name| {
        let sighting = sighting_of(result_of(name), None);
        assert_eq!(sighting.at_ms, 12, "when the host was done");
        Change::Observe(Box::new(sighting))
    });
    assert_eq!(changes, sightings);
    // Hosts may write to the one; who is none of the known hosts may still be one.
    for (exchange, user) in [(HEARD, "lb1"), (ANSWERS, "lb1"), (ANSWERS, "unknown")] {
        let forged = folded(&entry(&heard, exchange, user));
        assert_eq!(forged, Err(Ignored::Impostor), "{exchange} {user}");
    }
}

#[test]
fn an_answer_that_its_controller_left_behind_is_one_of_its_host() {
    let dead = |user: &str| Entry {
        death: Some(("muster.ctl.op.x.answers".into(), "expired".into())),
        ..entry(&result_of("lb1"), DEAD, user)
    };
    let alive = folded(&entry(&result_of("lb1"), REPLIES, "lb1"));
    assert!(alive.is_ok());
    assert_eq!(folded(&dead("lb1")), alive);
    assert_eq!(folded(&dead("lb2")), Err(Ignored::Impostor));
}

#[test]
fn dead_letters_speak_of_the_host_whose_queue_it_was() {
    let dead = |reason: &str| Entry {
        death: Some(("muster.agent.lb1".into(), reason.into())),
        ..entry(&request(), DEAD, "op")
    };
    for (reason, observation, code) in [
        ("expired", Observation::DeadLettered, "expired"),
        ("maxlen", Observation::Unroutable, "queue-full"),
        ("rejected", Observation::Unroutable, "refused-message"),
        ("delivery_limit", Observation::Unroutable, "dead-lettered"),
    ] {
        // As the broker routes it, and as a controller takes it over.
        let letter = dead::letter_of(&dead(reason)).unwrap().unwrap();
        assert_eq!(letter.0, job());
        let note = JobNote {
            job: job(),
            at_ms: 7,
            released: vec![],
            unroutable: vec![],
            skipped: vec![],
            given_up: vec![],
            dead: vec![letter.1],
            stopped_by: None,
            closed: false,
        };
        for told in [dead(reason), entry(&note, EVENTS, "op")] {
            let changes = folded(&told).unwrap();
            let Some(Change::Observe(seen)) = changes.into_iter().next() else {
                unreachable!("{reason}")
            };
            assert_eq!(
                (seen.job, seen.host.as_str(), seen.observation),
                (job(), "lb1", observation),
                "{reason}"
            );
            assert_eq!(seen.reason.unwrap().0, code);
        }
    }
    let garbage = Entry {
        body: vec![0xc1],
        ..dead("rejected")
    };
    assert_eq!(folded(&garbage), Err(Ignored::Undecodable));
    let named = Entry {
        job: Some(job()),
        ..garbage
    };
    assert!(
        folded(&named).is_ok(),
        "the correlation id names the job of a body that is garbage"
    );
    let foreign = Entry {
        death: Some(("somebody.else".into(), "expired".into())),
        ..dead("expired")
    };
    assert_eq!(folded(&foreign), Err(Ignored::Undecodable));
}

#[test]
fn an_answer_keeps_reason_and_data_within_bounds() {
    let seen = sighting_of(result_of("lb1"), Some(50));
    assert_eq!(
        seen.reason,
        Some(("exit-status".into(), "exit status 3".into()))
    );
    assert_eq!(seen.answer.as_ref().unwrap().data, r#"{"exit_code":3}"#);
    assert_eq!(seen.at_ms, 50);
    let long = JobResult {
        data: Value::from("x".repeat(DATA_BYTES_MAX)),
        ..result_of("lb1")
    };
    let answer = sighting_of(long, None).answer.unwrap();
    assert_eq!(
        (answer.data.as_str(), answer.data_bytes),
        ("", DATA_BYTES_MAX as u64 + 2)
    );
}
