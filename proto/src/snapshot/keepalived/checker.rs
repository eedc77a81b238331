//! The checkers' side: virtual servers, real servers, and why one of them is out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A virtual server as the checker process sees it (`keepalived_check.data`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct VirtualServer {
    /// As keepalived writes it: `[192.0.2.99]:tcp:80`, `[GROUP]:0`, `FWM 5`.
    pub name: String,
    /// Its address; none for groups and firewall marks.
    pub address: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: Option<String>,
    /// Its firewall mark.
    pub fwmark: Option<u32>,
    /// The name of its virtual server group.
    pub group: Option<String>,
    /// The addresses and marks of the group: `192.0.2.100:8081`, `FWM 9`.
    pub group_members: Vec<String>,
    /// The scheduler: `wrr`.
    pub scheduler: Option<String>,
    /// The forwarding method: `NAT`, `DR`, `TUN`.
    pub forward: Option<String>,
    /// How long a client stays with its real server.
    pub persistence_s: Option<u64>,
    /// The sum of weights that it needs.
    pub quorum: Option<u64>,
    /// How far above and below the quorum the change happens.
    pub hysteresis: Option<u64>,
    /// Whether the quorum is there: keepalived's word for the virtual server being up.
    pub quorum_up: Option<bool>,
    /// Since when, in milliseconds since 1970, as far as the agent saw the change.
    pub since_ms: Option<u64>,
    /// Where clients are sent while there is no quorum.
    pub sorry_server: Option<String>,
    /// Whether clients are sent there now.
    pub sorry_active: Option<bool>,
    /// Real servers that pass their checks; none where keepalived does not tell.
    pub alive: Option<u32>,
    /// The real servers.
    pub real_servers: Vec<RealServer>,
    /// What else keepalived told, by its own names.
    pub other: BTreeMap<String, String>,
}

/// A real server of one virtual server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct RealServer {
    /// As keepalived writes it: `[10.8.1.2]:tcp:8080`.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Whether it passes its checks.
    pub alive: Option<bool>,
    /// Since when, in milliseconds since 1970, as far as the agent saw the change.
    pub since_ms: Option<u64>,
    /// Why it is out, by the checkers that fail.
    pub reason: Option<String>,
    /// The weight that it should have now.
    pub weight: Option<i64>,
    /// The weight that is configured.
    pub initial_weight: Option<i64>,
    /// Whether keepalived has put it into the kernel's table.
    pub set: Option<bool>,
    /// Whether it stays in the table with weight 0 when it is out.
    pub inhibit: Option<bool>,
    /// The forwarding method: `NAT`, `DR`, `TUN`.
    pub forward: Option<String>,
    /// Checkers that fail.
    pub failed_checkers: Option<u32>,
    /// Its checkers.
    pub checkers: Vec<Checker>,
    /// Its entry in the kernel's table (`/proc/net/ip_vs`); none where there is no such entry or the table could not
    /// be read.
    pub kernel: Option<TableEntry>,
    /// Whether the kernel's table is as the checkers want it; none where the table could not be read or the virtual
    /// server is a group.
    pub in_step: Option<bool>,
    /// What else keepalived told, by its own names.
    pub other: BTreeMap<String, String>,
}

/// A health checker of a real server.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct Checker {
    /// `HTTP_GET`, `TCP_CHECK`, `MISC_CHECK` …
    pub method: String,
    /// Whether it runs.
    pub enabled: Option<bool>,
    /// Whether it succeeds.
    pub up: Option<bool>,
    /// Whether it has run at all.
    pub has_run: Option<bool>,
    /// Tries after the first failure.
    pub retries: Option<u32>,
    /// Tries that failed in a row.
    pub retries_done: Option<u32>,
    /// Time between two checks.
    pub interval_ms: Option<u64>,
    /// What else keepalived told, by its own names: the URL, the script, its last status.
    pub other: BTreeMap<String, String>,
}

/// An entry of the kernel's IPVS table.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct TableEntry {
    /// `Masq`, `Route`, `Tunnel`, `Local`.
    pub forward: String,
    /// Its weight.
    pub weight: i64,
    /// Active connections.
    pub active_connections: u64,
    /// Inactive connections.
    pub inactive_connections: u64,
}
