//! The `[broker]` section of a config file: text to checked values, once. It must not open any file of what it names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use crate::span::Span;
use crate::url::BrokerUrl;

/// The `[broker]` section as it is written; every key may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawBroker {
    /// `amqp://HOST:PORT/VHOST`, or `amqps://` for TLS. Default: `amqp://127.0.0.1:5672`.
    pub url: Option<BrokerUrl>,
    /// Several brokers of one cluster, tried in random order; instead of `url`.
    pub urls: Vec<BrokerUrl>,
    /// The broker user. With a certificate and no password: the certificate's common name, which RabbitMQ takes as the
    /// user.
    pub user: Option<String>,
    /// The password in clear text. `password_file` is better.
    pub password: Option<SecretString>,
    /// A file that holds the password alone; read at every connect.
    pub password_file: Option<PathBuf>,
    /// PEM file of the certificate authorities to trust, and no others. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate and its chain. Without a password it is the proof of identity (EXTERNAL).
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's private key.
    pub key_file: Option<PathBuf>,
    /// A broker that shows no sign of life for twice this time is left. Whole seconds. Default: `"10s"`.
    pub heartbeat: Option<Span>,
    /// Limit of connecting: TCP, TLS, login, channels. Default: `"10s"`.
    pub connect_timeout: Option<Span>,
    /// Limit of the broker's confirm of one message. Default: `"15s"`.
    pub confirm_timeout: Option<Span>,
    /// Reconnects are spread at random over at most this time. Larger fleets want more. Default: `"30s"`.
    pub reconnect_window: Option<Span>,
}

/// How to reach RabbitMQ, checked. Made from a [`RawBroker`], which is what a config file's section becomes.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "RawBroker")]
pub struct BrokerConfig {
    pub(crate) urls: Vec<BrokerUrl>,
    user: Option<String>,
    pub(crate) login: Login,
    pub(crate) tls: TlsFiles,
    pub(crate) heartbeat_s: u16,
    pub(crate) connect_timeout: Duration,
    pub(crate) confirm_timeout: Duration,
    pub(crate) reconnect_window: Duration,
}

/// How to prove who one is.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// Nothing was given: `guest`'s default password, which RabbitMQ takes from its own machine alone.
    Guest,
    Password(SecretString),
    PasswordFile(PathBuf),
    /// By the client certificate.
    Certificate,
}

/// The files that TLS needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    /// Certificate chain and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Why a `[broker]` section is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Two keys that exclude each other.
    #[error("`{0}` and `{1}` are both set: leave one of them out")]
    Both(&'static str, &'static str),
    /// A key that needs another one.
    #[error("`{0}` is set without `{1}`: set both or neither")]
    Without(&'static str, &'static str),
    /// TLS files for a connection without TLS.
    #[error("`{key}` is set, but {url} is not encrypted: write amqps://, or leave `{key}` out")]
    NotTls {
        /// The key.
        key: &'static str,
        /// The url without TLS.
        url: String,
    },
    /// A user name that AMQP can't carry.
    #[error("`user` is empty or longer than 255 bytes")]
    User,
    /// A time out of its bounds.
    #[error("`{key}` is {value:?}: write a time from {min:?} to {max:?}")]
    Time {
        /// The key.
        key: &'static str,
        /// What it is.
        value: Duration,
        /// Its lower bound.
        min: Duration,
        /// Its upper bound.
        max: Duration,
    },
}

impl BrokerConfig {
    /// The longest time over which reconnects are spread.
    #[must_use]
    pub const fn reconnect_window(&self) -> std::time::Duration {
        self.reconnect_window
    }

    /// The brokers, as given; at least one.
    #[must_use]
    pub fn urls(&self) -> &[BrokerUrl] {
        &self.urls
    }

    /// The first broker.
    #[must_use]
    pub fn url(&self) -> BrokerUrl {
        self.urls.first().cloned().unwrap_or_default()
    }

    /// The broker user, who is also the `user_id` of every message sent; `guest` when none is configured.
    #[must_use]
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("guest")
    }

    /// The same with `user` where the config names none.
    #[must_use]
    pub fn or_user(mut self, user: &str) -> Self {
        self.user.get_or_insert_with(|| user.to_owned());
        self
    }

    /// The same with `user` and `password`, whatever the config names.
    #[must_use]
    pub fn with_login(mut self, user: &str, password: SecretString) -> Self {
        self.user = Some(user.to_owned());
        self.login = Login::Password(password);
        self
    }

    /// The password or the file that holds it, for other services of the broker that take the same login.
    #[must_use]
    pub fn password_file(&self) -> Option<&Path> {
        match &self.login {
            Login::PasswordFile(path) => Some(path),
            Login::Guest | Login::Password(_) | Login::Certificate => None,
        }
    }

    /// Limit of connecting.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Limit of the broker's confirm of one message.
    #[must_use]
    pub const fn confirm_timeout(&self) -> Duration {
        self.confirm_timeout
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            urls: vec![BrokerUrl::default()],
            user: None,
            login: Login::Guest,
            tls: TlsFiles::default(),
            heartbeat_s: 10,
            connect_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(15),
            reconnect_window: Duration::from_secs(30),
        }
    }
}

impl TryFrom<RawBroker> for BrokerConfig {
    type Error = ConfigError;

    fn try_from(raw: RawBroker) -> Result<Self, ConfigError> {
        let default = Self::default();
        let urls = match (raw.url, raw.urls) {
            (Some(_), urls) if !urls.is_empty() => return Err(ConfigError::Both("url", "urls")),
            (Some(url), _) => vec![url],
            (None, urls) if urls.is_empty() => default.urls,
            (None, urls) => urls,
        };
        if raw
            .user
            .as_ref()
            .is_some_and(|user| user.is_empty() || user.len() > 255)
        {
            return Err(ConfigError::User);
        }
        let identity = match (raw.cert_file, raw.key_file) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::Without("cert_file", "key_file")),
            (None, Some(_)) => return Err(ConfigError::Without("key_file", "cert_file")),
        };
        if let Some(plain) = urls.iter().find(|url| !url.tls()) {
            let key = raw
                .ca_file
                .as_ref()
                .map(|_| "ca_file")
                .or(identity.as_ref().map(|_| "cert_file"));
            if let Some(key) = key {
                return Err(ConfigError::NotTls {
                    key,
                    url: plain.to_string(),
                });
            }
        }
        let login = match (raw.password, raw.password_file) {
            (Some(_), Some(_)) => return Err(ConfigError::Both("password", "password_file")),
            (Some(password), None) => Login::Password(password),
            (None, Some(file)) => Login::PasswordFile(file),
            (None, None) if identity.is_some() => Login::Certificate,
            (None, None) => Login::Guest,
        };
        let heartbeat = time("heartbeat", raw.heartbeat, Duration::from_secs(10), 3_600)?;
        Ok(Self {
            urls,
            user: raw.user,
            login,
            tls: TlsFiles {
                ca: raw.ca_file,
                identity,
            },
            heartbeat_s: u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX),
            connect_timeout: time(
                "connect_timeout",
                raw.connect_timeout,
                default.connect_timeout,
                600,
            )?,
            confirm_timeout: time(
                "confirm_timeout",
                raw.confirm_timeout,
                default.confirm_timeout,
                600,
            )?,
            reconnect_window: time(
                "reconnect_window",
                raw.reconnect_window,
                default.reconnect_window,
                3_600,
            )?,
        })
    }
}

fn time(
    key: &'static str,
    given: Option<Span>,
    default: Duration,
    max_s: u64,
) -> Result<Duration, ConfigError> {
    let (min, max) = (Duration::from_secs(1), Duration::from_secs(max_s));
    let value = given.map_or(default, |Span(value)| value);
    if value < min || value > max {
        return Err(ConfigError::Time {
            key,
            value,
            min,
            max,
        });
    }
    Ok(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        broker: BrokerConfig,
    }

    fn parse(section: &str) -> Result<BrokerConfig, String> {
        let text = format!("\n[broker]\n{section}\n");
        toml::from_str::<File>(&text)
            .map(|file| file.broker)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_section_is_taken() {
        let config = parse(
            "urls = [\"amqps://a/fleet\", \"amqps://b:1/fleet\"]\nuser = \"lb1\"\npassword_file = \"/p\"\n\
             ca_file = \"/ca\"\ncert_file = \"/c\"\nkey_file = \"/k\"\nheartbeat = \"5s\"\n\
             connect_timeout = 3\nconfirm_timeout = \"1m 30s\"\nreconnect_window = \"2 minutes\"",
        )
        .unwrap();
        assert_eq!(config.urls().len(), 2);
        assert_eq!(config.user(), "lb1");
        assert!(matches!(config.login, Login::PasswordFile(_)));
        assert_eq!(config.heartbeat_s, 5);
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
        assert_eq!(config.confirm_timeout, Duration::from_secs(90));
        assert_eq!(config.reconnect_window, Duration::from_secs(120));
    }

    #[test]
    fn an_empty_section_is_the_default_and_the_user_can_be_filled_in() {
        let config = parse("").unwrap();
        assert_eq!(config.user(), "guest");
        assert_eq!(config.url(), BrokerUrl::default());
        assert_eq!(config.or_user("lb1").user(), "lb1");
        assert_eq!(parse("user = \"x\"").unwrap().or_user("lb1").user(), "x");
        let external = parse("url = \"amqps://a\"\ncert_file = \"/c\"\nkey_file = \"/k\"").unwrap();
        assert!(matches!(external.login, Login::Certificate));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_column() {
        for (section, place, want) in [
            (
                "user = \"a\"\nhartbeat = \"10s\"",
                "line 4, column 1",
                "unknown field `hartbeat`",
            ),
            (
                "heartbeat = \"soon\"",
                "line 3, column 13",
                "a time such as",
            ),
            ("heartbeat = -1", "line 3, column 13", "a time such as"),
            (
                "url = \"amqp://u:secret@h\"",
                "line 3, column 7",
                "must not hold credentials",
            ),
            (
                "urls = [\"amqp://a\", \"b\"]",
                "line 3, column ",
                "no scheme",
            ),
            (
                "password = \"secret\"\npassword_file = \"/p\"",
                "line 2, column 1",
                "both set",
            ),
            (
                "url = \"amqp://a\"\nurls = [\"amqp://b\"]",
                "line 2, column 1",
                "both set",
            ),
            (
                "cert_file = \"/c\"",
                "line 2, column 1",
                "without `key_file`",
            ),
            ("ca_file = \"/ca\"", "line 2, column 1", "not encrypted"),
            (
                "confirm_timeout = 0",
                "line 2, column 1",
                "`confirm_timeout`",
            ),
            ("heartbeat = \"10ms\"", "line 2, column 1", "`heartbeat`"),
            ("user = \"\"", "line 2, column 1", "`user` is empty"),
        ] {
            let Err(error) = parse(section) else {
                panic!("{section:?} was taken")
            };
            assert!(error.contains(place), "{section:?}: {error}");
            assert!(error.contains(want), "{section:?}: {error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let config = parse("user = \"a\"\npassword = \"secret\"").unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
