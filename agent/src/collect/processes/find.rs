//! Finds the processes of the watches: one walk through `/proc` for all of them, and no more files than it takes. Knows
//! no time and no event.

use std::path::{Path, PathBuf};

use super::super::HostRoots;
use super::super::files::{Files, ReadError};
use super::config::WatchConfig;
use super::stat::{self, Stat};

/// Processes looked at in one run.
const PROCESSES_MAX: usize = 20_000;

/// Processes of one watch, at most.
const FOUND_MAX: usize = 1_000;

/// What one watch found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// That of the pidfile first, else the oldest first.
    pub(super) processes: Vec<Stat>,
    /// What is wrong beside there being none.
    pub(super) note: Option<String>,
}

/// Looks for the processes of every watch, in their order; what could not be read goes to `errors`.
pub(super) fn find(
    roots: &HostRoots,
    files: &mut Files,
    watches: &[WatchConfig],
    errors: &mut Vec<String>,
) -> Vec<Found> {
    let mut found: Vec<Found> = watches
        .iter()
        .map(|watch| by_pidfile(roots, files, watch))
        .collect();
    let searched = |watch: &&WatchConfig| !watch.by_pidfile();
    if watches.iter().any(|watch| searched(&watch)) {
        match pids(roots) {
            Ok(pids) => {
                if pids.len() >= PROCESSES_MAX {
                    errors.push(format!(
                        "more than {PROCESSES_MAX} processes, the rest is not looked at"
                    ));
                }
                for pid in pids {
                    walk(roots, files, watches, pid, &mut found);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    for one in &mut found {
        one.processes
            .sort_by_key(|process| (process.started_ticks, process.pid));
    }
    found
}

/// One process against the watches that search.
fn walk(
    roots: &HostRoots,
    files: &mut Files,
    watches: &[WatchConfig],
    pid: u32,
    found: &mut [Found],
) {
    let Some(stat) = read_stat(roots, files, pid) else {
        return;
    };
    for (watch, found) in watches.iter().zip(found) {
        if !watch.by_pidfile()
            && found.processes.len() < FOUND_MAX
            && fits(roots, files, watch, &stat)
        {
            found.processes.push(stat.clone());
        }
    }
}

fn by_pidfile(roots: &HostRoots, files: &mut Files, watch: &WatchConfig) -> Found {
    let Some(path) = &watch.pidfile else {
        return Found::default();
    };
    let shown = path.display();
    let path = roots.root.join(path.strip_prefix("/").unwrap_or(path));
    let note = |note: String| Found {
        note: Some(note),
        ..Found::default()
    };
    let pid = match files.text(&path) {
        Ok(text) => stat::pidfile(&text),
        Err(ReadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return note(format!("there is no pidfile {shown}"));
        }
        Err(error) => return note(error.to_string()),
    };
    let Some(pid) = pid else {
        return note(format!("the pidfile {shown} holds no process id"));
    };
    let Some(stat) = read_stat(roots, files, pid) else {
        return note(format!(
            "the pidfile {shown} names process {pid}, which is gone"
        ));
    };
    if !fits(roots, files, watch, &stat) {
        return note(format!(
            "the pidfile {shown} names process {pid}, which is another program: {}",
            stat.name
        ));
    }
    Found {
        processes: vec![stat],
        note: None,
    }
}

/// Whether a process fits all expressions of a watch.
fn fits(roots: &HostRoots, files: &mut Files, watch: &WatchConfig, stat: &Stat) -> bool {
    if watch
        .command
        .as_ref()
        .is_some_and(|regex| !regex.is_match(stat.name.as_bytes()))
    {
        return false;
    }
    if let Some(regex) = &watch.exe {
        let target = std::fs::read_link(process(roots, stat.pid, "exe"));
        let fits = target.is_ok_and(|target| {
            // A program that was replaced while it runs is still that program.
            let path = target.as_os_str().as_encoded_bytes();
            regex.is_match(path.strip_suffix(b" (deleted)").unwrap_or(path))
        });
        if !fits {
            return false;
        }
    }
    let Some(regex) = &watch.cmdline else {
        return true;
    };
    let Ok(bytes) = files.bytes(&process(roots, stat.pid, "cmdline")) else {
        return false;
    };
    let line: Vec<u8> = bytes
        .iter()
        .map(|byte| if *byte == 0 { b' ' } else { *byte })
        .collect();
    regex.is_match(line.trim_ascii_end())
}

fn read_stat(roots: &HostRoots, files: &mut Files, pid: u32) -> Option<Stat> {
    let bytes = files.bytes(&process(roots, pid, "stat")).ok()?;
    stat::parse(bytes).filter(Stat::is_alive)
}

fn pids(roots: &HostRoots) -> Result<Vec<u32>, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", roots.proc.display());
    let entries = std::fs::read_dir(&roots.proc).map_err(failed)?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    Ok(names.take(PROCESSES_MAX).collect())
}

/// A file of one process.
pub(super) fn process(roots: &HostRoots, pid: u32, file: &str) -> PathBuf {
    roots.proc.join(pid.to_string()).join(file)
}

/// Open files of a process; none where the agent may not look.
pub(super) fn open_files(roots: &HostRoots, pid: u32) -> Option<u64> {
    let directory: &Path = &process(roots, pid, "fd");
    // Since Linux 6.2 the directory's size says it; before, it is always zero.
    let size = std::fs::metadata(directory).ok()?.len();
    if size > 0 && is_proc(directory) {
        return Some(size);
    }
    let count = std::fs::read_dir(directory).ok()?.count();
    Some(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Whether a directory is the kernel's (`PROC_SUPER_MAGIC`), whose size means something else than a disk's.
fn is_proc(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|found| found.f_type == 0x9fa0)
}
