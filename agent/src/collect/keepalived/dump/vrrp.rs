//! `keepalived.data`: VRRP instances, sync groups and track scripts.

use muster_proto::snapshot::keepalived::{SyncGroup, TrackScript, VrrpInstance, VrrpState};

use super::text::{Line, integer, lines, moment_ms, small, span_ms, truth, until_comma};
use super::{RECORDS_MAX, carry};

/// What the VRRP process told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VrrpDump {
    pub(crate) router_id: Option<String>,
    pub(crate) instances: Vec<VrrpInstance>,
    pub(crate) groups: Vec<SyncGroup>,
    pub(crate) scripts: Vec<TrackScript>,
}

/// Known and not worth carrying: how adverts and gratuitous ARPs are sent, file descriptors, scripts to be called.
const DULL: &[&str] = &[
    "Gratuitous ",
    "Read timeout",
    "Master down timer",
    "fd_in",
    "Using smtp notification",
    "Send advert after",
    "Promote_secondaries",
    "Accept",
    "Down timer adverts",
    "Notify ",
    "Number of config faults",
    "Number of track scripts init",
    "Total priority",
    "Flags",
    "Authentication type",
    "Multicast address",
    "Script uid",
    "Skip check",
    "Enforcing strict",
    "Running LVS sync",
    "Result",
    "Insecure",
    "Init state",
    "Timeout",
];

#[derive(Clone, Copy, PartialEq)]
enum Record {
    None,
    Global,
    Instance,
    Group,
    Script,
}

#[derive(Clone, Copy, PartialEq)]
enum List {
    None,
    Addresses,
    Excluded,
    Scripts,
    Interfaces,
    Members,
    Skipped,
}

/// Reads a dump; `None` where the text is none, or breaks off before its first record's end.
pub(crate) fn parse(text: &str) -> Option<VrrpDump> {
    let mut reading = Reading {
        dump: VrrpDump::default(),
        record: Record::None,
        list: List::None,
    };
    let mut seen = false;
    for line in lines(text) {
        if let Some(heading) = line.heading() {
            seen = true;
            reading.list = List::None;
            reading.record = match heading {
                "Global definitions" => Record::Global,
                _ => Record::None,
            };
            continue;
        }
        reading.line(line);
    }
    if !seen {
        return None;
    }
    for instance in &mut reading.dump.instances {
        if instance.addresses_set.is_none() && !instance.addresses.is_empty() {
            let set = |address: &String| address.split(' ').any(|word| word == "set");
            instance.addresses_set = instance.addresses.iter().any(set).then_some(true);
        }
    }
    Some(reading.dump)
}

struct Reading {
    dump: VrrpDump,
    record: Record,
    list: List,
}

impl Reading {
    fn line(&mut self, line: Line<'_>) {
        if self.begins(line) {
            return;
        }
        // Items stand deeper than the fields of their record, which stand at three blanks (at one in old dumps).
        const ITEM_DEPTH: usize = 5;
        if line.depth >= ITEM_DEPTH && self.list != List::None {
            self.item(line.text);
            return;
        }
        self.list = List::None;
        if let Some(list) = line.list().map(list_of)
            && (list != List::Skipped || line.text.ends_with(':'))
        {
            self.list = list;
            return;
        }
        let (key, value) = line.pair().unwrap_or((line.text, "yes"));
        match self.record {
            Record::None => {}
            Record::Global if key == "Router ID" => {
                self.dump.router_id = Some(value.to_owned());
            }
            Record::Global => {}
            Record::Instance => {
                if let Some(instance) = self.dump.instances.last_mut() {
                    instance_field(instance, key, value);
                }
            }
            Record::Group => {
                if let Some(group) = self.dump.groups.last_mut() {
                    group_field(group, key, value);
                }
            }
            Record::Script => {
                if let Some(script) = self.dump.scripts.last_mut() {
                    script_field(script, key, value);
                }
            }
        }
    }

    /// Begins a record where the line is the first of one.
    fn begins(&mut self, line: Line<'_>) -> bool {
        let Some((key, value)) = line.pair() else {
            return false;
        };
        match key {
            "VRRP Instance" if self.dump.instances.len() < RECORDS_MAX => {
                self.record = Record::Instance;
                self.dump.instances.push(VrrpInstance {
                    name: value.to_owned(),
                    ..VrrpInstance::default()
                });
            }
            "VRRP Sync Group" if self.dump.groups.len() < RECORDS_MAX => {
                self.record = Record::Group;
                let (name, state) = value.rsplit_once(", ").unwrap_or((value, ""));
                self.dump.groups.push(SyncGroup {
                    name: name.to_owned(),
                    state: VrrpState::named(state),
                    ..SyncGroup::default()
                });
            }
            "VRRP Script" if self.dump.scripts.len() < RECORDS_MAX => {
                // Old dumps tell of a script within the instance that tracks it, once for each.
                let nested = self.record == Record::Instance;
                if nested && let Some(instance) = self.dump.instances.last_mut() {
                    instance.tracked_scripts.push(value.to_owned());
                }
                self.dump.scripts.retain(|script| script.name != value);
                self.record = Record::Script;
                self.dump.scripts.push(TrackScript {
                    name: value.to_owned(),
                    ..TrackScript::default()
                });
            }
            // Other records of no interest; their fields must not go to the record before.
            "VRRP Track file" | "VRRP Track process" | "VRRP Track BFD" | "Track file" => {
                self.record = Record::None;
            }
            _ => return false,
        }
        self.list = List::None;
        true
    }

    fn item(&mut self, text: &str) {
        if self.list == List::Members {
            let members = self.dump.groups.last_mut().map(|group| &mut group.members);
            push(members, text);
            return;
        }
        // In old dumps scripts and interfaces stand between an instance and its addresses.
        let Some(instance) = self.dump.instances.last_mut() else {
            return;
        };
        let list = match self.list {
            List::Addresses => &mut instance.addresses,
            List::Excluded => &mut instance.excluded_addresses,
            List::Scripts => &mut instance.tracked_scripts,
            List::Interfaces => &mut instance.tracked_interfaces,
            List::Members | List::Skipped | List::None => return,
        };
        push(Some(list), text);
    }
}

fn push(list: Option<&mut Vec<String>>, text: &str) {
    const ITEMS_MAX: usize = 1024;
    if let Some(list) = list.filter(|list| list.len() < ITEMS_MAX) {
        list.push(text.to_owned());
    }
}

fn list_of(name: &str) -> List {
    match name.to_ascii_lowercase().as_str() {
        "virtual ip" => List::Addresses,
        "virtual ip excluded" => List::Excluded,
        "tracked scripts" => List::Scripts,
        "tracked interfaces" => List::Interfaces,
        "vrrp member instances" => List::Members,
        _ => List::Skipped,
    }
}

fn instance_field(instance: &mut VrrpInstance, key: &str, value: &str) {
    match key {
        "VRRP Version" => instance.version = small(value),
        "State" => instance.state = VrrpState::named(value),
        "Wantstate" | "Want State" => instance.wanted_state = Some(VrrpState::named(value)),
        "Interface" | "Listening device" | "Running on device" => {
            instance.interface = Some(until_comma(value).to_owned());
        }
        "Virtual Router ID" => instance.vrid = small(value),
        "Priority" => instance.base_priority = small(value),
        "Effective priority" => instance.effective_priority = small(value),
        "Master priority" => instance.master_priority = small(value),
        "Master router" => instance.master_address = Some(value.to_owned()),
        "Using src_ip" => {
            let address = value.split(" (").next().unwrap_or(value);
            instance.source_address = (!address.starts_with('(')).then(|| address.to_owned());
        }
        "Sync group" => instance.group = Some(value.to_owned()),
        "Last transition" => instance.since_ms = moment_ms(value),
        "Advert interval" => instance.advert_interval_ms = span_ms(value),
        "Master advert interval" | "Master advert int" => {
            instance.master_advert_interval_ms = span_ms(value);
        }
        "Preempt" => instance.preempt = truth(value),
        "Preempt disabled" => instance.preempt = Some(false),
        "Number of interface and track script faults" => instance.faults = small(value),
        _ => rest(&mut instance.other, key, value),
    }
}

fn group_field(group: &mut SyncGroup, key: &str, value: &str) {
    match key {
        "monitor" => push(Some(&mut group.members), value),
        _ => rest(&mut group.other, key, value),
    }
}

fn script_field(script: &mut TrackScript, key: &str, value: &str) {
    match key {
        "Status" => {
            script.good = match value {
                "GOOD" | "INIT/GOOD" => Some(true),
                "BAD" | "INIT/FAILED" => Some(false),
                _ => None,
            };
            script.status = Some(value.to_owned());
        }
        "Weight" => script.weight = integer(value),
        "Interval" => script.interval_ms = span_ms(value),
        "Rise" => script.rise = small(value),
        "Fall" | "Full" => script.fall = small(value),
        _ => rest(&mut script.other, key, value),
    }
}

fn rest(other: &mut std::collections::BTreeMap<String, String>, key: &str, value: &str) {
    let dull = DULL.iter().any(|prefix| key.starts_with(prefix))
        || key.ends_with("state transition script");
    if !dull {
        carry(other, key, value);
    }
}
