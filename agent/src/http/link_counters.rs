//! Counts what happens to the link: sessions, and the time for which the broker takes nothing.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use muster_link::LinkStatus;
use tokio::sync::watch;
use tokio::time::Instant;

/// The counts since the start.
#[derive(Debug, Default)]
pub(crate) struct LinkCounters(Mutex<Counts>);

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    sessions: u64,
    blocked: Duration,
    blocked_since: Option<Instant>,
}

impl LinkCounters {
    /// Counts until the link is gone.
    pub(crate) async fn watch(&self, mut status: watch::Receiver<LinkStatus>) {
        loop {
            let now = status.borrow_and_update().clone();
            self.take(&now, Instant::now());
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    fn take(&self, status: &LinkStatus, now: Instant) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let blocked = matches!(
            status,
            LinkStatus::Up {
                blocked: Some(_),
                ..
            }
        );
        if let LinkStatus::Up { session, .. } = status {
            counts.sessions = *session;
        }
        match (counts.blocked_since, blocked) {
            (None, true) => counts.blocked_since = Some(now),
            (Some(since), false) => {
                counts.blocked += now - since;
                counts.blocked_since = None;
            }
            _ => {}
        }
    }

    /// Sessions that were built.
    pub(crate) fn sessions(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sessions
    }

    /// How long the broker has taken nothing, all in all.
    pub(crate) fn blocked(&self) -> Duration {
        let counts = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.blocked
            + counts
                .blocked_since
                .map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_time_adds_up() {
        let counters = LinkCounters::default();
        let up = |session, blocked: bool| LinkStatus::Up {
            session,
            blocked: blocked.then(|| "memory".to_owned()),
        };
        let start = Instant::now() - Duration::from_secs(100);
        let at = |s| start + Duration::from_secs(s);
        counters.take(&up(1, false), at(0));
        counters.take(&up(1, true), at(10));
        counters.take(&up(1, true), at(12));
        counters.take(&up(1, false), at(15));
        counters.take(&up(2, true), at(20));
        counters.take(&LinkStatus::Stopped, at(21));
        assert_eq!(counters.sessions(), 2);
        assert_eq!(counters.blocked(), Duration::from_secs(6));
    }
}
