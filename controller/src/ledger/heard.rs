//! Telling the ledger stream of answers that did not come by it. It must not know what they say.

use muster_link::{Outgoing, Session, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::job::Heard;
use muster_proto::topology::{HEARD, HEARD_KEY, LEDGER};

use super::sync::{self, SyncError};

/// Publishes to the ledger, and waits for the confirm.
///
/// # Errors
/// When it is not confirmed.
pub async fn publish(session: &Session, heard: &Heard) -> Result<(), SyncError> {
    let outgoing = Outgoing {
        exchange: HEARD,
        routing_key: HEARD_KEY.to_owned(),
        kind: Kind::Heard,
        message_id: stamp::new_message_id(),
        correlation_id: None,
        timestamp_ms: stamp::now_ms(),
        expiration_ms: None,
        mandatory: true,
        transient: false,
        reply_to: None,
        signature: None,
        body: envelope::encode(heard)?.into(),
    };
    sync::confirmed(session, LEDGER, outgoing).await
}
