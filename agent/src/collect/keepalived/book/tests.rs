//! States from both sources: one event per change, whoever told first.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use super::super::dump::{CheckDump, VrrpDump, parse_check, parse_vrrp};
use super::super::notice::parse;
use super::*;

const DATA: &str = include_str!("../../../../fixtures/keepalived/2.2.7/keepalived.data");
const CHECK: &str = include_str!("../../../../fixtures/keepalived/2.2.7/keepalived_check.data");
const VRRP_FIFO: &str = include_str!("../../../../fixtures/keepalived/2.2.7/vrrp_fifo.txt");
const LVS_FIFO: &str = include_str!("../../../../fixtures/keepalived/2.2.7/lvs_fifo.txt");

fn heard(line: &str, at_ms: u64) -> Heard {
    let notice = parse(line).unwrap();
    let replayed = false;
    Heard {
        notice,
        at_ms,
        replayed,
    }
}

fn stale(line: &str) -> Heard {
    Heard {
        replayed: true,
        ..heard(line, 9_000)
    }
}

fn told(changes: &[Change]) -> Vec<(&'static str, &str)> {
    let told = changes
        .iter()
        .map(|change| (change.topic, change.key.as_str()));
    told.collect()
}

fn vrrp(state: &str) -> VrrpDump {
    parse_vrrp(&DATA.replacen("   State = MASTER", &format!("   State = {state}"), 1)).unwrap()
}

/// The first `down` real servers in the file are out; the quorum is as given.
fn check(down: usize, quorum: bool) -> CheckDump {
    let text = CHECK.replacen(
        "   alive = 1\n   num failed checkers = 0",
        "   alive = 0\n   num failed checkers = 1",
        down,
    );
    let quorum = format!("quorum_state_up = {}", u8::from(quorum));
    parse_check(&text.replacen("quorum_state_up = 1", &quorum, 1)).unwrap()
}

#[test]
fn the_first_dump_is_no_news_and_the_next_only_what_changed() {
    let mut book = Book::new(String::new());
    assert_eq!(told(&book.see_vrrp(&vrrp("MASTER"), 1000)), []);
    assert_eq!(told(&book.see_vrrp(&vrrp("MASTER"), 2000)), []);
    let changes = book.see_vrrp(&vrrp("FAULT"), 3000);
    assert_eq!(told(&changes), [("keepalived.vrrp.fault", "VI_1")]);
    let change = changes.first().unwrap();
    assert_eq!(
        change.summary,
        "VRRP instance VI_1 is in fault (was master)"
    );
    assert_eq!(change.before, json!({ "state": "master" }));
    assert_eq!(change.after, json!({ "state": "fault" }));
    assert_eq!(change.fields.get("source"), Some(&json!("dump")));
    // An older file that comes late takes nothing back.
    assert_eq!(told(&book.see_vrrp(&vrrp("MASTER"), 2500)), []);
}

#[test]
fn a_change_is_told_once_by_whoever_knows_first() {
    let mut book = Book::new("lb/".to_owned());
    book.see_vrrp(&vrrp("MASTER"), 1000);
    let changes = book.hear(&[heard("INSTANCE \"VI_1\" BACKUP 150", 2000)]);
    assert_eq!(told(&changes), [("keepalived.vrrp.backup", "lb/VI_1")]);
    // The dump of before the change, which was read after it.
    assert_eq!(told(&book.see_vrrp(&vrrp("MASTER"), 1900)), []);
    assert_eq!(told(&book.see_vrrp(&vrrp("BACKUP"), 2100)), []);
    let changes = book.see_vrrp(&vrrp("MASTER"), 3000);
    assert_eq!(told(&changes), [("keepalived.vrrp.master", "lb/VI_1")]);
    assert_eq!(
        told(&book.hear(&[heard("INSTANCE \"VI_1\" MASTER 150", 3001)])),
        []
    );
    // Two changes between two dumps are two events, though the dumps are alike.
    let flap = [
        heard("INSTANCE \"VI_1\" BACKUP 150", 4000),
        heard("INSTANCE \"VI_1\" MASTER 150", 4001),
    ];
    let told_all = book.hear(&flap);
    assert_eq!(
        told(&told_all),
        [
            ("keepalived.vrrp.backup", "lb/VI_1"),
            ("keepalived.vrrp.master", "lb/VI_1")
        ]
    );
}

#[test]
fn real_servers_quorum_service_and_sorry_server() {
    let mut book = Book::new(String::new());
    let (one, two) = ("[10.8.1.2]:tcp:8080", "[10.8.2.2]:tcp:8080");
    let (vs, group) = ("[192.0.2.99]:tcp:80", "[VSG1]:0");
    assert_eq!(told(&book.see_check(&check(0, true), 1000)), []);
    let key = |real: &str| format!("{vs} {real}");
    let down = format!("RS {one} {vs} DOWN");
    let changes = book.hear(&[heard(&down, 2000)]);
    assert_eq!(
        told(&changes),
        [("keepalived.backend.down", key(one).as_str())]
    );
    assert_eq!(told(&book.see_check(&check(1, true), 2100)), []);
    let changes = book.see_check(&check(2, false), 3000);
    assert_eq!(
        told(&changes),
        [
            ("keepalived.backend.down", key(two).as_str()),
            ("keepalived.quorum.lost", vs),
            ("keepalived.sorry.added", vs),
            ("keepalived.service.down", vs),
        ]
    );
    let said = book.hear(&[
        heard(&format!("VS {vs} DOWN"), 3001),
        heard(&format!("RS {two} {vs} DOWN"), 3001),
    ]);
    assert_eq!(told(&said), []);
    let said = book.hear(&[heard(&format!("RS {two} {group} DOWN"), 4000)]);
    let pair = format!("{group} {two}");
    assert_eq!(
        told(&said),
        [
            ("keepalived.backend.down", pair.as_str()),
            ("keepalived.service.down", group)
        ]
    );
    let changes = book.see_check(&check(1, true), 5000);
    assert_eq!(
        told(&changes),
        [
            ("keepalived.backend.up", key(two).as_str()),
            ("keepalived.quorum.gained", vs),
            ("keepalived.sorry.removed", vs),
            ("keepalived.backend.up", pair.as_str()),
            ("keepalived.service.up", vs),
            ("keepalived.service.up", group),
        ]
    );
}

#[test]
fn what_a_reload_brings_and_takes() {
    let mut book = Book::new(String::new());
    let mut less = check(0, true);
    let group = less.virtual_servers.pop().unwrap();
    book.see_check(&less, 1000);
    less.virtual_servers.push(group);
    let changes = book.see_check(&less, 2000);
    let pair = "[VSG1]:0 [10.8.2.2]:tcp:8080";
    assert_eq!(
        told(&changes),
        [
            ("keepalived.service.added", "[VSG1]:0"),
            ("keepalived.backend.added", pair)
        ]
    );
    less.virtual_servers.pop();
    let changes = book.see_check(&less, 3000);
    assert_eq!(
        told(&changes),
        [
            ("keepalived.backend.removed", pair),
            ("keepalived.service.removed", "[VSG1]:0")
        ]
    );
    let mut heavier = less.clone();
    let first = heavier.virtual_servers.first_mut().unwrap();
    first.real_servers.first_mut().unwrap().weight = Some(3);
    let changes = book.see_check(&heavier, 4000);
    assert_eq!(
        told(&changes),
        [(
            "keepalived.backend.weight",
            "[192.0.2.99]:tcp:80 [10.8.1.2]:tcp:8080"
        )]
    );

    let mut dump = vrrp("MASTER");
    book.see_vrrp(&dump, 1000);
    let gone = dump.instances.remove(0);
    assert_eq!(
        told(&book.see_vrrp(&dump, 2000)),
        [("keepalived.vrrp.deleted", "VI_1")]
    );
    dump.instances.insert(0, gone);
    assert_eq!(
        told(&book.see_vrrp(&dump, 3000)),
        [("keepalived.vrrp.master", "VI_1")]
    );
    dump.instances.first_mut().unwrap().effective_priority = Some(90);
    assert_eq!(
        told(&book.see_vrrp(&dump, 4000)),
        [("keepalived.vrrp.priority", "VI_1")]
    );
    dump.scripts.first_mut().unwrap().good = Some(false);
    assert_eq!(
        told(&book.see_vrrp(&dump, 5000)),
        [("keepalived.script.failed", "chk_flag")]
    );
}

#[test]
fn dumps_that_tell_less_make_no_events() {
    let mut book = Book::new(String::new());
    let mut bare = check(0, true);
    for server in &mut bare.virtual_servers {
        server.quorum_up = None;
        for real in &mut server.real_servers {
            (real.alive, real.weight) = (None, None);
        }
    }
    for at in 1..5 {
        assert_eq!(told(&book.see_check(&bare, at * 1000)), []);
    }
}

#[test]
fn stale_lines_are_one_event_per_key_and_change_nothing_that_is_known() {
    let mut book = Book::new(String::new());
    book.see_vrrp(&vrrp("MASTER"), 1000);
    let lines = [
        stale("INSTANCE \"VI_1\" MASTER 150"),
        stale("INSTANCE \"VI_1\" BACKUP 150"),
        stale("INSTANCE \"VI_9\" FAULT 0"),
    ];
    let changes = book.hear(&lines);
    assert_eq!(
        told(&changes),
        [
            ("keepalived.vrrp.backup", "VI_1"),
            ("keepalived.vrrp.fault", "VI_9")
        ]
    );
    assert!(
        changes
            .iter()
            .all(|change| change.fields.get("replayed") == Some(&json!(true)))
    );
    assert_eq!(book.instances.get("VI_1").unwrap().value, VrrpState::Master);
    assert_eq!(told(&book.see_vrrp(&vrrp("MASTER"), 2000)), []);
}

#[test]
fn the_whole_sample_is_one_event_per_change() {
    let mut book = Book::new(String::new());
    let lines: Vec<Heard> = VRRP_FIFO
        .lines()
        .chain(LVS_FIFO.lines())
        .zip(1..)
        .map(|(line, at)| heard(line, at))
        .collect();
    let changes = book.hear(&lines);
    // Each line of the sample is a change of state, but for those that tell a second time what the line before told
    // of the same key; one more is a change of priority.
    let mut last = BTreeMap::new();
    let expected = lines.iter().filter(|heard| {
        let said = match &heard.notice {
            Notice::Instance { state, .. } => state.name().to_owned(),
            Notice::Virtual { up, .. } | Notice::Real { up, .. } => up.to_string(),
            other => format!("{other:?}"),
        };
        last.insert(key_of(&heard.notice), said.clone()) != Some(said)
    });
    let states = changes
        .iter()
        .filter(|change| change.topic != "keepalived.vrrp.priority");
    assert_eq!(states.count(), expected.count());
    let words = changes
        .iter()
        .map(|change| format!("{} {}", change.topic, change.summary));
    insta::assert_snapshot!("sample_events", words.collect::<Vec<_>>().join("\n"));
}
