//! Runs a program for a moment, and waits for a moment. Blocks its thread, and bounds all of it.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// Output that is kept; `--version` prints some 4 KiB.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Between two looks at a program that has closed its output and not ended.
const LOOK: Duration = Duration::from_millis(5);

/// Does nothing for so long.
pub(super) fn pause(limit: Duration) {
    if let Ok(limit) = limit.try_into() {
        _ = poll(&mut [], Some(&limit)); // a signal may cut it short: whoever waits looks again
    }
}

/// Runs `command` with no input, and gives its status and what it printed, both outputs in one. It is killed when the
/// limit is over.
///
/// # Errors
/// When it could not be started, or had to be killed.
pub(super) fn run(command: &mut Command, limit: Duration) -> io::Result<(ExitStatus, String)> {
    let until = Instant::now() + limit;
    let (mut reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn()?;
    // The command holds the writing end until it is given another.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    let ended = loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break None;
        }
        let mut waiting = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
        let Ok(limit) = left.try_into() else {
            break None;
        };
        match poll(&mut waiting, Some(&limit)) {
            Ok(0) | Err(_) => continue,
            Ok(_) => {}
        }
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break wait(&mut child, until)?;
        }
        let room = OUTPUT_BYTES_MAX.saturating_sub(output.len()).min(count);
        output.extend_from_slice(buffer.get(..room).unwrap_or_default());
    };
    match ended {
        Some(status) => Ok((status, String::from_utf8_lossy(&output).into_owned())),
        None => {
            _ = child.kill();
            _ = child.wait();
            let what = format!("not done after {} s, and killed", limit.as_secs_f64());
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        }
    }
}

fn wait(child: &mut std::process::Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        pause(LOOK);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn shell(text: &str, limit: Duration) -> io::Result<(ExitStatus, String)> {
        run(Command::new("/bin/sh").args(["-c", text]), limit)
    }

    #[test]
    fn output_status_and_limit() {
        let minute = Duration::from_secs(60);
        let (status, output) = shell("echo out; echo err >&2; exit 3", minute).unwrap();
        assert_eq!((status.code(), output.as_str()), (Some(3), "out\nerr\n"));
        let (_, output) = shell("yes | head -c 1000000", minute).unwrap();
        assert_eq!(output.len(), OUTPUT_BYTES_MAX);
        let error = shell("exec sleep 600", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = shell("exec >&- 2>&-; exec sleep 600", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(run(&mut Command::new("/nonexistent"), minute).is_err());
    }
}
