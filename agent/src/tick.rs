//! When what is regular falls due: one grid for the whole agent, so that intervals that divide each other fall together
//! and the host wakes up once for all of them. Its phase differs from agent to agent, so that a fleet does not.

use std::time::Duration;

use muster_link::stamp;
use tokio::time::Instant;

/// Longest interval over which the phases of a fleet are spread evenly.
pub const PHASE_MAX: Duration = Duration::from_secs(3600);

/// The grid of one agent.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    start: Instant,
    phase: Duration,
}

impl Grid {
    /// A grid that begins at `start`, with a phase chosen by chance from zero to [`PHASE_MAX`].
    #[must_use]
    pub const fn new(start: Instant, phase: Duration) -> Self {
        Self { start, phase }
    }

    /// A grid that begins at `start`, with a phase of its own.
    #[must_use]
    pub fn by_chance(start: Instant) -> Self {
        Self::new(start, random_phase())
    }

    /// Time since the grid began; never goes back.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.start.elapsed()
    }

    /// The next tick of `interval` after `now`.
    #[must_use]
    pub fn next(&self, now: Instant, interval: Duration) -> Instant {
        now + until_next(
            now.saturating_duration_since(self.start),
            self.phase,
            interval,
        )
    }
}

/// From `now` to the next moment that is a whole number of intervals away from `phase`; never zero.
fn until_next(now: Duration, phase: Duration, interval: Duration) -> Duration {
    let step = interval.as_nanos().max(1);
    let into = (now.as_nanos() + step - phase.as_nanos() % step) % step;
    Duration::from_nanos(u64::try_from(step - into).unwrap_or(u64::MAX))
}

/// A phase by chance; without the kernel's random numbers, the clock's last digits do.
fn random_phase() -> Duration {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        bytes = stamp::now_ms().to_le_bytes();
    }
    let max_ms = u64::try_from(PHASE_MAX.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    Duration::from_millis(u64::from_le_bytes(bytes) % max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_whole_intervals_away_from_the_phase() {
        let s = Duration::from_secs;
        for (now, phase, interval, want) in [
            (s(0), s(0), s(10), s(10)),
            (s(0), s(3), s(10), s(3)),
            (s(3), s(3), s(10), s(10)),
            (s(4), s(3), s(10), s(9)),
            (s(0), s(123), s(10), s(3)),
            (s(25), s(123), s(30), s(8)),
        ] {
            assert_eq!(
                until_next(now, phase, interval),
                want,
                "{now:?} {phase:?} {interval:?}"
            );
        }
    }

    #[test]
    fn a_longer_interval_falls_on_ticks_of_one_that_divides_it() {
        let start = Instant::now();
        let grid = Grid::new(start, Duration::from_millis(1_234_567));
        let mut now = start;
        for _ in 0..5 {
            let long = grid.next(now, Duration::from_secs(30));
            let mut short = now;
            while short < long {
                short = grid.next(short, Duration::from_secs(10));
            }
            assert_eq!(short, long);
            now = long;
        }
    }
}
