//! `keepalived_check.data`: virtual servers, their real servers and the health checkers.

use std::collections::BTreeMap;

use muster_proto::snapshot::keepalived::{Checker, RealServer, VirtualServer};

use super::text::{Line, count, integer, lines, small, span_ms, truth, until_comma, within};
use super::{RECORDS_MAX, carry};

/// What the checker process told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CheckDump {
    pub(crate) router_id: Option<String>,
    pub(crate) virtual_servers: Vec<VirtualServer>,
}

/// Known and not worth carrying.
const DULL: &[&str] = &[
    "Address family",
    "Hashed",
    "flag-",
    "One packet",
    "Quorum up",
    "Quorum down",
    "Using smtp",
    "connection timeout",
    "reloaded",
    "connection limit range",
    "previous effective_weight",
    "Alpha",
    "alpha",
    "omega",
    "Omega",
    "delay_loop",
    "Delay loop",
    "Delay before",
    "Default delay",
    "Warmup",
    "Log all",
    "Current weight",
    "Connection",
    "Timeout",
    "timeout",
    "Enable SNI",
    "Fast recovery",
    "HTTP Status",
    "dynamic",
    "uid:gid",
    "Retry",
    "Inhibit",
    "->",
    "System is compiled",
];

#[derive(Clone, Copy, PartialEq)]
enum Record {
    None,
    Global,
    Group,
    Virtual,
    Sorry,
    Real,
    Checker,
}

/// Reads a dump; `None` where the text is none.
pub(crate) fn parse(text: &str) -> Option<CheckDump> {
    let mut reading = Reading {
        dump: CheckDump::default(),
        groups: BTreeMap::new(),
        group: String::new(),
        checkers: Vec::new(),
        record: Record::None,
        checking: false,
    };
    let mut seen = false;
    for line in lines(text) {
        if let Some(heading) = line.heading() {
            seen = true;
            reading.checking = heading == "Health checkers";
            reading.record = match heading {
                "Global definitions" => Record::Global,
                _ => Record::None,
            };
            continue;
        }
        reading.line(line);
    }
    seen.then(|| reading.finish())
}

struct Reading {
    dump: CheckDump,
    /// The members of each virtual server group.
    groups: BTreeMap<String, Vec<String>>,
    /// The group that is being read.
    group: String,
    /// Checkers with the names of their virtual and real servers.
    checkers: Vec<(String, String, Checker)>,
    record: Record,
    checking: bool,
}

impl Reading {
    fn line(&mut self, line: Line<'_>) {
        if self.checking && self.begins_checker(line) || !self.checking && self.begins(line) {
            return;
        }
        let (key, value) = line.pair().unwrap_or((line.text, "yes"));
        // The sorry server's own fields stand deeper than those of its virtual server.
        const SORRY_DEPTH: usize = 5;
        if self.record == Record::Sorry {
            if line.depth >= SORRY_DEPTH {
                return;
            }
            self.record = Record::Virtual;
        }
        match self.record {
            Record::None | Record::Sorry => {}
            Record::Global => {
                if key == "Router ID" {
                    self.dump.router_id = Some(value.to_owned());
                }
            }
            Record::Group => self.group_member(line.text),
            Record::Virtual => self.virtual_field(line.text, key, value),
            Record::Real => {
                let server = self.dump.virtual_servers.last_mut();
                if let Some(real) = server.and_then(|server| server.real_servers.last_mut()) {
                    real_field(real, line.text, key, value);
                }
            }
            Record::Checker => {
                if let Some((_, _, checker)) = self.checkers.last_mut() {
                    checker_field(checker, key, value);
                }
            }
        }
    }

    /// `[192.0.2.99]:tcp:80 -> [10.8.1.2]:tcp:8080` begins a checker.
    fn begins_checker(&mut self, line: Line<'_>) -> bool {
        const DEPTH_MAX: usize = 2;
        let Some((server, real)) = line.text.rsplit_once(" -> ") else {
            return false;
        };
        if line.depth > DEPTH_MAX || self.checkers.len() >= RECORDS_MAX {
            return false;
        }
        self.record = Record::Checker;
        let names = (server.trim().to_owned(), real.trim().to_owned());
        self.checkers.push((names.0, names.1, Checker::default()));
        true
    }

    /// Begins a record where the line is the first of one.
    fn begins(&mut self, line: Line<'_>) -> bool {
        let Some((key, value)) = line.pair() else {
            return false;
        };
        if key == "Virtual Server Group" {
            self.record = Record::Group;
            self.group = until_comma(value).to_owned();
            self.groups.entry(self.group.clone()).or_default();
            return true;
        }
        if key == "RIP" {
            let servers = self.dump.virtual_servers.last_mut();
            if let Some(server) = servers.filter(|server| server.real_servers.len() < RECORDS_MAX) {
                self.record = Record::Real;
                server.real_servers.push(real_server(line.text, value));
            }
            return true;
        }
        // Old dumps have no `VS` before it, and the members of a group look the same, but stand deeper.
        const VIRTUAL_DEPTH: usize = 2;
        let first = key.strip_prefix("VS ").or_else(|| {
            let bare = line.depth <= VIRTUAL_DEPTH && matches!(key, "VIP" | "VS" | "FWMARK");
            bare.then_some(key)
        });
        let Some(first) = first.filter(|first| matches!(*first, "VIP" | "FWMARK" | "GROUP")) else {
            return false;
        };
        if self.dump.virtual_servers.len() < RECORDS_MAX {
            self.record = Record::Virtual;
            let server = virtual_server(first, line.text, value);
            self.dump.virtual_servers.push(server);
        }
        true
    }

    fn group_member(&mut self, text: &str) {
        const MEMBERS_MAX: usize = 1024;
        let member = within(text, "VIP")
            .or_else(|| within(text, "VIP Range"))
            .map(|address| match within(text, "VPORT") {
                Some(port) => format!("{address}:{port}"),
                None => address.to_owned(),
            })
            .or_else(|| within(text, "FWMARK").map(|mark| format!("FWM {mark}")));
        let members = self.groups.get_mut(&self.group);
        if let (Some(member), Some(members)) = (member, members)
            && members.len() < MEMBERS_MAX
        {
            members.push(member);
        }
    }

    fn virtual_field(&mut self, text: &str, key: &str, value: &str) {
        let Some(server) = self.dump.virtual_servers.last_mut() else {
            return;
        };
        match key {
            "lvs_sched" | "lb_algo" | "Scheduler" => server.scheduler = Some(value.to_owned()),
            "protocol" => server.protocol = Some(value.to_ascii_lowercase()),
            "persistence timeout" | "persistence" => server.persistence_s = count(value),
            "quorum" => {
                server.quorum = count(value);
                server.hysteresis = within(text, "hysteresis").and_then(count);
            }
            "quorum_state_up" | "quorum_state" => server.quorum_up = truth(value),
            "default forwarding method" => server.forward = Some(until_comma(value).to_owned()),
            // Whether any real server is alive; counted below.
            "alive" => {}
            _ if key.starts_with("sorry server forwarding") => {}
            _ if key.starts_with("sorry server") => {
                server.sorry_server = Some(value.to_owned());
                self.record = Record::Sorry;
            }
            _ => rest(&mut server.other, key, value),
        }
    }

    fn finish(mut self) -> CheckDump {
        for server in &mut self.dump.virtual_servers {
            if let Some(group) = &server.group {
                server.group_members = self.groups.get(group).cloned().unwrap_or_default();
            }
            if let (Some(address), Some(port)) = (&server.address, server.port) {
                let protocol = server.protocol.as_deref().unwrap_or("none");
                server.name = format!("[{address}]:{protocol}:{port}");
            }
            let protocol = server.protocol.clone().unwrap_or_else(|| "none".to_owned());
            for real in &mut server.real_servers {
                real.name = format!("[{}]:{protocol}:{}", real.address, real.port);
            }
        }
        self.attach();
        for server in &mut self.dump.virtual_servers {
            let known: Vec<bool> = server
                .real_servers
                .iter()
                .filter_map(|real| real.alive)
                .collect();
            let alive = known.iter().filter(|alive| **alive).count();
            server.alive = (!known.is_empty()).then(|| alive.try_into().unwrap_or(u32::MAX));
            for real in &mut server.real_servers {
                real.reason = reason(real);
            }
        }
        self.dump
    }

    /// Gives the checkers to their real servers. The names that they call them by are keepalived's own.
    fn attach(&mut self) {
        let mut at: BTreeMap<(String, String, u16), (usize, usize)> = BTreeMap::new();
        for (v, server) in self.dump.virtual_servers.iter().enumerate() {
            for (r, real) in server.real_servers.iter().enumerate() {
                at.insert(
                    (server.name.clone(), real.address.clone(), real.port),
                    (v, r),
                );
            }
        }
        for (server, name, checker) in std::mem::take(&mut self.checkers) {
            let Some((address, port)) = endpoint(&name) else {
                continue;
            };
            let found = at.get(&(server, address.to_owned(), port));
            let real = found.and_then(|(v, r)| {
                let server = self.dump.virtual_servers.get_mut(*v)?;
                server.real_servers.get_mut(*r)
            });
            if let Some(real) = real {
                real.name = name;
                real.checkers.push(checker);
            }
        }
    }
}

/// Address and port of `[10.8.1.2]:tcp:8080`, and of `[10.8.1.2]:8080`.
pub(crate) fn endpoint(name: &str) -> Option<(&str, u16)> {
    let (address, rest) = name.strip_prefix('[')?.rsplit_once(']')?;
    let port = rest.rsplit(':').next()?.parse().ok()?;
    Some((address, port))
}

fn virtual_server(kind: &str, text: &str, value: &str) -> VirtualServer {
    let mut server = VirtualServer::default();
    match kind {
        "FWMARK" => {
            server.fwmark = small(value);
            server.name = format!("FWM {}", until_comma(value));
        }
        "GROUP" => {
            let name = value
                .strip_prefix('[')
                .and_then(|rest| rest.rsplit_once(']'));
            let name = name.map_or(value, |(name, _)| name);
            server.group = Some(name.to_owned());
            server.name = if value.starts_with('[') {
                value.to_owned()
            } else {
                format!("[{value}]:0") // as the FIFO and the log call it in every version
            };
        }
        _ => {
            server.address = Some(until_comma(value).to_owned());
            server.port = within(text, "VPORT").and_then(|port| port.parse().ok());
        }
    }
    server
}

fn real_server(text: &str, value: &str) -> RealServer {
    RealServer {
        address: until_comma(value).to_owned(),
        port: within(text, "RPORT")
            .and_then(|port| port.parse().ok())
            .unwrap_or_default(),
        initial_weight: within(text, "WEIGHT").and_then(integer),
        weight: within(text, "EFF WEIGHT").and_then(integer),
        ..RealServer::default()
    }
}

fn real_field(real: &mut RealServer, text: &str, key: &str, value: &str) {
    match key {
        "alive" => real.alive = truth(value),
        "RS set" => real.set = truth(value),
        "num failed checkers" => real.failed_checkers = small(value),
        "initial weight" => real.initial_weight = integer(value),
        "effective weight" => real.weight = integer(value),
        "forwarding method" => real.forward = Some(until_comma(value).to_owned()),
        _ => {
            if let Some(word) = text.strip_prefix("Inhibit on failure is ") {
                real.inhibit = truth(word);
            } else {
                rest(&mut real.other, key, value);
            }
        }
    }
}

fn checker_field(checker: &mut Checker, key: &str, value: &str) {
    match key {
        "Keepalive method" => checker.method = until_comma(value).to_owned(),
        "Enabled" => checker.enabled = truth(value),
        "Up" => checker.up = truth(value),
        "Has run" => checker.has_run = truth(value),
        "Retries" => checker.retries = small(value),
        "Retries iterations" | "Retry iterations" => checker.retries_done = small(value),
        "Delay loop" => checker.interval_ms = span_ms(value),
        _ => rest(&mut checker.other, key, value),
    }
}

fn rest(other: &mut BTreeMap<String, String>, key: &str, value: &str) {
    // A status code and the like, which stands on a line of its own below its name.
    let bare = key.bytes().all(|byte| byte.is_ascii_digit());
    if !bare && !DULL.iter().any(|prefix| key.starts_with(prefix)) {
        carry(other, key, value);
    }
}

/// Why a real server that is out is out, by the checkers that fail.
fn reason(real: &RealServer) -> Option<String> {
    if real.alive != Some(false) {
        return None;
    }
    let failing = real
        .checkers
        .iter()
        .filter(|checker| checker.up == Some(false));
    let words: Vec<String> = failing.map(checker_words).collect();
    if !words.is_empty() {
        return Some(words.join("; "));
    }
    real.failed_checkers
        .filter(|count| *count > 0)
        .map(|count| format!("{count} checkers fail"))
}

fn checker_words(checker: &Checker) -> String {
    let method = match checker.method.as_str() {
        "" => "a checker",
        method => method,
    };
    let verb = if checker.has_run == Some(false) {
        "has not run yet"
    } else {
        "fails"
    };
    let mut text = method.to_owned();
    for key in ["Dest", "Checked url", "script", "Tracked file"] {
        if let Some(value) = checker.other.get(key) {
            text.push(' ');
            text.push_str(value);
        }
    }
    text.push(' ');
    text.push_str(verb);
    if let Some(status) = checker.other.get("Last status") {
        text.push_str(", last status ");
        text.push_str(status);
    }
    text
}
