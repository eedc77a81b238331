//! The figures of a host that fit a line, taken from its snapshot, and their sums and means over hosts. Pure.

use muster_proto::id::HostId;
use muster_proto::snapshot::host::{Filesystem, HostSnapshot, Interface};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::dispatch::report::Report;
use crate::render::{bytes, duration_ms, percent, rate};

/// A figure.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Its name, for programs; the unit stands last.
    pub(crate) name: &'static str,
    /// Its head in a table.
    pub(crate) head: &'static str,
    /// What it counts.
    pub(crate) unit: Unit,
    /// Whether its sum over hosts means anything.
    pub(crate) adds_up: bool,
    of: fn(&HostSnapshot) -> Option<f64>,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Percent,
    Number,
    Bytes,
    BytesPerSecond,
    Seconds,
}

/// Every figure, in the order of the table.
pub(crate) static FIGURES: &[Figure] = &[
    Figure {
        name: "cpu_percent",
        head: "CPU",
        unit: Unit::Percent,
        adds_up: false,
        of: cpu,
    },
    Figure {
        name: "load1",
        head: "LOAD",
        unit: Unit::Number,
        adds_up: true,
        of: load,
    },
    Figure {
        name: "memory_used_bytes",
        head: "MEM USED",
        unit: Unit::Bytes,
        adds_up: true,
        of: memory_used,
    },
    Figure {
        name: "memory_total_bytes",
        head: "MEM",
        unit: Unit::Bytes,
        adds_up: true,
        of: memory_total,
    },
    Figure {
        name: "disk_busy_percent",
        head: "DISK",
        unit: Unit::Percent,
        adds_up: false,
        of: disk_busy,
    },
    Figure {
        name: "filesystem_used_percent",
        head: "FULLEST",
        unit: Unit::Percent,
        adds_up: false,
        of: filesystem_used,
    },
    Figure {
        name: "rx_bytes_per_s",
        head: "RX",
        unit: Unit::BytesPerSecond,
        adds_up: true,
        of: rx,
    },
    Figure {
        name: "tx_bytes_per_s",
        head: "TX",
        unit: Unit::BytesPerSecond,
        adds_up: true,
        of: tx,
    },
    Figure {
        name: "uptime_s",
        head: "UP",
        unit: Unit::Seconds,
        adds_up: false,
        of: uptime,
    },
];

/// One host's figures, in the order of [`FIGURES`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) host: HostId,
    pub(crate) values: Vec<Option<f64>>,
    /// The mount point of the fullest filesystem.
    pub(crate) fullest: Option<String>,
}

/// One figure over some hosts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) hosts: usize,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) max: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sum: Option<f64>,
}

impl Unit {
    /// A value of it, for people.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Percent => percent(value / 100.0),
            Self::Number => format!("{value:.2}"),
            Self::Bytes => bytes(value.max(0.0) as u64),
            Self::BytesPerSecond => rate(value),
            Self::Seconds => duration_ms(value * 1000.0),
        }
    }
}

/// The host snapshots among a job's answers, as figures.
pub(crate) fn rows(report: &Report) -> Vec<Row> {
    report
        .hosts
        .iter()
        .filter_map(|host| {
            let snapshot = host.data.pointer("/snapshots/host")?;
            let snapshot: HostSnapshot = serde_json::from_value(snapshot.clone()).ok()?;
            let values = FIGURES
                .iter()
                .map(|figure| (figure.of)(&snapshot))
                .collect();
            let fullest = fullest(&snapshot).map(|mount| mount.mount_point.clone());
            Some(Row {
                host: host.host.clone(),
                values,
                fullest,
            })
        })
        .collect()
}

/// The figure number `at` over `rows`; none where no host has it.
pub(crate) fn spread(rows: &[&Row], at: usize) -> Option<Spread> {
    let values: Vec<f64> = rows
        .iter()
        .filter_map(|row| row.values.get(at).copied().flatten())
        .collect();
    let sum: f64 = values.iter().sum();
    let adds_up = FIGURES.get(at)?.adds_up;
    Some(Spread {
        hosts: values.len(),
        min: values.iter().copied().reduce(f64::min)?,
        mean: sum / values.len() as f64,
        max: values.iter().copied().reduce(f64::max)?,
        sum: adds_up.then_some(sum),
    })
}

/// Every figure over `rows`, by name, for programs.
pub(crate) fn spreads(rows: &[&Row]) -> Map<String, Value> {
    FIGURES
        .iter()
        .enumerate()
        .filter_map(|(at, figure)| {
            Some((
                figure.name.to_owned(),
                serde_json::to_value(spread(rows, at)?).ok()?,
            ))
        })
        .collect()
}

fn cpu(snapshot: &HostSnapshot) -> Option<f64> {
    Some(snapshot.cpu.as_ref()?.total.interval.as_ref()?.busy_percent)
}

fn load(snapshot: &HostSnapshot) -> Option<f64> {
    Some(snapshot.load.as_ref()?.load1)
}

fn memory_used(snapshot: &HostSnapshot) -> Option<f64> {
    let memory = snapshot.memory.as_ref()?;
    Some(memory.total_bytes.saturating_sub(memory.available_bytes) as f64)
}

fn memory_total(snapshot: &HostSnapshot) -> Option<f64> {
    Some(snapshot.memory.as_ref()?.total_bytes as f64)
}

fn disk_busy(snapshot: &HostSnapshot) -> Option<f64> {
    snapshot
        .disks
        .as_ref()?
        .devices
        .iter()
        .filter_map(|disk| disk.utilisation_percent)
        .reduce(f64::max)
}

fn fullest(snapshot: &HostSnapshot) -> Option<&Filesystem> {
    // One that can't be written to is as full as it will ever be.
    let mounts = snapshot
        .filesystems
        .as_ref()?
        .mounts
        .iter()
        .filter(|mount| !mount.read_only);
    mounts.max_by(|one, other| one.used_percent.total_cmp(&other.used_percent))
}

fn filesystem_used(snapshot: &HostSnapshot) -> Option<f64> {
    fullest(snapshot).map(|mount| mount.used_percent)
}

/// The sum over interfaces; what a host says to itself is not traffic.
fn traffic(snapshot: &HostSnapshot, of: fn(&Interface) -> Option<f64>) -> Option<f64> {
    let interfaces = snapshot
        .network
        .as_ref()?
        .interfaces
        .iter()
        .filter(|interface| interface.name != "lo");
    interfaces.filter_map(of).reduce(|sum, one| sum + one)
}

fn rx(snapshot: &HostSnapshot) -> Option<f64> {
    traffic(snapshot, |interface| interface.rx_bytes.per_s)
}

fn tx(snapshot: &HostSnapshot) -> Option<f64> {
    traffic(snapshot, |interface| interface.tx_bytes.per_s)
}

fn uptime(snapshot: &HostSnapshot) -> Option<f64> {
    Some(snapshot.uptime.as_ref()?.uptime_s)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn row(host: &str, cpu: Option<f64>, load: Option<f64>) -> Row {
        Row {
            host: host.parse().unwrap(),
            values: vec![cpu, load],
            fullest: None,
        }
    }

    #[test]
    fn a_spread_leaves_out_who_does_not_tell() {
        let rows = [
            row("a", Some(10.0), Some(1.0)),
            row("b", None, Some(3.0)),
            row("c", Some(30.0), None),
        ];
        let rows: Vec<&Row> = rows.iter().collect();
        assert_eq!(
            spread(&rows, 0),
            Some(Spread {
                hosts: 2,
                min: 10.0,
                mean: 20.0,
                max: 30.0,
                sum: None
            })
        );
        assert_eq!(
            spread(&rows, 1),
            Some(Spread {
                hosts: 2,
                min: 1.0,
                mean: 2.0,
                max: 3.0,
                sum: Some(4.0)
            })
        );
        assert_eq!(spread(&rows, 2), None);
        assert_eq!(spread(&[], 0), None);
    }

    #[test]
    fn figures_come_from_the_snapshot_and_a_missing_part_is_none() {
        let snapshot: HostSnapshot = serde_json::from_value(serde_json::json!({
            "memory": { "total_bytes": 1000, "available_bytes": 400 },
            "filesystems": { "mounts": [
                { "mount_point": "/", "used_percent": 40.0 }, { "mount_point": "/var", "used_percent": 81.0 },
                { "mount_point": "/snap", "used_percent": 100.0, "read_only": true } ] },
            "network": { "interfaces": [
                { "name": "lo", "rx_bytes": { "total": 1, "per_s": 999.0 } },
                { "name": "eth0", "rx_bytes": { "total": 1, "per_s": 10.0 } },
                { "name": "eth1", "rx_bytes": { "total": 1, "per_s": 5.0 } } ] }
        }))
        .unwrap();
        let of = |name: &str| {
            (FIGURES
                .iter()
                .find(|figure| figure.name == name)
                .unwrap()
                .of)(&snapshot)
        };
        assert_eq!(of("memory_used_bytes"), Some(600.0));
        assert_eq!(of("filesystem_used_percent"), Some(81.0));
        assert_eq!(
            (of("rx_bytes_per_s"), of("tx_bytes_per_s")),
            (Some(15.0), None)
        );
        assert_eq!(of("cpu_percent"), None);
    }
}
