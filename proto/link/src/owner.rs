//! Session, backoff, session, for ever: one path for the first start and every recovery. Only a stop ends it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::ahead::Underway;
use crate::backoff::Backoff;
use crate::config::BrokerConfig;
use crate::deliver::Deliveries;
use crate::error::{PublishError, SetupError};
use crate::message::{Incoming, Outgoing, Receipt};
use crate::publish::Handed;
use crate::queue::{Acks, Binding, Consume, QueueDecl};
use crate::session::Session;
use crate::stamp;

/// What a link sets up on every session before it is called up.
#[derive(Debug, Clone)]
pub struct AgentPlan {
    /// The queue to make and to consume.
    pub queue: QueueDecl,
    /// What it wants.
    pub bindings: Vec<Binding>,
    /// Most deliveries without an ack.
    pub prefetch: u16,
    /// Whether nobody else may consume it.
    pub exclusive: bool,
    /// The streams that keep what is published; without them up, there is no link.
    pub streams: &'static [&'static str],
}

/// Where a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// There is no session.
    Down {
        /// Why, in words.
        why: String,
        /// Failed tries since the last good session.
        attempts: u32,
        /// How long after that failure the next try comes.
        retry_in: Duration,
    },
    /// There is one, with its queue consumed.
    Up {
        /// Which one it is, counted from 1.
        session: u64,
        /// Why the broker takes no messages at the moment, if it does not.
        blocked: Option<String>,
    },
    /// It was told to stop, and the last session is closed.
    Stopped,
}

/// A connection that is always there or on its way back. Clones are the same link; the last one dropped ends it.
#[derive(Clone)]
pub struct Link {
    current: watch::Receiver<Option<Arc<Session>>>,
    status: watch::Receiver<LinkStatus>,
    _owner: Arc<JoinSet<()>>,
}

struct Owner {
    config: BrokerConfig,
    name: String,
    plan: AgentPlan,
    stop: CancellationToken,
    current: watch::Sender<Option<Arc<Session>>>,
    status: watch::Sender<LinkStatus>,
    deliveries: mpsc::Sender<Incoming>,
    backoff: Backoff,
    sessions: u64,
}

impl Link {
    /// Starts a link that keeps `plan` standing until `stop`. Deliveries come out of the receiver, at most
    /// `plan.prefetch` of them unacked; dropping the receiver stops the link too.
    #[must_use]
    pub fn start(
        config: BrokerConfig,
        name: String,
        plan: AgentPlan,
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<Incoming>) {
        let (current, current_seen) = watch::channel(None);
        let first = LinkStatus::Down {
            why: "not connected yet".to_owned(),
            attempts: 0,
            retry_in: Duration::ZERO,
        };
        let (status, status_seen) = watch::channel(first);
        // One: the consumer's own buffer, bounded by prefetch, is where deliveries wait.
        let (deliveries, taken) = mpsc::channel(1);
        let backoff = Backoff::new(config.reconnect_window);
        let owner = Owner {
            config,
            name,
            plan,
            stop,
            current,
            status,
            deliveries,
            backoff,
            sessions: 0,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(owner.run());
        (
            Self {
                current: current_seen,
                status: status_seen,
                _owner: Arc::new(tasks),
            },
            taken,
        )
    }

    /// Publishes on the session that is there; see [`Session::publish`].
    ///
    /// # Errors
    /// As there; [`PublishError::Down`] at once when there is no session.
    pub async fn publish(&self, outgoing: Outgoing) -> Result<Receipt, PublishError> {
        self.publish_then(outgoing, None).await
    }

    /// Publishes as [`Session::publish_then`] does.
    ///
    /// # Errors
    /// As [`Link::publish`].
    pub async fn publish_then(
        &self,
        outgoing: Outgoing,
        handed: Option<Handed>,
    ) -> Result<Receipt, PublishError> {
        let session = self.current.borrow().clone();
        match session {
            Some(session) => session.publish_then(outgoing, handed).await,
            None => Err(PublishError::Down {
                why: self.why_down(),
            }),
        }
    }

    /// Where it is, and every change of it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Gives the session up for a reason of the caller's, and builds a new one.
    pub fn rebuild(&self, why: &str) {
        if let Some(session) = &*self.current.borrow() {
            session.abandon(why);
        }
    }

    /// Waits until the link has stopped and its last session is closed.
    pub async fn stopped(&self) {
        // An error means that the owner is gone, which is as stopped as can be.
        let _ = self
            .status
            .clone()
            .wait_for(|status| *status == LinkStatus::Stopped)
            .await;
    }

    /// Publishes as [`Session::publish_unconfirmed`] does.
    ///
    /// # Errors
    /// As there; [`PublishError::Down`] when there is no session.
    pub fn publish_unconfirmed(&self, outgoing: &Outgoing) -> Result<Underway, PublishError> {
        match &*self.current.borrow() {
            Some(session) => session.publish_unconfirmed(outgoing),
            None => Err(PublishError::Down {
                why: self.why_down(),
            }),
        }
    }

    fn why_down(&self) -> String {
        match &*self.status.borrow() {
            LinkStatus::Down { why, .. } => why.clone(),
            LinkStatus::Stopped => "the link was stopped".to_owned(),
            LinkStatus::Up { .. } => "the session has just ended".to_owned(),
        }
    }
}

impl Owner {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let taken = self.deliveries.clone();
        tokio::select! {
            () = self.keep_up() => {}
            () = stop.cancelled() => {}
            () = taken.closed() => {}
        }
        let last = self.current.send_replace(None);
        if let Some(session) = last {
            session.close().await;
        }
        self.status.send_replace(LinkStatus::Stopped);
    }

    /// Never returns; when it is dropped, the session in `current`, if any, is the one to close. One that is still being
    /// set up is cut.
    async fn keep_up(&mut self) {
        loop {
            let began = Instant::now();
            let why = self.one_session().await;
            self.current.send_replace(None);
            if began.elapsed() > self.config.reconnect_window {
                self.backoff.reset();
            }
            let retry_in = self.backoff.next(stamp::random_u64());
            let attempts = self.backoff.failures();
            tracing::warn!(
                attempts,
                retry_in_ms = retry_in.as_millis(),
                "no link to RabbitMQ: {why}"
            );
            self.status.send_replace(LinkStatus::Down {
                why,
                attempts,
                retry_in,
            });
            sleep(retry_in).await;
        }
    }

    /// From connecting to the end; returns why it ended.
    async fn one_session(&mut self) -> String {
        let session = match Session::open(&self.config, &self.name).await {
            Ok(session) => Arc::new(session),
            Err(error) => return error.to_string(),
        };
        let deliveries = match self.set_up(&session).await {
            Ok(deliveries) => deliveries,
            Err(error) => {
                session.close().await;
                return error.to_string();
            }
        };
        self.sessions += 1;
        self.current.send_replace(Some(Arc::clone(&session)));
        self.serve(&session, deliveries).await
    }

    async fn set_up(&self, session: &Session) -> Result<Deliveries, SetupError> {
        let AgentPlan {
            queue,
            bindings,
            prefetch,
            exclusive,
            streams,
        } = &self.plan;
        session.find_streams(streams).await?;
        session.declare_queue(queue).await?;
        for binding in bindings {
            session.bind(&queue.name, binding).await?;
        }
        let consume = Consume {
            queue: queue.name.clone(),
            exclusive: *exclusive,
            prefetch: *prefetch,
            acks: Acks::Manual,
            offset: None,
        };
        session.consume(consume).await
    }

    async fn serve(&self, session: &Session, deliveries: Deliveries) -> String {
        let mut blocked = session.blocked();
        let forwarding = forward(deliveries, &self.deliveries);
        tokio::pin!(forwarding);
        tracing::info!(session = self.sessions, "linked to RabbitMQ");
        loop {
            let now_blocked = blocked.borrow_and_update().clone();
            self.status.send_replace(LinkStatus::Up {
                session: self.sessions,
                blocked: now_blocked,
            });
            tokio::select! {
                ended = session.closed() => return ended.why,
                () = &mut forwarding => return session.closed().await.why,
                changed = blocked.changed() => if changed.is_err() { return session.closed().await.why },
            }
        }
    }
}

/// Returns when the session has ended. A delivery is only taken when there is a place to put it.
async fn forward(mut deliveries: Deliveries, to: &mpsc::Sender<Incoming>) {
    while let Ok(place) = to.reserve().await {
        match deliveries.recv().await {
            Some(incoming) => place.send(incoming),
            None => return,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
