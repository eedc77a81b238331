//! Collectors: what the agent watches on its host, one row of [`COLLECTORS`] each.
//!
//! A collector turns files, sockets or programs into a snapshot, and names the changes against the snapshot before.
//! It knows its roots and its own section of the configuration; it must not know the broker, the state file, the
//! scheduler or any other collector. Time is passed in.

pub mod host;
pub mod keepalived;
pub mod lvs;
pub mod processes;
pub mod schedule;
pub mod services;

pub(crate) mod files;
mod pattern;
mod rate;
mod section;
mod wake;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_proto::event::Severity;
use muster_proto::packed::{PackError, Packed};
use serde::Serialize;
use serde_json::Value;

pub(crate) use pattern::glob;
pub use section::{Built, Timing, build_all};
pub use wake::Wake;

/// Every collector there is, in the order in which `collect` prints them.
pub static COLLECTORS: &[Spec] = &[
    host::SPEC,
    keepalived::SPEC,
    lvs::SPEC,
    processes::SPEC,
    services::SPEC,
];

/// What the agent knows of a collector before it exists.
#[derive(Debug)]
pub struct Spec {
    /// Name, as in `[collect.<name>]`, in the routing key of its snapshots and on the command line.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Time between two runs where the configuration names none.
    pub interval_default: Duration,
    /// Time after which a run is given up where the configuration names none.
    pub deadline_default: Duration,
    /// The section `[collect.<name>]` in TOML: every key with a comment and its default.
    pub sample: &'static str,
    /// Makes the collector from its section; refuses keys and values that it does not know.
    pub build: fn(&CollectContext) -> Result<Box<dyn Collect>, ConfigError>,
}

/// A collector that was set up. Lives on a thread where it may block.
pub trait Collect: Send {
    /// Looks once. `now` must not go back between calls.
    ///
    /// # Errors
    /// Where there is nothing at all to show; a snapshot with holes names them in itself.
    fn collect(&mut self, now: SampleTime) -> Result<Collected, CollectError>;

    /// Whether its section gives it anything to watch. Without, it is not scheduled and costs nothing.
    fn is_wanted(&self) -> bool {
        true
    }
}

/// When a run began, by both clocks: the wall clock for people, the monotonic one for rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleTime {
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Milliseconds since some fixed moment; never goes back.
    pub mono_ms: u64,
}

/// What one run gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Collected {
    /// The snapshot, of the collector's type in `muster_proto::snapshot`.
    pub snapshot: Packed,
    /// What is different from the run before, to become events. The first run has none.
    pub changes: Vec<Change>,
}

impl Collected {
    /// What `collector` saw, of its type in `muster_proto::snapshot`, and what has changed.
    ///
    /// # Errors
    /// [`CollectError::Encode`].
    pub fn of<T: Serialize>(
        collector: &'static str,
        snapshot: &T,
        changes: Vec<Change>,
    ) -> Result<Self, CollectError> {
        let snapshot =
            Packed::of(snapshot).map_err(|source| CollectError::Encode { collector, source })?;
        Ok(Self { snapshot, changes })
    }
}

/// A change between two snapshots, to become an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The event's topic, without the host: `host.interface.down`.
    pub topic: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One line for people.
    pub summary: String,
    /// What it is about: `eth0`. Reported once per change of state of a key.
    pub key: String,
    /// The state before.
    pub before: Value,
    /// The state after.
    pub after: Value,
    /// More to know, by name, units last.
    pub fields: BTreeMap<String, Value>,
}

/// Where the host's files are found: a parameter, so that a container or a test can point elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoots {
    /// `/proc`, or where the host's is mounted.
    pub proc: PathBuf,
    /// `/sys`, or where the host's is mounted.
    pub sys: PathBuf,
    /// Prefix of the host's mount points: `/`, or where the host's root is mounted.
    pub root: PathBuf,
}

impl Default for HostRoots {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl HostRoots {
    /// The usual places under `root`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            proc: root.join("proc"),
            sys: root.join("sys"),
            root: root.to_owned(),
        }
    }
}

/// What a collector is built from.
#[derive(Clone, Debug, Default)]
pub struct CollectContext {
    /// Where the host's files are.
    pub roots: HostRoots,
    /// Its own section of the configuration, without the keys of [`Timing`]; empty where there is none.
    pub section: toml::Table,
    /// By which a collector with its own source of news asks for a run.
    pub wake: Wake,
}

/// A section of the configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[collect.{section}]{}: {what}", key.as_ref().map(|key| format!(" {key}")).unwrap_or_default())]
pub struct ConfigError {
    /// The collector's name.
    pub section: String,
    /// The key at fault, where it is one; the caller knows its line.
    pub key: Option<String>,
    /// What is wrong and what would be right.
    pub what: String,
}

/// A run that gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// No part of the collector could be read.
    #[error("collect {collector}: nothing could be read: {what}")]
    Nothing {
        /// The collector.
        collector: &'static str,
        /// What failed, one after the other.
        what: String,
    },
    /// The snapshot could not be turned into a message.
    #[error("collect {collector}: encode the snapshot: {source}")]
    Encode {
        /// The collector.
        collector: &'static str,
        /// Why.
        source: PackError,
    },
}
