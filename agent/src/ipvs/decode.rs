//! From the kernel's attributes to values. Pure; never panics, whatever the bytes.

use std::net::IpAddr;

use super::attributes::{Attribute, Malformed, attributes};
use super::name::{DestinationKey, Family, Protocol, ServiceKey};
use super::types::{
    Daemon, DaemonRole, Destination, Flags, Forward, Info, Service, Stats, Timeouts, Tunnel,
    Unknown,
};
use super::uapi;

/// The nested attribute `kind` among those of a message.
pub(super) fn nested(bytes: &[u8], kind: u16) -> Result<&[u8], Malformed> {
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(attribute.bytes);
        }
    }
    Err(Malformed("a message lacks the attribute that it is about"))
}

/// A virtual server, from the inside of its attribute.
pub(super) fn service(bytes: &[u8]) -> Result<Service, Malformed> {
    let mut family = None;
    let mut protocol = None;
    let mut address = None;
    let mut port = None;
    let mut mark = None;
    let mut netmask = None;
    let mut counters = Counters::default();
    let mut service = Service {
        key: ServiceKey::Mark {
            mark: 0,
            family: Family::V4,
        },
        scheduler: String::new(),
        flags: Flags::default(),
        timeout_s: 0,
        netmask: 0,
        engine: None,
        stats: Stats::default(),
        unknown: Unknown::new(),
    };
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            uapi::SVC_AF => family = Some(attribute.family()?),
            uapi::SVC_PROTOCOL => protocol = Some(Protocol::from_number(attribute.u16()?)),
            uapi::SVC_ADDR => address = Some(attribute),
            uapi::SVC_PORT => port = Some(attribute.u16_be()?),
            uapi::SVC_FWMARK => mark = Some(attribute.u32()?),
            uapi::SVC_SCHED_NAME => service.scheduler = attribute.text(),
            uapi::SVC_FLAGS => service.flags = flags(attribute)?,
            uapi::SVC_TIMEOUT => service.timeout_s = attribute.u32()?,
            uapi::SVC_NETMASK => netmask = Some(attribute.u32()?),
            uapi::SVC_PE_NAME => service.engine = Some(attribute.text()),
            uapi::SVC_STATS64 => counters.wide = Some(attribute.bytes),
            uapi::SVC_STATS => counters.narrow = Some(attribute.bytes),
            _ => service.unknown.push(attribute.carried()),
        }
    }
    service.stats = counters.stats()?;
    let family = family.ok_or(Malformed("a virtual server has no address family"))?;
    service.key = match (mark, protocol, address, port) {
        (Some(mark), ..) if mark != 0 => ServiceKey::Mark { mark, family },
        (_, Some(protocol), Some(address), Some(port)) => ServiceKey::Address {
            protocol,
            address: address.address(family)?,
            port,
        },
        _ => return Err(Malformed("a virtual server has neither address nor mark")),
    };
    service.netmask = match (netmask, family) {
        (None, _) => 0,
        (Some(mask), Family::V4) => u32::from_be(mask),
        (Some(prefix), Family::V6) => prefix,
    };
    Ok(service)
}

/// A real server, from the inside of its attribute; `family` is its virtual server's, which it has unless it says
/// otherwise (kernels before 3.18 never do).
pub(super) fn destination(bytes: &[u8], family: Family) -> Result<Destination, Malformed> {
    let mut family = family;
    let mut address = None;
    let mut port = None;
    let mut tunnel = None;
    let mut counters = Counters::default();
    let mut destination = Destination {
        key: DestinationKey {
            address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            port: 0,
        },
        forward: Forward::Masquerade,
        weight: 0,
        upper_threshold: 0,
        lower_threshold: 0,
        active_connections: 0,
        inactive_connections: 0,
        persistent_connections: 0,
        tunnel: None,
        stats: Stats::default(),
        unknown: Unknown::new(),
    };
    let one = &mut destination;
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            uapi::DEST_ADDR => address = Some(attribute),
            uapi::DEST_PORT => port = Some(attribute.u16_be()?),
            uapi::DEST_ADDR_FAMILY => family = attribute.family()?,
            uapi::DEST_FWD_METHOD => {
                one.forward = Forward::from_number(attribute.u32()? & uapi::FORWARD_MASK);
            }
            uapi::DEST_WEIGHT => one.weight = attribute.u32()?,
            uapi::DEST_U_THRESH => one.upper_threshold = attribute.u32()?,
            uapi::DEST_L_THRESH => one.lower_threshold = attribute.u32()?,
            uapi::DEST_ACTIVE_CONNS => one.active_connections = attribute.u32()?,
            uapi::DEST_INACT_CONNS => one.inactive_connections = attribute.u32()?,
            uapi::DEST_PERSIST_CONNS => one.persistent_connections = attribute.u32()?,
            uapi::DEST_STATS64 => counters.wide = Some(attribute.bytes),
            uapi::DEST_STATS => counters.narrow = Some(attribute.bytes),
            uapi::DEST_TUN_TYPE | uapi::DEST_TUN_PORT | uapi::DEST_TUN_FLAGS => {
                tunnel_part(tunnel.get_or_insert_default(), attribute)?;
            }
            _ => one.unknown.push(attribute.carried()),
        }
    }
    let (Some(address), Some(port)) = (address, port) else {
        return Err(Malformed("a real server has no address and port"));
    };
    destination.key = DestinationKey {
        address: address.address(family)?,
        port,
    };
    destination.tunnel = tunnel;
    destination.stats = counters.stats()?;
    Ok(destination)
}

fn tunnel_part(tunnel: &mut Tunnel, attribute: Attribute<'_>) -> Result<(), Malformed> {
    match attribute.kind {
        uapi::DEST_TUN_TYPE => tunnel.kind = attribute.u8()?,
        uapi::DEST_TUN_PORT => tunnel.port = attribute.u16_be()?,
        _ => tunnel.flags = attribute.u16()?,
    }
    Ok(())
}

/// Two words: the flags, and which of them count; in answers all do.
fn flags(attribute: Attribute<'_>) -> Result<Flags, Malformed> {
    let bytes = attribute.bytes.first_chunk::<4>();
    bytes
        .map(|bytes| Flags(u32::from_ne_bytes(*bytes)))
        .ok_or(Malformed("flags are too short"))
}

/// Where the counters are: the kernel tells them twice, the narrow ones first, of which only the wide ones are read.
#[derive(Default)]
struct Counters<'a> {
    wide: Option<&'a [u8]>,
    narrow: Option<&'a [u8]>,
}

impl Counters<'_> {
    fn stats(&self) -> Result<Stats, Malformed> {
        match (self.wide, self.narrow) {
            (Some(wide), _) => stats(wide, true),
            (None, Some(narrow)) => stats(narrow, false),
            (None, None) => Ok(Stats::default()),
        }
    }
}

fn stats(bytes: &[u8], wide: bool) -> Result<Stats, Malformed> {
    let mut stats = Stats {
        wide,
        ..Stats::default()
    };
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        let field = match attribute.kind {
            uapi::STATS_CONNS => &mut stats.connections,
            uapi::STATS_INPKTS => &mut stats.in_packets,
            uapi::STATS_OUTPKTS => &mut stats.out_packets,
            uapi::STATS_INBYTES => &mut stats.in_bytes,
            uapi::STATS_OUTBYTES => &mut stats.out_bytes,
            uapi::STATS_CPS => &mut stats.connections_per_s,
            uapi::STATS_INPPS => &mut stats.in_packets_per_s,
            uapi::STATS_OUTPPS => &mut stats.out_packets_per_s,
            uapi::STATS_INBPS => &mut stats.in_bytes_per_s,
            uapi::STATS_OUTBPS => &mut stats.out_bytes_per_s,
            _ => continue, // padding, or an estimate that is not there yet
        };
        *field = attribute.count()?;
    }
    Ok(stats)
}

/// The answer to `GET_INFO`.
pub(super) fn info(bytes: &[u8]) -> Result<Info, Malformed> {
    let mut info = Info::default();
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            uapi::INFO_VERSION => {
                let [_, major, minor, patch] = attribute.u32()?.to_be_bytes();
                info.version = (major, minor, patch);
            }
            uapi::INFO_CONN_TAB_SIZE => info.table_size = attribute.u32()?,
            _ => {}
        }
    }
    Ok(info)
}

/// The answer to `GET_CONFIG`; what the kernel was built without stays 0.
pub(super) fn timeouts(bytes: &[u8]) -> Result<Timeouts, Malformed> {
    let mut timeouts = Timeouts::default();
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            uapi::ATTR_TIMEOUT_TCP => timeouts.tcp_s = attribute.u32()?,
            uapi::ATTR_TIMEOUT_TCP_FIN => timeouts.tcp_fin_s = attribute.u32()?,
            uapi::ATTR_TIMEOUT_UDP => timeouts.udp_s = attribute.u32()?,
            _ => {}
        }
    }
    Ok(timeouts)
}

/// A sync daemon, from the inside of its attribute.
pub(super) fn daemon(bytes: &[u8]) -> Result<Daemon, Malformed> {
    let mut daemon = Daemon {
        role: DaemonRole::Other(0),
        interface: String::new(),
        sync_id: 0,
        message_bytes_max: None,
        group: None,
        port: None,
        ttl: None,
    };
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            uapi::DAEMON_STATE => {
                daemon.role = match attribute.u32()? {
                    1 => DaemonRole::Master,
                    2 => DaemonRole::Backup,
                    other => DaemonRole::Other(other),
                }
            }
            uapi::DAEMON_MCAST_IFN => daemon.interface = attribute.text(),
            uapi::DAEMON_SYNC_ID => daemon.sync_id = attribute.u32()?,
            uapi::DAEMON_SYNC_MAXLEN => daemon.message_bytes_max = Some(attribute.u16()?),
            uapi::DAEMON_MCAST_GROUP => daemon.group = Some(attribute.address(Family::V4)?),
            uapi::DAEMON_MCAST_GROUP6 => daemon.group = Some(attribute.address(Family::V6)?),
            uapi::DAEMON_MCAST_PORT => daemon.port = Some(attribute.u16()?),
            uapi::DAEMON_MCAST_TTL => daemon.ttl = Some(attribute.u8()?),
            _ => {}
        }
    }
    Ok(daemon)
}
