//! The topology as RabbitMQ definitions: what `muster broker init` posts to the management API, and what an operator
//! can load at the broker's start instead.

use serde_json::{Map, Value, json};

use crate::topology::{EXCHANGES, POLICIES, PolicyFor, PolicyValue, QUEUES, QueueNature, STREAMS};

/// Definitions for one vhost: exchanges, streams, bindings and policies, in the form that
/// `POST /api/definitions/<vhost>` takes. Posting them again changes nothing.
#[must_use]
pub fn vhost_definitions() -> Value {
    json!({
        "exchanges": exchanges(),
        "queues": queues(),
        "bindings": bindings(),
        "policies": policies(),
    })
}

/// The same with the vhost itself and its name in every object: the form that `load_definitions` takes.
#[must_use]
pub fn broker_definitions(vhost: &str) -> Value {
    let named = |list: Vec<Value>| -> Vec<Value> {
        list.into_iter()
            .map(|mut item| {
                if let Some(fields) = item.as_object_mut() {
                    fields.insert("vhost".into(), vhost.into());
                }
                item
            })
            .collect()
    };
    json!({
        "vhosts": [{ "name": vhost }],
        "exchanges": named(exchanges()),
        "queues": named(queues()),
        "bindings": named(bindings()),
        "policies": named(policies()),
    })
}

fn exchanges() -> Vec<Value> {
    EXCHANGES
        .iter()
        .map(|exchange| {
            json!({
                "name": exchange.name, "type": exchange.kind.name(), "durable": true,
                "auto_delete": false, "internal": false, "arguments": {},
            })
        })
        .collect()
}

fn queues() -> Vec<Value> {
    let streams = STREAMS.iter().map(|stream| {
        json!({
            "name": stream.name, "durable": true, "auto_delete": false,
            // The kind of a queue is the one argument that no policy can set.
            "arguments": { "x-queue-type": "stream" },
        })
    });
    let others = QUEUES.iter().map(|queue| {
        let arguments = match queue.nature {
            QueueNature::Classic => json!({}),
            QueueNature::QuorumWithOneActive => {
                json!({ "x-queue-type": "quorum", "x-single-active-consumer": true })
            }
        };
        json!({ "name": queue.name, "durable": true, "auto_delete": false, "arguments": arguments })
    });
    streams.chain(others).collect()
}

fn bindings() -> Vec<Value> {
    let streams = STREAMS.iter().map(|stream| (stream.name, stream.bindings));
    let classic = QUEUES.iter().map(|queue| (queue.name, queue.bindings));
    streams
        .chain(classic)
        .flat_map(|(name, bindings)| {
            bindings.iter().map(move |(exchange, key)| {
                json!({
                    "source": exchange, "destination": name, "destination_type": "queue",
                    "routing_key": key, "arguments": {},
                })
            })
        })
        .collect()
}

fn policies() -> Vec<Value> {
    let of_streams = STREAMS.iter().map(|stream| {
        json!({
            "name": stream.name.replace('.', "-"),
            "pattern": format!("^{}$", stream.name.replace('.', r"\.")),
            "apply-to": "queues", "priority": 0,
            "definition": {
                "max-age": stream.age_max,
                "max-length-bytes": stream.bytes_max,
                "stream-max-segment-size-bytes": stream.segment_bytes,
            },
        })
    });
    let of_queues = POLICIES.iter().map(|policy| {
        let definition: Map<String, Value> = policy
            .definition
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    PolicyValue::Text(text) => Value::from(*text),
                    PolicyValue::Number(number) => Value::from(*number),
                };
                ((*key).to_owned(), value)
            })
            .collect();
        let (of, priority) = match policy.of {
            PolicyFor::Queues => ("queues", 0),
            PolicyFor::SomeOfThese => ("queues", 1),
            PolicyFor::Exchanges => ("exchanges", 0),
        };
        json!({
            "name": policy.name, "pattern": policy.pattern,
            "apply-to": of, "priority": priority, "definition": definition,
        })
    });
    of_streams.chain(of_queues).collect()
}
