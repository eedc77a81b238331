//! A child process that cannot outlive its test. Must not know which program it is.
//!
//! Each runs in a process group of its own, so that one signal reaches everything in it, with stdout and stderr in
//! files. It dies with the thread that started it (a test that is killed leaves nothing behind), and what it
//! started elsewhere is found by a mark in the environment.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::eventually::eventually_within;

/// The environment variable by which the descendants of a [`Process`] are recognised.
const MARK: &str = "MUSTER_TEST_PROCESS";

/// How long a killed process may take to be gone.
const DEATH_LIMIT: Duration = Duration::from_secs(10);

/// The unit of CPU time in `/proc/PID/stat`: USER_HZ, 100 on every architecture that Debian has.
const TICKS_PER_SECOND: u64 = 100;

/// A running or ended child; killed and reaped when dropped, with all its descendants.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    mark: String,
    stdout: PathBuf,
    stderr: PathBuf,
    death: DeathSignal,
}

/// What a process is sent when the thread that started it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathSignal {
    /// At once; for everything without children of its own.
    Kill,
    /// So that a supervising script can end its children, as fast as it can.
    Usr1,
}

/// What the kernel says a process holds, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident set: `VmRSS` of `/proc/PID/status`.
    pub rss_kib: u64,
    /// Proportional set: `Pss` of `/proc/PID/smaps_rollup`, shared pages divided among their users.
    pub pss_kib: u64,
}

impl Process {
    /// Starts `command`; its output goes to `NAME.stdout` and `NAME.stderr` in `logs`, appended.
    ///
    /// Call it from the test's own thread, not from a pool: the child lives no longer than the calling thread.
    ///
    /// # Errors
    /// When the log files can't be opened or the program can't be started.
    pub fn spawn(name: &str, command: &Command, logs: &Path) -> Result<Self> {
        Self::spawn_with(name, command, logs, DeathSignal::Kill)
    }

    /// As [`Process::spawn`], with the signal that the end of the calling thread brings.
    ///
    /// # Errors
    /// As for [`Process::spawn`].
    pub fn spawn_with(
        name: &str,
        command: &Command,
        logs: &Path,
        death: DeathSignal,
    ) -> Result<Self> {
        let stdout = logs.join(format!("{name}.stdout"));
        let stderr = logs.join(format!("{name}.stderr"));
        let mark = uuid::Uuid::now_v7().to_string();
        let child = tied_to_us(command, death)
            .env(MARK, &mark)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?)
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        let pid = Pid::from_child(&child);
        Ok(Self {
            name: name.to_owned(),
            child,
            pid,
            mark,
            stdout,
            stderr,
            death,
        })
    }

    /// The process id, which is also the id of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote to stdout so far; bytes that are not UTF-8 are replaced.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// Everything it wrote to stderr so far; bytes that are not UTF-8 are replaced.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("ask whether {} has ended", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`; the error carries the end of its stderr.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        eventually_within(&what, limit, async || match self.exit_status() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!(
                "still running, stderr ends: {}",
                tail(&self.stderr())
            )),
            Err(error) => Err(format!("{error:#}")),
        })
        .await
    }

    /// Waits until its stderr contains `text`.
    ///
    /// # Errors
    /// When it does not within a minute, or the process ends without.
    pub async fn await_stderr(&mut self, text: &str) -> Result<()> {
        let what = format!("{text:?} on the stderr of {}", self.name);
        crate::eventually(&what, async || {
            let seen = self.stderr();
            if seen.contains(text) {
                return Ok(());
            }
            Err(format!(
                "exit {:?}, stderr ends: {}",
                self.exit_status(),
                tail(&seen)
            ))
        })
        .await
    }

    /// TERM to the process alone, then waits.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        if self.exit_status()?.is_none() {
            kill_process(self.pid, Signal::TERM)
                .with_context(|| format!("terminate {}", self.name))?;
        }
        self.wait(limit).await
    }

    /// kill -9 of the whole group, then waits. What it had started in other groups goes on, as it would in life.
    ///
    /// # Errors
    /// When it is not gone within seconds.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.signal_group(Signal::KILL)?;
        self.wait(DEATH_LIMIT).await
    }

    /// STOP to the whole group: it stays, holds its connections, and from the return on does nothing.
    ///
    /// # Errors
    /// When it has ended, and when a thread of it still runs after seconds.
    pub async fn pause(&self) -> Result<()> {
        self.signal_group(Signal::STOP)?;
        // The kernel returns at once; a thread stops when it is next looked at, 25 ms later on two busy cores.
        let what = format!("every thread of {} stands still", self.name);
        eventually_within(&what, DEATH_LIMIT, async || {
            crate::want(self.moving_threads(), vec![])
        })
        .await
    }

    /// CONT to the whole group.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal_group(Signal::CONT)
    }

    /// HUP to the process alone: daemons read their config again.
    ///
    /// # Errors
    /// When it has ended.
    pub fn hang_up(&self) -> Result<()> {
        kill_process(self.pid, Signal::HUP).with_context(|| format!("send HUP to {}", self.name))
    }

    /// What it holds of memory now.
    ///
    /// # Errors
    /// When it has ended or is another user's.
    pub fn memory(&self) -> Result<Memory> {
        memory_of(self.pid())
    }

    /// CPU time it has used since its start, user and system, all threads.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.pid())
    }

    /// Processes that this one started, directly or not, in whatever group, that are there now.
    pub fn descendants(&self) -> Vec<u32> {
        marked(&self.mark)
            .into_iter()
            .filter(|pid| *pid != self.pid())
            .collect()
    }

    /// Threads of the group that are not stopped and not dead, as `/proc` paths.
    fn moving_threads(&self) -> Vec<String> {
        marked(&self.mark)
            .into_iter()
            .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
            .flatten()
            .filter_map(|thread| {
                let path = thread.ok()?.path();
                let text = fs::read_to_string(path.join("stat")).ok()?;
                let mut fields = after_name(&text);
                let (state, group) = (fields.next()?, fields.nth(1)?);
                let ours = group.parse() == Ok(self.pid.as_raw_nonzero().get());
                (ours && !"TtZX".contains(state)).then(|| path.display().to_string())
            })
            .collect()
    }

    fn signal_group(&self, signal: Signal) -> Result<()> {
        kill_process_group(self.pid, signal)
            .with_context(|| format!("send {signal:?} to the process group of {}", self.name))
    }

    /// Kills whatever still carries our mark, until nothing does.
    fn sweep(&self) {
        // Each round kills what it sees; a process that forks while it is looked for is seen in the next.
        for _ in 0..100 {
            let left = marked(&self.mark);
            for pid in &left {
                if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                    // It may have ended since it was seen, which is what is wanted.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            if left.is_empty() {
                return;
            }
            pause_blocking();
        }
        tracing::error!(
            name = self.name,
            "processes that would not die: {:?}",
            marked(&self.mark)
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // A stopped group acts on USR1 only once it goes on.
            let _ = kill_process_group(self.pid, Signal::CONT);
            let signal = if self.death == DeathSignal::Usr1 {
                Signal::USR1
            } else {
                Signal::KILL
            };
            let _ = kill_process_group(self.pid, signal);
            for _ in 0..500 {
                if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                    break;
                }
                pause_blocking();
            }
        }
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.wait();
        self.sweep();
    }
}

/// `setpriv` asks the kernel for the death signal and becomes the program, so the pid stays the same.
fn tied_to_us(command: &Command, death: DeathSignal) -> Command {
    let mut tied = Command::new("setpriv");
    tied.args([
        "--pdeathsig",
        if death == DeathSignal::Usr1 {
            "USR1"
        } else {
            "KILL"
        },
        "--",
    ]);
    tied.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(key, value),
            None => tied.env_remove(key),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        tied.current_dir(directory);
    }
    tied
}

fn append(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {} for a child's output", path.display()))
}

fn read_lossy(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(can't read {}: {error})", path.display()),
    }
}

/// The last lines, for an error message.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .rev()
        .take(12)
        .rev()
        .copied()
        .collect::<Vec<_>>()
        .join("\n  ")
}

/// What a process holds of memory now.
pub(crate) fn memory_of(pid: u32) -> Result<Memory> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    Ok(Memory {
        rss_kib: kib_field(&directory.join("status"), "VmRSS:")?,
        pss_kib: kib_field(&directory.join("smaps_rollup"), "Pss:")?,
    })
}

/// CPU time that a process has used since its start, user and system, all threads.
pub(crate) fn cpu_of(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // utime and stime are fields 14 and 15.
    let ticks = after_name(&text)
        .skip(11)
        .take(2)
        .map(|field| {
            field
                .parse::<u64>()
                .with_context(|| format!("read {field:?} of {path}"))
        })
        .sum::<Result<u64>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The fields of a `stat` file from the third on, the state (proc(5)): the name before it may hold blanks and brackets.
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    rest.split_whitespace()
}

fn kib_field(path: &Path, key: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let Some(line) = text.lines().find(|line| line.starts_with(key)) else {
        bail!("{} has no line {key}", path.display());
    };
    let figure = line.split_whitespace().nth(1).unwrap_or_default();
    figure
        .parse()
        .with_context(|| format!("read {line:?} of {}", path.display()))
}

/// Processes whose environment holds the mark; zombies have none and are not seen.
fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment
                    .split(|byte| *byte == 0)
                    .any(|entry| entry == wanted.as_bytes())
            })
        })
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "drop can't await, and the child's end is near"
)]
fn pause_blocking() {
    std::thread::sleep(Duration::from_millis(10));
}
