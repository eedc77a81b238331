//! One collector's figures of one host: the newest exactly, and a few before them.
//!
//! What is older is kept as what must be undone to get it back: a bit for each figure, and the value before for each that
//! changed. Most figures of most hosts don't, from one snapshot to the next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::catalog::Code;
use super::shape::{Labels, Shape};

/// Between two snapshots whose interval is not known yet.
const INTERVAL_DEFAULT_MS: u64 = 60_000;

/// What is told of a figure: for counters the growth per second, for all others the figure itself. Not a number where it
/// is not known. Seven digits are enough for what was; the newest is exact.
type Pace = f32;

/// The figures.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) shape: Arc<Shape>,
    /// The newest figures as they were read; counters by their totals.
    last: Box<[f64]>,
    paces: Box<[Pace]>,
    undo: VecDeque<Undo>,
    /// When the newest was taken, by the host's clock.
    pub(super) at_ms: u64,
    /// When it came in, by ours.
    pub(super) seen_ms: u64,
    /// Not known before the second snapshot.
    interval_ms: Option<u64>,
    /// Figures that found no room.
    pub(super) left_out: usize,
}

/// How to get back to the figures before.
#[derive(Debug)]
struct Undo {
    at_ms: u64,
    /// A bit for each figure.
    changed: Box<[u8]>,
    /// For each whose bit is set.
    before: Box<[Pace]>,
}

/// The figures of one snapshot: the reading, and of counters the pace.
pub(super) type Row = Vec<(f64, Option<f64>)>;

impl Sheet {
    /// With its first figures.
    pub(super) fn new(shape: Arc<Shape>, row: &Row, at_ms: u64, seen_ms: u64) -> Self {
        Self {
            last: row.iter().map(|(reading, _)| *reading).collect(),
            paces: row.iter().map(|figure| pace(*figure)).collect(),
            undo: VecDeque::new(),
            at_ms,
            seen_ms,
            interval_ms: None,
            left_out: 0,
            shape,
        }
    }

    /// Takes the figures of a newer snapshot of the same shape; keeps `points` in all.
    pub(super) fn push(&mut self, row: &Row, at_ms: u64, seen_ms: u64, points: usize) {
        let mut changed = vec![0_u8; self.paces.len().div_ceil(8)];
        let mut before = Vec::new();
        let known = self.paces.iter_mut().zip(self.last.iter_mut());
        for (at, ((old, last), figure)) in known.zip(row).enumerate() {
            let new = pace(*figure);
            if old.to_bits() != new.to_bits() {
                if let Some(byte) = changed.get_mut(at / 8) {
                    *byte |= 1 << (at % 8);
                }
                before.push(*old);
                *old = new;
            }
            *last = figure.0;
        }
        self.undo.push_front(Undo {
            at_ms: self.at_ms,
            changed: changed.into(),
            before: before.into(),
        });
        self.undo.truncate(points.saturating_sub(1));
        self.note(at_ms, seen_ms);
    }

    /// Goes on with another shape; figures that were there before keep what they were.
    pub(super) fn reshape(
        &mut self,
        shape: Arc<Shape>,
        row: &Row,
        at_ms: u64,
        seen_ms: u64,
        points: usize,
    ) {
        let places: HashMap<_, usize> = keys(&self.shape).zip(0..).collect();
        let sources: Vec<Option<usize>> =
            keys(&shape).map(|key| places.get(&key).copied()).collect();
        let moved = |paces: &[Pace]| -> Row {
            let of = |source: &Option<usize>| source.and_then(|at| paces.get(at).copied());
            let found = sources.iter().map(|source| of(source).unwrap_or(f32::NAN));
            found
                .map(|pace| (f64::from(pace), Some(f64::from(pace))))
                .collect()
        };
        let mut past = self.history().into_iter();
        let Some((first_ms, paces)) = past.next() else {
            return;
        };
        let mut next = Self::new(shape.clone(), &moved(&paces), first_ms, first_ms);
        for (then_ms, paces) in past {
            next.push(&moved(&paces), then_ms, then_ms, points);
        }
        next.push(row, at_ms, seen_ms, points);
        *self = next;
    }

    /// The newest reading number `at`: exact, counters by their totals.
    pub(super) fn last(&self, at: usize) -> Option<f64> {
        self.last.get(at).copied()
    }

    /// The newest pace number `at`.
    pub(super) fn pace(&self, at: usize) -> Option<f64> {
        let pace = self.paces.get(at).copied().filter(|pace| !pace.is_nan());
        pace.map(f64::from)
    }

    /// All paces that are kept, the oldest first, each with the host's time.
    pub(super) fn history(&self) -> Vec<(u64, Vec<Pace>)> {
        let mut paces = self.paces.to_vec();
        let mut rows = vec![(self.at_ms, paces.clone())];
        for undo in &self.undo {
            let mut before = undo.before.iter();
            for (at, pace) in paces.iter_mut().enumerate() {
                let byte = undo.changed.get(at / 8).copied().unwrap_or(0);
                if byte & (1 << (at % 8)) != 0 {
                    *pace = before.next().copied().unwrap_or(f32::NAN);
                }
            }
            rows.push((undo.at_ms, paces.clone()));
        }
        rows.reverse();
        rows
    }

    /// The paces of figure number `at`, the oldest first.
    pub(super) fn history_of(&self, at: usize) -> Vec<(u64, f64)> {
        let rows = self.history().into_iter();
        rows.filter_map(|(at_ms, paces)| Some((at_ms, f64::from(*paces.get(at)?))))
            .filter(|(_, pace)| !pace.is_nan())
            .collect()
    }

    /// Whether its newest figures are not older than three snapshots, and the time that one takes.
    pub(super) const fn is_fresh(&self, now_ms: u64) -> bool {
        let interval_ms = match self.interval_ms {
            Some(interval_ms) => interval_ms,
            None => INTERVAL_DEFAULT_MS,
        };
        now_ms.saturating_sub(self.seen_ms) <= interval_ms.saturating_mul(3).saturating_add(8000)
    }

    fn note(&mut self, at_ms: u64, seen_ms: u64) {
        if let Some(gap @ 1..) = at_ms.checked_sub(self.at_ms) {
            // Some that are asked for in between make nobody expect more of them: a shorter interval is believed when
            // it has gone on for as long as the old one was.
            let known_ms = self.interval_ms.unwrap_or(0);
            let interval_ms = gap.max(known_ms.saturating_sub(gap));
            self.interval_ms = Some(interval_ms.clamp(1000, 3_600_000));
        }
        (self.at_ms, self.seen_ms) = (at_ms, seen_ms);
    }
}

fn keys(shape: &Shape) -> impl Iterator<Item = (&Code, &Arc<Labels>)> {
    shape.codes.iter().zip(&shape.labels)
}

#[expect(clippy::cast_possible_truncation, reason = "see Pace")]
fn pace((reading, rate): (f64, Option<f64>)) -> Pace {
    rate.unwrap_or(reading) as f32
}
