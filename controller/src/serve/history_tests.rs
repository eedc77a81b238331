//! The history's file: once, bounded, and set aside when it is damaged.
#![expect(clippy::unwrap_used, reason = "tests")]

use muster_proto::event::Severity;

use super::*;

/// A row as it comes in, of some 1,100 bytes.
pub(crate) fn sample(offset: u64, id: &str, topic: &str, host: &str) -> Row {
    let event = Event {
        topic: topic.into(),
        host: host.parse().unwrap(),
        at_ms: offset * 1000,
        severity: Severity::Info,
        summary: "x".repeat(1000),
        key: String::new(),
        fields: Default::default(),
        before: serde_json::Value::Null,
        after: serde_json::Value::Null,
        seq: 0,
        cause: None,
    };
    row_of(offset, id, event)
}

/// An event's row as it comes in.
pub(crate) fn row_of(offset: u64, id: &str, event: Event) -> Row {
    Row {
        offset,
        id: Some(id.into()),
        kind: Kind::Event.wire_name().into(),
        routing_key: topic_key(&event.topic, &event.host),
        at_ms: event.at_ms,
        body: envelope::encode(&event).unwrap(),
        event: Some(event),
    }
}

#[test]
fn rows_are_kept_once_and_the_offset_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(dir.path()).unwrap();
    let batch = [
        sample(1, "a", "t", "h1"),
        sample(2, "b", "t", "h1"),
        sample(3, "a", "t", "h1"),
    ];
    assert_eq!(history.apply(&batch).unwrap(), 2);
    assert_eq!(history.apply(&batch).unwrap(), 0);
    drop(history);
    let history = History::open(dir.path()).unwrap();
    assert_eq!(history.position().unwrap(), Some((3, Some("a".into()))));
    assert_eq!(history.count().unwrap(), 2);
}

#[test]
fn an_event_about_another_than_its_key_says_is_none() {
    let event = sample(1, "a", "fleet.host.lost", "h1").event.unwrap();
    let body = envelope::encode(&event).unwrap();
    let kind = Kind::Event.wire_name();
    assert_eq!(event_of(kind, "fleet.host.lost.h1", &body), Some(event));
    for key in [
        "fleet.host.lost.h2",
        "x.fleet.host.lost.h1",
        "fleet.host.h1",
        "h1",
        "",
    ] {
        assert_eq!(event_of(kind, key, &body), None, "{key}");
    }
}

#[test]
fn the_newest_of_two_topics_is_found_for_each_host() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(dir.path()).unwrap();
    let batch = [
        sample(1, "a", "lost", "h1"),
        sample(2, "b", "back", "h1"),
        sample(3, "c", "lost", "h2"),
        sample(4, "d", "other", "h2"),
    ];
    history.apply(&batch).unwrap();
    let mut newest = history.newest_of(["lost", "back"]).unwrap();
    newest.sort();
    assert_eq!(
        newest,
        [["h1", "back", "b"], ["h2", "lost", "c"]].map(|row| row.map(str::to_owned))
    );
}

#[test]
fn the_oldest_go_by_age_and_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(dir.path()).unwrap();
    let batch: Vec<Row> = (1..=1000)
        .map(|n| sample(n, &format!("m{n}"), "t", "h1"))
        .collect();
    history.apply(&batch).unwrap();
    let by_age = Bounds {
        age_max_ms: 100_000,
        bytes_max: u64::MAX,
    };
    assert_eq!(history.prune(by_age, 1_000_000).unwrap(), 899);
    let by_size = Bounds {
        age_max_ms: u64::MAX,
        bytes_max: 150_000,
    };
    let went = history.prune(by_size, 1_000_000).unwrap();
    assert!((20..95).contains(&went), "{went}");
    assert_eq!(history.count().unwrap(), 101 - went as u64);
    assert_eq!(history.prune(by_size, 1_000_000).unwrap(), 0);
}

#[test]
fn a_damaged_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), [7; 5000]).unwrap();
    let history = History::open(dir.path()).unwrap();
    assert_eq!(history.count().unwrap(), 0);
    assert_eq!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .contains("damaged"))
            .count(),
        1
    );
}
