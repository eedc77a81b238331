//! Services and watched processes, from the hosts' snapshots: what `muster collect services processes` and
//! `muster stats services` show. Pure.

use std::collections::BTreeMap;

use muster_proto::id::HostId;
use muster_proto::snapshot::processes::{ProcessesSnapshot, Watch};
use muster_proto::snapshot::services::{ServicesSnapshot, Unit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dispatch::report::Report;
use crate::render::{Cell, Column, Style, Table, Tone, bytes, count, duration_ms, names, percent};

/// Hosts that are named where a unit has failed.
const NAMED_MAX: usize = 3;

/// A unit over all hosts that have it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Fleet {
    /// The label's value, where the hosts are grouped by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Its name: `nginx.service`.
    pub(crate) unit: String,
    /// Hosts on which it is watched and found.
    pub(crate) hosts: usize,
    /// Of these, by the unit's state.
    pub(crate) active: usize,
    pub(crate) inactive: usize,
    /// Starting, stopping, waiting for a restart.
    pub(crate) changing: usize,
    pub(crate) failed: usize,
    /// The hosts on which it has failed.
    pub(crate) failed_on: Vec<HostId>,
    /// Restarts that the agents have seen.
    pub(crate) restarts_seen: u64,
    /// Sums over the hosts; none where none of them can tell.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) tasks: Option<u64>,
    pub(crate) sockets: Option<u64>,
}

/// Each unit over the hosts of each group, what has failed first.
pub(crate) fn fleet(report: &Report, groups: &BTreeMap<HostId, String>) -> Vec<Fleet> {
    let mut units: BTreeMap<(Option<String>, String), Fleet> = BTreeMap::new();
    for (host, snapshot) in snapshots::<ServicesSnapshot>(report, "services") {
        let group = groups.get(&host).cloned();
        for unit in snapshot
            .units
            .iter()
            .filter(|unit| unit.load_state != "not-found")
        {
            let fleet = units.entry((group.clone(), unit.name.clone())).or_default();
            (fleet.group, fleet.unit) = (group.clone(), unit.name.clone());
            fleet.add(&host, unit);
        }
    }
    let mut units: Vec<Fleet> = units.into_values().collect();
    units.sort_by_key(|unit| std::cmp::Reverse(unit.failed)); // stable: else by name
    units
}

/// These as a table; `by` is the label by which they are grouped.
pub(crate) fn fleet_table(units: &[Fleet], by: Option<&str>, style: &Style) -> String {
    let group = by.map(|label| Column::text(label.to_uppercase()));
    let heads = ["HOSTS", "ACTIVE", "FAILED", "RESTARTS", "MEM", "CPU"];
    let columns = group
        .into_iter()
        .chain([Column::text("UNIT")])
        .chain(heads.map(Column::number))
        .chain([Column::text("FAILED ON")]);
    let mut table = Table::new(columns);
    for unit in units {
        let group = by.map(|_| Cell::from(unit.group.as_deref().unwrap_or("-")));
        let failed = Cell::toned(
            unit.failed.to_string(),
            if unit.failed > 0 {
                Tone::Bad
            } else {
                Tone::Plain
            },
        );
        let cells = [
            Cell::from(unit.unit.as_str()),
            Cell::from(unit.hosts.to_string()),
            Cell::from(unit.active.to_string()),
            failed,
            Cell::from(count(unit.restarts_seen)),
            Cell::from(shown(unit.memory_bytes, bytes)),
            Cell::from(shown(unit.cpu_percent, |cpu| percent(cpu / 100.0))),
            Cell::from(names(&unit.failed_on, NAMED_MAX)),
        ];
        table.row(group.into_iter().chain(cells));
    }
    table.render(style)
}

/// The units and the watched processes of every host, what does not work first.
pub(crate) fn text(report: &Report, style: &Style) -> String {
    let mut text = String::new();
    let services = snapshots::<ServicesSnapshot>(report, "services");
    for (host, snapshot) in &services {
        if let Some(error) = snapshot
            .manager
            .error
            .as_ref()
            .filter(|_| !snapshot.manager.connected)
        {
            text.push_str(&format!(
                "{host} services: {}\n",
                crate::render::clean(error)
            ));
        }
    }
    text.push_str(&units_table(&services, style));
    text.push_str(&watches_table(&snapshots(report, "processes"), style));
    text
}

impl Fleet {
    fn add(&mut self, host: &HostId, unit: &Unit) {
        self.hosts += 1;
        match unit.active_state.as_str() {
            "active" | "reloading" | "refreshing" => self.active += 1,
            "inactive" => self.inactive += 1,
            "failed" => {
                self.failed += 1;
                self.failed_on.push(host.clone());
            }
            _ => self.changing += 1,
        }
        self.restarts_seen += unit.restarts_seen;
        let Some(usage) = &unit.usage else { return };
        let add = |sum: &mut Option<u64>, value: Option<u64>| {
            if let Some(value) = value {
                *sum = Some(sum.unwrap_or_default().saturating_add(value));
            }
        };
        add(&mut self.memory_bytes, usage.memory_bytes);
        add(&mut self.tasks, usage.tasks);
        add(&mut self.sockets, usage.sockets);
        if let Some(cpu) = usage.cpu_percent {
            self.cpu_percent = Some(self.cpu_percent.unwrap_or_default() + cpu);
        }
    }
}

/// The collector's snapshots among a job's answers.
fn snapshots<T: DeserializeOwned>(report: &Report, collector: &str) -> Vec<(HostId, T)> {
    let read = |host: &crate::dispatch::report::HostReport| {
        let snapshot = host.data.get("snapshots")?.get(collector)?;
        Some((
            host.host.clone(),
            serde_json::from_value(snapshot.clone()).ok()?,
        ))
    };
    report.hosts.iter().filter_map(read).collect()
}

fn units_table(services: &[(HostId, ServicesSnapshot)], style: &Style) -> String {
    let numbers =
        ["SINCE", "PID", "RESTARTS", "MEM", "CPU", "TASKS", "SOCKETS"].map(Column::number);
    let columns = ["HOST", "UNIT", "STATE"]
        .map(Column::text)
        .into_iter()
        .chain(numbers);
    let mut table = Table::new(columns);
    let units = services.iter().flat_map(|(host, snapshot)| {
        let units = snapshot.units.iter();
        units.map(move |unit| (host, snapshot.at_ms, unit))
    });
    let mut units: Vec<_> = units.collect();
    units.sort_by_key(|(.., unit)| unit.active_state != "failed"); // stable
    for (host, at_ms, unit) in units {
        let usage = unit.usage.clone().unwrap_or_default();
        let since = unit
            .since_ms
            .map(|since| at_ms.saturating_sub(since) as f64);
        table.row([
            Cell::from(host.as_str()),
            Cell::from(unit.name.as_str()),
            state(unit),
            Cell::from(shown(since, duration_ms)),
            Cell::from(shown(unit.main_pid, |pid| pid.to_string())),
            Cell::from(count(unit.restarts_seen)),
            Cell::from(shown(usage.memory_bytes, bytes)),
            Cell::from(shown(usage.cpu_percent, |cpu| percent(cpu / 100.0))),
            Cell::from(shown(usage.tasks, count)),
            Cell::from(shown(usage.sockets, count)),
        ]);
    }
    rendered(&table, style)
}

fn state(unit: &Unit) -> Cell {
    let (text, tone) = match unit.active_state.as_str() {
        "failed" => {
            let result = unit.result.as_deref().unwrap_or("?");
            (format!("failed ({result})"), Tone::Bad)
        }
        "inactive" if unit.load_state != "loaded" => (unit.load_state.clone(), Tone::Warn),
        "inactive" => (format!("inactive ({})", unit.sub_state), Tone::Dim),
        active => (format!("{active} ({})", unit.sub_state), Tone::Plain),
    };
    Cell::toned(text, tone)
}

fn watches_table(processes: &[(HostId, ProcessesSnapshot)], style: &Style) -> String {
    let numbers = [
        "COUNT", "PID", "AGE", "RESTARTS", "MEM", "CPU", "THREADS", "FILES",
    ]
    .map(Column::number);
    let columns = ["HOST", "PROCESS", "STATE"]
        .map(Column::text)
        .into_iter()
        .chain(numbers);
    let mut table = Table::new(columns);
    let watches = processes.iter().flat_map(|(host, snapshot)| {
        let watches = snapshot.watches.iter();
        watches.map(move |watch| (host, watch))
    });
    let mut watches: Vec<(&HostId, &Watch)> = watches.collect();
    watches.sort_by_key(|(_, watch)| watch.up); // stable
    for (host, watch) in watches {
        let (state, tone) = if watch.up {
            ("up", Tone::Plain)
        } else {
            ("down", Tone::Bad)
        };
        let main = watch.main.as_ref();
        table.row([
            Cell::from(host.as_str()),
            Cell::from(watch.name.as_str()),
            Cell::toned(state, tone),
            Cell::from(count(watch.count)),
            Cell::from(shown(main.map(|main| main.pid), |pid| pid.to_string())),
            Cell::from(shown(
                main.map(|main| main.age_s as f64 * 1000.0),
                duration_ms,
            )),
            Cell::from(count(watch.restarts_seen)),
            Cell::from(bytes(watch.rss_bytes)),
            Cell::from(shown(watch.cpu_percent, |cpu| percent(cpu / 100.0))),
            Cell::from(count(watch.threads)),
            Cell::from(shown(watch.open_files, count)),
        ]);
    }
    rendered(&table, style)
}

fn rendered(table: &Table, style: &Style) -> String {
    if table.is_empty() {
        String::new()
    } else {
        table.render(style) + "\n"
    }
}

/// A value, or a dash where the host does not tell.
fn shown<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn services(host: &str, units: serde_json::Value) -> (HostId, ServicesSnapshot) {
        let snapshot = json!({"at_ms": 1_000_000, "manager": {"connected": true}, "units": units});
        (
            host.parse().unwrap(),
            serde_json::from_value(snapshot).unwrap(),
        )
    }

    #[test]
    fn what_has_failed_comes_first() {
        let good = json!({
            "name": "nginx.service", "load_state": "loaded", "active_state": "active", "sub_state": "running",
            "since_ms": 400_000, "main_pid": 7,
            "usage": {"memory_bytes": 3_145_728, "cpu_percent": 12.5, "tasks": 3, "sockets": 2},
        });
        let bad = json!({
            "name": "cron.service", "load_state": "loaded", "active_state": "failed", "result": "signal",
            "since_ms": 999_000, "restarts_seen": 4,
        });
        let services = [
            services("lb1", json!([good])),
            services("lb2", json!([bad])),
        ];
        let table = units_table(&services, &Style::default());
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1][..4], ["lb2", "cron.service", "failed", "(signal)"]);
        assert_eq!(lines[1].last(), Some(&"-"));
        let want = "lb1 nginx.service active (running) 10 m 7 0 3.0 MiB 12.5 % 3 2";
        assert_eq!(lines[2].join(" "), want);
        assert!(
            table.lines().all(|line| line.chars().count() <= 100),
            "{table}"
        );
    }

    #[test]
    fn units_add_up_over_the_fleet() {
        let mut fleet = Fleet {
            unit: "nginx.service".to_owned(),
            ..Fleet::default()
        };
        for (host, state, memory) in [
            ("lb1", "active", 1),
            ("lb2", "failed", 2),
            ("lb3", "activating", 4),
        ] {
            let unit: Unit = serde_json::from_value(json!({
                "name": "nginx.service", "active_state": state, "restarts_seen": 1,
                "usage": {"memory_bytes": memory << 20},
            }))
            .unwrap();
            fleet.add(&host.parse().unwrap(), &unit);
        }
        assert_eq!(
            (fleet.hosts, fleet.active, fleet.failed, fleet.changing),
            (3, 1, 1, 1)
        );
        assert_eq!(
            (fleet.memory_bytes, fleet.cpu_percent, fleet.restarts_seen),
            (Some(7 << 20), None, 3)
        );
        let table = fleet_table(&[fleet], None, &Style::default());
        let line: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(line.join(" "), "nginx.service 3 1 1 3 7.0 MiB - lb2");
    }

    #[test]
    fn watches_that_are_down_come_first() {
        let snapshot: ProcessesSnapshot = serde_json::from_value(json!({"watches": [
            {"name": "cod4", "up": true, "count": 1, "main": {"pid": 9, "age_s": 60}, "rss_bytes": 1024, "threads": 2},
            {"name": "hlds"},
        ]}))
        .unwrap();
        let table = watches_table(&[("gs1".parse().unwrap(), snapshot)], &Style::default());
        assert!(
            table
                .lines()
                .nth(1)
                .unwrap()
                .starts_with("gs1   hlds     down"),
            "{table}"
        );
        assert!(table.contains("cod4"), "{table}");
    }
}
