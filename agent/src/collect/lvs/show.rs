//! From what the kernel tells to the snapshot. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use muster_proto::snapshot::lvs;

use super::super::rate::{Wrap, counter};
use super::memory::{Backend, Server, width};
use super::seen::Knows;
use crate::ipvs::{
    Daemon, DaemonRole, Destination, Family, Flags, Forward, Info, Service, ServiceKey, Stats,
    Timeouts, Tunnel, Unknown,
};

/// A virtual server with its real servers, of which `list` many at the most are listed.
pub(super) fn virtual_server(
    server: &Server,
    knows: Knows,
    seconds: Option<f64>,
    list: usize,
) -> lvs::VirtualServer {
    let service = &server.service;
    let mut shown = named(service, knows);
    let sums = server.sums();
    shown.real_servers_total = sums.real_servers;
    shown.real_servers_up = sums.up;
    shown.weight_total = sums.weight;
    shown.active_connections = sums.active_connections;
    shown.inactive_connections = sums.inactive_connections;
    shown.persistent_connections =
        (knows.templates && sums.real_servers > 0).then_some(sums.persistent_connections);
    shown.traffic = knows
        .counters
        .then(|| traffic(&service.stats, server.base.as_ref(), seconds, knows));
    shown.resets = server.resets;
    shown.unknown = unknown(&service.unknown);
    let listed = server.backends.iter().take(list);
    shown.real_servers = listed
        .map(|backend| real_server(backend, knows, seconds))
        .collect();
    shown
}

fn named(service: &Service, knows: Knows) -> lvs::VirtualServer {
    let mut shown = lvs::VirtualServer {
        name: service.key.to_string(),
        family: family(service.key.family()),
        scheduler: service.scheduler.clone(),
        flags: flags(service),
        persistence_engine: service.engine.clone(),
        ..lvs::VirtualServer::default()
    };
    match service.key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => {
            shown.protocol = Some(protocol.to_string());
            shown.address = Some(address.to_string());
            shown.port = Some(port);
        }
        ServiceKey::Mark { mark, .. } => shown.fwmark = Some(mark),
    }
    if service.flags.has(Flags::PERSISTENT) {
        shown.persistence_timeout_s = knows.persistence.then_some(service.timeout_s);
        match service.key.family() {
            Family::V4 => {
                shown.persistence_netmask = Some(Ipv4Addr::from(service.netmask).to_string());
            }
            Family::V6 => shown.persistence_prefix_length = Some(service.netmask),
        }
    }
    shown
}

fn real_server(backend: &Backend, knows: Knows, seconds: Option<f64>) -> lvs::RealServer {
    let one = &backend.destination;
    lvs::RealServer {
        name: one.key.to_string(),
        family: family(one.family()),
        address: one.key.address.to_string(),
        port: one.key.port,
        forwarding: forwarding(one.forward),
        tunnel: shown_tunnel(one, knows),
        weight: one.weight,
        active_connections: one.active_connections,
        inactive_connections: one.inactive_connections,
        persistent_connections: knows.templates.then_some(one.persistent_connections),
        upper_threshold: knows.thresholds.then_some(one.upper_threshold),
        lower_threshold: knows.thresholds.then_some(one.lower_threshold),
        overloaded: knows.thresholds.then_some(backend.overloaded),
        traffic: knows
            .counters
            .then(|| traffic(&one.stats, backend.base.as_ref(), seconds, knows)),
        generation: backend.generation,
        resets: backend.resets,
        unknown: unknown(&one.unknown),
    }
}

/// Counters with rates, where there is a base.
pub(super) fn traffic(
    now: &Stats,
    base: Option<&Stats>,
    seconds: Option<f64>,
    knows: Knows,
) -> lvs::Traffic {
    let base = base.zip(seconds);
    let counted = |of: fn(&Stats) -> u64, wrap| {
        counter(
            of(now),
            base.map(|(base, seconds)| (of(base), seconds)),
            wrap,
        )
    };
    let packets = width(now);
    let estimate = |value: u64| knows.estimates.then_some(value);
    lvs::Traffic {
        connections: counted(|stats| stats.connections, packets),
        in_packets: counted(|stats| stats.in_packets, packets),
        out_packets: counted(|stats| stats.out_packets, packets),
        in_bytes: counted(|stats| stats.in_bytes, Wrap::Never),
        out_bytes: counted(|stats| stats.out_bytes, Wrap::Never),
        connections_per_s_kernel: estimate(now.connections_per_s),
        in_packets_per_s_kernel: estimate(now.in_packets_per_s),
        out_packets_per_s_kernel: estimate(now.out_packets_per_s),
        in_bytes_per_s_kernel: estimate(now.in_bytes_per_s),
        out_bytes_per_s_kernel: estimate(now.out_bytes_per_s),
    }
}

pub(super) const fn family(family: Family) -> Cow<'static, str> {
    Cow::Borrowed(family.name())
}

/// Flags by name. Those of the scheduler are called by it, as `ipvsadm` does.
pub(super) fn flags(service: &Service) -> Vec<String> {
    let set = service.flags;
    let mut names = Vec::new();
    for (flag, name) in [
        (Flags::PERSISTENT, "persistent"),
        (Flags::ONE_PACKET, "ops"),
    ] {
        if set.has(flag) {
            names.push(name.to_owned());
        }
    }
    let own = matches!(service.scheduler.as_str(), "sh" | "mh");
    for (flag, own_name, number) in [
        (Flags::SCHEDULER_1, Some("fallback"), 1),
        (Flags::SCHEDULER_2, Some("port"), 2),
        (Flags::SCHEDULER_3, None, 3),
    ] {
        if set.has(flag) {
            names.push(match own_name.filter(|_| own) {
                Some(name) => format!("{}-{name}", service.scheduler),
                None => format!("flag-{number}"),
            });
        }
    }
    if set.nameless() != 0 {
        names.push(format!("{:#x}", set.nameless()));
    }
    names
}

pub(super) fn forwarding(forward: Forward) -> Cow<'static, str> {
    Cow::Borrowed(match forward {
        Forward::Masquerade => "masquerade",
        Forward::Local => "local",
        Forward::Tunnel => "tunnel",
        Forward::Route => "route",
        Forward::Bypass => "bypass",
        Forward::Other(number) => return Cow::Owned(format!("method-{number}")),
    })
}

fn shown_tunnel(one: &Destination, knows: Knows) -> Option<lvs::Tunnel> {
    let tunnel = one
        .tunnel
        .filter(|_| knows.tunnels && one.forward == Forward::Tunnel)?;
    Some(tunnel_shown(tunnel))
}

pub(super) fn tunnel_shown(tunnel: Tunnel) -> lvs::Tunnel {
    const GUE: u8 = 1;
    let mut flags = Vec::new();
    for (bit, name) in [(1, "checksum"), (2, "remote-checksum")] {
        if tunnel.flags & bit != 0 {
            flags.push(name.to_owned());
        }
    }
    let nameless = tunnel.flags & !3;
    if nameless != 0 {
        flags.push(format!("{nameless:#x}"));
    }
    lvs::Tunnel {
        kind: match tunnel.kind {
            0 => "ipip".to_owned(),
            GUE => "gue".to_owned(),
            2 => "gre".to_owned(),
            other => format!("type-{other}"),
        },
        port: (tunnel.kind == GUE).then_some(tunnel.port),
        flags,
    }
}

fn unknown(unknown: &Unknown) -> BTreeMap<String, String> {
    let hex = |bytes: &[u8]| {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            _ = write!(text, "{byte:02x}"); // a string does not fail
        }
        text
    };
    unknown
        .iter()
        .map(|(kind, bytes)| (kind.to_string(), hex(bytes)))
        .collect()
}

pub(super) fn version(info: Info) -> String {
    let (major, minor, patch) = info.version;
    format!("{major}.{minor}.{patch}")
}

pub(super) const fn timeouts(timeouts: Timeouts) -> lvs::Timeouts {
    lvs::Timeouts {
        tcp_s: timeouts.tcp_s,
        tcp_fin_s: timeouts.tcp_fin_s,
        udp_s: timeouts.udp_s,
    }
}

pub(super) fn daemon(daemon: &Daemon) -> lvs::SyncDaemon {
    lvs::SyncDaemon {
        role: match daemon.role {
            DaemonRole::Master => "master".to_owned(),
            DaemonRole::Backup => "backup".to_owned(),
            DaemonRole::Other(state) => format!("state-{state}"),
        },
        interface: daemon.interface.clone(),
        sync_id: daemon.sync_id,
        message_bytes_max: daemon.message_bytes_max.map(u32::from),
        group: daemon.group.map(|group| group.to_string()),
        port: daemon.port,
        ttl: daemon.ttl,
    }
}
