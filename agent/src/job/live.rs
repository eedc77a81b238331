//! Messages that are worth something only now: acks and output. Each is sent once, and left out where too much waits.

use std::sync::Arc;

use muster_proto::envelope::{self, Kind};
use muster_proto::id::{HostId, JobId};
use muster_proto::job::{Ack, Output};
use muster_proto::topology;
use tokio::sync::mpsc;

use super::ReplyWire;
use crate::action::OutputPiece;
use crate::state::{Clock, OutMessage, new_message_id};

/// Acks and pieces of output that wait for the broker; more are left out, which their numbers show.
pub(super) const MESSAGES_MAX: usize = 256;

/// Tells a job's controller that the job is there, and whether it runs.
pub(super) fn tell(
    live: &mpsc::Sender<OutMessage>,
    host: &HostId,
    job: JobId,
    running: bool,
    at_ms: u64,
) {
    let ack = Ack {
        job,
        host: host.clone(),
        at_ms,
        running,
    };
    let Ok(body) = envelope::encode(&ack) else {
        return;
    };
    // Left out where too much waits: the result says more.
    let _ = live.try_send(message(
        Kind::Ack,
        topology::ack_key(job, host),
        job,
        at_ms,
        body,
    ));
}

/// Makes messages of a job's output until its action is done.
pub(super) async fn forward(
    mut pieces: mpsc::Receiver<OutputPiece>,
    live: mpsc::Sender<OutMessage>,
    job: JobId,
    host: HostId,
    clock: Clock,
) {
    while let Some(piece) = pieces.recv().await {
        let output = Output {
            job,
            host: host.clone(),
            seq: piece.seq,
            stream: piece.stream,
            bytes: piece.bytes,
            dropped_bytes: piece.dropped_bytes,
        };
        let Ok(body) = envelope::encode(&output) else {
            continue;
        };
        let message = message(
            Kind::Output,
            topology::output_key(job, &host),
            job,
            clock(),
            body,
        );
        // A missing number shows what was left out; a job never waits for its output to be sent.
        let _ = live.try_send(message);
    }
}

fn message(kind: Kind, routing_key: String, job: JobId, at_ms: u64, body: Vec<u8>) -> OutMessage {
    OutMessage {
        exchange: topology::REPLIES,
        routing_key,
        kind,
        message_id: new_message_id(at_ms),
        correlation_id: Some(job),
        timestamp_ms: at_ms,
        body,
    }
}

/// Sends acks and output in their order, each once: what gets lost is made up for by the result.
pub(super) async fn send(wire: Arc<dyn ReplyWire>, mut messages: mpsc::Receiver<OutMessage>) {
    while let Some(message) = messages.recv().await {
        if let Err(why) = wire.publish(message).await {
            tracing::debug!(why, "an ack or a piece of output was not confirmed");
        }
    }
}
