//! Named counters in files of the kernel, as tables: which name fills which field of a snapshot, and how fast it grew.
//! Knows no file's path.

use muster_proto::snapshot::host::Counter;

use super::super::rate::{Wrap, counter};

/// The kernel's name of a counter, and the field it fills.
pub(super) type Named<T> = (&'static str, fn(&mut T) -> &mut Option<Counter>);

/// Fills the fields of `into` that `table` names; other names and values that are no numbers are passed over.
/// Returns how many were filled.
pub(super) fn fill<'a, T>(
    table: &[Named<T>],
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    into: &mut T,
) -> usize {
    let mut filled = 0;
    for (name, value) in pairs {
        let Some((_, field)) = table.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let Ok(total) = value.parse() else { continue };
        *field(into) = Some(Counter { total, per_s: None });
        filled += 1;
    }
    filled
}

/// Adds the rates to `after`, from the sample `before` that is `seconds` old.
pub(super) fn rates<T>(
    table: &[Named<T>],
    before: &mut T,
    after: &mut T,
    seconds: Option<f64>,
    wrap: Wrap,
) {
    for (_, field) in table {
        let before = field(before).map(|counter| counter.total).zip(seconds);
        if let Some(after) = field(after) {
            *after = counter(after.total, before, wrap);
        }
    }
}

/// The pairs of one section of `/proc/net/snmp` or `/proc/net/netstat`: a line of names, then a line of values, both
/// led by `prefix`. Nothing where the section is missing or cut short.
pub(super) fn section<'a>(
    text: &'a str,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let mut lines = text
        .lines()
        .filter_map(move |line| line.strip_prefix(prefix)?.strip_prefix(": "));
    let names = lines.next().unwrap_or_default().split_ascii_whitespace();
    let values = lines.next().unwrap_or_default().split_ascii_whitespace();
    names.zip(values)
}

/// The pairs of a file with one name and one value per line.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().zip(words.next())
    })
}
