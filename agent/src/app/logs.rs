//! Joins the readers of logs to the state file: what they found is stored with the place up to which they have read.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use muster_link::stamp;
use muster_proto::event::is_topic;
use tokio_util::sync::CancellationToken;

use crate::inventory::InventoryFile;
use crate::state::{NewEvent, State, StateError, TailBatch};
use crate::tail::journal::{self, JournalSection};
use crate::tail::{self, Batch, Section, Sink, SinkError, Stored, TailEvent};

/// The part of the outbox, in quarters, that logs may fill: what else the agent has to say still fits.
const OUTBOX_QUARTERS: u64 = 3;

/// What an event costs besides its texts.
const EVENT_BYTES: u64 = 400;

/// Follows the files and journals of all sections until `stop`.
pub(super) async fn follow(
    files: Vec<Section>,
    journals: Vec<JournalSection>,
    sink: Arc<StateSink>,
    stop: CancellationToken,
) {
    tokio::join!(
        tail::run(files, sink.clone(), stop.clone()),
        journal::run(journals, sink, stamp::now_ms, stop),
    );
}

/// The state file as a store of batches.
pub(super) struct StateSink {
    state: State,
    outbox_bytes_max: u64,
    inventory: InventoryFile,
}

impl StateSink {
    pub(super) fn new(state: State, outbox_bytes_max: u64, inventory: InventoryFile) -> Arc<Self> {
        Arc::new(Self {
            state,
            outbox_bytes_max,
            inventory,
        })
    }

    fn stored_form(&self, batch: &Batch) -> TailBatch {
        let good = |event: &&TailEvent| {
            let good = is_topic(&event.topic);
            if !good {
                tracing::error!(
                    topic = event.topic,
                    "an event of a log has a topic that is none, and is lost"
                );
            }
            good
        };
        TailBatch {
            writer: batch.writer.clone(),
            seq: batch.seq,
            events: batch
                .events
                .iter()
                .filter(good)
                .map(|found| self.enriched(found))
                .collect(),
            places: batch.cursors.clone(),
            alerts: batch.alerts.clone(),
        }
    }

    /// The event, with what the inventory knows of what it is about.
    fn enriched(&self, found: &TailEvent) -> NewEvent {
        let mut event = event(found);
        self.inventory.enrich(&event.topic, &mut event.fields);
        event
    }

    /// Waits until the outbox takes so many bytes without dropping anything: what is still in the logs is safe there.
    async fn room(&self, bytes: u64) -> Result<(), SinkError> {
        let most = self.outbox_bytes_max / 4 * OUTBOX_QUARTERS;
        let mut status = self.state.status();
        status
            .wait_for(|status| status.depth.records == 0 || status.depth.bytes + bytes <= most)
            .await
            .map(drop)
            .map_err(|_| SinkError::Closed)
    }
}

impl Sink for StateSink {
    fn load<'a>(&'a self, writer: &'a str) -> BoxFuture<'a, Result<Stored, SinkError>> {
        Box::pin(async move {
            let stored = self.state.tail(writer).await.map_err(refused)?;
            Ok(Stored {
                seq: stored.seq,
                cursors: stored.places,
                alerts: stored.alerts,
            })
        })
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        Box::pin(async move {
            if !batch.events.is_empty() {
                self.room(batch.events.iter().map(bytes).sum()).await?;
            }
            self.state
                .accept_tail(Arc::new(self.stored_form(batch)))
                .await
                .map_err(refused)?;
            Ok(self.state.status().borrow().damaged)
        })
    }
}

fn refused(error: StateError) -> SinkError {
    match error {
        StateError::Closed => SinkError::Closed,
        other => SinkError::NotNow(other.to_string()),
    }
}

fn event(event: &TailEvent) -> NewEvent {
    let event = event.clone();
    NewEvent {
        topic: event.topic,
        at_ms: event.at_ms,
        severity: event.severity,
        summary: event.summary,
        key: event.key,
        fields: event.fields,
        before: event.before,
        after: event.after,
        cause: None,
    }
}

/// About as many bytes as the event will have when it is stored.
fn bytes(event: &TailEvent) -> u64 {
    let values = [&event.before, &event.after]
        .into_iter()
        .chain(event.fields.values());
    let values: usize = values.map(text_bytes).sum();
    let names: usize = event.fields.keys().map(String::len).sum();
    let texts = event.topic.len() * 2 + event.summary.len() + event.key.len();
    EVENT_BYTES + (texts + names + values) as u64
}

fn text_bytes(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len() + 5,
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => value.to_string().len(),
        _ => 9,
    }
}
