//! How full something is, as a state that does not flap: it rises at its threshold and falls a little lower. Pure.

/// How far below its threshold a state is left again, in percent.
const HYSTERESIS_PERCENT: f64 = 2.0;

/// How full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Below the thresholds.
    #[default]
    Normal,
    /// Above the lower one.
    Warning,
    /// Above the upper one.
    Critical,
}

impl Level {
    /// The name in events.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The state after `self` at `used` percent.
    pub(super) fn next(self, used: f64, warning: f64, critical: f64) -> Self {
        let holds = |level: Self, threshold: f64| {
            used >= threshold || (self >= level && used > threshold - HYSTERESIS_PERCENT)
        };
        if holds(Self::Critical, critical) {
            Self::Critical
        } else if holds(Self::Warning, warning) {
            Self::Warning
        } else {
            Self::Normal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_at_once_and_falls_two_percent_lower() {
        let mut level = Level::default();
        for (used, want) in [
            (89.9, Level::Normal),
            (90.0, Level::Warning),
            (88.1, Level::Warning),
            (88.0, Level::Normal),
            (89.9, Level::Normal),
            (99.0, Level::Critical),
            (93.5, Level::Critical),
            (93.0, Level::Warning),
            (94.9, Level::Warning),
            (96.0, Level::Critical),
            (10.0, Level::Normal),
        ] {
            level = level.next(used, 90.0, 95.0);
            assert_eq!(level, want, "at {used}");
        }
    }
}
