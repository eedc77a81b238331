//! What each source tells of the same table, and what a host without IPVS gives.

use super::*;

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
fn a_host_without_ip_vs_gives_an_empty_snapshot_and_no_error() {
    let root = tempfile::tempdir().unwrap();
    for section in ["", "source = \"netlink\"", "source = \"ipvsadm\""] {
        let mut lvs = collector(root.path(), section);
        for second in [0, 10] {
            let collected = lvs.collect(at(second)).unwrap();
            assert_eq!(collected.changes, []);
            let snapshot = collected.snapshot.value().unwrap();
            assert_eq!(snapshot["present"], json!(false));
            assert_eq!(snapshot["errors"], json!([]));
        }
    }
}

/// A root whose `/proc` has a table, and its `/proc/net`.
fn proc_root() -> (tempfile::TempDir, std::path::PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let net = root.path().join("proc/net");
    std::fs::create_dir_all(&net).unwrap();
    std::fs::write(net.join("ip_vs"), PROC).unwrap();
    std::fs::write(net.join("ip_vs_stats"), PROC_STATS).unwrap();
    (root, net)
}

#[test]
fn proc_alone_is_read_from_its_root_and_a_module_that_goes_is_told() {
    let (root, net) = proc_root();
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

#[test]
fn a_packed_snapshot_is_the_typed_one() {
    let (root, _) = proc_root();
    for (bounds, listed) in [
        ("", 15),
        ("virtual_servers_max = 3", 3),
        ("real_servers_max = 4", 15),
        ("virtual_servers_max = 4\nreal_servers_max = 5", 4),
    ] {
        let section = format!("source = \"proc\"\n{bounds}");
        let mut typed = collector(root.path(), &section);
        let mut packed = collector(root.path(), &section);
        for second in [0, 10, 20] {
            let (snapshot, _) = typed.sample(at(second)).unwrap();
            assert_eq!(snapshot.virtual_servers.len(), listed, "{bounds}");
            let named = snapshot
                .virtual_servers
                .iter()
                .map(|one| 1 + one.real_servers.len());
            let named = u32::try_from(named.sum::<usize>()).unwrap();
            let totals = &snapshot.totals;
            assert_eq!(
                named + snapshot.skipped,
                totals.virtual_servers + totals.real_servers
            );
            let collected = packed.collect(at(second)).unwrap();
            assert_eq!(
                collected.snapshot,
                Packed::of(&snapshot).unwrap(),
                "{bounds}"
            );
        }
    }
}
