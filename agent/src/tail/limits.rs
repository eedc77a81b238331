//! Rate limits: how many events of a rule are told in a time, and how many were not. Knows no clock: times are passed
//! in. In memory only: what it counts ends with the process.

use std::collections::BTreeMap;

/// A rule's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// Events that are told within `per_ms`.
    pub(super) events: u32,
    /// The time, from the first event in it.
    pub(super) per_ms: u64,
}

/// The rate limits of one section's rules, by the rule's number.
#[derive(Debug, Clone, Default)]
pub struct RateLimits(BTreeMap<usize, Window>);

#[derive(Debug, Clone, Copy)]
struct Window {
    began_ms: u64,
    ends_ms: u64,
    told: u32,
    suppressed: u64,
}

/// What a limit kept back in a time that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suppressed {
    /// The rule's number.
    pub(super) rule: usize,
    /// Events that were not told.
    pub(super) events: u64,
    /// When the time began, in milliseconds since 1970.
    pub(super) since_ms: u64,
}

impl RateLimits {
    /// Whether a summary is due some time: [`tick`](super::Matcher::tick) is then called at least once a second.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.0.values().any(|window| window.suppressed > 0)
    }

    /// Counts an event of `rule`: whether it is told.
    pub(super) fn tells(&mut self, rule: usize, limit: Limit, now_ms: u64) -> bool {
        let window = self.0.entry(rule).or_insert(Window {
            began_ms: now_ms,
            ends_ms: now_ms.saturating_add(limit.per_ms),
            told: 0,
            suppressed: 0,
        });
        if window.told < limit.events {
            window.told += 1;
            return true;
        }
        window.suppressed += 1;
        false
    }

    /// Ends the times that are over; those that kept anything back. A clock that was set back ends them as well.
    pub(super) fn over(&mut self, now_ms: u64) -> Vec<Suppressed> {
        let mut over = Vec::new();
        self.0.retain(|&rule, window| {
            let holds = (window.began_ms..window.ends_ms).contains(&now_ms);
            if !holds && window.suppressed > 0 {
                over.push(Suppressed {
                    rule,
                    events: window.suppressed,
                    since_ms: window.began_ms,
                });
            }
            holds
        });
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        events: 2,
        per_ms: 1000,
    };

    #[test]
    fn so_many_are_told_and_the_others_are_counted() {
        let mut limits = RateLimits::default();
        let told: Vec<bool> = (0..5).map(|at| limits.tells(0, LIMIT, at)).collect();
        assert_eq!(told, [true, true, false, false, false]);
        assert!(limits.pending());
        assert!(limits.tells(1, LIMIT, 5), "rules are counted apart");
        assert_eq!(limits.over(999), []);
        let kept = Suppressed {
            rule: 0,
            events: 3,
            since_ms: 0,
        };
        assert_eq!(limits.over(1000), [kept]);
        assert!(!limits.pending());
        assert!(limits.tells(0, LIMIT, 1001));
        assert_eq!(limits.over(u64::MAX), []);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_silence_a_rule() {
        let mut limits = RateLimits::default();
        (0..3).for_each(|at| _ = limits.tells(0, LIMIT, 1_000_000 + at));
        assert_eq!(limits.over(5).len(), 1);
        assert!(limits.tells(0, LIMIT, 5));
    }
}
