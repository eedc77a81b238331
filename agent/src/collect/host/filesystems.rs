//! Mounted filesystems: which of the mounts are shown, their sizes by `statvfs(3)`, and what changed about them.
//!
//! Process 1's mount table is the host's; the agent's own may be changed by the sandbox that systemd puts it in, with
//! everything read-only.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_proto::event::Severity;
use muster_proto::snapshot::host::{Filesystem, Filesystems};
use serde_json::json;

use super::super::pattern::Patterns;
use super::super::rate::percent;
use super::config::Config;
use super::level::Level;
use super::mounts::{self, Mount};
use super::statvfs::{Answer, Prober, Space};
use super::{Part, PartFailed, Run, change};

/// Filesystems shown at the most.
const MOUNTS_MAX: usize = 512;

fn filesystem(mount: &Mount, space: &Space) -> Filesystem {
    let bytes = |blocks: u64| blocks.saturating_mul(space.block_bytes);
    let used = space.blocks.saturating_sub(space.blocks_free);
    let inodes_used = space.inodes.saturating_sub(space.inodes_free);
    Filesystem {
        mount_point: mount.shown(),
        source: mount.source.clone(),
        fs_type: mount.fs_type.clone(),
        read_only: mount.read_only,
        size_bytes: bytes(space.blocks),
        free_bytes: bytes(space.blocks_free),
        available_bytes: bytes(space.blocks_available),
        used_percent: percent(used, used.saturating_add(space.blocks_available)),
        inodes: space.inodes,
        inodes_free: space.inodes_free,
        inodes_used_percent: (space.inodes > 0).then(|| percent(inodes_used, space.inodes)),
    }
}

/// What is remembered of a mount point, to tell a change.
#[derive(Clone, Copy, Default)]
struct State {
    level: Level,
    read_only: bool,
    hung: bool,
}

pub(super) struct FilesystemsPart {
    types_exclude: Patterns,
    mounts_exclude: Patterns,
    remote: bool,
    deadline: Duration,
    warning_percent: f64,
    critical_percent: f64,
    prober: Prober,
    /// By mount point; none before the first run.
    states: Option<BTreeMap<String, State>>,
}

impl FilesystemsPart {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            types_exclude: config.filesystem_types_exclude.clone(),
            mounts_exclude: config.mounts_exclude.clone(),
            remote: config.network_filesystems,
            deadline: config.filesystem_deadline,
            warning_percent: config.filesystem_warning_percent,
            critical_percent: config.filesystem_critical_percent,
            prober: Prober::new(),
            states: None,
        }
    }

    /// One mount for each filesystem: what is mounted over another hides it, and of several mounts of the same one the
    /// first is taken. Local ones come first, so that a dead server cannot keep them from being asked.
    fn choose(&self, mut mounts: Vec<Mount>) -> Vec<Mount> {
        let mut topmost = BTreeMap::new();
        for (at, mount) in mounts.iter().enumerate() {
            topmost.insert(mount.mount_point.clone(), at);
        }
        let mut at = 0;
        mounts.retain(|mount| {
            at += 1;
            topmost.get(&mount.mount_point) == Some(&(at - 1))
        });
        mounts.retain(|mount| self.wanted(mount));
        let mut devices = BTreeSet::new();
        mounts.retain(|mount| devices.insert(mount.device.clone()));
        mounts.sort_by_key(Mount::remote);
        mounts.truncate(MOUNTS_MAX);
        mounts
    }

    fn wanted(&self, mount: &Mount) -> bool {
        if mount.mount_point == b"/" {
            return mount.fs_type != "rootfs";
        }
        !self.types_exclude.matches(&mount.fs_type)
            && (self.remote || !mount.remote())
            && !self.mounts_exclude.matches(&mount.shown())
    }

    /// Asks one mount and puts it into `filesystems`. Its state, or none for a pseudo filesystem, which has no size.
    fn ask(
        &mut self,
        run: &mut Run<'_>,
        mount: &Mount,
        filesystems: &mut Filesystems,
    ) -> Option<State> {
        let name = mount.shown();
        let before = self
            .states
            .as_ref()
            .and_then(|states| states.get(&name))
            .copied();
        let unknown = State {
            read_only: mount.read_only,
            ..State::default()
        };
        match self
            .prober
            .ask(&mount.under(&run.roots.root), mount.remote(), self.deadline)
        {
            Answer::Space(space) if space.blocks == 0 => return None,
            Answer::Space(space) => {
                let filesystem = filesystem(mount, &space);
                let state = self.judge(run, before.unwrap_or(unknown), &filesystem);
                filesystems.mounts.push(filesystem);
                return Some(state);
            }
            Answer::Failed(error) => run.note(format!("statvfs {name}: {error}")),
            Answer::NotAsked => {
                run.note(format!(
                    "statvfs {name}: not asked, since too many filesystems do not answer"
                ));
            }
            Answer::Hung => {
                run.note(format!(
                    "statvfs {name}: no answer in {:?}; left alone until it comes",
                    self.deadline
                ));
                let before = before.unwrap_or(unknown);
                if self.states.is_some() && !before.hung {
                    hung_changed(run, &name, true);
                }
                filesystems.hung.push(name);
                return Some(State {
                    hung: true,
                    ..before
                });
            }
        }
        Some(before.unwrap_or(unknown))
    }

    /// The new state of a mount that answered, and the changes that led to it.
    fn judge(&self, run: &mut Run<'_>, known: State, now: &Filesystem) -> State {
        let fullest = now.used_percent.max(now.inodes_used_percent.unwrap_or(0.0));
        let level = known
            .level
            .next(fullest, self.warning_percent, self.critical_percent);
        // What cannot be written to cannot run full; images are always full.
        let level = if now.read_only { known.level } else { level };
        if self.states.is_some() {
            if level != known.level {
                usage_changed(run, known.level, level, now);
            }
            if known.read_only != now.read_only {
                read_only_changed(run, now);
            }
            if known.hung {
                hung_changed(run, &now.mount_point, false);
            }
        }
        State {
            level,
            read_only: now.read_only,
            hung: false,
        }
    }
}

fn usage_changed(run: &mut Run<'_>, before: Level, after: Level, now: &Filesystem) {
    let (topic, severity) = match after {
        Level::Normal => ("host.filesystem.usage.normal", Severity::Notice),
        Level::Warning => ("host.filesystem.usage.warning", Severity::Warning),
        Level::Critical => ("host.filesystem.usage.critical", Severity::Critical),
    };
    let inodes = now
        .inodes_used_percent
        .map(|used| format!(", {used:.1} % of its inodes"))
        .unwrap_or_default();
    let summary = format!(
        "{} is {:.1} % full{inodes}",
        now.mount_point, now.used_percent
    );
    let (before, after) = (
        json!({"level": before.name()}),
        json!({"level": after.name()}),
    );
    let mut change = change(topic, severity, &now.mount_point, summary, before, after);
    change
        .fields
        .insert("used_percent".to_owned(), json!(now.used_percent));
    change.fields.insert(
        "inodes_used_percent".to_owned(),
        json!(now.inodes_used_percent),
    );
    change
        .fields
        .insert("available_bytes".to_owned(), json!(now.available_bytes));
    run.changes.push(change);
}

fn read_only_changed(run: &mut Run<'_>, now: &Filesystem) {
    let (topic, severity, what) = if now.read_only {
        ("host.filesystem.readonly", Severity::Error, "read-only")
    } else {
        (
            "host.filesystem.writable",
            Severity::Notice,
            "writable again",
        )
    };
    let summary = format!("{} ({}) has become {what}", now.mount_point, now.source);
    let (before, after) = (
        json!({"read_only": !now.read_only}),
        json!({"read_only": now.read_only}),
    );
    run.changes.push(change(
        topic,
        severity,
        &now.mount_point,
        summary,
        before,
        after,
    ));
}

fn hung_changed(run: &mut Run<'_>, mount_point: &str, hung: bool) {
    let (topic, severity, what) = if hung {
        ("host.filesystem.hung", Severity::Error, "does not answer")
    } else {
        ("host.filesystem.answers", Severity::Notice, "answers again")
    };
    let summary = format!("{mount_point} {what}");
    run.changes.push(change(
        topic,
        severity,
        mount_point,
        summary,
        json!({"hung": !hung}),
        json!({"hung": hung}),
    ));
}

impl Part for FilesystemsPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let mut path = run.proc("1/mountinfo");
        let parsed = match run.files.bytes(&path) {
            Ok(text) => mounts::parse(text),
            Err(_) => {
                path = run.proc("self/mountinfo"); // other users' processes may be hidden (hidepid)
                mounts::parse(run.files.bytes(&path)?)
            }
        };
        let mounts = run.lines(&path, parsed)?;
        let all = mounts.len();
        let mounts = self.choose(mounts);
        let mut skipped = all - mounts.len();
        let mut filesystems = Filesystems::default();
        let mut states = BTreeMap::new();
        for mount in &mounts {
            match self.ask(run, mount, &mut filesystems) {
                Some(state) => drop(states.insert(mount.shown(), state)),
                None => skipped += 1,
            }
        }
        filesystems.skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
        run.snapshot.filesystems = Some(filesystems);
        self.states = Some(states);
        Ok(())
    }
}
