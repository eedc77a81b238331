//! The parsers on real output, the comparison on tables of before and after, and both under mutation.

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
        let mut snapshot = LvsSnapshot {
            present: true,
            ..LvsSnapshot::default()
        };
        let servers = memory::servers(std::mem::take(&mut seen.entries));
        let changes = self
            .lvs
            .judge(&mut snapshot, at(self.seconds), seen, servers, totals);
        (snapshot, changes)
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
fn ipvsadm_tells_of_every_kind_of_service() {
    let mut shown = Shown::new();
    let (snapshot, changes) = shown.show_seen(ipvsadm::parse(&outputs()).unwrap(), None);
    assert_eq!(changes, []);
    assert_eq!(snapshot.errors, []);
    assert_eq!(snapshot.skipped, 0);
    insta::assert_json_snapshot!(snapshot);
}

#[test]
fn proc_tells_of_the_same_services_and_knows_less() {
    let proc = proc::parse(PROC).unwrap();
    assert_eq!(proc.notes, Vec::<String>::new());
    let listed = ipvsadm::parse(&outputs()).unwrap();
    let keys = |entries: &[Entry]| {
        let mut keys: Vec<String> = Vec::new();
        for entry in entries {
            for one in &entry.destinations {
                keys.push(format!(
                    "{} {} {:?} {} {} {}",
                    entry.service.key,
                    one.key,
                    one.forward,
                    one.weight,
                    one.active_connections,
                    one.inactive_connections
                ));
            }
            let service = &entry.service;
            let seen_by_both = service.flags.0 & 5;
            keys.push(format!(
                "{} {} {seen_by_both:#x} {:#x}",
                service.key, service.scheduler, service.netmask
            ));
        }
        keys.sort();
        keys
    };
    assert_eq!(keys(&proc.entries), keys(&listed.entries));
    let (snapshot, _) = Shown::new().show_seen(proc, Some(proc::parse_stats(PROC_STATS).unwrap()));
    let web = &snapshot.virtual_servers[0];
    assert_eq!(web.traffic, None);
    let persistent = snapshot
        .virtual_servers
        .iter()
        .find(|one| one.name == "tcp/192.0.2.10:443")
        .unwrap();
    assert_eq!(persistent.persistence_timeout_s, None);
    assert_eq!(
        persistent.persistence_netmask.as_deref(),
        Some("255.255.255.0")
    );
    let one = &web.real_servers[0];
    assert_eq!(
        (one.upper_threshold, one.overloaded, &one.traffic),
        (None, None, &None)
    );
    let traffic = snapshot.totals.traffic.unwrap();
    assert_eq!(traffic.connections.total, 0x25);
    assert_eq!(traffic.out_bytes.total, 0x3AD0);
    assert_eq!(traffic.in_bytes_per_s_kernel, Some(0x3A3));
}

#[test]
fn real_servers_of_a_line_that_does_not_read_go_to_nobody_else() {
    let text = "IP Virtual Server version 1.2.1 (size=4096)\nProt\n  ->\n\
        TCP  C000020A:0050 wlc\n  -> 0A010001:1F90 Masq 1 0 0\n\
        QUIC C000020A:01BB wlc\n  -> 0A010002:1F90 Masq 1 0 0\n\
        SCTP C000020A:0F1C sh\n  -> 0A010003:0F1C Masq 1 0 0\n";
    let seen = proc::parse(text).unwrap();
    let names: Vec<String> = seen
        .entries
        .iter()
        .map(|entry| format!("{} {}", entry.service.key, entry.destinations.len()))
        .collect();
    assert_eq!(names, ["tcp/192.0.2.10:80 1", "sctp/192.0.2.10:3868 1"]);
    assert_eq!(seen.skipped, 2);
    assert!(seen.notes[0].contains("QUIC"), "{:?}", seen.notes);
    for text in ["", "nonsense", "IP Virtual Server version 1.2 (size=4096)"] {
        assert!(proc::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn one_mark_for_both_families_is_told_apart() {
    let text = list(
        "FWM  5 rr\n  -> 10.1.0.1:0 Route 1 2 0\nFWM  5 IPv6 rr\n  -> [2001:db8::1]:0 Route 1 3 0\n",
    );
    let stats = list(
        "FWM  5 1 2 3 4 5\n  -> 10.1.0.1:0 1 2 3 4 5\nFWM  5 IPv6 6 7 8 9 10\n  -> [2001:db8::1]:0 6 7 8 9 10\n",
    );
    let (snapshot, _) = Shown::new().show(&text, &stats);
    let names: Vec<(&str, u64)> = snapshot
        .virtual_servers
        .iter()
        .map(|one| {
            (
                one.name.as_str(),
                one.traffic.as_ref().unwrap().in_packets.total,
            )
        })
        .collect();
    assert_eq!(names, [("fwmark/5", 2), ("fwmark6/5", 7)]);
}

#[test]
fn a_mark_above_2_31_is_printed_as_negative() {
    let text = list("FWM  -1 rr\n  -> 10.1.0.1:0 Route 1 2 0\nFWM  -2147483648 IPv6 rr\n");
    let stats = list("FWM  -1 1 2 3 4 5\n  -> 10.1.0.1:0 1 2 3 4 5\n");
    let (snapshot, _) = Shown::new().show(&text, &stats);
    let servers = &snapshot.virtual_servers;
    let names: Vec<&str> = servers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["fwmark6/2147483648", "fwmark/4294967295"]);
    assert_eq!(servers[1].traffic.as_ref().unwrap().in_packets.total, 2);
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

/// Shows two tables, one after the other, and the second again: what happened, and nothing more.
fn between(name: &str, before: &[&str], after: &[&str], want: &[&str]) {
    let mut shown = Shown::new();
    shown.show(&list(&before.concat()), "");
    let (_, changes) = shown.show(&list(&after.concat()), "");
    assert_eq!(topics(&changes), want, "{name}");
    let (_, changes) = shown.show(&list(&after.concat()), "");
    assert_eq!(topics(&changes), Vec::<&str>::new(), "{name}, once");
}

#[test]
fn each_change_is_one_event() {
    let one = "  -> 10.1.0.1:80 Masq 1 0 0\n";
    let two = "  -> 10.1.0.2:80 Masq 5 0 0\n";
    let web = "TCP 192.0.2.1:80 rr\n";
    for (name, before, after, want) in [
        ("nothing", vec![web, one], vec![web, one], vec![]),
        (
            "a virtual server comes",
            vec![],
            vec![web, one],
            vec!["lvs.service.added"],
        ),
        (
            "a virtual server goes",
            vec![web, one, two],
            vec![],
            vec!["lvs.service.removed"],
        ),
        (
            "a real server comes",
            vec![web, one],
            vec![web, one, two],
            vec!["lvs.backend.added"],
        ),
        (
            "a real server goes",
            vec![web, one, two],
            vec![web, two],
            vec!["lvs.backend.removed"],
        ),
        (
            "the last one goes",
            vec![web, one],
            vec![web],
            vec!["lvs.backend.removed", "lvs.service.down"],
        ),
        (
            "the first one comes",
            vec![web],
            vec![web, one],
            vec!["lvs.backend.added", "lvs.service.up"],
        ),
    ] {
        between(name, &before, &after, &want);
    }
}

#[test]
fn each_change_of_a_real_server_is_one_event() {
    let one = "  -> 10.1.0.1:80 Masq 1 0 0\n";
    let two = "  -> 10.1.0.2:80 Masq 5 0 0\n";
    let web = "TCP 192.0.2.1:80 rr\n";
    for (name, before, after, want) in [
        (
            "drained",
            vec![web, one, two],
            vec![web, one, "  -> 10.1.0.2:80 Masq 0 9 0\n"],
            vec!["lvs.backend.drained"],
        ),
        (
            "all drained",
            vec![web, two],
            vec![web, "  -> 10.1.0.2:80 Masq 0 9 0\n"],
            vec!["lvs.backend.drained", "lvs.service.down"],
        ),
        (
            "restored",
            vec![web, "  -> 10.1.0.2:80 Masq 0 9 0\n"],
            vec![web, two],
            vec!["lvs.backend.restored", "lvs.service.up"],
        ),
        (
            "another weight",
            vec![web, one],
            vec![web, "  -> 10.1.0.1:80 Masq 3 0 0\n"],
            vec!["lvs.backend.weight"],
        ),
        (
            "another way",
            vec![web, one],
            vec![web, "  -> 10.1.0.1:80 Route 1 0 0\n"],
            vec!["lvs.backend.changed"],
        ),
        (
            "another scheduler",
            vec![web, one],
            vec!["TCP 192.0.2.1:80 wlc persistent 300\n", one],
            vec!["lvs.service.changed"],
        ),
        (
            "other traffic alone",
            vec![web, one],
            vec![web, "  -> 10.1.0.1:80 Masq 1 900 70\n"],
            vec![],
        ),
    ] {
        between(name, &before, &after, &want);
    }
}

#[test]
fn an_event_says_what_it_is_about() {
    let mut shown = Shown::new();
    let table = |weight: u32| {
        list(&format!(
            "FWM  7 IPv6 wlc\n  -> [2001:db8::1]:0 Route {weight} 4 2\nTCP 192.0.2.1:80 rr persistent 300\n"
        ))
    };
    shown.show(&table(3), "");
    let (_, changes) = shown.show(&table(0), "");
    insta::assert_debug_snapshot!(changes);
}

#[test]
fn thresholds_are_reached_and_left_as_the_kernel_does() {
    let mut shown = Shown::new();
    let mut steps = Vec::new();
    for connections in [900, 1000, 800, 500, 499, 700] {
        let mut outputs = outputs();
        outputs.list = list(&format!(
            "TCP 192.0.2.10:80 wlc\n  -> 10.1.0.2:8080 Masq 50 {} 100\n",
            connections - 100
        ));
        let (snapshot, changes) = shown.show_seen(ipvsadm::parse(&outputs).unwrap(), None);
        let topic = changes.first().map(|change| change.topic);
        let one = &snapshot.virtual_servers[0].real_servers[0];
        assert_eq!(
            (one.upper_threshold, one.lower_threshold),
            (Some(1000), Some(500))
        );
        steps.push((connections, one.overloaded.unwrap(), topic));
    }
    assert_eq!(
        steps,
        [
            (900, false, None),
            (1000, true, Some("lvs.backend.overloaded")),
            (800, true, None),
            (500, true, None),
            (499, false, Some("lvs.backend.relieved")),
            (700, false, None),
        ]
    );
    let mut one = seen::bare_destination("10.0.0.1:80".parse().unwrap(), Forward::Masquerade);
    one.upper_threshold = 100;
    for (connections, was, is) in [
        (75, true, true),
        (74, true, false),
        (99, false, false),
        (100, false, true),
    ] {
        one.active_connections = connections;
        assert_eq!(memory::is_overloaded(was, &one), is, "at {connections}");
    }
}

#[test]
fn another_source_invents_no_changes() {
    let mut shown = Shown::new();
    shown.show_seen(ipvsadm::parse(&outputs()).unwrap(), None);
    let (snapshot, changes) = shown.show_seen(proc::parse(PROC).unwrap(), None);
    assert_eq!(topics(&changes), Vec::<&str>::new());
    assert_eq!(snapshot.source.as_deref(), Some("proc"));
    let (snapshot, changes) = shown.show_seen(ipvsadm::parse(&outputs()).unwrap(), None);
    assert_eq!(topics(&changes), Vec::<&str>::new());
    let traffic = snapshot.virtual_servers[0].traffic.as_ref().unwrap();
    assert_eq!(traffic.connections.per_s, None);
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

#[test]
fn a_host_without_ip_vs_gives_an_empty_snapshot_and_no_error() {
    let root = tempfile::tempdir().unwrap();
    for section in ["", "source = \"netlink\"", "source = \"ipvsadm\""] {
        let mut lvs = collector(root.path(), section);
        for second in [0, 10] {
            let collected = lvs.collect(at(second)).unwrap();
            assert_eq!(collected.changes, []);
            assert_eq!(collected.snapshot["present"], json!(false));
            assert_eq!(collected.snapshot["errors"], json!([]));
        }
    }
}

#[test]
fn proc_alone_is_read_from_its_root_and_a_module_that_goes_is_told() {
    let root = tempfile::tempdir().unwrap();
    let net = root.path().join("proc/net");
    std::fs::create_dir_all(&net).unwrap();
    std::fs::write(net.join("ip_vs"), PROC).unwrap();
    std::fs::write(net.join("ip_vs_stats"), PROC_STATS).unwrap();
    let vs = root.path().join("proc/sys/net/ipv4/vs");
    std::fs::create_dir_all(&vs).unwrap();
    std::fs::write(vs.join("run_estimation"), "1\n").unwrap();
    let mut lvs = collector(root.path(), "source = \"proc\"");
    let (snapshot, _) = lvs.sample(at(0)).unwrap();
    assert_eq!(snapshot.totals.virtual_servers, 15);
    assert_eq!(snapshot.sysctls["run_estimation"], "1");
    std::fs::remove_file(net.join("ip_vs")).unwrap();
    let (snapshot, changes) = lvs.sample(at(10)).unwrap();
    assert!(!snapshot.present);
    assert_eq!(changes.len(), 15);
    assert!(
        changes
            .iter()
            .all(|change| change.topic == "lvs.service.removed")
    );
    std::fs::write(net.join("ip_vs"), PROC).unwrap();
    let (_, changes) = lvs.sample(at(20)).unwrap();
    assert_eq!(changes.len(), 15);
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
