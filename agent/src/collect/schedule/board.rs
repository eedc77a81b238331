//! How the collectors are, for whoever looks: the local HTTP interface, presence. Values only.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_proto::packed::Packed;

use super::super::Timing;

/// Every enabled collector by name.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// How each is.
    pub collectors: BTreeMap<&'static str, Status>,
}

/// How one collector is.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Time between two runs in milliseconds.
    pub interval_ms: u64,
    /// Time that one run may take, in milliseconds.
    pub deadline_ms: u64,
    /// The newest snapshot.
    pub snapshot: Option<Packed>,
    /// When the run that gave it began, in milliseconds since 1970.
    pub success_at_ms: Option<u64>,
    /// How long that run took, in microseconds.
    pub took_us: u64,
    /// Runs that gave a snapshot, since the start.
    pub successes: u64,
    /// Runs that failed, hung or could not be started, since the start.
    pub failures: u64,
    /// What the last run failed of; `None` where it did not.
    pub error: Option<String>,
}

impl Board {
    pub(super) fn of(collectors: impl Iterator<Item = (&'static str, Timing)>) -> Self {
        let status = |timing: Timing| Status {
            interval_ms: super::millis(timing.interval),
            deadline_ms: super::millis(timing.deadline),
            ..Status::default()
        };
        Self {
            collectors: collectors
                .map(|(name, timing)| (name, status(timing)))
                .collect(),
        }
    }

    pub(super) fn succeeded(
        &mut self,
        name: &'static str,
        at_ms: u64,
        took: Duration,
        snapshot: Packed,
    ) {
        let status = self.collectors.entry(name).or_default();
        status.snapshot = Some(snapshot);
        status.success_at_ms = Some(at_ms);
        status.took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        status.successes += 1;
        status.error = None;
    }

    pub(super) fn failed(&mut self, name: &'static str, error: &str) {
        let status = self.collectors.entry(name).or_default();
        status.failures += 1;
        status.error = Some(error.to_owned());
    }

    /// Collectors that don't work, with their last error.
    #[must_use]
    pub fn failing(&self) -> BTreeMap<String, String> {
        let errors = self
            .collectors
            .iter()
            .filter_map(|(name, status)| Some((name, status.error.as_ref()?)));
        errors
            .map(|(name, error)| ((*name).to_owned(), error.clone()))
            .collect()
    }
}
