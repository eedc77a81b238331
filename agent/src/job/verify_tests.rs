//! Every check refuses with its own code, in the contract's order, and no altered byte ever passes.

use std::collections::BTreeMap;

use muster_proto::id::HostId;
use muster_proto::signing::JobSigner;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::action::HostFacts;
use crate::job::{KeySection, PolicySection};

const NOW: u64 = 1_780_000_000_000;
const TOLERANCE: Duration = Duration::from_secs(30);

fn signer(seed: u8) -> JobSigner {
    JobSigner::from_seed(&[seed; 32])
}

fn access() -> Access {
    let time = |ms: u64| jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
    let key = |id: &str, seed, not_before, not_after| KeySection {
        id: id.to_owned(),
        public_key: signer(seed).public().to_string(),
        not_before,
        not_after,
    };
    let keys = [
        key("ops", 1, None, None),
        key("old", 2, None, Some(time(NOW - 31_000))),
        key("new", 3, Some(time(NOW + 31_000)), None),
        key("nobody", 4, None, None),
    ];
    let policy = |key: &str, actions: &[&str], args: serde_json::Value| PolicySection {
        key: key.to_owned(),
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        args: serde_json::from_value(args).unwrap(),
    };
    let policies = [
        policy("ops", &["ping", "job.*", "collect"], json!({})),
        policy("ops", &["service.*"], json!({ "unit": "nginx*" })),
        policy("old", &["*"], json!({})),
        policy("new", &["*"], json!({})),
    ];
    Access::parse(&keys, &policies).unwrap()
}

fn facts() -> HostFacts {
    let host: HostId = "lb1".parse().unwrap();
    HostFacts {
        host,
        labels: BTreeMap::from([("role".to_owned(), "lb".to_owned())]),
        facts: BTreeMap::new(),
        version: String::new(),
    }
}

fn request() -> JobRequest {
    JobRequest {
        id: JobId::from_parts(NOW, [7; 10]),
        issuer: "ann".parse().unwrap(),
        key_id: "ops".parse().unwrap(),
        target: "role=lb".to_owned(),
        action: "service.restart".to_owned(),
        args: BTreeMap::from([("unit".to_owned(), json!("nginx"))]),
        issued_at_ms: NOW - 1000,
        deliver_by_ms: NOW + 60_000,
        run_limit_ms: 10_000,
        dry_run: false,
        cause: None,
    }
}

/// A message as a controller would send it, to be tampered with.
struct Sent {
    kind: String,
    body: Vec<u8>,
    key_id: Option<String>,
    signature: Option<String>,
}

fn send(request: &JobRequest, seed: u8) -> Sent {
    let body = envelope::encode(request).unwrap();
    let signature = Some(signer(seed).sign(&body).to_string());
    Sent {
        kind: Kind::Job.wire_name().to_owned(),
        body,
        key_id: Some(request.key_id.to_string()),
        signature,
    }
}

fn check(sent: &Sent) -> Result<Verified, Refusal> {
    let message = Signed {
        kind: &sent.kind,
        body: &sent.body,
        key_id: sent.key_id.as_deref(),
        signature: sent.signature.as_deref(),
    };
    verify(message, &access(), &facts(), NOW, TOLERANCE)
}

fn code(sent: &Sent) -> String {
    match check(sent) {
        Ok(_) => "ok".to_owned(),
        Err(Refusal::Garbage(_)) => "garbage".to_owned(),
        Err(Refusal::Job {
            job,
            outcome,
            reason,
            ..
        }) => {
            assert_eq!(job, request().id);
            let wanted = if reason.code == ReasonCode::Expired {
                Outcome::DeliveryExpired
            } else {
                Outcome::Rejected
            };
            assert_eq!(outcome, wanted);
            assert!(!reason.message.is_empty());
            serde_json::to_value(reason.code)
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned()
        }
    }
}

#[test]
fn a_good_job_passes() {
    let verified = check(&send(&request(), 1)).unwrap();
    assert_eq!(verified.request, request());
    assert_eq!(verified.spec.name, "service.restart");
}

/// What is done to a request, and what comes of it.
type Case = (&'static str, u8, fn(&mut JobRequest), &'static str);

static FIELD_CASES: &[Case] = &[
    ("as it should be", 1, |_| {}, "ok"),
    (
        "signed by another key than it names",
        2,
        |_| {},
        "bad-signature",
    ),
    (
        "a key that the host does not have",
        1,
        |r| r.key_id = "eve".parse().unwrap(),
        "unknown-key",
    ),
    (
        "a key that is over",
        2,
        |r| r.key_id = "old".parse().unwrap(),
        "key-not-valid",
    ),
    (
        "a key whose time has not come",
        3,
        |r| r.key_id = "new".parse().unwrap(),
        "key-not-valid",
    ),
    (
        "a key without a policy",
        4,
        |r| r.key_id = "nobody".parse().unwrap(),
        "policy-denied",
    ),
    (
        "made in the future",
        1,
        |r| r.issued_at_ms = NOW + 30_001,
        "bad-times",
    ),
    (
        "made in the future, within the tolerance",
        1,
        |r| r.issued_at_ms = NOW + 30_000,
        "ok",
    ),
    (
        "a deadline before its beginning",
        1,
        |r| r.deliver_by_ms = r.issued_at_ms - 1,
        "bad-times",
    ),
    (
        "a deadline too far away",
        1,
        |r| r.deliver_by_ms = r.issued_at_ms + DELIVER_WINDOW_MS_MAX + 1,
        "bad-times",
    ),
    (
        "the farthest deadline",
        1,
        |r| r.deliver_by_ms = r.issued_at_ms + DELIVER_WINDOW_MS_MAX,
        "ok",
    ),
    (
        "times that overflow",
        1,
        |r| {
            r.issued_at_ms = 0;
            r.deliver_by_ms = u64::MAX;
        },
        "bad-times",
    ),
    (
        "past its deadline",
        1,
        |r| {
            r.issued_at_ms = NOW - 90_000;
            r.deliver_by_ms = NOW - 30_001;
        },
        "expired",
    ),
    (
        "past its deadline, within the tolerance",
        1,
        |r| {
            r.issued_at_ms = NOW - 90_000;
            r.deliver_by_ms = NOW - 30_000;
        },
        "ok",
    ),
    (
        "for other hosts",
        1,
        |r| r.target = "role=web".to_owned(),
        "not-targeted",
    ),
    (
        "a target that does not parse",
        1,
        |r| r.target = "role=(".to_owned(),
        "not-targeted",
    ),
    ("no target", 1, |r| r.target = String::new(), "not-targeted"),
    (
        "an action that the key may not run",
        1,
        |r| r.action = "script.run".to_owned(),
        "policy-denied",
    ),
    (
        "an argument that the key may not use",
        1,
        |r| drop(r.args.insert("unit".into(), json!("sshd"))),
        "policy-denied",
    ),
    (
        "an action that is none",
        1,
        |r| {
            r.action = "job.nonsense".to_owned();
            r.args.clear();
        },
        "unknown-action",
    ),
    (
        "an action that is none, of a key without a policy",
        4,
        |r| {
            r.key_id = "nobody".parse().unwrap();
            r.action = "x".into();
        },
        "policy-denied",
    ),
    (
        "an unknown argument",
        1,
        |r| drop(r.args.insert("force".into(), json!(true))),
        "bad-argument",
    ),
    (
        "an argument of the wrong kind",
        1,
        |r| drop(r.args.insert("unit".into(), json!(["nginx"]))),
        "bad-argument",
    ),
    (
        "a missing argument",
        1,
        |r| {
            r.action = "job.status".into();
            r.args.clear();
        },
        "bad-argument",
    ),
    (
        "a dry run of what has none",
        1,
        |r| {
            r.action = "ping".into();
            r.args.clear();
            r.dry_run = true;
        },
        "no-dry-run",
    ),
    ("no time to run", 1, |r| r.run_limit_ms = 0, "bad-times"),
    (
        "too much time to run",
        1,
        |r| r.run_limit_ms = RUN_LIMIT_MS_MAX + 1,
        "bad-times",
    ),
    (
        "as much time as may be",
        1,
        |r| r.run_limit_ms = RUN_LIMIT_MS_MAX,
        "ok",
    ),
    (
        "too much time to read",
        1,
        |r| {
            r.action = "ping".into();
            r.args.clear();
            r.run_limit_ms = READ_RUN_LIMIT_MS_MAX + 1;
        },
        "bad-times",
    ),
];

#[test]
fn every_field_of_the_request_is_checked() {
    for (what, seed, change, want) in FIELD_CASES {
        let mut request = request();
        change(&mut request);
        assert_eq!(code(&send(&request, *seed)), *want, "{what}");
    }
}

#[test]
fn the_order_is_the_contracts() {
    let mut wrong = request();
    wrong.key_id = "eve".parse().unwrap();
    wrong.issued_at_ms = NOW - 90_000;
    wrong.deliver_by_ms = NOW - 60_000;
    wrong.target = "role=web".to_owned();
    wrong.action = "script.run".to_owned();
    wrong.args.clear();
    wrong.run_limit_ms = 0;
    let mut expect = |want: &str, seed, change: fn(&mut JobRequest)| {
        assert_eq!(code(&send(&wrong, seed)), want);
        change(&mut wrong);
    };
    expect("unknown-key", 1, |r| r.key_id = "ops".parse().unwrap());
    expect("bad-signature", 2, |_| {});
    expect("expired", 1, |r| r.deliver_by_ms = NOW);
    expect("not-targeted", 1, |r| r.target = "*".to_owned());
    expect("policy-denied", 1, |r| r.action = "job.status".to_owned());
    expect("bad-argument", 1, |r| {
        drop(r.args.insert("job".into(), json!(request().id)))
    });
    expect("bad-times", 1, |r| r.run_limit_ms = 1);
    expect("ok", 1, |_| {});
}

#[test]
fn the_envelope_is_checked() {
    type Change = fn(&mut Sent);
    let cases: &[(&str, Change, &str)] = &[
        ("no key", |s| s.key_id = None, "bad-signature"),
        (
            "a key id that is none",
            |s| s.key_id = Some("a b".into()),
            "bad-signature",
        ),
        (
            "another key's name",
            |s| s.key_id = Some("nobody".into()),
            "bad-signature",
        ),
        ("no signature", |s| s.signature = None, "bad-signature"),
        (
            "half a signature",
            |s| s.signature = s.signature.as_ref().map(|text| text[..64].to_owned()),
            "bad-signature",
        ),
        (
            "another body's signature",
            |s| s.signature = Some(signer(1).sign(b"x").to_string()),
            "bad-signature",
        ),
        (
            "another type",
            |s| s.kind = "muster.result/1".into(),
            "garbage",
        ),
        (
            "a later version",
            |s| s.kind = "muster.job/2".into(),
            "garbage",
        ),
        ("an empty body", |s| s.body.clear(), "garbage"),
        (
            "text",
            |s| s.body = b"restart everything".to_vec(),
            "garbage",
        ),
        (
            "a body over its bound",
            |s| s.body.resize(64 * 1024 + 1, 0),
            "garbage",
        ),
        ("half a body", |s| s.body.truncate(40), "garbage"),
    ];
    for (what, change, want) in cases {
        let mut sent = send(&request(), 1);
        change(&mut sent);
        assert_eq!(code(&sent), *want, "{what}");
    }
    // Signed with a good key, under that key's header, but the body names another: nobody speaks for another key.
    let mut sent = send(&request(), 4);
    sent.key_id = Some("nobody".to_owned());
    assert_eq!(code(&sent), "bad-signature");
    // Garbage stays garbage even with a good signature over it.
    let body = b"garbage".to_vec();
    let signature = Some(signer(1).sign(&body).to_string());
    let sent = Sent {
        kind: Kind::Job.wire_name().to_owned(),
        body,
        key_id: Some("ops".to_owned()),
        signature,
    };
    assert_eq!(code(&sent), "garbage");
}

proptest! {
    #[test]
    fn no_altered_bit_ever_passes(at in any::<prop::sample::Index>(), bit in 0_u8..8, in_signature: bool) {
        let mut sent = send(&request(), 1);
        if in_signature {
            let mut bytes: Vec<u8> = sent.signature.clone().unwrap().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // The same digit in upper case is the same signature.
            let altered = String::from_utf8_lossy(&bytes).into_owned();
            prop_assume!(!altered.eq_ignore_ascii_case(sent.signature.as_deref().unwrap()));
            sent.signature = Some(altered);
        } else {
            let at = at.index(sent.body.len());
            sent.body[at] ^= 1 << bit;
        }
        prop_assert!(check(&sent).is_err());
    }

    #[test]
    fn no_altered_span_ever_passes(from in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 0..40)) {
        let good = send(&request(), 1);
        let mut sent = send(&request(), 1);
        let from = from.index(sent.body.len());
        let to = (from + with.len()).min(sent.body.len());
        sent.body.splice(from..to, with);
        prop_assume!(sent.body != good.body);
        prop_assert!(check(&sent).is_err());
    }

    #[test]
    fn noise_is_garbage(body in prop::collection::vec(any::<u8>(), 0..200), key in ".{0,20}", signature in "[0-9a-f]{128}") {
        let sent = Sent { kind: Kind::Job.wire_name().to_owned(), body, key_id: Some(key), signature: Some(signature) };
        prop_assert!(matches!(check(&sent), Err(Refusal::Garbage(_))));
    }
}
