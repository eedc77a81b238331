//! The kept schemas and definitions are those that the types and the topology table give.
//! `MUSTER_BLESS=1 cargo test -p muster-proto --test drift` writes them again.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use muster_proto::asyncapi;
use muster_proto::definitions::{broker_definitions, vhost_definitions};
use muster_proto::schema::schemas;
use serde_json::Value;

fn kept(path: &Path, made: &Value) {
    let text = serde_json::to_string_pretty(made).unwrap() + "\n";
    if std::env::var_os("MUSTER_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == text,
        "{} is not what the code makes: run with MUSTER_BLESS=1 and look at the change",
        path.display()
    );
}

#[test]
fn schemas_are_kept() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let made = schemas();
    for (stem, schema) in &made {
        kept(&folder.join(format!("{stem}.json")), schema.as_value());
    }
    kept(
        &folder.join("asyncapi.json"),
        &asyncapi::document(env!("CARGO_PKG_VERSION")),
    );
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name == "asyncapi.json" || made.iter().any(|(stem, _)| format!("{stem}.json") == name),
            "{name} belongs to no type"
        );
    }
}

#[test]
fn golden_messages_fit_their_schemas() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for (stem, schema) in schemas() {
        let path = fixtures.join(format!("{stem}.1.json"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let mut message: Value = serde_json::from_str(&text).unwrap();
        for binary in ["envelope", "bytes"] {
            // MessagePack `bin` has no JSON form; the schema calls it a string.
            if let Some(value) = message.get_mut(binary).filter(|value| value.is_array()) {
                *value = Value::from("");
            }
        }
        if let Some(Value::Array(answers)) = message.get_mut("answers") {
            answers.fill(Value::from(""));
        }
        let validator = jsonschema::validator_for(schema.as_value()).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&message)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{stem}: {errors:?}");
    }
}

#[test]
fn definitions_are_kept() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rabbitmq");
    kept(
        &folder.join("definitions.json"),
        &broker_definitions("muster"),
    );
    let of_vhost = vhost_definitions();
    for list in ["exchanges", "queues", "bindings", "policies"] {
        assert!(
            of_vhost
                .get(list)
                .and_then(Value::as_array)
                .is_some_and(|items| !items.is_empty()),
            "{list}"
        );
    }
}
