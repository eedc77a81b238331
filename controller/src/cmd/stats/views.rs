//! The views that collectors have of their own: hosts side by side, virtual servers over directors, units over hosts, and
//! who is master.

use std::collections::BTreeMap;

use anyhow::Result;
use muster_proto::id::HostId;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Screenful;
use crate::cmd::figures::{FIGURES, Row, rows, spread, spreads};
use crate::cmd::units;
use crate::cmd::virtual_routers::{self, Node, Router, nodes};
use crate::cmd::virtual_servers::{self, Director, Virtual, directors, over};
use crate::render::{Cell, Column, Style, Table, plural};

/// Collectors with a view of their own.
pub(super) const HAVE_VIEWS: [&str; 4] = ["host", "keepalived", "lvs", "services"];

/// Some hosts' figures together.
#[derive(Debug, Serialize)]
struct Group {
    /// The label's value; none for all hosts, and for those without the label.
    group: Option<String>,
    hosts: usize,
    figures: Map<String, Value>,
    #[serde(skip)]
    rows: Vec<Row>,
}

impl Screenful<'_> {
    /// The view of a collector that has one.
    pub(super) fn show_view(&self, collector: &str) -> Result<()> {
        match collector {
            "keepalived" => self.show_virtual_routers(),
            "lvs" => self.show_virtual_servers(),
            "services" => self.show_units(),
            _ => self.show_hosts(),
        }
    }

    fn show_hosts(&self) -> Result<()> {
        let groups = groups(rows(self.report), self.values);
        self.context.show_list(&groups, |style| {
            table(&groups, self.by, style) + &self.foot(style)
        })
    }

    /// For each virtual server over its directors; with `--by`, over those of each value of the label.
    fn show_virtual_servers(&self) -> Result<()> {
        let directors = directors(self.report);
        let mut parts: BTreeMap<Option<&str>, Vec<&Director>> = BTreeMap::new();
        for director in &directors {
            let value = self.values.get(&director.host).map(String::as_str);
            parts.entry(value).or_default().push(director);
        }
        let parts: Vec<(Option<&str>, Vec<Virtual>)> = parts
            .into_iter()
            .map(|(value, part)| (value, over(&part, value)))
            .filter(|(_, servers)| !servers.is_empty())
            .collect();
        let all: Vec<&Virtual> = parts.iter().flat_map(|(_, servers)| servers).collect();
        self.context.show_list(&all, |style| {
            let mut text = String::new();
            for (value, servers) in &parts {
                if let Some(label) = self.by {
                    let value = value.map_or_else(
                        || format!("without {label}"),
                        |value| format!("{label}={value}"),
                    );
                    text.push_str(&format!("{}\n", crate::render::clean(&value)));
                }
                text.push_str(&virtual_servers::table(servers, style));
                text.push('\n');
            }
            if parts.is_empty() {
                text.push_str("no host that answered has a virtual server\n");
            }
            text + &self.foot(style)
        })
    }

    /// Each unit over its hosts; with `--by`, over those of each value of the label.
    fn show_units(&self) -> Result<()> {
        let fleet = units::fleet(self.report, self.values);
        self.context.show_list(&fleet, |style| {
            let text = if fleet.is_empty() {
                "no host that answered watches a unit\n".to_owned()
            } else {
                units::fleet_table(&fleet, self.by, style) + "\n"
            };
            text + &self.foot(style)
        })
    }

    /// Who is master of each virtual router; with `--by`, among the hosts of each value of the label.
    fn show_virtual_routers(&self) -> Result<()> {
        let nodes = nodes(self.report);
        let mut parts: BTreeMap<Option<&str>, Vec<&Node>> = BTreeMap::new();
        for node in &nodes {
            let value = self.values.get(&node.host).map(String::as_str);
            parts.entry(value).or_default().push(node);
        }
        let routers: Vec<Router> = parts
            .into_iter()
            .flat_map(|(value, part)| virtual_routers::over(&part, value))
            .collect();
        self.context.show_list(&routers, |style| {
            let mut text = match routers.is_empty() {
                true => "no host that answered has a VRRP instance\n".to_owned(),
                false => virtual_routers::table(&routers, style),
            };
            text.push('\n');
            text + &self.foot(style)
        })
    }
}

fn groups(rows: Vec<Row>, values: &BTreeMap<HostId, String>) -> Vec<Group> {
    let mut parts: BTreeMap<Option<String>, Vec<Row>> = BTreeMap::new();
    for row in rows {
        parts
            .entry(values.get(&row.host).cloned())
            .or_default()
            .push(row);
    }
    parts
        .into_iter()
        .map(|(group, rows)| {
            let all: Vec<&Row> = rows.iter().collect();
            Group {
                group,
                hosts: rows.len(),
                figures: spreads(&all),
                rows,
            }
        })
        .collect()
}

fn table(groups: &[Group], by: Option<&str>, style: &Style) -> String {
    let mut text = String::new();
    for group in groups {
        if let Some(label) = by {
            let value = group.group.as_deref().map_or_else(
                || format!("without {label}"),
                |value| format!("{label}={value}"),
            );
            text.push_str(&format!(
                "{}: {}\n",
                crate::render::clean(&value),
                plural(group.hosts, "host")
            ));
        }
        let heads = ["MIN", "MEAN", "MAX", "SUM", "HOSTS"].map(Column::number);
        let mut table = Table::new([Column::text("FIGURE")].into_iter().chain(heads));
        let all: Vec<&Row> = group.rows.iter().collect();
        for (at, figure) in FIGURES.iter().enumerate() {
            let Some(spread) = spread(&all, at) else {
                continue;
            };
            let show = |value: f64| Cell::from(figure.unit.show(value));
            table.row([
                Cell::from(figure.name),
                show(spread.min),
                show(spread.mean),
                show(spread.max),
                spread.sum.map(show).unwrap_or_default(),
                Cell::from(spread.hosts.to_string()),
            ]);
        }
        if !table.is_empty() {
            text.push_str(&table.render(style));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_grouped_by_the_label_and_those_without_it_apart() {
        let row = |host: &str, load: f64| Row {
            host: host.parse().unwrap(),
            values: vec![None, Some(load)],
            fullest: None,
        };
        let values = [("a1", "gz"), ("a2", "gz"), ("b1", "sz")]
            .map(|(host, dc)| (host.parse().unwrap(), dc.to_owned()));
        let groups = groups(
            vec![
                row("a1", 1.0),
                row("a2", 3.0),
                row("b1", 5.0),
                row("x", 7.0),
            ],
            &values.into(),
        );
        insta::assert_snapshot!(table(&groups, Some("dc"), &Style::default()));
        let json = serde_json::to_value(&groups).unwrap();
        assert_eq!(
            json.pointer("/1/figures/load1/sum"),
            Some(&serde_json::json!(4.0))
        );
        assert_eq!(json.pointer("/0/group"), Some(&Value::Null));
    }
}
