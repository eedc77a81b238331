//! The filesystems part over tables of mounts, with sizes and hangs that the tests choose.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use muster_proto::snapshot::host::HostSnapshot;

use super::super::super::files::Files;
use super::super::super::{Change, HostRoots, SampleTime};
use super::*;

fn part(prober: Prober) -> FilesystemsPart {
    let section = "network_filesystems = true\nfilesystem_deadline = \"100ms\""
        .parse()
        .unwrap();
    FilesystemsPart {
        prober,
        ..FilesystemsPart::new(&Config::parse(&section, &[]).unwrap())
    }
}

/// One run over a table of mounts.
fn sample(part: &mut FilesystemsPart, mounts: &str) -> (HostSnapshot, Vec<Change>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("proc/1")).unwrap();
    std::fs::write(directory.path().join("proc/1/mountinfo"), mounts).unwrap();
    let roots = HostRoots {
        root: "/".into(),
        ..HostRoots::at(directory.path())
    };
    let (mut snapshot, mut changes) = (HostSnapshot::default(), Vec::new());
    let mut run = Run {
        roots: &roots,
        files: &mut Files::default(),
        now: SampleTime {
            wall_ms: 0,
            mono_ms: 0,
        },
        part: "filesystems",
        snapshot: &mut snapshot,
        changes: &mut changes,
    };
    part.sample(&mut run).unwrap();
    (snapshot, changes)
}

const LOCAL: &str = "27 1 254:0 / / rw - ext4 /dev/vda rw\n";
const REMOTE_MOUNTS: &str =
    "28 27 0:50 / /dead rw - nfs4 srv:/a rw\n29 27 0:51 / /alive rw - cifs //srv/b rw\n";

#[test]
fn usage_as_df_shows_it() {
    let mount = Mount {
        fs_type: "ext4".into(),
        ..mounts::parse(LOCAL.as_bytes()).items.pop().unwrap()
    };
    let space = Space {
        block_bytes: 4096,
        blocks: 1000,
        blocks_free: 300,
        blocks_available: 250,
        inodes: 0,
        inodes_free: 0,
    };
    let shown = filesystem(&mount, &space);
    assert_eq!(
        (shown.size_bytes, shown.free_bytes, shown.available_bytes),
        (4_096_000, 1_228_800, 1_024_000)
    );
    assert_eq!(
        (shown.used_percent, shown.inodes_used_percent),
        (73.684, None),
        "700 of 950"
    );
    let full = Space {
        blocks: u64::MAX,
        blocks_free: 0,
        blocks_available: 0,
        ..space
    };
    assert_eq!(filesystem(&mount, &full).used_percent, 100.0);
    assert_eq!(filesystem(&mount, &Space::default()).used_percent, 0.0);
}

#[test]
fn running_full_and_back_with_the_inodes_counting_too() {
    let fill = Arc::new(Mutex::new(Space::default()));
    let fill_ = Arc::clone(&fill);
    let mut part = part(Prober::asking(Arc::new(move |_: &Path| {
        Ok(*fill_.lock().unwrap())
    })));
    for (used, inodes_used, topic) in [
        (91, 0, None), // the first run tells nothing
        (91, 0, None),
        (96, 0, Some("host.filesystem.usage.critical")),
        (94, 0, None),
        (92, 0, Some("host.filesystem.usage.warning")),
        (50, 96, Some("host.filesystem.usage.critical")),
        (50, 10, Some("host.filesystem.usage.normal")),
        (50, 10, None),
    ] {
        let (blocks, inodes) = (100, 100);
        let (blocks_free, inodes_free) = (blocks - used, inodes - inodes_used);
        *fill.lock().unwrap() = Space {
            block_bytes: 1,
            blocks,
            blocks_free,
            blocks_available: blocks_free,
            inodes,
            inodes_free,
        };
        let (_, changes) = sample(&mut part, LOCAL);
        assert_eq!(
            changes.iter().map(|change| change.topic).next(),
            topic,
            "{used} {inodes_used}"
        );
        assert!(changes.len() <= 1);
    }
}

#[test]
fn a_dead_server_is_told_once_and_the_others_are_shown() {
    let gate = Arc::new((Mutex::new(true), Condvar::new())); // open
    let gate_ = Arc::clone(&gate);
    let mut part = part(Prober::asking(Arc::new(move |path: &Path| {
        if path == Path::new("/dead") {
            drop(
                gate_
                    .1
                    .wait_while(gate_.0.lock().unwrap(), |open| !*open)
                    .unwrap(),
            );
        }
        Ok(Space {
            block_bytes: 1,
            blocks: 10,
            blocks_free: 5,
            blocks_available: 5,
            ..Space::default()
        })
    })));
    part.deadline = Duration::from_secs(60);
    let table = format!("{REMOTE_MOUNTS}{LOCAL}");
    let names = |snapshot: &HostSnapshot| {
        let mounts = &snapshot.filesystems.as_ref().unwrap().mounts;
        mounts
            .iter()
            .map(|mount| mount.mount_point.clone())
            .collect::<Vec<_>>()
    };
    let topics = |changes: &[Change]| {
        changes
            .iter()
            .map(|change| (change.topic, change.key.clone()))
            .collect::<Vec<_>>()
    };
    let (snapshot, changes) = sample(&mut part, &table);
    assert_eq!(
        (names(&snapshot), topics(&changes)),
        (vec!["/".into(), "/dead".into(), "/alive".into()], vec![])
    );

    *gate.0.lock().unwrap() = false;
    part.deadline = Duration::from_secs(3); // what hangs does so for ever, what answers has all that time
    for run in 0..3 {
        let (snapshot, changes) = sample(&mut part, &table);
        assert_eq!(names(&snapshot), ["/", "/alive"], "run {run}");
        assert_eq!(snapshot.filesystems.unwrap().hung, ["/dead"]);
        assert_eq!(snapshot.errors.len(), 1, "{:?}", snapshot.errors);
        let told = if run == 0 {
            vec![("host.filesystem.hung", "/dead".to_owned())]
        } else {
            vec![]
        };
        assert_eq!(topics(&changes), told, "run {run}");
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    part.deadline = Duration::from_secs(60);
    let begun = std::time::Instant::now();
    let changes = loop {
        let (_, changes) = sample(&mut part, &table);
        if !changes.is_empty() || begun.elapsed() > part.deadline {
            break changes;
        }
    };
    assert_eq!(
        topics(&changes),
        [("host.filesystem.answers", "/dead".to_owned())]
    );
}

#[test]
fn each_filesystem_once_and_what_is_hidden_not_at_all() {
    let ask = Arc::new(|_: &Path| {
        Ok(Space {
            block_bytes: 1,
            blocks: 10,
            ..Space::default()
        })
    });
    let table = "\
        1 1 0:1 / / rw - rootfs rootfs rw\n\
        2 1 8:1 / / rw - overlay overlay rw\n\
        3 2 8:2 / /data rw - ext4 /dev/old rw\n\
        4 2 8:3 / /data rw - ext4 /dev/new rw\n\
        5 2 8:3 /sub /bind rw - ext4 /dev/new rw\n\
        6 2 0:9 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\
        7 2 0:8 / /var/lib/docker/y rw - ext4 /dev/y rw\n\
        8 2 0:7 / /proc rw - proc proc rw\n";
    let (snapshot, _) = sample(&mut part(Prober::asking(ask)), table);
    let filesystems = snapshot.filesystems.unwrap();
    let shown: Vec<_> = filesystems
        .mounts
        .iter()
        .map(|mount| (mount.mount_point.as_str(), mount.source.as_str()))
        .collect();
    assert_eq!(shown, [("/", "overlay"), ("/data", "/dev/new")]);
    assert_eq!(filesystems.skipped, 6);
}
