//! What waits in memory while the state file can't be written. It must not know why that is so.

use std::collections::VecDeque;

use muster_proto::job::JobResult;

use super::bounds::Gap;
use super::record::{Class, NewEvent};
use super::store::Op;

/// Events that are held in memory while the file can't be written: about 1 MiB of usual ones.
const HELD_EVENTS_MAX: usize = 2000;

/// Their estimated bytes: a small part of what an agent may cost.
const HELD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is taken over even while the file can't be written.
pub(super) enum Write {
    Events(Vec<NewEvent>),
    Finish(Box<JobResult>),
}

/// What waits in memory to be written.
#[derive(Default)]
pub(super) struct Held {
    events: VecDeque<(NewEvent, u64)>,
    events_bytes: u64,
    finished: Vec<JobResult>,
    gap: Gap,
    /// When the file was found damaged, until the new one knows.
    pub(super) jobs_lost_at_ms: Option<u64>,
}

impl Held {
    pub(super) fn len(&self) -> u64 {
        (self.events.len() + self.finished.len()) as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.finished.is_empty()
            && self.gap.records == 0
            && self.jobs_lost_at_ms.is_none()
    }

    pub(super) fn take(&mut self, write: Write, now_ms: u64) {
        match write {
            Write::Finish(result) => self.finished.push(*result),
            Write::Events(events) => {
                for event in events {
                    let bytes = estimated_bytes(&event);
                    self.events_bytes += bytes;
                    self.events.push_back((event, bytes));
                }
                while self.events.len() > HELD_EVENTS_MAX || self.events_bytes > HELD_BYTES_MAX {
                    self.drop_one(now_ms);
                }
            }
        }
    }

    /// Drops the oldest of the least important.
    fn drop_one(&mut self, now_ms: u64) {
        let least = self
            .events
            .iter()
            .enumerate()
            .min_by_key(|(index, (event, _))| (event.severity, *index));
        let Some(index) = least.map(|(index, _)| index) else {
            return;
        };
        if let Some((event, bytes)) = self.events.remove(index) {
            self.events_bytes -= bytes;
            self.gap.add(
                Class::of(event.severity),
                bytes,
                event.at_ms.min(now_ms),
                false,
            );
        }
    }

    pub(super) fn ops(&self) -> Vec<Op> {
        // Before anything else: no job may be begun in a new file that does not know this.
        let mut ops: Vec<Op> = self.jobs_lost_at_ms.map(Op::JobsLost).into_iter().collect();
        ops.extend(self.finished.iter().cloned().map(Box::new).map(Op::Finish));
        if !self.events.is_empty() {
            ops.push(Op::Events(
                self.events.iter().map(|(event, _)| event.clone()).collect(),
            ));
        }
        if self.gap.records > 0 {
            ops.push(Op::Dropped(self.gap.clone()));
        }
        ops
    }
}

fn estimated_bytes(event: &NewEvent) -> u64 {
    let values = [&event.before, &event.after]
        .into_iter()
        .chain(event.fields.values());
    let values: usize = values.map(|value| value.to_string().len()).sum();
    (200 + event.topic.len() + event.summary.len() + event.key.len() + values) as u64
}

#[cfg(test)]
mod tests {
    use muster_proto::event::Severity;

    use super::*;

    #[test]
    fn what_is_too_much_goes_oldest_and_least_important_first() {
        let mut held = Held::default();
        let event = |severity, number: usize| NewEvent::new("t", 5, severity, number.to_string());
        held.take(
            Write::Events(vec![
                event(Severity::Error, 0),
                event(Severity::Notice, 1),
                event(Severity::Info, 2),
            ]),
            9,
        );
        held.take(
            Write::Events(
                (3..HELD_EVENTS_MAX + 2)
                    .map(|number| event(Severity::Warning, number))
                    .collect(),
            ),
            9,
        );
        let left: Vec<_> = held
            .events
            .iter()
            .take(2)
            .map(|(event, _)| event.summary.as_str())
            .collect();
        assert_eq!((held.events.len(), left), (HELD_EVENTS_MAX, vec!["0", "3"]));
        assert_eq!(
            (held.gap.records, held.gap.by_class.get(&Class::Notice)),
            (2, Some(&1))
        );
        let large = event(Severity::Critical, 0).field("x", "x".repeat(4 * 1024 * 1024));
        held.take(Write::Events(vec![large]), 9);
        assert!(
            held.events_bytes <= HELD_BYTES_MAX && held.events.is_empty(),
            "one that never fits takes all along"
        );
        assert_eq!(held.gap.records, 2 + HELD_EVENTS_MAX as u64 + 1);
    }
}
