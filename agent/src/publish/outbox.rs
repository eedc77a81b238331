//! Drains the outbox: replies before events, each lane in its order, a bounded number unconfirmed, the same message id at
//! each resend, deleted when confirmed. A new session begins anew with everything that is still there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use muster_link::{Link, LinkStatus, Outgoing, PublishError, Receipt};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{next_session, open_session, outgoing};
use crate::state::{Lane, OutboxKey, OutboxRecord, State, StateError};

/// Messages that wait for their confirm at the most: beyond 200, lapin's throughput does not grow (LAB measurements).
const UNCONFIRMED_MAX: u64 = 256;

/// Their bodies in bytes at the most.
const UNCONFIRMED_BYTES_MAX: u64 = 1 << 20;

/// Bodies read from the state file at a time.
const PAGE_BYTES: usize = 256 << 10;

/// Pause before a message is sent again that the broker refused or had no queue for: somebody has to do something.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Pause before the state file is read again after an error.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What happened to the outbox since the agent was started, for `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct OutboxCounters {
    /// Messages that wait for their confirm now.
    pub(crate) unconfirmed: AtomicU64,
    /// Messages that were confirmed.
    pub(crate) confirmed: AtomicU64,
    /// Messages that the broker refused or had no queue for; they are sent again.
    pub(crate) refused: AtomicU64,
    /// When the broker last confirmed something, in milliseconds since 1970; 0 for never.
    pub(crate) last_confirm_at_ms: AtomicU64,
}

/// The publisher, to be run as one task.
pub(crate) struct OutboxPublisher {
    state: State,
    link: Link,
    counters: Arc<OutboxCounters>,
}

/// How a message fared.
enum Fate {
    Confirmed,
    /// Not on this session, or not known.
    Lost,
    /// The broker won't have it now.
    Refused(String),
    /// It can never be sent.
    Invalid(String),
}

/// A message that was sent: its key, the bytes of its body, and how it fared.
type Sent = (OutboxKey, u64, Fate);

type Sending = FuturesUnordered<BoxFuture<'static, Sent>>;

/// What one session has read and sent.
struct Pass {
    places: [Place; 2],
    sending: Sending,
    /// What is known of messages and was not settled yet.
    landed: VecDeque<Sent>,
    bytes: u64,
}

/// How far a session is in one lane.
struct Place {
    lane: Lane,
    after: u64,
    page: VecDeque<OutboxRecord>,
    /// Whether there may be more in the file than was read.
    more: bool,
}

impl OutboxPublisher {
    pub(crate) fn new(state: State, link: Link, counters: Arc<OutboxCounters>) -> Self {
        Self {
            state,
            link,
            counters,
        }
    }

    /// Publishes until `stop`, and then what is left, as long as there is a session.
    ///
    /// # Errors
    /// When the state file is closed before.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), StateError> {
        let mut status = self.link.status();
        loop {
            let session = tokio::select! {
                session = next_session(&mut status) => session,
                () = stop.cancelled() => open_session(&status.borrow_and_update()),
            };
            let Some(session) = session else {
                return Ok(());
            };
            let ended = self.one_session(session, &mut status, &stop).await;
            self.counters.unconfirmed.store(0, Ordering::Relaxed);
            match ended? {
                End::Stopped => return Ok(()),
                End::SessionOver => self.see_it_go(session, &mut status).await,
                End::Refused if stop.is_cancelled() => return Ok(()),
                End::Refused => tokio::select! {
                    () = tokio::time::sleep(REFUSED_PAUSE) => {}
                    () = stop.cancelled() => {}
                },
            }
        }
    }

    /// A message was lost with the session; its end may not be seen here yet, and trying again would be in vain.
    async fn see_it_go(&self, session: u64, status: &mut watch::Receiver<LinkStatus>) {
        let gone = status.wait_for(|status| open_session(status) != Some(session));
        _ = tokio::time::timeout(READ_AGAIN, gone).await;
    }

    async fn one_session(
        &self,
        session: u64,
        link: &mut watch::Receiver<LinkStatus>,
        stop: &CancellationToken,
    ) -> Result<End, StateError> {
        let mut news = self.state.status();
        let mut newest_seq = 0;
        let mut pass = Pass::new();
        loop {
            if open_session(&link.borrow_and_update()) != Some(session) {
                return Ok(End::SessionOver);
            }
            let newest = news.borrow_and_update().newest_seq;
            if newest != newest_seq {
                newest_seq = newest;
                pass.places.iter_mut().for_each(|place| place.more = true);
            }
            self.fill(&mut pass).await?;
            if let Some(sent) = pass.landed.pop_front() {
                if let Some(end) = self.settle(&mut pass, sent).await? {
                    return Ok(end);
                }
                continue;
            }
            self.counters
                .unconfirmed
                .store(pass.sending.len() as u64, Ordering::Relaxed);
            let idle = pass.sending.is_empty();
            if idle && stop.is_cancelled() {
                return Ok(End::Stopped);
            }
            tokio::select! {
                Some(sent) = pass.sending.next(), if !idle => {
                    if let Some(end) = self.settle(&mut pass, sent).await? {
                        return Ok(end);
                    }
                }
                _ = link.changed() => {}
                changed = news.changed() => changed.map_err(|_| StateError::Closed)?,
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    /// Sends as much as the window has room for.
    async fn fill(&self, pass: &mut Pass) -> Result<(), StateError> {
        while (pass.sending.len() as u64) < UNCONFIRMED_MAX && pass.bytes < UNCONFIRMED_BYTES_MAX {
            let Some(record) = pass.next(&self.state).await? else {
                return Ok(());
            };
            let bytes = record.message.body.len() as u64;
            // Mandatory: where the streams are missing it is kept, instead of falling on the floor.
            let message = Outgoing {
                mandatory: true,
                ..outgoing(record.message)
            };
            let (key, link) = (record.key, self.link.clone());
            pass.bytes += bytes;
            let (told, handed) = oneshot::channel();
            pass.sending.push(Box::pin(async move {
                let handed = Box::new(move || {
                    _ = told.send(());
                });
                let fate = match link.publish_then(message, Some(handed)).await {
                    Ok(Receipt::Confirmed) => Fate::Confirmed,
                    Ok(Receipt::Returned { reason }) => Fate::Refused(reason),
                    Ok(Receipt::Refused) => {
                        Fate::Refused("a queue is full, or the broker has a fault".to_owned())
                    }
                    Err(PublishError::Invalid { why }) => Fate::Invalid(why),
                    Err(_) => Fate::Lost,
                };
                (key, bytes, fate)
            }));
            pass.hand_over(handed).await;
        }
        Ok(())
    }

    /// Takes this fate and all that are known by now; what is confirmed is deleted together.
    async fn settle(
        &self,
        pass: &mut Pass,
        first: (OutboxKey, u64, Fate),
    ) -> Result<Option<End>, StateError> {
        let mut confirmed = Vec::new();
        let mut end = None;
        let mut next = Some(first);
        while let Some((key, bytes, fate)) = next {
            pass.bytes = pass.bytes.saturating_sub(bytes);
            match fate {
                Fate::Confirmed => confirmed.push(key),
                Fate::Lost => end = end.or(Some(End::SessionOver)),
                Fate::Refused(why) => {
                    self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        why,
                        "RabbitMQ did not take a message (was `muster broker init` run?); it is kept and sent again"
                    );
                    end = Some(End::Refused);
                }
                Fate::Invalid(why) => {
                    tracing::error!(why, "a message can't be sent and is dropped");
                    confirmed.push(key);
                }
            }
            let landed = pass.landed.pop_front();
            next = landed.or_else(|| pass.sending.next().now_or_never().flatten());
        }
        if !confirmed.is_empty() {
            self.counters
                .confirmed
                .fetch_add(confirmed.len() as u64, Ordering::Relaxed);
            self.counters
                .last_confirm_at_ms
                .store(muster_link::stamp::now_ms(), Ordering::Relaxed);
            self.state.confirm(confirmed).await?;
        }
        Ok(end)
    }
}

enum End {
    Stopped,
    SessionOver,
    Refused,
}

impl Pass {
    fn new() -> Self {
        let place = |lane| Place {
            lane,
            after: 0,
            page: VecDeque::new(),
            more: true,
        };
        Self {
            places: [place(Lane::Replies), place(Lane::Events)],
            sending: Sending::new(),
            landed: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Waits until the message that was begun last stands in the connection's queue, or can't. The next one is begun only
    /// then: two that wait for room at the same time might overtake each other.
    async fn hand_over(&mut self, mut handed: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                biased;
                _ = &mut handed => return,
                sent = self.sending.next() => match sent {
                    Some(sent) => self.landed.push_back(sent),
                    None => return,
                },
            }
        }
    }

    /// The next message that was not sent in this pass: replies first.
    async fn next(&mut self, state: &State) -> Result<Option<OutboxRecord>, StateError> {
        for place in &mut self.places {
            if place.page.is_empty() && place.more {
                place.read(state).await?;
            }
            if let Some(record) = place.page.pop_front() {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl Place {
    async fn read(&mut self, state: &State) -> Result<(), StateError> {
        loop {
            match state.next_outbox(self.lane, self.after, PAGE_BYTES).await {
                Ok(records) => {
                    self.more = !records.is_empty();
                    self.after = records.last().map_or(self.after, |last| last.key.seq);
                    self.page.extend(records);
                    return Ok(());
                }
                Err(StateError::Closed) => return Err(StateError::Closed),
                Err(error) => {
                    tracing::warn!(%error, "could not read the outbox, trying again");
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }
}
