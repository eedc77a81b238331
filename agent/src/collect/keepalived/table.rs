//! The kernel's IPVS table, as far as it says which real server is in it (`/proc/<pid>/net/ip_vs`, which everybody may
//! read; kernel: `net/netfilter/ipvs/ip_vs_ctl.c`). Counters are the business of the `lvs` collector.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use muster_proto::snapshot::keepalived::{TableEntry, VirtualServer};

/// Entries at the most; the kernel's table is bounded by memory only.
const ENTRIES_MAX: usize = 200_000;

/// A virtual service of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Address(String, IpAddr, u16),
    Mark(u32),
}

/// Entries by service, address and port.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Table(BTreeMap<Service, BTreeMap<(IpAddr, u16), TableEntry>>);

/// Reads the file; `None` where it is something else.
pub(super) fn parse(text: &str) -> Option<Table> {
    let mut lines = text.lines();
    lines
        .next()
        .filter(|line| line.starts_with("IP Virtual Server"))?;
    let mut table = Table::default();
    let mut current = None;
    let mut entries = 0;
    for line in lines {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if first == "->" {
            let entry = real(words);
            let service = current
                .as_ref()
                .and_then(|current| table.0.get_mut(current));
            if let (Some((at, entry)), Some(service)) = (entry, service)
                && entries < ENTRIES_MAX
            {
                entries += 1;
                service.insert(at, entry);
            }
            continue;
        }
        current = service(first, words.next());
        if let Some(service) = &current {
            table.0.insert(service.clone(), BTreeMap::new());
        }
    }
    Some(table)
}

fn service(kind: &str, what: Option<&str>) -> Option<Service> {
    let what = what?;
    if kind == "FWM" {
        return u32::from_str_radix(what, 16).ok().map(Service::Mark);
    }
    let (address, port) = endpoint(what)?;
    Some(Service::Address(kind.to_ascii_lowercase(), address, port))
}

fn real<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<((IpAddr, u16), TableEntry)> {
    let at = endpoint(words.next()?)?;
    let entry = TableEntry {
        forward: words.next()?.to_owned(),
        weight: words.next()?.parse().ok()?,
        active_connections: words.next()?.parse().ok()?,
        inactive_connections: words.next()?.parse().ok()?,
    };
    Some((at, entry))
}

/// `C0000263:0050`, `[2001:0db8:0000:0000:0000:0000:0000:0099]:0050`.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok()?,
        None => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?)),
    };
    Some((address, port))
}

impl Table {
    /// Puts the entries beside the real servers, and says whether they are as the checkers want them. A group has many
    /// services in the table, so that nothing is said of its real servers.
    pub(super) fn join(&self, server: &mut VirtualServer) {
        let service = match (&server.address, server.port, server.fwmark) {
            (_, _, Some(mark)) => Service::Mark(mark),
            (Some(address), Some(port), None) => {
                let (Ok(address), Some(protocol)) = (address.parse(), &server.protocol) else {
                    return;
                };
                Service::Address(protocol.clone(), address, port)
            }
            _ => return,
        };
        let entries = self.0.get(&service);
        // Under a sorry server the real servers that are alive are taken out, too.
        let pool_in = server.sorry_active != Some(true);
        for real in &mut server.real_servers {
            let Ok(address) = real.address.parse() else {
                continue;
            };
            let at = (address, real.port);
            real.kernel = entries.and_then(|entries| entries.get(&at)).cloned();
            let entry = real.kernel.as_ref();
            let weight = entry.map(|entry| entry.weight);
            real.in_step = real.alive.map(|alive| match (alive, real.inhibit) {
                (true, _) if pool_in => {
                    weight.is_some() && real.weight.is_none_or(|wanted| weight == Some(wanted))
                }
                (false, Some(true)) if pool_in => weight == Some(0),
                _ => weight.is_none_or(|weight| weight == 0),
            });
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use muster_proto::snapshot::keepalived::RealServer;
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n\
        \x20 -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
        TCP  C0000263:0050 wrr persistent 6000 FFFFFFFF\n\
        \x20 -> 0A080102:1F90      Masq    10     3          4         \n\
        SCTP [2001:0db8:0000:0000:0000:0000:0000:0099]:0050 rr\n\
        \x20 -> [2001:0db8:0000:0000:0000:0000:0000:0001]:1F90      Route   1      0          0\n\
        FWM  00000009 rr\n\
        \x20 -> 0A080202:0000      Route   0      0          0\n";

    fn server(text: &str) -> VirtualServer {
        let (address, port) = text.rsplit_once(' ').unwrap();
        VirtualServer {
            address: Some(address.to_owned()),
            port: port.parse().ok(),
            protocol: Some("tcp".to_owned()),
            ..VirtualServer::default()
        }
    }

    fn real(address: &str, alive: bool) -> RealServer {
        RealServer {
            address: address.to_owned(),
            port: 8080,
            alive: Some(alive),
            weight: Some(10),
            ..RealServer::default()
        }
    }

    #[test]
    fn who_is_in_and_who_should_be() {
        let table = parse(TEXT).unwrap();
        let mut server = server("192.0.2.99 80");
        server.real_servers = vec![
            real("10.8.1.2", true),
            real("10.8.2.2", true),
            real("10.8.3.2", false),
            real("10.8.1.2", false),
        ];
        table.join(&mut server);
        let steps: Vec<_> = server
            .real_servers
            .iter()
            .map(|real| real.in_step)
            .collect();
        assert_eq!(steps, [Some(true), Some(false), Some(true), Some(false)]);
        let entry = server.real_servers.first().unwrap().kernel.clone().unwrap();
        assert_eq!(
            (
                entry.weight,
                entry.active_connections,
                entry.forward.as_str()
            ),
            (10, 3, "Masq")
        );
        let mut six = VirtualServer {
            protocol: Some("sctp".to_owned()),
            real_servers: vec![RealServer {
                weight: Some(1),
                ..real("2001:db8::1", true)
            }],
            ..self::server("2001:db8::99 80")
        };
        table.join(&mut six);
        assert_eq!(six.real_servers.first().unwrap().in_step, Some(true));
        let mut mark = VirtualServer {
            fwmark: Some(9),
            real_servers: vec![RealServer {
                port: 0,
                inhibit: Some(true),
                ..real("10.8.2.2", false)
            }],
            ..VirtualServer::default()
        };
        table.join(&mut mark);
        assert_eq!(mark.real_servers.first().unwrap().in_step, Some(true));
        let mut group = VirtualServer {
            group: Some("G".to_owned()),
            real_servers: vec![real("10.8.1.2", true)],
            ..VirtualServer::default()
        };
        table.join(&mut group);
        assert_eq!(group.real_servers.first().unwrap().in_step, None);
    }

    #[test]
    fn other_texts_are_none() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("garbage\n"), None);
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0..TEXT.len(), byte in any::<u8>(), end in 0..TEXT.len()) {
            let mut bytes = TEXT.as_bytes().to_vec();
            *bytes.get_mut(at).unwrap() = byte;
            bytes.truncate(end);
            _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
