//! The command line of `muster-agent`, and what its small commands do. It must not know how the agent runs.

mod tail;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use muster_proto::packed::Packed;

use crate::collect::{self, Built, COLLECTORS, SampleTime};
use crate::config::{Config, ConfigError, PATH_DEFAULT};
use crate::stack::apart;

pub use tail::{TailArgs, rules, test as tail_test};

/// Watches this host, publishes what it sees over RabbitMQ, and carries out signed jobs.
#[derive(Debug, Parser)]
#[command(name = "muster-agent", version, max_term_width = 100)]
pub struct Cli {
    /// The config file.
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// What to log, as in "info,muster_agent::job=debug"; overrides the config.
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM or SIGINT.
    Run,
    /// Check config, rights and broker, and change nothing.
    ///
    /// Prints one line for each check. Exit codes: 0 good, 1 something does not hold, 2 the config is wrong, 69 the
    /// broker can't be used.
    Check {
        /// Leave the broker out.
        #[arg(long)]
        offline: bool,
    },
    /// Run collectors once and print their snapshots as JSON, without a broker.
    Collect {
        /// The collectors; all of them if left out.
        names: Vec<String>,
        /// Time between the two samples that rates are made of; 0s takes one sample, without rates.
        #[arg(long, default_value = "1s", value_name = "TIME", value_parser = interval)]
        interval: Duration,
    },
    /// Show what log rules make of a file, without an agent.
    ///
    /// Exit codes: 0 a line matched and every example of the rules did, 1 not so, 2 the rules can't be used.
    Tail(TailArgs),
    /// About the config file.
    Config {
        /// What about it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// What there is about the config file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a documented config with every key and its default.
    Default,
}

impl Cli {
    /// The config file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(PATH_DEFAULT))
    }

    /// Reads the config.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        apart(|| Config::load(self.path()))
    }

    /// Reads the config; the defaults where none was named and there is none.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_or_default(&self) -> Result<Config, ConfigError> {
        if self.config.is_none() && !self.path().exists() {
            return Config::parse("", self.path());
        }
        self.load()
    }
}

/// Runs collectors and prints what they give as one JSON object by name, indented on a terminal; errors go to standard
/// error. Whether all of them worked.
///
/// # Errors
/// A name that no collector has, or an output that can't be written.
pub async fn collect(config: Config, names: &[String], interval: Duration) -> anyhow::Result<bool> {
    let mut wanted = collectors(config, names)?;
    let started = Instant::now();
    if !interval.is_zero() {
        for built in &mut wanted {
            // Only the second sample is shown; what fails here will fail there.
            _ = sample(built, started);
        }
        tokio::time::sleep(interval).await;
    }
    let mut snapshots = BTreeMap::new();
    let mut good = true;
    for built in &mut wanted {
        match sample(built, started) {
            Ok(snapshot) => _ = snapshots.insert(built.spec.name, snapshot),
            Err(error) => {
                good = false;
                writeln!(io::stderr(), "error: {error}")?;
            }
        }
    }
    let stdout = io::stdout();
    let text = if stdout.is_terminal() {
        serde_json::to_string_pretty(&snapshots)
    } else {
        serde_json::to_string(&snapshots)
    };
    print(&format!("{}\n", text.context("encode the snapshots")?))?;
    Ok(good)
}

/// Prints to standard output; a reader that has gone away is no error.
///
/// # Errors
/// When it can't be written for another reason.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn collectors(config: Config, names: &[String]) -> anyhow::Result<Vec<Built>> {
    let mut built = collect::build_all(&config.roots, config.collect)?;
    for name in names {
        if !COLLECTORS.iter().any(|spec| spec.name == name) {
            let known: Vec<_> = COLLECTORS.iter().map(|spec| spec.name).collect();
            bail!(
                "no such collector {name:?}; there are: {}",
                known.join(", ")
            );
        }
        if !built.iter().any(|built| built.spec.name == name) {
            bail!(
                "the collector {name} is switched off in the config, or has nothing to watch: see `enabled` and the other keys of [collect.{name}]"
            );
        }
    }
    if !names.is_empty() {
        built.retain(|built| names.iter().any(|name| name == built.spec.name));
    }
    Ok(built)
}

fn sample(built: &mut Built, started: Instant) -> Result<Packed, String> {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let now = SampleTime {
        wall_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms),
        mono_ms: ms(started.elapsed()),
    };
    built
        .collector
        .collect(now)
        .map(|collected| collected.snapshot)
        .map_err(|error| error.to_string())
}

fn interval(text: &str) -> Result<Duration, String> {
    let wanted = || "a time such as 1s or 500ms is wanted".to_owned();
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wanted())?;
    Duration::try_from(signed).map_err(|_| wanted())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn intervals_are_times() {
        assert_eq!(interval("0s"), Ok(Duration::ZERO));
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert!(interval("-1s").is_err());
        assert!(interval("soon").is_err());
    }
}
