//! An AsyncAPI 3 document of everything that goes over the broker, made from the tables of channels and topics and from
//! the schemas of the types. It is complete in itself: every reference points into it.

use serde_json::{Map, Value, json};

use crate::channel::{CHANNELS, Channel, MESSAGES, MessageSpec, Place};
use crate::envelope::{self, HEADER_KEY, HEADER_SIGNATURE, Kind};
use crate::json;
use crate::schema::{file_stem, schemas};
use crate::topics::TOPICS;
use crate::topology::{JSON, exchange_kind};

/// Version of the bindings for AMQP 0-9-1 that the document uses.
const BINDING: &str = "0.3.0";

/// Start of the names of the snapshots' schemas: `snapshot.lvs`.
const SNAPSHOT: &str = "snapshot.";

/// The document, for the program's version `version`.
#[must_use]
pub fn document(version: &str) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Muster",
            "version": version,
            "description": "What agents and controllers of Muster say over RabbitMQ (AMQP 0-9-1). A body is one MessagePack \
                map with named fields, or the same map as JSON on muster.json; the AMQP property `type` says which message \
                it is, and `message_id` is the same at every resend. Binary stands as a string in the schemas. Readers \
                ignore fields that they don't know; fields that a later version adds have defaults.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": envelope::CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "127.0.0.1:5672",
                "pathname": "/muster",
                "protocol": "amqp",
                "protocolVersion": "0-9-1",
                "description": "RabbitMQ 3.10 or later, in a vhost of the operator's choice",
            },
        },
        "channels": named(CHANNELS.iter().map(|channel| (channel.name.to_owned(), channel_object(channel)))),
        "operations": named(CHANNELS.iter().map(|channel| (operation_name(channel), operation(channel)))),
        "components": { "messages": messages(), "schemas": components() },
    })
}

fn named(entries: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Object(entries.collect::<Map<_, _>>())
}

fn reference(path: &[&str]) -> Value {
    // JSON pointer: `/` and `~` in a part would have to be escaped; none of our names has them.
    json!({ "$ref": format!("#/{}", path.join("/")) })
}

fn channel_object(channel: &Channel) -> Value {
    let names = messages_of(channel);
    let messages = named(names.into_iter().map(|name| {
        let target = reference(&["components", "messages", &name]);
        (name, target)
    }));
    let (address, binding, parameters) = match &channel.place {
        Place::Exchange {
            name,
            key,
            parameters,
        } => {
            let kind = exchange_kind(name).name();
            let exchange =
                json!({ "name": name, "type": kind, "durable": true, "autoDelete": false });
            let binding =
                json!({ "is": "routingKey", "exchange": exchange, "bindingVersion": BINDING });
            let parameters = parameters.iter().map(|parameter| {
                let mut object = json!({ "description": parameter.summary });
                if let (Some(examples), Some(map)) =
                    (examples(parameter.name), object.as_object_mut())
                {
                    map.insert("examples".into(), examples);
                }
                (parameter.name.to_owned(), object)
            });
            (*key, binding, named(parameters))
        }
        Place::Stream(name) => {
            let queue =
                json!({ "name": name, "durable": true, "exclusive": false, "autoDelete": false });
            let binding = json!({ "is": "queue", "queue": queue, "bindingVersion": BINDING });
            (*name, binding, json!({}))
        }
    };
    let mut object = json!({
        "address": address,
        "description": channel.summary,
        "servers": [reference(&["servers", "broker"])],
        "messages": messages,
        "bindings": { "amqp": binding },
        "x-for-subscribers": channel.for_subscribers(),
    });
    if let Some(map) = object.as_object_mut() {
        if parameters.as_object().is_some_and(|list| !list.is_empty()) {
            map.insert("parameters".into(), parameters);
        }
        if channel.name == "events" {
            let topics = TOPICS
                .iter()
                .map(|topic| (topic.name.to_owned(), topic.summary.into()));
            map.insert("x-topics".into(), named(topics));
        }
    }
    object
}

/// Names that a parameter can have, where they are known.
fn examples(parameter: &str) -> Option<Value> {
    match parameter {
        "topic" => Some(TOPICS.iter().map(|topic| topic.name).collect()),
        "collector" => Some(collectors().into_iter().collect()),
        _ => None,
    }
}

/// The collectors whose snapshots have a schema.
fn collectors() -> Vec<String> {
    let stems = schemas().into_iter();
    stems
        .filter_map(|(stem, _)| stem.strip_prefix(SNAPSHOT).map(str::to_owned))
        .collect()
}

fn operation_name(channel: &Channel) -> String {
    format!("send.{}", channel.name)
}

fn operation(channel: &Channel) -> Value {
    let persistent = channel.kinds.iter().any(|kind| kind.persistent());
    let messages: Vec<Value> = messages_of(channel)
        .iter()
        .map(|name| reference(&["channels", channel.name, "messages", name]))
        .collect();
    json!({
        "action": "send",
        "channel": reference(&["channels", channel.name]),
        "summary": channel.summary,
        "messages": messages,
        "bindings": { "amqp": {
            "deliveryMode": if persistent { 2 } else { 1 },
            "timestamp": true,
            "bindingVersion": BINDING,
        } },
    })
}

/// The components' messages that come by on a channel.
fn messages_of(channel: &Channel) -> Vec<String> {
    let suffix = match channel.place {
        Place::Exchange { name: JSON, .. } => ".json",
        _ => "",
    };
    let mut names = Vec::new();
    for kind in channel.kinds {
        let stem = file_stem(*kind);
        if *kind == Kind::Metrics {
            names.extend(
                collectors()
                    .iter()
                    .map(|one| format!("{stem}.{one}{suffix}")),
            );
        }
        names.push(format!("{stem}{suffix}"));
    }
    names
}

fn messages() -> Value {
    let forms = [("", envelope::CONTENT_TYPE), (".json", json::CONTENT_TYPE)];
    let mut all = Map::new();
    for spec in MESSAGES {
        let stem = file_stem(spec.kind);
        let subscribed = CHANNELS
            .iter()
            .any(|channel| messages_of(channel).contains(&format!("{stem}.json")));
        for (suffix, content_type) in forms.into_iter().take(1 + usize::from(subscribed)) {
            let schema = reference(&["components", "schemas", &stem]);
            all.insert(
                format!("{stem}{suffix}"),
                message_object(spec, content_type, schema.clone()),
            );
            if spec.kind != Kind::Metrics {
                continue;
            }
            for collector in collectors() {
                let payload = json!({ "allOf": [schema, {
                    "type": "object",
                    "properties": {
                        "collector": { "const": collector },
                        "snapshot": reference(&["components", "schemas", &format!("{SNAPSHOT}{collector}")]),
                    },
                }] });
                all.insert(
                    format!("{stem}.{collector}{suffix}"),
                    message_object(spec, content_type, payload),
                );
            }
        }
    }
    Value::Object(all)
}

fn message_object(spec: &MessageSpec, content_type: &str, payload: Value) -> Value {
    let mut object = json!({
        "name": spec.kind.wire_name(),
        "title": spec.kind.wire_name(),
        "summary": format!("{}; sent by {}", spec.summary, spec.sender),
        "contentType": content_type,
        "payload": payload,
        "bindings": { "amqp": { "messageType": spec.kind.wire_name(), "bindingVersion": BINDING } },
    });
    if let (Kind::Job, Some(map)) = (spec.kind, object.as_object_mut()) {
        let headers = json!({
            "type": "object",
            "properties": {
                HEADER_KEY: { "type": "string", "description": "which key has signed it" },
                HEADER_SIGNATURE: { "type": "string", "description": "ed25519 over the domain prefix and the body's exact \
                    bytes, as 128 hexadecimal digits" },
            },
        });
        map.insert("headers".into(), headers);
    }
    object
}

/// The schemas of all messages and snapshots; what they have defined for themselves stands beside them, under both names.
fn components() -> Value {
    let mut all = Map::new();
    for (stem, schema) in schemas() {
        let mut schema = schema.to_value();
        let Some(map) = schema.as_object_mut() else {
            continue;
        };
        map.remove("$schema");
        let inner = map.remove("$defs");
        if let Some(Value::Object(inner)) = inner {
            for (name, mut definition) in inner {
                rebase(&mut definition, &stem);
                all.insert(format!("{stem}.{name}"), definition);
            }
        }
        rebase(&mut schema, &stem);
        all.insert(stem, schema);
    }
    Value::Object(all)
}

/// Points the references of the schema `stem` to where its definitions are in the document.
fn rebase(value: &mut Value, stem: &str) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref")
                && let Some(name) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/components/schemas/{stem}.{name}");
            }
            map.values_mut().for_each(|inner| rebase(inner, stem));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| rebase(inner, stem)),
        _ => {}
    }
}
