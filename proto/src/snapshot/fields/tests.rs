//! Holds the tables against the types: every figure is declared or left out, and what is declared is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::schema::schemas;

/// What a place in a snapshot can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Number,
    Bool,
    Text,
    /// An object with `total` and `per_s`.
    Counter,
}

/// Every leaf of a schema by its path.
fn leaves(root: &Value, schema: &Value, path: &str, found: &mut BTreeMap<String, Holds>) {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|name| name.strip_prefix("#/$defs/"))
    {
        if name == "Counter" {
            found.insert(path.to_owned(), Holds::Counter);
        } else {
            leaves(root, &root["$defs"][name], path, found);
        }
    }
    for variant in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[variant].as_array().into_iter().flatten() {
            leaves(root, schema, path, found);
        }
    }
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let join = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    for name in types {
        match name {
            "integer" | "number" => drop(found.insert(path.to_owned(), Holds::Number)),
            "boolean" => drop(found.insert(path.to_owned(), Holds::Bool)),
            "string" => drop(found.insert(path.to_owned(), Holds::Text)),
            "array" => leaves(root, &schema["items"], &format!("{path}[]"), found),
            "object" => {
                for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                    leaves(root, schema, &join(name), found);
                }
                if schema["additionalProperties"].is_object() {
                    leaves(
                        root,
                        &schema["additionalProperties"],
                        &format!("{path}{{}}"),
                        found,
                    );
                }
            }
            _ => {}
        }
    }
}

fn places(collector: &str) -> BTreeMap<String, Holds> {
    let name = format!("snapshot.{collector}");
    let (_, schema) = schemas()
        .into_iter()
        .find(|(stem, _)| *stem == name)
        .unwrap();
    let schema = schema.to_value();
    let mut found = BTreeMap::new();
    leaves(&schema, &schema, "", &mut found);
    found
}

fn path(table: &Table, field: &str) -> String {
    if table.under.is_empty() {
        field.to_owned()
    } else {
        format!("{}.{field}", table.under)
    }
}

#[test]
fn every_snapshot_is_declared() {
    let all = schemas();
    let stems = all
        .iter()
        .filter_map(|(stem, _)| stem.strip_prefix("snapshot."));
    let declared: BTreeSet<_> = DECLARED.iter().map(|declared| declared.collector).collect();
    assert_eq!(stems.collect::<BTreeSet<_>>(), declared);
}

#[test]
fn every_figure_is_declared_once_or_left_out_for_a_reason() {
    for declared in DECLARED {
        let places = places(declared.collector);
        let mut known = BTreeSet::new();
        for table in declared.tables {
            for field in table.fields {
                let path = path(table, field.path);
                let holds = places
                    .get(&path)
                    .unwrap_or_else(|| unreachable!("{path} is in no snapshot"));
                let fits = match field.kind {
                    Kind::Counter => matches!(holds, Holds::Number | Holds::Counter),
                    Kind::Gauge => *holds == Holds::Number,
                    Kind::State => matches!(holds, Holds::Bool | Holds::Text),
                };
                assert!(
                    fits,
                    "{path} is declared {:?} and holds {holds:?}",
                    field.kind
                );
                assert!(known.insert(path.clone()), "{path} is declared twice");
            }
        }
        for (path, why) in declared.left_out {
            assert!(
                places.contains_key(*path),
                "{path} is left out and in no snapshot"
            );
            assert!(
                !why.is_empty() && known.insert((*path).to_owned()),
                "{path}"
            );
        }
        let figures = places.iter().filter(|(_, holds)| **holds != Holds::Text);
        let forgotten: Vec<_> = figures
            .map(|(path, _)| path)
            .filter(|path| !known.contains(*path))
            .collect();
        assert!(
            forgotten.is_empty(),
            "neither declared in proto/src/snapshot/fields/ nor left out there, of {}: {forgotten:#?}",
            declared.collector
        );
    }
}

#[test]
fn labels_are_in_the_objects_that_they_name() {
    for declared in DECLARED {
        let places = places(declared.collector);
        for table in declared.tables {
            let lists: Vec<_> = table
                .under
                .match_indices(['[', '{'])
                .map(|(at, _)| at + 2)
                .collect();
            for label in table.labels {
                let end = lists
                    .get(label.list)
                    .unwrap_or_else(|| unreachable!("{}: {}", table.name, label.name));
                let list = &table.under[..*end];
                if label.path == KEY {
                    assert!(list.ends_with("{}"), "{list}");
                } else {
                    let path = format!("{list}.{}", label.path);
                    assert!(places.contains_key(&path), "{path} is in no snapshot");
                }
            }
            let own: BTreeSet<_> = table.labels.iter().map(|label| label.list).collect();
            assert_eq!(
                own.len(),
                lists.len(),
                "{}: items of each list need a label",
                table.under
            );
        }
    }
}

#[test]
fn names_are_unique_and_say_their_unit() {
    let plain = |name: &str| {
        name.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.".contains(&b))
    };
    let (mut names, mut metrics) = (BTreeSet::new(), BTreeMap::new());
    for series in all() {
        let (name, unit) = (series.name(), series.field.unit);
        assert!(plain(&name), "{name}");
        assert!(
            series.field.path.ends_with(unit.suffix()),
            "{name} is in {unit:?}"
        );
        assert_eq!(find(series.collector, &name), Some(series));
        assert!(
            names.insert((series.collector, name.clone())),
            "{series:?} is declared twice"
        );
        let help = series.field.help;
        assert!(
            !help.is_empty() && !help.ends_with('.') && help.starts_with(char::is_uppercase),
            "{help}"
        );
        let metric = prometheus::name(series);
        assert!(plain(&metric) && !metric.contains('.'), "{metric}");
        assert_eq!(
            metric.ends_with("_total"),
            series.field.kind == Kind::Counter,
            "{metric}"
        );
        let before = metrics.insert(metric.clone(), name);
        assert_eq!(before, None, "{metric}");
    }
    assert_eq!(find("host", "nosuch.thing"), None);
    assert_eq!(find("nosuch", "memory.free_bytes"), None);
}

fn metric(collector: &str, name: &str) -> String {
    prometheus::name(find(collector, name).unwrap())
}

#[test]
fn metrics_are_named_by_the_conventions() {
    for (name, want) in [
        ("memory.free_bytes", "muster_host_memory_free_bytes"),
        ("memory.total_bytes", "muster_host_memory_total_bytes"),
        ("memory.hugepages_total", "muster_host_memory_hugepages"),
        ("processes.total", "muster_host_processes"),
        ("interface.rx_bytes", "muster_host_interface_rx_bytes_total"),
        ("disk.read_ms", "muster_host_disk_read_seconds_total"),
        ("cpu.busy_percent", "muster_host_cpu_busy_ratio"),
        (
            "uptime.boot_time_s",
            "muster_host_uptime_boot_time_timestamp_seconds",
        ),
        (
            "pressure_io_some.total_us",
            "muster_host_pressure_io_some_total_seconds_total",
        ),
        (
            "interface.speed_bits_per_s",
            "muster_host_interface_speed_bits_per_second",
        ),
    ] {
        assert_eq!(metric("host", name), want, "{name}");
    }
}

fn shown(snapshot: &Value) -> Vec<String> {
    let show = |sample: Sample<'_>| {
        let labels: Vec<_> = sample
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let rate = sample
            .per_s
            .map(|rate| format!(" {rate}/s"))
            .unwrap_or_default();
        format!(
            "{}{{{}}} {}{rate}",
            sample.series,
            labels.join(","),
            sample.reading
        )
    };
    series("host", snapshot).map(show).collect()
}

#[test]
fn a_snapshot_is_taken_apart() {
    let snapshot = json!({
        "at_ms": 1,
        "cpu": {"total": {"interval": {"busy_percent": 12.5}}, "cores": [{"core": 3, "interval": {"busy_percent": 1}}]},
        "memory": {"total_bytes": u64::MAX, "available_estimated": true, "oom_kills": {"total": 4, "per_s": 0.5}},
        "disks": {"devices": [{"name": "vda", "stacked": false, "read_ms": 7}]},
        "network": {"interfaces": [
            {"name": "eth0", "operstate": "up", "rx_bytes": {"total": 9, "per_s": null}, "mtu_bytes": null},
            {"operstate": "nameless"},
            {"name": "eth1", "rx_bytes": "many", "tx_bytes": {"per_s": 1}, "speed_bits_per_s": -5},
        ]},
        "errors": [], "load": null, "softnet": 5,
    });
    assert_eq!(
        shown(&snapshot),
        [
            "cpu.busy_percent{} 12.5",
            "core.busy_percent{core=3} 1",
            "memory.total_bytes{} 18446744073709551615",
            "memory.available_estimated{} 1",
            "memory.oom_kills{} 4 0.5/s",
            "disk.read_ms{device=vda,stacked=false} 7",
            "interface.operstate{interface=eth0} up",
            "interface.rx_bytes{interface=eth0} 9",
            "interface.speed_bits_per_s{interface=eth1} -5",
        ]
    );
    let alone: Vec<_> = of("host")
        .flat_map(|series| samples(series, &snapshot))
        .collect();
    let mut together: Vec<_> = series("host", &snapshot).collect();
    let place = |one: &Sample<'_>| of("host").position(|series| series == one.series);
    together.sort_by_key(place);
    assert_eq!(alone, together, "the same, one series after the other");
    let disk = series("host", &snapshot)
        .find(|sample| sample.series.name() == "disk.read_ms")
        .unwrap();
    assert_eq!(prometheus::figure(&disk), 0.007);
    let up = series("host", &snapshot)
        .find(|sample| prometheus::word(sample).is_some())
        .unwrap();
    assert_eq!(
        (prometheus::figure(&up), prometheus::word(&up)),
        (1.0, Some("up"))
    );
    assert_eq!(series("nosuch", &snapshot).count(), 0);
}

#[test]
fn nothing_strange_stops_it_and_nothing_huge_grows() {
    for strange in [
        json!(null),
        json!([]),
        json!("x"),
        json!({"network": {"interfaces": {"a": 1}}}),
        json!({"cpu": {"total": []}}),
    ] {
        assert_eq!(shown(&strange), Vec::<String>::new());
    }
    let one =
        json!({"name": "eth0", "rx_bytes": 1, "tx_bytes": 1, "rx_packets": 1, "tx_packets": 1});
    let many = json!({"network": {"interfaces": vec![one; SAMPLES_MAX / 3]}});
    assert_eq!(series("host", &many).count(), SAMPLES_MAX);
}
