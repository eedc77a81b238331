//! Whether the agent's queue still reaches it. Everything that comes through the queue passes here; where nothing has
//! come for a while, the agent sends itself a probe, and a link that does not bring it is built anew: connected is not
//! the same as heard. It must not know what jobs are.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_link::{Acker, Incoming, Link, Outgoing, Receipt, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::id::{HostId, MessageId};
use muster_proto::job::Probe;
use muster_proto::topology;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::job::{Acknowledge, Delivery};
use crate::publish::open_session;

/// Silence after which a probe is sent.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long a probe may take; the broker drops it then.
pub(crate) const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// The watch over one agent's queue.
pub(crate) struct Liveness {
    pub(crate) link: Link,
    pub(crate) host: HostId,
    pub(crate) silence_max: Duration,
    pub(crate) probe_limit: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
enum Watch {
    /// Anything, until then.
    Quiet(Instant),
    /// The probe, until then.
    Probing(MessageId, Instant),
}

impl Liveness {
    /// Passes deliveries on, until `stop` or until either end is closed. The receiver stays the caller's: a link whose
    /// receiver is gone stops, and there are still last words to send.
    pub(crate) async fn run(
        self,
        incoming: &mut mpsc::Receiver<Incoming>,
        deliveries: mpsc::Sender<Delivery>,
        stop: CancellationToken,
    ) {
        let mut status = self.link.status();
        let mut watch = self.quiet();
        let mut session = None;
        loop {
            let now_open = open_session(&status.borrow_and_update());
            if now_open != session {
                session = now_open;
                watch = self.quiet();
            }
            let limit = match watch {
                Watch::Quiet(limit) | Watch::Probing(_, limit) => limit,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                message = incoming.recv() => {
                    let Some(message) = message else { return };
                    if !self.pass(message, &deliveries).await {
                        return;
                    }
                    // Only now: a reader that was slow to take it is no silence of the queue.
                    watch = self.quiet();
                }
                changed = status.changed() => if changed.is_err() { return },
                () = sleep_until(limit), if session.is_some() => watch = self.silent(watch).await,
            }
        }
    }

    fn quiet(&self) -> Watch {
        Watch::Quiet(Instant::now() + self.silence_max)
    }

    /// Passes one message on; `false` when nobody takes it any more.
    async fn pass(&self, message: Incoming, deliveries: &mpsc::Sender<Delivery>) -> bool {
        let own_probe = message.kind == Kind::Probe.wire_name();
        if own_probe {
            message.acker.ack().await;
            return true;
        }
        let Incoming {
            kind,
            key_id,
            signature,
            body,
            transient,
            reply_to,
            acker,
            ..
        } = message;
        deliveries
            .send(Delivery {
                kind,
                body,
                key_id,
                signature,
                transient,
                direct: reply_to.as_deref() == Some(topology::ANSWERS),
                acker: Arc::new(Settle(acker)),
            })
            .await
            .is_ok()
    }

    async fn silent(&self, watch: Watch) -> Watch {
        match watch {
            Watch::Quiet(_) => self.probe().await,
            Watch::Probing(id, _) => {
                let limit = self.probe_limit.as_secs();
                tracing::warn!(probe = %id, "the agent's queue no longer reaches it; building the link anew");
                self.link.rebuild(&format!(
                    "a probe through the agent's own queue did not come back within {limit} s"
                ));
                self.quiet()
            }
        }
    }

    async fn probe(&self) -> Watch {
        let at_ms = stamp::now_ms();
        let id = stamp::new_message_id();
        let until = Watch::Probing(id, Instant::now() + self.probe_limit);
        let Ok(body) = envelope::encode(&Probe {
            host: self.host.clone(),
            at_ms,
        }) else {
            return self.quiet();
        };
        let outgoing = Outgoing {
            exchange: topology::JOBS,
            routing_key: topology::host_key(&self.host),
            kind: Kind::Probe,
            message_id: id,
            correlation_id: None,
            timestamp_ms: at_ms,
            expiration_ms: u64::try_from(self.probe_limit.as_millis()).ok(),
            mandatory: true,
            transient: false,
            reply_to: None,
            signature: None,
            body: Arc::from(body),
        };
        match self.link.publish(outgoing).await {
            Ok(Receipt::Confirmed) => until,
            Ok(Receipt::Returned { .. }) => {
                self.link
                    .rebuild("the agent's queue is gone, or no longer bound to its key");
                self.quiet()
            }
            // Refused because the queue is full of jobs, which are deliveries; or the session is going anyway.
            Ok(Receipt::Refused) | Err(_) => self.quiet(),
        }
    }
}

/// A delivery's acker in the jobs' form.
struct Settle(Acker);

impl Acknowledge for Settle {
    fn ack(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { _ = self.0.ack().await })
    }

    fn reject(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { _ = self.0.reject().await })
    }
}

/// Tells of sessions that are lost and found again: `agent.link.lost`, `agent.link.back`.
pub(crate) mod events {
    use muster_link::LinkStatus;
    use muster_proto::event::Severity;

    use super::{Instant, stamp, watch};
    use crate::state::{NewEvent, State, StateError};

    /// Stores an event whenever the link goes or comes back, at the time when it does; ends with the link.
    ///
    /// # Errors
    /// When the state file is closed before.
    pub(crate) async fn run(
        mut status: watch::Receiver<LinkStatus>,
        state: State,
    ) -> Result<(), StateError> {
        let mut was_up = false;
        let mut lost_at: Option<Instant> = None;
        loop {
            let now = status.borrow_and_update().clone();
            let at_ms = stamp::now_ms();
            match now {
                LinkStatus::Up { .. } => {
                    was_up = true;
                    if let Some(lost_at) = lost_at.take() {
                        let down_ms =
                            u64::try_from(lost_at.elapsed().as_millis()).unwrap_or(u64::MAX);
                        let summary = format!(
                            "the link to RabbitMQ is back after {:.1} s",
                            lost_at.elapsed().as_secs_f64()
                        );
                        let event =
                            NewEvent::new("agent.link.back", at_ms, Severity::Notice, summary);
                        state
                            .accept_events(vec![event.field("down_ms", down_ms)])
                            .await?;
                    }
                }
                LinkStatus::Down { why, .. } if was_up => {
                    was_up = false;
                    lost_at = Some(Instant::now());
                    let summary = format!("the link to RabbitMQ is lost: {why}");
                    let event = NewEvent::new("agent.link.lost", at_ms, Severity::Warning, summary);
                    state.accept_events(vec![event.field("why", why)]).await?;
                }
                LinkStatus::Down { .. } => {}
                LinkStatus::Stopped => return Ok(()),
            }
            if status.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}
