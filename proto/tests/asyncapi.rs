//! The AsyncAPI document against the facts: every kind of message, exchange, stream, topic and snapshot is in it, what it
//! says of them is so, and every reference leads somewhere.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeSet;

use muster_proto::asyncapi::document;
use muster_proto::envelope::Kind;
use muster_proto::schema::schemas;
use muster_proto::topics::TOPICS;
use muster_proto::topology::{EXCHANGES, STREAMS, content_type, subscriber_permissions};
use serde_json::Value;

/// Calls `visit` with every object in `value` and the path to it.
fn walk(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, value);
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                walk(inner, &format!("{path}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            for (at, inner) in items.iter().enumerate() {
                walk(inner, &format!("{path}/{at}"), visit);
            }
        }
        _ => {}
    }
}

fn names(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn every_reference_leads_to_an_object_of_the_document() {
    let document = document("1.2.3");
    let mut count = 0;
    walk(&document, "", &mut |path, value| {
        let Some(target) = value.get("$ref").and_then(Value::as_str) else {
            return;
        };
        count += 1;
        let pointer = target
            .strip_prefix('#')
            .unwrap_or_else(|| panic!("{path}: {target} leads out of the document"));
        let found = document.pointer(pointer);
        assert!(
            found.is_some_and(|found| found.is_object() || found.is_boolean()),
            "{path}: {target}"
        );
    });
    assert!(count > 100, "{count}");
}

#[test]
fn the_skeleton_is_that_of_asyncapi_3() {
    let document = document("1.2.3");
    assert_eq!(document["asyncapi"], "3.0.0");
    assert_eq!(document["info"]["version"], "1.2.3");
    let good = regex::Regex::new(r"^[A-Za-z0-9._-]+$").unwrap();
    for section in ["messages", "schemas"] {
        for name in names(&document["components"][section]) {
            assert!(good.is_match(name), "{section} {name}");
        }
    }
    let channels = document["channels"].as_object().unwrap();
    for (name, channel) in channels {
        let address = channel["address"].as_str().unwrap();
        let none = Value::Object(serde_json::Map::default());
        let parameters = names(channel.get("parameters").unwrap_or(&none));
        let written: BTreeSet<&str> = address
            .split('{')
            .skip(1)
            .map(|part| part.split('}').next().unwrap())
            .collect();
        assert_eq!(parameters, written, "{name}: {address}");
        assert!(!names(&channel["messages"]).is_empty(), "{name}");
        let operation = &document["operations"][format!("send.{name}")];
        assert_eq!(operation["channel"]["$ref"], format!("#/channels/{name}"));
        let listed = operation["messages"].as_array().unwrap();
        let own = format!("#/channels/{name}/messages/");
        assert!(
            listed
                .iter()
                .all(|message| message["$ref"].as_str().unwrap().starts_with(&own))
        );
        assert_eq!(listed.len(), names(&channel["messages"]).len(), "{name}");
    }
    assert_eq!(names(&document["operations"]).len(), channels.len());
}

#[test]
fn every_exchange_stream_kind_topic_and_snapshot_is_there() {
    let document = document("1.2.3");
    let channels = document["channels"].as_object().unwrap();
    let of = |pointer: &str| -> BTreeSet<&str> {
        channels
            .values()
            .filter_map(|channel| channel.pointer(pointer)?.as_str())
            .collect()
    };
    let exchanges: BTreeSet<&str> = EXCHANGES.iter().map(|one| one.name).collect();
    assert_eq!(of("/bindings/amqp/exchange/name"), exchanges);
    let streams: BTreeSet<&str> = STREAMS.iter().map(|one| one.name).collect();
    assert_eq!(of("/bindings/amqp/queue/name"), streams);

    let messages = document["components"]["messages"].as_object().unwrap();
    for kind in Kind::ALL {
        let stem = kind.wire_name().replace('/', "-");
        let message = &messages[&stem];
        assert_eq!(message["name"], kind.wire_name());
        assert_eq!(
            message["payload"]["$ref"],
            format!("#/components/schemas/{stem}")
        );
        let sent = channels
            .values()
            .any(|channel| channel["messages"].get(&stem).is_some());
        assert!(sent, "{stem} goes nowhere");
    }
    for (stem, _) in schemas() {
        assert!(
            document["components"]["schemas"].get(&stem).is_some(),
            "{stem}"
        );
        if let Some(collector) = stem.strip_prefix("snapshot.") {
            for message in [
                format!("muster.metrics-1.{collector}"),
                format!("muster.metrics-1.{collector}.json"),
            ] {
                let payload = messages[&message]["payload"].to_string();
                assert!(payload.contains(&format!("schemas/{stem}\"")), "{payload}");
            }
        }
    }
    let topics = &channels["events"]["x-topics"];
    assert!(
        TOPICS
            .iter()
            .all(|topic| topics[topic.name] == topic.summary)
    );
    assert_eq!(names(topics).len(), TOPICS.len());
    let examples = channels["events"]["parameters"]["topic"]["examples"]
        .as_array()
        .unwrap();
    assert_eq!(examples.len(), TOPICS.len());
}

#[test]
fn content_types_and_rights_are_those_of_the_broker() {
    let document = document("1.2.3");
    let rights = regex::Regex::new(&subscriber_permissions("x").read).unwrap();
    for (name, channel) in document["channels"].as_object().unwrap() {
        let amqp = &channel["bindings"]["amqp"];
        let place = amqp["exchange"]["name"]
            .as_str()
            .or(amqp["queue"]["name"].as_str())
            .unwrap();
        assert_eq!(
            channel["x-for-subscribers"],
            rights.is_match(place),
            "{name}"
        );
        for message in names(&channel["messages"]) {
            let message = &document["components"]["messages"][message];
            assert_eq!(message["contentType"], content_type(place), "{name}");
        }
    }
}
