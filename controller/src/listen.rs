//! Listening on the broker from now on: a queue of this connection's own, which goes with it. It must not know what is
//! listened for.

use muster_link::{
    Acks, Binding, Consume, Deliveries, QueueDecl, QueueKind, Session, SetupError, stamp,
};
use muster_proto::id::KeyId;
use muster_proto::topology::CONTROLLER_QUEUE_PREFIX;

/// What is listened for, and how.
pub(crate) struct Listening<'a> {
    /// Who listens: part of the queue's name.
    pub(crate) issuer: &'a KeyId,
    /// The exchange that it listens to.
    pub(crate) exchange: &'static str,
    /// The binding keys.
    pub(crate) keys: Vec<String>,
    /// Messages under way at the most.
    pub(crate) prefetch: u16,
}

/// Makes the queue, bound to the keys, and begins to take from it: the queue's name, and what comes.
///
/// # Errors
/// When the broker does not let us.
pub(crate) async fn listen(
    session: &Session,
    listening: Listening<'_>,
) -> Result<(String, Deliveries), SetupError> {
    // A name of its own each time: the broker may not have noticed yet that the last connection is gone.
    let id = stamp::new_message_id();
    let queue = format!("{CONTROLLER_QUEUE_PREFIX}{}.{id}", listening.issuer);
    let declared = QueueDecl {
        name: queue.clone(),
        kind: QueueKind::Exclusive,
    };
    session.declare_queue(&declared).await?;
    for key in listening.keys {
        let exchange = listening.exchange.to_owned();
        session.bind(&queue, &Binding { exchange, key }).await?;
    }
    let consume = Consume {
        queue: queue.clone(),
        exclusive: true,
        prefetch: listening.prefetch,
        acks: Acks::Batched,
        offset: None,
    };
    Ok((queue, session.consume(consume).await?))
}
