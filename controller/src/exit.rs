//! Exit codes, and which error ends with which. Printing of the one error message.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use muster_link::{OpenError, PublishError, SetupError};

use crate::admin::AdminError;

/// How the program ended, for programs. Ordered: of several that apply, the greatest of 4 to 7 wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Exit {
    /// Every host succeeded, or there was nothing that could fail.
    #[default]
    Ok = 0,
    /// The program failed.
    Failed = 1,
    /// The command line, the config, a key file or the credentials are wrong.
    Usage = 2,
    /// No host matched the target.
    NoHost = 3,
    /// Some host failed.
    HostFailed = 4,
    /// Some host did not answer, or the job expired or is unknown there.
    HostSilent = 5,
    /// Some host refused.
    HostRefused = 6,
    /// A rollout rule stopped the job.
    RolloutStopped = 7,
    /// There is no broker (`EX_UNAVAILABLE`).
    NoBroker = 69,
}

/// Exit code when the reader of standard output has gone: what a shell says of a process killed by SIGPIPE.
const CODE_BROKEN_PIPE: u8 = 128 + 13;

impl Exit {
    /// The greater of two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        self.max(other)
    }

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The exit code that `error` ends the program with: that of the first cause in its chain that has one.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(exit_of_cause)
            .unwrap_or(Self::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that names its own exit code. Made by [`usage`] and [`ending`].
#[derive(Debug)]
pub struct Ending {
    exit: Exit,
    message: String,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Ending {}

/// An error with an exit code of its own: `return Err(ending(Exit::NoHost, "no host matches role=lb"))`.
#[must_use]
pub fn ending(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    Ending {
        exit,
        message: message.into(),
    }
    .into()
}

/// An error of the caller's: exit code 2.
#[must_use]
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    ending(Exit::Usage, message)
}

/// Prints `error` and its causes as one line on standard error, and gives the exit code.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        return ExitCode::from(CODE_BROKEN_PIPE);
    }
    let _ = writeln!(io::stderr().lock(), "muster: {}", message_of(error)); // a closed stderr leaves the exit code
    Exit::of(error).into()
}

/// The exit code after clap has printed help, the version or a usage error.
#[must_use]
pub fn code_of_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        Exit::Usage.into()
    } else {
        Exit::Ok.into()
    }
}

/// The chain as one message; a cause that its effect already quotes is not said twice.
#[must_use]
pub fn message_of(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if message.is_empty() {
            message = words;
        } else if !message.ends_with(&words) {
            message = format!("{message}: {words}");
        }
    }
    message
}

fn exit_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(ending) = cause.downcast_ref::<Ending>() {
        return Some(ending.exit);
    }
    if let Some(error) = cause.downcast_ref::<AdminError>() {
        return Some(error.exit());
    }
    if let Some(error) = cause.downcast_ref::<OpenError>() {
        return Some(exit_of_open(error));
    }
    if let Some(error) = cause.downcast_ref::<PublishError>() {
        return Some(exit_of_publish(error));
    }
    if let Some(SetupError::Down { .. } | SetupError::TimedOut { .. }) =
        cause.downcast_ref::<SetupError>()
    {
        return Some(Exit::NoBroker);
    }
    let usage = cause.is::<muster_proto::action::ArgError>()
        || cause.is::<muster_proto::target::TargetError>()
        || cause.is::<muster_proto::signing::SigningError>()
        || cause.is::<muster_proto::id::IdError>()
        || cause.is::<crate::config::ConfigError>()
        || cause.is::<clap::Error>();
    usage.then_some(Exit::Usage)
}

/// There is a broker, and the config does not fit it: that is the caller's to put right.
const fn exit_of_open(error: &OpenError) -> Exit {
    match error {
        OpenError::Unreachable { .. } | OpenError::Other { .. } => Exit::NoBroker,
        OpenError::Credentials { .. }
        | OpenError::Vhost { .. }
        | OpenError::Tls { .. }
        | OpenError::Protocol { .. }
        | OpenError::File { .. } => Exit::Usage,
    }
}

const fn exit_of_publish(error: &PublishError) -> Exit {
    match error {
        PublishError::Down { .. }
        | PublishError::Blocked { .. }
        | PublishError::TimedOut { .. } => Exit::NoBroker,
        PublishError::Invalid { .. } => Exit::Failed,
    }
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe && is_ours(error))
}

/// A broken pipe at the broker's socket is an operating system's error wrapped by the client library; the one of
/// standard output is wrapped by [`crate::context`], which marks it.
fn is_ours(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<ReaderGone>())
}

/// Whoever read standard output has gone away.
#[derive(Debug)]
pub struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for ReaderGone {}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn errors_end_with_the_exit_code_of_their_cause() {
        let at = || "127.0.0.1:1".to_owned();
        let open = |error: OpenError| anyhow::Error::from(error).context("connect");
        let unreachable = open(OpenError::Unreachable {
            at: at(),
            why: "refused".to_owned(),
        });
        let vhost = OpenError::Vhost {
            at: at(),
            user: "a".to_owned(),
            vhost: "v".to_owned(),
            why: String::new(),
        };
        let wrong_host = "a b".parse::<muster_proto::id::HostId>();
        for (error, want) in [
            (unreachable, Exit::NoBroker),
            (open(vhost), Exit::Usage),
            (
                PublishError::Down { why: String::new() }.into(),
                Exit::NoBroker,
            ),
            (anyhow::anyhow!("anything"), Exit::Failed),
            (
                ending(Exit::NoHost, "no host matches").context("resolve"),
                Exit::NoHost,
            ),
            (
                wrong_host
                    .context("read a host")
                    .err()
                    .unwrap_or_else(|| usage("")),
                Exit::Usage,
            ),
        ] {
            assert_eq!(Exit::of(&error), want, "{error:#}");
        }
    }

    #[test]
    fn the_chain_is_one_line_without_repeats() {
        let error = anyhow::anyhow!("file not found")
            .context("read a: file not found")
            .context("start");
        assert_eq!(message_of(&error), "start: read a: file not found");
    }

    #[test]
    fn the_worst_of_several_exits_wins() {
        assert_eq!(Exit::HostFailed.worst(Exit::HostSilent), Exit::HostSilent);
        assert_eq!(Exit::HostRefused.worst(Exit::Ok), Exit::HostRefused);
        assert_eq!(Exit::NoBroker.code(), 69);
    }
}
