//! Low-level discovery: which virtual servers, services, interfaces … a host has, and which hosts there are, as lists that
//! Zabbix makes items and hosts from. Told when a list changes, and again from time to time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use muster_proto::metric::Metrics;
use muster_proto::snapshot::fields;
use serde_json::{Map, Value as Json};

use crate::bridge::plan::Plan;
use crate::bridge::points::{Point, Shape, Value};
use crate::bridge::template::fnv;

/// A list is told again after this, changed or not.
const AGAIN_MS: u64 = 600_000;

/// The hosts are told at the most so often: at the start of a fleet each snapshot brings one.
const HOSTS_EVERY_MS: u64 = 10_000;

/// A host that was not heard of for this long is left out of the list.
const HOST_GONE_MS: u64 = 3_600_000;

/// Key of the list of a table's objects.
#[must_use]
pub fn key(collector: &str, table: &str) -> String {
    format!("muster.discovery[{collector}.{table}]")
}

/// Key of the list of hosts.
pub const HOSTS_KEY: &str = "muster.discovery[hosts]";

/// Name of a label as a macro.
#[must_use]
pub fn macro_of(label: &str) -> String {
    format!("{{#{}}}", label.to_ascii_uppercase())
}

/// What was told.
#[derive(Debug)]
pub struct Discovery {
    /// In whose name the hosts are told.
    fleet_host: String,
    /// By host and key: when, and a hash of what.
    told: HashMap<(String, String), (u64, u64)>,
    /// When each was heard of.
    hosts: BTreeMap<String, u64>,
    hosts_looked_ms: u64,
}

impl Discovery {
    /// That tells the hosts in the name of the Zabbix host `fleet_host`.
    #[must_use]
    pub fn new(fleet_host: String) -> Self {
        Self {
            fleet_host,
            told: HashMap::new(),
            hosts: BTreeMap::new(),
            hosts_looked_ms: 0,
        }
    }

    /// The lists that are to be told now, after this snapshot. `now_ms` is this program's own clock.
    pub fn look(&mut self, plan: &Plan, metrics: &Metrics, now_ms: u64) -> Vec<Point> {
        let mut lists: BTreeMap<&str, BTreeSet<Vec<(&str, String)>>> = BTreeMap::new();
        for series in fields::of(&metrics.collector) {
            // Of an empty list it is told that it is empty.
            if !series.table.labels.is_empty() && plan.of(series).is_some() {
                lists.entry(series.table.name).or_default();
            }
        }
        for sample in fields::series(&metrics.collector, &metrics.snapshot) {
            if let Some(list) = lists.get_mut(sample.series.table.name) {
                let labels = sample.labels.iter();
                list.insert(
                    labels
                        .map(|(name, value)| (*name, value.to_string()))
                        .collect(),
                );
            }
        }
        let host = metrics.host.to_string();
        let mut points = Vec::new();
        for (table, list) in lists {
            let rows = list.into_iter().map(|labels| {
                let labels = labels.into_iter();
                labels
                    .map(|(name, value)| (macro_of(name), Json::from(value)))
                    .collect()
            });
            let name = key(&metrics.collector, table);
            points.extend(self.told(&host, name, rows.collect(), metrics.at_ms, now_ms));
        }
        points.extend(self.look_at_hosts(host, now_ms));
        points
    }

    fn look_at_hosts(&mut self, host: String, now_ms: u64) -> Option<Point> {
        self.hosts.insert(host, now_ms);
        if now_ms.saturating_sub(self.hosts_looked_ms) < HOSTS_EVERY_MS {
            return None;
        }
        self.hosts_looked_ms = now_ms;
        self.hosts
            .retain(|_, heard_ms| now_ms.saturating_sub(*heard_ms) < HOST_GONE_MS);
        let hosts = &self.hosts;
        self.told
            .retain(|(host, _), _| hosts.contains_key(host) || *host == self.fleet_host);
        let rows = self.hosts.keys().map(|host| {
            let pair = (macro_of("host"), Json::from(host.as_str()));
            Map::from_iter([pair])
        });
        let (rows, fleet_host) = (rows.collect(), self.fleet_host.clone());
        self.told(&fleet_host, HOSTS_KEY.to_owned(), rows, now_ms, now_ms)
    }

    fn told(
        &mut self,
        host: &str,
        name: String,
        rows: Vec<Map<String, Json>>,
        at_ms: u64,
        now_ms: u64,
    ) -> Option<Point> {
        let text = Json::from_iter(rows).to_string();
        let hash = fnv(text.as_bytes());
        let key = (host.to_owned(), name.clone());
        let known = self.told.get(&key);
        if known.is_some_and(|(told_ms, told)| {
            *told == hash && now_ms.saturating_sub(*told_ms) < AGAIN_MS
        }) {
            return None;
        }
        self.told.insert(key, (now_ms, hash));
        Some(Point {
            host: host.to_owned(),
            name,
            shape: Shape::Gauge,
            value: Value::Word(text),
            at_ms,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bridge::plan::{Counters, Rule};
    use crate::bridge::template::{Style, Template};

    #[test]
    fn lists_are_told_when_they_change_and_again_from_time_to_time() {
        let rule = Rule {
            series: "lvs/virtual_server.*".to_owned(),
            name: Some(Template::parse("x[{labels}]", Style::Key).unwrap()),
            counters: Counters::Total,
            timing: false,
        };
        let plan = Plan::new(vec![rule], &[]).unwrap();
        let mut discovery = Discovery::new("fleet".to_owned());
        let mut look = |host: &str, servers: &[&str], now_ms| {
            let servers: Vec<Json> = servers
                .iter()
                .map(|name| json!({"name": name, "weight_total": 1}))
                .collect();
            let metrics = Metrics {
                host: host.parse().unwrap(),
                collector: "lvs".to_owned(),
                at_ms: 5,
                seq: 1,
                snapshot: json!({"virtual_servers": servers}),
            };
            let points = discovery.look(&plan, &metrics, now_ms).into_iter();
            let words =
                points.map(|point| format!("{} {} {}", point.host, point.name, point.value));
            words.collect::<Vec<_>>()
        };
        let list = "muster.discovery[lvs.virtual_server]";
        let one = format!("lb1 {list} [{{\"{{#VIRTUAL_SERVER}}\":\"tcp/192.0.2.1:80\"}}]");
        let hosts = |rows: &str| format!("fleet {HOSTS_KEY} [{rows}]");
        let now = 1_000_000;
        assert_eq!(
            look("lb1", &["tcp/192.0.2.1:80"], now),
            [one.clone(), hosts("{\"{#HOST}\":\"lb1\"}")]
        );
        assert_eq!(
            look("lb1", &["tcp/192.0.2.1:80"], now + 1),
            Vec::<String>::new()
        );
        assert_eq!(look("lb1", &[], now + 2), [format!("lb1 {list} []")]);
        assert_eq!(
            look("lb1", &["tcp/192.0.2.1:80"], now + 3),
            std::slice::from_ref(&one)
        );
        assert_eq!(look("lb2", &[], now + 4), [format!("lb2 {list} []")]);
        assert_eq!(
            look("lb2", &[], now + 20_000),
            [hosts("{\"{#HOST}\":\"lb1\"},{\"{#HOST}\":\"lb2\"}")]
        );
        assert_eq!(
            look("lb1", &["tcp/192.0.2.1:80"], now + 600_003).first(),
            Some(&one)
        );
    }
}
