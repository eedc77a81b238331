//! An event as rules see it: what may be asked of it by name. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use muster_proto::event::Event;
use muster_proto::id::MessageId;
use muster_proto::target::Subject;
use serde_json::Value;

/// An event that came, with what is known of its host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heard {
    /// The message's id.
    pub(crate) id: MessageId,
    /// The event.
    pub(crate) event: Event,
    /// The labels of its host.
    pub(crate) labels: BTreeMap<String, String>,
    /// When it came, in milliseconds since 1970.
    pub(crate) heard_ms: u64,
}

impl Heard {
    /// What `name` is of the event: its own words first, then its fields (`a.b` also within one), then its host's labels.
    pub(crate) fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        let event = &self.event;
        match name {
            "topic" => Some(event.topic.as_str().into()),
            "host" => Some(event.host.as_str().into()),
            "severity" => Some(event.severity.name().into()),
            "summary" => Some(event.summary.as_str().into()),
            "key" => Some(event.key.as_str().into()),
            "before" => text(&event.before),
            "after" => text(&event.after),
            _ => find(&event.fields, name)
                .and_then(text)
                .or_else(|| self.labels.get(name).map(|label| label.as_str().into())),
        }
    }
}

impl Subject for Heard {
    fn host(&self) -> &str {
        self.event.host.as_str()
    }

    fn value(&self, key: &str) -> Option<Cow<'_, str>> {
        self.field(key)
    }
}

fn find<'a>(fields: &'a BTreeMap<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        let path = format!("/{}", rest.replace('.', "/"));
        fields.get(first)?.pointer(&path)
    })
}

/// A value as text; a list's items parted by commas. There is none for nothing and for objects.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::String(text) => Some(text.as_str().into()),
        Value::Array(items) => {
            let items: Vec<Cow<'_, str>> = items.iter().filter_map(text).collect();
            Some(items.join(",").into())
        }
        other => Some(other.to_string().into()),
    }
}
