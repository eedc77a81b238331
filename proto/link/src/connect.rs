//! From an address to an open AMQP connection: TCP, TLS, login. Every step has a name in the errors.
//!
//! The socket is made here and not by the client library, for one reason: whoever holds a second handle to it can end
//! a connection whose other end says nothing any more. The library waits for ever for a goodbye.

use std::fmt;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use lapin::tcp::AsyncTcpStream;
use lapin::uri::{
    AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism,
};
use lapin::{Connection, ConnectionProperties};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use crate::config::{BrokerConfig, Login};
use crate::error::OpenError;
use crate::tls;
use crate::url::BrokerUrl;

/// The largest frame. The default makes the client touch 8 MiB of buffers per connection; with this one it is 512 KiB
/// at the most, and no throughput was lost.
const FRAME_BYTES_MAX: u32 = 8192;

/// A second handle to a connection's socket. Dropping it breaks the connection, at once and without a word.
#[derive(Debug)]
pub(crate) struct Socket(std::net::TcpStream);

impl Socket {
    /// Breaks the connection: both ends see the end of it.
    pub(crate) fn cut(&self) {
        // It is an error to cut what is cut already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Connects to `url` as `config` says, until `deadline`.
pub(crate) async fn connect(
    config: &BrokerConfig,
    url: &BrokerUrl,
    name: &str,
    deadline: Instant,
) -> Result<(Connection, Socket), OpenError> {
    let step = Step {
        at: url.address(),
        deadline,
        limit: config.connect_timeout,
    };
    // What is wrong in files is said whether or not somebody answers.
    let uri = uri(config, url)?;
    let connector = if url.tls() {
        Some(tls::connector(&config.tls)?)
    } else {
        None
    };
    let runtime = lapin::runtime::default_runtime().map_err(|error| step.other(&error))?;
    let mut reached = Err(step.unreachable("the name has no address"));
    for address in step.addresses(url).await? {
        reached = match step
            .limited("connecting", AsyncTcpStream::connect(&runtime, address))
            .await?
        {
            Ok(stream) => Ok(stream),
            Err(error) => Err(step.unreachable(error)),
        };
        if reached.is_ok() {
            break;
        }
    }
    let mut stream = reached?;
    // From here on, leaving this function early breaks the connection.
    let socket = match &stream {
        AsyncTcpStream::Plain(plain) => plain.get_ref().as_fd().try_clone_to_owned(),
        _ => Err(std::io::Error::other("not a plain socket")),
    };
    let socket = Socket(socket.map_err(|error| step.other(&error))?.into());
    if let Some(connector) = connector {
        let encrypted = step
            .limited(
                "the TLS handshake",
                stream.into_rustls(&connector, url.host()),
            )
            .await?;
        stream = encrypted.map_err(|error| OpenError::Tls {
            at: step.at.clone(),
            why: error.to_string(),
        })?;
    }
    let ready = Mutex::new(Some(stream));
    let hand_over = async move |_uri, _runtime| {
        let taken = ready.lock().ok().and_then(|mut stream| stream.take());
        // Asked a second time, the library is trying to reconnect, which is not its business.
        taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    };
    let handshake = Connection::connector(uri, runtime, hand_over, properties(name));
    match step.limited("the AMQP handshake", handshake).await? {
        Ok(connection) => Ok((connection, socket)),
        Err(error) => Err(OpenError::of_handshake(
            step.at,
            config.user(),
            url.vhost(),
            &error,
        )),
    }
}

/// What the errors of every step have in common.
struct Step {
    at: String,
    deadline: Instant,
    limit: Duration,
}

impl Step {
    fn unreachable(&self, why: impl fmt::Display) -> OpenError {
        OpenError::Unreachable {
            at: self.at.clone(),
            why: why.to_string(),
        }
    }

    fn other(&self, why: &dyn fmt::Display) -> OpenError {
        OpenError::Other {
            at: self.at.clone(),
            why: why.to_string(),
        }
    }

    async fn limited<T>(&self, what: &str, step: impl Future<Output = T>) -> Result<T, OpenError> {
        let late = |_| self.unreachable(format_args!("{what} took longer than {:?}", self.limit));
        timeout_at(self.deadline, step).await.map_err(late)
    }

    async fn addresses(
        &self,
        url: &BrokerUrl,
    ) -> Result<impl Iterator<Item = SocketAddr>, OpenError> {
        let found = tokio::net::lookup_host((url.host().to_owned(), url.port()));
        self.limited("looking the name up", found)
            .await?
            .map_err(|error| self.unreachable(error))
    }
}

fn properties(name: &str) -> ConnectionProperties {
    ConnectionProperties::default()
        .with_client_property("product".into(), "Muster".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
        .with_connection_name(name.into())
}

fn uri(config: &BrokerConfig, url: &BrokerUrl) -> Result<AMQPUri, OpenError> {
    let mut mechanism = SASLMechanism::Plain;
    let password = match &config.login {
        Login::Guest if config.user() == "guest" => "guest".to_owned(),
        Login::Guest => {
            return Err(OpenError::Credentials {
                at: url.address(),
                user: config.user().to_owned(),
                why: "no password is configured".to_owned(),
            });
        }
        Login::Password(password) => password.expose_secret().to_owned(),
        Login::PasswordFile(path) => password_in(path)?,
        Login::Certificate => {
            mechanism = SASLMechanism::External;
            String::new()
        }
    };
    Ok(AMQPUri {
        // The socket is handed over with TLS on it where it is wanted, so that this only matters in logs.
        scheme: if url.tls() {
            AMQPScheme::AMQPS
        } else {
            AMQPScheme::AMQP
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: config.user().to_owned(),
                password,
            },
            host: url.host().to_owned(),
            port: url.port(),
        },
        vhost: url.vhost().to_owned(),
        query: AMQPQueryString {
            frame_max: Some(FRAME_BYTES_MAX),
            heartbeat: Some(config.heartbeat_s),
            auth_mechanism: Some(mechanism),
            ..AMQPQueryString::default()
        },
    })
}

fn password_in(path: &Path) -> Result<String, OpenError> {
    let bad = |why: String| OpenError::File {
        what: "password file",
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(bad("it is empty".to_owned()));
    }
    Ok(password.to_owned())
}
