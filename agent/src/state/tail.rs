//! What readers of logs store: events, the places up to which they have read, and alert states, all in one commit.

use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::open::Fault;
use super::record::NewEvent;
use super::store::Store;

/// Places by writer and key.
const PLACES: TableDefinition<(&str, &[u8]), &[u8]> = TableDefinition::new("tail_places");
/// Alert states by writer, section and key.
const ALERTS: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("tail_alerts");
/// The number of each writer's last batch.
const BATCHES: TableDefinition<&str, u64> = TableDefinition::new("tail_batches");

/// A record to store under a key, or `None` to remove it.
pub type TailChange<Key> = (Key, Option<Vec<u8>>);

/// What a reader of logs commits at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TailBatch {
    /// The reader's name.
    pub writer: String,
    /// Rises with each of its batches; one that was applied is not applied again.
    pub seq: u64,
    /// To be sent.
    pub events: Vec<NewEvent>,
    /// Where it has read up to.
    pub places: Vec<TailChange<Vec<u8>>>,
    /// Alert states, by section and key.
    pub alerts: Vec<TailChange<(String, String)>>,
}

/// What a reader has stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TailStored {
    /// The number of its last batch; 0 where there is none.
    pub seq: u64,
    /// Its places.
    pub places: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its alert states, by section and key.
    pub alerts: Vec<((String, String), Vec<u8>)>,
}

/// Makes the tables where they are missing.
pub(super) fn make_tables(write: &WriteTransaction) -> Result<(), Fault> {
    write.open_table(PLACES)?;
    write.open_table(ALERTS)?;
    write.open_table(BATCHES)?;
    Ok(())
}

/// Stores places and alert states; `false` where the batch was applied before.
pub(super) fn put(write: &WriteTransaction, batch: &TailBatch) -> Result<bool, Fault> {
    let writer = batch.writer.as_str();
    let mut batches = write.open_table(BATCHES)?;
    let last = batches.get(writer)?.map_or(0, |seq| seq.value());
    if batch.seq <= last {
        return Ok(false);
    }
    batches.insert(writer, batch.seq)?;
    let mut places = write.open_table(PLACES)?;
    for (key, record) in &batch.places {
        let key = (writer, key.as_slice());
        match record {
            Some(record) => places.insert(key, record.as_slice())?,
            None => places.remove(key)?,
        };
    }
    let mut alerts = write.open_table(ALERTS)?;
    for ((section, name), record) in &batch.alerts {
        let key = (writer, section.as_str(), name.as_str());
        match record {
            Some(record) => alerts.insert(key, record.as_slice())?,
            None => alerts.remove(key)?,
        };
    }
    Ok(true)
}

impl Store {
    /// What the reader `writer` has stored.
    pub(super) fn tail(&self, writer: &str) -> Result<TailStored, Fault> {
        let read = self.database().begin_read()?;
        let seq = read.open_table(BATCHES)?.get(writer)?;
        let mut stored = TailStored {
            seq: seq.map_or(0, |seq| seq.value()),
            ..TailStored::default()
        };
        let places = read.open_table(PLACES)?;
        for item in places.range((writer, [].as_slice())..)? {
            let (key, record) = item?;
            let (of, key) = key.value();
            if of != writer {
                break;
            }
            stored.places.push((key.to_vec(), record.value().to_vec()));
        }
        let alerts = read.open_table(ALERTS)?;
        for item in alerts.range((writer, "", "")..)? {
            let (key, record) = item?;
            let (of, section, key) = key.value();
            if of != writer {
                break;
            }
            let key = (section.to_owned(), key.to_owned());
            stored.alerts.push((key, record.value().to_vec()));
        }
        Ok(stored)
    }
}

impl super::State {
    /// Takes a reader's batch over: on disk as a whole when this returns. Unlike events by themselves it is never held
    /// in memory: what it was read from is still there.
    ///
    /// # Errors
    /// When it could not be stored; the same batch may be given again.
    pub async fn accept_tail(&self, batch: Arc<TailBatch>) -> Result<(), super::StateError> {
        self.ask(|answer| super::Request::Tail(batch, answer)).await
    }

    /// What a reader has stored.
    ///
    /// # Errors
    /// When the file could not be read.
    pub async fn tail(&self, writer: &str) -> Result<TailStored, super::StateError> {
        let writer = writer.to_owned();
        self.ask(|answer| super::Request::TailStored(writer, answer))
            .await
    }
}
