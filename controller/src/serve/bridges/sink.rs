//! One sink's socket: made when it is needed, with a limit on everything, and thrown away after any failure. It must not
//! know what it carries.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket, lookup_host};
use tokio::time::{Instant, sleep, timeout};

use super::config::BridgeConfig;
use crate::bridge::{Frame, Wire, zabbix};

/// After the last write of a load the peer has this long to say that it was not there any more.
const SETTLE: Duration = Duration::from_millis(100);

/// A name is looked up again after this, for datagrams have no connection that would end.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(60);

/// Of a connection: what lies in it unread when a peer dies is lost, so it is not to be much.
const SEND_BUFFER_BYTES: u32 = 64 << 10;

/// A sink and its socket.
pub(super) struct Sink {
    config: Arc<BridgeConfig>,
    socket: Option<Socket>,
}

enum Socket {
    Datagrams(UdpSocket, Instant),
    Stream(TcpStream),
}

/// Why a sink took nothing.
pub(super) struct Failure {
    pub(super) why: String,
    /// Whether what it was sent before may be lost too.
    pub(super) from_the_start: bool,
}

impl Failure {
    fn here(why: String) -> Self {
        Self {
            why,
            from_the_start: false,
        }
    }
}

impl Sink {
    pub(super) fn new(config: Arc<BridgeConfig>) -> Self {
        Self {
            config,
            socket: None,
        }
    }

    /// Sends a frame; says how many of its figures the sink did not want. One that is not the first must go the same way
    /// as those before it.
    pub(super) async fn send(&mut self, frame: &Frame, first: bool) -> Result<u64, Failure> {
        let limit = self.config.timeout;
        // Out of its place while it is in use: when this is cut off, the socket goes with it.
        match (self.socket.take(), self.config.protocol.wire) {
            (Some(Socket::Stream(stream)), Wire::Stream) if !is_over(&stream) => {
                let sent = self.write(stream, frame).await;
                sent.map_err(|why| Failure {
                    why,
                    from_the_start: true,
                })?;
            }
            (_, Wire::Asked) => {
                let asking = timeout(limit, ask(&self.config.address, &frame.bytes));
                return within("ask", limit, asking.await).map_err(Failure::here);
            }
            (_, Wire::Stream) if !first => {
                return Err(Failure {
                    why: "the peer closed the connection".to_owned(),
                    from_the_start: true,
                });
            }
            (_, Wire::Stream) => {
                let connecting = timeout(limit, connect(&self.config.address));
                let stream = within("connect", limit, connecting.await).map_err(Failure::here)?;
                self.write(stream, frame).await.map_err(Failure::here)?;
            }
            (socket, Wire::Datagrams) => {
                let (socket, since) = match socket {
                    Some(Socket::Datagrams(socket, since)) if since.elapsed() < LOOK_UP_AGAIN => {
                        (socket, since)
                    }
                    _ => {
                        let opening = timeout(limit, open(&self.config.address));
                        let socket = within("look up", limit, opening.await);
                        (socket.map_err(Failure::here)?, Instant::now())
                    }
                };
                let sending = timeout(limit, socket.send(&frame.bytes)).await;
                within("send", limit, sending).map_err(Failure::here)?;
                // Whether the kernel has been told meanwhile that nobody listens there.
                if let Ok(Some(error)) = socket.take_error() {
                    return Err(Failure::here(format!("send: {error}")));
                }
                self.socket = Some(Socket::Datagrams(socket, since));
            }
        }
        Ok(0)
    }

    async fn write(&mut self, mut stream: TcpStream, frame: &Frame) -> Result<(), String> {
        let limit = self.config.timeout;
        let written = timeout(limit, stream.write_all(&frame.bytes)).await;
        within("write", limit, written)?;
        self.socket = Some(Socket::Stream(stream));
        Ok(())
    }

    /// Whether the sink is still there after the last frame.
    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        let stream = match &self.socket {
            None => return Ok(()),
            Some(Socket::Datagrams(socket, _)) => {
                // From another machine it takes a moment to hear that nobody listens there.
                sleep(SETTLE).await;
                let Ok(Some(error)) = socket.take_error() else {
                    return Ok(());
                };
                self.socket = None;
                return Err(Failure {
                    why: format!("send: {error}"),
                    from_the_start: true,
                });
            }
            Some(Socket::Stream(stream)) => stream,
        };
        if timeout(SETTLE, until_over(stream)).await.is_err() {
            return Ok(());
        }
        self.socket = None;
        Err(Failure {
            why: "the peer closed the connection".to_owned(),
            from_the_start: true,
        })
    }

    /// Lets go of a connection that the peer ends while there is nothing to send. For ever.
    pub(super) async fn keep_an_eye(&mut self) -> Infallible {
        if let Some(Socket::Stream(stream)) = &self.socket {
            until_over(stream).await;
            self.socket = None;
        }
        std::future::pending().await
    }
}

/// Whether the peer has ended the connection, or its half of it, as far as the kernel knows now. Writing would work once
/// more, and be lost.
fn is_over(stream: &TcpStream) -> bool {
    let mut bytes = [0_u8; 1];
    match recv(stream, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Until the peer has ended the connection. What it says is thrown away.
async fn until_over(stream: &TcpStream) {
    let mut bytes = [0_u8; 512];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut bytes) {
            Ok(0) => return,
            // A peer that says much is not listened to all the time.
            Ok(_) => sleep(Duration::from_millis(10)).await,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Sends a request on a connection of its own, and reads the answer.
async fn ask(address: &str, request: &[u8]) -> std::io::Result<u64> {
    let odd = |why: String| std::io::Error::new(ErrorKind::InvalidData, why);
    let mut stream = connect(address).await?;
    stream.write_all(request).await?;
    let mut start = [0; 5];
    stream.read_exact(&mut start).await?;
    let mut lengths = vec![0; zabbix::lengths_of(start).map_err(odd)?];
    stream.read_exact(&mut lengths).await?;
    let mut body = vec![0; zabbix::body_of(&lengths).map_err(odd)?];
    stream.read_exact(&mut body).await?;
    Ok(zabbix::answer(&body).map_err(odd)?.failed)
}

async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn open(address: &str) -> std::io::Result<UdpSocket> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(address).await? {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn within<T>(
    what: &str,
    limit: Duration,
    outcome: Result<std::io::Result<T>, tokio::time::error::Elapsed>,
) -> Result<T, String> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: not done after {limit:?}")),
    }
}
