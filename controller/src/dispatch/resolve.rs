//! From a target expression to a fixed list of hosts: pure. It must not know where the hosts are known from.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use muster_proto::id::{HostId, IdError};
use muster_proto::target::{Subject, Target};

/// One broadcast costs the broker less than so many single messages; below, single ones tell which host has no queue.
const BROADCAST_HOSTS_MIN: usize = 32;

/// A host that is known and not retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The host.
    pub host: HostId,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// What the agent found out.
    pub facts: BTreeMap<String, String>,
    /// Whether it was heard of lately.
    pub there: bool,
}

impl Subject for Known {
    fn host(&self) -> &str {
        self.host.as_str()
    }

    fn value(&self, key: &str) -> Option<Cow<'_, str>> {
        self.labels
            .get(key)
            .or_else(|| self.facts.get(key))
            .map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// The hosts that a job is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// Every targeted host, by name.
    pub hosts: BTreeSet<HostId>,
    /// Those of them that are away.
    pub away: BTreeSet<HostId>,
    /// Those of them that were named and that nobody knows.
    pub strangers: BTreeSet<HostId>,
    /// Hosts that match and were left out for being away.
    pub left_out: BTreeSet<HostId>,
    /// How many hosts are known at all.
    pub known: usize,
    /// Keys of the expression that no known host has: most likely misspelt.
    pub strange_keys: Vec<String>,
}

impl Resolved {
    /// Targeted hosts that are there, or may be.
    pub fn present(&self) -> impl Iterator<Item = &HostId> {
        self.hosts.difference(&self.away)
    }

    /// Whether one message to all costs less than one to each, and reaches nobody who was left out.
    #[must_use]
    pub fn by_broadcast(&self) -> bool {
        self.hosts.len() >= BROADCAST_HOSTS_MIN
            && self.hosts.len() * 2 > self.known
            && self.left_out.is_empty()
            && self.strangers.is_empty()
    }
}

/// The hosts that `target` means. Names that nobody knows are targeted as well: the broker says whether they have a queue.
/// With `online`, hosts that are away are left out.
///
/// # Errors
/// When a name in the expression can't be a host's.
pub fn resolve(target: &Target, known: &[Known], online: bool) -> Result<Resolved, IdError> {
    let mut resolved = Resolved {
        known: known.len(),
        ..Resolved::default()
    };
    for host in known.iter().filter(|host| target.matches(*host)) {
        if host.there {
            resolved.hosts.insert(host.host.clone());
        } else if online {
            resolved.left_out.insert(host.host.clone());
        } else {
            resolved.away.insert(host.host.clone());
            resolved.hosts.insert(host.host.clone());
        }
    }
    for name in target.named_hosts().unwrap_or_default() {
        let host: HostId = name.parse()?;
        if !resolved.hosts.contains(&host) && !resolved.left_out.contains(&host) {
            resolved.strangers.insert(host.clone());
            resolved.hosts.insert(host);
        }
    }
    let has = |key: &str| known.iter().any(|host| host.value(key).is_some());
    resolved.strange_keys = target
        .keys()
        .into_iter()
        .filter(|key| !has(key))
        .map(str::to_owned)
        .collect();
    Ok(resolved)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn fleet() -> Vec<Known> {
        [
            ("lb1", "lb", true),
            ("lb2", "lb", false),
            ("web1", "web", true),
            ("web2", "web", true),
        ]
        .into_iter()
        .map(|(host, role, there)| Known {
            host: host.parse().unwrap(),
            labels: [("role".to_owned(), role.to_owned())].into(),
            facts: [
                ("cpus".to_owned(), "8".to_owned()),
                ("role".to_owned(), "fact".to_owned()),
            ]
            .into(),
            there,
        })
        .collect()
    }

    fn names(hosts: &BTreeSet<HostId>) -> String {
        hosts
            .iter()
            .map(HostId::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_target_becomes_a_list_with_those_that_are_away() {
        // target, online, hosts, away, strangers, left out
        let cases = [
            ("*", false, "lb1 lb2 web1 web2", "lb2", "", ""),
            ("*", true, "lb1 web1 web2", "", "", "lb2"),
            ("role=lb", false, "lb1 lb2", "lb2", "", ""),
            ("role=fact", false, "", "", "", ""),
            ("cpus>=8 and web*", false, "web1 web2", "", "", ""),
            ("lb1, db9", false, "db9 lb1", "", "db9", ""),
            ("lb2, db9", true, "db9", "", "db9", "lb2"),
            ("LB1", false, "lb1", "", "", ""),
            ("db*", false, "", "", "", ""),
        ];
        for (text, online, hosts, away, strangers, left_out) in cases {
            let got = resolve(&text.parse().unwrap(), &fleet(), online).unwrap();
            let got = (
                names(&got.hosts),
                names(&got.away),
                names(&got.strangers),
                names(&got.left_out),
            );
            assert_eq!(
                got,
                (hosts.into(), away.into(), strangers.into(), left_out.into()),
                "{text} {online}"
            );
        }
    }

    #[test]
    fn keys_that_nobody_has_are_told() {
        let got = resolve(&"rool!=lb and role=web".parse().unwrap(), &fleet(), false).unwrap();
        assert_eq!(got.strange_keys, ["rool"]);
    }

    #[test]
    fn a_broadcast_reaches_nobody_who_was_left_out() {
        let many = |there: fn(usize) -> bool| -> Vec<Known> {
            let one = fleet().remove(0);
            (0..40)
                .map(|n| Known {
                    host: format!("h{n}").parse().unwrap(),
                    there: there(n),
                    ..one.clone()
                })
                .collect()
        };
        let by_broadcast = |target: &str, known: &[Known], online| {
            resolve(&target.parse().unwrap(), known, online)
                .unwrap()
                .by_broadcast()
        };
        assert!(by_broadcast("*", &many(|_| true), false));
        assert!(by_broadcast("*", &many(|n| n > 5), false));
        assert!(
            !by_broadcast("*", &many(|n| n > 5), true),
            "the six that are away would get it"
        );
        assert!(!by_broadcast("h1*", &many(|_| true), false), "few of many");
        assert!(!by_broadcast("*", &fleet(), false), "few at all");
    }
}
