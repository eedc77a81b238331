//! The declared figures of any collector, put together as their declarations say.

use anyhow::Result;
use muster_link::stamp;
use muster_proto::snapshot::fields::{Fold, Kind, Series, Unit};
use serde::Serialize;

use super::Screenful;
use crate::context::Context;
use crate::render::{
    Cell, Column, Style, Table, age, bytes, clean, count, duration_ms, percent, plural, rate,
};
use crate::series::{By, Figure, Group, Totals};

/// Screens narrower than this get the columns that matter most.
const WIDE: u16 = 110;

/// Longest name that leaves room for one column more on those.
const SHORT_NAME: usize = 26;

/// A number of a figure, where it has it.
type Quantity = fn(&Figure) -> Option<f64>;

/// A figure under the name of its row.
type Named<'a> = (String, &'a Figure);

/// A declared figure, for programs.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    kind: &'static str,
    unit: &'static str,
    together: &'static str,
    labels: Vec<&'static str>,
    help: &'static str,
}

/// Names the figures.
pub(super) fn show_list(context: &Context, series: &[Series]) -> Result<()> {
    let listed: Vec<Listed> = series.iter().copied().map(listed).collect();
    context.show_list(&listed, |style| {
        let heads = ["FIGURE", "KIND", "LABELS", "WHAT"].map(Column::text);
        let mut table = Table::new(heads);
        for figure in &listed {
            table.row([
                Cell::from(&figure.name),
                Cell::from(figure.kind),
                Cell::from(figure.labels.join(",")),
                Cell::from(figure.help),
            ]);
        }
        table.render(style)
    })
}

fn listed(series: Series) -> Listed {
    let field = series.field;
    Listed {
        name: series.name(),
        kind: match field.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::State => "state",
        },
        unit: match field.unit {
            Unit::One => "",
            Unit::MomentSeconds => "s since 1970",
            Unit::MomentMilliseconds => "ms since 1970",
            unit => unit.suffix().trim_start_matches('_'),
        },
        together: match field.fold {
            Fold::Sum => "sum",
            Fold::Mean => "mean",
            Fold::Max => "max",
            Fold::Min => "min",
        },
        labels: series.table.labels.iter().map(|label| label.name).collect(),
        help: field.help,
    }
}

impl Screenful<'_> {
    /// The figures of a collector, in groups.
    pub(super) fn show_figures(
        &self,
        collector: &str,
        by: By<'_>,
        series: &[Series],
    ) -> Result<()> {
        let mut totals = Totals::default();
        for host in &self.report.hosts {
            let at = format!("/snapshots/{collector}");
            let Some(snapshot) = host.data.pointer(&at) else {
                continue;
            };
            let group = self.values.get(&host.host).map(String::as_str);
            let wanted = |found: Series| series.contains(&found);
            totals.add_snapshot(host.host.as_str(), group, by, (collector, snapshot), wanted);
        }
        let groups = totals.groups();
        let now_ms = stamp::now_ms();
        self.context.show_list(&groups, |style| {
            let text = match groups.is_empty() {
                true => format!("no host that answered has such figures of {collector}\n"),
                false => text(&groups, self.by, series.len() == 1, now_ms, style),
            };
            format!("{text}\n{}", self.foot(style))
        })
    }
}

/// A table for each group; of one figure alone, one table with a row for each group.
fn text(groups: &[Group], by: Option<&str>, is_one: bool, now_ms: u64, style: &Style) -> String {
    if let (true, Some(label)) = (is_one, by) {
        let rows = groups.iter().flat_map(|group| {
            let name = group.group.as_deref().unwrap_or("-");
            group
                .figures
                .iter()
                .map(move |figure| (name.to_owned(), figure))
        });
        return table(
            &label.to_uppercase(),
            &rows.collect::<Vec<_>>(),
            now_ms,
            style,
        );
    }
    let mut parts = Vec::new();
    for group in groups {
        let mut part = String::new();
        if let Some(label) = by {
            let value = group.group.as_deref();
            let value = value.map_or_else(
                || format!("without {label}"),
                |value| format!("{label}={value}"),
            );
            part = format!("{}: {}\n", clean(&value), plural(group.hosts, "host"));
        }
        let rows = group
            .figures
            .iter()
            .map(|figure| (figure.name.clone(), figure));
        part.push_str(&table("FIGURE", &rows.collect::<Vec<_>>(), now_ms, style));
        parts.push(part);
    }
    parts.join("\n")
}

/// Figures first, then states, which have words in place of numbers.
fn table(head: &str, rows: &[Named<'_>], now_ms: u64, style: &Style) -> String {
    let (states, numbers): (Vec<Named<'_>>, Vec<Named<'_>>) = rows
        .iter()
        .cloned()
        .partition(|(_, figure)| !figure.states.is_empty());
    let tables = [
        number_table(head, &numbers, now_ms, style),
        state_table(head, &states, style),
    ];
    tables.concat()
}

fn number_table(head: &str, rows: &[Named<'_>], now_ms: u64, style: &Style) -> String {
    let longest = rows.iter().map(|(name, _)| name.chars().count()).max();
    let is_wide = style.width.is_none_or(|width| width >= WIDE);
    let has_p95 = is_wide || longest.is_none_or(|longest| longest <= SHORT_NAME);
    let columns: [(&str, bool, Quantity); 6] = [
        ("SUM", true, |figure| figure.sum),
        ("MEAN", true, |figure| figure.spread?.mean),
        ("MIN", is_wide, |figure| Some(figure.spread?.min)),
        ("P50", is_wide, |figure| Some(figure.spread?.p50)),
        ("P95", has_p95, |figure| Some(figure.spread?.p95)),
        ("MAX", true, |figure| Some(figure.spread?.max)),
    ];
    let columns = || columns.iter().filter(|(_, is_shown, _)| *is_shown);
    let heads = columns().map(|(head, ..)| *head).chain(["OF"]);
    let mut table = Table::new(
        [Column::text(head)]
            .into_iter()
            .chain(heads.map(Column::number)),
    );
    for (name, figure) in rows {
        let shown = columns().map(|(_, _, of)| {
            let value = of(figure).map(|value| show(figure.series, value, now_ms));
            Cell::from(value.unwrap_or_default())
        });
        let count = Cell::from(figure.count.to_string());
        table.row([Cell::from(name)].into_iter().chain(shown).chain([count]));
    }
    if table.is_empty() {
        String::new()
    } else {
        table.render(style)
    }
}

fn state_table(head: &str, rows: &[Named<'_>], style: &Style) -> String {
    let columns = [
        Column::text(head),
        Column::number("OF"),
        Column::text("STATES"),
    ];
    let mut table = Table::new(columns);
    for (name, figure) in rows {
        let count = figure.count.to_string();
        table.row([
            Cell::from(name),
            Cell::from(count),
            Cell::from(states(figure)),
        ]);
    }
    if table.is_empty() {
        String::new()
    } else {
        table.render(style)
    }
}

/// `12 up, 1 down`.
fn states(figure: &Figure) -> String {
    let mut states: Vec<_> = figure.states.iter().collect();
    states.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words = states.into_iter().map(|(state, count)| {
        let state = match state.as_str() {
            "1" => "yes",
            "0" => "no",
            word => word,
        };
        format!("{count} {state}")
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A figure in its unit; of a counter it is what it grows by in a second.
fn show(series: Series, value: f64, now_ms: u64) -> String {
    let is_rate = series.field.kind == Kind::Counter;
    let per_s = |seconds: f64| format!("{seconds:.3} s/s");
    match (series.field.unit, is_rate) {
        (Unit::One, false) => number(value),
        (Unit::One, true) => format!("{}/s", number(value)),
        (Unit::Bytes, false) => bytes(whole(value)),
        (Unit::Bytes, true) => rate(value),
        (Unit::BitsPerSecond, _) => format!("{}bit/s", count(whole(value))),
        (Unit::Percent, _) => percent(value / 100.0),
        (Unit::Seconds, true) => per_s(value),
        (Unit::Milliseconds, true) => per_s(value / 1e3),
        (Unit::Microseconds, true) => per_s(value / 1e6),
        (Unit::Seconds, false) => duration_ms(value * 1e3),
        (Unit::Milliseconds, false) => duration_ms(value),
        (Unit::Microseconds, false) => duration_ms(value / 1e3),
        (Unit::MomentSeconds, _) => age(now_ms, whole(value * 1e3)),
        (Unit::MomentMilliseconds, _) => age(now_ms, whole(value)),
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 1e5 {
        count(whole(value))
    } else if value.fract() == 0.0 {
        format!("{value}")
    } else {
        format!("{value:.2}")
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float ends at the bounds"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn groups(by: By<'_>) -> Vec<Group> {
        let mut totals = Totals::default();
        for (host, group, free, rate, state) in [
            ("a", "gz", 4096, 1500.0, "up"),
            ("b", "gz", 1 << 30, 0.0, "up"),
            ("c", "sz", 0, 2.5e6, "down"),
        ] {
            let snapshot = json!({
                "memory": {"free_bytes": free}, "load": {"load1": 0.25},
                "network": {"interfaces": [
                    {"name": "eth0", "operstate": state, "rx_bytes": {"total": 7, "per_s": rate}, "rx_packets": {"total": 7, "per_s": rate / 100.0}},
                ]},
            });
            totals.add_snapshot(host, Some(group), by, ("host", &snapshot), |_| true);
        }
        totals.groups()
    }

    #[test]
    fn figures_stand_in_their_units_and_fit_a_narrow_screen() {
        let narrow = Style {
            width: Some(80),
            ..Style::default()
        };
        let text = text(&groups(By::Host), Some("dc"), false, 0, &narrow);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn one_figure_has_a_row_for_each_group() {
        let mut groups = groups(By::Label("interface"));
        for group in &mut groups {
            group
                .figures
                .retain(|figure| figure.name == "interface.rx_bytes");
        }
        insta::assert_snapshot!(text(&groups, Some("interface"), true, 0, &Style::default()));
    }
}
