//! The host itself: processor, memory, storage, network, processes, from `/proc` and `/sys`.
//!
//! It is made of parts, one file and one row of `PARTS` each: a pure parser beside a thin reader. A part that fails,
//! or even panics, is named in the snapshot's errors and takes nothing else with it.

mod config;
mod conntrack;
mod counters;
mod cpu;
mod disks;
mod filesystems;
mod level;
mod load;
mod memory;
mod mounts;
mod network;
mod pressure;
mod processes;
mod sockets;
mod softnet;
mod statvfs;
mod uptime;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_proto::event::Severity;
use muster_proto::snapshot::host::{HostSnapshot, PartError};
use serde_json::Value;

use self::config::Config;
pub(crate) use self::network::figures as interface_figures;
use super::files::{Files, Lines, ParseError, ReadError};
use super::{
    Change, Collect, CollectContext, CollectError, Collected, ConfigError, HostRoots, SampleTime,
    Spec,
};

/// The row of the `host` collector.
pub const SPEC: Spec = Spec {
    name: NAME,
    summary: "processor, memory, storage, network and processes of the host, from /proc and /sys",
    interval_default: Duration::from_secs(10),
    deadline_default: Duration::from_secs(8), // four filesystems may hang for a second each
    sample: include_str!("sample.toml"),
    build: |context| Ok(Box::new(Host::new(context)?)),
};

const NAME: &str = "host";

/// Errors that one snapshot carries at the most; a garbled kernel gives one per part.
const ERRORS_MAX: usize = 64;

/// One part's row: how it is called and made.
struct PartSpec {
    name: &'static str,
    build: fn(&Config) -> Box<dyn Part>,
}

/// Every part, in the order in which they run.
static PARTS: &[PartSpec] = &[
    PartSpec {
        name: "cpu",
        build: |_| Box::new(cpu::CpuPart::new(procfs::ticks_per_second())),
    },
    PartSpec {
        name: "memory",
        build: |_| Box::new(memory::MemoryPart::new(procfs::page_size())),
    },
    PartSpec {
        name: "load",
        build: |_| Box::new(load::LoadPart),
    },
    PartSpec {
        name: "pressure",
        build: |_| Box::<pressure::PressurePart>::default(),
    },
    PartSpec {
        name: "disks",
        build: |config| Box::new(disks::DisksPart::new(config)),
    },
    PartSpec {
        name: "filesystems",
        build: |config| Box::new(filesystems::FilesystemsPart::new(config)),
    },
    PartSpec {
        name: "network",
        build: |config| Box::new(network::NetworkPart::new(config)),
    },
    PartSpec {
        name: "sockets",
        build: |_| Box::new(sockets::SocketsPart::new(procfs::page_size())),
    },
    PartSpec {
        name: "conntrack",
        build: |config| Box::new(conntrack::ConntrackPart::new(config)),
    },
    PartSpec {
        name: "softnet",
        build: |_| Box::<softnet::SoftnetPart>::default(),
    },
    PartSpec {
        name: "uptime",
        build: |_| Box::<uptime::UptimePart>::default(),
    },
    PartSpec {
        name: "processes",
        build: |_| Box::<processes::ProcessesPart>::default(),
    },
];

/// One part of the host. It keeps what it needs of the sample before.
trait Part: Send {
    /// Fills its field of `run.snapshot`. Leaving it empty without an error says that this host has no such thing.
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed>;
}

/// Why a part gave nothing.
#[derive(Debug, thiserror::Error)]
enum PartFailed {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file does not read as what it should be.
    #[error("parse {path}: {error}")]
    Parse { path: PathBuf, error: ParseError },
    /// Something else, in words.
    #[error("{0}")]
    Other(String),
}

impl PartFailed {
    fn parse(path: &Path, error: ParseError) -> Self {
        Self::Parse {
            path: path.to_owned(),
            error,
        }
    }
}

/// One run over all parts: what they share, and what they fill.
struct Run<'a> {
    roots: &'a HostRoots,
    files: &'a mut Files,
    now: SampleTime,
    part: &'static str,
    snapshot: &'a mut HostSnapshot,
    changes: &'a mut Vec<Change>,
}

impl Run<'_> {
    /// A file under `/proc`.
    fn proc(&self, path: &str) -> PathBuf {
        self.roots.proc.join(path)
    }

    /// Something is missing from the part, and the rest of it is good.
    fn note(&mut self, error: impl ToString) {
        if self.snapshot.errors.len() < ERRORS_MAX {
            self.snapshot.errors.push(PartError {
                part: self.part.to_owned(),
                error: error.to_string(),
            });
        }
    }

    /// The good lines of a file; a bad one among them is noted, none but bad ones is a failure.
    fn lines<T>(&mut self, path: &Path, lines: Lines<T>) -> Result<Vec<T>, PartFailed> {
        match lines.bad {
            Some(error) if lines.items.is_empty() => Err(PartFailed::parse(path, error)),
            Some(error) => {
                self.note(PartFailed::parse(path, error));
                Ok(lines.items)
            }
            None => Ok(lines.items),
        }
    }
}

/// A change with nothing more to say than its states.
fn change(
    topic: &'static str,
    severity: Severity,
    key: &str,
    summary: String,
    before: Value,
    after: Value,
) -> Change {
    Change {
        topic,
        severity,
        summary,
        key: key.to_owned(),
        before,
        after,
        fields: BTreeMap::new(),
    }
}

/// The collector.
pub(crate) struct Host {
    roots: HostRoots,
    files: Files,
    parts: Vec<(&'static str, Box<dyn Part>)>,
    boot_id: String,
    mono_ms: Option<u64>,
}

impl Host {
    pub(crate) fn new(context: &CollectContext) -> Result<Self, ConfigError> {
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        let config = Config::parse(&context.section, &names)?;
        let wanted = PARTS
            .iter()
            .filter(|part| !config.without.iter().any(|name| name == part.name));
        Ok(Self {
            roots: context.roots.clone(),
            files: Files::default(),
            parts: wanted
                .map(|part| (part.name, (part.build)(&config)))
                .collect(),
            boot_id: String::new(),
            mono_ms: None,
        })
    }

    /// A collector of the part `name` alone, for whoever asks out of turn; `section` is as in the configuration.
    pub(crate) fn of_part(
        name: &str,
        roots: &HostRoots,
        mut section: toml::Table,
    ) -> Result<Self, ConfigError> {
        let others = PARTS.iter().filter(|part| part.name != name);
        let without: Vec<toml::Value> = others.map(|part| part.name.into()).collect();
        section.insert("without".to_owned(), without.into());
        Self::new(&CollectContext {
            roots: roots.clone(),
            section,
            ..CollectContext::default()
        })
    }

    /// Looks once, typed.
    pub(crate) fn sample(&mut self, now: SampleTime) -> (HostSnapshot, Vec<Change>) {
        let mut snapshot = HostSnapshot {
            at_ms: now.wall_ms,
            interval_ms: self
                .mono_ms
                .map(|before| now.mono_ms.saturating_sub(before)),
            ..HostSnapshot::default()
        };
        self.mono_ms = Some(now.mono_ms);
        let mut changes = Vec::new();
        let mut run = Run {
            roots: &self.roots,
            files: &mut self.files,
            now,
            part: NAME,
            snapshot: &mut snapshot,
            changes: &mut changes,
        };
        boot_id(&mut run, &mut self.boot_id);
        for (name, part) in &mut self.parts {
            run.part = name;
            // The parts hold no locks and begin anew from what they see, so that a panic leaves nothing half done
            // that the next run would trust.
            match catch_unwind(AssertUnwindSafe(|| part.sample(&mut run))) {
                Ok(Ok(())) => {}
                Ok(Err(failed)) => run.note(failed),
                Err(_) => run.note(
                    "panicked, which is a defect of the agent; the other parts are not touched",
                ),
            }
        }
        self.files.trim();
        (snapshot, changes)
    }
}

impl Collect for Host {
    fn collect(&mut self, now: SampleTime) -> Result<Collected, CollectError> {
        let (snapshot, changes) = self.sample(now);
        if !self.parts.is_empty()
            && snapshot.errors.len() >= self.parts.len()
            && is_empty(&snapshot)
        {
            let what: Vec<_> = snapshot
                .errors
                .iter()
                .map(|error| error.error.as_str())
                .collect();
            return Err(CollectError::Nothing {
                collector: NAME,
                what: what.join("; "),
            });
        }
        Collected::of(NAME, &snapshot, changes)
    }
}

/// The boot's id is read until there is one; it cannot change while the agent lives.
fn boot_id(run: &mut Run<'_>, known: &mut String) {
    if known.is_empty() {
        let path = run.proc("sys/kernel/random/boot_id");
        match run.files.text(&path).map(|text| text.trim().to_owned()) {
            Ok(id) => *known = id,
            Err(error) => run.note(error),
        }
    }
    run.snapshot.boot_id.clone_from(known);
}

fn is_empty(snapshot: &HostSnapshot) -> bool {
    let bare = HostSnapshot {
        at_ms: snapshot.at_ms,
        boot_id: snapshot.boot_id.clone(),
        interval_ms: snapshot.interval_ms,
        errors: snapshot.errors.clone(),
        ..HostSnapshot::default()
    };
    *snapshot == bare
}
