//! A TCP proxy that passes, delays, stalls, swallows, refuses and cuts. Must not know the protocol it carries.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ports::PortBlock;

/// Bytes read at a time; one delayed chunk.
const CHUNK_BYTES: usize = 16 * 1024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
    /// Either way.
    Both,
}

/// What happens to bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They pass.
    Pass,
    /// They pass after this time, a chunk after the other, so throughput falls too.
    Delay(Duration),
    /// They are not read: the sender's buffers fill, as with a peer that hangs.
    Stall,
    /// They are read and lost without a word, as on a connection whose other end is gone: half open.
    Swallow,
    /// So many of them pass, counted from this order; then both ends see the connection end, in the middle of whatever
    /// that is.
    EndAfter(u64),
}

/// What was carried since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes passed from clients to the server.
    pub up_bytes: u64,
    /// Bytes passed from the server to clients.
    pub down_bytes: u64,
}

/// A listener in front of one server, on 127.0.0.1 unless it was given; gone, with its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    totals: Arc<Totals>,
    _tasks: JoinSet<()>,
    _ports: Option<PortBlock>,
}

#[derive(Clone, Copy, Debug)]
struct Orders {
    up: Flow,
    down: Flow,
    listening: bool,
    /// Connections of an earlier generation are reset.
    generation: u64,
}

#[derive(Debug, Default)]
struct Totals {
    accepted: AtomicU64,
    open: AtomicU64,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
}

impl Proxy {
    /// Listens on a port of its own; each connection is carried on to `server`, which need not be there yet.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(server: SocketAddr) -> Result<Self> {
        let ports = PortBlock::reserve()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.port(0)));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address}"))?;
        Self::carrying(listener, server, Some(ports))
    }

    /// The same behind a listener that is there already, e.g. in another network namespace.
    ///
    /// A port that [`Proxy::refuse`] has closed can't be opened again from here.
    ///
    /// # Errors
    /// When the listener can't be used.
    pub fn behind(listener: std::net::TcpListener, server: SocketAddr) -> Result<Self> {
        listener
            .set_nonblocking(true)
            .context("make a listener non-blocking")?;
        let listener = TcpListener::from_std(listener).context("take a listener over")?;
        Self::carrying(listener, server, None)
    }

    fn carrying(
        listener: TcpListener,
        server: SocketAddr,
        ports: Option<PortBlock>,
    ) -> Result<Self> {
        let address = listener
            .local_addr()
            .context("ask a listener for its address")?;
        let totals = Arc::new(Totals::default());
        let first = Orders {
            up: Flow::Pass,
            down: Flow::Pass,
            listening: true,
            generation: 0,
        };
        let (orders, follow) = watch::channel(first);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(
            listener,
            address,
            server,
            follow,
            Arc::clone(&totals),
        ));
        Ok(Self {
            address,
            orders,
            totals,
            _tasks: tasks,
            _ports: ports,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says what happens to bytes from now on, on connections that are open and on new ones.
    pub fn set(&self, direction: Direction, flow: Flow) {
        self.orders.send_modify(|orders| {
            if direction != Direction::Down {
                orders.up = flow;
            }
            if direction != Direction::Up {
                orders.down = flow;
            }
        });
    }

    /// Resets every open connection, at both ends; new ones are taken.
    pub fn cut(&self) {
        self.orders.send_modify(|orders| orders.generation += 1);
    }

    /// With `true` the port is closed, so that connecting is refused; what is open stays open.
    pub fn refuse(&self, refuse: bool) {
        self.orders.send_modify(|orders| orders.listening = !refuse);
    }

    /// What was carried so far.
    pub fn counts(&self) -> Counts {
        Counts {
            accepted: self.totals.accepted.load(Ordering::Relaxed),
            open: self.totals.open.load(Ordering::Relaxed),
            up_bytes: self.totals.up_bytes.load(Ordering::Relaxed),
            down_bytes: self.totals.down_bytes.load(Ordering::Relaxed),
        }
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    server: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    totals: Arc<Totals>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let wanted = orders.borrow_and_update().listening;
        if !wanted {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            Some(client) = accept(listener.as_ref()) => {
                totals.accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(carry(client, server, orders.clone(), Arc::clone(&totals)));
            }
            Some(_) = connections.join_next() => {}
            // The port could not be had back: try again.
            () = tokio::time::sleep(Duration::from_millis(50)), if wanted && listener.is_none() => {}
        }
    }
}

/// Never ready without a listener.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

async fn carry(
    client: TcpStream,
    server: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    totals: Arc<Totals>,
) {
    // Closing with a zero linger time is a reset: nobody at either end mistakes a cut for a goodbye.
    let Ok(onward) = TcpStream::connect(server).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), onward.set_nodelay(true));
    totals.open.fetch_add(1, Ordering::Relaxed);
    let generation = orders.borrow().generation;
    let follow = orders.clone();
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = onward.into_split();
    let mut up = Pump {
        from: client_in,
        to: server_out,
        orders: follow.clone(),
        upward: true,
    };
    let mut down = Pump {
        from: server_in,
        to: client_out,
        orders: follow,
        upward: false,
    };
    let ended = async { tokio::try_join!(up.run(&totals.up_bytes), down.run(&totals.down_bytes)) };
    let cut = tokio::select! {
        _ = ended => false,
        _ = orders.wait_for(|orders| orders.generation != generation) => true,
    };
    if cut {
        let _ = (
            up.to.as_ref().set_zero_linger(),
            down.to.as_ref().set_zero_linger(),
        );
        up.to.forget();
        down.to.forget();
    }
    totals.open.fetch_sub(1, Ordering::Relaxed);
}

/// As many bytes have passed as were to.
struct Enough;

/// One direction of one connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    orders: watch::Receiver<Orders>,
    upward: bool,
}

impl Pump {
    /// Carries bytes until the sender ends, then passes the end on, unless it is to be swallowed.
    async fn run(&mut self, bytes: &AtomicU64) -> Result<(), Enough> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut passed = 0;
        loop {
            self.flowing().await;
            let length = match self.from.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            // What was ordered while the read waited holds for what it read.
            self.flowing().await;
            match self.flow() {
                Flow::Swallow => continue,
                Flow::Delay(time) => tokio::time::sleep(time).await,
                Flow::Pass | Flow::Stall | Flow::EndAfter(_) => {}
            }
            let left = match self.flow() {
                Flow::EndAfter(limit) => usize::try_from(limit - passed).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let Some(read) = chunk.get(..length.min(left)) else {
                break;
            };
            if self.to.write_all(read).await.is_err() {
                break;
            }
            bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
            if left != usize::MAX {
                passed += read.len() as u64;
            }
            if length >= left {
                return Err(Enough);
            }
        }
        // A half-open connection hides the end too.
        let upward = self.upward;
        let _ = self
            .orders
            .wait_for(|orders| passes_end(flow_of(orders, upward)))
            .await;
        let _ = self.to.shutdown().await;
        Ok(())
    }

    /// Ready when bytes are not stalled.
    async fn flowing(&mut self) {
        let upward = self.upward;
        let _ = self
            .orders
            .wait_for(|orders| flow_of(orders, upward) != Flow::Stall)
            .await;
    }

    fn flow(&self) -> Flow {
        flow_of(&self.orders.borrow(), self.upward)
    }
}

fn flow_of(orders: &Orders, upward: bool) -> Flow {
    if upward { orders.up } else { orders.down }
}

fn passes_end(flow: Flow) -> bool {
    matches!(flow, Flow::Pass | Flow::Delay(_))
}
