//! keepalived: its processes from `/proc`, its state from the files that it writes when it is asked, and what its notify
//! FIFOs say at once. One folder, one thing each: the parsers in `dump` and `notice`, the states and their changes in
//! `book`, the rest reads.
//!
//! Events. The key is the instance, the virtual server, or both servers with a blank between them, as keepalived writes
//! them; `fields.source` says who told (`dump`, `fifo`, `process`). What waited in a FIFO before the agent began to read
//! it carries `replayed`, one event per key: nobody knows when it was written.
//!
//! | topic | key | when |
//! |---|---|---|
//! | `keepalived.vrrp.master`, `.backup`, `.fault`, `.stop`, `.init`, `.deleted` | instance | it is in that state now |
//! | `keepalived.vrrp.priority` | instance | its effective priority is another one |
//! | `keepalived.group.master`, `.backup`, `.fault`, `.stop`, `.init`, `.deleted` | sync group | it is in that state now |
//! | `keepalived.script.failed`, `.succeeded` | track script | its result is another one |
//! | `keepalived.backend.down`, `.up` | virtual server, real server | its checks fail, or pass again; `reason` says which |
//! | `keepalived.backend.weight` | virtual server, real server | its effective weight is another one |
//! | `keepalived.backend.added`, `.removed` | virtual server, real server | a reload brought or took it |
//! | `keepalived.service.down`, `.up` | virtual server | none of its real servers is alive, or one is again |
//! | `keepalived.service.added`, `.removed` | virtual server | a reload brought or took it |
//! | `keepalived.quorum.lost`, `.gained` | virtual server | keepalived takes it for down, or for up |
//! | `keepalived.sorry.added`, `.removed` | virtual server | clients are sent to the sorry server, or no longer |
//! | `keepalived.process.started`, `.stopped` | `keepalived`, `vrrp`, `checker`, `bfd` | the process is there, or is gone |
//! | `keepalived.process.respawned` | `vrrp`, `checker`, `bfd` | another process is in its place under the same parent |

mod ask;
mod book;
mod conf;
mod config;
mod control;
mod daemon;
mod draft;
mod dump;
mod fifo;
mod notice;
mod process;
mod run;
mod signals;
mod table;
mod topic;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use muster_proto::snapshot::host::PartError;
use muster_proto::snapshot::keepalived::KeepalivedSnapshot;

pub use self::control::{Control, Request, State, Target};

use self::config::{Config, DAEMONS_MAX};
use self::daemon::{Run, Watched};
use self::process::{CONFIG_DEFAULT, Parent, Processes};
use self::signals::Programs;
use super::{
    Change, Collect, CollectContext, CollectError, Collected, ConfigError, SampleTime, Spec, Wake,
};

/// The row of the `keepalived` collector.
pub const SPEC: Spec = Spec {
    name: NAME,
    summary: "keepalived: VRRP instances, virtual and real servers, health checkers, processes",
    interval_default: Duration::from_secs(10),
    deadline_default: Duration::from_secs(15), // four that answer late, and their files
    sample: include_str!("sample.toml"),
    build: |context| Ok(Box::new(Keepalived::new(context)?)),
};

const NAME: &str = "keepalived";

/// Between two looks through all processes, which takes some ten milliseconds per thousand of them.
const SCAN_GAP_MS: u64 = 60_000;
/// The same while one that the config speaks of is not found.
const WANTED_GAP_MS: u64 = 2_000;
/// Errors that one snapshot carries at the most.
const ERRORS_MAX: usize = 64;

/// The collector.
#[derive(Debug)]
struct Keepalived {
    config: Config,
    processes: Processes,
    programs: Programs,
    wake: Wake,
    watched: Vec<Watched>,
    scanned_ms: Option<u64>,
    /// Nothing has been looked at yet.
    first: bool,
}

impl Keepalived {
    fn new(context: &CollectContext) -> Result<Self, ConfigError> {
        let config = Config::parse(&context.section)?;
        let mut watched: Vec<Watched> = config
            .named
            .iter()
            .map(|(name, files)| Watched::new(name.clone(), format!("{name}/"), files.clone()))
            .collect();
        // Its FIFOs are there to be read before it is found.
        if watched.is_empty() && config.usual != config::Files::default() {
            watched.push(Watched::new(
                NAME.to_owned(),
                String::new(),
                config.usual.clone(),
            ));
        }
        Ok(Self {
            config,
            processes: Processes {
                proc: context.roots.proc.clone(),
                root: context.roots.root.clone(),
            },
            programs: Programs::default(),
            wake: context.wake.clone(),
            watched,
            scanned_ms: None,
            first: true,
        })
    }

    /// Looks once, typed.
    fn sample(&mut self, now: SampleTime) -> (KeepalivedSnapshot, Vec<Change>) {
        let found = self.find(now);
        let mut run = Run {
            processes: &self.processes,
            programs: &mut self.programs,
            signals: self.config.signals,
            wait: self.config.wait,
            now,
            first: std::mem::take(&mut self.first),
            errors: Vec::new(),
            changes: Vec::new(),
        };
        let mut snapshot = KeepalivedSnapshot {
            at_ms: now.wall_ms,
            ..KeepalivedSnapshot::default()
        };
        for (watched, parent) in self.watched.iter_mut().zip(found) {
            watched.listen(&mut run, &self.wake);
            snapshot.daemons.push(watched.look(&mut run, parent));
        }
        run.errors.truncate(ERRORS_MAX);
        let errors = run.errors.into_iter();
        snapshot.errors = errors
            .map(|(part, error)| PartError { part, error })
            .collect();
        // One that is not there and never was is not shown: most hosts have none.
        snapshot.daemons.retain(|daemon| {
            daemon.running || !daemon.fifos.is_empty() || daemon.version.is_some()
        });
        (snapshot, run.changes)
    }

    /// The parent process of each that is watched, in their order. Adds those that were not known.
    fn find(&mut self, now: SampleTime) -> Vec<Option<Parent>> {
        let by_file = |watched: &Watched| {
            let path: Option<&Path> = watched.files.pid_file.as_deref();
            path.map(|path| self.processes.by_pid_file(path))
        };
        let mut found: Vec<Option<Parent>> = self
            .watched
            .iter()
            .map(|watched| {
                let still = watched
                    .parent()
                    .and_then(|parent| self.processes.again(parent));
                still.or_else(|| by_file(watched).flatten())
            })
            .collect();
        let searched = self.config.named.is_empty() && self.config.usual.pid_file.is_none();
        if !searched {
            return found;
        }
        let mut missing = self
            .watched
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none());
        let lost = missing
            .clone()
            .any(|(watched, _)| watched.parent().is_some());
        let wanted = missing.any(|(watched, _)| !watched.files.fifos.is_empty());
        let gap = if wanted { WANTED_GAP_MS } else { SCAN_GAP_MS };
        let since = self
            .scanned_ms
            .map(|scanned| now.mono_ms.saturating_sub(scanned));
        let all = lost || since.is_none_or(|since| since >= gap);
        if all {
            self.scanned_ms = Some(now.mono_ms);
        }
        for parent in self.processes.parents(all) {
            if found.iter().flatten().all(|known| known.pid != parent.pid) {
                self.assign(parent, &mut found);
            }
        }
        found
    }

    /// Gives a parent that was found to the one that it is: by its configuration, else to the first that has none.
    fn assign(&mut self, parent: Parent, found: &mut Vec<Option<Parent>>) {
        let name = self.name_of(&parent);
        let free = |at: &usize| found.get(*at).is_some_and(Option::is_none);
        let place = (0..self.watched.len()).filter(free).find(|at| {
            self.watched
                .get(*at)
                .is_some_and(|watched| watched.name == name)
        });
        if let Some(at) = place {
            if let (Some(place), Some(watched)) = (found.get_mut(at), self.watched.get_mut(at)) {
                watched.adopt(&parent);
                *place = Some(parent);
            }
            return;
        }
        if self.watched.len() < DAEMONS_MAX
            && self.watched.iter().all(|watched| watched.name != name)
        {
            let prefix = if name == NAME {
                String::new()
            } else {
                format!("{name}/")
            };
            let mut watched = Watched::new(name, prefix, config::Files::default());
            watched.adopt(&parent);
            self.watched.push(watched);
            found.push(Some(parent));
        }
    }

    /// `keepalived` for the one with the usual configuration, and for the only one; else after its configuration.
    fn name_of(&self, parent: &Parent) -> String {
        let config = parent.config();
        let others: Vec<&Watched> = self
            .watched
            .iter()
            .filter(|watched| watched.name != NAME)
            .collect();
        let first = self.watched.iter().find(|watched| watched.name == NAME);
        let same = first.is_some_and(|first| first.config().is_none_or(|known| known == config));
        if config == CONFIG_DEFAULT || same || (first.is_none() && others.is_empty()) {
            return NAME.to_owned();
        }
        let stem = Path::new(config).file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }
}

impl Collect for Keepalived {
    fn collect(&mut self, now: SampleTime) -> Result<Collected, CollectError> {
        let (snapshot, changes) = self.sample(now);
        Collected::of(NAME, &snapshot, changes)
    }
}
