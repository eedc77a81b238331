//! One connection's life: opened with a time limit, used, ended once with a reason. It must not try again by itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::sync::{OnceCell, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::channels;
use crate::config::BrokerConfig;
use crate::connect::{Socket, connect};
use crate::deliver::Deliveries;
use crate::error::{Ended, OpenError, PublishError, SetupError, describe, is_refusal};
use crate::life::Shared;
use crate::message::{Outgoing, Receipt};
use crate::publish::{Handed, Publisher, QUEUE_LENGTH, Request};
use crate::queue::{Binding, Consume, QueueDecl, QueueKind};
use crate::stamp;

/// Longest wait for the broker's goodbye; afterwards the socket is cut.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// One connection to RabbitMQ: channels to publish on, others to consume.
///
/// Whatever fails on it ends all of it; [`Session::closed`] says why. Dropping it breaks the connection at once.
pub struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) control: Channel,
    pub(crate) user: ShortString,
    /// Whether the control channel has a consumer already; a second one needs a channel of its own.
    control_consumes: AtomicBool,
    /// Of messages that are asked for one by one: on a consumer's channel one ack may mean all before it.
    pub(crate) gets: OnceCell<Channel>,
    publishes: mpsc::Sender<Request>,
    confirm_timeout: Duration,
    setup_timeout: Duration,
    _publisher: JoinSet<()>,
}

impl Session {
    /// Connects to one of the configured brokers, tried in random order. `name` is shown in the broker's management.
    ///
    /// # Errors
    /// When none of them lets us in within `connect_timeout`; the error is the last one's.
    pub async fn open(config: &BrokerConfig, name: &str) -> Result<Self, OpenError> {
        let urls = config.urls();
        let start = usize::try_from(stamp::random_u64() % urls.len().max(1) as u64).unwrap_or(0);
        let mut last = OpenError::Other {
            at: "nowhere".to_owned(),
            why: "no broker is configured".to_owned(),
        };
        for url in urls.iter().cycle().skip(start).take(urls.len()) {
            let deadline = Instant::now() + config.connect_timeout;
            last = match connect(config, url, name, deadline).await {
                Ok((connection, socket)) => {
                    match Self::set_up(config, url.address(), connection, socket, deadline).await {
                        Ok(session) => return Ok(session),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
        }
        Err(last)
    }

    async fn set_up(
        config: &BrokerConfig,
        at: String,
        connection: Connection,
        socket: Socket,
        deadline: Instant,
    ) -> Result<Self, OpenError> {
        // There must be one listener and no more: each event goes to one of them.
        let events = Box::pin(connection.events_listener());
        let connection = Arc::new(connection);
        // Two, so that what is published never waits behind deliveries.
        let publish = channels::open(&connection);
        let channels = async { tokio::try_join!(publish, connection.create_channel()) };
        let other = |why: String| OpenError::Other {
            at: at.clone(),
            why,
        };
        let (publish, control) = match timeout_at(deadline, channels).await {
            Ok(Ok(channels)) => channels,
            Ok(Err(error)) => return Err(other(describe(&error))),
            Err(_) => {
                return Err(other(format!(
                    "opening channels took longer than {:?}",
                    config.connect_timeout
                )));
            }
        };
        let user = ShortString::try_new(config.user()).map_err(|error| other(error.to_string()))?;
        let shared = Arc::new(Shared::new(format!("the session with {at} ended"), socket));
        let (publishes, requests) = mpsc::channel(QUEUE_LENGTH);
        let heartbeat = Duration::from_secs(u64::from(config.heartbeat_s));
        let publisher = Publisher::new(
            Arc::clone(&connection),
            publish,
            Arc::clone(&shared),
            user.clone(),
            config.confirm_timeout,
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(publisher.run(requests, events, heartbeat));
        Ok(Self {
            shared,
            connection,
            control,
            user,
            control_consumes: AtomicBool::new(false),
            gets: OnceCell::new(),
            publishes,
            confirm_timeout: config.confirm_timeout,
            setup_timeout: config.connect_timeout,
            _publisher: tasks,
        })
    }

    /// Publishes a message and waits for the broker's word on it, `confirm_timeout` at the most. Many may be under way
    /// at a time: they are pipelined, and their order among each other is not kept.
    ///
    /// While the broker blocks the connection, this fails at once with [`PublishError::Blocked`]. A confirm that does
    /// not come in time ends the session.
    ///
    /// # Errors
    /// When it is not known that the broker has the message.
    pub async fn publish(&self, outgoing: Outgoing) -> Result<Receipt, PublishError> {
        self.publish_then(outgoing, None).await
    }

    /// As [`Session::publish`]; `handed` is called when the message was handed to the connection, so that the next one
    /// published so goes out behind it, and comes behind it in every stream that keeps both.
    ///
    /// # Errors
    /// As there; `handed` may have been called.
    pub async fn publish_then(
        &self,
        outgoing: Outgoing,
        handed: Option<Handed>,
    ) -> Result<Receipt, PublishError> {
        if let Some(why) = self.shared.blocked.borrow().clone() {
            return Err(PublishError::Blocked { why });
        }
        let (reply, receipt) = oneshot::channel();
        let down = || PublishError::Down {
            why: self.shared.why_ended(),
        };
        match timeout(
            self.confirm_timeout,
            self.publishes.send(Request {
                outgoing,
                handed,
                reply,
            }),
        )
        .await
        {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(down()),
            Err(_) => {
                return Err(PublishError::TimedOut {
                    limit: self.confirm_timeout,
                });
            }
        }
        receipt.await.unwrap_or_else(|_| Err(down()))
    }

    /// Makes a queue, or finds it as it is wanted.
    ///
    /// # Errors
    /// When it exists with other settings, is another connection's, or the user may not.
    pub async fn declare_queue(&self, queue: &QueueDecl) -> Result<(), SetupError> {
        let what = format!("declare the queue {}", queue.name);
        let exclusive = queue.kind == QueueKind::Exclusive;
        let options = QueueDeclareOptions {
            durable: !exclusive,
            exclusive,
            auto_delete: exclusive,
            ..QueueDeclareOptions::default()
        };
        let mut arguments = FieldTable::default();
        if queue.kind == QueueKind::Quorum {
            arguments.insert(
                "x-queue-type".into(),
                AMQPValue::LongString("quorum".into()),
            );
        }
        let name = short(&queue.name, &what)?;
        self.within(
            what,
            &queue.name,
            self.control.queue_declare(name, options, arguments),
        )
        .await?;
        Ok(())
    }

    /// Makes sure that the streams are up, before anything is published that they are to keep. A node that starts takes
    /// clients first, and what it is handed meanwhile passes the streams by: confirmed, where any other queue takes it.
    ///
    /// # Errors
    /// When one is not there ([`SetupError::Missing`]), or not yet ([`SetupError::Down`]); the session has ended then.
    pub async fn find_streams(&self, names: &[&str]) -> Result<(), SetupError> {
        for name in names {
            let what = format!("find the stream {name}");
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let found =
                self.control
                    .queue_declare(short(name, &what)?, passive, FieldTable::default());
            self.within(what, name, found).await?;
        }
        Ok(())
    }

    /// Binds a queue to an exchange.
    ///
    /// # Errors
    /// When either does not exist, or the user may not.
    pub async fn bind(&self, queue: &str, binding: &Binding) -> Result<(), SetupError> {
        let what = format!(
            "bind the queue {queue} to {} with the key {}",
            binding.exchange, binding.key
        );
        let names = (
            short(queue, &what)?,
            short(&binding.exchange, &what)?,
            short(&binding.key, &what)?,
        );
        let bound = self.control.queue_bind(
            names.0,
            names.1,
            names.2,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        self.within(what, queue, bound).await
    }

    /// Takes a binding back; it is no error when there is none.
    ///
    /// # Errors
    /// When the queue or the exchange does not exist, or the user may not.
    pub async fn unbind(&self, queue: &str, binding: &Binding) -> Result<(), SetupError> {
        let what = format!(
            "unbind the queue {queue} from {} with the key {}",
            binding.exchange, binding.key
        );
        let names = (
            short(queue, &what)?,
            short(&binding.exchange, &what)?,
            short(&binding.key, &what)?,
        );
        let unbound = self
            .control
            .queue_unbind(names.0, names.1, names.2, FieldTable::default());
        self.within(what, queue, unbound).await
    }

    /// Starts to consume a queue or a stream, on a channel of its own where there is a consumer already.
    ///
    /// # Errors
    /// When there is no such queue, someone else has it for himself ([`SetupError::InUse`]), or the user may not.
    pub async fn consume(&self, consume: Consume) -> Result<Deliveries, SetupError> {
        let shares = !self.control_consumes.swap(true, Ordering::AcqRel);
        self.consume_on(shares.then(|| self.control.clone()), consume)
            .await
    }

    /// The same on a channel of its own, so that [`Deliveries::give_back`] can end it.
    ///
    /// # Errors
    /// As there.
    pub async fn consume_apart(&self, consume: Consume) -> Result<Deliveries, SetupError> {
        self.consume_on(None, consume).await
    }

    async fn consume_on(
        &self,
        channel: Option<Channel>,
        consume: Consume,
    ) -> Result<Deliveries, SetupError> {
        let Consume {
            queue,
            exclusive,
            prefetch,
            acks,
            offset,
        } = consume;
        let what = format!("consume the queue {queue}");
        let name = short(&queue, &what)?;
        let options = BasicConsumeOptions {
            exclusive,
            ..BasicConsumeOptions::default()
        };
        let mut arguments = FieldTable::default();
        if let Some(offset) = offset {
            arguments.insert("x-stream-offset".into(), offset.argument());
        }
        let started = async {
            let channel = match channel {
                Some(channel) => channel,
                None => self.connection.create_channel().await?,
            };
            // Before consuming: the library buffers without a bound.
            channel
                .basic_qos(prefetch.max(1), BasicQosOptions::default())
                .await?;
            let consumer = channel
                .basic_consume(name, ShortString::default(), options, arguments)
                .await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = self.within(what, &queue, started).await?;
        Ok(Deliveries::new(
            consumer,
            channel,
            Arc::clone(&self.shared),
            queue,
            acks,
            prefetch.max(1),
        ))
    }

    /// Waits until the session has ended, and says why.
    pub async fn closed(&self) -> Ended {
        self.shared.over().await
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.has_ended()
    }

    /// Why the broker takes no messages, while it does not (it is short of memory or disk).
    #[must_use]
    pub fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.shared.blocked.subscribe()
    }

    /// Ends the session at once, for a reason of the caller's.
    pub fn abandon(&self, why: &str) {
        self.shared.end(why.to_owned());
    }

    /// Says goodbye to the broker, within two seconds, and ends the session. What is not confirmed by then is not
    /// waited for.
    pub async fn close(&self) {
        let Some(_goodbye) = self.shared.goodbye() else {
            self.shared.over().await;
            return;
        };
        if !self.has_ended() && !self.connection.status().blocked() {
            let _ = timeout(CLOSE_LIMIT, self.connection.close(200, "goodbye".into())).await;
        }
    }

    /// Waits for `answer` for as long as a set-up may take. Any failure ends the session: the channel is gone with it.
    pub(crate) async fn within<T>(
        &self,
        what: String,
        queue: &str,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, SetupError> {
        if self.has_ended() {
            return Err(SetupError::Down {
                what,
                why: self.shared.why_ended(),
            });
        }
        let waits = self.shared.waits();
        let answered = timeout(self.setup_timeout, answer).await;
        let error = match answered {
            Ok(Ok(value)) => return Ok(value),
            // Cut off by what went wrong elsewhere: that is the cause.
            Ok(Err(error)) if self.has_ended() && !is_refusal(&error) => SetupError::Down {
                what,
                why: self.shared.why_ended(),
            },
            Ok(Err(error)) => SetupError::of(what, queue, &error),
            Err(_) => SetupError::TimedOut {
                what,
                limit: self.setup_timeout,
            },
        };
        self.shared.end(error.to_string());
        drop(waits);
        Err(error)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("ended", &*self.shared.ended.borrow())
            .finish_non_exhaustive()
    }
}

pub(crate) fn short(name: &str, what: &str) -> Result<ShortString, SetupError> {
    ShortString::try_new(name).map_err(|error| SetupError::Down {
        what: what.to_owned(),
        why: error.to_string(),
    })
}
