//! What a stream has, asked of the broker. It must not know what the messages say.

use std::time::Duration;

use tokio::time::timeout;

use crate::error::SetupError;
use crate::queue::{Acks, Consume, StreamOffset};
use crate::session::Session;

/// Deliveries under way: a stream's last chunk is small.
const PREFETCH: u16 = 100;

/// Whether the stream is seen to end before the message `offset`: who has read that one has read another stream. One that
/// brings nothing within `silence` is not seen to end, for it may be empty or the broker busy. It is looked at from its
/// newest chunk on; that it ends takes one `silence` after its last message.
///
/// # Errors
/// When the stream can't be consumed.
pub async fn ends_before(
    session: &Session,
    stream: &str,
    offset: u64,
    silence: Duration,
) -> Result<bool, SetupError> {
    let consume = Consume {
        queue: stream.to_owned(),
        exclusive: false,
        prefetch: PREFETCH,
        acks: Acks::Batched,
        offset: Some(StreamOffset::Last),
    };
    let mut deliveries = session.consume(consume).await?;
    let mut ends = false;
    while let Ok(next) = timeout(silence, deliveries.recv()).await {
        match next {
            Some(next) if next.stream_offset.is_some_and(|at| at < offset) => ends = true,
            // It goes on, or the session has ended.
            _ => return Ok(false),
        }
    }
    Ok(ends)
}
