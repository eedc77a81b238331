//! Messages for which no confirm is asked: where something else makes up for it, a confirm only costs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;

use crate::error::PublishError;
use crate::message::Outgoing;
use crate::session::Session;

/// A message on its way into the connection. Dropping it takes nothing back.
pub struct Underway(State);

enum State {
    /// The mutex is never locked: it lets the holder be shared between threads, which the future alone does not.
    Writing(Mutex<BoxFuture<'static, bool>>),
    Done(bool),
}

impl Underway {
    /// Whether it was written to the connection: `None` while it still waits, `Some(false)` when it never will be.
    ///
    /// It costs nothing to ask a moment later; nobody is woken for the answer.
    pub fn written(&mut self) -> Option<bool> {
        if let State::Writing(writing) = &mut self.0
            && let Some(written) = poll_once(writing)
        {
            self.0 = State::Done(written);
        }
        match self.0 {
            State::Writing(_) => None,
            State::Done(written) => Some(written),
        }
    }
}

fn poll_once(writing: &mut Mutex<BoxFuture<'static, bool>>) -> Option<bool> {
    let writing = writing.get_mut().unwrap_or_else(PoisonError::into_inner);
    writing.now_or_never()
}

impl Session {
    /// Publishes a message on the channel of the first consumer, without asking for a confirm. It does not come back
    /// where no queue takes it.
    ///
    /// This is for questions that are asked again where no answer comes, and for answers: a delivery of that consumer's
    /// that is acknowledged once the message is [written](Underway::written) is acknowledged behind it (and no earlier:
    /// the client library writes acks before messages that still wait). A broker that has the ack has taken the message,
    /// and where the connection breaks before, the delivery comes again. That is enough for answers to deliveries that
    /// are worth nothing once the broker itself is gone.
    ///
    /// # Errors
    /// When it can't be written: the session has ended, the broker blocks it, or the key is no good.
    pub fn publish_unconfirmed(&self, outgoing: &Outgoing) -> Result<Underway, PublishError> {
        if let Some(why) = self.shared.blocked.borrow().clone() {
            return Err(PublishError::Blocked { why });
        }
        let key = ShortString::try_new(outgoing.routing_key.as_str());
        let key = key.map_err(|error| PublishError::Invalid {
            why: format!("its routing key is no good: {error}"),
        })?;
        // Nobody would hear of it if it came back.
        let options = BasicPublishOptions::default();
        let properties = outgoing.properties(&self.user);
        let exchange = outgoing.exchange.into();
        let body = Arc::clone(&outgoing.body);
        let channel = self.control.clone();
        let writing = async move {
            let published = channel.basic_publish(exchange, key, options, &body, properties);
            published.await.is_ok()
        };
        let mut underway = Underway(State::Writing(Mutex::new(writing.boxed())));
        // Polled once, the library's future has put the frames into the queue of the connection.
        if underway.written() == Some(false) || self.shared.has_ended() {
            let why = self.shared.why_ended();
            return Err(PublishError::Down { why });
        }
        Ok(underway)
    }
}

impl fmt::Debug for Underway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            State::Writing(_) => "writing",
            State::Done(true) => "written",
            State::Done(false) => "lost",
        };
        write!(f, "Underway({state})")
    }
}
