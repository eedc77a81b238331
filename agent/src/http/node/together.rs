//! One look for all who ask at the same time: what takes a second, or a scan of all mounts, is done once for them. Knows
//! nothing of what is looked at.

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The newest outcome.
#[derive(Debug)]
pub(super) struct Together<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Together<T> {
    /// What `look` gives; it is not begun where another one's is done after this call was made. A failure is not shared.
    pub(super) async fn look<E>(&self, look: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let asked = Instant::now();
        let mut newest = self.0.lock().await;
        if let Some((done, value)) = &*newest
            && *done >= asked
        {
            return Ok(value.clone());
        }
        let value = look.await?;
        *newest = Some((Instant::now(), value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_share_and_those_who_come_later_do_not() {
        let (together, looks) = (Together::default(), AtomicU32::new(0));
        let look = || {
            together.look(async {
                sleep(Duration::from_secs(1)).await;
                Ok::<_, ()>(looks.fetch_add(1, Ordering::Relaxed))
            })
        };
        let late = async {
            sleep(Duration::from_millis(900)).await;
            look().await
        };
        assert_eq!(
            tokio::join!(look(), look(), late),
            (Ok(0), Ok(0), Ok(0)),
            "one look for all three"
        );
        sleep(Duration::from_millis(1)).await;
        assert_eq!(look().await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_up_or_fails_leaves_the_place_to_the_next() {
        let together = Together::<u32>::default();
        let gone = together.look(std::future::pending::<Result<u32, &str>>());
        assert!(
            tokio::time::timeout(Duration::from_secs(1), gone)
                .await
                .is_err()
        );
        assert_eq!(together.look(async { Err("no") }).await, Err("no"));
        assert_eq!(together.look(async { Ok::<_, &str>(7) }).await, Ok(7));
    }
}
