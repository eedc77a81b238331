//! VRRP over all hosts that run keepalived, from their snapshots: who is master, and where nobody or more than one is.
//! What `muster stats keepalived` and `muster collect keepalived` show. Pure.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::id::HostId;
use muster_proto::snapshot::keepalived::{Daemon, KeepalivedSnapshot, VrrpInstance, VrrpState};
use serde::Serialize;

use crate::dispatch::report::Report;
use crate::render::{Cell, Column, Style, Table, Tone, clean, plural};

/// Lines about one host at the most.
const LINES_MAX: usize = 20;

/// A virtual router: the same instance on every host that takes part in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Router {
    /// The label's value, where hosts are grouped by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Its name; the first one where hosts call it differently.
    pub(crate) instance: String,
    pub(crate) vrid: Option<u32>,
    /// Its virtual addresses.
    pub(crate) addresses: Vec<String>,
    pub(crate) masters: Vec<HostId>,
    pub(crate) backups: Vec<HostId>,
    /// Hosts in any other state, with it.
    pub(crate) others: BTreeMap<HostId, VrrpState>,
    /// Whether exactly one host is master.
    pub(crate) good: bool,
}

impl Router {
    /// Its name, with the label's value where there is one.
    fn label(&self) -> String {
        match &self.group {
            Some(group) => format!("{} ({group})", self.instance),
            None => self.instance.clone(),
        }
    }
}

/// By which instances belong together: addresses, number, and the name where there is no address.
type Key = (Vec<String>, Option<u32>, String);

/// A host's snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) host: HostId,
    pub(crate) snapshot: KeepalivedSnapshot,
}

/// The snapshots among a job's answers.
pub(crate) fn nodes(report: &Report) -> Vec<Node> {
    let nodes = report.hosts.iter().filter_map(|host| {
        let snapshot = host.data.pointer("/snapshots/keepalived")?;
        Some(Node {
            host: host.host.clone(),
            snapshot: serde_json::from_value(snapshot.clone()).ok()?,
        })
    });
    nodes.collect()
}

/// Every virtual router of some hosts. The same name and number are used again in other networks, so that the addresses
/// say which instances belong together.
pub(crate) fn over(nodes: &[&Node], group: Option<&str>) -> Vec<Router> {
    let mut parts: BTreeMap<Key, Vec<(&HostId, &VrrpInstance)>> = BTreeMap::new();
    for node in nodes {
        for (_, instance) in node.snapshot.instances() {
            let addresses = addresses(instance);
            // Without any address the name is all there is.
            let name = match addresses.is_empty() {
                true => instance.name.clone(),
                false => String::new(),
            };
            let part = parts.entry((addresses, instance.vrid, name)).or_default();
            part.push((&node.host, instance));
        }
    }
    let mut routers: Vec<Router> = parts
        .into_iter()
        .map(|((addresses, vrid, _), part)| one(addresses, vrid, &part, group))
        .collect();
    routers.sort_by(|a, b| (&a.instance, &a.addresses).cmp(&(&b.instance, &b.addresses)));
    routers
}

fn one(
    addresses: Vec<String>,
    vrid: Option<u32>,
    part: &[(&HostId, &VrrpInstance)],
    group: Option<&str>,
) -> Router {
    let of = |state: VrrpState| -> Vec<HostId> {
        let hosts: BTreeSet<&HostId> = part
            .iter()
            .filter(|(_, instance)| instance.state == state)
            .map(|(host, _)| *host)
            .collect();
        hosts.into_iter().cloned().collect()
    };
    let masters = of(VrrpState::Master);
    let known = [VrrpState::Master, VrrpState::Backup];
    let others = part
        .iter()
        .filter(|(_, instance)| !known.contains(&instance.state));
    Router {
        group: group.map(str::to_owned),
        instance: part
            .first()
            .map(|(_, first)| first.name.clone())
            .unwrap_or_default(),
        vrid,
        addresses,
        good: masters.len() == 1,
        masters,
        backups: of(VrrpState::Backup),
        others: others
            .map(|(host, instance)| ((*host).clone(), instance.state))
            .collect(),
    }
}

/// The addresses alone, in order: `192.0.2.99` of `192.0.2.99 dev eth0 scope global set`.
fn addresses(instance: &VrrpInstance) -> Vec<String> {
    let all = instance
        .addresses
        .iter()
        .chain(&instance.excluded_addresses);
    let words = all.filter_map(|address| address.split([' ', '/']).next().map(str::to_owned));
    let sorted: BTreeSet<String> = words.collect();
    sorted.into_iter().collect()
}

/// One row for each virtual router; those without exactly one master are told in words as well.
pub(crate) fn table(routers: &[Router], style: &Style) -> String {
    let columns = ["INSTANCE", "VRID", "ADDRESS", "MASTER", "BACKUP", "OTHER"];
    let mut table = Table::new(columns.map(Column::text));
    for router in routers {
        let names = |hosts: &[HostId]| {
            let names: Vec<&str> = hosts.iter().map(HostId::as_str).collect();
            names.join(" ")
        };
        let master = match router.masters.len() {
            0 => "none".to_owned(),
            1 => names(&router.masters),
            count => format!("{count}: {}", names(&router.masters)),
        };
        let tone = if router.good { Tone::Plain } else { Tone::Bad };
        let more = router.addresses.len().saturating_sub(1);
        let mut address = router.addresses.first().cloned().unwrap_or_default();
        if more > 0 {
            address.push_str(&format!(" +{more}"));
        }
        let others = router
            .others
            .iter()
            .map(|(host, state)| format!("{host} {state}"));
        table.row([
            Cell::from(clean(&router.label())),
            Cell::from(router.vrid.map(|vrid| vrid.to_string()).unwrap_or_default()),
            Cell::from(clean(&address)),
            Cell::toned(master, tone),
            Cell::from(names(&router.backups)),
            Cell::from(others.collect::<Vec<_>>().join(" ")),
        ]);
    }
    let mut text = table.render(style);
    for router in routers.iter().filter(|router| !router.good) {
        let (name, masters) = (clean(&router.label()), router.masters.len());
        text.push_str(&match masters {
            0 => format!("{name}: NO MASTER\n"),
            count => format!("{name}: {count} MASTERS AT ONCE\n"),
        });
    }
    text
}

/// What one host's keepalived is like: a line with the sums, and one for each thing that is not as it should be.
pub(crate) fn node_text(node: &Node) -> String {
    let mut text = String::new();
    for daemon in &node.snapshot.daemons {
        text.push_str(&daemon_text(&node.host, daemon));
    }
    if node.snapshot.daemons.is_empty() {
        text.push_str(&format!("{}: no keepalived runs\n", node.host));
    }
    for error in node.snapshot.errors.iter().take(LINES_MAX) {
        text.push_str(&format!(
            "  {}: {}\n",
            clean(&error.part),
            clean(&error.error)
        ));
    }
    text
}

fn daemon_text(host: &HostId, daemon: &Daemon) -> String {
    let (name, version) = (clean(&daemon.name), daemon.version.as_deref().unwrap_or(""));
    if !daemon.running {
        return format!("{host} {name}: not running\n");
    }
    let instances = daemon.vrrp.iter().flatten();
    let masters = instances
        .clone()
        .filter(|instance| instance.state == VrrpState::Master);
    let servers = daemon.virtual_servers.iter().flatten();
    let reals = servers.clone().flat_map(|server| &server.real_servers);
    let alive = reals.clone().filter(|real| real.alive == Some(true));
    let mut text = format!(
        "{host} {name} {}: {} ({} master), {}, {} of {} alive\n",
        clean(version),
        plural(instances.clone().count(), "VRRP instance"),
        masters.count(),
        plural(servers.clone().count(), "virtual server"),
        alive.count(),
        plural(reals.count(), "real server"),
    );
    let well = [VrrpState::Master, VrrpState::Backup];
    let mut lines: Vec<String> = instances
        .filter(|instance| !well.contains(&instance.state))
        .map(|instance| format!("{} is in state {}", instance.name, instance.state))
        .collect();
    for server in servers {
        if server.quorum_up == Some(false) {
            lines.push(format!("{} has no quorum", server.name));
        }
        for real in &server.real_servers {
            let of = format!("{} of {}", real.name, server.name);
            if real.alive == Some(false) {
                let reason = real.reason.as_deref().unwrap_or("no reason is told");
                lines.push(format!("{of} is out: {reason}"));
            }
            if real.in_step == Some(false) {
                lines.push(format!(
                    "{of}: the kernel's table is not as the checkers want it"
                ));
            }
        }
    }
    let left = lines.len().saturating_sub(LINES_MAX);
    for line in lines.iter().take(LINES_MAX) {
        text.push_str(&format!("  {}\n", clean(line)));
    }
    if left > 0 {
        text.push_str(&format!("  and {left} more\n"));
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use muster_proto::snapshot::keepalived::{RealServer, VirtualServer};

    use super::*;

    fn node(host: &str, state: VrrpState, address: &str) -> Node {
        let instance = VrrpInstance {
            name: "VI_1".to_owned(),
            vrid: Some(51),
            state,
            addresses: vec![format!("{address} dev eth0 scope global")],
            ..VrrpInstance::default()
        };
        let daemon = Daemon {
            name: "keepalived".to_owned(),
            running: true,
            version: Some("2.2.7".to_owned()),
            vrrp: Some(vec![instance]),
            ..Daemon::default()
        };
        Node {
            host: host.parse().unwrap(),
            snapshot: KeepalivedSnapshot {
                daemons: vec![daemon],
                ..KeepalivedSnapshot::default()
            },
        }
    }

    #[test]
    fn two_masters_and_none_are_shown_loudly() {
        let nodes = [
            node("lb1", VrrpState::Master, "192.0.2.1"),
            node("lb2", VrrpState::Backup, "192.0.2.1"),
            node("lb3", VrrpState::Master, "192.0.2.3"),
            node("lb4", VrrpState::Master, "192.0.2.3"),
            node("lb5", VrrpState::Fault, "192.0.2.5"),
        ];
        let all: Vec<&Node> = nodes.iter().collect();
        let routers = over(&all, None);
        let good: Vec<bool> = routers.iter().map(|router| router.good).collect();
        assert_eq!(good, [true, false, false]);
        let text = table(&routers, &Style::default());
        assert!(
            text.contains("2: lb3 lb4") && text.contains("2 MASTERS AT ONCE"),
            "{text}"
        );
        assert!(
            text.contains("NO MASTER") && text.contains("lb5 fault"),
            "{text}"
        );
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn a_host_is_its_sums_and_what_is_wrong() {
        let mut node = node("lb1", VrrpState::Fault, "192.0.2.1");
        let real = |alive: bool| RealServer {
            name: "[10.0.0.1]:tcp:80".to_owned(),
            alive: Some(alive),
            reason: (!alive).then(|| "TCP_CHECK fails".to_owned()),
            ..RealServer::default()
        };
        let server = VirtualServer {
            name: "[192.0.2.1]:tcp:80".to_owned(),
            real_servers: vec![real(true), real(false)],
            ..VirtualServer::default()
        };
        node.snapshot.daemons.first_mut().unwrap().virtual_servers = Some(vec![server]);
        let text = node_text(&node);
        let wanted = "lb1 keepalived 2.2.7: 1 VRRP instance (0 master), 1 virtual server, 1 of 2 real servers alive\n  \
            VI_1 is in state fault\n  [10.0.0.1]:tcp:80 of [192.0.2.1]:tcp:80 is out: TCP_CHECK fails\n";
        assert_eq!(text, wanted);
        node.snapshot.daemons.clear();
        assert_eq!(node_text(&node), "lb1: no keepalived runs\n");
    }
}
