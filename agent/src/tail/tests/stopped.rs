//! What happens to logs while the reader does not run.

use super::*;

#[test]
fn a_kill_at_any_moment_loses_and_repeats_nothing() {
    let mut host = Host::of("a.log");
    let (mut want, mut got) = (Vec::new(), Vec::new());
    for round in 0..30u32 {
        want.extend(host.log("a.log", round * 37..(round + 1) * 37));
        if round % 3 == 0 {
            host.append("a.log", "half a ");
        }
        got.extend(host.read());
        host.kill();
        if round % 3 == 0 {
            host.append("a.log", "line!\n");
            want.push("half a line!".to_owned());
        }
        if round % 5 == 0 {
            got.extend(host.read());
        }
    }
    got.extend(host.read());
    assert_eq!(got, want);
    assert_eq!(host.lost(), None);
}

#[test]
fn a_line_that_was_unfinished_at_the_end_is_finished_later() {
    let mut host = Host::of("a.log");
    host.append("a.log", "whole!\nhalf");
    assert_eq!(host.read(), ["whole!"]);
    host.stop();
    host.append("a.log", " of it!\n");
    assert_eq!(host.read(), ["half of it!"]);
}

#[test]
fn rotated_once_and_twice_by_renaming() {
    for (pattern, times) in [
        ("a.log", 1),
        ("a.log", 2),
        ("a.log*", 1),
        ("a.log*", 2),
        ("a.log", 4),
    ] {
        let mut host = Host::of(pattern);
        let mut want = host.log("a.log", 0..100);
        let mut got = host.read();
        host.stop();
        let mut at = 100;
        want.extend(host.log("a.log", at..at + 50));
        for time in 1..=times {
            for number in (1..time).rev() {
                host.rename(&format!("a.log.{number}"), &format!("a.log.{}", number + 1));
            }
            host.rename("a.log", "a.log.1");
            at += 50;
            want.extend(host.log("a.log", at..at + 50));
        }
        got.extend(host.read());
        if pattern.ends_with('*') {
            got.sort_by_key(|line| number(line)); // several paths of their own
        }
        assert_eq!(got, want, "{pattern} {times}");
        assert_eq!(host.lost(), None, "{pattern} {times}");
        host.kill();
        assert!(host.read().is_empty(), "{pattern} {times}");
    }
}

fn number(line: &str) -> u32 {
    line.rsplit(' ')
        .next()
        .unwrap()
        .trim_end_matches('!')
        .parse()
        .unwrap()
}

#[test]
fn rotated_once_and_twice_by_copying() {
    for (pattern, times) in [("a.log", 1), ("a.log", 2), ("a.log*", 1), ("a.log", 3)] {
        let mut host = Host::of(pattern);
        let mut want = host.log("a.log", 0..100);
        let mut got = host.read();
        host.stop();
        let mut at = 100;
        want.extend(host.log("a.log", at..at + 50));
        for time in 1..=times {
            for number in (1..time).rev() {
                host.rename(&format!("a.log.{number}"), &format!("a.log.{}", number + 1));
            }
            host.copy("a.log", "a.log.1");
            host.truncate("a.log");
            at += 50;
            want.extend(host.log("a.log", at..at + 200));
            at += 150;
        }
        got.extend(host.read());
        assert_eq!(got, want, "{pattern} {times}");
        assert_eq!(host.lost(), None, "{pattern} {times}");
        host.kill();
        assert!(host.read().is_empty(), "{pattern} {times}");
    }
}

/// Renamed while the reader runs, so that it follows two files of one path; copied and cut while it does not.
#[test]
fn renamed_before_the_kill_and_copied_after_it() {
    for (before, seen, unread) in [
        (100, 60, 40),
        (100, 60, 0),
        (100, 3, 90),
        (100, 0, 90),
        (3, 60, 40),
        (3, 3, 90),
    ] {
        let case = format!("{before} {seen} {unread}");
        let mut host = Host::of("a.log");
        let mut want = host.log("a.log", 0..before);
        let mut got = host.read();
        host.rename("a.log", "a.log-20261114");
        host.append("a.log", "");
        let mut at = 1000;
        want.extend(host.log("a.log", at..at + seen));
        got.extend(host.read());
        host.kill();
        at += seen;
        want.extend(host.log("a.log", at..at + unread));
        host.copy("a.log", "a.log-20261115");
        host.truncate("a.log");
        want.extend(host.log("a.log", 5000..5080));
        got.extend(host.read());
        assert_eq!(got, want, "{case}");
        assert_eq!(host.lost(), None, "{case}");
        host.kill();
        want = host.log("a.log", 6000..6010);
        assert_eq!(host.read(), want, "{case}");
    }
}

#[test]
fn what_was_packed_is_lost_and_counted() {
    let mut host = Host::of("a.log");
    host.log("a.log", 0..100);
    host.read();
    host.stop();
    let size = fs::metadata(host.path("a.log")).unwrap().len();
    host.log("a.log", 100..120);
    let lost = fs::metadata(host.path("a.log")).unwrap().len() - size;
    host.rename("a.log", "a.log.1");
    let packed = std::process::Command::new("gzip")
        .arg(host.path("a.log.1"))
        .status();
    assert!(packed.unwrap().success());
    let want = host.log("a.log", 200..300);
    assert_eq!(host.read(), want);
    assert_eq!(host.lost(), Some((lost, false)));
}

#[test]
fn what_was_deleted_may_have_lost_something() {
    let mut host = Host::of("a.log");
    host.log("a.log", 0..100);
    host.append("a.log", "unfinished");
    host.read();
    host.stop();
    host.remove("a.log");
    host.append("b.log", "keeps the inode from coming again");
    let want = host.log("a.log", 100..200);
    assert_eq!(host.read(), want);
    assert_eq!(host.lost(), Some((10, false)));
}

#[test]
fn the_next_file_has_the_inode_of_the_last() {
    let mut host = Host::of("a.log");
    host.log("a.log", 0..100);
    host.read();
    host.stop();
    let before = host.inode("a.log");
    host.truncate("a.log"); // what a new file with the same inode looks like
    let want = host.log("a.log", 500..900);
    assert_eq!(host.inode("a.log"), before);
    assert_eq!(host.read(), want);
}

#[test]
fn what_is_no_longer_asked_for_is_not_lost() {
    let mut host = Host::of("*.log");
    host.log("a.log", 0..50);
    host.log("b.log", 0..50);
    assert_eq!(host.read().len(), 10);
    host.kill();
    host.config = host.config.replace("*.log", "a.log");
    assert!(host.read().is_empty());
    assert_eq!(host.lost(), None);
    assert_eq!(
        host.cursors
            .keys()
            .filter(|key| key.starts_with(b"place"))
            .count(),
        1
    );
}
