//! Golden messages: every version of every message that was ever sent must be read for ever.
//!
//! `fixtures/<type>.<n>.msgpack` is a body as it was on the wire, `.json` what it says. Fixtures are only ever added:
//! when a message gains a field, add a sample with the next number. `MUSTER_BLESS=1` writes those that are missing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_proto::envelope::{DecodeError, Kind, Message, NESTING_MAX, decode, encode};
use muster_proto::event::{Event, Severity};
use muster_proto::id::{HostId, JobId, KeyId, MessageId};
use muster_proto::job::{
    Ack, DeadLetter, Heard, JobNote, JobOpened, JobRequest, JobResult, Mark, Outcome, Output,
    OutputStream, Probe, Reason, ReasonCode,
};
use muster_proto::metric::Metrics;
use muster_proto::presence::{OutboxDepth, Presence};
use muster_proto::signing::JobSigner;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

const AT_MS: u64 = 1_790_000_000_000;

fn job_id() -> JobId {
    JobId::from_parts(AT_MS, [1; 10])
}

fn host() -> HostId {
    "lb1.example.com".parse().unwrap()
}

fn key() -> KeyId {
    "alice".parse().unwrap()
}

fn request() -> JobRequest {
    JobRequest {
        id: job_id(),
        issuer: key(),
        key_id: key(),
        target: "role=lb and dc in (gz, sz)".into(),
        action: "service.restart".into(),
        args: [("unit".to_owned(), json!("nginx.service"))].into(),
        issued_at_ms: AT_MS,
        deliver_by_ms: AT_MS + 600_000,
        run_limit_ms: 60_000,
        dry_run: false,
        cause: Some(MessageId::from_parts(AT_MS, [2; 10])),
    }
}

fn check<M: Message>(number: u32, sample: Option<&M>) {
    let stem = format!("{}.{number}", M::KIND.wire_name().replace('/', "-"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(stem);
    let (body_path, json_path) = (
        path.with_added_extension("msgpack"),
        path.with_added_extension("json"),
    );
    if let Some(sample) = sample
        && !body_path.exists()
    {
        assert!(
            std::env::var_os("MUSTER_BLESS").is_some(),
            "{} is missing",
            body_path.display()
        );
        std::fs::write(&body_path, encode(sample).unwrap()).unwrap();
        std::fs::write(
            &json_path,
            serde_json::to_string_pretty(sample).unwrap() + "\n",
        )
        .unwrap();
    }
    let body = std::fs::read(&body_path)
        .unwrap_or_else(|error| panic!("{}: {error}", body_path.display()));
    let message: M = decode(M::KIND.wire_name(), &body).unwrap();
    let says: Value = serde_json::from_str(&std::fs::read_to_string(&json_path).unwrap()).unwrap();
    assert_eq!(
        serde_json::to_value(&message).unwrap(),
        says,
        "{}",
        body_path.display()
    );
    if let Some(sample) = sample {
        assert_eq!(
            encode(sample).unwrap(),
            body,
            "the bytes of {} have changed",
            body_path.display()
        );
    }
    tolerates_change::<M>(&body);
}

/// A newer writer adds fields, and a hostile one cuts or prolongs the body.
fn tolerates_change<M: Message>(body: &[u8]) {
    let mut fields: BTreeMap<String, rmp_free::Any> = rmp_serde::from_slice(body).unwrap();
    fields.insert(
        "a_field_of_tomorrow".into(),
        rmp_free::Any(json!({ "x": [1, 2] })),
    );
    let newer = rmp_serde::to_vec_named(&fields).unwrap();
    decode::<M>(M::KIND.wire_name(), &newer).unwrap();
    for end in 0..body.len() {
        assert!(
            decode::<M>(M::KIND.wire_name(), body.get(..end).unwrap()).is_err(),
            "cut at {end}"
        );
    }
    let longer = [body, &[0xc0]].concat();
    assert!(matches!(
        decode::<M>(M::KIND.wire_name(), &longer),
        Err(DecodeError::Body { .. })
    ));
}

/// Any MessagePack value, `bin` included, as JSON that goes back the same way.
mod rmp_free {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(crate) struct Any(pub(crate) Value);

    impl Serialize for Any {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if let Some(bytes) = self.0.get("\0bin").and_then(Value::as_array) {
                let bytes: Vec<u8> = bytes
                    .iter()
                    .filter_map(Value::as_u64)
                    .filter_map(|b| u8::try_from(b).ok())
                    .collect();
                return serializer.serialize_bytes(&bytes);
            }
            match &self.0 {
                // What is in it may be `bin` as well.
                Value::Array(items) => serializer.collect_seq(items.iter().cloned().map(Any)),
                other => other.serialize(serializer),
            }
        }
    }

    impl<'de> Deserialize<'de> for Any {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Any;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("anything")
                }
                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Any, E> {
                    Ok(Any(serde_json::json!({ "\0bin": bytes })))
                }
                fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
                    Ok(Any(value.into()))
                }
                fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
                    Ok(Any(value.into()))
                }
                fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
                    Ok(Any(value.into()))
                }
                fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
                    Ok(Any(value.into()))
                }
                fn visit_str<E>(self, value: &str) -> Result<Any, E> {
                    Ok(Any(value.into()))
                }
                fn visit_unit<E>(self) -> Result<Any, E> {
                    Ok(Any(Value::Null))
                }
                fn visit_none<E>(self) -> Result<Any, E> {
                    Ok(Any(Value::Null))
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(
                    self,
                    mut seq: A,
                ) -> Result<Any, A::Error> {
                    let mut items = Vec::new();
                    while let Some(Any(item)) = seq.next_element()? {
                        items.push(item);
                    }
                    Ok(Any(Value::Array(items)))
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Any, A::Error> {
                    let mut fields = serde_json::Map::new();
                    while let Some((name, Any(value))) = map.next_entry::<String, Any>()? {
                        fields.insert(name, value);
                    }
                    Ok(Any(Value::Object(fields)))
                }
            }
            deserializer.deserialize_any(Visitor)
        }
    }
}

#[test]
fn jobs() {
    check(1, Some(&request()));
    let body = encode(&request()).unwrap();
    let signature = JobSigner::from_seed(&[3; 32]).sign(&body);
    check(
        1,
        Some(&JobOpened {
            id: job_id(),
            envelope: body,
            signature: signature.to_string(),
            hosts: vec![host(), "lb2".parse().unwrap()],
            away: vec!["lb2".parse().unwrap()],
            rollout: false,
            wait_until_ms: AT_MS + 75_000,
        }),
    );
    check(
        1,
        Some(&JobNote {
            job: job_id(),
            at_ms: AT_MS + 1,
            released: vec![host()],
            unroutable: vec!["lb3".parse().unwrap()],
            skipped: vec![],
            given_up: vec!["lb2".parse().unwrap()],
            dead: vec![],
            stopped_by: Some("max-failures 2".into()),
            closed: true,
        }),
    );
    check(
        2,
        Some(&JobNote {
            job: job_id(),
            at_ms: AT_MS + 1,
            released: vec![],
            unroutable: vec![],
            skipped: vec![],
            given_up: vec![],
            dead: vec![DeadLetter {
                host: host(),
                reason: "expired".into(),
            }],
            stopped_by: None,
            closed: false,
        }),
    );
}

#[test]
fn replies() {
    check(
        1,
        Some(&Ack {
            job: job_id(),
            host: host(),
            at_ms: AT_MS,
            running: true,
        }),
    );
    check(
        1,
        Some(&JobResult {
            job: job_id(),
            host: host(),
            outcome: Outcome::Failed,
            reason: Some(Reason::new(ReasonCode::ExitStatus, "exit status 3")),
            data: json!({ "exit_code": 3, "stdout": "", "list": [1, 2.5, null, true] }),
            received_at_ms: AT_MS,
            started_at_ms: Some(AT_MS + 1),
            finished_at_ms: AT_MS + 2,
            dry_run: false,
        }),
    );
    check(
        1,
        Some(&Output {
            job: job_id(),
            host: host(),
            seq: 2,
            stream: OutputStream::Stderr,
            bytes: vec![0, 159, 146, 150],
            dropped_bytes: 7,
        }),
    );
}

#[test]
fn what_agents_say_by_themselves() {
    check(
        1,
        Some(&Event {
            topic: "host.interface.down".into(),
            host: host(),
            at_ms: AT_MS,
            severity: Severity::Error,
            summary: "eth0 is down".into(),
            key: "eth0".into(),
            fields: [("speed_mbit".to_owned(), json!(1000))].into(),
            before: json!("up"),
            after: json!("down"),
            seq: 9,
            cause: None,
        }),
    );
    let snapshot = json!({ "load": { "one": 0.25 } });
    check(
        1,
        Some(&Metrics {
            host: host(),
            collector: "host".into(),
            at_ms: AT_MS,
            seq: 1,
            snapshot,
        }),
    );
    check(
        1,
        Some(&Presence {
            host: host(),
            at_ms: AT_MS,
            interval_ms: 30_000,
            seq: 4,
            goodbye: false,
            version: "0.1.0".into(),
            boot_id: "b".into(),
            started_at_ms: AT_MS - 1,
            labels: [("role".to_owned(), "lb".to_owned())].into(),
            facts: [("os.id".to_owned(), "debian".to_owned())].into(),
            outbox: OutboxDepth {
                records: 1,
                bytes: 2,
                dropped: 3,
            },
            last_job: Some(job_id()),
            last_confirm_at_ms: Some(AT_MS),
            jobs_open: 1,
            failing: [("host".to_owned(), "no /proc".to_owned())].into(),
        }),
    );
    check(
        1,
        Some(&Mark {
            reader: "alice".into(),
        }),
    );
    check(
        1,
        Some(&Heard {
            answers: vec![ByteBuf::from(vec![0x80]), ByteBuf::from(vec![0x81, 0xa1])],
        }),
    );
    check(
        1,
        Some(&Probe {
            host: host(),
            at_ms: AT_MS,
        }),
    );
}

#[test]
fn every_kind_has_a_golden_file_and_every_file_a_kind() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for kind in Kind::ALL {
        let stem = format!("{}.1.msgpack", kind.wire_name().replace('/', "-"));
        assert!(
            files.iter().any(|file| file.ends_with(&stem)),
            "{stem} is missing"
        );
    }
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let kind = name
            .split('.')
            .take(2)
            .collect::<Vec<_>>()
            .join(".")
            .replace("-1", "/1");
        assert!(
            Kind::from_wire_name(&kind).is_some(),
            "{name} belongs to no message"
        );
    }
}

#[test]
fn hostile_bodies_are_refused_before_they_cost_anything() {
    let kind = Kind::Job.wire_name();
    let large = vec![0; Kind::Job.body_bytes_max() + 1];
    assert!(matches!(
        decode::<JobRequest>(kind, &large),
        Err(DecodeError::TooLarge { .. })
    ));
    assert!(matches!(
        decode::<JobRequest>("muster.job/2", &[]),
        Err(DecodeError::Kind { .. })
    ));

    // args: an array in an array in an array …
    let mut deep = rmp_serde::to_vec_named(&json!({ "args": 0 })).unwrap();
    deep.pop();
    deep.extend([0x81, 0xa1, b'a']);
    deep.extend(vec![0x91; NESTING_MAX + 1]);
    deep.push(0xc0);
    assert!(matches!(
        decode::<JobRequest>(kind, &deep),
        Err(DecodeError::Body { .. })
    ));

    // A map that claims four billion entries.
    assert!(decode::<JobRequest>(kind, &[0xdf, 0xff, 0xff, 0xff, 0xff]).is_err());
    assert!(decode::<JobRequest>(kind, &[]).is_err());
    let too_long = JobRequest {
        target: "x".repeat(70_000),
        ..request()
    };
    assert!(encode(&too_long).is_err());
}
