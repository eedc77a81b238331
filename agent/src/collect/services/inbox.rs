//! Between the thread that listens to the bus and the collector's runs: what was heard and not yet looked at, in order
//! and bounded. Knows neither side.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::facts::Facts;

/// Units watched, at most; what a snapshot of them takes fits a message.
pub(super) const UNITS_MAX: usize = 1_000;

/// News that wait for a run, at most: some for each unit. A restart of a unit is five of them, and a run is due after a
/// tenth of a second.
const NEWS_MAX: usize = 4 * UNITS_MAX;

/// One thing heard.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// A unit is like this now.
    Unit {
        name: String,
        facts: Box<Facts>,
        at: Instant,
    },
    /// A unit is no longer loaded.
    Gone { name: String },
    /// Everything was read since the connection was made: what came until here is whole.
    Whole { version: Option<String>, at_ms: u64 },
    /// There is no connection any more, or still none.
    Lost { error: String, at_ms: u64 },
}

/// Figures of the thread since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) signals: u64,
    /// News that were overtaken by later ones of the same unit, because too many waited.
    pub(super) merged: u64,
    /// Units that are not watched because there are too many, when everything was last read.
    pub(super) left_out: u64,
}

/// What is shared with the thread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    inner: Mutex<Inner>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    news: VecDeque<News>,
    counts: Counts,
    /// Whether the first attempt to connect and read has come to an end, good or bad.
    settled: bool,
}

impl Inbox {
    /// Takes something heard.
    pub(super) fn put(&self, news: News) {
        let mut inner = self.lock();
        if inner.news.len() >= NEWS_MAX {
            let merged = merge(&mut inner.news);
            inner.counts.merged += merged;
        }
        if matches!(news, News::Whole { .. } | News::Lost { .. }) {
            inner.settled = true;
            self.settled.notify_all();
        }
        inner.news.push_back(news);
    }

    /// Changes the figures.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
    }

    /// Everything that waits, and the figures.
    pub(super) fn take(&self) -> (VecDeque<News>, Counts) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.news), inner.counts)
    }

    /// Waits until the first attempt is over, for `limit` at the most.
    pub(super) fn await_settled(&self, limit: Duration) {
        let waited = self
            .settled
            .wait_timeout_while(self.lock(), limit, |inner| !inner.settled);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the last news of each unit, and of the connection; how many have gone.
fn merge(news: &mut VecDeque<News>) -> u64 {
    let before = news.len();
    let mut known: BTreeSet<Option<String>> = BTreeSet::new();
    let mut last: VecDeque<News> = VecDeque::with_capacity(before);
    for one in news.drain(..).rev() {
        let subject = match &one {
            News::Unit { name, .. } | News::Gone { name } => Some(name.clone()),
            News::Whole { .. } | News::Lost { .. } => None,
        };
        if known.insert(subject) {
            last.push_front(one);
        }
    }
    *news = last;
    u64::try_from(before - news.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_the_last_of_each_unit_and_says_so() {
        let inbox = Inbox::default();
        let at = Instant::now();
        let unit = |name: usize, pid: u32| News::Unit {
            at,
            name: format!("{name}.service"),
            facts: Box::new(Facts {
                main_pid: pid,
                ..Facts::default()
            }),
        };
        let floods = 20_000;
        for pid in 0..floods {
            inbox.put(unit(usize::from(pid % 2 == 0), pid));
        }
        let (news, counts) = inbox.take();
        assert!(news.len() <= NEWS_MAX);
        assert_eq!(
            counts.merged + u64::try_from(news.len()).unwrap_or(0),
            u64::from(floods)
        );
        let last: Vec<_> = news.iter().rev().take(2).rev().cloned().collect();
        assert_eq!(last, [unit(1, floods - 2), unit(0, floods - 1)]);
        assert!(inbox.take().0.is_empty());
    }

    #[test]
    fn who_waits_is_told_when_the_first_attempt_is_over() {
        let inbox = Inbox::default();
        inbox.await_settled(Duration::from_millis(1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                inbox.put(News::Lost {
                    error: "no bus".to_owned(),
                    at_ms: 1,
                });
            });
            inbox.await_settled(Duration::from_secs(60));
        });
        assert_eq!(inbox.take().0.len(), 1);
    }
}
