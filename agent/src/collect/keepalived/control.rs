//! What actions need of the host's keepalived: which there are, what a reload of one is, and what it changed. It must
//! not know jobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_proto::snapshot::keepalived::Process;
use rustix::process::Signal;

use super::super::{HostRoots, section};
use super::ask::{Awaited, Dump, Kind, places};
use super::book::Book;
use super::conf;
use super::config::{Config, Files};
use super::dump::{parse_check, parse_vrrp};
use super::process::{CONFIG_DEFAULT, Parent, Processes, option};
use super::signals::{Program, Programs, send};
use super::{NAME, SPEC};

/// Where its program is where none runs.
const PROGRAMS: &[&str] = &[
    "/usr/sbin/keepalived",
    "/usr/local/sbin/keepalived",
    "/sbin/keepalived",
];

/// The host's keepalived, as far as its section of the config tells of it.
#[derive(Clone, Debug)]
pub struct Control {
    processes: Processes,
    config: Config,
}

/// One keepalived.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name, as in the snapshots.
    pub name: String,
    /// Its program; none where it can't be found, or might be changed by others than root.
    pub program: Option<PathBuf>,
    /// The file that it reads.
    pub config_file: String,
    /// Its configuration's id (`-i`), which decides what lines of the file it takes.
    pub config_id: Option<String>,
    /// The parent's pid; none where it does not run.
    pub pid: Option<u32>,
    parent: Option<Parent>,
}

/// A request for its state that was sent.
#[derive(Debug)]
pub struct Request {
    awaited: Vec<Awaited>,
    dumps: Vec<Dump>,
}

/// Its state at one moment.
#[derive(Debug)]
pub struct State(Vec<Dump>);

impl Control {
    /// From the roots and the section `[collect.keepalived]`, where there is one. A section that the collector would
    /// refuse has been refused before; here it counts as none.
    #[must_use]
    pub fn of(roots: &HostRoots, section: Option<&toml::Table>) -> Self {
        let mut table = section.cloned().unwrap_or_default();
        let checked = section::take_timing(&SPEC, &mut table).and_then(|_| Config::parse(&table));
        Self {
            processes: Processes {
                proc: roots.proc.clone(),
                root: roots.root.clone(),
            },
            config: checked.unwrap_or_default(),
        }
    }

    /// Every keepalived there is: those that the config names, running or not; else those that run, or else the usual
    /// one that does not.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let by_file = |files: &Files| {
            let path: Option<&Path> = files.pid_file.as_deref();
            path.and_then(|path| self.processes.by_pid_file(path))
        };
        let named = &self.config.named;
        if !named.is_empty() {
            let targets = named.iter();
            let targets = targets.map(|(name, files)| self.target(name, files, by_file(files)));
            return targets.collect();
        }
        let usual = &self.config.usual;
        let mut running: Vec<Parent> = match &usual.pid_file {
            Some(_) => by_file(usual).into_iter().collect(),
            None => self.processes.parents(true),
        };
        running.sort_by_key(|parent| (parent.config() != CONFIG_DEFAULT, parent.ticks));
        if running.is_empty() {
            return vec![self.target(NAME, usual, None)];
        }
        let mut targets = BTreeMap::new();
        for parent in running {
            let stem = Path::new(parent.config()).file_stem().unwrap_or_default();
            let name = if targets.is_empty() {
                NAME.to_owned()
            } else {
                stem.to_string_lossy().into_owned()
            };
            targets
                .entry(name.clone())
                .or_insert_with(|| self.target(&name, usual, Some(parent)));
        }
        targets.into_values().collect()
    }

    fn target(&self, name: &str, files: &Files, parent: Option<Parent>) -> Target {
        let running = parent
            .as_ref()
            .filter(|parent| parent.trusted)
            .map(|parent| self.processes.path(parent.pid, "exe"));
        let usual = || {
            let mut paths = PROGRAMS
                .iter()
                .map(|path| self.processes.on_host(Path::new(path)));
            paths.find(|path| path.is_file())
        };
        let args = parent.as_ref().map(|parent| parent.args.as_slice());
        let config_id = option(args.unwrap_or_default(), "-i", "--config-id");
        Target {
            name: name.to_owned(),
            program: files.binary.clone().or(running).or_else(usual),
            config_file: parent
                .as_ref()
                .map_or(CONFIG_DEFAULT, Parent::config)
                .to_owned(),
            config_id: config_id.map(str::to_owned),
            pid: parent.as_ref().map(|parent| parent.pid),
            parent,
        }
    }

    /// Its processes now; empty where it does not run any more, or is another one.
    #[must_use]
    pub fn family(&self, target: &Target) -> Vec<Process> {
        let parent = target.parent.as_ref();
        let parent = parent.and_then(|parent| self.processes.again(parent));
        let boot_ms = self.processes.boot_ms();
        parent
            .map(|parent| self.processes.family(&parent, boot_ms))
            .unwrap_or_default()
    }

    /// Tells it to read its configuration again. It goes on with the one before where the new one can't be used.
    ///
    /// # Errors
    /// When it does not run, or the signal can't be sent.
    pub fn reload(&self, target: &Target) -> Result<(), String> {
        send(&self.processes, running(target)?, &[Signal::HUP.as_raw()])
    }

    /// Asks for its state. What it does before it answers, it has done when the answer comes.
    ///
    /// # Errors
    /// When it does not run, or the signal can't be sent.
    pub fn request(&self, target: &Target) -> Result<Request, String> {
        let parent = running(target)?;
        let program = self.program(parent, target);
        let config = self.processes.inside(parent.pid, parent.config().as_ref());
        let config = config.iter().find(|path| path.exists());
        let moved = config.map(|path| conf::read(path)).unwrap_or_default();
        let roles: Vec<String> = self
            .family(target)
            .into_iter()
            .map(|process| process.role)
            .collect();
        let has = |role: &str| roles.iter().any(|known| known == role || known == "child");
        let kinds = [("vrrp", Kind::Vrrp), ("checker", Kind::Checker)];
        let awaited = kinds
            .into_iter()
            .filter(|(role, _)| has(role))
            .map(|(_, kind)| {
                let places = places(&self.processes, parent, &moved, kind);
                Awaited::new(kind, places, parent.uid)
            })
            .collect();
        send(&self.processes, parent, &[program.data])?;
        Ok(Request {
            awaited,
            dumps: Vec::new(),
        })
    }

    fn program(&self, parent: &Parent, target: &Target) -> Program {
        let named = self.config.named.get(&target.name);
        let files = named.unwrap_or(&self.config.usual);
        Programs::default().of(&self.processes, parent, files.binary.as_deref())
    }
}

fn running(target: &Target) -> Result<&Parent, String> {
    let parent = target.parent.as_ref();
    parent.ok_or_else(|| format!("{} does not run on this host", target.name))
}

impl Request {
    /// Whether every process that was asked has answered.
    pub fn is_answered(&mut self) -> bool {
        self.dumps.extend(super::ask::look(&mut self.awaited));
        self.awaited.is_empty()
    }

    /// What was answered.
    #[must_use]
    pub fn state(self) -> State {
        State(self.dumps)
    }
}

impl State {
    /// What is different `after` it, one line each.
    #[must_use]
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let mut book = Book::new(String::new());
        let mut lines = Vec::new();
        for (at_ms, state) in (1..).zip([self, after]) {
            lines.clear();
            for dump in &state.0 {
                let text = String::from_utf8_lossy(&dump.bytes);
                let changes = match dump.kind {
                    Kind::Vrrp => parse_vrrp(&text).map(|dump| book.see_vrrp(&dump, at_ms)),
                    Kind::Checker => parse_check(&text).map(|dump| book.see_check(&dump, at_ms)),
                    Kind::Stats | Kind::Json => None,
                };
                let changes = changes.unwrap_or_default().into_iter();
                lines.extend(changes.map(|change| change.summary));
            }
        }
        lines
    }
}
