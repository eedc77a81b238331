//! `GetLvsTraffic`: what was added to each virtual service's counters in the last ten seconds. Pure: samples go in with
//! their times, and nothing is asked for here.

use std::collections::{BTreeMap, VecDeque};

/// The time that is answered for, in milliseconds.
pub(super) const WINDOW_MS: u64 = 10_000;

/// Samples kept at the most; the eyes take one a second at the most.
const SAMPLES_MAX: usize = 32;

/// Connections, packets in and out, bytes in and out.
pub(super) type Counters = [u64; 5];

/// The counters of every virtual service at one moment.
#[derive(Debug, Clone, Default)]
struct Sample {
    mono_ms: u64,
    services: BTreeMap<String, Counters>,
}

/// The samples of the last while, oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

impl History {
    /// Adds a sample; one that is no newer than the last is passed over.
    pub(super) fn push(&mut self, mono_ms: u64, services: BTreeMap<String, Counters>) {
        if self.0.back().is_some_and(|last| last.mono_ms >= mono_ms) {
            return;
        }
        self.0.push_back(Sample { mono_ms, services });
        // One sample from before the window is kept, so that the window is covered.
        let begin = mono_ms.saturating_sub(WINDOW_MS);
        while self.0.len() > SAMPLES_MAX
            || self.0.get(1).is_some_and(|second| second.mono_ms <= begin)
        {
            self.0.pop_front();
        }
    }

    /// When the newest sample was taken.
    pub(super) fn newest_ms(&self) -> Option<u64> {
        self.0.back().map(|sample| sample.mono_ms)
    }

    /// What the ten seconds before the newest sample have added, by service; how many milliseconds are missing where the
    /// samples don't reach back so far. Growth between two samples counts as even; a counter that went back began anew.
    pub(super) fn added(&self) -> Result<BTreeMap<&str, Counters>, u64> {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else {
            return Err(WINDOW_MS);
        };
        let covered = last.mono_ms - first.mono_ms;
        if covered < WINDOW_MS {
            return Err(WINDOW_MS - covered);
        }
        let begin = last.mono_ms - WINDOW_MS;
        let mut sums: BTreeMap<&str, [f64; 5]> = BTreeMap::new();
        for (before, after) in self.0.iter().zip(self.0.iter().skip(1)) {
            let span = after.mono_ms - before.mono_ms;
            let inside = after.mono_ms.saturating_sub(begin.max(before.mono_ms));
            let share = inside as f64 / span.max(1) as f64;
            for (name, counters) in &after.services {
                let known = before.services.get(name).copied().unwrap_or_default();
                let sums = sums.entry(name).or_default();
                for ((sum, now), known) in sums.iter_mut().zip(counters).zip(known) {
                    *sum += now.checked_sub(known).unwrap_or(*now) as f64 * share;
                }
            }
        }
        let there = |(name, _): &(&str, _)| last.services.contains_key(*name);
        // Growth is never negative, so that this cuts nothing off.
        let whole = |sums: [f64; 5]| sums.map(|sum| sum.round() as u64);
        Ok(sums
            .into_iter()
            .filter(there)
            .map(|(name, sums)| (name, whole(sums)))
            .collect())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(pairs: &[(&str, u64)]) -> BTreeMap<String, Counters> {
        pairs
            .iter()
            .map(|(name, count)| ((*name).to_owned(), [*count, 0, 0, 0, 0]))
            .collect()
    }

    fn check(samples: &[(u64, &[(&str, u64)])], want: Result<&[(&str, u64)], u64>) {
        let mut history = History::default();
        for (at, pairs) in samples {
            history.push(*at, sample(pairs));
        }
        let found = history.added().map(|added| {
            added
                .into_iter()
                .map(|(name, sums)| (name, sums[0]))
                .collect::<Vec<_>>()
        });
        assert_eq!(found, want.map(<[_]>::to_vec), "{samples:?}");
    }

    #[test]
    fn ten_seconds_exactly_or_in_parts() {
        check(&[], Err(10_000));
        check(&[(0, &[("a", 5)])], Err(10_000));
        check(&[(0, &[("a", 5)]), (4_000, &[("a", 6)])], Err(6_000));
        check(
            &[(0, &[("a", 5)]), (10_000, &[("a", 25)])],
            Ok(&[("a", 20)]),
        );
        check(
            &[(0, &[("a", 5)]), (20_000, &[("a", 25)])],
            Ok(&[("a", 10)]),
        );
        check(
            &[
                (0, &[("a", 5)]),
                (8_000, &[("a", 5)]),
                (12_000, &[("a", 9)]),
                (13_000, &[("a", 10)]),
            ],
            Ok(&[("a", 5)]),
        );
        check(
            &[
                (0, &[("a", 0)]),
                (4_000, &[("a", 40)]),
                (12_000, &[("a", 48)]),
            ],
            Ok(&[("a", 28)]),
        );
    }

    #[test]
    fn services_come_and_go_and_counters_begin_anew() {
        check(
            &[
                (0, &[("a", 5)]),
                (5_000, &[("a", 6), ("b", 7)]),
                (10_000, &[("b", 9)]),
            ],
            Ok(&[("b", 9)]),
        );
        check(
            &[
                (0, &[("a", 500)]),
                (5_000, &[("a", 520)]),
                (10_000, &[("a", 3)]),
            ],
            Ok(&[("a", 23)]),
        );
        check(&[(0, &[]), (10_000, &[])], Ok(&[]));
    }

    #[test]
    fn what_is_older_than_the_window_goes_and_the_rest_is_bounded() {
        let mut history = History::default();
        for at in 0..1_000 {
            history.push(at * 1_000, sample(&[("a", at)]));
            assert!(history.0.len() <= 12);
        }
        assert_eq!(history.added().unwrap().get("a").unwrap()[0], 10);
        for at in 1_000_000..1_000_100 {
            history.push(at, sample(&[]));
        }
        assert_eq!(history.0.len(), SAMPLES_MAX);
        history.push(5, sample(&[("z", 1)]));
        assert_eq!(history.newest_ms(), Some(1_000_099));
    }

    proptest! {
        #[test]
        fn steady_growth_is_found_whatever_the_samples(steps in prop::collection::vec(1_u64..9_000, 5..40), per_s in 0_u64..100_000) {
            let mut history = History::default();
            let mut at = 0;
            for step in steps {
                history.push(at, sample(&[("a", at * per_s)]));
                at += step;
            }
            if let Ok(added) = history.added() {
                prop_assert_eq!(added.get("a").unwrap()[0], WINDOW_MS * per_s);
            }
        }
    }
}
