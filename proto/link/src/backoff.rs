//! How long to wait before the next try: pure. It must not know what is tried, nor read a clock.

use std::time::Duration;

/// The first window.
const WINDOW_FIRST: Duration = Duration::from_secs(1);

/// No try sooner than this after a failure, whatever the dice say: a broker that refuses at once is not hammered.
const DELAY_MIN: Duration = Duration::from_millis(50);

/// Delays spread over a window (full jitter) that doubles from one second to a cap.
///
/// Jitter matters from the first try: when a broker comes back, its whole fleet lost it at the same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// With windows of at most `cap`.
    #[must_use]
    pub const fn new(cap: Duration) -> Self {
        Self { cap, failures: 0 }
    }

    /// Failures in a row so far.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts again from the first window.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts one more failure, and says how long to wait now; `random` is any number, evenly spread.
    pub fn next(&mut self, random: u64) -> Duration {
        let window = self.window();
        self.failures = self.failures.saturating_add(1);
        let span_ns = u128::from(
            u64::try_from(window.saturating_sub(DELAY_MIN).as_nanos()).unwrap_or(u64::MAX),
        );
        let part_ns = (span_ns * u128::from(random)) >> 64;
        DELAY_MIN + Duration::from_nanos(u64::try_from(part_ns).unwrap_or(u64::MAX))
    }

    /// The window of the next delay.
    fn window(&self) -> Duration {
        let doubled = 1_u32
            .checked_shl(self.failures)
            .filter(|factor| *factor > 0);
        let window = doubled
            .and_then(|factor| WINDOW_FIRST.checked_mul(factor))
            .unwrap_or(self.cap);
        window.min(self.cap).max(DELAY_MIN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_delay_lies_in_its_window(cap_ms in 1_u64..4_000_000, dice in prop::collection::vec(any::<u64>(), 1..80)) {
            let cap = Duration::from_millis(cap_ms);
            let mut backoff = Backoff::new(cap);
            for (failures, random) in dice.into_iter().enumerate() {
                let delay = backoff.next(random);
                let window = WINDOW_FIRST.saturating_mul(1 << failures.min(20)).min(cap).max(DELAY_MIN);
                prop_assert!(delay >= DELAY_MIN, "{delay:?}");
                prop_assert!(delay <= window, "{delay:?} over {window:?}");
                prop_assert_eq!(backoff.failures() as usize, failures + 1);
            }
        }

        #[test]
        fn more_luck_never_means_a_longer_wait(failures in 0_u32..70, a in any::<u64>(), b in any::<u64>()) {
            let after = |random| Backoff { cap: Duration::from_secs(30), failures }.next(random);
            prop_assert!(after(a.min(b)) <= after(a.max(b)));
        }
    }

    #[test]
    fn windows_double_to_the_cap_and_are_used_to_their_ends() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let longest: Vec<u128> = (0..5).map(|_| backoff.next(u64::MAX).as_millis()).collect();
        assert_eq!(longest, [999, 1999, 3999, 4999, 4999]);
        assert_eq!(backoff.next(0), DELAY_MIN);
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX).as_millis(), 999);
    }

    #[test]
    fn a_fleet_is_spread_evenly() {
        let delays: Vec<Duration> = (0..1000_u64)
            .map(|host| {
                let mut backoff = Backoff {
                    cap: Duration::from_secs(30),
                    failures: 10,
                };
                backoff.next(host.wrapping_mul(u64::MAX / 1000))
            })
            .collect();
        for tenth in 0..10 {
            let (from, to) = (
                Duration::from_secs(3 * tenth),
                Duration::from_secs(3 * (tenth + 1)),
            );
            let count = delays
                .iter()
                .filter(|delay| (from..to).contains(*delay))
                .count();
            assert!(
                (90..=110).contains(&count),
                "{count} of 1000 in {from:?}..{to:?}"
            );
        }
    }
}
