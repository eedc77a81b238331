//! How a collector with its own source of news asks for a run: from any thread, as often as it likes. Knows neither
//! the news nor the schedule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Asks the schedule for a run of one collector, soon. The default one reaches nobody: there is no schedule where
/// collectors run once.
///
/// A collector that listens to something (signals on a bus, a pipe) has a thread that puts what it hears in a bounded
/// queue and wakes; `collect` takes it from there. Such a thread is started by a run and not by the build, only where
/// [`Wake::is_connected`], and it ends with the collector.
#[derive(Clone, Debug, Default)]
pub struct Wake(Option<Arc<Bell>>);

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    ear: Arc<Notify>,
}

impl Wake {
    /// One whose calls make `ear` listen.
    pub(super) fn heard_by(ear: Arc<Notify>) -> Self {
        Self(Some(Arc::new(Bell {
            rung: AtomicBool::new(false),
            ear,
        })))
    }

    /// Asks for a run. Calls before that run begins are one; a call after its beginning gets another run, so that what
    /// was queued before the call is always seen by a whole run. Storms are slowed down by the schedule.
    pub fn now(&self) {
        if let Some(bell) = &self.0
            && !bell.rung.swap(true, Ordering::AcqRel)
        {
            bell.ear.notify_one();
        }
    }

    /// Whether anybody listens. Without, a run is all there will ever be, and nothing is to be started that outlives it.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a run was asked for and has not begun.
    pub(super) fn is_rung(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|bell| bell.rung.load(Ordering::Acquire))
    }

    /// A run begins: whatever was asked for until now is met by it.
    pub(super) fn silence(&self) {
        if let Some(bell) = &self.0 {
            bell.rung.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_default_reaches_nobody() {
        let wake = Wake::default();
        wake.now();
        assert!(!wake.is_connected() && !wake.is_rung());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_before_a_run_are_one() {
        let ear = Arc::<Notify>::default();
        let wake = Wake::heard_by(ear.clone());
        let (near, far) = (wake.clone(), wake.clone());
        let thread = std::thread::spawn(move || (0..1000).for_each(|_| far.now()));
        (0..1000).for_each(|_| near.now());
        assert!(thread.join().is_ok());
        let heard = || timeout(Duration::from_secs(3600), ear.notified());
        assert!(heard().await.is_ok() && wake.is_rung());
        assert!(heard().await.is_err(), "a second call came through");
        wake.silence();
        assert!(!wake.is_rung());
        wake.now();
        assert!(heard().await.is_ok(), "the call after the run's beginning");
    }
}
