//! `keepalived.stats`: the counters of the VRRP instances.

use muster_proto::snapshot::keepalived::{VrrpCounters, VrrpInstance};

use super::RECORDS_MAX;
use super::text::lines;

/// Counters that are carried without a name of ours, per instance.
const OTHER_MAX: usize = 64;

/// Reads the file; `None` where the text is none.
pub(crate) fn parse(text: &str) -> Option<Vec<VrrpInstance>> {
    let mut instances: Vec<VrrpInstance> = Vec::new();
    let mut section = "";
    for line in lines(text) {
        let Some((key, value)) = line.text.split_once(':') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if line.depth == 0 && key == "VRRP Instance" {
            if instances.len() >= RECORDS_MAX {
                break;
            }
            section = "";
            instances.push(VrrpInstance {
                name: value.to_owned(),
                counters: Some(VrrpCounters::default()),
                ..VrrpInstance::default()
            });
        } else if value.is_empty() {
            section = key;
        } else if let Ok(count) = value.parse() {
            const FIELD_DEPTH: usize = 3; // what stands no deeper belongs to the instance itself
            let section = if line.depth <= FIELD_DEPTH {
                ""
            } else {
                section
            };
            let instance = instances.last_mut();
            if let Some(counters) = instance.and_then(|instance| instance.counters.as_mut()) {
                count_in(counters, section, key, count);
            }
        }
    }
    (!instances.is_empty()).then_some(instances)
}

fn count_in(counters: &mut VrrpCounters, section: &str, key: &str, count: u64) {
    let field = match (section, key) {
        ("Advertisements", "Received") => &mut counters.adverts_received,
        ("Advertisements", "Sent") => &mut counters.adverts_sent,
        ("", "Became master") => &mut counters.became_master,
        ("", "Released master") => &mut counters.released_master,
        ("Priority Zero", "Received") => &mut counters.priority_zero_received,
        ("Priority Zero", "Sent") => &mut counters.priority_zero_sent,
        ("Packet Errors", "Length") => &mut counters.length_errors,
        ("Packet Errors", "TTL") => &mut counters.ttl_errors,
        ("Packet Errors", "Invalid Type") => &mut counters.type_errors,
        ("Packet Errors", "Advertisement Interval") => &mut counters.interval_errors,
        ("Packet Errors", "Address List") => &mut counters.address_list_errors,
        ("Authentication Errors", "Invalid Type") => &mut counters.auth_type_errors,
        ("Authentication Errors", "Type Mismatch") => &mut counters.auth_mismatch_errors,
        ("Authentication Errors", "Failure") => &mut counters.auth_failures,
        _ => {
            if counters.other.len() < OTHER_MAX {
                let name = match section {
                    "" => key.to_owned(),
                    section => format!("{section}: {key}"),
                };
                counters.other.insert(name, count);
            }
            return;
        }
    };
    *field = Some(count);
}
