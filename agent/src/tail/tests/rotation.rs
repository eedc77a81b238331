//! Rotation while the reader runs.

use super::*;

#[test]
fn renamed_and_created_anew() {
    let mut host = Host::of("a.log");
    let mut want = host.log("a.log", 0..95);
    let mut got = host.read();
    want.extend(host.log("a.log", 95..105)); // not read before it is renamed
    host.rename("a.log", "a.log.1");
    want.extend(host.log("a.log", 105..200));
    got.extend(host.read());
    assert_eq!(got, want);
    // The program has not opened the new one yet.
    let late = host.log("a.log.1", 200..230);
    assert_eq!(host.read(), late);
    host.rename("a.log.1", "a.log.2");
    host.rename("a.log", "a.log.1");
    let mut want = host.log("a.log.1", 230..250);
    want.extend(host.log("a.log", 250..300));
    assert_eq!(host.read(), want);
    assert_eq!(host.lost(), None);
}

#[test]
fn rotated_more_often_than_looked() {
    let mut host = Host::of("a.log");
    let mut want = host.log("a.log", 0..100);
    let mut got = host.read();
    want.extend(host.log("a.log", 100..200));
    host.rename("a.log", "a.log.1");
    want.extend(host.log("a.log", 200..300));
    host.rename("a.log.1", "a.log.2");
    host.rename("a.log", "a.log.1");
    want.extend(host.log("a.log", 300..400));
    got.extend(host.read());
    assert_eq!(got, want);
    assert_eq!(host.lost(), None);
}

#[test]
fn the_pattern_finds_the_rotated_ones_too() {
    let mut host = Host::of("a.log*");
    let mut want = host.log("a.log", 0..100);
    let mut got = host.read();
    for round in 1..4 {
        for number in (1..round).rev() {
            host.rename(&format!("a.log.{number}"), &format!("a.log.{}", number + 1));
        }
        host.rename("a.log", "a.log.1");
        want.extend(host.log("a.log", round * 100..(round + 1) * 100));
        got.extend(host.read_after(700_000));
    }
    assert_eq!(got, want);
    host.stop();
    assert!(host.read().is_empty());
    assert_eq!(host.lost(), None);
}

#[test]
fn copied_and_cut() {
    for pattern in ["a.log", "a.log*"] {
        let mut host = Host::of(pattern);
        let mut want = host.log("a.log", 0..100);
        let mut got = host.read();
        want.extend(host.log("a.log", 100..150)); // in the copy only
        host.copy("a.log", "a.log.1");
        host.truncate("a.log");
        want.extend(host.log("a.log", 150..160));
        got.extend(host.read());
        // Seen between the copy and the cut.
        host.rename("a.log.1", "a.log.2");
        host.copy("a.log", "a.log.1");
        got.extend(host.read());
        host.truncate("a.log");
        want.extend(host.log("a.log", 160..400));
        got.extend(host.read());
        assert_eq!(got, want, "{pattern}");
        assert_eq!(host.lost(), None, "{pattern}");
        host.kill();
        assert!(host.read_after(700_000).is_empty(), "{pattern}");
    }
}

#[test]
fn cut_and_written_again_longer_than_before() {
    let mut host = Host::of("a.log");
    host.log("a.log", 0..100);
    host.read();
    host.append("a.log", "never read\n");
    host.read();
    host.append("a.log", "gone");
    host.read();
    host.truncate("a.log");
    let want = host.log("a.log", 100..900);
    assert_eq!(host.read(), want);
    assert_eq!(host.lost(), Some((4, false)), "the unfinished line");
}

#[test]
fn cut_under_a_program_that_goes_on_where_it_was() {
    let mut host = Host::of("a.log");
    host.log("a.log", 0..100);
    host.read();
    for round in 1..4u64 {
        host.truncate("a.log");
        let file = OpenOptions::new()
            .write(true)
            .open(host.path("a.log"))
            .unwrap();
        let hole = round * 10_000_000;
        std::os::unix::fs::FileExt::write_all_at(&file, b"!first\nsecond!\n", hole).unwrap();
        assert_eq!(host.read(), ["!first", "second!"]);
        host.append("a.log", "third!\n");
        assert_eq!(host.read(), ["third!"]);
    }
    assert_eq!(host.lost(), None);
}

#[test]
fn files_that_begin_alike_are_kept_apart() {
    let mut host = Host::of("*.log");
    let head = "the same first line!\n".repeat(60);
    let mut count = 0;
    for name in ["a.log", "b.log", "ab.log"] {
        host.append(name, &head);
        host.append(name, format!("{name}!\n"));
        count += host.read().len();
    }
    assert_eq!(count, 3 * 61);
    host.append("b.log", "b only!\n");
    assert_eq!(host.read(), ["b only!"]);
}

#[test]
fn empty_files_and_reused_inodes() {
    let mut host = Host::of("*.log");
    host.append("a.log", "");
    assert!(host.read().is_empty());
    for round in 0..20 {
        host.remove("a.log"); // where its inode comes again at once, the next file has it
        host.kill();
        host.append("a.log", format!("round {round}!\n").repeat(3));
        assert_eq!(host.read().len(), 3, "round {round}");
    }
}

#[test]
fn deleted_while_it_is_written_to() {
    let mut host = Host::of("a.log");
    let want = host.log("a.log", 0..100);
    assert_eq!(host.read(), want);
    let mut file = OpenOptions::new()
        .append(true)
        .open(host.path("a.log"))
        .unwrap();
    host.remove("a.log");
    file.write_all(b"after its name was gone!\nno line end!")
        .unwrap();
    assert_eq!(host.read(), ["after its name was gone!"]);
    host.append("a.log", "the next one!\n");
    assert_eq!(host.read(), ["the next one!"]);
    assert_eq!(host.read_after(10_000), ["no line end!"]);
    let held = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let path = host.path("a.log").display().to_string() + " (deleted)";
    let held =
        held.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.display().to_string() == path));
    assert_eq!(held.count(), 1, "the test's own");
}

#[test]
fn links_that_are_turned_to_another_file() {
    let mut host = Host::of("current");
    let mut want = host.log("app-1.log", 0..50);
    std::os::unix::fs::symlink("app-1.log", host.path("current")).unwrap();
    let mut got = host.read();
    want.extend(host.log("app-1.log", 50..80));
    want.extend(host.log("app-2.log", 80..120));
    std::os::unix::fs::symlink("app-2.log", host.path("new")).unwrap();
    host.rename("new", "current");
    got.extend(host.read());
    want.extend(host.log("app-2.log", 120..200));
    got.extend(host.read());
    assert_eq!(got, want);
}

#[test]
fn a_directory_that_is_renamed() {
    let mut host = Host::of("*/a.log");
    fs::create_dir(host.path("d")).unwrap();
    let mut want = host.log("d/a.log", 0..50);
    let mut got = host.read();
    want.extend(host.log("d/a.log", 50..80));
    host.rename("d", "e");
    fs::create_dir(host.path("d")).unwrap();
    want.extend(host.log("d/a.log", 80..100));
    got.extend(host.read());
    want.sort();
    got.sort();
    assert_eq!(got, want);
}

#[test]
fn a_file_that_may_not_be_read_is_told_once() {
    use std::os::unix::fs::PermissionsExt;
    let mut host = Host::of("a.log");
    host.append("a.log", "secret!\n");
    fs::set_permissions(host.path("a.log"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(host.path("a.log")).is_ok() {
        return; // root may read everything
    }
    host.read();
    host.read();
    let told = host
        .events
        .iter()
        .filter(|event| event.topic == "agent.log.unreadable");
    assert_eq!(told.count(), 1);
    fs::set_permissions(host.path("a.log"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(host.read(), ["secret!"]);
}
