//! The series of all hosts, within a bound.
//!
//! What it costs: for each series 12 bytes, for each further point of its history 4 bytes where it changed and a bit where
//! it did not, and 11 bytes for its name and labels where no other host has the same. So with 12 points at most 70 bytes
//! times the bound on series, and about half of that in a common fleet.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use muster_proto::id::HostId;
use muster_proto::metric::Metrics;
use muster_proto::snapshot::fields::{self, Kind, Reading, Sample, Series};

use super::shape::{Shapes, is_kept};
use super::sheet::{Row, Sheet};

/// Different words of states that are kept: more than any collector has.
const WORDS_MAX: usize = 10_000;

/// What was not heard of for so long is let go.
const KEEP_MS: u64 = 10 * 60 * 1000;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Series of all hosts.
    pub(crate) series_max: usize,
    /// Series of one host.
    pub(crate) per_host_max: usize,
    /// Points of each, the newest among them.
    pub(crate) points: usize,
}

/// One series as it is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) host: &'a HostId,
    /// Names and values.
    pub(crate) labels: &'a [(&'static str, Box<str>)],
    /// As it was read, exact; counters by their totals.
    pub(crate) reading: Reading<'a>,
    /// Of a counter, its growth per second where it is known.
    pub(crate) per_s: Option<f64>,
}

/// One point of a history.
pub(crate) type Point = (u64, f64);

/// A host's name and labels, and the points of one series of it, the oldest first.
pub(crate) type Past<'a> = (&'a HostId, &'a [(&'static str, Box<str>)], Vec<Point>);

/// The series.
#[derive(Debug)]
pub(crate) struct SeriesStore {
    bounds: Bounds,
    hosts: BTreeMap<HostId, Sheets>,
    shapes: Shapes,
    words: Words,
    count: usize,
    swept_ms: u64,
}

/// One host's sheets, by collector.
#[derive(Debug, Default)]
struct Sheets {
    sheets: Vec<(&'static str, Sheet)>,
    count: usize,
}

/// Words by number and number by word.
#[derive(Debug, Default)]
struct Words {
    all: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, usize>,
}

impl SeriesStore {
    /// None yet.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            hosts: BTreeMap::new(),
            shapes: Shapes::default(),
            words: Words::default(),
            count: 0,
            swept_ms: 0,
        }
    }

    /// Other bounds: what is beyond them goes as it comes anew.
    pub(crate) const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// How many series are kept.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Different shapes of snapshots, and sets of labels.
    pub(crate) fn shapes(&self) -> (usize, usize) {
        self.shapes.counts()
    }

    /// Series that found no room, by host.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&HostId, usize)> {
        let each = self.hosts.iter().map(|(host, sheets)| {
            let left_out = sheets.sheets.iter().map(|(_, sheet)| sheet.left_out);
            (host, left_out.sum())
        });
        each.filter(|(_, left_out)| *left_out > 0)
    }

    /// Takes a snapshot that came in at `now_ms`. One that is not newer than the one before changes nothing.
    pub(crate) fn take(&mut self, metrics: &Metrics, now_ms: u64) {
        let samples: Vec<Sample<'_>> = fields::series(&metrics.collector, &metrics.snapshot)
            .filter(is_kept)
            .collect();
        let Some(collector) = samples.first().map(|sample| sample.series.collector) else {
            return;
        };
        let sheets = match self.hosts.get_mut(&metrics.host) {
            Some(sheets) => sheets,
            None => self.hosts.entry(metrics.host.clone()).or_default(),
        };
        let of_host = sheets.count;
        let known = sheets
            .sheets
            .iter_mut()
            .find_map(|(name, sheet)| (*name == collector).then_some(sheet));
        let had = known.as_ref().map_or(0, |sheet| sheet.shape.len());
        let room = (self.bounds.series_max + had)
            .saturating_sub(self.count)
            .min((self.bounds.per_host_max + had).saturating_sub(of_host));
        let wanted = samples.len().min(room);
        let row = |words: &mut Words, before: Option<&Sheet>| -> Row {
            let samples = samples.iter().take(wanted).enumerate();
            samples
                .map(|(at, sample)| {
                    figure(
                        sample,
                        before.map(|sheet| (sheet, at)),
                        metrics.at_ms,
                        words,
                    )
                })
                .collect()
        };
        let is_like = |sheet: &Sheet| {
            let mut places = samples.iter().take(wanted).enumerate();
            sheet.shape.len() == wanted && places.all(|(at, sample)| sheet.shape.fits(at, sample))
        };
        match known {
            Some(sheet)
                if metrics.at_ms <= sheet.at_ms
                    && now_ms.saturating_sub(sheet.seen_ms) < KEEP_MS =>
            {
                return;
            }
            Some(sheet) if is_like(sheet) => {
                let row = row(&mut self.words, Some(sheet));
                sheet.push(&row, metrics.at_ms, now_ms, self.bounds.points);
                sheet.left_out = samples.len() - wanted;
            }
            Some(sheet) => {
                let shape = self.shapes.of(&samples, wanted);
                let row = row(&mut self.words, None);
                sheet.reshape(shape, &row, metrics.at_ms, now_ms, self.bounds.points);
                sheet.left_out = samples.len() - wanted;
            }
            None => {
                let shape = self.shapes.of(&samples, wanted);
                let row = row(&mut self.words, None);
                let mut sheet = Sheet::new(shape, &row, metrics.at_ms, now_ms);
                sheet.left_out = samples.len() - wanted;
                sheets.sheets.push((collector, sheet));
            }
        }
        sheets.count = of_host - had + wanted;
        self.count = self.count - had + wanted;
    }

    /// Lets a host go that was taken out of the fleet.
    pub(crate) fn forget(&mut self, host: &HostId) {
        if let Some(sheets) = self.hosts.remove(host) {
            self.count -= sheets.count;
        }
    }

    /// Lets go what was not heard of for ten minutes. Cheap to call often.
    pub(crate) fn sweep(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.swept_ms) < KEEP_MS / 10 {
            return;
        }
        self.swept_ms = now_ms;
        let mut count = 0;
        self.hosts.retain(|_, host| {
            host.sheets.retain(|(_, sheet)| {
                sheet.is_fresh(now_ms) || now_ms.saturating_sub(sheet.seen_ms) < KEEP_MS
            });
            host.count = host.sheets.iter().map(|(_, sheet)| sheet.shape.len()).sum();
            count += host.count;
            !host.sheets.is_empty()
        });
        self.count = count;
        self.shapes.sweep();
    }

    /// The newest of one series, of every host whose snapshots of it still come.
    pub(crate) fn newest(&self, series: Series, now_ms: u64) -> impl Iterator<Item = Shown<'_>> {
        self.sheets_of(series)
            .filter(move |(_, sheet)| sheet.is_fresh(now_ms))
            .flat_map(move |(host, sheet)| {
                let places = sheet.shape.places(series);
                places.filter_map(move |at| self.shown(host, sheet, at, series))
            })
    }

    /// The points that are kept of one series.
    pub(crate) fn history(&self, series: Series) -> impl Iterator<Item = Past<'_>> {
        self.sheets_of(series).flat_map(move |(host, sheet)| {
            let places = sheet.shape.places(series);
            places.filter_map(move |at| {
                let labels = &sheet.shape.labels.get(at)?.0;
                Some((host, labels.as_ref(), sheet.history_of(at)))
            })
        })
    }

    fn sheets_of(&self, series: Series) -> impl Iterator<Item = (&HostId, &Sheet)> {
        self.hosts.iter().flat_map(move |(host, sheets)| {
            let sheets = sheets.sheets.iter();
            sheets
                .filter(move |(collector, _)| *collector == series.collector)
                .map(move |(_, sheet)| (host, sheet))
        })
    }

    fn shown<'a>(
        &'a self,
        host: &'a HostId,
        sheet: &'a Sheet,
        at: usize,
        series: Series,
    ) -> Option<Shown<'a>> {
        let last = sheet.last(at)?;
        let reading = if sheet.shape.words.get(at) == Some(&true) {
            Reading::Word(self.words.word(last)?)
        } else {
            whole(last).map_or(Reading::Float(last), Reading::Whole)
        };
        let per_s = match series.field.kind {
            Kind::Counter => sheet.pace(at),
            Kind::Gauge | Kind::State => None,
        };
        Some(Shown {
            host,
            labels: &sheet.shape.labels.get(at)?.0,
            reading,
            per_s,
        })
    }
}

impl Words {
    /// The number of a word; of those beyond the bound, one for all.
    fn number(&mut self, word: &str) -> f64 {
        if let Some(number) = self.numbers.get(word) {
            return lossy(*number);
        }
        let word: Arc<str> = match self.all.len() {
            ..WORDS_MAX => word.chars().take(64).collect::<String>().into(),
            _ => "?".into(),
        };
        let number = match self.numbers.entry(word.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                self.all.push(word);
                *free.insert(self.all.len() - 1)
            }
        };
        lossy(number)
    }

    fn word(&self, number: f64) -> Option<&str> {
        let at = usize::try_from(whole(number)?).ok()?;
        self.all.get(at).map(AsRef::as_ref)
    }
}

/// A sample as it is kept. The rate of a counter is the agent's, else made of the total before.
fn figure(
    sample: &Sample<'_>,
    before: Option<(&Sheet, usize)>,
    at_ms: u64,
    words: &mut Words,
) -> (f64, Option<f64>) {
    let reading = match sample.reading {
        Reading::Word(word) => words.number(word),
        number => number.number().unwrap_or(f64::NAN),
    };
    if sample.series.field.kind != Kind::Counter {
        return (reading, None);
    }
    let made = || {
        let (sheet, at) = before?;
        let grown = reading - sheet.last(at)?;
        let passed_ms = at_ms
            .checked_sub(sheet.at_ms)
            .filter(|passed| *passed > 0)?;
        (grown >= 0.0).then(|| grown / (passed_ms as f64 / 1000.0))
    };
    let rate = sample.per_s.or_else(made).unwrap_or(f64::NAN);
    (reading, Some(rate))
}

/// The whole number that it is, if it is one that is exact.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked"
)]
fn whole(value: f64) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53
    ((0.0..=EXACT_MAX).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn lossy(value: usize) -> f64 {
    value as f64
}
