//! New files that are copies of one that is read, and those that only look so.

use std::sync::atomic::Ordering;

use super::*;

/// A copy that is seen at each moment of its making, under a name of rotation and another one.
#[test]
fn a_copy_is_seen_while_it_is_made() {
    for name in ["a.log.1", "a.log.bak"] {
        for seen in 0..64_u32 {
            let seen = |moment: u32| seen & 1 << moment != 0;
            let mut host = Host::of("a.log*");
            let mut want = host.log("a.log", 0..500);
            let mut got = host.read();
            want.extend(host.log("a.log", 500..600)); // may be in the copy only
            let text = fs::read(host.path("a.log")).unwrap();
            for (moment, part) in [0..0, 0..5_000, 5_000..20_000, 20_000..text.len()]
                .into_iter()
                .enumerate()
            {
                host.append(name, &text[part]);
                if seen(moment as u32) {
                    got.extend(host.read());
                }
            }
            if seen(4) {
                host.kill();
            }
            host.truncate("a.log");
            if seen(5) {
                got.extend(host.read());
            }
            want.extend(host.log("a.log", 600..700));
            got.extend(host.read());
            got.extend(host.read_after(700_000));
            let moments: Vec<bool> = (0..6).map(seen).collect();
            assert_eq!(got, want, "{name} {moments:?}");
            assert_eq!(host.lost(), None, "{name} {moments:?}");
        }
    }
}

/// The program writes on, and is read, between the copy and the cut. A log of less than 1 KiB is known by less.
#[test]
fn a_copy_has_less_than_was_read() {
    for (name, seen, lines) in [
        ("a.log.1", true, 500),
        ("a.log.1", true, 20),
        ("a.log.1", false, 500),
        ("a.log.bak", true, 500),
    ] {
        let mut host = Host::of("a.log*");
        let mut want = host.log("a.log", 0..lines);
        let mut got = host.read();
        host.copy("a.log", name);
        if seen {
            got.extend(host.read());
        }
        want.extend(host.log("a.log", 500..600));
        got.extend(host.read_on(false));
        host.truncate("a.log");
        want.extend(host.log("a.log", 600..650));
        got.extend(host.read());
        assert_eq!(got, want, "{name} {seen} {lines}");
        host.kill();
        assert!(host.read_after(700_000).is_empty(), "{name} {seen} {lines}");
    }
}

/// What was taken for a copy is read once it goes its own way, and not when the other one has gone.
#[test]
fn what_begins_as_another_file_does_goes_its_own_way() {
    let head = "the same first line!\n".repeat(60);
    let mut host = Host::of("*.log");
    host.append("a.log", head.clone() + "a!\n");
    assert_eq!(host.read().len(), 61);
    host.append("ab.log", &head);
    assert!(host.read().is_empty());
    host.kill();
    assert!(host.read().is_empty());
    host.append("ab.log", "ab!\n");
    assert_eq!(host.read().len(), 61);

    let mut host = Host::of("*.log");
    let want = host.log("a.log", 0..500);
    assert_eq!(host.read(), want);
    host.copy("a.log", "a-old.log");
    assert!(host.read().is_empty());
    host.rename("a.log", "gone");
    assert!(host.read_after(700_000).is_empty());
    host.remove("gone");
    let want = host.log("a.log", 500..600);
    assert_eq!(host.read_after(700_000), want);
    host.kill();
    assert_eq!(host.read(), Vec::<String>::new());
    let want = host.log("a-old.log", 600..700);
    assert_eq!(host.read(), want);

    let mut host = Host::of("*.log");
    let mut want = host.log("a.log", 0..500);
    assert_eq!(host.read(), want);
    host.copy("a.log", "a-old.log");
    want.extend(host.log("a-old.log", 500..600));
    assert_eq!(host.read(), want);
}

/// Between two looks at the directory another file has got the name of one that a new file is compared with.
#[test]
fn a_renamed_file_is_not_taken_for_one_that_was_cut() {
    let mut host = Host::of("app*.log*");
    let want = host.log("app.log", 0..500);
    host.append("app-error.log", "");
    assert_eq!(host.read(), want);
    host.rename("app.log", "app.log.1");
    let mut want = host.log("app.log", 600..700);
    host.append("app-error.log", "cannot start!\n");
    want.push("cannot start!".to_owned());
    let mut got = host.read_on(false);
    got.extend(host.read());
    want.sort();
    got.sort();
    assert_eq!(got, want);
    host.kill();
    assert!(host.read().is_empty());
    assert_eq!(host.lost(), None);
}

/// The original goes while the copy is made, or while the agent is down.
#[test]
fn what_was_copied_is_not_read_again_when_the_original_goes() {
    for (half, down, first) in [
        (true, false, "a.log"),
        (false, false, "a.log"),
        (false, true, "a.log"),
        (false, true, "a.log.bak"),
    ] {
        let case = format!("{half} {down} {first}");
        let mut host = Host::of("a.log*");
        host.append(first, ""); // the order of their inodes
        let want = host.log("a.log", 0..500);
        host.append("a.log.bak", "");
        assert_eq!(host.read(), want);
        let text = fs::read(host.path("a.log")).unwrap();
        let seen = if half { text.len() / 2 } else { text.len() };
        host.append("a.log.bak", &text[..seen]);
        assert!(host.read().is_empty(), "{case}");
        host.append("a.log.bak", &text[seen..]);
        if down {
            host.stop();
        }
        host.remove("a.log");
        assert!(host.read_after(700_000).is_empty(), "{case}");
        assert!(host.read_after(700_000).is_empty(), "{case}");
        let want = host.log("a.log.bak", 500..600);
        assert_eq!(host.read(), want, "{case}");
        assert_eq!(host.lost(), None, "{case}");
        let files = host.counters.files.load(Ordering::Relaxed);
        assert_eq!(files, 1, "{case}");
    }
}

/// A file is cut that is no more than of like name, while another one is copied.
#[test]
fn a_copy_waits_for_its_own_original() {
    let mut host = Host::of("app*.log*");
    let mut want = host.log("app.log", 0..1000);
    want.extend(host.log("app_error.log", 1000..1500));
    let mut got = host.read();
    let text = fs::read(host.path("app_error.log")).unwrap();
    host.append("app_error.log.1", &text[..10_000]);
    got.extend(host.read());
    host.truncate("app.log");
    got.extend(host.read());
    host.append("app_error.log.1", &text[10_000..]);
    got.extend(host.read());
    want.extend(host.log("app_error.log.1", 1500..1600)); // not read in the original
    host.truncate("app_error.log");
    got.extend(host.read());
    assert_eq!(got, want);
    assert_eq!(host.lost(), None);
}

/// What is too little to be a copy that is being made is read at once.
#[test]
fn a_short_file_that_begins_as_another_one_is_read() {
    let mut host = Host::of("app*.log");
    host.append("app.log", "FATAL: cannot bind!\n");
    host.log("app.log", 1..500);
    host.read();
    host.append("app-1.log", "FATAL: cannot bind!\n");
    assert_eq!(host.read(), ["FATAL: cannot bind!"]);
}

/// A copy that goes has had nothing of its own.
#[test]
fn nothing_is_lost_with_a_copy() {
    let mut host = Host::of("a.log*");
    let want = host.log("a.log", 0..500);
    assert_eq!(host.read(), want);
    host.copy("a.log", "a.log.bak");
    assert!(host.read().is_empty());
    host.stop();
    host.remove("a.log.bak");
    assert!(host.read().is_empty());
    assert_eq!(host.lost(), None);
}
