//! Runs `ipvsadm` for a bounded time and takes a bounded output. Knows no format.

use std::io::{ErrorKind, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A table of a hundred thousand real servers is shorter.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// What the program writes to stdout, within `limit`.
pub(super) fn output(
    program: &[String],
    arguments: &[&str],
    limit: Duration,
) -> Result<String, String> {
    let shown = || format!("run {} {}", program.join(" "), arguments.join(" "));
    let Some((name, first)) = program.split_first() else {
        return Err("no program is configured".to_owned());
    };
    let mut child = Command::new(name)
        .args(first)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", shown()))?;
    let read = read(&mut child, Instant::now() + limit);
    if read.is_err() {
        _ = child.kill(); // it may be over already
    }
    let status = child
        .wait()
        .map_err(|error| format!("{}: {error}", shown()))?;
    let bytes = read.map_err(|error| format!("{}: {error}", shown()))?;
    if !status.success() {
        let mut words = String::new();
        if let Some(stderr) = child.stderr.take() {
            _ = stderr.take(512).read_to_string(&mut words);
        }
        let words = words.lines().next().unwrap_or_default().to_owned();
        return Err(format!("{}: {status}: {words}", shown()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read(child: &mut Child, until: Instant) -> Result<Vec<u8>, String> {
    const CHUNK_BYTES: usize = 64 << 10;
    let Some(mut stdout) = child.stdout.take() else {
        return Err("it has no stdout".to_owned());
    };
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|error| error.to_string())?;
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err("not done in time, and killed".to_owned()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.to_string()),
        }
        match stdout.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
        if bytes.len() > OUTPUT_BYTES_MAX {
            return Err(format!(
                "it wrote more than {OUTPUT_BYTES_MAX} bytes, and was killed"
            ));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> Result<String, String> {
        output(&["sh".to_owned(), "-c".to_owned()], &[script], limit)
    }

    #[test]
    fn a_program_is_bounded_in_time_and_told_apart_by_how_it_ends() {
        const LONG: Duration = Duration::from_secs(60);
        assert_eq!(run("printf one", LONG).unwrap(), "one");
        let error = run("echo no rights >&2; exit 3", LONG).unwrap_err();
        assert!(error.contains("3: no rights"), "{error}");
        let error = run("exec sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("not done in time"), "{error}");
        let error = run("exec cat /dev/zero", LONG).unwrap_err();
        assert!(error.contains("more than"), "{error}");
        let error = output(&["/no/such/program".to_owned()], &["-Ln"], LONG).unwrap_err();
        assert!(error.contains("run /no/such/program -Ln"), "{error}");
    }
}
