//! Answers that go ahead of their delivery's acknowledgement, on the same channel: their order makes up for a confirm.

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;

use crate::error::{PublishError, describe};
use crate::message::Outgoing;
use crate::session::Session;

impl Session {
    /// Publishes a message on the channel of the first consumer, without asking for a confirm, and returns when it was
    /// written to the connection. (No earlier: the client library writes acks before messages that still wait.)
    ///
    /// A delivery of that consumer's that is acknowledged afterwards is acknowledged behind the message: a broker that
    /// has the ack has taken the message, and where the connection breaks before, the delivery comes again. So this is
    /// for answers to deliveries that are worth nothing once the broker itself is gone.
    ///
    /// # Errors
    /// When it is not known to be written: the session has ended, the broker blocks it, or the key is no good.
    pub async fn publish_ahead_of_ack(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        if let Some(why) = self.shared.blocked.borrow().clone() {
            return Err(PublishError::Blocked { why });
        }
        let mut ended = self.shared.ended.subscribe();
        let key = ShortString::try_new(outgoing.routing_key.as_str());
        let key = key.map_err(|error| PublishError::Invalid {
            why: format!("its routing key is no good: {error}"),
        })?;
        // Nobody would hear of it if it came back.
        let options = BasicPublishOptions::default();
        let properties = outgoing.properties(&self.user);
        let exchange = outgoing.exchange.into();
        let body = &outgoing.body;
        let channel = &self.control;
        tokio::select! {
            biased;
            _ = ended.wait_for(Option::is_some) => {
                let why = self.shared.why_ended();
                Err(PublishError::Down { why })
            }
            written = channel.basic_publish(exchange, key, options, body, properties) => {
                written.map(drop).map_err(|error| PublishError::Down { why: describe(&error) })
            }
        }
    }
}
