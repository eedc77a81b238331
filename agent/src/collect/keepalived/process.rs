//! keepalived's processes, from `/proc` and its pid files. It must not know what they do.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use muster_proto::snapshot::keepalived::Process;

/// Where its pid files are where nobody says.
const PID_FILES: &[&str] = &[
    "/run/keepalived.pid",
    "/var/run/keepalived.pid",
    "/run/keepalived/keepalived.pid",
];
/// Where those of its children are: option on its command line, role, and the usual places.
const CHILD_PID_FILES: &[(&str, &str, &str, &[&str])] = &[
    (
        "-r",
        "--vrrp_pid",
        "vrrp",
        &["/run/vrrp.pid", "/run/keepalived/vrrp.pid"],
    ),
    (
        "-c",
        "--checkers_pid",
        "checker",
        &["/run/checkers.pid", "/run/keepalived/checkers.pid"],
    ),
    (
        "-b",
        "--bfd_pid",
        "bfd",
        &["/run/bfd.pid", "/run/keepalived/bfd.pid"],
    ),
];
/// Children of one parent at the most; there are three.
const CHILDREN_MAX: usize = 16;
/// The file that it reads where its command line names none.
pub(super) const CONFIG_DEFAULT: &str = "/etc/keepalived/keepalived.conf";

/// A parent process of keepalived that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) pid: u32,
    /// When it began, in ticks since boot: with the pid it names the process for ever.
    pub(super) ticks: u64,
    pub(super) args: Vec<String>,
    /// The user that it runs as.
    pub(super) uid: u32,
    /// Whether its program is a file called keepalived that nobody but root, or the agent's own user, can change: only
    /// then it is run, and sent signals.
    pub(super) trusted: bool,
}

/// What `/proc/<pid>/stat` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    comm: String,
    ppid: u32,
    ticks: u64,
    rss_pages: u64,
}

/// The host's processes.
#[derive(Clone, Debug)]
pub(super) struct Processes {
    pub(super) proc: PathBuf,
    pub(super) root: PathBuf,
}

impl Processes {
    /// The parent that the pid file at `path` names.
    pub(super) fn by_pid_file(&self, path: &Path) -> Option<Parent> {
        self.parent(self.pid_in(&self.on_host(path))?)
    }

    /// The parents that the usual pid files name, or that are found among all processes if `all` of them are to be
    /// looked at.
    pub(super) fn parents(&self, all: bool) -> Vec<Parent> {
        let files = PID_FILES.iter().map(Path::new);
        let mut parents: Vec<Parent> = files.filter_map(|path| self.by_pid_file(path)).collect();
        if all {
            let pids = self.pids().into_iter();
            let found = pids.filter_map(|pid| {
                let stat = self.stat(pid).filter(|stat| is_name(&stat.comm))?;
                // A child's parent is a keepalived itself.
                let child = self.stat(stat.ppid).is_some_and(|stat| is_name(&stat.comm));
                if child { None } else { self.parent(pid) }
            });
            // Anybody may run a program of that name, but not as root.
            let own = rustix::process::geteuid().as_raw();
            let rightful = |parent: &Parent| parent.uid == 0 || parent.uid == own;
            parents.extend(found.filter(rightful));
        }
        parents.sort_by_key(|parent| parent.pid);
        parents.dedup_by_key(|parent| parent.pid);
        parents
    }

    /// The process, if it is still there and still the same.
    pub(super) fn again(&self, parent: &Parent) -> Option<Parent> {
        self.parent(parent.pid)
            .filter(|now| now.ticks == parent.ticks)
    }

    fn parent(&self, pid: u32) -> Option<Parent> {
        let stat = self.stat(pid)?;
        let exe = self.path(pid, "exe");
        let named = std::fs::read_link(&exe).ok().map(|path| program(&path));
        let is = named
            .as_ref()
            .map_or_else(|| is_name(&stat.comm), |name| name == "keepalived");
        if !is {
            return None;
        }
        let own = rustix::process::geteuid().as_raw();
        const OTHERS_MAY_WRITE: u32 = 0o022;
        let safe = std::fs::metadata(&exe).is_ok_and(|file| {
            (file.uid() == 0 || file.uid() == own) && file.mode() & OTHERS_MAY_WRITE == 0
        });
        let uid = std::fs::metadata(self.proc.join(pid.to_string()))
            .ok()?
            .uid();
        Some(Parent {
            pid,
            ticks: stat.ticks,
            args: self.args(pid),
            uid,
            trusted: safe && named.is_some(),
        })
    }

    /// Parent and children as they are shown.
    pub(super) fn family(&self, parent: &Parent, boot_ms: Option<u64>) -> Vec<Process> {
        let roles = self.roles(parent);
        let show = |pid: u32, role: &str, stat: &Stat| Process {
            role: role.to_owned(),
            pid,
            started_ms: boot_ms.map(|boot| boot + ticks_ms(stat.ticks)),
            rss_bytes: stat.rss_pages.checked_mul(procfs::page_size()),
        };
        let Some(stat) = self.stat(parent.pid) else {
            return Vec::new();
        };
        let mut family = vec![show(parent.pid, "parent", &stat)];
        for pid in self.children(parent.pid) {
            let Some(stat) = self.stat(pid).filter(|stat| stat.ppid == parent.pid) else {
                continue;
            };
            let by_file = roles.iter().find(|(child, _)| *child == pid);
            let role = by_file
                .map(|(_, role)| *role)
                .or_else(|| role_of(&stat.comm));
            family.push(show(pid, role.unwrap_or("child"), &stat));
        }
        family
    }

    /// Children by the pid files that the command line names, or by the usual ones.
    fn roles(&self, parent: &Parent) -> Vec<(u32, &'static str)> {
        let mut roles = Vec::new();
        for (short, long, role, usual) in CHILD_PID_FILES {
            let named = option(&parent.args, short, long);
            let paths = named.into_iter().chain(usual.iter().copied());
            let pids = paths.filter_map(|path| {
                let inside = self.inside(parent.pid, Path::new(path));
                inside.iter().find_map(|path| self.pid_in(path))
            });
            roles.extend(pids.map(|pid| (pid, *role)));
        }
        roles
    }

    fn children(&self, pid: u32) -> Vec<u32> {
        let list = self.path(pid, &format!("task/{pid}/children"));
        if let Ok(text) = std::fs::read_to_string(list) {
            let pids = text.split_ascii_whitespace();
            return pids
                .filter_map(|pid| pid.parse().ok())
                .take(CHILDREN_MAX)
                .collect();
        }
        // A kernel without CONFIG_PROC_CHILDREN.
        let all = self.pids().into_iter();
        let ours = all.filter(|child| self.stat(*child).is_some_and(|stat| stat.ppid == pid));
        ours.take(CHILDREN_MAX).collect()
    }

    fn pids(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(&self.proc)
            .into_iter()
            .flatten()
            .flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.collect()
    }

    fn args(&self, pid: u32) -> Vec<String> {
        let bytes = std::fs::read(self.path(pid, "cmdline")).unwrap_or_default();
        let words = bytes
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty());
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    /// Where the process finds `path`: in its own mounts (a private `/tmp`, a container), else on the host.
    pub(super) fn inside(&self, pid: u32, path: &Path) -> [PathBuf; 2] {
        let relative = path.strip_prefix("/").unwrap_or(path);
        [self.path(pid, "root").join(relative), self.on_host(path)]
    }

    /// `path` below the host's root.
    pub(super) fn on_host(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file of the process.
    pub(super) fn path(&self, pid: u32, name: &str) -> PathBuf {
        self.proc.join(pid.to_string()).join(name)
    }

    /// The value of a variable of the process's environment.
    pub(super) fn variable(&self, pid: u32, name: &str) -> Option<String> {
        let bytes = std::fs::read(self.path(pid, "environ")).ok()?;
        let mut all = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        all.find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    }

    /// When the kernel was booted, in milliseconds since 1970.
    pub(super) fn boot_ms(&self) -> Option<u64> {
        let text = std::fs::read_to_string(self.proc.join("stat")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse::<u64>().ok()?.checked_mul(1000)
    }

    fn pid_in(&self, path: &Path) -> Option<u32> {
        const PID_FILE_BYTES_MAX: u64 = 64;
        let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= PID_FILE_BYTES_MAX);
        let text = small.then(|| std::fs::read_to_string(path))?.ok()?;
        text.trim().parse().ok()
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        let bytes: io::Result<Vec<u8>> = std::fs::read(self.path(pid, "stat"));
        parse_stat(&String::from_utf8_lossy(&bytes.ok()?))
    }
}

impl Parent {
    /// The file that it reads.
    pub(super) fn config(&self) -> &str {
        option(&self.args, "-f", "--use-file").unwrap_or(CONFIG_DEFAULT)
    }
}

/// The value of an option in any of its forms: `-f FILE`, `-fFILE`, `--use-file FILE`, `--use-file=FILE`.
pub(super) fn option<'a>(args: &'a [String], short: &str, long: &str) -> Option<&'a str> {
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        if arg == short || arg == long {
            return args.next().map(String::as_str);
        }
        let glued = arg
            .strip_prefix(long)
            .and_then(|rest| rest.strip_prefix('='));
        let value = glued.or_else(|| arg.strip_prefix(short));
        if let Some(value) = value.filter(|_| glued.is_some() || !arg.starts_with("--")) {
            return Some(value);
        }
    }
    None
}

/// The name may hold blanks and parentheses, so that the last one counts (kernel: `fs/proc/array.c`).
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.to_owned();
    const PPID: usize = 1;
    const START_AFTER_PPID: usize = 17;
    const RSS_AFTER_START: usize = 1;
    let mut words = tail.split_ascii_whitespace();
    Some(Stat {
        comm,
        ppid: words.nth(PPID)?.parse().ok()?,
        ticks: words.nth(START_AFTER_PPID)?.parse().ok()?,
        rss_pages: words.nth(RSS_AFTER_START)?.parse().ok()?,
    })
}

fn ticks_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / procfs::ticks_per_second().max(1)
}

/// A process name of keepalived: `process_names` of its configuration adds to it.
fn is_name(comm: &str) -> bool {
    comm.starts_with("keepalived")
}

/// The name of a program whose file may have been replaced since it was started.
fn program(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(" (deleted)").to_owned()
}

fn role_of(comm: &str) -> Option<&'static str> {
    let words = [("vrrp", "vrrp"), ("check", "checker"), ("bfd", "bfd")];
    let found = words.iter().find(|(word, _)| comm.contains(word));
    found.map(|(_, role)| *role)
}
