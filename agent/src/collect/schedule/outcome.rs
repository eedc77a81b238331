//! What becomes of a run: those who wait get their answer, the board is kept, and a report goes out.

use std::time::Duration;

use tokio::time::Instant;

use super::super::{Collected, SampleTime};
use super::{Edge, Report, Schedule, millis};

impl Schedule {
    pub(super) async fn succeed(
        &mut self,
        index: usize,
        now: SampleTime,
        took: Duration,
        collected: Collected,
    ) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let snapshot = collected.snapshot;
        let failed_ms = slot
            .failing_since
            .take()
            .map(|since| millis(since.elapsed()));
        slot.seq += 1;
        slot.fresh = Some((Instant::now(), snapshot.clone()));
        for answer in slot.waiting.drain(..) {
            _ = answer.send(Ok(snapshot.clone()));
        }
        let (name, seq) = (slot.spec.name, slot.seq);
        self.board
            .send_modify(|board| board.succeeded(name, now.wall_ms, took, snapshot.clone()));
        let edge = failed_ms.map(|failed_ms| Edge::Recovered { failed_ms });
        let changes = collected.changes;
        self.report(Report {
            collector: name,
            at_ms: now.wall_ms,
            seq,
            snapshot: Some(snapshot),
            changes,
            edge,
        })
        .await;
    }

    pub(super) async fn fail(&mut self, index: usize, at_ms: u64, error: String) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        for answer in slot.waiting.drain(..) {
            _ = answer.send(Err(error.clone()));
        }
        let (name, seq) = (slot.spec.name, slot.seq);
        let already = slot.failing_since.is_some();
        slot.failing_since.get_or_insert_with(Instant::now);
        self.board.send_modify(|board| board.failed(name, &error));
        if already {
            return;
        }
        let edge = Some(Edge::Failed { error });
        let report = Report {
            collector: name,
            at_ms,
            seq,
            snapshot: None,
            changes: Vec::new(),
            edge,
        };
        self.report(report).await;
    }

    /// A reader that is gone means that the agent is stopping: then nobody misses the report.
    async fn report(&mut self, report: Report) {
        _ = self.reports.send(report).await;
    }
}
