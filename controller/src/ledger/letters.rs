//! Takes dead letters over into the ledger stream. RabbitMQ 3.10 drops, without a word, those that it should route to a
//! stream, so they wait in a queue, and whoever reads the ledger moves them first: as a note, and only then acked. Two
//! who do so at a time share them, and one that dies in between leaves them to the next; told twice they change nothing.

use std::collections::BTreeMap;

use muster_link::{Acker, Outgoing, Session, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::id::{JobId, KeyId};
use muster_proto::job::{DeadLetter, Heard, JobNote};
use muster_proto::topology::{DEAD_LETTERS, EVENTS, LEDGER};
use serde_bytes::ByteBuf;

use super::fold::answer_of;
use super::fold::dead::letter_of;
use super::heard;
use super::sync::{self, SyncError, entry};

/// Letters that are taken over together: the notes of a fleet whose hosts were all away are few.
const BATCH: usize = 500;

/// Their bytes, not counting the last: what a host sends itself and refuses lies among them, and may be a megabyte.
const BATCH_BYTES: usize = 1024 * 1024;

/// Moves every dead letter that waits.
///
/// # Errors
/// When the queue can't be read, or a note is not confirmed; the letters stay then.
pub async fn take_over(session: &Session, reader: &KeyId) -> Result<(), SyncError> {
    loop {
        let mut jobs: BTreeMap<JobId, Vec<DeadLetter>> = BTreeMap::new();
        let mut heard = Heard {
            answers: Vec::new(),
        };
        let mut ackers: Vec<Acker> = Vec::new();
        let mut bytes = 0;
        while ackers.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(incoming) = session.get(DEAD_LETTERS).await?
        {
            ackers.push(incoming.acker.clone());
            let entry = entry(incoming);
            bytes += entry.body.len();
            if entry.kind == Kind::Result.wire_name() {
                // An answer to a controller that died before it had told of it.
                if answer_of(&entry).is_ok() {
                    heard.answers.push(ByteBuf::from(entry.body));
                }
                continue;
            }
            // What is no job's was told by the agent that refused it; here it only leaves the queue.
            if let Ok(Some((job, letter))) = letter_of(&entry) {
                jobs.entry(job).or_default().push(letter);
            }
        }
        if !heard.answers.is_empty() {
            heard::publish(session, &heard).await?;
        }
        for (job, dead) in jobs {
            publish(session, reader, job, dead).await?;
        }
        for acker in &ackers {
            acker.ack().await;
        }
        if ackers.len() < BATCH && bytes < BATCH_BYTES {
            return Ok(());
        }
    }
}

async fn publish(
    session: &Session,
    reader: &KeyId,
    job: JobId,
    dead: Vec<DeadLetter>,
) -> Result<(), SyncError> {
    let note = JobNote {
        job,
        at_ms: stamp::now_ms(),
        released: Vec::new(),
        unroutable: Vec::new(),
        skipped: Vec::new(),
        given_up: Vec::new(),
        dead,
        stopped_by: None,
        closed: false,
    };
    let outgoing = Outgoing {
        exchange: EVENTS,
        routing_key: format!("job.note.{reader}"),
        kind: Kind::JobNote,
        message_id: stamp::new_message_id(),
        correlation_id: Some(job),
        timestamp_ms: note.at_ms,
        expiration_ms: None,
        mandatory: false,
        transient: false,
        reply_to: None,
        signature: None,
        body: envelope::encode(&note)?.into(),
    };
    sync::confirmed(session, LEDGER, outgoing).await
}
