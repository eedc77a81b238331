//! What can go wrong on the way to RabbitMQ, in words that say what was tried, on what, and what to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lapin::ErrorKind;

/// AMQP reply code: access refused.
const ACCESS_REFUSED: u16 = 403;
/// AMQP reply code: not found.
const NOT_FOUND: u16 = 404;
/// AMQP reply code: locked by another connection.
const RESOURCE_LOCKED: u16 = 405;
/// AMQP reply code: it is there already, and different.
const PRECONDITION_FAILED: u16 = 406;
/// AMQP reply code: not allowed.
const NOT_ALLOWED: u16 = 530;

/// What RabbitMQ says of a queue that is there and whose node is not, with the code of one that is not there.
const COMING_UP: &str = "is down or inaccessible";

/// Why a session could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No TCP connection, or no answer in time.
    #[error(
        "could not reach RabbitMQ at {at}: {why}; is it running there, and is `url` in [broker] right?"
    )]
    Unreachable {
        /// Host and port.
        at: String,
        /// What happened.
        why: String,
    },
    /// User or password are wrong.
    #[error(
        "RabbitMQ at {at} did not let the user {user:?} in: {why}; check `user` and `password_file` in [broker], and \
         that the broker has the user"
    )]
    Credentials {
        /// Host and port.
        at: String,
        /// The broker user.
        user: String,
        /// What happened.
        why: String,
    },
    /// The vhost is missing, or closed to the user.
    #[error(
        "RabbitMQ at {at} did not open the vhost {vhost:?} to the user {user:?}: {why}; create the vhost, or give the \
         user permissions in it"
    )]
    Vhost {
        /// Host and port.
        at: String,
        /// The broker user.
        user: String,
        /// The vhost.
        vhost: String,
        /// What happened.
        why: String,
    },
    /// The TLS handshake failed.
    #[error(
        "TLS with RabbitMQ at {at} failed: {why}; check `ca_file`, `cert_file`, `key_file` and the host name in the url"
    )]
    Tls {
        /// Host and port.
        at: String,
        /// What happened.
        why: String,
    },
    /// What answers is not RabbitMQ's AMQP listener.
    #[error(
        "what listens at {at} does not speak AMQP 0-9-1: {why}; does the url name RabbitMQ's AMQP port, with amqps:// \
         where it is TLS?"
    )]
    Protocol {
        /// Host and port.
        at: String,
        /// What happened.
        why: String,
    },
    /// A file that `[broker]` names is not good.
    #[error("could not use the {what} {}: {why}", path.display())]
    File {
        /// Which file it is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Anything else.
    #[error("connecting to RabbitMQ at {at} failed: {why}")]
    Other {
        /// Host and port.
        at: String,
        /// What happened.
        why: String,
    },
}

/// Why a queue could not be declared, bound or consumed. The session has ended with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Another connection holds the queue's exclusive consumer, or the queue itself.
    #[error(
        "the queue {queue} is in use: another program with this name is connected, or the broker has not yet noticed \
         that its last connection is gone ({why})"
    )]
    InUse {
        /// The queue.
        queue: String,
        /// The broker's words.
        why: String,
    },
    /// The user may not do this.
    #[error("not allowed to {what}: {why}; check the user's permissions (`muster broker check`)")]
    Denied {
        /// What was tried.
        what: String,
        /// The broker's words.
        why: String,
    },
    /// There is no such exchange or queue.
    #[error("could not {what}: {why}; has `muster broker init` been run on this vhost?")]
    Missing {
        /// What was tried.
        what: String,
        /// The broker's words.
        why: String,
    },
    /// It is there, and not as wanted.
    #[error(
        "could not {what}: {why}; it exists with other settings: delete it, or change the config to match"
    )]
    Different {
        /// What was tried.
        what: String,
        /// The broker's words.
        why: String,
    },
    /// No answer in time.
    #[error("could not {what}: no answer from RabbitMQ within {limit:?}")]
    TimedOut {
        /// What was tried.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The session is over, or anything else.
    #[error("could not {what}: {why}")]
    Down {
        /// What was tried.
        what: String,
        /// Why.
        why: String,
    },
}

/// Why a message was not confirmed. It may still have reached the broker, unless this is [`PublishError::Blocked`] at
/// once or [`PublishError::Invalid`]: send it again with the same id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no connection.
    #[error("no connection to RabbitMQ: {why}")]
    Down {
        /// Why.
        why: String,
    },
    /// RabbitMQ takes no messages now, being short of memory or disk. The session is good; wait until it is unblocked.
    #[error("RabbitMQ takes no messages at the moment: {why}")]
    Blocked {
        /// The broker's words.
        why: String,
    },
    /// No confirm came in time. The session has ended.
    #[error("no confirm from RabbitMQ within {limit:?}")]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The message can't be put into AMQP; sending it again is of no use.
    #[error("the message can't be sent: {why}")]
    Invalid {
        /// What is wrong with it.
        why: String,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// In words.
    pub why: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// The AMQP reply code in an error of the client library.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// An error of the client library in words.
pub(crate) fn describe(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => format!("the connection broke: {error}"),
        ErrorKind::MissingHeartbeatError => {
            "no sign of life from the broker for two heartbeats".to_owned()
        }
        ErrorKind::InvalidConnectionState(_)
        | ErrorKind::InvalidChannelState(..)
        | ErrorKind::InvalidChannel(_) => {
            format!("the connection is gone: {error}")
        }
        _ => error.to_string(),
    }
}

/// Whether the broker said so, rather than the connection broke.
pub(crate) fn is_refusal(error: &lapin::Error) -> bool {
    code(error).is_some()
}

impl OpenError {
    /// The meaning of an error during the AMQP handshake.
    pub(crate) fn of_handshake(at: String, user: &str, vhost: &str, error: &lapin::Error) -> Self {
        let (user, why) = (user.to_owned(), describe(error));
        match (code(error), error.kind()) {
            (Some(ACCESS_REFUSED), _) => Self::Credentials { at, user, why },
            (Some(NOT_ALLOWED), _) => Self::Vhost {
                at,
                user,
                vhost: vhost.to_owned(),
                why,
            },
            (_, ErrorKind::InvalidProtocolVersion(_) | ErrorKind::ParsingError(_)) => {
                Self::Protocol { at, why }
            }
            (_, ErrorKind::IOError(_)) => Self::Protocol { at, why },
            _ => Self::Other { at, why },
        }
    }
}

impl SetupError {
    /// The meaning of an error while `what` was tried on `queue`.
    pub(crate) fn of(what: String, queue: &str, error: &lapin::Error) -> Self {
        let why = describe(error);
        match code(error) {
            Some(ACCESS_REFUSED) if why.contains("in exclusive use") => Self::InUse {
                queue: queue.to_owned(),
                why,
            },
            Some(RESOURCE_LOCKED) => Self::InUse {
                queue: queue.to_owned(),
                why,
            },
            Some(ACCESS_REFUSED) => Self::Denied { what, why },
            // While a node starts it takes clients before its streams are up.
            Some(NOT_FOUND) if why.contains(COMING_UP) => Self::Down { what, why },
            Some(NOT_FOUND) => Self::Missing { what, why },
            Some(PRECONDITION_FAILED) => Self::Different { what, why },
            _ => Self::Down { what, why },
        }
    }
}
