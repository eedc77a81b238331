//! A real systemd as PID 1 of a PID namespace, with a real system bus and journal; all of it ends with the value.
//!
//! What runs inside shares the network and the files of the machine, but not `/run`, `/dev`, the process ids or a single
//! unit: the machine's own would work on the machine (`systemd-tmpfiles` empties `/tmp`). Needs root.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::process::{DeathSignal, Process};

/// Limit for a command inside.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A service manager of the test's own.
#[derive(Debug)]
pub struct Systemd {
    // Dropped first: it cleans up through a mount in the directory.
    process: Process,
    directory: TempDir,
    init: u32,
}

impl Systemd {
    /// Boots it, with the units below, none of them started:
    ///
    /// - `demo-good.service` runs;
    /// - `demo-bad.service` says `no such luck` on stderr and exits with 3 whenever it is started;
    /// - `demo-slow.service` needs two seconds to start;
    /// - `demo-reload.service` counts its reloads in the file `reloads` of [`Systemd::directory`];
    /// - `demo-once.service` is a oneshot that succeeds.
    ///
    /// # Errors
    /// Without root, without the packages systemd and dbus, or when it does not come up.
    pub async fn start() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("a systemd of the test's own needs root: run these tests as root");
        }
        let directory = tempfile::Builder::new()
            .prefix("muster-systemd-")
            .tempdir()
            .context("make a directory for systemd")?;
        for sub in ["bus", "units"] {
            fs::create_dir(directory.path().join(sub))
                .with_context(|| format!("make the directory {sub}"))?;
        }
        write_units(&directory.path().join("units"), directory.path())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/systemd-namespace");
        let mut command = Command::new(script);
        command.arg(directory.path());
        let mut process =
            Process::spawn_with("systemd", &command, directory.path(), DeathSignal::Usr1)?;
        let init = await_init(&mut process, directory.path()).await?;
        let systemd = Self {
            directory,
            init,
            process,
        };
        systemd.await_running().await?;
        Ok(systemd)
    }

    /// Holds the bus socket, the unit files, and what the demo units write.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The pid of the script that holds it, after which its control group is named.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// For `DBUS_SYSTEM_BUS_ADDRESS` of a program that runs outside.
    pub fn bus_address(&self) -> String {
        format!(
            "unix:path={}",
            self.directory
                .path()
                .join("bus/system_bus_socket")
                .display()
        )
    }

    /// `program` as a command that sees this systemd's bus and journal where a machine has them, e.g. an agent.
    ///
    /// It keeps the machine's process ids (and a `/proc` that shows them), so signals reach it as they reach any child.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.init.to_string(),
            "--mount",
            // In a chroot the namespace's root is not systemd's.
            "--root",
            "--wd=/",
            "--",
        ]);
        // A fresh /proc in a mount namespace of its own: systemd's shows only what is below systemd.
        command.args([
            "unshare",
            "--mount",
            "--",
            "sh",
            "-c",
            r#"mount -t proc proc /proc && exec "$@""#,
            "-",
        ]);
        command.arg(program);
        command
    }

    /// Runs a program inside to its end; returns its stdout.
    ///
    /// # Errors
    /// When it fails; the error holds its stderr.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        // systemctl speaks to PID 1 directly, which wants to know who it is: it must be inside with its process id.
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.init.to_string(),
            "--mount",
            "--root",
            "--pid",
            "--wd=/",
            "--",
            program,
        ]);
        command.args(arguments);
        let logs = tempfile::tempdir_in(self.directory.path())
            .context("make a directory for its output")?;
        let mut process = Process::spawn("command", &command, logs.path())?;
        let status = process.wait(COMMAND_LIMIT).await?;
        if !status.success() {
            bail!(
                "{program} {arguments:?} gave {status}: {}{}",
                process.stdout(),
                process.stderr()
            );
        }
        Ok(process.stdout())
    }

    /// One property of a unit, as `systemctl show` prints it.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub async fn property(&self, unit: &str, name: &str) -> Result<String> {
        let shown = self
            .run("systemctl", &["show", "--value", "--property", name, unit])
            .await?;
        Ok(shown.trim().to_owned())
    }

    /// Adds or replaces a unit file and has systemd read it.
    ///
    /// # Errors
    /// When the file can't be written or systemd does not answer.
    pub async fn put_unit(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.path().join("units").join(name);
        fs::write(&path, text).with_context(|| format!("write the unit {}", path.display()))?;
        self.run("systemctl", &["daemon-reload"]).await.map(drop)
    }

    /// What it said before it had a journal.
    fn kernel_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("kernel.log"))
            .unwrap_or_else(|error| error.to_string())
    }

    async fn await_running(&self) -> Result<()> {
        eventually("systemd is up", async || {
            let state = self.run("systemctl", &["is-system-running"]).await;
            let state =
                state.map_err(|error| format!("{error:#}; its log: {}", self.kernel_log()))?;
            crate::want(state.trim(), "running")
        })
        .await
    }
}

/// The script writes the pid that systemd has outside.
async fn await_init(process: &mut Process, directory: &Path) -> Result<u32> {
    let path = directory.join("init.pid");
    let outcome = eventually("systemd has a pid", async || match process.exit_status() {
        Ok(None) => fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                text.trim()
                    .parse::<u32>()
                    .map_err(|error| error.to_string())
            })
            .map(Ok),
        ended => Ok(Err(anyhow::anyhow!(
            "it ended: {ended:?}: {}",
            process.stderr()
        ))),
    });
    outcome
        .await
        .and_then(|outcome| outcome)
        .context("start systemd in a namespace")
}

fn write_units(units: &Path, directory: &Path) -> Result<()> {
    let reloads: PathBuf = directory.join("reloads");
    let services = [
        ("demo-good", "ExecStart=/bin/sleep infinity".to_owned()),
        ("demo-bad", "ExecStart=/bin/sh -c 'echo no such luck >&2; exit 3'\nType=exec\nExecStartPre=/bin/sh -c 'echo no such luck >&2; exit 3'".to_owned()),
        ("demo-slow", "ExecStartPre=/bin/sleep 2\nExecStart=/bin/sleep infinity".to_owned()),
        (
            "demo-reload",
            format!(
                "ExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'echo reloaded >>{}'",
                reloads.display()
            ),
        ),
        ("demo-once", "Type=oneshot\nExecStart=/bin/true".to_owned()),
    ];
    for (name, service) in services {
        let text = format!(
            "[Unit]\nDescription=Muster test: {name}\nDefaultDependencies=no\n\n[Service]\n{service}\n"
        );
        let path = units.join(format!("{name}.service"));
        fs::write(&path, text).with_context(|| format!("write the unit {}", path.display()))?;
    }
    Ok(())
}
