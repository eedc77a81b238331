//! VRRP: instances, sync groups and track scripts.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a VRRP instance or of a sync group (RFC 5798 and keepalived's own).
#[derive(
    Serialize,
    Deserialize,
    JsonSchema,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
)]
#[serde(rename_all = "lowercase")]
pub enum VrrpState {
    /// Not begun yet.
    Init,
    /// Another router is master.
    Backup,
    /// It holds the addresses.
    Master,
    /// It can't take part: an interface is down or a tracked script fails.
    Fault,
    /// keepalived stops.
    Stop,
    /// It is no longer configured.
    Deleted,
    /// A state that this version has no name for.
    #[default]
    #[serde(other)]
    Unknown,
}

impl VrrpState {
    /// The name on the wire and on the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Master => "master",
            Self::Fault => "fault",
            Self::Stop => "stop",
            Self::Deleted => "deleted",
            Self::Unknown => "unknown",
        }
    }

    /// The state that keepalived calls so: `MASTER`, `BACKUP` or, in old dumps and in JSON, `2`.
    #[must_use]
    pub fn named(text: &str) -> Self {
        match text.trim().to_ascii_uppercase().as_str() {
            "INIT" | "0" => Self::Init,
            "BACKUP" | "1" => Self::Backup,
            "MASTER" | "2" => Self::Master,
            "FAULT" | "3" => Self::Fault,
            "STOP" => Self::Stop,
            "DELETED" => Self::Deleted,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for VrrpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A VRRP instance (`keepalived.data`, `keepalived.json`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct VrrpInstance {
    /// Its name.
    pub name: String,
    /// Virtual router id, 1 to 255.
    pub vrid: Option<u32>,
    /// The interface that it runs on.
    pub interface: Option<String>,
    /// VRRP version, 2 or 3.
    pub version: Option<u32>,
    /// Its state.
    pub state: VrrpState,
    /// Since when it is in that state, in milliseconds since 1970; keepalived's own word where it tells, else when the
    /// agent saw the change.
    pub since_ms: Option<u64>,
    /// The state that it is on its way to.
    pub wanted_state: Option<VrrpState>,
    /// The priority that is configured.
    pub base_priority: Option<u32>,
    /// The priority with the weights of all that is tracked.
    pub effective_priority: Option<u32>,
    /// The priority of the master that it last heard; keepalived gives its own or 0 where it is master itself.
    pub master_priority: Option<u32>,
    /// The address of the master, where it is backup.
    pub master_address: Option<String>,
    /// Its own address.
    pub source_address: Option<String>,
    /// The sync group that it belongs to.
    pub group: Option<String>,
    /// The virtual addresses as keepalived writes them: `192.0.2.99 dev eth0 scope global set`.
    pub addresses: Vec<String>,
    /// The addresses that move along and are not in the adverts.
    pub excluded_addresses: Vec<String>,
    /// Whether the addresses are set on this host.
    pub addresses_set: Option<bool>,
    /// Time between two adverts.
    pub advert_interval_ms: Option<u64>,
    /// Time between two adverts of the master.
    pub master_advert_interval_ms: Option<u64>,
    /// Whether it takes over from a master of lower priority.
    pub preempt: Option<bool>,
    /// Interfaces and scripts that keep it in fault at present.
    pub faults: Option<u32>,
    /// Track scripts by name, with their weights as keepalived writes them.
    pub tracked_scripts: Vec<String>,
    /// Tracked interfaces.
    pub tracked_interfaces: Vec<String>,
    /// Counters; they begin anew when keepalived or its VRRP child does.
    pub counters: Option<VrrpCounters>,
    /// What else keepalived told, by its own names. Passwords are left out.
    pub other: BTreeMap<String, String>,
}

/// Counters of a VRRP instance, since its process began (`keepalived.stats`, `keepalived.json`).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(default)]
pub struct VrrpCounters {
    /// Adverts received.
    pub adverts_received: Option<u64>,
    /// Adverts sent.
    pub adverts_sent: Option<u64>,
    /// Times that it became master.
    pub became_master: Option<u64>,
    /// Times that it ceased to be master.
    pub released_master: Option<u64>,
    /// Adverts of priority 0 received: a master that stopped.
    pub priority_zero_received: Option<u64>,
    /// Adverts of priority 0 sent.
    pub priority_zero_sent: Option<u64>,
    /// Packets of a wrong length.
    pub length_errors: Option<u64>,
    /// Packets that came from beyond a router.
    pub ttl_errors: Option<u64>,
    /// Packets of a type that VRRP does not have.
    pub type_errors: Option<u64>,
    /// Adverts at another interval than ours.
    pub interval_errors: Option<u64>,
    /// Adverts with other addresses than ours.
    pub address_list_errors: Option<u64>,
    /// Packets with an authentication type that is not known.
    pub auth_type_errors: Option<u64>,
    /// Packets with another authentication type than ours.
    pub auth_mismatch_errors: Option<u64>,
    /// Packets that failed authentication.
    pub auth_failures: Option<u64>,
    /// What else keepalived counts, by its own names.
    pub other: BTreeMap<String, u64>,
}

/// A VRRP sync group: instances that change together.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: VrrpState,
    /// Since when, in milliseconds since 1970, as far as the agent saw the change.
    pub since_ms: Option<u64>,
    /// Its instances.
    pub members: Vec<String>,
    /// What else keepalived told, by its own names.
    pub other: BTreeMap<String, String>,
}

/// A track script.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(default)]
pub struct TrackScript {
    /// Its name.
    pub name: String,
    /// Whether it succeeds; none while it has not run.
    pub good: Option<bool>,
    /// keepalived's word for that: `GOOD`, `BAD`, `INIT`.
    pub status: Option<String>,
    /// Since when, in milliseconds since 1970, as far as the agent saw the change.
    pub since_ms: Option<u64>,
    /// What it does to the priority.
    pub weight: Option<i64>,
    /// Time between two runs.
    pub interval_ms: Option<u64>,
    /// Successes in a row that make it good.
    pub rise: Option<u32>,
    /// Failures in a row that make it bad.
    pub fall: Option<u32>,
    /// What else keepalived told, by its own names.
    pub other: BTreeMap<String, String>,
}
