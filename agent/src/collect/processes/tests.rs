use std::fs;

use tempfile::TempDir;

use super::*;

struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        host.put("proc/stat", "btime 1700000000\n");
        host
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, pid: u32, name: &str, exe: &str, cmdline: &str, started: u64) {
        let tail = "1 1 1 0 -1 4194560 0 0 0 0 10 20 0 0 20 0 5 0";
        self.put(
            &format!("proc/{pid}/stat"),
            &format!("{pid} ({name}) S {tail} {started} 4096 7 0\n"),
        );
        self.put(&format!("proc/{pid}/cmdline"), &cmdline.replace(' ', "\0"));
        self.put(&format!("proc/{pid}/fd/0"), "");
        self.put(
            &format!("proc/{pid}/limits"),
            "Max open files            1024                 4096                 files\n",
        );
        std::os::unix::fs::symlink(exe, self.0.path().join(format!("proc/{pid}/exe"))).unwrap();
    }

    fn end(&self, pid: u32) {
        fs::remove_dir_all(self.0.path().join(format!("proc/{pid}"))).unwrap();
    }

    fn watch(&self, section: &str) -> Processes {
        Processes::new(&CollectContext {
            roots: HostRoots::at(self.0.path()),
            section: section.parse().unwrap(),
            ..CollectContext::default()
        })
        .unwrap()
    }
}

fn at(seconds: u64) -> SampleTime {
    SampleTime {
        wall_ms: 1_700_000_100_000 + seconds * 1000,
        mono_ms: seconds * 1000,
    }
}

const SECTION: &str = r#"
[[watch]]
name = "by command"
command = "^cod4$"
[[watch]]
name = "by program"
exe = "^/opt/cs/hlds$"
[[watch]]
name = "by command line"
cmdline = "-port 27016$"
[[watch]]
name = "by pidfile"
pidfile = "/run/cod4.pid"
command = "cod4"
"#;

fn pids(snapshot: &ProcessesSnapshot) -> Vec<Option<u32>> {
    snapshot
        .watches
        .iter()
        .map(|watch| watch.main.as_ref().map(|main| main.pid))
        .collect()
}

#[test]
fn each_way_finds_its_process() {
    let host = Host::new();
    host.run(
        10,
        "cod4",
        "/opt/cod4/cod4",
        "cod4 +set net_port 28960",
        500,
    );
    host.run(
        11,
        "hlds",
        "/opt/cs/hlds (deleted)",
        "hlds -port 27015",
        600,
    );
    host.run(12, "hlds", "/opt/cs2/hlds", "hlds -port 27016", 700);
    host.run(13, "bash", "/bin/bash", "bash", 800);
    host.put("run/cod4.pid", "10\n");
    let mut processes = host.watch(SECTION);
    let (snapshot, changes) = processes.sample(at(0));
    assert_eq!(pids(&snapshot), [Some(10), Some(11), Some(12), Some(10)]);
    assert_eq!((snapshot.down, changes.len()), (0, 0));
    assert_eq!(snapshot.errors, Vec::<String>::new());
    let watch = snapshot.watches.first().unwrap();
    let main = watch.main.as_ref().unwrap();
    assert_eq!(
        (main.threads, main.open_files, main.open_files_max),
        (5, Some(1), Some(1024))
    );
    assert_eq!(
        main.started_ms,
        1_700_000_000_000 + 500 * 1000 / procfs::ticks_per_second()
    );
    assert_eq!(watch.open_files, Some(1));
}

#[test]
fn what_happens_to_them_is_told() {
    let host = Host::new();
    host.run(10, "cod4", "/opt/cod4/cod4", "cod4", 500);
    host.put("run/cod4.pid", "10\n");
    let mut processes = host.watch(SECTION);
    _ = processes.sample(at(0));
    host.end(10);
    let told = |changes: Vec<Change>| -> Vec<String> {
        changes
            .into_iter()
            .map(|change| format!("{}: {}", change.topic, change.summary))
            .collect()
    };
    let (snapshot, changes) = processes.sample(at(10));
    assert_eq!(
        told(changes),
        [
            "process.stopped: by command is gone",
            "process.stopped: by pidfile is gone: the pidfile /run/cod4.pid names process 10, which is gone",
        ]
    );
    assert_eq!(snapshot.down, 4);
    // Its process id is another program's by now.
    host.run(10, "bash", "/bin/bash", "bash", 900);
    let (snapshot, changes) = processes.sample(at(20));
    assert_eq!(told(changes), Vec::<String>::new());
    let note = snapshot.watches.last().unwrap().note.clone().unwrap();
    assert!(note.contains("another program: bash"), "{note}");
    host.run(20, "cod4", "/opt/cod4/cod4", "cod4", 1000);
    host.put("run/cod4.pid", "20\n");
    let (snapshot, changes) = processes.sample(at(30));
    assert_eq!(
        told(changes),
        [
            "process.started: by command runs",
            "process.started: by pidfile runs"
        ]
    );
    assert_eq!(pids(&snapshot), [Some(20), None, None, Some(20)]);
}

#[test]
fn a_process_of_this_machine() {
    let pid = std::process::id();
    let directory = tempfile::tempdir().unwrap();
    let pidfile = directory.path().join("x.pid");
    fs::write(&pidfile, pid.to_string()).unwrap();
    let section = format!(
        "[[watch]]\nname = \"me\"\npidfile = {:?}",
        pidfile.to_str().unwrap()
    );
    let context = CollectContext {
        section: section.parse().unwrap(),
        ..CollectContext::default()
    };
    let (snapshot, _) = Processes::new(&context).unwrap().sample(SampleTime {
        wall_ms: u64::try_from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_millis(),
        )
        .unwrap(),
        mono_ms: 0,
    });
    let watch = snapshot.watches.first().unwrap();
    let main = watch.main.as_ref().unwrap();
    assert_eq!(main.pid, pid);
    assert!(
        main.rss_bytes > 0 && main.threads > 0 && main.age_s < 3600,
        "{main:?}"
    );
    assert!(main.open_files.unwrap() >= 3, "{main:?}");
}
