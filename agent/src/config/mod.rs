//! The config file: parsed once, so that what is held afterwards cannot be wrong. It must not know what the parts do
//! with their sections.

mod error;
mod raw;
mod sample;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_link::BrokerConfig;
use muster_proto::id::HostId;

use crate::action::{LogGlobs, Scripts, Services};
use crate::collect::HostRoots;
use crate::job::{Access, JobsSection};
use crate::state::OutboxSection;
use crate::tail::journal::JournalSection;
use crate::tail::{self, SectionCounters};

pub use self::error::ConfigError;
pub use self::sample::sample;

/// Where the config is looked for unless the command line says otherwise.
pub const PATH_DEFAULT: &str = "/etc/muster/agent.toml";

/// Everything that a running agent is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The host's name, which is its broker user too.
    pub host: HostId,
    /// The folder of the state file.
    pub state_dir: PathBuf,
    /// What is logged, as `tracing-subscriber` filters are written.
    pub log: String,
    /// By how much other clocks may differ from this host's.
    pub clock_tolerance: Duration,
    /// Time between two words of presence.
    pub presence_interval: Duration,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// How to reach RabbitMQ.
    pub broker: BrokerConfig,
    /// The local HTTP interface.
    pub http: HttpSection,
    /// Keys that may sign jobs, and what they may have done.
    pub access: Access,
    /// Bounds of what waits to be sent.
    pub outbox: OutboxSection,
    /// Bounds of jobs.
    pub jobs: JobsSection,
    /// The collectors' sections by name; each parses its own.
    pub collect: BTreeMap<String, toml::Table>,
    /// Which services may be acted upon, and how.
    pub services: Services,
    /// The scripts that `script.run` may run, by name.
    pub scripts: Scripts,
    /// The log files that are followed.
    pub tail: Vec<tail::Section>,
    /// What is followed of journals.
    pub journals: Vec<JournalSection>,
    /// The logs that `log.search` may read.
    pub logs: LogGlobs,
    /// The file that says who owns which virtual server.
    pub inventory: Option<PathBuf>,
    /// Where the host's files are.
    pub roots: HostRoots,
}

/// The local HTTP interface, `[http]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpSection {
    /// Where it listens; `None` where it is off.
    pub listen: Option<SocketAddr>,
    /// Whether `/node/…` and `/` answer as the agent's forerunner did.
    pub node_paths: bool,
    /// Whether `/metrics` has the collectors' figures beside the agent's own.
    pub metrics_snapshots: bool,
    /// The file with the token that whoever asks must know. Always there where `listen` is not the loopback.
    pub token_file: Option<PathBuf>,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// When it can't be read or anything in it is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks `text`; `path` is where errors say that it came from.
    ///
    /// # Errors
    /// The first thing in it that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let source = error::Source { path, text };
        let raw: raw::RawConfig = toml::from_str(text).map_err(|error| source.refused(&error))?;
        raw.check(&source)
    }

    /// What is counted of each section that follows logs.
    #[must_use]
    pub fn log_counters(&self) -> Vec<Arc<SectionCounters>> {
        let files = self.tail.iter().map(|section| &section.counters);
        let journals = self.journals.iter().map(|section| &section.counters);
        files.chain(journals).cloned().collect()
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod tests;
