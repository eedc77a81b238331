//! Programs that no service manager looks after: found by name, command line or pidfile, with what they use, and told
//! when they end, come back or are replaced. Without a watch it is not scheduled.

mod config;
mod find;
mod stat;
mod watch;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

use std::time::Duration;

use muster_proto::snapshot::processes::ProcessesSnapshot;

use self::config::WatchConfig;
use self::find::{Found, find, open_files, process};
use self::watch::{Memory, Units};
use super::files::Files;
use super::{
    Change, Collect, CollectContext, CollectError, Collected, ConfigError, HostRoots, SampleTime,
    Spec,
};

/// The row of the `processes` collector.
pub const SPEC: Spec = Spec {
    name: NAME,
    summary: "watched processes, by name, command line or pidfile: state, age, files, memory, processor, restarts",
    interval_default: Duration::from_secs(10),
    deadline_default: Duration::from_secs(5),
    sample: include_str!("sample.toml"),
    build: |context| Ok(Box::new(Processes::new(context)?)),
};

const NAME: &str = "processes";

/// Processes of one watch whose open files are counted.
const COUNTED_MAX: usize = 100;

/// The collector.
struct Processes {
    roots: HostRoots,
    files: Files,
    watches: Vec<WatchConfig>,
    memories: Vec<Memory>,
    mono_ms: Option<u64>,
}

impl Processes {
    fn new(context: &CollectContext) -> Result<Self, ConfigError> {
        let watches = config::parse(&context.section)?;
        Ok(Self {
            roots: context.roots.clone(),
            files: Files::default(),
            memories: vec![Memory::default(); watches.len()],
            watches,
            mono_ms: None,
        })
    }

    fn sample(&mut self, now: SampleTime) -> (ProcessesSnapshot, Vec<Change>) {
        let mut snapshot = ProcessesSnapshot {
            at_ms: now.wall_ms,
            interval_ms: self
                .mono_ms
                .map(|before| now.mono_ms.saturating_sub(before)),
            ..ProcessesSnapshot::default()
        };
        self.mono_ms = Some(now.mono_ms);
        let units = self.units(now, &mut snapshot.errors);
        let found = find(
            &self.roots,
            &mut self.files,
            &self.watches,
            &mut snapshot.errors,
        );
        let mut changes = Vec::new();
        let watches = self.watches.iter().zip(&mut self.memories);
        for ((watch, memory), found) in watches.zip(&found) {
            let (mut shown, change) = memory.look(&watch.name, watch.count_min, found, &units);
            shown.open_files = all_open_files(&self.roots, found);
            if let Some(main) = &mut shown.main {
                main.open_files = open_files(&self.roots, main.pid);
                let limits = self.files.text(&process(&self.roots, main.pid, "limits"));
                main.open_files_max = limits.ok().and_then(|text| stat::open_files_max(&text));
            }
            snapshot.down += u64::from(!shown.up);
            snapshot.watches.push(shown);
            changes.extend(change);
        }
        self.files.trim();
        (snapshot, changes)
    }

    fn units(&mut self, now: SampleTime, errors: &mut Vec<String>) -> Units {
        let path = self.roots.proc.join("stat");
        let boot_s = match self.files.text(&path) {
            Ok(text) => stat::boot_time_s(&text),
            Err(error) => {
                errors.push(error.to_string());
                None
            }
        };
        Units {
            ticks_per_s: procfs::ticks_per_second(),
            page_bytes: procfs::page_size(),
            boot_ms: boot_s.unwrap_or_default().saturating_mul(1000),
            wall_ms: now.wall_ms,
            mono_ms: now.mono_ms,
        }
    }
}

/// Open files of all processes that were found; none where the agent may not look at one of them, or where there are
/// too many to look at.
fn all_open_files(roots: &HostRoots, found: &Found) -> Option<u64> {
    if found.processes.len() > COUNTED_MAX {
        return None;
    }
    let mut sum = 0_u64;
    for stat in &found.processes {
        sum = sum.saturating_add(open_files(roots, stat.pid)?);
    }
    Some(sum)
}

impl Collect for Processes {
    fn collect(&mut self, now: SampleTime) -> Result<Collected, CollectError> {
        let (snapshot, changes) = self.sample(now);
        Collected::of(NAME, &snapshot, changes)
    }

    fn is_wanted(&self) -> bool {
        !self.watches.is_empty()
    }
}
