//! Following the ledger stream, after it was caught up with: messages go into the file as they come. It must not know
//! what they mean.

use std::time::Duration;

use muster_link::{Acks, Consume, Session, StreamOffset, stamp};
use muster_proto::topology::LEDGER;
use tokio::time::timeout;

use super::Ledger;
use super::fold::Entry;
use super::store::Stream;
use super::sync::{BATCH_BYTES, SyncError, entry};

/// Messages in one transaction.
const BATCH: usize = 512;

/// Deliveries under way: two batches.
const PREFETCH: u16 = 1024;

/// How long a transaction waits for more messages: a reader of the file is behind by no more than this.
const LINGER: Duration = Duration::from_millis(100);

/// Writes what comes, until the session ends. `wrote` is called with the number of messages of each transaction.
///
/// # Errors
/// When the stream can't be read any more, or the file can't be written; also when the file was never caught up.
pub async fn follow(
    session: &Session,
    ledger: &Ledger,
    mut wrote: impl FnMut(usize) + Send,
) -> Result<(), SyncError> {
    let known = ledger.with(|store| store.position(Stream::Ledger))?;
    let Some(known) = known else {
        return Err(SyncError::NoMark { stream: LEDGER });
    };
    let consume = Consume {
        queue: LEDGER.to_owned(),
        exclusive: false,
        prefetch: PREFETCH,
        acks: Acks::Batched,
        offset: Some(StreamOffset::Offset(known.offset)),
    };
    let mut deliveries = session.consume(consume).await?;
    let down = || SyncError::Down { stream: LEDGER };
    let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
    loop {
        let first = deliveries.recv().await.ok_or_else(down)?;
        let mut bytes = first.body.len();
        batch.push(entry(first));
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            match timeout(LINGER, deliveries.recv()).await {
                Ok(Some(next)) => {
                    bytes += next.body.len();
                    batch.push(entry(next));
                }
                // What was read is worth keeping, also when there is no more.
                Ok(None) | Err(_) => break,
            }
        }
        ledger.with(|store| store.apply(&batch, stamp::now_ms()))?;
        wrote(batch.len());
        batch.clear();
    }
}
