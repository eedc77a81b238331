//! What `ipvsadm -L` writes, for hosts where nothing else may be asked. Pure.
//!
//! Each format of the list shows other columns of the same table; the first, `-Ln`, says what there is, the others are
//! joined to it by name, and what one of them lacks (since the table changed between two calls) stays zero.

use std::collections::HashMap;

use super::super::files::ParseError;
use super::proc::{forward, header};
use super::seen::{Knows, Seen, bare_destination, bare_service};
use crate::ipvs::{
    Daemon, DaemonRole, Destination, DestinationKey, Entry, Family, Flags, Service, ServiceKey,
    Timeouts,
};

/// What the formats together tell.
const KNOWS: Knows = Knows {
    tunnels: false,
    ..Knows::ALL
};

/// The outputs of one round of calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    /// `-Ln`
    pub(super) list: String,
    /// `-Ln --stats --exact`
    pub(super) stats: String,
    /// `-Ln --rate --exact`
    pub(super) rates: String,
    /// `-Ln --thresholds`
    pub(super) thresholds: String,
    /// `-Ln --persistent-conn`
    pub(super) templates: String,
    /// `-L --timeout`
    pub(super) timeouts: String,
    /// `-L --daemon`
    pub(super) daemons: String,
}

/// Everything that the outputs tell.
pub(super) fn parse(outputs: &Outputs) -> Result<Seen, ParseError> {
    let mut seen = parse_list(&outputs.list)?;
    let mut places = Places::of(&seen.entries);
    let entries = &mut seen.entries;
    let mut figures = |text: &str, fill: fn(Row<'_>, [u64; 5])| {
        rows(text, |place, words| {
            if let (Some(row), Some(numbers)) = (places.find(entries, place), numbers(words)) {
                fill(row, numbers);
            }
        });
    };
    figures(
        &outputs.stats,
        |mut row, [connections, in_packets, out_packets, in_bytes, out_bytes]| {
            let stats = row.stats();
            stats.wide = true;
            stats.connections = connections;
            stats.in_packets = in_packets;
            stats.out_packets = out_packets;
            stats.in_bytes = in_bytes;
            stats.out_bytes = out_bytes;
        },
    );
    figures(
        &outputs.rates,
        |mut row, [connections, in_packets, out_packets, in_bytes, out_bytes]| {
            let stats = row.stats();
            stats.connections_per_s = connections;
            stats.in_packets_per_s = in_packets;
            stats.out_packets_per_s = out_packets;
            stats.in_bytes_per_s = in_bytes;
            stats.out_bytes_per_s = out_bytes;
        },
    );
    figures(&outputs.thresholds, |row, [upper, lower, ..]| {
        if let Row::Real(one) = row {
            one.upper_threshold = small(upper);
            one.lower_threshold = small(lower);
        }
    });
    figures(&outputs.templates, |row, [_, templates, ..]| {
        if let Row::Real(one) = row {
            one.persistent_connections = small(templates);
        }
    });
    seen.timeouts = parse_timeouts(&outputs.timeouts);
    seen.daemons = Some(outputs.daemons.lines().filter_map(daemon).collect());
    Ok(seen)
}

/// `-Ln`: what there is.
pub(super) fn parse_list(text: &str) -> Result<Seen, ParseError> {
    let first = text.lines().next().unwrap_or_default();
    let info = header(first)
        .ok_or_else(|| ParseError::at(0, "IP Virtual Server version … (size=…)", first))?;
    let mut seen = Seen {
        source: "ipvsadm",
        knows: KNOWS,
        info: Some(info),
        ..Seen::default()
    };
    let mut lost = false;
    for (at, line) in text.lines().enumerate().skip(3) {
        let is_real = line.trim_start().starts_with("->");
        let (entry, one) = if is_real {
            (None, destination(line).filter(|_| !lost))
        } else {
            let service = service(line);
            lost = service.is_none();
            (service, None)
        };
        match (entry, one, seen.entries.last_mut()) {
            (Some(service), ..) => seen.entries.push(Entry {
                service,
                destinations: Vec::new(),
            }),
            (None, Some(one), Some(entry)) => entry.destinations.push(one),
            _ => {
                seen.skipped += 1;
                if seen.notes.is_empty() {
                    let error = ParseError::at(at, "a virtual or real server", line);
                    seen.notes.push(format!("ipvsadm -Ln: {error}"));
                }
            }
        }
    }
    Ok(seen)
}

/// `TCP  192.0.2.10:443`, `FWM  7`, `FWM  8 IPv6`, and the words after it.
fn service_key(line: &str) -> Option<(ServiceKey, std::str::SplitAsciiWhitespace<'_>)> {
    let mut words = line.split_ascii_whitespace();
    let (kind, at) = (words.next()?, words.next()?);
    if kind != "FWM" {
        let name = format!("{}/{at}", kind.to_ascii_lowercase());
        return Some((name.parse().ok()?, words));
    }
    let mut after = words.clone();
    let family = if after.next() == Some("IPv6") {
        words = after;
        Family::V6
    } else {
        Family::V4
    };
    // It prints marks above 2^31 as if they were negative.
    let mark = at.parse().ok().or_else(|| {
        let negative = at.parse::<i32>().ok()?;
        Some(negative.cast_unsigned())
    })?;
    Some((ServiceKey::Mark { mark, family }, words))
}

fn service(line: &str) -> Option<Service> {
    let (key, mut words) = service_key(line)?;
    let mut service = bare_service(key, words.next()?);
    service.netmask = match key.family() {
        Family::V4 => u32::MAX,
        Family::V6 => 128,
    };
    while let Some(word) = words.next() {
        match word {
            "persistent" => {
                service.flags.0 |= Flags::PERSISTENT.0;
                service.timeout_s = words.next()?.parse().ok()?;
            }
            "mask" => {
                let mask = words.next()?;
                service.netmask = match mask.parse::<std::net::Ipv4Addr>() {
                    Ok(mask) => mask.to_bits(),
                    Err(_) => mask.parse().ok()?,
                };
            }
            "pe" => service.engine = words.next().map(str::to_owned),
            "ops" => service.flags.0 |= Flags::ONE_PACKET.0,
            word => service.flags.0 |= scheduler_flags(word),
        }
    }
    Some(service)
}

/// `(sh-fallback,sh-port)`.
fn scheduler_flags(word: &str) -> u32 {
    let inside = word.trim_matches(['(', ')']);
    let flag = |name: &str| match name {
        "sh-fallback" | "mh-fallback" | "flag-1" => Flags::SCHEDULER_1.0,
        "sh-port" | "mh-port" | "flag-2" => Flags::SCHEDULER_2.0,
        "flag-3" => Flags::SCHEDULER_3.0,
        _ => 0,
    };
    inside.split(',').map(flag).fold(0, |all, one| all | one)
}

fn destination(line: &str) -> Option<Destination> {
    let mut words = line
        .trim_start()
        .strip_prefix("->")?
        .split_ascii_whitespace();
    let key = words.next()?.parse().ok()?;
    let mut one = bare_destination(key, forward(words.next()?));
    let mut number = || words.next()?.parse().ok();
    one.weight = number()?;
    one.active_connections = number()?;
    one.inactive_connections = number()?;
    Some(one)
}

/// A place in the table: a virtual server, or one of its real servers.
type Place = (ServiceKey, Option<DestinationKey>);

/// Where in the entries a place is.
struct Places(HashMap<Place, (usize, usize)>);

/// What is at a place.
enum Row<'a> {
    Virtual(&'a mut Service),
    Real(&'a mut Destination),
}

impl Row<'_> {
    fn stats(&mut self) -> &mut crate::ipvs::Stats {
        match self {
            Self::Virtual(service) => &mut service.stats,
            Self::Real(one) => &mut one.stats,
        }
    }
}

impl Places {
    fn of(entries: &[Entry]) -> Self {
        let mut places = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let key = entry.service.key;
            places.insert((key, None), (at, 0));
            for (within, one) in entry.destinations.iter().enumerate() {
                places.insert((key, Some(one.key)), (at, within));
            }
        }
        Self(places)
    }

    fn find<'a>(&mut self, entries: &'a mut [Entry], place: Place) -> Option<Row<'a>> {
        let (at, within) = *self.0.get(&place)?;
        let entry = entries.get_mut(at)?;
        Some(match place.1 {
            None => Row::Virtual(&mut entry.service),
            Some(_) => Row::Real(entry.destinations.get_mut(within)?),
        })
    }
}

/// Hands the words behind every place of a list to `take`. The real servers of a virtual server that does not read well
/// are passed over.
fn rows<'a>(text: &'a str, mut take: impl FnMut(Place, std::str::SplitAsciiWhitespace<'a>)) {
    let mut current = None;
    for line in text.lines().skip(3) {
        let Some(rest) = line.trim_start().strip_prefix("->") else {
            current = service_key(line).map(|(key, words)| {
                take((key, None), words);
                key
            });
            continue;
        };
        let mut words = rest.split_ascii_whitespace();
        let key = words.next().and_then(|word| word.parse().ok());
        if let (Some(service), Some(key)) = (current, key) {
            take((service, Some(key)), words);
        }
    }
}

/// The first five numbers; where a list has only four columns, the fifth is 0. None where a word is no number, as in
/// lists that show the scheduler behind a virtual server.
fn numbers(mut words: std::str::SplitAsciiWhitespace<'_>) -> Option<[u64; 5]> {
    const FEWEST: usize = 4;
    let mut numbers = [0; 5];
    for (at, number) in numbers.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *number = word.parse().ok()?,
            None if at >= FEWEST => {}
            None => return None,
        }
    }
    Some(numbers)
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `Timeout (tcp tcpfin udp): 900 120 300`.
fn parse_timeouts(text: &str) -> Option<Timeouts> {
    let (_, figures) = text.split_once("):")?;
    let mut figures = figures.split_ascii_whitespace();
    let mut figure = || figures.next()?.parse().ok();
    Some(Timeouts {
        tcp_s: figure()?,
        tcp_fin_s: figure()?,
        udp_s: figure()?,
    })
}

/// `master sync daemon (mcast=eth0, syncid=5, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)`.
fn daemon(line: &str) -> Option<Daemon> {
    let (role, rest) = line.split_once(" sync daemon (")?;
    let mut daemon = Daemon {
        role: match role {
            "master" => DaemonRole::Master,
            "backup" => DaemonRole::Backup,
            _ => return None,
        },
        interface: String::new(),
        sync_id: 0,
        message_bytes_max: None,
        group: None,
        port: None,
        ttl: None,
    };
    for pair in rest.trim_end().trim_end_matches(')').split(',') {
        let (name, value) = pair.trim().split_once('=')?;
        match name {
            "mcast" => daemon.interface = value.to_owned(),
            "syncid" => daemon.sync_id = value.parse().ok()?,
            "maxlen" => daemon.message_bytes_max = value.parse().ok(),
            "group" => daemon.group = value.parse().ok(),
            "port" => daemon.port = value.parse().ok(),
            "ttl" => daemon.ttl = value.parse().ok(),
            _ => {}
        }
    }
    Some(daemon)
}
