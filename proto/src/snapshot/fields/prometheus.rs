//! Names and figures by Prometheus's conventions: base units (seconds, bytes, ratios), `_total` for counters alone.
//! Every output with such names uses these, so that a figure is called the same wherever it comes from.

use super::{Kind, Reading, Sample, Series, Unit};

/// The label that holds the word of a state, whose figure is then 1.
pub const STATE: &str = "state";

/// The name without `_total`, as libraries want it that add it to counters: `muster_host_interface_rx_bytes`.
#[must_use]
pub fn base_name(series: Series) -> String {
    let unit = series.field.unit;
    let path = series.field.path;
    let bare = path.strip_suffix(unit.suffix()).unwrap_or(path);
    // Of anything but a counter, this end would be misread.
    let bare = bare.strip_suffix("_total").unwrap_or(bare);
    let mut name = format!("muster_{}_{}", series.collector, series.table.name);
    // How many there are of what the table is about.
    let many = matches!(bare, "total" | "count") && unit == Unit::One;
    if !many {
        name.push('_');
        name.push_str(bare);
    }
    name.push_str(suffix(unit));
    name.replace(['.', '-'], "_")
}

/// The whole name: `muster_host_interface_rx_bytes_total`.
#[must_use]
pub fn name(series: Series) -> String {
    let total = match series.field.kind {
        Kind::Counter => "_total",
        Kind::Gauge | Kind::State => "",
    };
    base_name(series) + total
}

/// The figure in the base unit; a state that is a word is 1, and the word goes into the label [`STATE`].
#[must_use]
pub fn figure(sample: &Sample<'_>) -> f64 {
    let scale = match sample.series.field.unit {
        Unit::One | Unit::Bytes | Unit::BitsPerSecond | Unit::Seconds | Unit::MomentSeconds => 1.0,
        Unit::Percent => 1e2,
        Unit::Milliseconds | Unit::MomentMilliseconds => 1e3,
        Unit::Microseconds => 1e6,
    };
    sample.reading.number().unwrap_or(1.0) / scale
}

/// The word that goes into the label [`STATE`], where the sample is one.
#[must_use]
pub const fn word<'a>(sample: &Sample<'a>) -> Option<&'a str> {
    match sample.reading {
        Reading::Word(word) => Some(word),
        Reading::Whole(_) | Reading::Float(_) => None,
    }
}

const fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::One => "",
        Unit::Bytes => "_bytes",
        Unit::BitsPerSecond => "_bits_per_second",
        Unit::Percent => "_ratio",
        Unit::Seconds | Unit::Milliseconds | Unit::Microseconds => "_seconds",
        Unit::MomentSeconds | Unit::MomentMilliseconds => "_timestamp_seconds",
    }
}
