//! Waits that last for ever where there is nothing to wait for, so that they can stand in a `select!`.

use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;

/// The next task that ends.
pub(super) async fn next_end<T: 'static>(
    running: &mut JoinSet<T>,
) -> Result<(task::Id, T), JoinError> {
    match running.join_next_with_id().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

/// Until a time.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
