//! One collector's place in the schedule: when it is due, by its grid and by its own wish. Knows no thread and no other
//! collector.

use std::time::Duration;

use muster_proto::packed::Packed;
use tokio::time::Instant;

use super::super::{Built, Collect, Spec, Timing, Wake};
use super::handle::Answer;
use crate::tick::Grid;

/// From the end of a run to the next one that its collector asks for, at least: a storm of news must not keep the
/// thread of all collectors busy.
pub(super) const WOKEN_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Slot {
    pub(super) spec: &'static Spec,
    pub(super) timing: Timing,
    /// `None` while it runs.
    pub(super) collector: Option<Box<dyn Collect>>,
    pub(super) wake: Wake,
    /// The next run on the grid.
    due: Instant,
    /// It has asked for a run that is not queued yet.
    woken: bool,
    /// Until then it may ask in vain.
    quiet_until: Instant,
    pub(super) seq: u64,
    pub(super) failing_since: Option<Instant>,
    pub(super) fresh: Option<(Instant, Packed)>,
    pub(super) waiting: Vec<Answer>,
}

impl Slot {
    /// Due `now`.
    pub(super) fn new(built: Built, now: Instant) -> Self {
        Self {
            spec: built.spec,
            timing: built.timing,
            collector: Some(built.collector),
            wake: built.wake,
            due: now,
            woken: false,
            quiet_until: now,
            seq: 0,
            failing_since: None,
            fresh: None,
            waiting: Vec::new(),
        }
    }

    /// Notes whether it has asked for a run.
    pub(super) fn listen(&mut self) {
        self.woken |= self.wake.is_rung();
    }

    /// When it is to be looked at again.
    pub(super) fn next(&self) -> Instant {
        self.woken_due()
            .map_or(self.due, |woken| woken.min(self.due))
    }

    /// Whether it is to run at `now`. What was due is then the schedule's business, and what comes next is set.
    pub(super) fn take_due(&mut self, now: Instant, grid: Grid) -> bool {
        let regular = self.due <= now;
        if regular {
            self.due = grid.next(now, self.timing.interval);
        }
        let woken = self.woken_due().is_some_and(|due| due <= now);
        if woken {
            self.woken = false;
        }
        regular || woken
    }

    /// A run begins, which meets every wish up to now.
    pub(super) fn begin(&mut self) {
        self.wake.silence();
        self.woken = false;
    }

    /// A run has ended, and the collector is back.
    pub(super) fn end(&mut self, collector: Option<Box<dyn Collect>>, now: Instant) {
        self.collector = collector;
        self.quiet_until = now + WOKEN_PAUSE;
    }

    /// A wish that comes while it runs is met when it is back.
    fn woken_due(&self) -> Option<Instant> {
        (self.woken && self.collector.is_some()).then_some(self.quiet_until)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::super::super::{CollectContext, CollectError, Collected, ConfigError, SampleTime};
    use super::*;

    struct Nothing;

    impl Collect for Nothing {
        fn collect(&mut self, _: SampleTime) -> Result<Collected, CollectError> {
            Collected::of("nothing", &(), Vec::new())
        }
    }

    fn build(_: &CollectContext) -> Result<Box<dyn Collect>, ConfigError> {
        Ok(Box::new(Nothing))
    }

    static SPEC: Spec = Spec {
        name: "nothing",
        summary: "",
        interval_default: Duration::from_secs(10),
        deadline_default: Duration::from_secs(10),
        sample: "",
        build,
    };

    const INTERVAL: Duration = Duration::from_secs(10);
    const MS: Duration = Duration::from_millis(1);

    /// A slot that was run at `now`, on a grid that begins there.
    fn ran(now: Instant) -> (Slot, Grid, Wake) {
        let wake = Wake::heard_by(Arc::<Notify>::default());
        let timing = Timing {
            enabled: true,
            interval: INTERVAL,
            deadline: INTERVAL,
        };
        let built = Built {
            spec: &SPEC,
            timing,
            collector: Box::new(Nothing),
            wake: wake.clone(),
        };
        let (mut slot, grid) = (Slot::new(built, now), Grid::new(now, Duration::ZERO));
        assert!(slot.take_due(now, grid));
        run(&mut slot, now, now);
        (slot, grid, wake)
    }

    fn run(slot: &mut Slot, from: Instant, to: Instant) {
        assert!(from <= to);
        slot.begin();
        slot.collector = None;
        slot.end(Some(Box::new(Nothing)), to);
    }

    #[test]
    fn a_wish_is_met_at_once_where_it_was_quiet_and_leaves_the_grid_alone() {
        let start = Instant::now();
        let (mut slot, grid, wake) = ran(start);
        let later = start + INTERVAL / 2;
        wake.now();
        slot.listen();
        assert!(slot.next() <= later && slot.take_due(later, grid));
        run(&mut slot, later, later);
        slot.listen();
        assert_eq!(slot.next(), start + INTERVAL);
        assert!(!slot.take_due(start + INTERVAL - MS, grid));
        assert!(slot.take_due(start + INTERVAL, grid));
        assert_eq!(slot.next(), start + 2 * INTERVAL);
    }

    #[test]
    fn a_storm_gets_a_run_in_a_pause_and_no_more() {
        let start = Instant::now();
        let (mut slot, grid, wake) = ran(start);
        let (mut runs, took) = (0, 30 * MS);
        let mut now = start;
        while now < start + INTERVAL - MS {
            wake.now();
            slot.listen();
            if slot.take_due(now, grid) {
                runs += 1;
                run(&mut slot, now, now + took);
                now += took;
            }
            now += MS;
        }
        let most = INTERVAL.as_millis() / (WOKEN_PAUSE + took).as_millis() + 1;
        assert!(
            (2..=most).contains(&runs),
            "{runs} runs, {most} at the most"
        );
    }

    #[test]
    fn a_wish_during_a_run_is_met_after_it_and_once() {
        let start = Instant::now();
        let (mut slot, grid, wake) = ran(start);
        slot.begin();
        slot.collector = None;
        wake.now();
        slot.listen();
        wake.now();
        slot.listen();
        assert_eq!(slot.next(), start + INTERVAL, "it runs: nothing to look at");
        let end = start + INTERVAL / 2;
        slot.end(Some(Box::new(Nothing)), end);
        assert_eq!(slot.next(), end + WOKEN_PAUSE);
        assert!(!slot.take_due(end, grid));
        assert!(slot.take_due(end + WOKEN_PAUSE, grid));
        assert!(!slot.take_due(end + WOKEN_PAUSE, grid), "queued already");
        run(&mut slot, end + WOKEN_PAUSE, end + WOKEN_PAUSE);
        slot.listen();
        assert_eq!(slot.next(), start + INTERVAL);
    }

    #[test]
    fn a_wish_before_a_run_that_comes_for_another_reason_is_met_by_it() {
        let start = Instant::now();
        let (mut slot, grid, wake) = ran(start);
        wake.now();
        slot.listen();
        run(&mut slot, start, start);
        slot.listen();
        assert!(!slot.take_due(start + WOKEN_PAUSE, grid));
    }
}
