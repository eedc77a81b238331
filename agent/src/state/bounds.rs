//! What the outbox's bounds force out: the account of it, and the event that says so. Pure.

use std::collections::BTreeMap;

use muster_proto::event::Severity;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::record::{Class, NewEvent};

/// Shortest time between two gap events: a full outbox drops with every event that comes, and says so once a minute.
pub(super) const GAP_EVENT_EVERY_MS: u64 = 60_000;

/// A time before this (2020) is of a clock that was not set yet, and says nothing about age.
pub(super) const CLOCK_SET_MS: u64 = 1_577_836_800_000;

/// What was dropped and not announced yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Gap {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// When the oldest and the newest of them were accepted.
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) by_class: BTreeMap<Class, u64>,
    /// How many of them were too old; the others were too much.
    pub(super) aged: u64,
}

impl Gap {
    pub(super) fn add(&mut self, class: Class, bytes: u64, accepted_at_ms: u64, aged: bool) {
        self.from_ms = if self.records == 0 {
            accepted_at_ms
        } else {
            self.from_ms.min(accepted_at_ms)
        };
        self.to_ms = self.to_ms.max(accepted_at_ms);
        self.records += 1;
        self.bytes += bytes;
        self.aged += u64::from(aged);
        *self.by_class.entry(class).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        if other.records == 0 {
            return;
        }
        self.from_ms = if self.records == 0 {
            other.from_ms
        } else {
            self.from_ms.min(other.from_ms)
        };
        self.to_ms = self.to_ms.max(other.to_ms);
        self.records += other.records;
        self.bytes += other.bytes;
        self.aged += other.aged;
        for (class, count) in other.by_class {
            *self.by_class.entry(class).or_default() += count;
        }
    }

    /// The event that announces it.
    pub(super) fn event(&self, now_ms: u64) -> NewEvent {
        let by_class: BTreeMap<&str, u64> = self
            .by_class
            .iter()
            .map(|(class, count)| (class.name(), *count))
            .collect();
        let summary = format!(
            "{} messages ({} bytes) could not wait any longer to be sent and were dropped",
            self.records, self.bytes
        );
        let mut event = NewEvent::new("muster.gap", now_ms, Severity::Error, summary);
        let fields = [
            ("dropped_records", Value::from(self.records)),
            ("dropped_bytes", Value::from(self.bytes)),
            ("from_ms", Value::from(self.from_ms)),
            ("to_ms", Value::from(self.to_ms)),
            ("by_class", json!(by_class)),
            ("too_old", Value::from(self.aged)),
        ];
        event
            .fields
            .extend(fields.map(|(name, value)| (name.to_owned(), value)));
        event
    }
}

/// Whether something accepted at `accepted_at_ms` is older than `age_max_ms`.
pub(super) fn too_old(accepted_at_ms: u64, now_ms: u64, age_max_ms: u64) -> bool {
    accepted_at_ms >= CLOCK_SET_MS && now_ms.saturating_sub(accepted_at_ms) > age_max_ms
}
