//! From an address to an open AMQP connection: TCP, TLS, login. Every step has a name in the errors.
//!
//! The socket is made here and not by the client library, for one reason: whoever holds a second handle to it can end
//! a connection whose other end says nothing any more. The library waits for ever for a goodbye.

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;

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
    let at = url.address();
    let late = |what: &str| OpenError::Unreachable {
        at: at.clone(),
        why: format!("{what} took longer than {:?}", config.connect_timeout),
    };
    let other = |error: lapin::Error| OpenError::Other {
        at: at.clone(),
        why: error.to_string(),
    };
    let uri = uri(config, url)?;
    let runtime = lapin::runtime::default_runtime().map_err(other)?;
    let addresses = timeout_at(deadline, tokio::net::lookup_host((url.host(), url.port())))
        .await
        .map_err(|_| late("looking the name up"))?
        .map_err(|error| OpenError::Unreachable {
            at: at.clone(),
            why: error.to_string(),
        })?;
    let mut reached = Err(OpenError::Unreachable {
        at: at.clone(),
        why: "the name has no address".to_owned(),
    });
    for address in addresses {
        match timeout_at(deadline, AsyncTcpStream::connect(&runtime, address)).await {
            Ok(Ok(stream)) => {
                reached = Ok(stream);
                break;
            }
            Ok(Err(error)) => {
                reached = Err(OpenError::Unreachable {
                    at: at.clone(),
                    why: error.to_string(),
                })
            }
            Err(_) => return Err(late("connecting")),
        }
    }
    let mut stream = reached?;
    let socket = match &stream {
        AsyncTcpStream::Plain(plain) => plain
            .get_ref()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| other(error.into()))?,
        _ => {
            return Err(OpenError::Other {
                at,
                why: "not a plain socket".to_owned(),
            });
        }
    };
    // From here on, leaving this function early breaks the connection.
    let socket = Socket(socket.into());
    if url.tls() {
        let connector = tls::connector(&config.tls)?;
        stream = timeout_at(deadline, stream.into_rustls(&connector, url.host()))
            .await
            .map_err(|_| late("the TLS handshake"))?
            .map_err(|error| OpenError::Tls {
                at: at.clone(),
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
    match timeout_at(deadline, handshake).await {
        Ok(Ok(connection)) => Ok((connection, socket)),
        Ok(Err(error)) => Err(OpenError::of_handshake(
            at,
            config.user(),
            url.vhost(),
            &error,
        )),
        Err(_) => Err(late("the AMQP handshake")),
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
