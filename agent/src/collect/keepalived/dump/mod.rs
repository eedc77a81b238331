//! Pure parsers of what keepalived writes when it is asked: `keepalived.data`, `keepalived_check.data`,
//! `keepalived.stats` and `keepalived.json`. They take what they know, carry what they don't, and know no file.
//!
//! Source: what keepalived 1.2 to 2.3 print; the forms differ in words and in depth, not in kind.

mod check;
mod json;
mod stats;
mod text;
mod vrrp;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(super) use check::{CheckDump, parse as parse_check};
pub(super) use json::parse as parse_json;
pub(super) use stats::parse as parse_stats;
pub(super) use vrrp::{VrrpDump, parse as parse_vrrp};

use muster_proto::snapshot::keepalived::{VrrpCounters, VrrpInstance};

/// Records of one kind taken from one dump at the most: keepalived allows 255 virtual routers per interface, and
/// thousands of virtual servers are run.
const RECORDS_MAX: usize = 20_000;
/// Unknown keys that are carried per record.
const OTHER_MAX: usize = 32;
/// Longest value that is carried, in characters.
const VALUE_CHARS_MAX: usize = 200;

/// Carries what has no field of its own; secrets are not carried at all.
fn carry(other: &mut BTreeMap<String, String>, key: &str, value: &str) {
    let lower = key.to_ascii_lowercase();
    let secret = [
        "passw",
        "auth_data",
        "auth data",
        "secret",
        "key id",
        "auth key",
    ]
    .iter()
    .any(|word| lower.contains(word));
    if secret || key.is_empty() || other.len() >= OTHER_MAX {
        return;
    }
    let cut = |text: &str| text.chars().take(VALUE_CHARS_MAX).collect::<String>();
    other.insert(cut(key), cut(value));
}

/// Puts the counters, and whatever else only they have, beside the instances that the other dump names.
pub(super) fn join(instances: &mut Vec<VrrpInstance>, counted: Vec<VrrpInstance>) {
    let at: BTreeMap<String, usize> = instances
        .iter()
        .enumerate()
        .map(|(at, instance)| (instance.name.clone(), at))
        .collect();
    for from in counted {
        let known = at.get(&from.name).copied();
        if let Some(instance) = known.and_then(|at| instances.get_mut(at)) {
            fill(instance, from);
        } else if instances.len() < RECORDS_MAX {
            instances.push(from);
        }
    }
}

/// Takes from `from` what `instance` has not.
fn fill(instance: &mut VrrpInstance, from: VrrpInstance) {
    let counters: Option<VrrpCounters> = from.counters;
    instance.counters = counters.or(instance.counters.take());
    instance.vrid = instance.vrid.or(from.vrid);
    instance.version = instance.version.or(from.version);
    instance.interface = instance.interface.take().or(from.interface);
    instance.base_priority = instance.base_priority.or(from.base_priority);
    instance.effective_priority = instance.effective_priority.or(from.effective_priority);
    instance.master_priority = instance.master_priority.or(from.master_priority);
    instance.wanted_state = instance.wanted_state.or(from.wanted_state);
    instance.since_ms = instance.since_ms.or(from.since_ms);
    instance.addresses_set = from.addresses_set.or(instance.addresses_set);
    instance.advert_interval_ms = instance.advert_interval_ms.or(from.advert_interval_ms);
    instance.master_advert_interval_ms = instance
        .master_advert_interval_ms
        .or(from.master_advert_interval_ms);
    instance.preempt = instance.preempt.or(from.preempt);
    if instance.addresses.is_empty() {
        instance.addresses = from.addresses;
    }
    if instance.excluded_addresses.is_empty() {
        instance.excluded_addresses = from.excluded_addresses;
    }
    if instance.state == muster_proto::snapshot::keepalived::VrrpState::Unknown {
        instance.state = from.state;
    }
}
