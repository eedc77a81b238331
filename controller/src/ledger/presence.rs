//! When a host was last heard of, from the presence stream: pure. It must not know the broker or the file.
//!
//! A stream's consumer is not told when a message came in, and the hosts' clocks may be wrong. But the order of the stream
//! is true, and reading it from a time on bounds what comes: so a stamp within the bounds is believed, and any other is
//! replaced by that of the message before.

use muster_proto::presence::Presence;

/// Presence is looked for this far back where nothing is cached: three intervals of the default 30 s.
pub const WINDOW_MS: u64 = 90_000;

/// A host whose presence is overdue by one and a half intervals is away: one message may be lost, and the next be late.
const INTERVALS_TIMES_TEN: u64 = 25;

/// Estimates when messages of a stream came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    from_ms: u64,
    until_ms: u64,
    last_ms: u64,
}

impl Arrival {
    /// For messages that came in between `from_ms` and `until_ms`, by this program's clock.
    #[must_use]
    pub const fn between(from_ms: u64, until_ms: u64) -> Self {
        Self {
            from_ms,
            until_ms,
            last_ms: from_ms,
        }
    }

    /// When the next message, stamped `stamp_ms` by its sender, came in.
    pub fn of(&mut self, stamp_ms: u64) -> u64 {
        if (self.from_ms..=self.until_ms).contains(&stamp_ms) {
            self.last_ms = stamp_ms;
        }
        self.last_ms
    }
}

/// Whether a host whose newest presence came in at `seen_ms` is there at `now_ms`.
#[must_use]
pub fn is_there(presence: &Presence, seen_ms: u64, now_ms: u64) -> bool {
    let patience_ms = presence.interval_ms.saturating_mul(INTERVALS_TIMES_TEN) / 10;
    !presence.goodbye && now_ms.saturating_sub(seen_ms) <= patience_ms
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_believed_within_the_bounds_and_replaced_outside() {
        let mut arrival = Arrival::between(1_000, 2_000);
        for (stamp, want) in [
            (5, 1_000),
            (1_200, 1_200),
            (9_999, 1_200),
            (0, 1_200),
            (1_900, 1_900),
            (2_001, 1_900),
        ] {
            assert_eq!(arrival.of(stamp), want, "{stamp}");
        }
    }

    #[test]
    fn a_host_is_away_after_two_and_a_half_intervals_or_a_goodbye() {
        let presence = |goodbye| Presence {
            host: "a".parse().unwrap(),
            at_ms: 0,
            interval_ms: 30_000,
            seq: 0,
            goodbye,
            version: String::new(),
            boot_id: String::new(),
            started_at_ms: 0,
            labels: [].into(),
            facts: [].into(),
            outbox: muster_proto::presence::OutboxDepth::default(),
            last_job: None,
            last_confirm_at_ms: None,
            jobs_open: 0,
            failing: [].into(),
        };
        assert!(is_there(&presence(false), 1_000_000, 1_075_000));
        assert!(!is_there(&presence(false), 1_000_000, 1_075_001));
        assert!(
            is_there(&presence(false), 1_000_000, 999_000),
            "a clock that was set back"
        );
        assert!(!is_there(&presence(true), 1_000_000, 1_000_001));
    }
}
