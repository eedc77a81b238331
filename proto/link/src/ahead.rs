//! Answers that go ahead of their delivery's acknowledgement, on the same channel: their order makes up for a confirm.

use futures_util::FutureExt;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;

use crate::error::{PublishError, describe};
use crate::message::Outgoing;
use crate::session::Session;

impl Session {
    /// Publishes a message on the channel of the first consumer, without asking for a confirm; it is handed to the
    /// connection before this returns.
    ///
    /// A delivery of that consumer's that is acknowledged afterwards is acknowledged behind the message: a broker that
    /// has the ack has taken the message, and where the connection breaks before, the delivery comes again. So this is
    /// for answers to deliveries that are worth nothing once the broker itself is gone.
    ///
    /// # Errors
    /// When it was not handed to the connection: the session has ended, the broker blocks it, or the key is no good.
    pub fn publish_ahead_of_ack(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        if let Some(why) = self.shared.blocked.borrow().clone() {
            return Err(PublishError::Blocked { why });
        }
        if self.has_ended() {
            let why = self.shared.why_ended();
            return Err(PublishError::Down { why });
        }
        let key = ShortString::try_new(outgoing.routing_key.as_str());
        let key = key.map_err(|error| PublishError::Invalid {
            why: format!("its routing key is no good: {error}"),
        })?;
        // Nobody would hear of it if it came back.
        let options = BasicPublishOptions::default();
        let properties = outgoing.properties(&self.user);
        let exchange = outgoing.exchange.into();
        let sent = self
            .control
            .basic_publish(exchange, key, options, &outgoing.body, properties);
        // Polled once, the library's future has put the frames into the queue of the connection.
        match sent.now_or_never() {
            Some(Err(error)) => Err(PublishError::Down {
                why: describe(&error),
            }),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}
