//! Changes between two looks at the table: each is one event.

use super::*;

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
