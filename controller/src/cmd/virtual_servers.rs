//! Virtual servers over all directors that have them, from their snapshots: what `muster stats lvs` and
//! `muster collect lvs` show. Pure.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::id::HostId;
use muster_proto::snapshot::host::Counter;
use muster_proto::snapshot::lvs::{LvsSnapshot, RealServer, Traffic, VirtualServer};
use serde::Serialize;

use crate::dispatch::report::Report;
use crate::render::{Cell, Column, Style, Table, Tone, count, plural};

/// A virtual server, over all directors that have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Virtual {
    /// The label's value, where the directors are grouped by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Its name: `tcp/192.0.2.10:80`.
    pub(crate) virtual_server: String,
    /// The directors that have it.
    pub(crate) directors: Vec<HostId>,
    pub(crate) schedulers: BTreeSet<String>,
    /// Sums over the directors; none where none of them can tell.
    pub(crate) connections_per_s: Option<f64>,
    pub(crate) in_packets_per_s: Option<f64>,
    pub(crate) out_packets_per_s: Option<f64>,
    pub(crate) in_bytes_per_s: Option<f64>,
    pub(crate) out_bytes_per_s: Option<f64>,
    pub(crate) active_connections: u64,
    pub(crate) inactive_connections: u64,
    /// Real servers that any director has.
    pub(crate) real_servers: usize,
    /// Those with a weight above 0 at each director that has the virtual server.
    pub(crate) real_servers_up: usize,
    /// Whether directors differ in real servers or weights.
    pub(crate) differs: bool,
    /// Each real server's weight at each director.
    pub(crate) weights: BTreeMap<String, BTreeMap<HostId, u32>>,
}

/// A director's snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Director {
    pub(crate) host: HostId,
    pub(crate) snapshot: LvsSnapshot,
}

/// The snapshots among a job's answers.
pub(crate) fn directors(report: &Report) -> Vec<Director> {
    report
        .hosts
        .iter()
        .filter_map(|host| {
            let snapshot = host.data.pointer("/snapshots/lvs")?;
            Some(Director {
                host: host.host.clone(),
                snapshot: serde_json::from_value(snapshot.clone()).ok()?,
            })
        })
        .collect()
}

/// Every virtual server of some directors, by name.
pub(crate) fn over(directors: &[&Director], group: Option<&str>) -> Vec<Virtual> {
    let mut parts: BTreeMap<&str, Vec<(&HostId, &VirtualServer)>> = BTreeMap::new();
    for director in directors {
        for server in &director.snapshot.virtual_servers {
            let part = parts.entry(&server.name).or_default();
            part.push((&director.host, server));
        }
    }
    parts
        .into_iter()
        .map(|(name, part)| one(name, &part, group))
        .collect()
}

fn one(name: &str, part: &[(&HostId, &VirtualServer)], group: Option<&str>) -> Virtual {
    let sum = |of: fn(&Traffic) -> &Counter| {
        part.iter()
            .filter_map(|(_, server)| of(server.traffic.as_ref()?).per_s)
            .reduce(|sum, one| sum + one)
    };
    let mut weights: BTreeMap<String, BTreeMap<HostId, u32>> = BTreeMap::new();
    for (host, server) in part {
        for real in &server.real_servers {
            let at = weights.entry(real.name.clone()).or_default();
            at.insert((*host).clone(), real.weight);
        }
    }
    let everywhere = |at: &&BTreeMap<HostId, u32>| {
        at.len() == part.len() && at.values().all(|weight| *weight > 0)
    };
    let agreed = |at: &BTreeMap<HostId, u32>| {
        let different: BTreeSet<&u32> = at.values().collect();
        at.len() == part.len() && different.len() == 1
    };
    Virtual {
        group: group.map(str::to_owned),
        virtual_server: name.to_owned(),
        directors: part.iter().map(|(host, _)| (*host).clone()).collect(),
        schedulers: part
            .iter()
            .map(|(_, server)| server.scheduler.clone())
            .collect(),
        connections_per_s: sum(|traffic| &traffic.connections),
        in_packets_per_s: sum(|traffic| &traffic.in_packets),
        out_packets_per_s: sum(|traffic| &traffic.out_packets),
        in_bytes_per_s: sum(|traffic| &traffic.in_bytes),
        out_bytes_per_s: sum(|traffic| &traffic.out_bytes),
        active_connections: part
            .iter()
            .map(|(_, server)| server.active_connections)
            .sum(),
        inactive_connections: part
            .iter()
            .map(|(_, server)| server.inactive_connections)
            .sum(),
        real_servers: weights.len(),
        real_servers_up: weights.values().filter(everywhere).count(),
        differs: !weights.values().all(agreed),
        weights,
    }
}

/// The table of `muster stats lvs`.
pub(crate) fn table(servers: &[Virtual], style: &Style) -> String {
    let heads = ["DIR", "CONN/S", "PKT/S", "IN/S", "OUT/S", "UP"].map(Column::number);
    let columns = [Column::text("VIRTUAL SERVER")].into_iter().chain(heads);
    let mut table = Table::new(columns.chain([Column::text("WEIGHTS")]));
    for server in servers {
        let packets = server.in_packets_per_s.zip(server.out_packets_per_s);
        table.row([
            Cell::from(&server.virtual_server),
            Cell::from(server.directors.len().to_string()),
            figure(server.connections_per_s),
            figure(packets.map(|(into, out)| into + out)),
            speed(server.in_bytes_per_s),
            speed(server.out_bytes_per_s),
            up(server.real_servers_up, server.real_servers),
            weights(server),
        ]);
    }
    table.render(style)
}

/// `3/4`: red where nobody is left, yellow where somebody is missing.
fn up(up: usize, all: usize) -> Cell {
    let tone = match up {
        0 => Tone::Bad,
        some if some < all => Tone::Warn,
        _ => Tone::Plain,
    };
    Cell::toned(format!("{up}/{all}"), tone)
}

/// `1` or `1-50`, over all real servers and directors; with `!` where directors differ.
fn weights(server: &Virtual) -> Cell {
    let all = || server.weights.values().flat_map(BTreeMap::values);
    let (Some(least), Some(most)) = (all().min(), all().max()) else {
        return Cell::from("-");
    };
    let range = if least == most {
        least.to_string()
    } else {
        format!("{least}-{most}")
    };
    if server.differs {
        Cell::toned(format!("{range}!"), Tone::Warn)
    } else {
        Cell::from(range)
    }
}

fn figure(value: Option<f64>) -> Cell {
    Cell::from(value.map_or_else(
        || "-".to_owned(),
        |value| {
            if value < 100.0 {
                format!("{value:.1}")
            } else {
                count(value.round() as u64)
            }
        },
    ))
}

/// Bytes per second in four characters or so: `117M`, `1.8G`.
fn speed(value: Option<f64>) -> Cell {
    const STEP: f64 = 1024.0;
    let Some(mut value) = value else {
        return Cell::from("-");
    };
    for unit in ["", "k", "M", "G", "T"] {
        if value < STEP || unit == "T" {
            let digits = usize::from(value < 10.0 && !unit.is_empty());
            return Cell::from(format!("{value:.digits$}{unit}"));
        }
        value /= STEP;
    }
    Cell::default()
}

/// One director's virtual servers with their real servers, for `muster collect lvs`.
pub(crate) fn director_text(director: &Director, style: &Style) -> String {
    let snapshot = &director.snapshot;
    if !snapshot.present {
        return format!("{} lvs: the kernel has no IPVS here\n", director.host);
    }
    let totals = &snapshot.totals;
    let down = match totals.virtual_servers_down {
        0 => String::new(),
        down => format!(" ({down} down)"),
    };
    let mut text = format!(
        "{} lvs: {}{down}, {} of {} up, from {}\n",
        director.host,
        plural(totals.virtual_servers as usize, "virtual server"),
        totals.real_servers_up,
        plural(totals.real_servers as usize, "real server"),
        crate::render::clean(snapshot.source.as_deref().unwrap_or("nowhere")),
    );
    let heads = ["WEIGHT", "ACTIVE", "CONN/S", "IN/S", "OUT/S"].map(Column::number);
    let first = [Column::text("SERVER"), Column::text("HOW")];
    let mut table = Table::new(first.into_iter().chain(heads));
    for server in &snapshot.virtual_servers {
        let tone = if server.real_servers_up == 0 {
            Tone::Bad
        } else {
            Tone::Plain
        };
        let [connections, into, out] = speeds(server.traffic.as_ref());
        table.row([
            Cell::toned(&server.name, tone),
            Cell::from(&server.scheduler),
            Cell::from(server.weight_total.to_string()),
            Cell::from(count(server.active_connections)),
            connections,
            into,
            out,
        ]);
        for real in &server.real_servers {
            table.row(real_row(real));
        }
    }
    text.push_str(&table.render(style));
    for error in &snapshot.errors {
        text.push_str(&format!(
            "{}: {}\n",
            director.host,
            crate::render::clean(&error.error)
        ));
    }
    text
}

fn real_row(real: &RealServer) -> [Cell; 7] {
    let tone = match (real.weight, real.overloaded) {
        (0, _) => Tone::Dim,
        (_, Some(true)) => Tone::Warn,
        _ => Tone::Plain,
    };
    let [connections, into, out] = speeds(real.traffic.as_ref());
    [
        Cell::toned(format!("- {}", real.name), tone),
        Cell::from(match real.forwarding.as_ref() {
            "masquerade" => "masq", // as ipvsadm says, to save width
            other => other,
        }),
        Cell::toned(real.weight.to_string(), tone),
        Cell::from(count(u64::from(real.active_connections))),
        connections,
        into,
        out,
    ]
}

fn speeds(traffic: Option<&Traffic>) -> [Cell; 3] {
    let of = |of: fn(&Traffic) -> &Counter| traffic.and_then(|traffic| of(traffic).per_s);
    [
        figure(of(|traffic| &traffic.connections)),
        speed(of(|traffic| &traffic.in_bytes)),
        speed(of(|traffic| &traffic.out_bytes)),
    ]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn director(host: &str, weights: [u32; 2], connections_per_s: f64) -> Director {
        let counter = |per_s: f64| json!({ "total": 9, "per_s": per_s });
        let snapshot = json!({ "present": true, "source": "netlink",
            "totals": { "virtual_servers": 2, "virtual_servers_down": 1, "real_servers": 2, "real_servers_up": 2 },
            "virtual_servers": [
            { "name": "tcp/192.0.2.10:80", "scheduler": "wlc", "active_connections": 1234, "real_servers_up": 2,
              "traffic": { "connections": counter(connections_per_s), "in_packets": counter(1000.0),
                "out_packets": counter(900.0), "in_bytes": counter(123_456_789.0), "out_bytes": counter(987_654_321.0) },
              "real_servers": [
                { "name": "10.1.0.1:8080", "weight": weights[0], "forwarding": "masquerade", "active_connections": 1234 },
                { "name": "10.1.0.2:8080", "weight": weights[1], "forwarding": "route" } ] },
            { "name": "udp/[2001:db8:1234:5678::10]:53", "scheduler": "rr" } ] });
        Director {
            host: host.parse().unwrap(),
            snapshot: serde_json::from_value(snapshot).unwrap(),
        }
    }

    fn narrow() -> Style {
        Style {
            width: Some(80),
            ..Style::default()
        }
    }

    #[test]
    fn directors_add_up_and_differences_are_shown() {
        let one = director("lb1", [1, 50], 1.5);
        let other = director("lb2", [1, 0], 2.0);
        let servers = over(&[&one, &other], None);
        assert_eq!(servers[0].connections_per_s, Some(3.5));
        assert_eq!(servers[0].active_connections, 2468);
        assert_eq!(
            (servers[0].real_servers_up, servers[0].real_servers),
            (1, 2)
        );
        assert!(servers[0].differs);
        assert!(!servers[1].differs);
        assert_eq!(servers[1].connections_per_s, None);
        let text = table(&servers, &narrow());
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let squeezed: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            squeezed[0],
            "VIRTUAL SERVER DIR CONN/S PKT/S IN/S OUT/S UP WEIGHTS"
        );
        assert_eq!(
            squeezed[1],
            "tcp/192.0.2.10:80 2 3.5 3.8 k 235M 1.8G 1/2 0-50!"
        );
        assert_eq!(
            squeezed[2],
            "udp/[2001:db8:1234:5678::10]:53 2 - - - - 0/0 -"
        );
    }

    #[test]
    fn a_director_shows_its_table() {
        let text = director_text(&director("lb1", [1, 0], 1.5), &narrow());
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let first = "lb1 lvs: 2 virtual servers (1 down), 2 of 2 real servers up, from netlink\n";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains("- 10.1.0.1:8080"), "{text}");
        let mut absent = director("web1", [1, 1], 0.0);
        absent.snapshot = LvsSnapshot::default();
        assert_eq!(
            director_text(&absent, &narrow()),
            "web1 lvs: the kernel has no IPVS here\n"
        );
    }
}
