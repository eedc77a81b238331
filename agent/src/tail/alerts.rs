//! What is known of each thing that has an alert: one record per key, kept between lines and between runs of the agent.

use std::collections::{BTreeMap, BTreeSet};

/// Keys that are remembered at the most per section; a new one beyond that is not remembered.
const KEYS_MAX: usize = 10_000;

/// The alert states of one section.
#[derive(Debug, Clone, Default)]
pub struct AlertStates {
    records: BTreeMap<String, Vec<u8>>,
    changed: BTreeSet<String>,
}

impl AlertStates {
    /// What was stored earlier.
    #[must_use]
    pub fn load(records: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self {
            records: records.into_iter().take(KEYS_MAX).collect(),
            changed: BTreeSet::new(),
        }
    }

    /// The record of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key).map(Vec::as_slice)
    }

    /// Remembers a record; `false` where there are as many as may be.
    pub fn set(&mut self, key: &str, record: Vec<u8>) -> bool {
        if self.get(key) == Some(record.as_slice()) {
            return true;
        }
        if self.records.len() >= KEYS_MAX && !self.records.contains_key(key) {
            return false;
        }
        self.records.insert(key.to_owned(), record);
        self.changed.insert(key.to_owned());
        true
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &str) {
        if self.records.remove(key).is_some() {
            self.changed.insert(key.to_owned());
        }
    }

    /// What has changed since the last call: to be stored with the events, `None` where the key is gone.
    pub fn take_changed(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let changed = std::mem::take(&mut self.changed);
        let with_record = |key: String| {
            let record = self.records.get(&key).cloned();
            (key, record)
        };
        changed.into_iter().map(with_record).collect()
    }

    /// Everything is to be stored again.
    pub fn mark_all_changed(&mut self) {
        self.changed.extend(self.records.keys().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_stored() {
        let mut states = AlertStates::load([("a".to_owned(), vec![1])]);
        assert!(states.take_changed().is_empty());
        assert!(states.set("a", vec![1]) && states.set("b", vec![2]));
        assert_eq!(states.take_changed(), [("b".to_owned(), Some(vec![2]))]);
        states.remove("a");
        assert_eq!(states.take_changed(), [("a".to_owned(), None)]);
        states.mark_all_changed();
        assert_eq!(states.take_changed(), [("b".to_owned(), Some(vec![2]))]);
    }
}
