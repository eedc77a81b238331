#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use muster_proto::job::{JobResult, Observation, Outcome, Reason, ReasonCode};
use serde_json::json;

use super::super::account::Patience;
use super::text::write_data;
use super::*;

fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

fn request() -> JobRequest {
    JobRequest {
        id: JobId::from_parts(1_700_000_000_000, [1; 10]),
        issuer: "op".parse().unwrap(),
        key_id: "op".parse().unwrap(),
        target: "role=lb".into(),
        action: "script.run".into(),
        args: [("name".to_owned(), json!("x"))].into(),
        issued_at_ms: 1_700_000_000_000,
        deliver_by_ms: 1_700_000_060_000,
        run_limit_ms: 1_000,
        dry_run: false,
        cause: None,
    }
}

fn result(name: &str, outcome: Outcome, reason: Option<Reason>, data: Value) -> JobResult {
    JobResult {
        job: request().id,
        host: host(name),
        outcome,
        reason,
        data,
        received_at_ms: 0,
        started_at_ms: None,
        finished_at_ms: 0,
        dry_run: false,
    }
}

fn outcome() -> Waiting {
    let hosts: BTreeSet<HostId> = ["a1", "a2", "a3", "b1", "b2", "c1", "d1", "e1"]
        .map(host)
        .into();
    let patience = Patience {
        ack: Duration::ZERO,
        run: Duration::ZERO,
        whole: None,
        offline: None,
    };
    let mut job = Waiting::new(request().id, &hosts, &[host("d1")].into(), false, patience);
    let at = Some(Duration::from_micros(12_345));
    hosts.iter().for_each(|host| job.sent(host, Duration::ZERO));
    for (name, took) in [("a1", 3), ("a2", 5), ("a3", 7)] {
        let data = json!({ "duration_ms": took, "exit_code": 0, "signal": null, "stdout": "one\ntwo\u{1b}[2J\n", "stderr": "", "stdout_truncated_bytes": 0 });
        job.answered(result(name, Outcome::Succeeded, None, data), at);
    }
    for name in ["b1", "b2"] {
        let reason = Reason::new(ReasonCode::ExitStatus, "exit status 3");
        job.answered(
            result(
                name,
                Outcome::Failed,
                Some(reason),
                json!({ "exit_code": 3, "stderr": "no such file\n" }),
            ),
            at,
        );
    }
    job.give_up(&[host("c1")]);
    job.observe(&host("e1"), Observation::Unroutable);
    job.answered(result("z9", Outcome::Succeeded, None, Value::Null), at);
    job
}

#[test]
fn people_see_the_unusual_first_and_equals_once() {
    let report = Report::of_wait(&request(), &outcome(), None);
    insta::assert_snapshot!(report.text(&Style::default()), @r#"
    d1: pending (away): it was away and may still take the job when it is back [away]
    c1: unknown: no answer within the wait; a late one still counts, see `muster job show` [silent]
    e1: unroutable: the host has no queue on the broker: its agent has never connected, or was gone for too long [no-queue]
    b1, b2: failed: exit status 3 [exit-status]
        exit_code=3
        stderr: no such file
    a1, a2, a3: succeeded
        exit_code=0
        one
        two\u{1b}[2J
    z9: succeeded (was not targeted)
    8 hosts targeted: 3 succeeded, 2 failed, 1 unroutable, 1 unknown, 1 pending (1 away); 1 host answered without being targeted
    "#);
}

#[test]
fn programs_see_every_host_and_numbers_that_add_up() {
    let report = Report::of_wait(
        &request(),
        &outcome(),
        Some("max-failures 0: 1 failed, 0 allowed"),
    );
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(
        value.pointer("/states"),
        Some(&json!({ "pending": 1, "unknown": 1, "unroutable": 1, "failed": 2, "succeeded": 3 }))
    );
    assert_eq!(value.pointer("/targeted"), Some(&json!(8)));
    assert_eq!(report.states.values().sum::<usize>(), report.targeted);
    assert_eq!(
        value.pointer("/hosts/0/round_trip_ms"),
        Some(&json!(12.345))
    );
    assert_eq!(
        value.pointer("/hosts/3/reason"),
        Some(&json!({ "code": "exit-status", "message": "exit status 3" }))
    );
    assert_eq!(value.pointer("/surprises/0/host"), Some(&json!("z9")));
    assert!(
        report
            .text(&Style::default())
            .contains("stopped by the rule max-failures 0")
    );
}

#[test]
fn a_long_output_is_cut_in_the_middle() {
    let mut text = String::new();
    let lines: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    write_data(&mut text, &json!({ "stdout": lines.join("\n") }));
    assert_eq!(text.lines().count(), 81);
    assert!(
        text.contains("    39\n    (20 lines left out; --output json has them)\n    60\n"),
        "{text}"
    );
}

#[test]
fn lines_that_were_found_are_shown_with_their_place() {
    let mut text = String::new();
    let found = json!([
        { "file": "/var/log/a.log", "line_number": 6, "offset": 80, "line": "before", "context": true },
        { "file": "/var/log/a.log", "line_number": 7, "offset": 99, "line": "it failed", "context": false },
        { "file": "/var/log/b.log", "line_number": null, "offset": 5_000, "line": "it failed\u{1b}[2J", "context": false },
    ]);
    write_data(
        &mut text,
        &json!({ "matched": 2, "cut": null, "found": found }),
    );
    let want = "    matched=2\n    /var/log/a.log-6- before\n    /var/log/a.log:7: it failed\n    /var/log/b.log:byte 5000: it failed\\u{1b}[2J\n";
    assert_eq!(text, want);
}
