//! The Zabbix template of what a bridge sends by its default names: an item for each declared figure, and for tables with
//! labels a discovery rule with its prototypes. Format: Zabbix 6.0's YAML export.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use muster_proto::snapshot::fields::{self, Kind, Label, Series, Unit};

use super::discovery::{HOSTS_KEY, key, macro_of};
use crate::bridge::template::fnv;

/// Name of the template for hosts.
const HOST_TEMPLATE: &str = "Muster host";

/// Name of the template for the host that stands for the fleet.
const FLEET_TEMPLATE: &str = "Muster fleet";

const GROUP: &str = "Templates/Muster";
const HOSTS_GROUP: &str = "Muster hosts";

/// The export, as text.
#[must_use]
pub fn template() -> String {
    let mut to = String::from(
        "zabbix_export:\n  version: '6.0'\n  date: '2026-01-01T00:00:00Z'\n  groups:\n",
    );
    for group in [GROUP, HOSTS_GROUP] {
        line(&mut to, 4, &format!("- uuid: {}", uuid(group)));
        line(&mut to, 6, &format!("name: {}", quoted(group)));
    }
    line(&mut to, 2, "templates:");
    host_template(&mut to);
    fleet_template(&mut to);
    to
}

/// The labels of a table, and its figures.
type Labelled = (&'static [Label], Vec<Series>);

fn host_template(to: &mut String) {
    head(
        to,
        HOST_TEMPLATE,
        "Figures of a host's snapshots, sent by a bridge of Muster's.",
    );
    let mut tables: BTreeMap<(&str, &str), Labelled> = BTreeMap::new();
    line(to, 6, "items:");
    for series in fields::all() {
        if series.table.labels.is_empty() {
            item(to, 8, series, "");
        } else {
            let table = (series.collector, series.table.name);
            let (_, all) = tables
                .entry(table)
                .or_insert((series.table.labels, Vec::new()));
            all.push(series);
        }
    }
    line(to, 6, "discovery_rules:");
    for ((collector, table), (labels, all)) in tables {
        rule(to, &format!("{collector} {table}"), &key(collector, table));
        line(to, 10, "item_prototypes:");
        let macros: Vec<String> = labels.iter().map(|label| macro_of(label.name)).collect();
        for series in all {
            item(to, 12, series, &macros.join(","));
        }
    }
}

fn fleet_template(to: &mut String) {
    head(
        to,
        FLEET_TEMPLATE,
        "The hosts of a fleet, for the Zabbix host that the bridge's fleet_host names.",
    );
    line(to, 6, "discovery_rules:");
    rule(to, "hosts", HOSTS_KEY);
    for (indent, text) in [
        (10, "host_prototypes:".to_owned()),
        (12, format!("- uuid: {}", uuid("host prototype"))),
        (14, format!("host: {}", quoted(&macro_of("host")))),
        (14, format!("name: {}", quoted(&macro_of("host")))),
        (14, "group_links:".to_owned()),
        (16, "- group:".to_owned()),
        (20, format!("name: {}", quoted(HOSTS_GROUP))),
        (14, "templates:".to_owned()),
        (16, format!("- name: {}", quoted(HOST_TEMPLATE))),
    ] {
        line(to, indent, &text);
    }
}

fn head(to: &mut String, name: &str, description: &str) {
    for (indent, text) in [
        (4, format!("- uuid: {}", uuid(name))),
        (6, format!("template: {}", quoted(name))),
        (6, format!("name: {}", quoted(name))),
        (6, format!("description: {}", quoted(description))),
        (6, "groups:".to_owned()),
        (8, format!("- name: {}", quoted(GROUP))),
    ] {
        line(to, indent, &text);
    }
}

fn rule(to: &mut String, what: &str, key: &str) {
    for (indent, text) in [
        (8, format!("- uuid: {}", uuid(key))),
        (10, format!("name: {}", quoted(&format!("Muster: {what}")))),
        (10, "type: TRAP".to_owned()),
        (10, format!("key: {}", quoted(key))),
        (10, "delay: '0'".to_owned()),
    ] {
        line(to, indent, &text);
    }
}

/// An item, or a prototype where it has parameters.
fn item(to: &mut String, indent: usize, series: Series, parameters: &str) {
    let field = series.field;
    let bare = format!("muster.{}.{series}", series.collector);
    let (key, name) = match parameters {
        "" => (bare, format!("{} {series}", series.collector)),
        parameters => (
            format!("{bare}[{parameters}]"),
            format!(
                "{} {series} {}",
                series.collector,
                parameters.replace(',', " ")
            ),
        ),
    };
    line(to, indent, &format!("- uuid: {}", uuid(&key)));
    let mut more = |text: String| line(to, indent + 2, &text);
    more(format!("name: {}", quoted(&name)));
    more("type: TRAP".to_owned());
    more(format!("key: {}", quoted(&key)));
    more("delay: '0'".to_owned());
    if field.kind == Kind::State {
        more("trends: '0'".to_owned());
        more("value_type: CHAR".to_owned());
    } else {
        more("value_type: FLOAT".to_owned());
    }
    let unit = units(field.unit, field.kind);
    if !unit.is_empty() {
        more(format!("units: {}", quoted(unit)));
    }
    more(format!("description: {}", quoted(field.help)));
    if field.kind == Kind::Counter {
        more("preprocessing:".to_owned());
        more("  - type: CHANGE_PER_SECOND".to_owned());
        more("    parameters:".to_owned());
        more("      - ''".to_owned());
    }
}

/// A unit as Zabbix has it; of a counter it is of its rate.
const fn units(unit: Unit, kind: Kind) -> &'static str {
    match (unit, kind) {
        (_, Kind::State) => "",
        (Unit::Bytes, Kind::Counter) => "Bps",
        (Unit::One, Kind::Counter) => "/s",
        (_, Kind::Counter) | (Unit::One | Unit::MomentMilliseconds, _) => "",
        (Unit::Bytes, _) => "B",
        (Unit::BitsPerSecond, _) => "bps",
        (Unit::Percent, _) => "%",
        (Unit::Seconds, _) => "s",
        (Unit::Milliseconds, _) => "!ms",
        (Unit::Microseconds, _) => "!us",
        (Unit::MomentSeconds, _) => "unixtime",
    }
}

/// A version 4 UUID as Zabbix wants it, the same in every export.
fn uuid(of: &str) -> String {
    let high = fnv(format!("muster {of}").as_bytes());
    let low = fnv(format!("zabbix {of}").as_bytes());
    let high = high & 0xffff_ffff_ffff_0fff | 0x4000;
    let low = low & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
    format!("{high:016x}{low:016x}")
}

fn line(to: &mut String, indent: usize, text: &str) {
    let _ = writeln!(to, "{:indent$}{text}", ""); // strings can be written to
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
