//! RabbitMQ for a test: a fresh vhost on the node that all tests share, or a private node that may be broken.
//!
//! A node takes 4 to 10 s to boot, a vhost 50 ms. Tests that stop, kill, pause or starve the broker take a private
//! one; all others share. Broker users are the node's, so tests that share put [`Broker::tag`] into host names.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};

use crate::eventually::eventually;
use crate::management::{ALL, Management, escape};
use crate::node::{Node, NodeOptions};
use crate::ports::PortBlock;
use crate::process::{Memory, Process, cpu_of, memory_of};

/// Names the shared node by its first port, see `rabbitmq-node`; set by `tests/run`.
pub const SHARED_VARIABLE: &str = "MUSTER_TEST_BROKER";

/// Limit of a graceful stop; 6 s were seen on two busy cores.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A vhost on a node, and the administrator's access to it.
#[derive(Debug)]
pub struct Broker {
    first_port: u16,
    vhost: String,
    tag: String,
    management: Management,
    node: Option<Node>,
}

impl Broker {
    /// A fresh vhost on the shared node, deleted with this value. Without a shared node, a private one.
    ///
    /// # Errors
    /// When the node can't be reached or started.
    pub async fn shared() -> Result<Self> {
        let Ok(port) = std::env::var(SHARED_VARIABLE) else {
            return Self::private(NodeOptions::default()).await;
        };
        let first_port = port
            .parse()
            .with_context(|| format!("read {SHARED_VARIABLE}={port:?} as a port"))?;
        Self::on(first_port, None).await
    }

    /// A node of this test's own, stopped and deleted with this value.
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not come up; the error ends with its log.
    pub async fn private(options: NodeOptions) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("muster-broker-")
            .tempdir()
            .context("make a directory for a broker")?;
        fs::write(
            directory.path().join("extra.conf"),
            options.config.join("\n") + "\n",
        )
        .context("write the broker's extra config")?;
        let mut node = Node {
            process: None,
            directory,
            ports: PortBlock::reserve()?,
        };
        node.start().await?;
        Self::on(node.ports.port(0), Some(node)).await
    }

    async fn on(first_port: u16, node: Option<Node>) -> Result<Self> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let tag = id.chars().skip(id.len() - 6).collect::<String>();
        let vhost = format!("test-{tag}");
        let management = Management::at(local(first_port + 1))?;
        management.put_vhost(&vhost).await?;
        Ok(Self {
            first_port,
            vhost,
            tag,
            management,
            node,
        })
    }

    /// Where it takes AMQP clients.
    pub fn amqp(&self) -> SocketAddr {
        local(self.first_port)
    }

    /// Where its management API listens.
    pub fn management_address(&self) -> SocketAddr {
        local(self.first_port + 1)
    }

    /// Where it gives its own figures to Prometheus.
    pub fn prometheus(&self) -> SocketAddr {
        local(self.first_port + 2)
    }

    /// The test's vhost.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Six characters that no other test on the node has.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The administrator's API.
    pub fn management(&self) -> &Management {
        &self.management
    }

    /// The URI of the vhost for a user, directly at the broker.
    pub fn uri(&self, user: &str, password: &str) -> String {
        self.uri_through(self.amqp(), user, password)
    }

    /// The same through a proxy.
    pub fn uri_through(&self, address: SocketAddr, user: &str, password: &str) -> String {
        // The default frame size makes lapin touch 8 MiB for each connection.
        let (user, password, vhost) = (escape(user), escape(password), escape(&self.vhost));
        format!("amqp://{user}:{password}@{address}/{vhost}?frame_max=8192&heartbeat=10")
    }

    /// Makes a user with all rights in the vhost.
    ///
    /// # Errors
    /// When the node does not take it.
    pub async fn put_user(&self, user: &str, password: &str) -> Result<()> {
        self.management.put_user(user, password, "").await?;
        self.management
            .put_permissions(user, &self.vhost, ALL)
            .await
    }

    /// The administrator's connection, directly at the broker.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn connect(&self) -> Result<Connection> {
        connect(&self.uri("admin", "admin")).await
    }

    /// A channel on a connection of its own; the connection lives as long as the channel is held.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn channel(&self) -> Result<(Connection, Channel)> {
        let connection = self.connect().await?;
        let channel = connection
            .create_channel()
            .await
            .context("open a channel")?;
        Ok((connection, channel))
    }

    /// Messages ready in a queue right now, asked over AMQP.
    ///
    /// # Errors
    /// When there is no such queue.
    pub async fn depth(&self, queue: &str) -> Result<u32> {
        let (connection, channel) = self.channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
            .with_context(|| format!("ask for the depth of queue {queue}"))?;
        let depth = declared.message_count();
        connection
            .close(200, "done".into())
            .await
            .context("close the connection")?;
        Ok(depth)
    }

    /// Closes every client connection of the vhost from the broker's side; returns how many there were.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn close_connections(&self) -> Result<usize> {
        let open = self.management.connections(&self.vhost).await?;
        for connection in &open {
            self.management.close_connection(&connection.name).await?;
        }
        Ok(open.len())
    }

    /// Stops the node in an orderly way: it writes what it holds and says goodbye to its clients.
    ///
    /// # Errors
    /// On the shared node, and when it does not end.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.own_node()?.process.take() {
            process.terminate(STOP_LIMIT).await?;
        }
        Ok(())
    }

    /// kill -9 of the node and its helpers.
    ///
    /// # Errors
    /// On the shared node, and when it is not gone within seconds.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.own_node()?.process.take() {
            process.kill().await?;
            gone(&process).await?;
        }
        Ok(())
    }

    /// Starts the node after [`Broker::stop`] or [`Broker::kill`]: same ports, same data.
    ///
    /// # Errors
    /// On the shared node, when it runs already, and when it does not come up.
    pub async fn start(&mut self) -> Result<()> {
        let node = self.own_node()?;
        if node.process.is_some() {
            bail!("the broker runs already");
        }
        node.start().await
    }

    /// SIGSTOP to the whole node: its connections stay and, from the return on, nothing is answered.
    ///
    /// # Errors
    /// On the shared node, and when it does not run.
    pub async fn pause(&mut self) -> Result<()> {
        self.own_node()?.running()?.pause().await
    }

    /// SIGCONT to the whole node.
    ///
    /// # Errors
    /// On the shared node, and when it does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.own_node()?.running()?.resume()
    }

    /// Raises the memory alarm, which blocks every publishing connection, or clears it.
    ///
    /// # Errors
    /// On the shared node, and when the node does not take it.
    pub async fn block_publishers(&mut self, block: bool) -> Result<()> {
        let limit: &[&str] = if block { &["0"] } else { &["absolute", "2GB"] };
        self.own_node()?
            .ctl(&[&["set_vm_memory_high_watermark"], limit].concat())
            .await
    }

    /// Kills the process that leads a stream, again and again, half a second apart: each time it gets a new leader.
    ///
    /// # Errors
    /// On the shared node, and when there is no such stream.
    pub async fn kill_leader(&mut self, stream: &str, times: u32) -> Result<()> {
        let vhost = &self.vhost;
        let kill = format!(
            "[begin {{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{stream}\">>)), \
             exit(amqqueue:get_pid(Q), kill), timer:sleep(500) end || _ <- lists:seq(1, {times})]."
        );
        self.own_node()?.ctl(&["eval", &kill]).await
    }

    /// The directory of a private node: data, config, logs.
    ///
    /// # Errors
    /// On the shared node.
    pub fn directory(&self) -> Result<&Path> {
        let node = self
            .node
            .as_ref()
            .context("this test shares its broker, which has no directory here")?;
        Ok(node.directory.path())
    }

    /// CPU time that a private node's virtual machine has used.
    ///
    /// # Errors
    /// On the shared node, and when the node does not run.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.machine()?)
    }

    /// Memory that a private node's virtual machine holds, by the kernel's count.
    ///
    /// # Errors
    /// On the shared node, and when the node does not run.
    pub fn memory(&self) -> Result<Memory> {
        memory_of(self.machine()?)
    }

    /// Process id of a private node's virtual machine.
    fn machine(&self) -> Result<u32> {
        let path = self.directory()?.join("beam.pid");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        text.trim()
            .parse()
            .with_context(|| format!("{} holds no process id", path.display()))
    }

    fn own_node(&mut self) -> Result<&mut Node> {
        self.node
            .as_mut()
            .context("this test shares its broker: take Broker::private() to break one")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.node.is_none() {
            delete_vhost_blocking(self.management_address(), &self.vhost);
        }
    }
}

/// Connects as `uri` says, without any recovery.
///
/// # Errors
/// When nobody listens there or the broker refuses.
pub async fn connect(uri: &str) -> Result<Connection> {
    Connection::connect(uri, ConnectionProperties::default())
        .await
        .with_context(|| format!("connect to {uri}"))
}

/// After a kill -9 the helpers end by themselves a moment later; only then are the ports free.
async fn gone(process: &Process) -> Result<()> {
    eventually("the killed broker's helpers are gone", async || {
        crate::want(process.descendants(), vec![])
    })
    .await
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Drop can't await; a request of two lines needs no client. What goes wrong goes with the node at the end of the run.
fn delete_vhost_blocking(management: SocketAddr, vhost: &str) {
    use std::io::{Read, Write};
    let limit = Some(Duration::from_secs(20));
    let Ok(mut stream) = std::net::TcpStream::connect(management) else {
        return;
    };
    let _ = (
        stream.set_read_timeout(limit),
        stream.set_write_timeout(limit),
    );
    // "YWRtaW46YWRtaW4=" is admin:admin.
    let request = format!(
        "DELETE /api/vhosts/{vhost} HTTP/1.0\r\nAuthorization: Basic YWRtaW46YWRtaW4=\r\n\r\n"
    );
    let mut answer = [0; 16];
    if let Err(error) = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read(&mut answer))
    {
        tracing::warn!(vhost, %error, "could not delete the test's vhost");
    }
}
