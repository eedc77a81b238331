//! `keepalived.json`: VRRP instances and their counters, in both forms of the file (`json_version` 1 and 2).

use muster_proto::snapshot::keepalived::{VrrpCounters, VrrpInstance, VrrpState};
use serde_json::{Map, Value};

use super::text::rounded;
use super::{RECORDS_MAX, carry};

/// Known and not worth carrying.
const DULL: &[&str] = &[
    "garp_",
    "dont_track",
    "skip_check",
    "strict_mode",
    "lower_prio",
    "higher_prio",
    "promote_",
    "accept",
    "smtp_alert",
    "notify_",
    "script",
    "auth_type",
];

/// Reads the file; `None` where it is not whole or something else.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<VrrpInstance>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let items = match &value {
        Value::Array(items) => items,
        Value::Object(all) => all.get("vrrp")?.as_array()?,
        _ => return None,
    };
    Some(
        items
            .iter()
            .take(RECORDS_MAX)
            .filter_map(instance)
            .collect(),
    )
}

fn instance(item: &Value) -> Option<VrrpInstance> {
    let data = item.get("data")?.as_object()?;
    let mut instance = VrrpInstance {
        name: data.get("iname")?.as_str()?.to_owned(),
        ..VrrpInstance::default()
    };
    for (key, value) in data {
        field(&mut instance, key, value);
    }
    if let Some(stats) = item.get("stats").and_then(Value::as_object) {
        instance.counters = Some(counters(stats));
    }
    Some(instance)
}

fn field(instance: &mut VrrpInstance, key: &str, value: &Value) {
    let small = || value.as_u64().and_then(|number| number.try_into().ok());
    let state = || VrrpState::named(&value.to_string());
    match key {
        "iname" => {}
        "ifp_ifname" => instance.interface = value.as_str().map(str::to_owned),
        "vrid" => instance.vrid = small(),
        "version" => instance.version = small(),
        "state" => instance.state = state(),
        "wantstate" => instance.wanted_state = Some(state()),
        "base_priority" => instance.base_priority = small(),
        "effective_priority" => instance.effective_priority = small(),
        "master_priority" => instance.master_priority = small(),
        "last_transition" => {
            // Rounded to a tenth of a microsecond in a double, which is more than enough for milliseconds.
            let seconds = value.as_f64().filter(|seconds| *seconds > 0.0);
            let text = seconds.map(|seconds| format!("{seconds:.6}"));
            instance.since_ms = text.as_deref().and_then(super::text::moment_ms);
        }
        "vipset" => instance.addresses_set = truth(value),
        "vips" => instance.addresses = texts(value),
        "evips" => instance.excluded_addresses = texts(value),
        "track_ifp" => instance.tracked_interfaces = texts(value),
        "track_script" => instance.tracked_scripts = texts(value),
        "adver_int" => instance.advert_interval_ms = interval(value),
        "master_adver_int" => instance.master_advert_interval_ms = interval(value),
        "nopreempt" => instance.preempt = truth(value).map(|not| !not),
        "vmac_ifname" if value.as_str().is_none_or(str::is_empty) => {}
        _ if DULL.iter().any(|prefix| key.starts_with(prefix)) => {}
        _ => match value {
            Value::String(text) => carry(&mut instance.other, key, text),
            other => carry(&mut instance.other, key, &other.to_string()),
        },
    }
}

/// Seconds; microseconds in some versions, which no interval in seconds can be as large as.
fn interval(value: &Value) -> Option<u64> {
    const SECONDS_MAX: f64 = 10_000.0;
    let number = value.as_f64()?;
    if number < SECONDS_MAX {
        rounded(number * 1000.0)
    } else {
        rounded(number / 1000.0)
    }
}

fn truth(value: &Value) -> Option<bool> {
    value
        .as_bool()
        .or_else(|| value.as_u64().map(|number| number != 0))
}

fn texts(value: &Value) -> Vec<String> {
    const ITEMS_MAX: usize = 1024;
    let items = value.as_array().into_iter().flatten();
    let texts = items.filter_map(|item| item.as_str().map(str::to_owned));
    texts.take(ITEMS_MAX).collect()
}

fn counters(stats: &Map<String, Value>) -> VrrpCounters {
    const OTHER_MAX: usize = 64;
    let mut counters = VrrpCounters::default();
    for (key, value) in stats {
        let Some(count) = value.as_u64() else {
            continue;
        };
        let field = match key.as_str() {
            "advert_rcvd" => &mut counters.adverts_received,
            "advert_sent" => &mut counters.adverts_sent,
            "become_master" => &mut counters.became_master,
            "release_master" => &mut counters.released_master,
            "pri_zero_rcvd" => &mut counters.priority_zero_received,
            "pri_zero_sent" => &mut counters.priority_zero_sent,
            "packet_len_err" => &mut counters.length_errors,
            "ip_ttl_err" => &mut counters.ttl_errors,
            "invalid_type_rcvd" => &mut counters.type_errors,
            "advert_interval_err" => &mut counters.interval_errors,
            "addr_list_err" => &mut counters.address_list_errors,
            "invalid_authtype" => &mut counters.auth_type_errors,
            "authtype_mismatch" => &mut counters.auth_mismatch_errors,
            "auth_failure" => &mut counters.auth_failures,
            _ => {
                if counters.other.len() < OTHER_MAX {
                    counters.other.insert(key.clone(), count);
                }
                continue;
            }
        };
        *field = Some(count);
    }
    counters
}
