//! `/proc/net/ip_vs` and `/proc/net/ip_vs_stats`, which anybody may read (kernel: `net/netfilter/ipvs/ip_vs_ctl.c`).
//! Pure.
//!
//! The table has no counters, thresholds and templates. Its persistence timeout is in ticks of a length that is not
//! told, so it counts as unknown. The family of a firewall mark is not told either: it is taken from its real servers,
//! or from its mask, which for IPv6 is a prefix length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::files::ParseError;
use super::seen::{Knows, Seen, bare_destination, bare_service};
use crate::ipvs::{
    DestinationKey, Entry, Family, Flags, Forward, Info, Protocol, ServiceKey, Stats,
};

/// What the table tells.
const KNOWS: Knows = Knows {
    counters: false,
    estimates: false,
    thresholds: false,
    templates: false,
    persistence: false,
    tunnels: false,
};

/// Reads the table. A line that does not read well is counted and named; the real servers of a virtual server that
/// does not are left out with it, and go to no other.
pub(super) fn parse(text: &str) -> Result<Seen, ParseError> {
    const HEADER_LINES: usize = 3;
    let first = text.lines().next().unwrap_or_default();
    let info = header(first)
        .ok_or_else(|| ParseError::at(0, "IP Virtual Server version … (size=…)", first))?;
    let mut seen = Seen {
        source: "proc",
        knows: KNOWS,
        info: Some(info),
        ..Seen::default()
    };
    let mut marks: Vec<Option<u32>> = Vec::new(); // the mask of each mark whose family is not known yet
    let mut lost = false;
    for (at, line) in text.lines().enumerate().skip(HEADER_LINES) {
        let Some(rest) = line.trim_start().strip_prefix("-> ") else {
            let read = service(line);
            lost = read.is_none();
            match read {
                Some((entry, mask)) => {
                    seen.entries.push(entry);
                    marks.push(mask);
                }
                None => bad(&mut seen, at, "a virtual server", line),
            }
            continue;
        };
        match (destination(rest), seen.entries.last_mut()) {
            (Some(one), Some(entry)) if !lost => entry.destinations.push(one),
            _ => bad(&mut seen, at, "a real server", line),
        }
    }
    for (entry, mask) in seen.entries.iter_mut().zip(marks) {
        settle_mark(entry, mask);
    }
    Ok(seen)
}

fn bad(seen: &mut Seen, at: usize, wanted: &str, line: &str) {
    seen.skipped += 1;
    if seen.notes.is_empty() {
        let error = ParseError::at(at, wanted, line);
        seen.notes.push(format!("/proc/net/ip_vs: {error}"));
    }
}

/// `IP Virtual Server version 1.2.1 (size=4096)`, which `ipvsadm` writes as well.
pub(super) fn header(line: &str) -> Option<Info> {
    let rest = line.strip_prefix("IP Virtual Server version ")?;
    let (version, rest) = rest.split_once(" (size=")?;
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    let mut number = || numbers.next().flatten();
    Some(Info {
        version: (number()?, number()?, number()?),
        table_size: rest.trim_end().strip_suffix(')')?.parse().ok()?,
    })
}

/// `TCP  C000020A:01BB wrr  persistent 30000 FFFFFF00`, `TCP  [2001:…:0010]:0050 sed`, `FWM  00000007 mh`.
fn service(line: &str) -> Option<(Entry, Option<u32>)> {
    let mut words = line.split_ascii_whitespace();
    let (kind, at) = (words.next()?, words.next()?);
    let key = match kind {
        "FWM" => ServiceKey::Mark {
            mark: u32::from_str_radix(at, 16).ok()?,
            family: Family::V4,
        },
        protocol => {
            let end = end_point(at)?;
            ServiceKey::Address {
                protocol: protocol.parse::<Protocol>().ok()?,
                address: end.address,
                port: end.port,
            }
        }
    };
    let mut service = bare_service(key, words.next()?);
    let mut mask = None;
    while let Some(word) = words.next() {
        match word {
            "ops" => service.flags.0 |= Flags::ONE_PACKET.0,
            "persistent" => {
                service.flags.0 |= Flags::PERSISTENT.0;
                _ = words.next(); // ticks
                mask = words
                    .next()
                    .and_then(|mask| u32::from_str_radix(mask, 16).ok());
            }
            _ => {}
        }
    }
    let netmask = mask.unwrap_or(u32::MAX);
    service.netmask = match key.family() {
        Family::V4 => netmask,
        Family::V6 => prefix(netmask),
    };
    let destinations = Vec::new();
    Some((
        Entry {
            service,
            destinations,
        },
        mask,
    ))
}

/// The kernel turns the bytes of every mask round, also where it is a number.
const fn prefix(mask: u32) -> u32 {
    if mask == u32::MAX {
        128
    } else {
        mask.swap_bytes()
    }
}

/// Finds the family of a firewall mark.
fn settle_mark(entry: &mut Entry, mask: Option<u32>) {
    let ServiceKey::Mark { mark, .. } = entry.service.key else {
        return;
    };
    let is_six = |key: &DestinationKey| key.address.is_ipv6();
    let by_mask = || mask.is_some_and(|mask| (1..128).contains(&mask.swap_bytes()));
    let six = match entry.destinations.as_slice() {
        [] => by_mask(),
        some => some.iter().any(|one| is_six(&one.key)),
    };
    if six {
        entry.service.netmask = prefix(entry.service.netmask);
        entry.service.key = ServiceKey::Mark {
            mark,
            family: Family::V6,
        };
    }
}

/// `0A010003:1F90      Masq    0      0          0`.
fn destination(line: &str) -> Option<crate::ipvs::Destination> {
    let mut words = line.split_ascii_whitespace();
    let key = end_point(words.next()?)?;
    let mut one = bare_destination(key, forward(words.next()?));
    let mut number = || words.next()?.parse().ok();
    one.weight = number()?;
    one.active_connections = number()?;
    one.inactive_connections = number()?;
    Some(one)
}

/// The kernel's and `ipvsadm`'s names of the forwarding methods.
pub(super) fn forward(word: &str) -> Forward {
    match word {
        "Masq" => Forward::Masquerade,
        "Local" => Forward::Local,
        "Tunnel" => Forward::Tunnel,
        "Route" => Forward::Route,
        "Bypass" => Forward::Bypass,
        _ => Forward::Other(u32::MAX),
    }
}

/// `C000020A:0050` or `[2001:0db8:0000:0000:0000:0000:0000:0010]:0050`.
fn end_point(text: &str) -> Option<DestinationKey> {
    let (address, port) = text.rsplit_once(':')?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse::<Ipv6Addr>().ok()?),
        None => IpAddr::V4(Ipv4Addr::from(hex_word(address)?)),
    };
    let port = u16::try_from(hex_word(port)?).ok()?;
    Some(DestinationKey { address, port })
}

fn hex_word(text: &str) -> Option<u32> {
    // from_str_radix takes a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// Totals and estimates of the whole load balancer. Every figure is hexadecimal.
pub(super) fn parse_stats(text: &str) -> Result<Stats, ParseError> {
    const TOTALS_LINE: usize = 2;
    const ESTIMATES_LINE: usize = 5;
    let row = |at: usize| -> Result<[u64; 5], ParseError> {
        let line = text.lines().nth(at).unwrap_or_default();
        let figures: Vec<u64> = line
            .split_ascii_whitespace()
            .map_while(|word| u64::from_str_radix(word, 16).ok())
            .collect();
        <[u64; 5]>::try_from(figures)
            .map_err(|_| ParseError::at(at, "five hexadecimal figures", line))
    };
    let [connections, in_packets, out_packets, in_bytes, out_bytes] = row(TOTALS_LINE)?;
    let estimates = row(ESTIMATES_LINE)?;
    let [
        connections_per_s,
        in_packets_per_s,
        out_packets_per_s,
        in_bytes_per_s,
        out_bytes_per_s,
    ] = estimates;
    Ok(Stats {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
        connections_per_s,
        in_packets_per_s,
        out_packets_per_s,
        in_bytes_per_s,
        out_bytes_per_s,
        wide: true,
    })
}
