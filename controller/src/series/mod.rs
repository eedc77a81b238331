//! Series of the fleet: what the declared figures of every host's snapshots are now and were a short while ago, in little
//! memory, and what they come to over hosts and labels. Pure: snapshots and the time go in; it must not know the broker,
//! files or the clock.

mod catalog;
mod fold;
mod shape;
mod sheet;
mod store;
#[cfg(test)]
mod store_tests;

use muster_proto::snapshot::fields::{self, Series};

pub(crate) use self::fold::{By, Figure, Group, Item, Totals, is_made_of_others};
pub(crate) use self::store::{Bounds, SeriesStore, Shown};

/// Whether a series is meant by `pattern`: its name, that of its table, or the beginning of its name before a `*`.
pub(crate) fn is_named(series: Series, pattern: &str) -> bool {
    let name = series.name();
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern || series.table.name == pattern,
    }
}

/// Whether series of this collector have a label of this name.
pub(crate) fn is_label(collector: &str, name: &str) -> bool {
    fields::of(collector).any(|series| series.table.labels.iter().any(|label| label.name == name))
}
