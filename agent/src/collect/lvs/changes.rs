//! What is different between two looks, as events with the state before and after. Pure.

use std::collections::BTreeMap;

use muster_proto::event::Severity;
use serde_json::{Map, Value, json};

use super::super::Change;
use super::memory::{self, Backend, Gone, Memory, Pair, Server, backend_key, pairs, server_key};
use super::show;
use crate::ipvs::{Flags, ServiceKey};

/// Changes of one run that are told one by one. A table that is thrown away and made anew can have more.
const CHANGES_MAX: usize = 4096;
/// Names that one event lists.
const NAMES_MAX: usize = 32;

/// What a comparison is made with and found.
pub(super) struct Found<'a> {
    pub(super) changes: Vec<Change>,
    /// Changes beyond the bound.
    dropped: u64,
    /// Virtual servers with counters that began anew, their own or a real server's.
    reset_servers: Vec<String>,
    resets: u64,
    gone: &'a mut Gone,
    /// Whether both looks know the same things, so that more than presence and weight can be compared.
    same_source: bool,
    counted: bool,
}

impl<'a> Found<'a> {
    pub(super) fn new(gone: &'a mut Gone, same_source: bool, counted: bool) -> Self {
        Self {
            changes: Vec::new(),
            dropped: 0,
            reset_servers: Vec::new(),
            resets: 0,
            gone,
            same_source,
            counted,
        }
    }

    /// Compares, and carries over into `servers` what is remembered of them.
    pub(super) fn compare(&mut self, before: &Memory, servers: &mut [Server]) {
        pairs(&before.servers, servers, server_key, |pair| match pair {
            Pair::Gone(old) => {
                for backend in &old.backends {
                    memory::bury(self.gone, server_key(old), backend);
                }
                self.tell(service_gone(old));
            }
            Pair::New(new) => {
                let key = server_key(new);
                for backend in &mut new.backends {
                    memory::revive(self.gone, key, backend);
                }
                self.tell(service_new(new));
            }
            Pair::Kept(old, new) => self.kept(old, new),
        });
        self.tell_resets();
        if self.dropped > 0 {
            let summary = format!("{} more changes of virtual servers at once", self.dropped);
            let change = Change {
                topic: "lvs.changes.dropped",
                severity: Severity::Warning,
                summary,
                key: "lvs".to_owned(),
                before: Value::Null,
                after: Value::Null,
                fields: fields([("changes", json!(self.dropped))]),
            };
            self.changes.push(change);
        }
    }

    fn tell(&mut self, change: Change) {
        if self.changes.len() < CHANGES_MAX {
            self.changes.push(change);
        } else {
            self.dropped += 1;
        }
    }

    fn kept(&mut self, old: &Server, new: &mut Server) {
        let resets = self.resets;
        self.resets += u64::from(memory::carry_server(old, new, self.counted));
        let key = server_key(new);
        let Server {
            service, backends, ..
        } = new;
        pairs(&old.backends, backends, backend_key, |pair| match pair {
            Pair::Gone(old) => {
                memory::bury(self.gone, key, old);
                self.tell(backend_gone(&key, old));
            }
            Pair::New(new) => {
                memory::revive(self.gone, key, new);
                self.tell(backend_new(&key, new));
            }
            Pair::Kept(old, new) => {
                self.resets += u64::from(memory::carry_backend(old, new, self.counted));
                self.kept_backend(&key, old, new);
            }
        });
        if self.resets != resets {
            self.reset_servers.push(service.key.to_string());
        }
        // States are trees of JSON, and most servers have nothing to tell: made only for those that do.
        if self.same_source && is_other(old, new) {
            let (before, after) = (service_state(old), service_state(new));
            let change = service_change(
                "lvs.service.changed",
                Severity::Notice,
                new,
                format!("virtual server {key}: {}", difference(&before, &after)),
            );
            self.tell(change.between(before, after));
        }
        if old.is_up() != new.is_up() {
            let (before, after) = (service_state(old), service_state(new));
            self.tell(up_or_down(new).between(before, after));
        }
    }

    fn kept_backend(&mut self, service: &ServiceKey, old: &Backend, new: &Backend) {
        let name = &new.destination.key;
        let (was, is) = (old.destination.weight, new.destination.weight);
        let told = |topic, severity, summary| {
            backend_change(topic, severity, service, new, summary)
                .between(backend_state(old), backend_state(new))
        };
        if was != is {
            let (topic, severity, word) = match (was, is) {
                (_, 0) => (
                    "lvs.backend.drained",
                    Severity::Warning,
                    "takes no new connections",
                ),
                (0, _) => (
                    "lvs.backend.restored",
                    Severity::Notice,
                    "takes connections again",
                ),
                _ => ("lvs.backend.weight", Severity::Info, "weighs differently"),
            };
            let summary = format!("{name} in {service} {word}: weight {was} to {is}");
            self.tell(told(topic, severity, summary));
        }
        if !self.same_source {
            return;
        }
        let shape = |backend: &Backend| {
            let one = &backend.destination;
            let thresholds = (one.upper_threshold, one.lower_threshold);
            (one.forward, one.tunnel, thresholds)
        };
        if shape(old) != shape(new) {
            let other = difference(&backend_state(old), &backend_state(new));
            let summary = format!("{name} in {service}: {other}");
            self.tell(told("lvs.backend.changed", Severity::Notice, summary));
        }
        if old.overloaded != new.overloaded {
            let connections = new.destination.connections();
            let (topic, severity, words) = if new.overloaded {
                (
                    "lvs.backend.overloaded",
                    Severity::Warning,
                    "reached its upper threshold",
                )
            } else {
                (
                    "lvs.backend.relieved",
                    Severity::Notice,
                    "left its thresholds again",
                )
            };
            let summary = format!("{name} in {service} {words}: {connections} connections");
            self.tell(told(topic, severity, summary));
        }
    }

    /// One event for all of a run: `ipvsadm -Z` sets back everything at once.
    fn tell_resets(&mut self) {
        let [first, ..] = self.reset_servers.as_slice() else {
            return;
        };
        let count = self.reset_servers.len();
        let (key, summary) = if count == 1 {
            (first.clone(), format!("counters of {first} began anew"))
        } else {
            let summary = format!("counters of {count} virtual servers began anew");
            ("lvs".to_owned(), summary)
        };
        let names: Vec<&String> = self.reset_servers.iter().take(NAMES_MAX).collect();
        let change = Change {
            topic: "lvs.counters.reset",
            severity: Severity::Notice,
            summary,
            key,
            before: Value::Null,
            after: Value::Null,
            fields: fields([
                ("virtual_servers", json!(count)),
                ("counters", json!(self.resets)),
                ("names", json!(names)),
            ]),
        };
        self.tell(change);
    }
}

/// The sync daemons of a director come or go.
pub(super) fn sync_change(before: &Value, after: &Value) -> Change {
    Change {
        topic: "lvs.sync.changed",
        severity: Severity::Notice,
        summary: format!("connection synchronisation: {before} to {after}"),
        key: "lvs".to_owned(),
        before: before.clone(),
        after: after.clone(),
        fields: BTreeMap::new(),
    }
}

impl Change {
    fn between(mut self, before: Value, after: Value) -> Self {
        self.before = before;
        self.after = after;
        self
    }
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> BTreeMap<String, Value> {
    let owned = fields.map(|(name, value)| (name.to_owned(), value));
    owned
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}

fn service_new(new: &Server) -> Change {
    let key = server_key(new);
    let summary = format!(
        "virtual server {key} with {} real servers",
        new.backends.len()
    );
    service_change("lvs.service.added", Severity::Notice, new, summary)
        .between(Value::Null, service_state(new))
}

fn service_gone(old: &Server) -> Change {
    let summary = format!("virtual server {} is gone", server_key(old));
    service_change("lvs.service.removed", Severity::Warning, old, summary)
        .between(service_state(old), Value::Null)
}

fn up_or_down(new: &Server) -> Change {
    let key = server_key(new);
    if new.is_up() {
        let summary = format!("virtual server {key} has a real server again");
        return service_change("lvs.service.up", Severity::Notice, new, summary);
    }
    let summary = match new.backends.len() {
        0 => format!("virtual server {key} has no real server left"),
        1 => format!("virtual server {key} has no real server left: its only one has weight 0"),
        count => format!("virtual server {key} has no real server left: all {count} have weight 0"),
    };
    service_change("lvs.service.down", Severity::Critical, new, summary)
}

fn backend_new(service: &ServiceKey, new: &Backend) -> Change {
    let summary = format!(
        "{} is now in {service}, weight {}",
        backend_key(new),
        new.destination.weight
    );
    backend_change("lvs.backend.added", Severity::Notice, service, new, summary)
        .between(Value::Null, backend_state(new))
}

fn backend_gone(service: &ServiceKey, old: &Backend) -> Change {
    let summary = format!("{} is no longer in {service}", backend_key(old));
    backend_change(
        "lvs.backend.removed",
        Severity::Warning,
        service,
        old,
        summary,
    )
    .between(backend_state(old), Value::Null)
}

fn service_change(
    topic: &'static str,
    severity: Severity,
    server: &Server,
    summary: String,
) -> Change {
    let key = server_key(server);
    let up = server.backends.iter().filter(|backend| backend.is_up());
    let mut about = about_service(&key);
    if let ServiceKey::Address { address, port, .. } = key {
        about.insert("address".to_owned(), json!(address));
        about.insert("port".to_owned(), json!(port));
    }
    about.extend(fields([
        ("scheduler", json!(server.service.scheduler)),
        ("real_servers", json!(server.backends.len())),
        ("real_servers_up", json!(up.count())),
    ]));
    Change {
        topic,
        severity,
        summary,
        key: key.to_string(),
        before: Value::Null,
        after: Value::Null,
        fields: about,
    }
}

fn backend_change(
    topic: &'static str,
    severity: Severity,
    service: &ServiceKey,
    backend: &Backend,
    summary: String,
) -> Change {
    let one = &backend.destination;
    let mut about = about_service(service);
    about.extend(fields([
        ("real_server", json!(one.key.to_string())),
        ("address", json!(one.key.address)),
        ("port", json!(one.key.port)),
        ("weight", json!(one.weight)),
        ("active_connections", json!(one.active_connections)),
        ("inactive_connections", json!(one.inactive_connections)),
    ]));
    Change {
        topic,
        severity,
        summary,
        key: format!("{service}/{}", one.key),
        before: Value::Null,
        after: Value::Null,
        fields: about,
    }
}

/// What every event says of its virtual server.
fn about_service(key: &ServiceKey) -> BTreeMap<String, Value> {
    let name = ("virtual_server", json!(key.to_string()));
    let family = ("family", json!(key.family().name()));
    match key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => fields([
            name,
            family,
            ("protocol", json!(protocol.to_string())),
            ("virtual_address", json!(address)),
            ("virtual_port", json!(port)),
        ]),
        ServiceKey::Mark { mark, .. } => fields([name, family, ("fwmark", json!(mark))]),
    }
}

/// Whether anything of a virtual server itself was changed.
fn is_other(old: &Server, new: &Server) -> bool {
    let shape = |server: &Server| {
        let service = &server.service;
        let flags = service.flags.0 & !Flags::HASHED.0;
        (flags, service.timeout_s, service.netmask)
    };
    shape(old) != shape(new)
        || old.service.scheduler != new.service.scheduler
        || old.service.engine != new.service.engine
}

fn service_state(server: &Server) -> Value {
    let service = &server.service;
    let up = server.backends.iter().filter(|backend| backend.is_up());
    let mut state = json!({
        "scheduler": service.scheduler,
        "flags": show::flags(service),
        "real_servers": server.backends.len(),
        "real_servers_up": up.count(),
    });
    if service.flags.has(Flags::PERSISTENT)
        && let Some(state) = state.as_object_mut()
    {
        let mask = match service.key.family() {
            crate::ipvs::Family::V4 => json!(std::net::Ipv4Addr::from(service.netmask)),
            crate::ipvs::Family::V6 => json!(service.netmask),
        };
        state.insert("persistence_timeout_s".to_owned(), json!(service.timeout_s));
        state.insert("persistence_mask".to_owned(), mask);
        state.insert("persistence_engine".to_owned(), json!(service.engine));
    }
    state
}

fn backend_state(backend: &Backend) -> Value {
    let one = &backend.destination;
    json!({
        "weight": one.weight,
        "forwarding": show::forwarding(one.forward),
        "tunnel": one.tunnel.filter(|_| one.forward == crate::ipvs::Forward::Tunnel).map(show::tunnel_shown),
        "upper_threshold": one.upper_threshold,
        "lower_threshold": one.lower_threshold,
        "overloaded": backend.overloaded,
    })
}

/// `scheduler wlc to rr, flags [] to ["ops"]`.
fn difference(before: &Value, after: &Value) -> String {
    let empty = Map::new();
    let (before, after) = (
        before.as_object().unwrap_or(&empty),
        after.as_object().unwrap_or(&empty),
    );
    let words = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let parts: Vec<String> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name) && !name.starts_with("real_servers"))
        .map(|name| {
            let (was, is) = (words(before.get(name)), words(after.get(name)));
            format!("{} {was} to {is}", name.replace('_', " "))
        })
        .collect();
    parts.join(", ")
}
