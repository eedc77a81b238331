//! The whole collector against a tree of files in the place of `/proc`, with what keepalived 2.2.7 wrote in the private
//! `/tmp` of its processes. No signal is sent: what happens on one is tried with a real keepalived.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use muster_proto::snapshot::keepalived::VrrpState;

use super::super::HostRoots;
use super::*;

const DATA: &str = include_str!("../../../fixtures/keepalived/2.2.7/keepalived.data");
const CHECK: &str = include_str!("../../../fixtures/keepalived/2.2.7/keepalived_check.data");
const STATS: &str = include_str!("../../../fixtures/keepalived/2.2.7/keepalived.stats");

struct Host {
    directory: tempfile::TempDir,
    /// Files that were written.
    writes: Cell<u32>,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            directory: tempfile::tempdir().unwrap(),
            writes: Cell::new(0),
        };
        host.write("proc/stat", "cpu 1 2 3\nbtime 1795000000\n");
        host.write("run/empty", "");
        host.write("usr/sbin/keepalived", "");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
        // The clock of files stands still for milliseconds: what is written later must be later by it, too.
        self.writes.set(self.writes.get() + 1);
        let later = SystemTime::now() + Duration::from_millis(10) * self.writes.get();
        let file = fs::File::options().write(true).open(self.path(name));
        file.unwrap().set_modified(later).unwrap();
    }

    /// A process; `command` is its command line with blanks.
    fn process(&self, pid: u32, ppid: u32, ticks: u64, command: &str) {
        let zeros = "0 ".repeat(17);
        let stat = format!("{pid} (keepalived) S {ppid} {zeros}{ticks} 9 5 0\n");
        self.write(&format!("proc/{pid}/stat"), &stat);
        self.write(&format!("proc/{pid}/cmdline"), &command.replace(' ', "\0"));
        self.write(&format!("proc/{pid}/environ"), "A=b\0");
        _ = symlink(
            self.path("usr/sbin/keepalived"),
            self.path(&format!("proc/{pid}/exe")),
        );
        _ = symlink(
            self.path(&format!("private/{ppid}")),
            self.path(&format!("proc/{pid}/root")),
        );
    }

    /// A parent with two children, whose files are in a private `/tmp`.
    fn keepalived(&self, pid: u32, config: &str) {
        let command = format!(
            "/usr/sbin/keepalived -D -f {config} -r /run/v{pid} --checkers_pid=/run/c{pid}"
        );
        self.process(pid, 1, 1000, &command);
        self.family(pid, pid + 1, pid + 2, &command);
        let root = self.path(&format!("proc/{pid}/root"));
        fs::remove_file(&root).unwrap();
        symlink(self.path(&format!("private/{pid}")), root).unwrap();
    }

    fn family(&self, pid: u32, vrrp: u32, checker: u32, command: &str) {
        self.process(vrrp, pid, 1001, command);
        self.process(checker, pid, 1001, command);
        self.write(&format!("run/v{pid}"), &format!("{vrrp}\n"));
        self.write(&format!("run/c{pid}"), &format!("{checker}\n"));
        self.write(
            &format!("proc/{pid}/task/{pid}/children"),
            &format!("{checker} {vrrp} "),
        );
    }

    fn remove(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
    }

    fn collector(&self, section: &str) -> Keepalived {
        let context = CollectContext {
            roots: HostRoots::at(self.directory.path()),
            section: format!("signals = false\n{section}").parse().unwrap(),
            ..CollectContext::default()
        };
        Keepalived::new(&context).unwrap()
    }
}

fn at(seconds: u64) -> SampleTime {
    SampleTime {
        wall_ms: 1_795_000_000_000 + seconds * 1000,
        mono_ms: 50_000 + seconds * 1000,
    }
}

fn topics(changes: &[Change]) -> Vec<String> {
    let said = changes
        .iter()
        .map(|change| format!("{} {}", change.topic, change.key));
    said.collect()
}

#[test]
fn a_host_without_keepalived_shows_none() {
    let host = Host::new();
    host.process(7, 1, 5, "/usr/bin/other");
    fs::remove_file(host.path("proc/7/exe")).unwrap();
    symlink("/usr/bin/other", host.path("proc/7/exe")).unwrap();
    let (snapshot, changes) = host.collector("").sample(at(0));
    assert_eq!((snapshot.daemons, snapshot.errors), (vec![], vec![]));
    assert_eq!(topics(&changes), Vec::<String>::new());
}

#[test]
fn processes_files_and_what_becomes_of_them() {
    let host = Host::new();
    host.keepalived(100, "/etc/k.conf");
    host.write("private/100/tmp/keepalived.data", DATA);
    host.write("private/100/tmp/keepalived_check.data", CHECK);
    host.write("private/100/tmp/keepalived.stats", STATS);
    let mut collector = host.collector("");
    let (snapshot, changes) = collector.sample(at(0));
    assert_eq!(topics(&changes), Vec::<String>::new());
    assert_eq!(snapshot.errors, []);
    let daemon = snapshot.daemons.first().unwrap();
    assert_eq!((daemon.name.as_str(), daemon.running), ("keepalived", true));
    assert_eq!(daemon.config_file.as_deref(), Some("/etc/k.conf"));
    let roles = daemon
        .processes
        .iter()
        .map(|process| (process.pid, process.role.as_str()));
    assert_eq!(
        roles.collect::<Vec<_>>(),
        [(100, "parent"), (102, "checker"), (101, "vrrp")]
    );
    let started = daemon.processes.first().unwrap().started_ms.unwrap();
    assert!((1_795_000_000_000..1_795_000_100_000).contains(&started));
    let instance = daemon.vrrp.as_ref().unwrap().first().unwrap();
    assert_eq!(
        (instance.name.as_str(), instance.state),
        ("VI_1", VrrpState::Master)
    );
    assert_eq!(instance.counters.as_ref().unwrap().adverts_sent, Some(48));
    let servers = daemon.virtual_servers.as_ref().unwrap();
    assert_eq!(servers.first().unwrap().alive, Some(2));
    assert!(daemon.dumps.vrrp_at_ms.is_some() && !daemon.dumps.late);

    host.remove(101);
    host.family(
        100,
        111,
        102,
        "/usr/sbin/keepalived -f /etc/k.conf -r /run/v100 -c /run/c100",
    );
    host.write(
        "private/100/tmp/keepalived.data",
        &DATA.replacen("State = MASTER", "State = FAULT", 1),
    );
    let (snapshot, changes) = collector.sample(at(10));
    let told = [
        "keepalived.process.respawned vrrp",
        "keepalived.vrrp.fault VI_1",
    ];
    assert_eq!(topics(&changes), told);
    assert_eq!(snapshot.daemons.first().unwrap().respawns, 1);

    for pid in [100, 102, 111] {
        host.remove(pid);
    }
    let (snapshot, changes) = collector.sample(at(20));
    assert_eq!(topics(&changes), ["keepalived.process.stopped keepalived"]);
    let daemon = snapshot.daemons.first();
    assert!(daemon.is_none_or(|daemon| !daemon.running && daemon.vrrp.is_none()));

    host.keepalived(200, "/etc/k.conf");
    let (snapshot, changes) = collector.sample(at(90));
    assert_eq!(topics(&changes), ["keepalived.process.started keepalived"]);
    assert!(snapshot.daemons.first().unwrap().running);
}

#[test]
fn a_child_that_stays_away_is_told_once() {
    let host = Host::new();
    let mut collector = host.collector("");
    collector.sample(at(0));
    host.keepalived(100, "/etc/keepalived/keepalived.conf");
    let (_, changes) = collector.sample(at(60));
    assert_eq!(topics(&changes), ["keepalived.process.started keepalived"]);
    host.remove(101);
    host.write("proc/100/task/100/children", "102 ");
    let mut told = Vec::new();
    for seconds in [62, 64, 66, 68, 70, 80] {
        told.extend(topics(&collector.sample(at(seconds)).1));
    }
    assert_eq!(told, ["keepalived.process.stopped vrrp"]);
    let command = "/usr/sbin/keepalived -r /run/v100 -c /run/c100";
    host.family(100, 121, 102, command);
    let (snapshot, changes) = collector.sample(at(82));
    assert_eq!(topics(&changes), ["keepalived.process.respawned vrrp"]);
    assert_eq!(snapshot.daemons.first().unwrap().respawns, 1);
}

#[test]
fn several_are_told_apart() {
    let host = Host::new();
    host.keepalived(100, "/etc/one.conf");
    host.keepalived(200, "/etc/two.conf");
    host.write("run/two.pid", "200\n");
    host.write("run/one.pid", "100\n");
    let names = |collector: &mut Keepalived| {
        let (snapshot, _) = collector.sample(at(0));
        let named = snapshot.daemons.iter().map(|daemon| {
            let parent = daemon.processes.first().unwrap().pid;
            (daemon.name.clone(), parent)
        });
        named.collect::<Vec<_>>()
    };
    let found = names(&mut host.collector(""));
    assert_eq!(
        found,
        [("keepalived".to_owned(), 100), ("two".to_owned(), 200)]
    );
    let section =
        "[daemons.b]\npid_file = \"/run/two.pid\"\n[daemons.a]\npid_file = \"/run/one.pid\"";
    let found = names(&mut host.collector(section));
    assert_eq!(found, [("a".to_owned(), 100), ("b".to_owned(), 200)]);
    let found = names(&mut host.collector("pid_file = \"/run/two.pid\""));
    assert_eq!(found, [("keepalived".to_owned(), 200)]);
}

#[test]
fn files_that_are_no_dumps_are_errors_and_not_downs() {
    let host = Host::new();
    host.keepalived(100, "/etc/k.conf");
    host.write("private/100/tmp/keepalived.data", DATA);
    let mut collector = host.collector("");
    collector.sample(at(0));
    host.write("private/100/tmp/keepalived.data", "nonsense\n");
    let (snapshot, changes) = collector.sample(at(10));
    assert_eq!(topics(&changes), Vec::<String>::new());
    assert_eq!(snapshot.errors.len(), 1);
    let daemon = snapshot.daemons.first().unwrap();
    assert_eq!(daemon.vrrp.as_ref().unwrap().len(), 2);
}
