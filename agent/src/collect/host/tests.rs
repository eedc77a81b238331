//! The whole collector against trees of files: a kernel of today, one of 2010, empty and garbled ones, and the changes
//! between two runs. Also the real host, and arbitrary bytes for every parser.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::symlink;

use muster_proto::snapshot::host::{Counter, Memory, Sockets};
use proptest::prelude::*;

use super::*;

/// Where the trees are.
fn fixture(name: &str) -> HostRoots {
    HostRoots::at(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/host")
            .join(name),
    )
}

fn host(roots: &HostRoots, section: &str) -> Host {
    Host::new(&CollectContext {
        roots: roots.clone(),
        section: section.parse().unwrap(),
        ..CollectContext::default()
    })
    .unwrap()
}

fn at(seconds: u64) -> SampleTime {
    SampleTime {
        wall_ms: 1_795_000_000_000 + seconds * 1000,
        mono_ms: 50_000 + seconds * 1000,
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(|_| ()).unwrap();
        }
    }
}

/// A copy of a tree that a test may change.
fn scratch(name: &str) -> (tempfile::TempDir, HostRoots) {
    let directory = tempfile::tempdir().unwrap();
    copy(&fixture(name).root, directory.path());
    let roots = HostRoots::at(directory.path());
    (directory, roots)
}

#[test]
fn a_host_of_today() {
    let mut host = host(&fixture("linux-6.18"), "");
    let (mut snapshot, changes) = host.sample(at(0));
    assert_eq!(snapshot.errors, []);
    assert_eq!(changes, []);
    // The sizes are those of the disk that the fixtures lie on.
    let filesystems = snapshot.filesystems.take().unwrap();
    let mounts: Vec<_> = filesystems
        .mounts
        .iter()
        .map(|mount| mount.mount_point.as_str())
        .collect();
    assert_eq!((mounts, filesystems.skipped), (vec!["/"], 7));
    insta::assert_json_snapshot!("linux_6_18", snapshot);
}

#[test]
fn a_host_of_2010() {
    let mut host = host(&fixture("linux-2.6.32"), "");
    let (mut snapshot, _) = host.sample(at(0));
    assert_eq!(snapshot.errors, []);
    let filesystems = snapshot.filesystems.take().unwrap();
    let mounts: Vec<_> = filesystems
        .mounts
        .iter()
        .map(|mount| (mount.mount_point.as_str(), mount.read_only))
        .collect();
    assert_eq!(mounts, [("/", false), ("/mnt/my disk", true)]);
    assert_eq!(snapshot.pressure, None);
    insta::assert_json_snapshot!("linux_2_6_32", snapshot);
}

#[test]
fn rates_come_with_the_second_run_and_go_when_a_counter_begins_anew() {
    let (_directory, roots) = scratch("linux-2.6.32");
    let mut host = host(&roots, "");
    let dev = roots.proc.join("net/dev");
    let text = fs::read_to_string(&dev).unwrap();
    for (second, rx_bytes, interval_ms, per_s, resets) in [
        (0, 4_294_967_290, None, None, 0),
        (10, 4_294_967_290, Some(10_000), Some(0.0), 0),
        (20, 4_294_977_290, Some(10_000), Some(1000.0), 0),
        (30, 7, Some(10_000), None, 1),
        (30, 7, Some(0), None, 1), // no time has passed
        (40, 17, Some(10_000), Some(1.0), 1),
    ] {
        fs::write(&dev, text.replace("4294967290", &rx_bytes.to_string())).unwrap();
        let (snapshot, _) = host.sample(at(second));
        let interfaces = snapshot.network.unwrap().interfaces;
        let eth0 = interfaces
            .iter()
            .find(|interface| interface.name == "eth0")
            .unwrap();
        let want = Counter {
            total: rx_bytes,
            per_s,
        };
        assert_eq!(
            (snapshot.interval_ms, eth0.rx_bytes, eth0.resets),
            (interval_ms, want, resets),
            "at {second}"
        );
    }
}

#[test]
fn an_empty_tree_gives_an_error_and_not_a_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let error = host(&HostRoots::at(directory.path()), "")
        .collect(at(0))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("nothing could be read") && error.contains("proc/stat"),
        "{error}"
    );
}

#[test]
fn one_bad_file_is_named_and_takes_nothing_else() {
    for (file, part) in [
        ("stat", "cpu"),
        ("meminfo", "memory"),
        ("loadavg", "load"),
        ("pressure/cpu", "pressure"),
        ("diskstats", "disks"),
        ("1/mountinfo", "filesystems"),
        ("net/dev", "network"),
        ("net/sockstat", "sockets"),
        ("net/snmp", "sockets"),
        ("net/netstat", "sockets"),
        ("sys/fs/file-nr", "sockets"),
        ("sys/net/netfilter/nf_conntrack_max", "conntrack"),
        ("net/softnet_stat", "softnet"),
        ("uptime", "uptime"),
        ("38/stat", "processes"),
    ] {
        for garbage in [
            &b"\xff\xfe\x00 :\n a: b c\n garbage\n"[..],
            b"x",
            b"- 9 9 9 9 99999999999999999999999 : \n1:2 3\n\n",
        ] {
            let (_directory, roots) = scratch("linux-6.18");
            fs::write(roots.proc.join(file), garbage).unwrap();
            let mut host = host(&roots, "");
            for run in 0..2 {
                let (snapshot, _) = host.sample(at(run));
                let parts: Vec<_> = snapshot
                    .errors
                    .iter()
                    .map(|error| error.part.as_str())
                    .collect();
                assert_eq!(parts, [part], "{file}, run {run}: {:?}", snapshot.errors);
                assert!(
                    snapshot
                        .errors
                        .iter()
                        .all(|error| error.error.contains(file)),
                    "{:?}",
                    snapshot.errors
                );
                assert!(snapshot.memory.is_some() || part == "memory", "{file}");
                assert!(snapshot.processes.is_some(), "{file}");
            }
        }
    }
}

#[test]
fn what_a_host_does_not_have_is_no_error() {
    let (_directory, roots) = scratch("linux-6.18");
    for gone in [
        "pressure",
        "net/sockstat6",
        "net/snmp6",
        "net/softnet_stat",
        "sys/net/netfilter",
        "net/stat",
    ] {
        let path = roots.proc.join(gone);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
    }
    let (snapshot, _) = host(&roots, "").sample(at(0));
    assert_eq!(snapshot.errors, []);
    assert_eq!(
        (snapshot.pressure, snapshot.softnet, snapshot.conntrack),
        (None, None, None)
    );
    assert!(snapshot.sockets.unwrap().tcp.is_some());
}

#[test]
fn parts_disks_and_interfaces_can_be_left_out() {
    let section = "without = [\"cpu\"]\ndisks_exclude = []\npartitions = true\ninterfaces_exclude = [\"ifb?\"]";
    let (snapshot, _) = host(&fixture("linux-6.18"), section).sample(at(0));
    assert_eq!((snapshot.cpu, snapshot.errors), (None, vec![]));
    let disks = snapshot.disks.unwrap();
    assert!(
        disks.devices.iter().any(|disk| disk.name == "vda1")
            && disks.devices.iter().any(|disk| disk.name == "loop0")
    );
    assert_eq!(disks.skipped, 0);
    let network = snapshot.network.unwrap();
    assert_eq!((network.interfaces.len(), network.skipped), (2, 2));
}

/// Two runs over a tree that `edit` changes in between: the first gives no changes, the second those of `topics`, and
/// a third, with nothing changed, none.
fn check_changes(
    name: &str,
    before: impl Fn(&HostRoots),
    edit: impl Fn(&HostRoots),
    topics: &[(&str, &str)],
) {
    let (_directory, roots) = scratch("linux-6.18");
    before(&roots);
    let mut host = host(&roots, "");
    assert_eq!(host.sample(at(0)).1, [], "{name}: first run");
    edit(&roots);
    let (snapshot, changes) = host.sample(at(10));
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change.topic, change.key.as_str()))
        // How full the disk of this machine is, is not the test's.
        .filter(|(topic, _)| !topic.starts_with("host.filesystem.usage"))
        .collect();
    assert_eq!(told, topics, "{name}: {:?}", snapshot.errors);
    for change in &changes {
        assert!(
            muster_proto::event::is_topic(change.topic),
            "{}",
            change.topic
        );
        assert_ne!(change.before, change.after, "{name}");
    }
    assert_eq!(host.sample(at(20)).1, [], "{name}: told twice");
}

fn replace(path: PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{}: {text}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

/// What puts one file of a tree to `text`.
fn write(file: &'static str, text: &'static str) -> impl Fn(&HostRoots) {
    move |roots| fs::write(roots.root.join(file), text).unwrap()
}

/// What replaces `from` in one file of a tree.
fn edit(file: &'static str, from: &'static str, to: &'static str) -> impl Fn(&HostRoots) {
    move |roots| replace(roots.root.join(file), from, to)
}

/// What renames one file of a tree.
fn rename(from: &'static str, to: &'static str) -> impl Fn(&HostRoots) {
    move |roots| fs::rename(roots.root.join(from), roots.root.join(to)).unwrap()
}

fn nothing(_: &HostRoots) {}

#[test]
fn changes_of_interfaces_are_told_once() {
    let state = |state| write("sys/class/net/eth0/operstate", state);
    let (down, up) = (
        [("host.interface.down", "eth0")],
        [("host.interface.up", "eth0")],
    );
    check_changes("down", nothing, state("down\n"), &down);
    check_changes("lower layer", nothing, state("lowerlayerdown\n"), &down);
    check_changes("up", state("dormant"), state("up"), &up);
    check_changes("unknown is not down", nothing, state("unknown"), &[]);
    let renamed = [
        ("host.interface.added", "eth9"),
        ("host.interface.removed", "ifb1"),
    ];
    check_changes(
        "renamed",
        nothing,
        edit("proc/net/dev", "ifb1", "eth9"),
        &renamed,
    );
    let (gone, back) = (rename("proc/net/dev", "dev"), rename("dev", "proc/net/dev"));
    check_changes("the file is gone", nothing, &gone, &[]);
    check_changes("the file is back", &gone, &back, &[]);
}

#[test]
fn changes_of_the_rest_are_told_once() {
    let killed = [("host.oom.kill", "host")];
    check_changes(
        "killed",
        nothing,
        edit("proc/vmstat", "oom_kill 0", "oom_kill 2"),
        &killed,
    );
    let table = |count| write("proc/sys/net/netfilter/nf_conntrack_count", count);
    let full = [("host.conntrack.usage.warning", "conntrack")];
    check_changes("table fills", nothing, table("240000"), &full);
    let normal = [("host.conntrack.usage.normal", "conntrack")];
    check_changes("table empties", table("240000"), table("9"), &normal);
    check_changes(
        "table stays near the limit",
        table("240000"),
        table("234000"),
        &[],
    );
    let (rw, ro) = ("/dev/vda rw,", "/dev/vda ro,");
    let (stop, go) = (
        edit("proc/1/mountinfo", rw, ro),
        edit("proc/1/mountinfo", ro, rw),
    );
    check_changes(
        "read-only",
        nothing,
        &stop,
        &[("host.filesystem.readonly", "/")],
    );
    check_changes("writable", &stop, &go, &[("host.filesystem.writable", "/")]);
}

#[test]
fn hidden_process_one_falls_back_to_our_own_mounts() {
    let (_directory, roots) = scratch("linux-6.18");
    fs::rename(roots.proc.join("1"), roots.proc.join("4711")).unwrap();
    symlink("4711", roots.proc.join("self")).unwrap();
    let (snapshot, _) = host(&roots, "").sample(at(0));
    assert_eq!(snapshot.errors, []);
    assert_eq!(snapshot.filesystems.unwrap().mounts.len(), 1);
}

#[test]
fn the_real_host() {
    let mut host = host(&HostRoots::default(), "");
    let first = host.collect(at(0)).unwrap();
    assert_eq!(first.changes, []);
    let (snapshot, _) = host.sample(at(10));
    let value = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(
        serde_json::from_value::<HostSnapshot>(value).unwrap(),
        snapshot,
        "reads back as it was"
    );
    let memory = snapshot.memory.unwrap();
    assert!(memory.available_bytes <= memory.total_bytes && memory.total_bytes > 0);
    let processes = snapshot.processes.unwrap();
    let alive = u64::from(processes.total - processes.zombie);
    assert!(alive >= 1 && processes.threads >= alive, "{processes:?}");
    assert_eq!(
        u64::try_from(snapshot.cpu.unwrap().cores.len()).unwrap(),
        u64::try_from(std::thread::available_parallelism().unwrap().get())
            .unwrap()
            .max(1)
    );
}

/// Figures and names as they stand in these files, put together wrongly.
fn nearly() -> impl Strategy<Value = String> {
    let words = "(cpu[0-9]?|some|full|total=|avg10=|eth0:|Tcp:|TcpExt:|MemTotal:|sda|-|/|\\\\040|[0-9]{1,21}|[a-f0-9]{8}|\\(x\\)|R|:|=|[ \\n]|\\PC)";
    prop::collection::vec(words, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_parser_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), text in nearly()) {
        let lossy = String::from_utf8_lossy(&bytes);
        for text in [lossy.as_ref(), text.as_str()] {
            let _ = cpu::parse(text);
            let _ = memory::parse(text);
            memory::parse_vmstat(text, 4096, &mut Memory::default());
            let _ = load::parse(text);
            let _ = pressure::parse(text);
            let _ = disks::parse(text);
            let _ = mounts::parse(text.as_bytes());
            let _ = network::parse(text);
            sockets::parse_sockstat(text, 4096, &mut Sockets::default());
            sockets::parse_snmp(text, &mut Sockets::default());
            sockets::parse_netstat(text, &mut Sockets::default());
            sockets::parse_snmp6(text, &mut Sockets::default());
            let _ = sockets::parse_file_nr(text);
            let _ = conntrack::parse_figure(text);
            conntrack::parse_stat(text, &mut Default::default());
            let _ = softnet::parse(text);
            let _ = uptime::parse(text);
            let _ = processes::parse(text.as_bytes());
        }
        let _ = mounts::parse(&bytes);
        let _ = processes::parse(&bytes);
    }

    #[test]
    fn a_tree_cut_anywhere_never_stops_the_collector(file in 0_usize..20, keep in 0_usize..3000) {
        let (_directory, roots) = scratch("linux-6.18");
        let files = ["stat", "meminfo", "vmstat", "loadavg", "uptime", "diskstats", "net/dev", "net/sockstat", "net/sockstat6",
            "net/snmp", "net/snmp6", "net/netstat", "net/softnet_stat", "sys/fs/file-nr", "pressure/cpu", "1/mountinfo",
            "1/stat", "net/stat/nf_conntrack", "sys/net/netfilter/nf_conntrack_max", "sys/kernel/random/boot_id"];
        let mut host = host(&roots, "");
        host.sample(at(0));
        let path = roots.proc.join(files[file]);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..keep.min(bytes.len())]).unwrap();
        let (snapshot, changes) = host.sample(at(10));
        prop_assert!(snapshot.errors.iter().all(|error| !error.error.contains("panicked")), "{:?}", snapshot.errors);
        prop_assert!(changes.iter().all(|change| change.topic.starts_with("host.interface.")), "{:?}", changes);
        prop_assert!(serde_json::to_value(&snapshot).is_ok());
    }
}
