//! From a host's snapshot to figures with names, as a [`Plan`] wants them.
//!
//! Counters go out as increments where the plan says so. An increment is the difference to the snapshot before, where
//! that has come by here too; else it is the agent's own rate times the snapshot's interval: several bridges may share one
//! queue, and none of them sees all of a host's snapshots. Neither makes a jump when an agent, a host or this program
//! starts anew.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::fmt;
use std::hash::{Hash, Hasher};

use muster_proto::metric::Metrics;
use muster_proto::snapshot::fields::{self, Fold, Kind, Reading, Sample};

use super::plan::{Counters, Plan, Rule};

/// Counters that are remembered for the next snapshot at the most, over all hosts: 32 bytes each.
const REMEMBERED_MAX: usize = 2_000_000;

/// A figure as it goes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The host that it is of.
    pub host: String,
    /// Its name at the sink.
    pub name: String,
    /// What it is.
    pub shape: Shape,
    /// The figure, in the unit of its field.
    pub value: Value,
    /// When it was taken, in milliseconds since 1970 by the host's clock.
    pub at_ms: u64,
}

/// What a figure is to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It is so now.
    Gauge,
    /// So much was added.
    Count,
    /// One of many, of which the distribution is of interest.
    Timing,
}

/// A figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, exact.
    Whole(u64),
    /// Any other number; finite.
    Float(f64),
    /// The word of a state.
    Word(String),
}

impl Value {
    /// Whether it is less than 0.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        matches!(self, Self::Float(value) if *value < 0.0)
    }

    fn number(&self) -> f64 {
        match self {
            Self::Whole(value) => lossy(*value),
            Self::Float(value) => *value,
            Self::Word(_) => 0.0,
        }
    }
}

/// Never with an exponent, and never a negative zero.
impl fmt::Display for Value {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(to),
            Self::Float(value) => (value + 0.0).fmt(to),
            Self::Word(word) => to.write_str(word),
        }
    }
}

/// What is remembered of the snapshots before.
#[derive(Debug, Default)]
pub struct Memory {
    /// By host, then collector.
    pasts: HashMap<(String, String), Past>,
    remembered: usize,
}

/// The counters of one snapshot.
#[derive(Debug)]
struct Past {
    seq: u64,
    at_ms: u64,
    /// Sorted by the first, which stands for figure and labels.
    totals: Vec<(u64, Total)>,
}

#[derive(Debug, Clone, Copy)]
struct Total {
    value: Number,
    /// Whether the agent told a rate: should it tell none the next time, the counter has begun anew.
    rated: bool,
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(u64),
    Float(f64),
}

/// The figures of a snapshot that go out. Those that get the same name become one, as their field says.
pub fn points(
    plan: &Plan,
    takes_words: bool,
    memory: &mut Memory,
    metrics: &Metrics,
) -> Vec<Point> {
    let host = metrics.host.as_str();
    let mut points: Vec<Point> = Vec::new();
    let mut places: HashMap<String, (usize, u64)> = HashMap::new();
    let mut turn = memory.turn(plan, metrics);
    for sample in fields::series(&metrics.collector, &metrics.snapshot) {
        let Some(rule) = plan.of(sample.series) else {
            continue;
        };
        let Some((shape, value)) = told(rule, &sample, &mut turn, takes_words) else {
            continue;
        };
        let Some(name) = rule
            .name
            .as_ref()
            .and_then(|name| name.render(host, &sample))
        else {
            continue;
        };
        match places.entry(name) {
            Entry::Vacant(place) => {
                let name = place.key().clone();
                place.insert((points.len(), 1));
                points.push(Point {
                    host: host.to_owned(),
                    name,
                    shape,
                    value,
                    at_ms: metrics.at_ms,
                });
            }
            Entry::Occupied(mut place) => {
                let (at, count) = place.get_mut();
                if let Some(point) = points.get_mut(*at) {
                    *count += 1;
                    point.value = fold(sample.series.field.fold, &point.value, value, *count);
                }
            }
        }
    }
    memory.keep(turn, metrics);
    points
}

/// What a figure is to the sink, and its value.
fn told(
    rule: &Rule,
    sample: &Sample<'_>,
    turn: &mut Option<Turn>,
    takes_words: bool,
) -> Option<(Shape, Value)> {
    let plain = match sample.reading {
        Reading::Whole(value) => Value::Whole(value),
        Reading::Float(value) => Value::Float(value),
        Reading::Word(word) if takes_words => Value::Word(word.to_owned()),
        Reading::Word(_) => return None,
    };
    let is_counter = sample.series.field.kind == Kind::Counter;
    let (shape, value) = match rule.counters {
        Counters::Increment if is_counter => (Shape::Count, turn.as_mut()?.increment(sample)?),
        Counters::Rate if is_counter => (Shape::Gauge, Value::Float(turn.as_mut()?.rate(sample)?)),
        _ => (Shape::Gauge, plain),
    };
    let shape = if rule.timing { Shape::Timing } else { shape };
    Some((shape, value))
}

/// `count` figures of one name, of which `next` is the last, as one.
fn fold(fold: Fold, so_far: &Value, next: Value, count: u64) -> Value {
    match (fold, so_far, &next) {
        (_, Value::Word(_), _) | (_, _, Value::Word(_)) => next,
        (Fold::Sum, Value::Whole(one), Value::Whole(two)) => Value::Whole(one.saturating_add(*two)),
        (Fold::Sum, one, two) => Value::Float(one.number() + two.number()),
        (Fold::Mean, one, two) => {
            Value::Float(one.number() + (two.number() - one.number()) / lossy(count))
        }
        (Fold::Max, one, two) if one.number() >= two.number() => one.clone(),
        (Fold::Min, one, two) if one.number() <= two.number() => one.clone(),
        (Fold::Max | Fold::Min, ..) => next,
    }
}

/// One snapshot beside the one before.
struct Turn {
    /// The counters before, where that was the snapshot just before.
    before: Option<Past>,
    seconds: Option<f64>,
    now: Vec<(u64, Total)>,
}

impl Memory {
    /// None where the plan compares nothing of this collector.
    fn turn(&mut self, plan: &Plan, metrics: &Metrics) -> Option<Turn> {
        if !plan.compares(&metrics.collector) {
            return None;
        }
        let key = (metrics.host.to_string(), metrics.collector.clone());
        let before = self.pasts.remove(&key);
        self.remembered -= before.as_ref().map_or(0, |past| past.totals.len());
        let interval_ms = metrics.snapshot.get("interval_ms");
        let own = interval_ms.and_then(serde_json::Value::as_f64);
        let before = before.filter(|past| past.seq.checked_add(1) == Some(metrics.seq));
        let since = before
            .as_ref()
            .and_then(|past| metrics.at_ms.checked_sub(past.at_ms))
            .map(lossy);
        Some(Turn {
            seconds: own.or(since).filter(|ms| *ms > 0.0).map(|ms| ms / 1000.0),
            before,
            now: Vec::new(),
        })
    }

    fn keep(&mut self, turn: Option<Turn>, metrics: &Metrics) {
        let Some(mut turn) = turn else { return };
        if self.remembered + turn.now.len() > REMEMBERED_MAX {
            return; // the agent's rates do
        }
        turn.now.sort_unstable_by_key(|(key, _)| *key);
        self.remembered += turn.now.len();
        let past = Past {
            seq: metrics.seq,
            at_ms: metrics.at_ms,
            totals: turn.now,
        };
        let key = (metrics.host.to_string(), metrics.collector.clone());
        self.pasts.insert(key, past);
    }
}

impl Turn {
    /// What was added to a counter; none where that can't be known, and where it began anew.
    fn increment(&mut self, sample: &Sample<'_>) -> Option<Value> {
        let key = key(sample);
        let now = Total {
            value: match sample.reading {
                Reading::Whole(value) => Number::Whole(value),
                Reading::Float(value) => Number::Float(value),
                Reading::Word(_) => return None,
            },
            rated: sample.per_s.is_some(),
        };
        self.now.push((key, now));
        let before = self.before.as_ref().and_then(|past| {
            let at = past.totals.binary_search_by_key(&key, |(key, _)| *key);
            at.ok()
                .and_then(|at| past.totals.get(at))
                .map(|(_, total)| *total)
        });
        match (before, now.value) {
            (Some(before), _) if before.rated && !now.rated => return None,
            (
                Some(Total {
                    value: Number::Whole(before),
                    ..
                }),
                Number::Whole(now),
            ) if now >= before => {
                return Some(Value::Whole(now - before));
            }
            (
                Some(Total {
                    value: Number::Float(before),
                    ..
                }),
                Number::Float(now),
            ) if now >= before => {
                return Some(Value::Float(now - before));
            }
            _ => {}
        }
        let added = sample.per_s? * self.seconds?;
        match now.value {
            _ if !added.is_finite() || added < 0.0 => None,
            Number::Whole(_) => Some(Value::Whole(rounded(added))),
            Number::Float(_) => Some(Value::Float(added)),
        }
    }

    /// How fast a counter grows: the agent's own rate, where it tells one.
    fn rate(&mut self, sample: &Sample<'_>) -> Option<f64> {
        let added = self.increment(sample);
        sample
            .per_s
            .or_else(|| Some(added?.number() / self.seconds?))
    }
}

/// Stands for a figure and its labels.
fn key(sample: &Sample<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    sample.series.hash(&mut hasher);
    sample.labels.hash(&mut hasher);
    hasher.finish()
}

#[expect(clippy::cast_precision_loss, reason = "for rates and means")]
fn lossy(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is finite and not negative; casts saturate"
)]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
#[path = "points_tests.rs"]
mod tests;
