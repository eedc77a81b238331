//! Events of one group that wait for each other, within bounds.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_proto::id::HOST_BYTES_MAX;
use muster_proto::target::SOURCE_BYTES_MAX;

use super::Engine;
use crate::serve::react::decision::EVENTS_MAX;
use crate::serve::react::heard::Heard;
use crate::serve::react::rules::Rule;
use crate::serve::react::text::quote;

/// Groups whose events wait at the most; of more, the one that is due first does not wait for its time.
const WAITING_MAX: usize = 10_000;

/// Bytes of hosts that a batch has at the most where its job goes to just them: one more fits into a target.
const TARGET_BYTES_MAX: usize = SOURCE_BYTES_MAX - HOST_BYTES_MAX - 4;

/// Events that wait for others of their group.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) group: String,
    pub(super) events: Vec<Arc<Heard>>,
    /// Their hosts, as a target names them, where a job goes to them; and the bytes of that.
    targets: BTreeSet<String>,
    target_bytes: usize,
    pub(super) due_ms: u64,
}

impl Engine {
    pub(super) fn gather(&mut self, at: usize, rule: &Rule, heard: Arc<Heard>, from_ms: u64) {
        let group = group_of(rule, &heard);
        let alone = rule.window_ms == 0 && rule.interval_ms == 0;
        let place = if alone {
            heard.id.to_string()
        } else {
            group.clone()
        };
        let again_ms = self
            .last
            .get(&(at, group.clone()))
            .map_or(0, |last| last.saturating_add(rule.interval_ms));
        let due_ms = from_ms.saturating_add(rule.window_ms).max(again_ms);
        let batch = self.batches.entry((at, place.clone())).or_insert(Batch {
            group,
            events: Vec::new(),
            targets: BTreeSet::new(),
            target_bytes: 0,
            due_ms,
        });
        let id = heard.id;
        if rule.job.as_ref().is_some_and(|job| job.target.is_none()) {
            let target = quote(heard.event.host.as_str());
            let bytes = target.len() + 2;
            if batch.targets.insert(target) {
                batch.target_bytes += bytes;
            }
        }
        batch.events.push(heard);
        let full = batch.events.len() >= EVENTS_MAX || batch.target_bytes >= TARGET_BYTES_MAX;
        if self.batches.len() > WAITING_MAX
            && let waiting = self.batches.values_mut().filter(|it| it.due_ms > 0)
            && let Some(oldest) = waiting.min_by_key(|it| it.due_ms)
        {
            oldest.due_ms = 0;
        }
        if full && let Some(mut full) = self.batches.remove(&(at, place)) {
            // What comes now begins another one.
            full.due_ms = 0;
            self.batches.insert((at, format!("full {id}")), full);
        }
    }
}

fn group_of(rule: &Rule, heard: &Heard) -> String {
    let values = rule
        .group_by
        .iter()
        .map(|name| heard.field(name).unwrap_or_default());
    values.collect::<Vec<_>>().join(" ")
}
