//! Whether the agent does its work: pure, from what is known of its parts.

use std::collections::BTreeMap;

use muster_link::LinkStatus;
use muster_proto::id::HostId;
use serde::Serialize;

use crate::collect::schedule::{Board, Status};
use crate::state::StateStatus;

/// A snapshot older than this many intervals, and the deadline, is not fresh.
const INTERVALS_MAX: u64 = 3;

/// What is known.
pub(super) struct Inputs {
    pub(super) host: HostId,
    pub(super) link: LinkStatus,
    pub(super) state: StateStatus,
    pub(super) board: Board,
    /// For how long the agent has run, in milliseconds.
    pub(super) up_ms: u64,
}

/// The verdict, as `/readyz` shows it.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) ready: bool,
    host: HostId,
    /// What is not as it should be.
    why: Vec<String>,
    /// `up`, `blocked` or `down`, and why.
    link: String,
    /// Messages that wait to be sent.
    outbox_records: u64,
    outbox_bytes: u64,
    /// Age of each collector's newest snapshot in milliseconds.
    collectors_age_ms: BTreeMap<&'static str, Option<u64>>,
}

/// Whether a collector's newest snapshot still tells how things are.
pub(super) fn is_fresh(status: &Status, now_ms: u64) -> bool {
    let age = status.success_at_ms.map(|at| now_ms.saturating_sub(at));
    age.is_some_and(|age| age <= age_max_ms(status))
}

const fn age_max_ms(status: &Status) -> u64 {
    let intervals = status.interval_ms.saturating_mul(INTERVALS_MAX);
    intervals.saturating_add(status.deadline_ms)
}

/// Ready: the state file can be written, so that a broker which is away loses nothing, and the collectors are fresh.
pub(super) fn judge(inputs: &Inputs, now_ms: u64) -> Verdict {
    let mut why = Vec::new();
    let link = match &inputs.link {
        LinkStatus::Up { blocked: None, .. } => "up".to_owned(),
        LinkStatus::Up {
            blocked: Some(why), ..
        } => format!("blocked: {why}"),
        LinkStatus::Down { why, .. } => format!("down: {why}"),
        LinkStatus::Stopped => "stopped".to_owned(),
    };
    if let Some(unwritable) = &inputs.state.unwritable {
        why.push(format!("the state file can't be written: {unwritable}"));
    }
    let mut ages = BTreeMap::new();
    for (name, status) in &inputs.board.collectors {
        let age = status.success_at_ms.map(|at| now_ms.saturating_sub(at));
        if age.unwrap_or(inputs.up_ms) > age_max_ms(status) {
            let error = status.error.as_deref().unwrap_or("it does not run");
            why.push(format!("the collector {name} is not fresh: {error}"));
        }
        ages.insert(*name, age);
    }
    Verdict {
        ready: why.is_empty(),
        host: inputs.host.clone(),
        why,
        link,
        outbox_records: inputs.state.depth.records,
        outbox_bytes: inputs.state.depth.bytes,
        collectors_age_ms: ages,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use crate::collect::schedule::Status;

    use super::*;

    fn inputs(
        success_at_ms: Option<u64>,
        error: Option<&str>,
        unwritable: Option<&str>,
        up_ms: u64,
    ) -> Inputs {
        let status = Status {
            interval_ms: 10_000,
            deadline_ms: 5_000,
            success_at_ms,
            error: error.map(str::to_owned),
            ..Status::default()
        };
        Inputs {
            host: "lb1".parse().unwrap(),
            link: LinkStatus::Down {
                why: "no broker".into(),
                attempts: 1,
                retry_in: std::time::Duration::ZERO,
            },
            state: StateStatus {
                unwritable: unwritable.map(str::to_owned),
                ..StateStatus::default()
            },
            board: Board {
                collectors: BTreeMap::from([("host", status)]),
            },
            up_ms,
        }
    }

    #[test]
    fn ready_without_a_broker_as_long_as_nothing_is_lost() {
        const NOW: u64 = 1_000_000;
        for (name, inputs, why) in [
            (
                "fresh",
                inputs(Some(NOW - 35_000), None, None, 90_000),
                None,
            ),
            (
                "one bad run is no matter",
                inputs(Some(NOW - 12_000), Some("oops"), None, 90_000),
                None,
            ),
            ("just started", inputs(None, None, None, 1_000), None),
            (
                "stale",
                inputs(Some(NOW - 35_001), Some("oops"), None, 90_000),
                Some("the collector host is not fresh: oops"),
            ),
            (
                "never ran",
                inputs(None, None, None, 90_000),
                Some("the collector host is not fresh: it does not run"),
            ),
            (
                "disk full",
                inputs(Some(NOW), None, Some("disk full"), 1),
                Some("the state file can't be written: disk full"),
            ),
        ] {
            let verdict = judge(&inputs, NOW);
            assert_eq!(verdict.ready, why.is_none(), "{name}");
            assert_eq!(verdict.why.first().map(String::as_str), why, "{name}");
        }
    }
}
