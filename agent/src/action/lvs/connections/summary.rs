//! What a connection table holds, in a few figures: pure, in bounded memory, fed line by line.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::name::{RealName, VirtualName};
use super::line::{Entry, Form, Place, Word};
use super::tops::Tops;
use crate::ipvs::{DestinationKey, Family, Protocol, ServiceKey};

/// Keys that are counted exactly, of virtual servers, real servers and clients each: about 2 MB a table at the most.
const KEYS_MAX: usize = 16_384;

/// Pairs of protocol and state; the kernel has some thirty.
const STATES_MAX: usize = 256;

/// Which entries are of interest.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) virtual_server: Option<VirtualName>,
    pub(super) real: Option<RealName>,
    pub(super) client: Option<IpAddr>,
}

/// The figures so far.
#[derive(Debug)]
pub(super) struct Summary {
    form: Form,
    filter: Filter,
    entries: u64,
    matched: u64,
    templates: u64,
    synced: u64,
    malformed: u64,
    states: BTreeMap<(Word, Word), u64>,
    virtuals: Tops<Virtual>,
    reals: Tops<Place>,
    clients: Tops<IpAddr>,
}

/// What an entry goes to: the protocol as the kernel spells it, and the address, or the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Virtual {
    Address(Word, Place),
    Mark(u32, Family),
}

impl Filter {
    fn takes(&self, entry: &Entry, to: Virtual) -> bool {
        let (address, port) = entry.real;
        self.virtual_server
            .is_none_or(|name| to.key().is_some_and(|key| name.means(&key)))
            && self
                .real
                .is_none_or(|name| name.means(&DestinationKey { address, port }))
            && self.client.is_none_or(|client| client == entry.client.0)
    }

    fn is_all(&self) -> bool {
        self.virtual_server.is_none() && self.real.is_none() && self.client.is_none()
    }
}

impl Virtual {
    fn of(entry: &Entry) -> Self {
        match entry.mark() {
            Some(mark) => Self::Mark(mark, Family::of(entry.virtual_server.0)),
            None => Self::Address(entry.protocol, entry.virtual_server),
        }
    }

    /// As a virtual server is called; none for protocols that IPVS does not balance.
    fn key(self) -> Option<ServiceKey> {
        match self {
            Self::Mark(mark, family) => Some(ServiceKey::Mark { mark, family }),
            Self::Address(protocol, (address, port)) => {
                let protocol: Protocol = protocol.to_string().parse().ok()?;
                Some(ServiceKey::Address {
                    protocol,
                    address,
                    port,
                })
            }
        }
    }

    fn name(self) -> String {
        match (self, self.key()) {
            (_, Some(key)) => key.to_string(),
            (Self::Address(protocol, place), None) => {
                format!("{}/{}", protocol.to_string().to_lowercase(), shown(place))
            }
            (Self::Mark(..), None) => String::new(),
        }
    }
}

fn shown((address, port): Place) -> String {
    DestinationKey { address, port }.to_string()
}

impl Summary {
    pub(super) fn new(form: Form, filter: Filter) -> Self {
        Self {
            form,
            filter,
            entries: 0,
            matched: 0,
            templates: 0,
            synced: 0,
            malformed: 0,
            states: BTreeMap::new(),
            virtuals: Tops::new(KEYS_MAX),
            reals: Tops::new(KEYS_MAX),
            clients: Tops::new(KEYS_MAX),
        }
    }

    /// Takes a line of the table, without its end.
    pub(super) fn add(&mut self, line: &[u8]) {
        self.entries += 1;
        let Some(entry) = Entry::parse(self.form, line) else {
            self.malformed += 1;
            return;
        };
        let to = Virtual::of(&entry);
        if !self.filter.takes(&entry, to) {
            return;
        }
        self.matched += 1;
        self.synced += u64::from(entry.synced);
        let template = entry.is_template();
        self.templates += u64::from(template);
        let state = (entry.protocol, entry.state);
        if self.states.contains_key(&state) || self.states.len() < STATES_MAX {
            *self.states.entry(state).or_default() += 1;
        }
        // UDP has no states: its entries live as long as packets come.
        let established = entry.state.is("ESTABLISHED") || entry.state.is("UDP");
        self.virtuals.add(to, established);
        self.reals.add(entry.real, established);
        self.clients.add(entry.client.0, established);
    }

    /// By how much a listed count may be too low; none where all could be counted.
    fn error_max(&self) -> Option<u64> {
        let errors = [
            self.virtuals.error_max(),
            self.reals.error_max(),
            self.clients.error_max(),
        ];
        errors.into_iter().max().filter(|error| *error > 0)
    }

    /// The figures, with the `top` largest of each kind.
    pub(super) fn data(&self, top: usize) -> Value {
        let mut states: Vec<_> = self.states.iter().collect();
        states.sort_by(|(_, a), (_, b)| b.cmp(a));
        let states: Vec<Value> = states
            .into_iter()
            .map(|((protocol, state), entries)| {
                let protocol = protocol.to_string().to_lowercase();
                json!({ "protocol": protocol, "state": state.to_string(), "entries": entries })
            })
            .collect();
        let mut data = json!({
            "entries": self.entries,
            "persistent": self.templates,
            "malformed": self.malformed,
            "states": states,
            "virtual_servers": rows(&self.virtuals, top, "virtual_server", |to| to.name()),
            "real_servers": rows(&self.reals, top, "real_server", shown),
            "clients": rows(&self.clients, top, "client", |client| client.to_string()),
            "virtual_servers_total": self.virtuals.keys(),
            "real_servers_total": self.reals.keys(),
            "clients_total": self.clients.keys(),
            "error_max": self.error_max(),
        });
        if let Some(fields) = data.as_object_mut() {
            if !self.filter.is_all() {
                fields.insert("matched".to_owned(), Value::from(self.matched));
            }
            if self.form == Form::WithOrigin {
                fields.insert("synced".to_owned(), Value::from(self.synced));
            }
        }
        data
    }
}

fn rows<K: Eq + std::hash::Hash + Ord + Copy>(
    tops: &Tops<K>,
    top: usize,
    name: &str,
    shown: impl Fn(K) -> String,
) -> Vec<Value> {
    let rows = tops.top(top).into_iter();
    rows.map(|(key, count)| {
        json!({ name: shown(key), "entries": count.entries, "established": count.established })
    })
    .collect()
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    const SYNC: &str = include_str!("samples/ip_vs_conn_sync");

    fn summary(filter: Filter, more: &[&str]) -> Value {
        let mut summary = Summary::new(Form::WithOrigin, filter);
        for line in SYNC.lines().skip(1).chain(more.iter().copied()) {
            summary.add(line.as_bytes());
        }
        summary.data(2)
    }

    #[test]
    fn the_sample_in_figures() {
        let more = [
            "IP  0A090003 0000 00000007 0000 0A010001 0000 NONE        LOCAL      299",
            "UDP 0A090003 9372 C000020A 0035 0A010004 0035 UDP         SYNC       298",
            "TCP torn",
        ];
        let data = summary(Filter::default(), &more);
        assert_eq!(
            data,
            json!({
                "entries": 35, "persistent": 1, "malformed": 1, "synced": 1, "error_max": null,
                "states": [
                    { "protocol": "tcp", "state": "TIME_WAIT", "entries": 30 },
                    { "protocol": "tcp", "state": "ESTABLISHED", "entries": 2 },
                    { "protocol": "ip", "state": "NONE", "entries": 1 },
                    { "protocol": "udp", "state": "UDP", "entries": 1 },
                ],
                "virtual_servers": [
                    { "virtual_server": "tcp/192.0.2.99:80", "entries": 32, "established": 2 },
                    { "virtual_server": "udp/192.0.2.10:53", "entries": 1, "established": 1 },
                ],
                "virtual_servers_total": 3,
                "real_servers": [
                    { "real_server": "10.8.1.2:8080", "entries": 16, "established": 1 },
                    { "real_server": "10.8.2.2:8080", "entries": 16, "established": 1 },
                ],
                "real_servers_total": 4,
                "clients": [
                    { "client": "10.9.0.2", "entries": 32, "established": 2 },
                    { "client": "10.9.0.3", "entries": 2, "established": 1 },
                ],
                "clients_total": 2,
            })
        );
    }

    #[test]
    fn a_filter_takes_what_it_names() {
        let filter = Filter {
            virtual_server: Some("192.0.2.99".parse().unwrap()),
            real: Some("10.8.1.2:8080".parse().unwrap()),
            client: Some("10.9.0.2".parse().unwrap()),
        };
        let data = summary(filter.clone(), &[]);
        assert_eq!(
            (&data["entries"], &data["matched"]),
            (&json!(32), &json!(16))
        );
        let other = Filter {
            client: Some("10.9.0.3".parse().unwrap()),
            ..filter
        };
        assert_eq!(summary(other, &[])["matched"], json!(0));
        let mark = Filter {
            virtual_server: Some("fwmark/7".parse().unwrap()),
            ..Filter::default()
        };
        let line = "IP  0A090003 0000 00000007 0000 0A010001 0000 NONE        LOCAL      299";
        assert_eq!(summary(mark, &[line])["matched"], json!(1));
    }
}
