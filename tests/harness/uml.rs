//! A guest with a Linux kernel of its own, which has IPVS, and one cable to this process; all of it ends with the value.
//!
//! User-Mode Linux: a kernel that is a process, up in two seconds, with this machine's programs and files. The machine's
//! own kernel needs no IPVS and sees none of the guest's tables, addresses and processes. Needs root.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::eventually::eventually_within;
use crate::fleet::Output;
use crate::process::Process;
use crate::proxy::Proxy;

/// This end of the cable, as the guest sees it.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The first port on which the guest reaches what is outside.
const FIRST_PORT: u16 = 5001;

/// A guest's memory; what it does not use costs nothing.
const MEMORY: &str = "256M";

/// Limit of a boot; three seconds were seen on two busy cores.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Limit of a command in the guest.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// How often a command's end is looked for. Shorter than what starting a process takes in there (20 ms).
const GLANCE: Duration = Duration::from_millis(4);

/// A running guest. It has nothing but `lo`, `dummy0` and `vec0`, the cable; root's commands make the rest.
#[derive(Debug)]
pub struct Guest {
    // Dropped first: it writes into the directory.
    process: Process,
    directory: TempDir,
    commands: AtomicU32,
    ports: AtomicU32,
}

/// A program that goes on in the guest until it is told to end, or the guest ends.
#[derive(Debug)]
pub struct Background(String);

impl Guest {
    /// Boots one, with the IPVS schedulers loaded and an empty table.
    ///
    /// # Errors
    /// Without root or the packages, or when it does not come up; the error ends with what its kernel said.
    pub async fn start() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("a kernel of the test's own needs root: run these tests as root");
        }
        let directory = tempfile::Builder::new()
            .prefix("muster-guest-")
            .tempdir()
            .context("make a directory for a guest")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/uml-guest");
        let mut command = Command::new(script);
        command.arg(directory.path()).arg(MEMORY);
        let mut guest = Self {
            process: Process::spawn("guest", &command, directory.path())?,
            directory,
            commands: AtomicU32::new(0),
            ports: AtomicU32::new(0),
        };
        guest.await_up().await?;
        Ok(guest)
    }

    /// A folder that is the same in the guest and out here, writable, at the same path.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a folder of this machine writable in the guest, at its own path. All else is read-only there, and what lies
    /// in `/tmp`, `/run` or `/var/log` is not seen.
    ///
    /// # Errors
    /// When there is no such folder.
    pub async fn share(&self, folder: &Path) -> Result<()> {
        let folder = quote(&folder.display().to_string());
        let mount = format!("mkdir -p {folder}\nmount -t hostfs -o {folder} none {folder}");
        self.succeed(&mount).await.map(drop)
    }

    /// Runs a shell script (of `/bin/sh`) as root in the guest, to its end. Any number may run at a time.
    ///
    /// # Errors
    /// When the guest has ended or the script has not after two minutes. Failing is not an error here: see the code.
    pub async fn run(&self, script: &str) -> Result<Output> {
        let id = self.give(|_| script.to_owned())?;
        self.await_end(&id, COMMAND_LIMIT)
            .await
            .with_context(|| format!("run in the guest: {script}"))
    }

    /// As [`Guest::run`], for scripts of which every line must succeed; returns stdout.
    ///
    /// # Errors
    /// Also when a line fails; the error holds everything it wrote.
    pub async fn succeed(&self, script: &str) -> Result<String> {
        let output = self.run(&format!("set -e\n{script}")).await?;
        if output.code != 0 {
            bail!("in the guest: {script}\ngave {output:?}");
        }
        Ok(output.stdout)
    }

    /// Starts one program with its arguments, as a shell takes them, and lets it run.
    ///
    /// # Errors
    /// When the guest has ended.
    pub fn spawn(&self, program: &str) -> Result<Background> {
        let id = self.give(|id| format!("echo $$ >{}.pid\nexec {program}\n", self.quoted(id)))?;
        Ok(Background(id))
    }

    /// As [`Guest::spawn`] for a program of this machine, with arguments and environment.
    ///
    /// # Errors
    /// When the guest has ended.
    pub fn spawn_command(&self, command: &Command) -> Result<Background> {
        self.spawn(&shell_words(command))
    }

    /// Runs a program of this machine, with arguments and environment, to its end.
    ///
    /// # Errors
    /// As for [`Guest::run`].
    pub async fn run_command(&self, command: &Command) -> Result<Output> {
        self.run(&shell_words(command)).await
    }

    /// Everything that a program in the background has written to stdout and then to stderr so far.
    pub fn output_of(&self, background: &Background) -> String {
        read(&self.path(&background.0, "out")) + &read(&self.path(&background.0, "err"))
    }

    /// Sends a program in the background a signal, by name, unless it has ended, and waits for its end.
    ///
    /// # Errors
    /// When it has not ended after a minute.
    pub async fn end(&self, background: Background, signal: &str) -> Result<Output> {
        let Background(id) = background;
        let pid = format!("{}.pid", self.quoted(&id));
        // It may not have come to write its process id yet.
        let script =
            format!("until [ -s {pid} ]; do busybox sleep 0.02; done; kill -{signal} $(cat {pid})");
        if !self.path(&id, "code").exists() {
            self.run(&script).await?;
        }
        self.await_end(&id, Duration::from_secs(60)).await
    }

    /// Makes a server of this machine reachable in the guest, at the address of the proxy that is returned.
    ///
    /// # Errors
    /// When the guest has ended.
    pub fn reach(&self, server: SocketAddr) -> Result<Proxy> {
        let offset = u16::try_from(self.ports.fetch_add(1, Ordering::Relaxed))?;
        let address = SocketAddr::from((OUTSIDE, FIRST_PORT + offset));
        let listener = listen_in_network_of(self.process.pid(), address)?;
        Proxy::behind(listener, server)
    }

    /// What its kernel has said; for the errors of tests.
    pub fn console(&self) -> String {
        read(&self.directory.path().join("console"))
    }

    /// The pid of the process that holds it; its network namespace has this end of the cable.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    async fn await_up(&mut self) -> Result<()> {
        let up = self.directory.path().join("up");
        let process = &mut self.process;
        let outcome =
            eventually_within(
                "the guest takes commands",
                BOOT_LIMIT,
                async || match process.exit_status() {
                    Ok(None) if up.exists() => Ok(Ok(())),
                    Ok(None) => Err("it is booting".to_owned()),
                    ended => Ok(Err(anyhow::anyhow!(
                        "it ended: {ended:?}: {}",
                        process.stderr()
                    ))),
                },
            );
        let outcome = outcome.await.and_then(|outcome| outcome);
        outcome.with_context(|| format!("start a guest; its kernel said: {}", self.console()))
    }

    /// Writes a script down and tells the guest to run it; its name.
    fn give(&self, script: impl FnOnce(&str) -> String) -> Result<String> {
        let id = format!("c{}", self.commands.fetch_add(1, Ordering::Relaxed));
        let path = self.path(&id, "sh");
        fs::write(&path, script(&id)).with_context(|| format!("write {}", path.display()))?;
        self.commands_pipe()?
            .write_all(format!("{id}\n").as_bytes())
            .context("speak to the guest")?;
        Ok(id)
    }

    fn commands_pipe(&self) -> Result<File> {
        let pipe = self.directory.path().join("commands");
        // Not blocking: where nobody reads, the guest is gone.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(&pipe, flags, Mode::empty())
            .with_context(|| format!("the guest has ended; its kernel said: {}", self.console()))?;
        Ok(File::from(pipe))
    }

    async fn await_end(&self, id: &str, limit: Duration) -> Result<Output> {
        let code = self.path(id, "code");
        let began = std::time::Instant::now();
        while !code.exists() {
            if began.elapsed() > limit {
                bail!(
                    "no end after {limit:?}; so far: {}{}; the kernel said: {}",
                    read(&self.path(id, "out")),
                    read(&self.path(id, "err")),
                    self.console()
                );
            }
            self.commands_pipe()?;
            tokio::time::sleep(GLANCE).await;
        }
        let text = read(&code);
        Ok(Output {
            code: text
                .trim()
                .parse()
                .with_context(|| format!("read the exit code {text:?}"))?,
            stdout: read(&self.path(id, "out")),
            stderr: read(&self.path(id, "err")),
        })
    }

    fn path(&self, id: &str, kind: &str) -> PathBuf {
        self.directory.path().join(format!("{id}.{kind}"))
    }

    fn quoted(&self, id: &str) -> String {
        quote(&self.directory.path().join(id).display().to_string())
    }
}

/// A listener in the network namespace of another process. A socket stays in the namespace where it was made, so a
/// thread goes there for as long as it takes; no thread of the runtime is ever elsewhere.
fn listen_in_network_of(pid: u32, address: SocketAddr) -> Result<TcpListener> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).with_context(|| format!("open {path}"))?;
    let listening = std::thread::spawn(move || -> Result<TcpListener> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .context("go into the guest's network namespace")?;
        TcpListener::bind(address).with_context(|| format!("listen on {address}"))
    });
    match listening.join() {
        Ok(listener) => listener,
        Err(_panicked) => bail!("the thread that listens on {address} panicked"),
    }
}

/// A command as a line for a shell.
fn shell_words(command: &Command) -> String {
    let mut line = String::from("env");
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            let pair = format!("{}={}", key.to_string_lossy(), value.to_string_lossy());
            let _ = write!(line, " {}", quote(&pair));
        }
    }
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        let _ = write!(line, " {}", quote(&word.to_string_lossy()));
    }
    line
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn read(path: &Path) -> String {
    fs::read(path).map_or_else(
        |error| format!("(can't read {}: {error})", path.display()),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
