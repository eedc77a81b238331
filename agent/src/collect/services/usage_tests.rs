use std::fs;

use tempfile::TempDir;

use super::*;

struct Host {
    directory: TempDir,
    roots: HostRoots,
}

impl Host {
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let roots = HostRoots::at(directory.path());
        Self { directory, roots }
    }

    fn read(&self, group: &str) -> Option<Reading> {
        read(&Hierarchy::find(&self.roots), group, &mut Files::default())
    }
}

const NGINX: &str = "/system.slice/nginx.service";

#[test]
fn one_hierarchy_for_everything() {
    let host = Host::with(&[
        ("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n"),
        (
            "sys/fs/cgroup/system.slice/nginx.service/memory.current",
            "4096\n",
        ),
        (
            "sys/fs/cgroup/system.slice/nginx.service/memory.max",
            "max\n",
        ),
        (
            "sys/fs/cgroup/system.slice/nginx.service/pids.current",
            "3\n",
        ),
        ("sys/fs/cgroup/system.slice/nginx.service/pids.max", "100\n"),
        (
            "sys/fs/cgroup/system.slice/nginx.service/cpu.stat",
            "usage_usec 5000\nuser_usec 4000\nsystem_usec 1000\nnr_periods 0\nthrottled_usec 7\n",
        ),
        (
            "sys/fs/cgroup/system.slice/nginx.service/io.stat",
            "8:0 rbytes=1 wbytes=20 rios=3 wios=4 dbytes=5 dios=6\n8:16 rbytes=2 wbytes=30\n7:0 \n",
        ),
        (
            "sys/fs/cgroup/system.slice/nginx.service/cgroup.procs",
            "10\n11\n",
        ),
        (
            "sys/fs/cgroup/system.slice/nginx.service/sub/cgroup.procs",
            "12\n",
        ),
    ]);
    let reading = host.read(NGINX).unwrap();
    let Usage {
        memory_bytes,
        memory_peak_bytes,
        memory_max_bytes,
        swap_bytes,
        tasks,
        tasks_max,
        processes,
        ..
    } = reading.usage;
    assert_eq!(
        (
            memory_bytes,
            memory_peak_bytes,
            memory_max_bytes,
            swap_bytes
        ),
        (Some(4096), None, None, None)
    );
    assert_eq!((tasks, tasks_max, processes), (Some(3), Some(100), Some(3)));
    let want = Counts {
        cpu_us: Some(5000),
        throttled_us: Some(7),
        read_bytes: Some(3),
        written_bytes: Some(50),
    };
    assert_eq!(reading.counts, want);
    assert_eq!(reading.pids, Some(vec![10, 11, 12]));
    for absent in [
        "/system.slice/gone.service",
        "",
        "/",
        "/../../etc",
        "system.slice",
    ] {
        assert_eq!(host.read(absent), None, "{absent}");
    }
}

#[test]
fn one_hierarchy_for_each_controller() {
    let host = Host::with(&[
        (
            "sys/fs/cgroup/systemd/system.slice/nginx.service/cgroup.procs",
            "10\n",
        ),
        (
            "sys/fs/cgroup/memory/system.slice/nginx.service/memory.usage_in_bytes",
            "4096\n",
        ),
        (
            "sys/fs/cgroup/memory/system.slice/nginx.service/memory.max_usage_in_bytes",
            "8192\n",
        ),
        (
            "sys/fs/cgroup/memory/system.slice/nginx.service/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        (
            "sys/fs/cgroup/memory/system.slice/nginx.service/memory.memsw.usage_in_bytes",
            "5096\n",
        ),
        (
            "sys/fs/cgroup/cpu,cpuacct/system.slice/nginx.service/cpuacct.usage",
            "7000123\n",
        ),
        (
            "sys/fs/cgroup/cpu,cpuacct/system.slice/nginx.service/cpu.stat",
            "nr_periods 0\nthrottled_time 3000\n",
        ),
        (
            "sys/fs/cgroup/blkio/system.slice/nginx.service/blkio.throttle.io_service_bytes",
            "8:0 Read 100\n8:0 Write 7\n8:0 Total 107\n8:16 Read 1\nTotal 108\n",
        ),
    ]);
    let reading = host.read(NGINX).unwrap();
    let Usage {
        memory_bytes,
        memory_peak_bytes,
        memory_max_bytes,
        swap_bytes,
        tasks,
        processes,
        ..
    } = reading.usage;
    assert_eq!(
        (
            memory_bytes,
            memory_peak_bytes,
            memory_max_bytes,
            swap_bytes
        ),
        (Some(4096), Some(8192), None, Some(1000))
    );
    assert_eq!(
        (tasks, processes),
        (None, Some(1)),
        "without accounting there is no such group"
    );
    let want = Counts {
        cpu_us: Some(7000),
        throttled_us: Some(3),
        read_bytes: Some(101),
        written_bytes: Some(7),
    };
    assert_eq!(reading.counts, want);
}

#[test]
fn counts_become_rates() {
    let reading = |cpu_us| Reading {
        counts: Counts {
            cpu_us: Some(cpu_us),
            ..Counts::default()
        },
        ..Reading::default()
    };
    assert_eq!(rated(&reading(5), None, 0).cpu_percent, None);
    let before = Seen {
        mono_ms: 1000,
        value: reading(1_000_000).counts,
    };
    let usage = rated(&reading(1_500_000), Some(&before), 3000);
    assert_eq!(
        usage.cpu_us,
        Some(Counter {
            total: 1_500_000,
            per_s: Some(250_000.0)
        })
    );
    assert_eq!((usage.cpu_percent, usage.read_bytes), (Some(25.0), None));
    assert_eq!(
        rated(&reading(10), Some(&before), 3000).cpu_percent,
        None,
        "it began anew"
    );
}

#[test]
fn sockets_are_counted_within_bounds() {
    let host = Host::with(&[("proc/10/stat", ""), ("proc/11/stat", "")]);
    for (pid, fd, target) in [
        ("10", "0", "/dev/null"),
        ("10", "1", "socket:[1]"),
        ("11", "0", "socket:[2]"),
        ("11", "1", "anon_inode:[eventpoll]"),
    ] {
        let directory = host.directory.path().join("proc").join(pid).join("fd");
        fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::symlink(target, directory.join(fd)).unwrap();
    }
    let mut left = 10;
    assert_eq!(sockets(&host.roots, &[10, 11, 12], &mut left), Some(2));
    assert_eq!(left, 6);
    assert_eq!(sockets(&host.roots, &[10, 11], &mut 3), None);
}

#[test]
fn odd_figures_are_none() {
    for (text, want) in [
        ("max\n", None),
        ("-1", None),
        ("", None),
        ("18446744073709551615", None),
        (" 7\n", Some(7)),
    ] {
        assert_eq!(number(text), want, "{text:?}");
    }
    assert_eq!(keyed("a\nb 1\nb x\n", "b"), Some(1));
    assert_eq!(io("8:0 rbytes=x wbytes=18446744073709551615"), (0, 0));
    assert_eq!(blkio("8:0 Read\nRead 1\n\n"), (0, 0));
}
