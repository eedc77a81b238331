//! A program of the page at work, and what it has printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use muster_harness::Process;
use muster_harness::fleet::binary;

use super::program;

/// A program of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    Node,
    Rust,
}

/// The program as a process, with a subscriber's access.
pub(super) struct Subscriber {
    pub(super) language: Language,
    pub(super) queue: String,
    command: Command,
    folder: PathBuf,
    name: String,
    process: Option<Process>,
}

/// One printed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) host: String,
    pub(super) seq: u64,
    pub(super) topic: String,
    pub(super) rest: String,
}

impl Language {
    pub(super) const ALL: [Self; 3] = [Self::Python, Self::Node, Self::Rust];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Rust => "rust",
        }
    }

    /// The program, taken from the page (the Rust one when these tests were built).
    fn command(self, folder: &Path) -> Result<Command> {
        let written = |language: &str, file: &str| -> Result<PathBuf> {
            let path = folder.join(file);
            std::fs::write(&path, program(language)?)?;
            Ok(path)
        };
        Ok(match self {
            Self::Python => {
                // The distribution's own, which has the distribution's packages.
                let mut command = Command::new("/usr/bin/python3");
                command.arg(written("python", "subscribe.py")?);
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command
                    .arg(written("js", "subscribe.js")?)
                    .env("NODE_PATH", node_modules()?);
                command
            }
            Self::Rust => Command::new(binary("documented-subscriber")?),
        })
    }
}

impl Subscriber {
    /// Of the subscriber `user` with `url`; not started yet. `environment` and `arguments` as a person would add them.
    pub(super) fn new(
        language: Language,
        folder: &Path,
        (user, url): &(String, String),
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Self> {
        let name = format!("{}-{}", language.name(), arguments.len());
        let mut command = language.command(folder)?;
        command
            .args(arguments)
            .env("MUSTER_URL", url)
            .envs(environment.iter().copied());
        Ok(Self {
            language,
            queue: format!("sub.{user}.{}", language.name()),
            command,
            folder: folder.to_owned(),
            name,
            process: None,
        })
    }

    pub(super) fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        self.process = Some(Process::spawn(&self.name, &self.command, &self.folder)?);
        Ok(())
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        process.kill().await.map(drop)
    }

    /// Everything that it has printed, over all its starts.
    pub(super) fn lines(&self) -> Result<Vec<Line>> {
        let path = self.folder.join(format!("{}.stdout", self.name));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole.map(|line| Line::parse(line.trim_end())).collect()
    }

    /// What it has said when something was wrong.
    pub(super) fn complaints(&self) -> String {
        let path = self.folder.join(format!("{}.stderr", self.name));
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Line {
    fn parse(text: &str) -> Result<Self> {
        let mut words = text.splitn(5, ' ');
        let mut next = || {
            words
                .next()
                .with_context(|| format!("a short line: {text:?}"))
        };
        Ok(Self {
            id: next()?.to_owned(),
            host: next()?.to_owned(),
            seq: next()?.parse().with_context(|| text.to_owned())?,
            topic: next()?.to_owned(),
            rest: next()?.to_owned(),
        })
    }
}

/// What was printed of each host, by number: the first line of each. Fails on two messages with one number, on lines
/// under one id that differ, and where the first ones are out of order.
pub(super) fn firsts<'a>(
    lines: impl Iterator<Item = &'a Line>,
) -> Result<BTreeMap<String, BTreeMap<u64, Line>>> {
    let mut hosts: BTreeMap<String, BTreeMap<u64, Line>> = BTreeMap::new();
    for line in lines {
        let host = hosts.entry(line.host.clone()).or_default();
        match host.get(&line.seq) {
            Some(first) if first == line => continue,
            Some(first) => bail!("two messages with one number: {first:?} and {line:?}"),
            None => {}
        }
        if let Some((last, _)) = host.last_key_value() {
            ensure!(*last < line.seq, "{line:?} comes after number {last}");
        }
        host.insert(line.seq, line.clone());
    }
    Ok(hosts)
}

/// Where `tests/run` has put the Node packages.
fn node_modules() -> Result<PathBuf> {
    let modules = match std::env::var_os("MUSTER_TEST_NODE_MODULES") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tools/node/node_modules"),
    };
    ensure!(
        modules.join("amqplib").is_dir(),
        "no amqplib in {}: run tests/run --install-only",
        modules.display()
    );
    Ok(modules)
}
