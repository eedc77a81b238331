//! From what collectors report to what the agent sends: changes become events, snapshots go on their way. It must not
//! know how either is sent.

use std::sync::Arc;

use muster_proto::event::Severity;
use tokio::sync::mpsc;

use crate::collect::Change;
use crate::collect::schedule::{Edge, Report};
use crate::inventory::InventoryFile;
use crate::publish::{Snapshot, Snapshots};
use crate::state::{NewEvent, State, StateError};

/// Takes reports until their sender is gone. While the state file is slow, so are the collectors.
///
/// # Errors
/// When the state file is closed before.
pub(crate) async fn run(
    mut reports: mpsc::Receiver<Report>,
    state: State,
    snapshots: Arc<Snapshots>,
    inventory: InventoryFile,
) -> Result<(), StateError> {
    while let Some(report) = reports.recv().await {
        let Report {
            collector,
            at_ms,
            seq,
            snapshot,
            changes,
            edge,
        } = report;
        if let Some(snapshot) = snapshot {
            snapshots.put(
                collector,
                Snapshot {
                    at_ms,
                    seq,
                    snapshot,
                },
            );
        }
        let edge = edge.map(|edge| edge_event(collector, at_ms, edge));
        let changes = changes
            .into_iter()
            .map(|change| change_event(at_ms, change));
        let mut events: Vec<NewEvent> = edge.into_iter().chain(changes).collect();
        for event in &mut events {
            inventory.enrich(&event.topic, &mut event.fields);
        }
        events.extend(inventory_event(&inventory, at_ms));
        if events.is_empty() {
            continue;
        }
        match state.accept_events(events).await {
            Err(StateError::Closed) => return Err(StateError::Closed),
            Err(error) => {
                tracing::error!(collector, %error, "events of a collector were not taken over")
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

fn change_event(at_ms: u64, change: Change) -> NewEvent {
    NewEvent {
        topic: change.topic.to_owned(),
        at_ms,
        severity: change.severity,
        summary: change.summary,
        key: change.key,
        fields: change.fields,
        before: change.before,
        after: change.after,
        cause: None,
    }
}

/// That the inventory can't be read, or can be again.
pub(crate) fn inventory_event(inventory: &InventoryFile, at_ms: u64) -> Option<NewEvent> {
    let (topic, severity, summary) = match inventory.news()? {
        Err(why) => ("agent.inventory.broken", Severity::Warning, why),
        Ok(()) => (
            "agent.inventory.mended",
            Severity::Notice,
            "the inventory can be read again".to_owned(),
        ),
    };
    Some(NewEvent::new(topic, at_ms, severity, summary))
}

fn edge_event(collector: &str, at_ms: u64, edge: Edge) -> NewEvent {
    let (topic, severity, summary) = match &edge {
        Edge::Failed { error } => {
            tracing::warn!(collector, error, "a collector does not work");
            (
                "agent.collector.failed",
                Severity::Error,
                format!("the collector {collector} does not work: {error}"),
            )
        }
        Edge::Recovered { failed_ms } => {
            tracing::info!(collector, failed_ms, "a collector works again");
            let summary = format!(
                "the collector {collector} works again after {} s",
                failed_ms / 1000
            );
            ("agent.collector.recovered", Severity::Notice, summary)
        }
    };
    let mut event = NewEvent::new(topic, at_ms, severity, summary);
    event.key = collector.to_owned();
    match edge {
        Edge::Failed { error } => event.field("error", error),
        Edge::Recovered { failed_ms } => event.field("failed_ms", failed_ms),
    }
}
