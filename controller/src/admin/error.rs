//! What can go wrong with the management API, each with what to do.

use std::error::Error;

use crate::exit::Exit;

/// Why a call to the management API did not work.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody answers there.
    #[error(
        "the management API at {url} can't be reached ({why}): check [management] url in the config, and that the \
         broker has the management plugin (`rabbitmq-plugins enable rabbitmq_management`)"
    )]
    Unreachable {
        /// Where it should be.
        url: String,
        /// The operating system's words.
        why: String,
    },
    /// Its certificate is not trusted.
    #[error(
        "the certificate of the management API at {url} is not accepted ({why}): set ca_file in [management]"
    )]
    Tls {
        /// Where it is.
        url: String,
        /// The TLS library's words.
        why: String,
    },
    /// Something else answers there.
    #[error(
        "what answers at {url} is not RabbitMQ's management API: check [management] url in the config"
    )]
    NotTheApi {
        /// Where it should be.
        url: String,
    },
    /// Unknown user, wrong password, or a user without the right to use the API.
    #[error(
        "the management API at {url} does not accept the user {user:?} ({why}): check user and password_file in \
         [management], and that the user has the tag `administrator`"
    )]
    Unauthorized {
        /// Where it is.
        url: String,
        /// Who asked.
        user: String,
        /// RabbitMQ's words.
        why: String,
    },
    /// The user may use the API, but not for this.
    #[error(
        "the user {user:?} may not do this at the broker ({what}: {why}): use an administrator in [management]"
    )]
    Forbidden {
        /// Who asked.
        user: String,
        /// Method and URL.
        what: String,
        /// RabbitMQ's words.
        why: String,
    },
    /// What something was to be written to is not there.
    #[error(
        "{what} was answered with 404: the vhost does not exist (`muster broker init` makes it), or the broker is too old"
    )]
    NotThere {
        /// Method and URL.
        what: String,
    },
    /// Any other refusal.
    #[error("{what} was answered with {status}: {why}")]
    Refused {
        /// Method and URL.
        what: String,
        /// HTTP status.
        status: u16,
        /// RabbitMQ's words.
        why: String,
    },
}

impl AdminError {
    /// The exit code of a command that can't go on because of it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } => Exit::NoBroker,
            Self::Tls { .. }
            | Self::NotTheApi { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. } => Exit::Usage,
            Self::NotThere { .. } | Self::Refused { .. } => Exit::Failed,
        }
    }

    /// From what the HTTP client says. Its outer errors repeat the URL; the innermost cause says what happened.
    pub(super) fn of_transport(url: &str, error: &reqwest::Error) -> Self {
        let url = url.to_owned();
        if error.is_timeout() {
            return Self::Unreachable {
                url,
                why: "it did not answer in time".to_owned(),
            };
        }
        let mut innermost: &dyn Error = error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        let why = innermost.to_string();
        // Of these the HTTP client keeps no kinds, only texts inside an I/O error.
        let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
        if error.is_builder() || says(&["invalid HTTP", "InvalidContentType"]) {
            return Self::NotTheApi { url };
        }
        if says(&["certificate", "TLS", "tls"]) {
            return Self::Tls { url, why };
        }
        Self::Unreachable { url, why }
    }
}
