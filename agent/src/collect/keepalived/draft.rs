//! Changes in the making: topic and key first, then what there is to say. Knows no state.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Change;
use super::topic::Topic;

/// A change in the making.
pub(super) struct Draft(pub(super) Change);

impl Draft {
    pub(super) fn new(topic: Topic, key: &str) -> Self {
        Self(Change {
            topic: topic.0,
            severity: topic.1,
            summary: String::new(),
            key: key.to_owned(),
            before: Value::Null,
            after: Value::Null,
            fields: BTreeMap::new(),
        })
    }

    pub(super) fn says(mut self, summary: String) -> Self {
        self.0.summary = summary;
        self
    }

    pub(super) fn states(mut self, before: Value, after: Value) -> Self {
        self.0.before = before;
        self.0.after = after;
        self
    }

    pub(super) fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.fields.insert(name.to_owned(), value.into());
        self
    }
}
