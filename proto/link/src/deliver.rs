//! Taking messages: a consumer's deliveries, and the acks that go back. It must not buffer: prefetch is the only bound.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::{Channel, Consumer};

use crate::error::SetupError;
use crate::life::Shared;
use crate::message::Incoming;
use crate::queue::Acks;
use crate::session::Session;

/// What a queue's consumer gets, in order; at most `prefetch` messages wait unacked. Dropping it cancels the consumer.
pub struct Deliveries {
    consumer: Consumer,
    way_back: Arc<WayBack>,
    queue: String,
    acks: Acks,
    /// Messages handed out since the last ack, when acks go in batches.
    unacked: u16,
    batch: u16,
    /// Why there are no more.
    failed: Option<lapin::Error>,
}

/// Tells the broker that one delivery is done with. Clones are the same delivery: the first to speak counts.
///
/// It belongs to the session that the delivery came by. When that is gone, so is the delivery: it comes again.
#[derive(Clone)]
pub struct Acker(Option<Arc<Settle>>);

struct Settle {
    way_back: Arc<WayBack>,
    tag: u64,
    done: AtomicBool,
}

/// A consumer's channel, and the session that it lives in.
struct WayBack {
    channel: Channel,
    shared: Arc<Shared>,
}

impl Deliveries {
    pub(crate) fn new(
        consumer: Consumer,
        channel: Channel,
        shared: Arc<Shared>,
        queue: String,
        acks: Acks,
        prefetch: u16,
    ) -> Self {
        let way_back = Arc::new(WayBack { channel, shared });
        Self {
            consumer,
            way_back,
            queue,
            acks,
            unacked: 0,
            batch: prefetch.div_ceil(2),
            failed: None,
        }
    }

    /// The next message; `None` when the session has ended. Cancelling it loses nothing.
    ///
    /// A consumer that the broker cancels (because its queue was deleted) ends the session.
    pub async fn recv(&mut self) -> Option<Incoming> {
        let shared = Arc::clone(&self.way_back.shared);
        let mut ended = shared.ended.subscribe();
        if self.failed.is_none() {
            let next = tokio::select! {
                biased;
                _ = ended.wait_for(Option::is_some) => return None,
                next = self.consumer.next() => next,
            };
            match next {
                Some(Ok(delivery)) => return Some(self.take(delivery)),
                Some(Err(error)) => self.failed = Some(error),
                None => shared.end(format!(
                    "the broker cancelled the consumer of {}: was the queue deleted?",
                    self.queue
                )),
            }
        }
        if let Some(error) = &self.failed {
            shared.fail(error).await;
        }
        shared.over().await;
        None
    }

    /// Ends it with its channel: what it was given and has not acked is in the queue again when this returns. Only where
    /// that channel is its own, see [`Session::consume_apart`].
    ///
    /// # Errors
    /// When the session is over; the broker puts it back all the same.
    pub async fn give_back(self, session: &Session) -> Result<(), SetupError> {
        debug_assert_ne!(self.way_back.channel.id(), session.control.id());
        let what = format!("give back what the queue {} gave", self.queue);
        let closed = self.way_back.channel.close(200, "done".into());
        session.within(what, &self.queue, closed).await
    }

    fn take(&mut self, delivery: Delivery) -> Incoming {
        let tag = delivery.delivery_tag;
        let acker = match self.acks {
            Acks::Manual => Acker::new(Arc::clone(&self.way_back), tag),
            Acks::Batched => {
                self.unacked = self.unacked.saturating_add(1);
                if self.unacked >= self.batch {
                    self.unacked = 0;
                    self.way_back.ack(tag, true);
                }
                Acker::none()
            }
        };
        Incoming::new(delivery, acker)
    }
}

/// A message that was asked for by itself.
pub(crate) fn single(delivery: Delivery, channel: Channel, shared: Arc<Shared>) -> Incoming {
    let way_back = Arc::new(WayBack { channel, shared });
    let acker = Acker::new(way_back, delivery.delivery_tag);
    Incoming::new(delivery, acker)
}

impl Acker {
    fn new(way_back: Arc<WayBack>, tag: u64) -> Self {
        Self(Some(Arc::new(Settle {
            way_back,
            tag,
            done: AtomicBool::new(false),
        })))
    }

    /// For deliveries that nobody need answer; it always says `false`.
    #[must_use]
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// The message is done with. Returns whether the answer was handed to the connection: `false` when the delivery
    /// was answered before, or its session is gone.
    pub async fn ack(&self) -> bool {
        self.settle(|way_back, tag| way_back.ack(tag, false))
    }

    /// The message is done with, and all that came before it on its consumer's channel. Returns as [`Acker::ack`] does.
    pub async fn ack_up_to(&self) -> bool {
        self.settle(|way_back, tag| way_back.ack(tag, true))
    }

    /// The message is refused for good: the broker dead-letters it. Returns as [`Acker::ack`] does.
    pub async fn reject(&self) -> bool {
        self.settle(WayBack::reject)
    }

    fn settle(&self, answer: impl FnOnce(&WayBack, u64) -> bool) -> bool {
        let Some(settle) = &self.0 else { return false };
        // Answering a delivery twice is an error that costs the channel.
        if settle.done.swap(true, Ordering::AcqRel) || settle.way_back.shared.has_ended() {
            return false;
        }
        answer(&settle.way_back, settle.tag)
    }
}

impl WayBack {
    /// Polled once, the library's future has put the frame into the queue of the connection; what remains of it would
    /// wait for the socket, which a blocked connection does not serve.
    fn ack(&self, tag: u64, multiple: bool) -> bool {
        let polled = self
            .channel
            .basic_ack(tag, BasicAckOptions { multiple })
            .now_or_never();
        !matches!(polled, Some(Err(_)))
    }

    fn reject(&self, tag: u64) -> bool {
        let polled = self
            .channel
            .basic_reject(tag, BasicRejectOptions { requeue: false })
            .now_or_never();
        !matches!(polled, Some(Err(_)))
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Acker(none)"),
            Some(settle) => write!(
                f,
                "Acker({}, done: {})",
                settle.tag,
                settle.done.load(Ordering::Acquire)
            ),
        }
    }
}
