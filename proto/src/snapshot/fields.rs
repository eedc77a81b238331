//! What the fields of snapshots are: declared once, beside the types, and read by statistics, bridges and `/metrics`.
//!
//! A collector's snapshot is a JSON value of its type in this module's parent. Its figures are named by tables: a table
//! stands for one object, or for each object of a list, of which some values are labels (the interface, the virtual
//! server) and others are figures with a unit, a kind and a way to put several of them together. [`series`] takes a
//! snapshot apart accordingly. A test holds the tables against the types: a figure is declared, or left out for a reason.

mod host;
mod keepalived;
mod lvs;
mod processes;
pub mod prometheus;
mod services;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
mod walk;

use std::borrow::Cow;
use std::fmt;

pub use self::walk::{SAMPLES_MAX, samples, series};

/// What is declared of one collector's snapshots.
#[derive(Debug)]
pub struct Declared {
    /// The collector's name.
    pub collector: &'static str,
    /// Its tables. Several may have the same name.
    pub tables: &'static [Table],
    /// Paths of figures that are in the snapshot and make no series, with the reason.
    pub left_out: &'static [(&'static str, &'static str)],
}

/// Every collector whose snapshots are declared.
pub static DECLARED: &[&Declared] = &[
    &host::DECLARED,
    &keepalived::DECLARED,
    &lvs::DECLARED,
    &processes::DECLARED,
    &services::DECLARED,
];

/// The figures of one object, or of each object of a list.
#[derive(Debug)]
pub struct Table {
    /// First part of its series' names: `interface`.
    pub name: &'static str,
    /// Where the objects are: names joined by dots, `[]` behind a name for each item of that list, `{}` for each value
    /// of that map; empty for the snapshot itself. Example: `virtual_servers[].real_servers[]`.
    pub under: &'static str,
    /// What tells its objects apart.
    pub labels: &'static [Label],
    /// The figures.
    pub fields: &'static [Field],
}

/// A label of a table's series.
#[derive(Debug)]
pub struct Label {
    /// Its name: `interface`.
    pub name: &'static str,
    /// In the objects of which list or map of [`Table::under`], counted from 0, its value is.
    pub list: usize,
    /// Where in such an object: names joined by dots; [`KEY`] for the key under which a map has it.
    pub path: &'static str,
}

/// The path of a label that is the key of a map.
pub const KEY: &str = "@key";

/// One figure of a table.
#[derive(Debug)]
pub struct Field {
    /// Where in the object: names joined by dots. Its end says the unit, and it is the second part of the series' name.
    pub path: &'static str,
    /// What it counts in.
    pub unit: Unit,
    /// How it behaves.
    pub kind: Kind,
    /// How several are put together.
    pub fold: Fold,
    /// One line for people.
    pub help: &'static str,
}

/// How a figure behaves in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It only grows, until it begins anew; what is of interest is how fast.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is one of a few states: a word, or whether something is so.
    State,
}

/// How the figures of several hosts, or of several labels, are put together into one. Least, mean, greatest and
/// quantiles can be told of all but states; a sum is only right for [`Fold::Sum`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fold {
    /// They add up: bytes, connections. Of a counter, its rates do.
    Sum,
    /// They don't, and their mean is of interest: percentages, loads.
    Mean,
    /// The greatest is of interest.
    Max,
    /// The least is of interest.
    Min,
}

/// What a figure counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Things: packets, processes, or nothing at all.
    One,
    /// Bytes (`_bytes`).
    Bytes,
    /// Bits per second (`_bits_per_s`).
    BitsPerSecond,
    /// Parts of a hundred (`_percent`).
    Percent,
    /// Seconds (`_s`).
    Seconds,
    /// Milliseconds (`_ms`).
    Milliseconds,
    /// Microseconds (`_us`).
    Microseconds,
    /// A moment, in seconds since 1970 (`_s`).
    MomentSeconds,
    /// A moment, in milliseconds since 1970 (`_ms`).
    MomentMilliseconds,
}

impl Unit {
    /// How names of fields in this unit end; empty for [`Unit::One`].
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Bytes => "_bytes",
            Self::BitsPerSecond => "_bits_per_s",
            Self::Percent => "_percent",
            Self::Seconds | Self::MomentSeconds => "_s",
            Self::Milliseconds | Self::MomentMilliseconds => "_ms",
            Self::Microseconds => "_us",
        }
    }
}

/// A declared figure: which collector's, of which table. Cheap to copy; equal when it is the same figure.
#[derive(Clone, Copy)]
pub struct Series {
    /// The collector's name.
    pub collector: &'static str,
    /// Its table.
    pub table: &'static Table,
    /// The figure.
    pub field: &'static Field,
}

impl Series {
    /// Its name within the collector, of small letters, digits, `_` and `.`: `interface.rx_bytes`.
    #[must_use]
    pub fn name(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{}", self.table.name, self.field.path)
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{self}", self.collector)
    }
}

impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        // Tables may share their fields.
        std::ptr::eq(self.table, other.table) && std::ptr::eq(self.field, other.field)
    }
}

impl Eq for Series {}

impl std::hash::Hash for Series {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.collector, self.table.name, self.field.path).hash(state);
    }
}

/// Every declared series, in the order of the tables.
pub fn all() -> impl Iterator<Item = Series> {
    DECLARED.iter().flat_map(|declared| of_declared(declared))
}

/// The declared series of one collector; none where it declares none.
pub fn of(collector: &str) -> impl Iterator<Item = Series> {
    declared(collector).into_iter().flat_map(of_declared)
}

/// The series `name` of a collector.
#[must_use]
pub fn find(collector: &str, name: &str) -> Option<Series> {
    of(collector).find(|series| {
        let rest = name.strip_prefix(series.table.name);
        rest.and_then(|rest| rest.strip_prefix('.')) == Some(series.field.path)
    })
}

fn declared(collector: &str) -> Option<&'static Declared> {
    DECLARED
        .iter()
        .copied()
        .find(|declared| declared.collector == collector)
}

fn of_declared(declared: &'static Declared) -> impl Iterator<Item = Series> {
    declared.tables.iter().flat_map(|table| {
        table.fields.iter().map(|field| Series {
            collector: declared.collector,
            table,
            field,
        })
    })
}

/// One figure of one snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// Which.
    pub series: Series,
    /// Names and values of its labels, in the order of [`Table::labels`].
    pub labels: Vec<(&'static str, Cow<'a, str>)>,
    /// The figure, in the unit of its field.
    pub reading: Reading<'a>,
    /// Of a counter, its growth per second since the snapshot before, where the collector tells.
    pub per_s: Option<f64>,
}

/// A figure as it was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading<'a> {
    /// A whole number, exact; 1 for true, 0 for false.
    Whole(u64),
    /// Any other number; finite.
    Float(f64),
    /// The word of a state.
    Word(&'a str),
}

impl Reading<'_> {
    /// As a number (whole ones are exact up to 2^53); none for a word.
    #[must_use]
    pub const fn number(self) -> Option<f64> {
        match self {
            Self::Whole(whole) => Some(whole as f64),
            Self::Float(float) => Some(float),
            Self::Word(_) => None,
        }
    }
}

/// As text: whole numbers exact, others with as many digits as tell them apart.
impl fmt::Display for Reading<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => whole.fmt(to),
            Self::Float(float) => float.fmt(to),
            Self::Word(word) => to.write_str(word),
        }
    }
}

/// A counter, of which the rates add up.
const fn counter(path: &'static str, unit: Unit, help: &'static str) -> Field {
    let (kind, fold) = (Kind::Counter, Fold::Sum);
    Field {
        path,
        unit,
        kind,
        fold,
        help,
    }
}

const fn gauge(path: &'static str, unit: Unit, fold: Fold, help: &'static str) -> Field {
    let kind = Kind::Gauge;
    Field {
        path,
        unit,
        kind,
        fold,
        help,
    }
}

/// A gauge of things that add up.
const fn amount(path: &'static str, unit: Unit, help: &'static str) -> Field {
    gauge(path, unit, Fold::Sum, help)
}

/// A gauge that is a share of a hundred.
const fn share(path: &'static str, help: &'static str) -> Field {
    gauge(path, Unit::Percent, Fold::Mean, help)
}

/// A state; of several that are so or not, the greatest says whether any is.
const fn state(path: &'static str, help: &'static str) -> Field {
    let (unit, kind, fold) = (Unit::One, Kind::State, Fold::Max);
    Field {
        path,
        unit,
        kind,
        fold,
        help,
    }
}

/// A label in the objects of the innermost list of a table with one list.
const fn label(name: &'static str, path: &'static str) -> Label {
    Label {
        name,
        list: 0,
        path,
    }
}
