//! What the processes of a control group use, from the files of either version of the hierarchy. Pure parsers beside a
//! thin reader; knows no unit.
//!
//! Source: kernel, `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`.

use std::path::{Path, PathBuf};

use muster_proto::snapshot::host::Counter;
use muster_proto::snapshot::services::Usage;

use super::super::HostRoots;
use super::super::files::Files;
use super::super::rate::{Seen, Wrap, counter, thousandth};

/// Control groups below a unit's that are looked through for processes; only units that divide their own have any.
const GROUPS_MAX: usize = 64;
/// Processes of one unit that are looked through for sockets.
const PROCESSES_MAX: usize = 4096;
/// Limits above this are none: the kernel's way to write "no limit" in the first version.
const LIMIT_MAX: u64 = 1 << 60;

/// Where control groups are found on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// One for everything.
    Unified(PathBuf),
    /// One for each controller, under this directory, and the service manager's own.
    Separate(PathBuf),
}

/// Exact counts of a group, to be compared with the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) cpu_us: Option<u64>,
    pub(super) throttled_us: Option<u64>,
    pub(super) read_bytes: Option<u64>,
    pub(super) written_bytes: Option<u64>,
}

/// One reading of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) counts: Counts,
    /// Everything that is no counter.
    pub(super) usage: Usage,
    /// Its processes, none where the group could not be read.
    pub(super) pids: Option<Vec<u32>>,
}

impl Hierarchy {
    /// Looks which one this host has.
    pub(super) fn find(roots: &HostRoots) -> Self {
        let top = roots.sys.join("fs/cgroup");
        if top.join("cgroup.controllers").exists() {
            Self::Unified(top)
        } else {
            Self::Separate(top)
        }
    }

    /// The directory of `group` under one of the controllers' names, where there is one.
    fn directory(&self, group: &str, controllers: &[&str]) -> Option<PathBuf> {
        let group = group.strip_prefix('/').filter(|group| is_plain(group))?;
        match self {
            Self::Unified(top) => Some(top.join(group)),
            Self::Separate(top) => {
                let directories = controllers.iter().map(|name| top.join(name).join(group));
                directories.into_iter().find(|directory| directory.is_dir())
            }
        }
    }
}

/// A path that stays below where it is put.
fn is_plain(group: &str) -> bool {
    !group.is_empty()
        && group
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
}

/// Reads a group; none where there is no such group now.
pub(super) fn read(hierarchy: &Hierarchy, group: &str, files: &mut Files) -> Option<Reading> {
    let mut reading = match hierarchy {
        Hierarchy::Unified(_) => unified(&hierarchy.directory(group, &[])?, files)?,
        Hierarchy::Separate(_) => separate(hierarchy, group, files)?,
    };
    let home = hierarchy.directory(group, &["systemd", "unified"])?;
    reading.pids = pids(&home, files);
    reading.usage.processes = reading
        .pids
        .as_ref()
        .map(|pids| u64::try_from(pids.len()).unwrap_or(u64::MAX));
    Some(reading)
}

fn unified(home: &Path, files: &mut Files) -> Option<Reading> {
    if !home.is_dir() {
        return None;
    }
    let mut reading = Reading::default();
    let mut value = |name: &str| {
        files
            .text(&home.join(name))
            .ok()
            .and_then(|text| number(&text))
    };
    let usage = &mut reading.usage;
    usage.memory_bytes = value("memory.current");
    usage.memory_peak_bytes = value("memory.peak");
    usage.memory_max_bytes = value("memory.max");
    usage.swap_bytes = value("memory.swap.current");
    usage.tasks = value("pids.current");
    usage.tasks_max = value("pids.max");
    if let Ok(text) = files.text(&home.join("cpu.stat")) {
        reading.counts.cpu_us = keyed(&text, "usage_usec");
        reading.counts.throttled_us = keyed(&text, "throttled_usec");
    }
    if let Ok(text) = files.text(&home.join("io.stat")) {
        let (read, written) = io(&text);
        (reading.counts.read_bytes, reading.counts.written_bytes) = (Some(read), Some(written));
    }
    Some(reading)
}

fn separate(hierarchy: &Hierarchy, group: &str, files: &mut Files) -> Option<Reading> {
    hierarchy.directory(group, &["systemd", "unified"])?;
    let mut reading = Reading::default();
    let mut text = |controllers: &[&str], file: &str| {
        let directory = hierarchy.directory(group, controllers)?;
        files
            .text(&directory.join(file))
            .ok()
            .map(std::borrow::Cow::into_owned)
    };
    let mut value =
        |controllers: &[&str], file: &str| text(controllers, file).and_then(|text| number(&text));
    let usage = &mut reading.usage;
    usage.memory_bytes = value(&["memory"], "memory.usage_in_bytes");
    usage.memory_peak_bytes = value(&["memory"], "memory.max_usage_in_bytes");
    usage.memory_max_bytes = value(&["memory"], "memory.limit_in_bytes");
    let both = value(&["memory"], "memory.memsw.usage_in_bytes");
    usage.swap_bytes = both
        .zip(usage.memory_bytes)
        .map(|(both, memory)| both.saturating_sub(memory));
    usage.tasks = value(&["pids"], "pids.current");
    usage.tasks_max = value(&["pids"], "pids.max");
    let cpu = &["cpu,cpuacct", "cpuacct", "cpu"];
    reading.counts.cpu_us = value(cpu, "cpuacct.usage").map(|ns| ns / 1000);
    let stat = text(cpu, "cpu.stat");
    reading.counts.throttled_us = stat
        .and_then(|text| keyed(&text, "throttled_time"))
        .map(|ns| ns / 1000);
    if let Some(text) = text(&["blkio"], "blkio.throttle.io_service_bytes") {
        let (read, written) = blkio(&text);
        (reading.counts.read_bytes, reading.counts.written_bytes) = (Some(read), Some(written));
    }
    Some(reading)
}

/// The processes of a group and of those below it.
fn pids(home: &Path, files: &mut Files) -> Option<Vec<u32>> {
    let (mut pids, mut groups) = (Vec::new(), vec![home.to_owned()]);
    let mut seen = 0;
    while let Some(group) = groups.pop() {
        let text = match files.text(&group.join("cgroup.procs")) {
            Ok(text) => text,
            Err(_) if seen > 0 => continue, // it has ended, or holds threads alone
            Err(_) => return None,
        };
        pids.extend(
            text.lines()
                .filter_map(|line| line.trim().parse::<u32>().ok()),
        );
        seen += 1;
        let below = std::fs::read_dir(&group).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        groups.extend(
            below
                .map(|entry| entry.path())
                .take(GROUPS_MAX.saturating_sub(seen + groups.len())),
        );
    }
    Some(pids)
}

/// Sockets that the processes hold open; each open file looked at is taken off `files_left`. None where the agent may
/// not look, or would have to look for too long.
pub(super) fn sockets(roots: &HostRoots, pids: &[u32], files_left: &mut usize) -> Option<u64> {
    if pids.len() > PROCESSES_MAX {
        return None;
    }
    let mut sockets = 0;
    for pid in pids {
        let entries = match std::fs::read_dir(roots.proc.join(format!("{pid}/fd"))) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue, // it has ended
            Err(_) => return None,
        };
        for entry in entries.flatten() {
            *files_left = files_left.checked_sub(1)?;
            let target = std::fs::read_link(entry.path());
            sockets += u64::from(target.is_ok_and(|target| {
                target
                    .as_os_str()
                    .as_encoded_bytes()
                    .starts_with(b"socket:")
            }));
        }
    }
    Some(sockets)
}

/// Puts the counts into the usage, with their rates since `before`.
pub(super) fn rated(reading: &Reading, before: Option<&Seen<Counts>>, mono_ms: u64) -> Usage {
    let seconds = before.and_then(|before| before.seconds_to(mono_ms));
    let rate = |now: Option<u64>, then: fn(&Counts) -> Option<u64>| -> Option<Counter> {
        let then = before.and_then(|before| then(&before.value)).zip(seconds);
        now.map(|now| counter(now, then, Wrap::Never))
    };
    let counts = &reading.counts;
    let cpu = rate(counts.cpu_us, |counts| counts.cpu_us);
    Usage {
        cpu_us: cpu,
        cpu_percent: cpu
            .and_then(|cpu| cpu.per_s)
            .map(|us| thousandth(us / 10_000.0)),
        cpu_throttled_us: rate(counts.throttled_us, |counts| counts.throttled_us),
        read_bytes: rate(counts.read_bytes, |counts| counts.read_bytes),
        written_bytes: rate(counts.written_bytes, |counts| counts.written_bytes),
        ..reading.usage.clone()
    }
}

/// A figure alone in its file; none where it is `max` or as good as that.
fn number(text: &str) -> Option<u64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number < LIMIT_MAX)
}

/// The figure behind a key.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let mut values = lines.filter(|(name, _)| *name == key);
    values.next().and_then(|(_, value)| number(value))
}

/// `8:0 rbytes=1 wbytes=2 …` for each device, summed up.
fn io(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_ascii_whitespace();
        words
            .filter_map(|word| word.strip_prefix(key).and_then(number))
            .fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// `8:0 Read 1` for each device and kind, summed up.
fn blkio(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (device, found, value) = (words.next()?, words.next()?, words.next()?);
            (device.contains(':') && found == kind).then(|| number(value))?
        });
        lines.fold(0, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "usage_tests.rs"]
mod tests;
