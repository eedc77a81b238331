//! Counters become rates: wraps, resets and rounding in one place. Knows no clock and no file.

use muster_proto::snapshot::host::Counter;

/// Where a kernel counter starts again from zero by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrap {
    /// 64 bits wide: going back is a reset.
    Never,
    /// 32 bits wide.
    At32,
}

impl Wrap {
    /// The width of the kernel's `unsigned long`, taken as that of the agent.
    pub(crate) const LONG: Self = if cfg!(target_pointer_width = "64") {
        Self::Never
    } else {
        Self::At32
    };
}

/// A value and when it was seen, to be compared with the next.
#[derive(Clone, Debug)]
pub(crate) struct Seen<T> {
    /// By the monotonic clock.
    pub(crate) mono_ms: u64,
    /// What was seen.
    pub(crate) value: T,
}

impl<T> Seen<T> {
    /// Seconds from then to `mono_ms`; none where no time has passed.
    pub(crate) fn seconds_to(&self, mono_ms: u64) -> Option<f64> {
        let ms = mono_ms.checked_sub(self.mono_ms).filter(|ms| *ms > 0)?;
        Some(lossy(ms) / 1000.0)
    }
}

/// Growth from `before` to `after`; none where the counter began anew.
pub(crate) fn growth(before: u64, after: u64, wrap: Wrap) -> Option<u64> {
    const HALF: u64 = 1 << 31;
    if let Some(grown) = after.checked_sub(before) {
        return Some(grown);
    }
    if wrap == Wrap::Never || before > u64::from(u32::MAX) {
        return None;
    }
    // More than half a turn in one interval is taken for a reset: no counter of ours is that fast.
    after
        .checked_add(1 << 32)?
        .checked_sub(before)
        .filter(|grown| *grown < HALF)
}

/// A counter with its rate, where there is something to compare with: the value before and the seconds since then.
pub(crate) fn counter(total: u64, before: Option<(u64, f64)>, wrap: Wrap) -> Counter {
    let per_s = before.and_then(|(before, seconds)| {
        growth(before, total, wrap).map(|grown| thousandth(lossy(grown) / seconds))
    });
    Counter { total, per_s }
}

/// `part` of `whole` in percent, 0 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        thousandth(lossy(part) * 100.0 / lossy(whole))
    }
}

/// Rounds to a thousandth, so that figures read well and messages stay small.
pub(crate) fn thousandth(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A count as a float; exact up to 2^53, more than any rate needs.
pub(crate) fn lossy(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_knows_wraps_from_resets() {
        const TOP: u64 = u32::MAX as u64;
        for (name, before, after, wrap, want) in [
            ("grows", 10, 15, Wrap::Never, Some(5)),
            ("stands", 10, 10, Wrap::At32, Some(0)),
            ("goes back, 64 bits", 10, 9, Wrap::Never, None),
            ("wraps, 32 bits", TOP - 1, 3, Wrap::At32, Some(5)),
            (
                "goes back a little, 32 bits: a reset, not a whole turn",
                1000,
                0,
                Wrap::At32,
                None,
            ),
            (
                "was beyond 32 bits: not a wrap",
                TOP + 9,
                3,
                Wrap::At32,
                None,
            ),
            (
                "grows beyond 32 bits",
                TOP - 1,
                TOP + 4,
                Wrap::Never,
                Some(5),
            ),
            ("largest", 0, u64::MAX, Wrap::Never, Some(u64::MAX)),
        ] {
            assert_eq!(growth(before, after, wrap), want, "{name}");
        }
    }

    #[test]
    fn counter_has_a_rate_only_with_a_before() {
        assert_eq!(counter(7, None, Wrap::Never).per_s, None);
        assert_eq!(
            counter(7, Some((2, 10.0)), Wrap::Never),
            Counter {
                total: 7,
                per_s: Some(0.5)
            }
        );
        assert_eq!(
            counter(1, Some((2, 10.0)), Wrap::Never),
            Counter {
                total: 1,
                per_s: None
            }
        );
    }

    #[test]
    fn no_rate_over_no_time() {
        let seen = Seen {
            mono_ms: 5,
            value: (),
        };
        assert_eq!(seen.seconds_to(5), None);
        assert_eq!(seen.seconds_to(4), None);
        assert_eq!(seen.seconds_to(1005), Some(1.0));
    }
}
