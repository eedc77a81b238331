//! A private RabbitMQ node: started, asked and ended. What is done to it is [`Broker`](crate::Broker)'s.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::broker::local;
use crate::eventually::eventually_within;
use crate::management::Management;
use crate::ports::PortBlock;
use crate::process::{DeathSignal, Process};

/// Limit of a boot; 10 s were seen on two busy cores.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How a private node differs from the plain one.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Lines for `rabbitmq.conf`; a key given here replaces the harness's.
    pub config: Vec<String>,
}

/// A private node: its directory, its ports, its process while it runs.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) process: Option<Process>,
    pub(crate) directory: TempDir,
    pub(crate) ports: PortBlock,
}

impl Node {
    pub(crate) async fn start(&mut self) -> Result<()> {
        let port = self.ports.port(0);
        let mut command = Command::new(script());
        command
            .arg("run")
            .arg(self.directory.path())
            .arg(port.to_string());
        let mut process = Process::spawn_with(
            "rabbitmq-node",
            &command,
            self.directory.path(),
            DeathSignal::Usr1,
        )?;
        let management = Management::at(local(self.ports.port(1)))?;
        let log = self.directory.path().join("log/node.log");
        let ready = eventually_within("RabbitMQ takes clients", BOOT_LIMIT, async || {
            if let Ok(Some(status)) = process.exit_status() {
                // No use in waiting on; reported below.
                return Ok(Err(anyhow::anyhow!(
                    "RabbitMQ ended with {status}: {}",
                    process.stderr()
                )));
            }
            management.ready(port).await.map(Ok)
        });
        let ready = ready.await.and_then(|outcome| outcome);
        ready
            .with_context(|| format!("start a broker; the end of its log: {}", last_lines(&log)))?;
        self.process = Some(process);
        Ok(())
    }

    pub(crate) fn running(&self) -> Result<&Process> {
        self.process.as_ref().context("the broker does not run")
    }

    /// Runs `rabbitmqctl`: seconds, where the management API takes 20 ms; for what only it can do.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> Result<()> {
        self.running()?;
        let mut command = Command::new(script());
        command
            .arg("ctl")
            .arg(self.directory.path())
            .arg(self.ports.port(0).to_string())
            .args(arguments);
        let mut process = Process::spawn("rabbitmqctl", &command, self.directory.path())?;
        let status = process.wait(BOOT_LIMIT).await?;
        if !status.success() {
            bail!(
                "rabbitmqctl {arguments:?} gave {status}: {}{}",
                process.stdout(),
                process.stderr()
            );
        }
        Ok(())
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/rabbitmq-node")
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("(can't read it: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(20))
        .fold(String::new(), |all, line| all + "\n  " + line)
}
