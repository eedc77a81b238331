//! What figures come to over hosts and labels: the sums that make sense, means, extremes and quantiles.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::snapshot::fields::{self, Fold, Kind, Reading, Sample, Series, Unit};
use serde::Serialize;

use super::catalog::Code;

/// By what figures are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By<'a> {
    /// All into one.
    All,
    /// By what is known of the host: its name, a label, a fact.
    Host,
    /// By a label of the series: the virtual server, the interface.
    Label(&'a str),
}

/// The figures of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Group {
    /// The value by which it is a group; none for all, and for hosts without the label.
    pub(crate) group: Option<String>,
    /// From how many hosts.
    pub(crate) hosts: usize,
    /// By the names of the series.
    pub(crate) figures: Vec<Figure>,
}

/// What one series comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// The name of the series.
    pub(crate) name: String,
    #[serde(skip)]
    pub(crate) series: Series,
    /// `per_s` for a counter, whose figures are then rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<&'static str>,
    /// How many figures went into it.
    pub(crate) count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<f64>,
    #[serde(flatten)]
    pub(crate) spread: Option<Spread>,
    /// Of a state, how many have which word, or 1 and 0 for yes and no.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) states: BTreeMap<String, usize>,
}

/// How figures lie. Quantiles are figures that are there (nearest rank).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mean: Option<f64>,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) max: f64,
}

/// Figures on their way into groups.
#[derive(Debug, Default)]
pub(crate) struct Totals<'h> {
    groups: BTreeMap<Option<String>, Gathered<'h>>,
}

#[derive(Debug, Default)]
struct Gathered<'h> {
    hosts: BTreeSet<&'h str>,
    series: BTreeMap<Code, Column>,
}

#[derive(Debug)]
struct Column {
    series: Series,
    values: Vec<f64>,
    states: BTreeMap<String, usize>,
}

/// One figure that goes in.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    pub(crate) series: Series,
    pub(crate) reading: Reading<'a>,
    pub(crate) per_s: Option<f64>,
}

impl<'h> Totals<'h> {
    /// Adds a snapshot of `host`, whose group by the host is `group`; only series that `wanted` names.
    pub(crate) fn add_snapshot(
        &mut self,
        host: &'h str,
        group: Option<&str>,
        by: By<'_>,
        (collector, snapshot): (&str, &serde_json::Value),
        wanted: impl Fn(Series) -> bool,
    ) {
        for sample in fields::series(collector, snapshot).filter(|sample| wanted(sample.series)) {
            let group = match by {
                By::All => None,
                By::Host => group.map(str::to_owned),
                By::Label(name) => match label(&sample, name) {
                    Some(value) => Some(value.to_owned()),
                    None => continue,
                },
            };
            let labels = sample.labels.iter();
            let mut labels = labels.map(|(name, value)| (*name, value.as_ref()));
            if !is_made_of_others(&mut labels, by) {
                let item = Item {
                    series: sample.series,
                    reading: sample.reading,
                    per_s: sample.per_s,
                };
                self.add(host, group, &item);
            }
        }
    }

    /// Adds one figure to a group.
    pub(crate) fn add(&mut self, host: &'h str, group: Option<String>, item: &Item<'_>) {
        let field = item.series.field;
        let value = match (field.kind, item.reading) {
            (Kind::Counter, _) => item.per_s,
            (_, reading) => reading.number(),
        };
        let state = match (field.kind, item.reading) {
            (Kind::State, reading) => Some(reading.to_string()),
            _ => None,
        };
        if value.is_none() && state.is_none() {
            return;
        }
        let gathered = self.groups.entry(group).or_default();
        gathered.hosts.insert(host);
        let Some(code) = Code::of(item.series) else {
            return;
        };
        let column = gathered.series.entry(code).or_insert_with(|| Column {
            series: item.series,
            values: Vec::new(),
            states: BTreeMap::new(),
        });
        match state {
            Some(state) => *column.states.entry(state).or_default() += 1,
            None => column.values.extend(value),
        }
    }

    /// The groups, in the order of their names, with their figures in the order of the declarations.
    pub(crate) fn groups(self) -> Vec<Group> {
        let groups = self.groups.into_iter().map(|(group, gathered)| Group {
            group,
            hosts: gathered.hosts.len(),
            figures: gathered.series.into_values().map(Column::figure).collect(),
        });
        groups.collect()
    }
}

impl Column {
    fn figure(mut self) -> Figure {
        let field = self.series.field;
        self.values.sort_by(f64::total_cmp);
        let sum: f64 = self.values.iter().sum();
        let is_moment = matches!(field.unit, Unit::MomentSeconds | Unit::MomentMilliseconds);
        let adds_up = field.fold == Fold::Sum && !is_moment && !self.values.is_empty();
        let count = self.values.len() + self.states.values().sum::<usize>();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let mean = (!is_moment).then(|| sum / self.values.len() as f64);
        let at = |part: usize| {
            self.values
                .get((self.values.len() * part).div_ceil(100).saturating_sub(1))
                .copied()
        };
        let spread = || {
            Some(Spread {
                min: at(0)?,
                mean,
                p50: at(50)?,
                p95: at(95)?,
                max: at(100)?,
            })
        };
        Figure {
            name: self.series.name(),
            series: self.series,
            rate: (field.kind == Kind::Counter).then_some("per_s"),
            count,
            sum: adds_up.then_some(sum),
            spread: spread(),
            states: self.states,
        }
    }
}

/// Whether the figure is of something whose parts are told, too: a disk made of disks. Where each is told by itself, it
/// stays.
pub(crate) fn is_made_of_others<'a>(
    labels: &mut impl Iterator<Item = (&'a str, &'a str)>,
    by: By<'_>,
) -> bool {
    !matches!(by, By::Label(_)) && labels.any(|label| label == ("stacked", "true"))
}

fn label<'a>(sample: &'a Sample<'_>, name: &str) -> Option<&'a str> {
    let mut labels = sample.labels.iter();
    labels.find_map(|(label, value)| (*label == name).then_some(value.as_ref()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(free: u64, busy: f64, rx: [f64; 2]) -> serde_json::Value {
        json!({
            "memory": {"free_bytes": free}, "cpu": {"total": {"interval": {"busy_percent": busy}}},
            "network": {"interfaces": [
                {"name": "eth0", "operstate": "up", "rx_bytes": {"total": 1000, "per_s": rx[0]}},
                {"name": "eth1", "operstate": if rx[1] > 0.0 { "up" } else { "down" }, "rx_bytes": {"total": 1000, "per_s": rx[1]}},
            ]},
        })
    }

    fn groups(by: By<'_>) -> Vec<Group> {
        let mut totals = Totals::default();
        let hosts = [
            ("a", Some("gz"), host(100, 10.0, [1.0, 2.0])),
            ("b", Some("gz"), host(300, 20.0, [3.0, 0.0])),
            ("c", None, host(500, 90.0, [5.0, 0.0])),
        ];
        for (host, group, snapshot) in &hosts {
            totals.add_snapshot(host, *group, by, ("host", snapshot), |_| true);
        }
        totals.groups()
    }

    fn figure<'a>(group: &'a Group, name: &str) -> &'a Figure {
        group
            .figures
            .iter()
            .find(|figure| figure.name == name)
            .unwrap()
    }

    #[test]
    fn what_adds_up_is_added_and_the_rest_is_not() {
        let all = groups(By::All);
        let [all] = all.as_slice() else {
            unreachable!()
        };
        assert_eq!((all.hosts, all.group.as_deref()), (3, None));
        let free = figure(all, "memory.free_bytes");
        assert_eq!((free.sum, free.count, free.rate), (Some(900.0), 3, None));
        let spread = free.spread.unwrap();
        assert_eq!(
            (spread.min, spread.mean, spread.max),
            (100.0, Some(300.0), 500.0)
        );
        assert_eq!((spread.p50, spread.p95), (300.0, 500.0));
        assert_eq!(figure(all, "cpu.busy_percent").sum, None);
        let rx = figure(all, "interface.rx_bytes");
        assert_eq!((rx.sum, rx.count, rx.rate), (Some(11.0), 6, Some("per_s")));
        let state = figure(all, "interface.operstate");
        assert_eq!(
            state.states,
            [("up".to_owned(), 4), ("down".to_owned(), 2)].into()
        );
        assert!(state.spread.is_none() && state.sum.is_none());
    }

    #[test]
    fn groups_are_by_the_host_or_by_a_label_of_the_series() {
        let by_host = groups(By::Host);
        let names: Vec<_> = by_host
            .iter()
            .map(|group| (group.group.as_deref(), group.hosts))
            .collect();
        assert_eq!(names, [(None, 1), (Some("gz"), 2)]);
        assert_eq!(figure(&by_host[1], "memory.free_bytes").sum, Some(400.0));
        let by_label = groups(By::Label("interface"));
        let names: Vec<_> = by_label
            .iter()
            .map(|group| (group.group.as_deref(), group.hosts))
            .collect();
        assert_eq!(names, [(Some("eth0"), 3), (Some("eth1"), 3)]);
        assert_eq!(figure(&by_label[0], "interface.rx_bytes").sum, Some(9.0));
        assert!(
            by_label[0]
                .figures
                .iter()
                .all(|figure| figure.series.table.name == "interface")
        );
    }
}
