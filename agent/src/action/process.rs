//! Runs one program in a process group of its own and ends it on time, with everything in that group. It must not know
//! what it runs, or why.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use muster_proto::job::OutputStream;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{OutputSink, TERM_GRACE};

/// How much of the start, and as much of the end, of each output the result holds. Both of both outputs, each byte a
/// replacement character of three, still fit a result of 1 MiB.
pub(super) const KEPT_BYTES_MAX: usize = 64 * 1024;

/// How long the pipes are read on after the program ended: one that left its process group may hold them for ever.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// How long a daemon has to leave the group once the program that started it has ended. Daemons fork, let the first
/// process end, and only then take a session of their own (daemon(3)).
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// How often it is looked whether anybody is left in the group.
const LEAVE_GLANCE: Duration = Duration::from_millis(10);

const READ_BYTES: usize = 16 * 1024;

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its status; `None` where it could not be had.
    pub(super) status: Option<ExitStatus>,
    /// Whether it was told to end.
    pub(super) stopped: bool,
    /// Its standard output.
    pub(super) stdout: Kept,
    /// Its standard error.
    pub(super) stderr: Kept,
}

/// The start and the end of an output.
#[derive(Debug, Default)]
pub(super) struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(KEPT_BYTES_MAX - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(KEPT_BYTES_MAX);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    /// As text, with a line where something was left out, and how many bytes that were.
    pub(super) fn into_text(self) -> (String, u64) {
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.left_out > 0 {
            text.push_str(&format!("\n[{} bytes left out]\n", self.left_out));
        }
        let tail: Vec<u8> = self.tail.into();
        text.push_str(&String::from_utf8_lossy(&tail));
        (text, self.left_out)
    }
}

/// Ends the whole group when it is dropped, whatever way the run ends.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // The group may be gone already: nothing to end then.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Whether nobody is left in it.
    fn is_empty(&self) -> bool {
        self.0
            .is_none_or(|pid| test_kill_process_group(pid) == Err(rustix::io::Errno::SRCH))
    }

    /// Waits until everybody has left it, at most for [`LEAVE_LIMIT`].
    async fn left(&self) {
        let left = async {
            while !self.is_empty() {
                tokio::time::sleep(LEAVE_GLANCE).await;
            }
        };
        let _ = tokio::time::timeout(LEAVE_LIMIT, left).await;
    }

    /// Ends who is left. The number may be another's once the group is empty: it is never used again.
    fn finish(&mut self) {
        if !self.is_empty() {
            self.signal(Signal::KILL);
        }
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Runs `command` to its end. When `stop` is cancelled its group gets TERM, and KILL after [`TERM_GRACE`]. When it ends
/// by itself, what has not left its group after [`LEAVE_LIMIT`] gets KILL; a daemon, which has, goes on.
///
/// # Errors
/// When it could not be started.
pub(super) async fn run(
    command: &mut Command,
    stop: &CancellationToken,
    output: &OutputSink,
) -> std::io::Result<Ended> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let mut group = Group(pid);
    let (stdout_pipe, stderr_pipe) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
    let ended = CancellationToken::new();
    let ends = async {
        let ends = wait(&mut child, &group, stop).await;
        if !ends.1 {
            tokio::select! {
                () = group.left() => {}
                () = stop.cancelled() => {}
            }
        }
        // Before the pipes are read out: what still runs in the group holds them.
        group.finish();
        ended.cancel();
        ends
    };
    let (ends, (), ()) = tokio::join!(
        ends,
        read(
            stdout_pipe,
            &mut stdout,
            OutputStream::Stdout,
            output,
            &ended
        ),
        read(
            stderr_pipe,
            &mut stderr,
            OutputStream::Stderr,
            output,
            &ended
        ),
    );
    output.close(OutputStream::Stdout);
    let (status, stopped) = ends;
    Ok(Ended {
        status,
        stopped,
        stdout,
        stderr,
    })
}

async fn wait(
    child: &mut Child,
    group: &Group,
    stop: &CancellationToken,
) -> (Option<ExitStatus>, bool) {
    tokio::select! {
        biased;
        status = child.wait() => return (status.ok(), false),
        () = stop.cancelled() => group.signal(Signal::TERM),
    }
    if let Ok(status) = tokio::time::timeout(TERM_GRACE, child.wait()).await {
        return (status.ok(), true);
    }
    group.signal(Signal::KILL);
    // Nothing survives KILL but a process stuck in the kernel, and the runner does not wait for that for ever.
    (child.wait().await.ok(), true)
}

async fn read(
    pipe: Option<impl AsyncRead + Unpin>,
    kept: &mut Kept,
    stream: OutputStream,
    output: &OutputSink,
    ended: &CancellationToken,
) {
    let Some(mut pipe) = pipe else { return };
    let all = async {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            let bytes = buffer.get(..count).unwrap_or_default();
            kept.take(bytes);
            output.write(stream, bytes);
        }
    };
    let limit = async {
        ended.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        () = all => {}
        () = limit => {}
    }
}
