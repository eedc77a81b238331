//! Muster's own programs, as a test runs them: each with a directory of its own and nothing of the machine's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::Process;

/// Says where the binaries are when not beside the tests.
const BIN_DIR_VARIABLE: &str = "MUSTER_BIN_DIR";

/// Limit of one command of `muster`; none that ends by itself takes near as long.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// The path of one of our binaries: in `MUSTER_BIN_DIR`, else where cargo puts what it builds with these tests.
///
/// # Errors
/// When it is not there; the error says how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let directory = match std::env::var_os(BIN_DIR_VARIABLE) {
        Some(directory) => PathBuf::from(directory),
        None => beside_the_tests()?,
    };
    let path = directory.join(name);
    if !path.is_file() {
        bail!(
            "no {name} in {}: build it with cargo build --workspace --bins",
            directory.display()
        );
    }
    Ok(path)
}

/// The program `muster` with a home of its own.
#[derive(Debug)]
pub struct Muster {
    program: PathBuf,
    home: PathBuf,
    environment: Vec<(String, String)>,
}

/// How a command ended and what it wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 128 + the signal where a signal ended it, as shells say it.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Muster {
    /// With `home` for its config, cache and keys; the directory must exist.
    ///
    /// # Errors
    /// When the program is not built.
    pub fn at(home: &Path) -> Result<Self> {
        Ok(Self {
            program: binary("muster")?,
            home: home.to_owned(),
            environment: Vec::new(),
        })
    }

    /// Sets an environment variable for all commands from now on.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Where its files are.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it can't be started or has not ended after two minutes. Failing is not an error here: see the code.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let logs = tempfile::tempdir().context("make a directory for the output of muster")?;
        let mut process = Process::spawn("muster", &self.command(arguments), logs.path())?;
        let status = process
            .wait(COMMAND_LIMIT)
            .await
            .with_context(|| format!("muster {arguments:?}; stdout: {}", process.stdout()))?;
        Ok(Output {
            code: exit_code(status),
            stdout: process.stdout(),
            stderr: process.stderr(),
        })
    }

    /// As [`Muster::run`], for commands that must end with 0.
    ///
    /// # Errors
    /// Also when it ends with another code; the error holds everything it wrote.
    pub async fn succeed(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.run(arguments).await?;
        if output.code != 0 {
            bail!(
                "muster {arguments:?} ended with {}: {}{}",
                output.code,
                output.stderr,
                output.stdout
            );
        }
        Ok(output)
    }

    /// Starts a command that goes on until it is stopped; `name` is for its log files in the home.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        Process::spawn(name, &self.command(arguments), &self.home)
    }

    /// The command, for a test that starts it in a way of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", self.home.join(".config"))
            .env("XDG_CACHE_HOME", self.home.join(".cache"))
            .env("XDG_STATE_HOME", self.home.join(".state"))
            .env("NO_COLOR", "1")
            .env_remove("COLUMNS")
            .current_dir(&self.home);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

impl Output {
    /// Stdout as one JSON value.
    ///
    /// # Errors
    /// When it is not JSON; the error holds both streams.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("read as JSON: {self:?}"))
    }

    /// Stdout as JSON lines.
    ///
    /// # Errors
    /// When a line is not JSON; the error holds it.
    pub fn json_lines(&self) -> Result<Vec<Value>> {
        json_lines(&self.stdout)
    }
}

/// Complete lines of `text` as JSON values; a last line without its end is left for later.
///
/// # Errors
/// When a line is not JSON; the error holds it.
pub fn json_lines(text: &str) -> Result<Vec<Value>> {
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n') && !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).with_context(|| format!("read as JSON: {line}")))
        .collect()
}

/// `target/debug/deps/cases-…` lies one below the binaries.
fn beside_the_tests() -> Result<PathBuf> {
    let test = std::env::current_exe().context("ask for the path of the test binary")?;
    let directory = test.parent().and_then(Path::parent);
    Ok(directory
        .with_context(|| format!("no directory above {}", test.display()))?
        .to_owned())
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
