//! The parsers against what keepalived 2.2.7 wrote, against forms of other versions, and against texts that were
//! damaged.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use muster_proto::snapshot::keepalived::VrrpState;
use proptest::prelude::*;

use super::*;

const DATA: &str = include_str!("../../../../fixtures/keepalived/2.2.7/keepalived.data");
const CHECK: &str = include_str!("../../../../fixtures/keepalived/2.2.7/keepalived_check.data");
const STATS: &str = include_str!("../../../../fixtures/keepalived/2.2.7/keepalived.stats");
const JSON: &str = include_str!("../../../../fixtures/keepalived/2.2.7/keepalived.json");

#[test]
fn vrrp_of_2_2_7_with_its_counters() {
    let mut dump = parse_vrrp(DATA).unwrap();
    assert_eq!(dump.router_id.as_deref(), Some("LB1"));
    assert_eq!(dump.scripts[0].good, Some(true));
    assert_eq!(dump.scripts[0].weight, Some(-60));
    assert_eq!(dump.instances.len(), 2);
    join(&mut dump.instances, parse_stats(STATS).unwrap());
    insta::assert_json_snapshot!("vrrp_2_2_7", dump.instances);
}

#[test]
fn json_and_text_tell_the_same() {
    let mut text = parse_vrrp(DATA).unwrap().instances;
    join(&mut text, parse_stats(STATS).unwrap());
    let json = parse_json(JSON.as_bytes()).unwrap();
    for (text, json) in text.iter().zip(&json) {
        assert_eq!(
            (
                &text.name,
                text.state,
                text.vrid,
                text.since_ms,
                &text.interface
            ),
            (
                &json.name,
                json.state,
                json.vrid,
                json.since_ms,
                &json.interface
            )
        );
        assert_eq!(
            (
                text.base_priority,
                text.effective_priority,
                text.advert_interval_ms
            ),
            (
                json.base_priority,
                json.effective_priority,
                json.advert_interval_ms
            )
        );
        assert_eq!(
            (
                &text.addresses,
                text.addresses_set,
                text.preempt,
                text.version
            ),
            (
                &json.addresses,
                json.addresses_set,
                json.preempt,
                json.version
            )
        );
        let (text, mut json) = (
            text.counters.clone().unwrap(),
            json.counters.clone().unwrap(),
        );
        json.adverts_sent = json.adverts_sent.map(|sent| sent - 1); // it was written a second later
        let less = text.adverts_sent.map(|sent| sent..=sent + 6);
        assert!(less.unwrap().contains(&json.adverts_sent.unwrap()));
        assert_eq!(text.became_master, json.became_master);
    }
    let second = format!("{{\"vrrp\":{JSON},\"track_process\":[{{\"process\":\"x\"}}],\"new\":1}}");
    assert_eq!(parse_json(second.as_bytes()).unwrap(), json);
}

#[test]
fn checkers_of_2_2_7() {
    let dump = parse_check(CHECK).unwrap();
    assert_eq!(dump.virtual_servers[1].name, "[VSG1]:0");
    insta::assert_json_snapshot!("check_2_2_7", dump.virtual_servers);
}

#[test]
fn a_backend_that_is_out_says_why() {
    let down = CHECK
        .replacen(
            "   alive = 1\n   num failed checkers = 0\n   RS set = 1",
            "   alive = 0\n   num failed checkers = 1\n   RS set = 0",
            1,
        )
        .replacen("   Up = yes", "   Up = no", 1);
    let dump = parse_check(&down).unwrap();
    let server = &dump.virtual_servers[0];
    assert_eq!(server.alive, Some(1));
    let real = &server.real_servers[0];
    assert_eq!((real.alive, real.set), (Some(false), Some(false)));
    assert_eq!(
        real.reason.as_deref(),
        Some("HTTP_GET [10.8.1.2]:8080 /index.html fails")
    );
    let script = CHECK
        .replace("   alive = 1\n", "   alive = 0\n")
        .replace("   Up = yes", "   Up = no");
    let script = script.replace("Last status = 0", "Last status = 1");
    let real = &parse_check(&script).unwrap().virtual_servers[1].real_servers[0];
    assert_eq!(
        real.reason.as_deref(),
        Some("MISC_CHECK '/usr/bin/test' '-e' '/run/misc_ok' fails, last status 1")
    );
}

/// The form of 1.2 to 1.4: other words, scripts and interfaces within the instance.
#[test]
fn vrrp_of_old_versions() {
    let text = "------< VRRP Topology >------\n VRRP Instance = VI 1\n VRRP Version = 2\n   State = BACKUP\n\
        \x20  Master router = 10.0.0.9\n   Master priority = 200\n   Last transition = 1795357886 (Sun Nov 22)\n\
        \x20  Listening device = eth0\n   Virtual Router ID = 7\n   Priority = 100\n   Advert interval = 1 sec\n\
        \x20  Preempt = disabled\n   Authentication type = SIMPLE_PASSWORD\n   Password = s3cret\n\
        \x20  Tracked interfaces = 1\n------< NIC >------\n Name = eth1\n index = 3\n MTU = 1500\n\
        \x20  Tracked scripts = 1\n VRRP Script = chk\n   Command = /bin/true\n   Interval = 2 sec\n   Weight = -20\n\
        \x20  Rise = 1\n   Full = 3\n   Status = INIT/GOOD\n   Interface weight 0\n   Virtual IP = 1\n\
        \x20    10.0.0.1/24 dev eth0 scope global\n------< VRRP Sync groups >------\n VRRP Sync Group = G1, BACKUP\n\
        \x20  monitor = VI 1\n";
    let dump = parse_vrrp(text).unwrap();
    let instance = &dump.instances[0];
    assert_eq!(
        (instance.name.as_str(), instance.state),
        ("VI 1", VrrpState::Backup)
    );
    assert_eq!(instance.since_ms, Some(1_795_357_886_000));
    assert_eq!(instance.interface.as_deref(), Some("eth0"));
    assert_eq!(
        (instance.vrid, instance.version, instance.preempt),
        (Some(7), Some(2), Some(false))
    );
    assert_eq!(instance.master_address.as_deref(), Some("10.0.0.9"));
    assert_eq!(instance.addresses, ["10.0.0.1/24 dev eth0 scope global"]);
    assert!(!format!("{dump:?}").contains("s3cret"));
    assert_eq!(
        (dump.scripts[0].fall, dump.scripts[0].good),
        (Some(3), Some(true))
    );
    assert_eq!(dump.groups[0].state, VrrpState::Backup);
    assert_eq!(dump.groups[0].members, ["VI 1"]);
}

#[test]
fn groups_marks_and_words_of_other_versions() {
    let text = "------< VRRP Sync groups >------\n VRRP Sync Group = G, 1, MASTER\n   VRRP member instances = 2\n     A\n     B\n\
        \x20  Using smtp notification = no\n   New thing = 5\n";
    let group = &parse_vrrp(text).unwrap().groups[0];
    assert_eq!(
        (group.name.as_str(), group.state),
        ("G, 1", VrrpState::Master)
    );
    assert_eq!(group.members, ["A", "B"]);
    assert_eq!(group.other.get("New thing").map(String::as_str), Some("5"));

    let text = "------< LVS Topology >------\n VS FWMARK = 5\n   lvs_sched = rr\n   quorum_state_up = no\n\
        \x20  ------< Real server >------\n   RIP = 2001:db8::5, RPORT = 0, WEIGHT = 3\n   alive = no\n\
        \x20  Inhibit on failure is ON\n------< Health checkers >------\n FWM 5 -> [2001:db8::5]:none:0\n   Up = no\n\
        \x20  Keepalive method = PING_CHECK\n";
    let server = &parse_check(text).unwrap().virtual_servers[0];
    assert_eq!(
        (server.name.as_str(), server.fwmark, server.quorum_up),
        ("FWM 5", Some(5), Some(false))
    );
    let real = &server.real_servers[0];
    assert_eq!(
        (real.alive, real.inhibit, real.initial_weight),
        (Some(false), Some(true), Some(3))
    );
    assert_eq!(
        (real.name.as_str(), real.reason.as_deref()),
        ("[2001:db8::5]:none:0", Some("PING_CHECK fails"))
    );
}

#[test]
fn unknown_counters_and_words_are_carried() {
    let text = "VRRP Instance: A\n  Became master: 2\n  Authentication Extension Errors:\n    Replay: 7\n    Odd: x\n  New: 3\n";
    let counters = parse_stats(text).unwrap()[0].counters.clone().unwrap();
    assert_eq!(counters.became_master, Some(2));
    let other: Vec<_> = counters
        .other
        .iter()
        .map(|(key, count)| (key.as_str(), *count))
        .collect();
    assert_eq!(
        other,
        [("Authentication Extension Errors: Replay", 7), ("New", 3)]
    );
}

#[test]
fn what_is_no_dump_is_refused() {
    for text in ["", "\n\n", "<html>", "VRRP", "\0\0\0"] {
        assert_eq!(parse_vrrp(text), None);
        assert_eq!(parse_check(text), None);
        assert_eq!(parse_stats(text), None);
        assert_eq!(parse_json(text.as_bytes()), None);
    }
    let half = JSON.get(..JSON.len() / 2).unwrap();
    assert_eq!(parse_json(half.as_bytes()), None);
}

/// The text with pieces cut out, doubled, and bytes changed.
fn damaged(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let edit = (0..text.len(), 0..400usize, any::<u8>(), 0..3u8);
    proptest::collection::vec(edit, 0..6).prop_map(move |edits| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, length, byte, kind) in edits {
            let at = at.min(bytes.len());
            let end = (at + length).min(bytes.len());
            match kind {
                0 => drop(bytes.drain(at..end)),
                1 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    if let Some(old) = bytes.get_mut(at) {
                        *old = byte;
                    }
                }
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn damaged_vrrp_dumps_never_panic(bytes in damaged(DATA)) {
        _ = parse_vrrp(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn damaged_check_dumps_never_panic(bytes in damaged(CHECK)) {
        _ = parse_check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn damaged_stats_and_json_never_panic(stats in damaged(STATS), json in damaged(JSON)) {
        _ = parse_stats(&String::from_utf8_lossy(&stats));
        _ = parse_json(&json);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let text = String::from_utf8_lossy(&bytes);
        _ = (parse_vrrp(&text), parse_check(&text), parse_stats(&text), parse_json(&bytes));
    }
}
