//! The parsers on real output, the comparison on tables of before and after, and both under mutation.

mod changes;
mod sources;

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::collect::HostRoots;
use crate::ipvs::{Entry, Forward, Stats};

const LIST: &str = include_str!("fixtures/ipvsadm_Ln.txt");
const STATS: &str = include_str!("fixtures/ipvsadm_Ln_stats_exact.txt");
const RATES: &str = include_str!("fixtures/ipvsadm_Ln_rate_exact.txt");
const THRESHOLDS: &str = include_str!("fixtures/ipvsadm_Ln_thresholds.txt");
const TEMPLATES: &str = include_str!("fixtures/ipvsadm_Ln_persistent_conn.txt");
const TIMEOUTS: &str = include_str!("fixtures/ipvsadm_L_timeout.txt");
const DAEMONS: &str = include_str!("fixtures/ipvsadm_L_daemon.txt");
const PROC: &str = include_str!("fixtures/proc_net_ip_vs.txt");
const PROC_STATS: &str = include_str!("fixtures/proc_net_ip_vs_stats.txt");

fn outputs() -> ipvsadm::Outputs {
    ipvsadm::Outputs {
        list: LIST.to_owned(),
        stats: STATS.to_owned(),
        rates: RATES.to_owned(),
        thresholds: THRESHOLDS.to_owned(),
        templates: TEMPLATES.to_owned(),
        timeouts: TIMEOUTS.to_owned(),
        daemons: DAEMONS.to_owned(),
    }
}

fn collector(root: &Path, section: &str) -> Lvs {
    let context = CollectContext {
        roots: HostRoots::at(root),
        section: section.parse().unwrap(),
        ..CollectContext::default()
    };
    Lvs::new(&context).unwrap()
}

fn at(seconds: u64) -> SampleTime {
    SampleTime {
        wall_ms: 1_800_000_000_000 + seconds * 1000,
        mono_ms: seconds * 1000,
    }
}

/// A collector that is shown tables instead of reading them.
struct Shown {
    lvs: Lvs,
    seconds: u64,
}

impl Shown {
    fn new() -> Self {
        Self {
            lvs: collector(Path::new("/nowhere"), ""),
            seconds: 0,
        }
    }

    /// Ten seconds later.
    fn show(&mut self, list: &str, stats: &str) -> (LvsSnapshot, Vec<Change>) {
        let outputs = ipvsadm::Outputs {
            list: list.to_owned(),
            stats: stats.to_owned(),
            ..ipvsadm::Outputs::default()
        };
        self.show_seen(ipvsadm::parse(&outputs).unwrap(), None)
    }

    fn show_seen(&mut self, mut seen: Seen, totals: Option<Stats>) -> (LvsSnapshot, Vec<Change>) {
        self.seconds += 10;
        let snapshot = LvsSnapshot {
            present: true,
            ..LvsSnapshot::default()
        };
        let servers = memory::servers(std::mem::take(&mut seen.entries));
        let now = at(self.seconds);
        let judged = self.lvs.judge(snapshot, now, seen, servers, totals);
        self.lvs.typed(judged)
    }
}

const HEAD: &str = "IP Virtual Server version 1.2.1 (size=4096)\nProt\n  ->\n";

fn list(lines: &str) -> String {
    format!("{HEAD}{lines}")
}

fn topics(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.topic).collect()
}

#[test]
fn one_real_server_in_two_virtual_servers_is_two() {
    let text = list(
        "TCP 192.0.2.1:80 rr\n  -> 10.1.0.1:80 Masq 1 5 0\nTCP 192.0.2.2:80 rr\n  -> 10.1.0.1:80 Masq 2 7 0\n",
    );
    let (snapshot, _) = Shown::new().show(&text, "");
    assert_eq!(snapshot.totals.real_servers, 2);
    assert_eq!(snapshot.totals.active_connections, 12);
    let weights: Vec<u32> = snapshot
        .virtual_servers
        .iter()
        .map(|one| one.real_servers[0].weight)
        .collect();
    assert_eq!(weights, [1, 2]);
}

#[test]
fn rates_are_over_our_time_and_never_negative() {
    let table = list("TCP 192.0.2.1:80 rr\n  -> 10.1.0.1:80 Masq 1 0 0\n");
    let stats = |service: &str, real: &str| {
        list(&format!(
            "TCP 192.0.2.1:80 {service}\n  -> 10.1.0.1:80 {real}\n"
        ))
    };
    let mut shown = Shown::new();
    let rate = |snapshot: &LvsSnapshot| {
        let one = &snapshot.virtual_servers[0];
        let of = |traffic: &Option<muster_proto::snapshot::lvs::Traffic>| {
            let traffic = traffic.as_ref().unwrap();
            (traffic.connections.per_s, traffic.in_bytes.per_s)
        };
        (of(&one.traffic), of(&one.real_servers[0].traffic))
    };
    let big = 5_000_000_000_u64; // more than 32 bits
    let (snapshot, _) = shown.show(&table, &stats(&format!("{big} 2 3 4 5"), "1 2 3 4 5"));
    assert_eq!(rate(&snapshot), ((None, None), (None, None)));
    let more = format!("{} 2 3 24 5", big + 15);
    let (snapshot, changes) = shown.show(&table, &stats(&more, "2 2 3 4 5"));
    assert_eq!(
        rate(&snapshot),
        ((Some(1.5), Some(2.0)), (Some(0.1), Some(0.0)))
    );
    assert_eq!(changes, []);
    // ipvsadm -Z
    let (snapshot, changes) = shown.show(&table, &stats("0 0 0 0 0", "0 0 0 0 0"));
    assert_eq!(rate(&snapshot), ((None, None), (None, None)));
    assert_eq!(topics(&changes), ["lvs.counters.reset"]);
    assert_eq!(changes[0].key, "tcp/192.0.2.1:80");
    assert_eq!(changes[0].fields["counters"], json!(2));
    assert_eq!(snapshot.virtual_servers[0].resets, 1);
    assert_eq!(snapshot.virtual_servers[0].real_servers[0].resets, 1);
    let (snapshot, changes) = shown.show(&table, &stats("10 0 0 0 0", "10 0 0 0 0"));
    assert_eq!(rate(&snapshot).0, (Some(1.0), Some(0.0)));
    assert_eq!(changes, []);
    assert_eq!(snapshot.virtual_servers[0].resets, 1);
}

#[test]
fn a_real_server_that_comes_back_has_another_life_and_no_rate() {
    let with =
        list("TCP 192.0.2.1:80 rr\n  -> 10.1.0.1:80 Masq 1 0 0\n  -> 10.1.0.2:80 Masq 1 0 0\n");
    let without = list("TCP 192.0.2.1:80 rr\n  -> 10.1.0.1:80 Masq 1 0 0\n");
    let stats = |count: u32| {
        list(&format!(
            "TCP 192.0.2.1:80 {count} 0 0 0 0\n  -> 10.1.0.1:80 {count} 0 0 0 0\n  -> 10.1.0.2:80 {count} 0 0 0 0\n"
        ))
    };
    let mut shown = Shown::new();
    shown.show(&with, &stats(10));
    let (_, changes) = shown.show(&without, &stats(20));
    assert_eq!(topics(&changes), ["lvs.backend.removed"]);
    assert_eq!(changes[0].key, "tcp/192.0.2.1:80/10.1.0.2:80");
    let (snapshot, changes) = shown.show(&with, &stats(30));
    assert_eq!(topics(&changes), ["lvs.backend.added"]);
    let [first, second] = snapshot.virtual_servers[0].real_servers.as_slice() else {
        panic!("{snapshot:?}");
    };
    assert_eq!((first.generation, second.generation), (0, 1));
    assert_eq!(first.traffic.as_ref().unwrap().connections.per_s, Some(1.0));
    assert_eq!(second.traffic.as_ref().unwrap().connections.per_s, None);
}

#[test]
fn bounds_leave_totals_and_changes_alone() {
    let context = CollectContext {
        section: "virtual_servers_max = 3\nreal_servers_max = 2"
            .parse()
            .unwrap(),
        ..CollectContext::default()
    };
    let mut shown = Shown {
        lvs: Lvs::new(&context).unwrap(),
        seconds: 0,
    };
    let (all, _) = Shown::new().show_seen(ipvsadm::parse(&outputs()).unwrap(), None);
    let (some, _) = shown.show_seen(ipvsadm::parse(&outputs()).unwrap(), None);
    assert_eq!(some.totals, all.totals);
    assert_eq!(some.virtual_servers.len(), 3);
    let listed = |snapshot: &LvsSnapshot| -> usize {
        snapshot
            .virtual_servers
            .iter()
            .map(|one| one.real_servers.len())
            .sum()
    };
    assert_eq!(listed(&some), 2);
    let hidden = all.virtual_servers.len() - 3 + listed(&all) - 2;
    assert_eq!(some.skipped as usize, hidden);
}

fn mutated(
    text: &str,
    changes: &[(prop::sample::Index, String)],
    keep: prop::sample::Index,
) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for (place, with) in changes {
        let place = place.index(text.len());
        text.splice(place..=place, with.chars());
    }
    text.truncate(keep.index(text.len() + 1));
    text.into_iter().collect()
}

proptest! {
    #[test]
    fn no_text_is_too_wild(
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\\n\u{e9}]{0,6}"), 0..8),
        keep in any::<prop::sample::Index>(),
    ) {
        let wild = |text: &str| mutated(text, &changes, keep);
        let mut shown = Shown::new();
        let whole = outputs();
        for outputs in [
            ipvsadm::Outputs { list: wild(LIST), ..whole.clone() },
            ipvsadm::Outputs { stats: wild(STATS), thresholds: wild(THRESHOLDS), ..whole.clone() },
            ipvsadm::Outputs { timeouts: wild(TIMEOUTS), daemons: wild(DAEMONS), ..whole },
        ] {
            if let Ok(seen) = ipvsadm::parse(&outputs) {
                let (snapshot, _) = shown.show_seen(seen, None);
                serde_json::to_value(&snapshot).unwrap();
            }
        }
        if let Ok(seen) = proc::parse(&wild(PROC)) {
            shown.show_seen(seen, None);
        }
        _ = proc::parse_stats(&wild(PROC_STATS));
    }
}
