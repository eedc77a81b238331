//! What the agent sends: the outbox, kept until the broker has confirmed it, and snapshots, of which the newest wins.
//! It must not know what the messages say.

mod outbox;
mod snapshots;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use muster_link::{Link, LinkStatus, Outgoing, PublishError, Receipt};
use muster_proto::envelope::Kind;
use muster_proto::topology;
use tokio::sync::watch;

pub(crate) use self::outbox::{OutboxCounters, OutboxPublisher};
pub(crate) use self::snapshots::{Snapshot, Snapshots};
use crate::job::{ReplyWire, Underway};
use crate::state::OutMessage;

/// The session that takes messages now; `None` while there is none, or the broker has blocked it.
pub(crate) fn open_session(status: &LinkStatus) -> Option<u64> {
    match status {
        LinkStatus::Up {
            session,
            blocked: None,
        } => Some(*session),
        LinkStatus::Up { .. } | LinkStatus::Down { .. } | LinkStatus::Stopped => None,
    }
}

/// Waits for a session that takes messages; `None` when the link was stopped.
pub(crate) async fn next_session(status: &mut watch::Receiver<LinkStatus>) -> Option<u64> {
    let ready =
        |status: &LinkStatus| open_session(status).is_some() || *status == LinkStatus::Stopped;
    let status = status.wait_for(ready).await.ok()?;
    open_session(&status)
}

/// An outgoing message of what the state file or a job has made.
pub(crate) fn outgoing(message: OutMessage) -> Outgoing {
    Outgoing {
        exchange: message.exchange,
        routing_key: message.routing_key,
        kind: message.kind,
        message_id: message.message_id,
        correlation_id: message.correlation_id,
        timestamp_ms: message.timestamp_ms,
        expiration_ms: None,
        // Where the ledger is missing an answer is sent again, instead of falling on the floor.
        mandatory: message.kind == Kind::Result,
        // Its job is one that the broker forgets, too.
        transient: message.exchange == topology::ANSWERS,
        reply_to: None,
        signature: None,
        body: Arc::from(message.body),
    }
}

impl Underway for muster_link::Underway {
    fn written(&mut self) -> Option<bool> {
        self.written()
    }
}

/// The jobs' way to the broker.
pub(crate) struct Wire(pub(crate) Link);

impl ReplyWire for Wire {
    fn publish_ahead_of_ack(&self, message: OutMessage) -> Option<Box<dyn Underway>> {
        match self.0.publish_unconfirmed(&outgoing(message)) {
            Ok(underway) => Some(Box::new(underway)),
            Err(error) => {
                tracing::debug!(%error, "an answer waits for the broker");
                None
            }
        }
    }

    fn up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if next_session(&mut self.0.status()).await.is_none() {
                std::future::pending().await
            }
        })
    }

    fn publish(&self, message: OutMessage) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            match self.0.publish(outgoing(message)).await {
                Ok(Receipt::Confirmed) => Ok(()),
                Ok(Receipt::Returned { reason }) => Err(reason),
                Ok(Receipt::Refused) => Err("the broker refused it".to_owned()),
                // Sent again it would be no better: its delivery is done with.
                Err(PublishError::Invalid { why }) => {
                    tracing::error!(why, "an answer can't be sent");
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            }
        })
    }
}
