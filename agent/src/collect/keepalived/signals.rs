//! Which signal makes this very keepalived write what, and how it is sent. Never the one that clears counters.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix_libc_wrappers::process::SignalExt;

use super::process::{Parent, Processes};
use super::run::run;

/// `keepalived --signum` and `--version` answer in milliseconds.
const LIMIT: Duration = Duration::from_secs(2);
/// Programs that are remembered.
const PROGRAMS_MAX: usize = 16;

/// What a keepalived program says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// `2.2.7`
    pub(super) version: Option<String>,
    /// The number of the signal for `keepalived.data` and `keepalived_check.data`.
    pub(super) data: i32,
    /// The number of the signal for `keepalived.stats`.
    pub(super) stats: i32,
    /// The number of the signal for `keepalived.json`; none where it was built without. A keepalived without it would
    /// die of the signal.
    pub(super) json: Option<i32>,
}

/// What was asked already, by the program's file.
#[derive(Debug, Default)]
pub(super) struct Programs(BTreeMap<(u64, u64, i64), Program>);

impl Programs {
    /// What the program of `parent` says of itself; `named` is where the config says that it is.
    pub(super) fn of(
        &mut self,
        processes: &Processes,
        parent: &Parent,
        named: Option<&Path>,
    ) -> Program {
        let path = named.map_or_else(|| processes.path(parent.pid, "exe"), PathBuf::from);
        let Ok(file) = std::fs::metadata(&path) else {
            return Program::usual();
        };
        let id = (file.dev(), file.ino(), file.mtime());
        if let Some(known) = self.0.get(&id) {
            return known.clone();
        }
        let program = if parent.trusted || named.is_some() {
            Program::ask(&path)
        } else {
            Program::usual()
        };
        if self.0.len() >= PROGRAMS_MAX {
            self.0.clear();
        }
        self.0.insert(id, program.clone());
        program
    }
}

impl Program {
    /// As it has been in every version that does not say.
    fn usual() -> Self {
        Self {
            version: None,
            data: Signal::USR1.as_raw(),
            stats: Signal::USR2.as_raw(),
            json: None,
        }
    }

    fn ask(path: &Path) -> Self {
        let number = |function: &str| {
            let mut command = Command::new(path);
            command.arg(format!("--signum={function}"));
            match run(&mut command, LIMIT) {
                Ok((status, output)) if status.success() => output.trim().parse().ok(),
                _ => None,
            }
        };
        let version = run(Command::new(path).arg("--version"), LIMIT);
        let usual = Self::usual();
        Self {
            version: version.ok().and_then(|(_, text)| parse_version(&text)),
            data: number("DATA").unwrap_or(usual.data),
            stats: number("STATS").unwrap_or(usual.stats),
            json: number("JSON"),
        }
    }
}

/// `2.2.7` of `Keepalived v2.2.7 (01/16,2022)`.
pub(super) fn parse_version(text: &str) -> Option<String> {
    let rest = text.split_once("Keepalived v")?.1;
    let version = rest.split([' ', '\n', '\r', '(']).next()?;
    (!version.is_empty()).then(|| version.to_owned())
}

/// Sends signals to the parent, which passes them on. The process is held while it is looked at again, so that no other
/// one with its pid can be hit.
pub(super) fn send(processes: &Processes, parent: &Parent, numbers: &[i32]) -> Result<(), String> {
    let what = |number: i32| format!("send signal {number} to keepalived (pid {})", parent.pid);
    let raw = i32::try_from(parent.pid).ok().and_then(Pid::from_raw);
    let pid = raw.ok_or_else(|| format!("{} is no pid", parent.pid))?;
    let held = pidfd_open(pid, PidfdFlags::empty());
    if !processes.again(parent).is_some_and(|now| now.trusted) {
        return Err(format!(
            "pid {} is no longer the keepalived that it was",
            parent.pid
        ));
    }
    for number in numbers {
        let signal = Signal::from_raw(*number).ok_or_else(|| format!("{number} is no signal"))?;
        let sent = match &held {
            Ok(held) => pidfd_send_signal(held, signal),
            // A kernel before 5.3.
            Err(_) => rustix::process::kill_process(pid, signal),
        };
        sent.map_err(|error| format!("{}: {error}; it takes root or CAP_KILL", what(*number)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let text = "Keepalived v2.2.7 (01/16,2022)\n\nCopyright";
        assert_eq!(parse_version(text).as_deref(), Some("2.2.7"));
        assert_eq!(
            parse_version("Keepalived v1.2.13 (…)").as_deref(),
            Some("1.2.13")
        );
        for none in ["", "nginx 1.2", "Keepalived v"] {
            assert_eq!(parse_version(none), None);
        }
    }
}
