//! The limit that Muster is measured against: bare lapin clients that do nothing but answer.
//!
//! N connections (`frame_max=8192`), one queue each, bound to one topic key. A bare requester publishes one message
//! to that key and counts the answers. Nothing is signed, recorded, confirmed or kept.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use muster_harness::Cores;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const JOBS: &str = "limit.jobs";
const REPLIES: &str = "limit.replies";

/// Sizes of a small signed job and of a small result, with their headers.
const REQUEST_BYTES: usize = 400;
const REPLY_BYTES: usize = 200;

/// Connections that one thread is opening at once.
const OPENING_MAX: usize = 16;

/// A round that takes longer than this has lost an answer.
const ROUND_LIMIT: Duration = Duration::from_secs(30);

/// Opens the consumers and answers until the process is ended; says `ready` when all are there.
pub(crate) async fn serve(uri: &str, agents: usize) -> Result<()> {
    declare_once(uri).await?;
    let uri = uri.to_owned();
    let (opened, mut all) = mpsc::channel(1);
    let mut cores = Cores::share(agents, move |numbers| {
        let (uri, opened) = (uri.clone(), opened.clone());
        async move {
            let mut echoes = open(&uri, numbers).await?;
            // Nobody waits for it where another thread has failed.
            let _ = opened.send(()).await;
            echoes
                .join_next()
                .await
                .context("no echo to wait for")?
                .context("join an echo")?
        }
    })?;
    for _ in 0..cores.threads() {
        tokio::select! {
            Some(()) = all.recv() => {}
            Some(ended) = cores.ended() => return ended,
        }
    }
    crate::say("ready");
    cores.ended().await.unwrap_or(Ok(()))
}

/// Opens the echoes with these numbers, and has each answer.
async fn open(uri: &str, numbers: Range<usize>) -> Result<JoinSet<Result<()>>> {
    let mut tasks = JoinSet::new();
    let mut opening = JoinSet::new();
    for number in numbers {
        if opening.len() >= OPENING_MAX {
            adopt(&mut opening, &mut tasks).await?;
        }
        let uri = uri.to_owned();
        opening.spawn(async move { Echo::open(&uri, number).await });
    }
    while !opening.is_empty() {
        adopt(&mut opening, &mut tasks).await?;
    }
    Ok(tasks)
}

/// On a connection of its own, which is gone afterwards and not counted.
async fn declare_once(uri: &str) -> Result<()> {
    let connection = connect(uri).await?;
    let channel = connection
        .create_channel()
        .await
        .context("open a channel")?;
    declare(&channel).await?;
    connection
        .close(200, "done".into())
        .await
        .context("close the connection")
}

async fn adopt(opening: &mut JoinSet<Result<Echo>>, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    if let Some(echo) = opening.join_next().await {
        let echo = echo.context("join an opening")??;
        tasks.spawn(echo.run());
    }
    Ok(())
}

struct Echo {
    // Held: dropping it closes the connection.
    _connection: Connection,
    channel: Channel,
    consumer: lapin::Consumer,
    key: String,
}

impl Echo {
    async fn open(uri: &str, number: usize) -> Result<Self> {
        let connection = connect(uri).await?;
        let channel = connection
            .create_channel()
            .await
            .context("open a channel")?;
        let queue = format!("limit.agent.{number}");
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.as_str().into(), durable, FieldTable::default())
            .await
            .context("declare a queue")?;
        let plain = QueueBindOptions::default();
        channel
            .queue_bind(
                queue.as_str().into(),
                JOBS.into(),
                "all".into(),
                plain,
                FieldTable::default(),
            )
            .await
            .context("bind a queue")?;
        channel
            .basic_qos(16, BasicQosOptions::default())
            .await
            .context("set the prefetch")?;
        let consumer = channel
            .basic_consume(
                queue.as_str().into(),
                "echo".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .context("consume")?;
        Ok(Self {
            _connection: connection,
            channel,
            consumer,
            key: format!("result.{number}"),
        })
    }

    async fn run(mut self) -> Result<()> {
        let body = [b'x'; REPLY_BYTES];
        while let Some(delivery) = self.consumer.next().await {
            let delivery = delivery.context("take a delivery")?;
            publish(&self.channel, REPLIES, &self.key, &body).await?;
            delivery
                .ack(BasicAckOptions::default())
                .await
                .context("acknowledge")?;
        }
        bail!("the broker ended an echo's consumer")
    }
}

/// The bare requester: one connection, a channel to publish and one to consume.
pub(crate) struct Requester {
    _connection: Connection,
    publisher: Channel,
    consumer: lapin::Consumer,
    _consumer_channel: Channel,
    agents: usize,
}

impl Requester {
    pub(crate) async fn open(uri: &str, agents: usize) -> Result<Self> {
        let connection = connect(uri).await?;
        let publisher = connection
            .create_channel()
            .await
            .context("open a channel")?;
        declare(&publisher).await?;
        let channel = connection
            .create_channel()
            .await
            .context("open a channel")?;
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare("".into(), exclusive, FieldTable::default())
            .await
            .context("declare a queue")?;
        let name = queue.name().as_str().to_owned();
        let plain = QueueBindOptions::default();
        channel
            .queue_bind(
                name.as_str().into(),
                REPLIES.into(),
                "#".into(),
                plain,
                FieldTable::default(),
            )
            .await
            .context("bind a queue")?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(
                name.as_str().into(),
                "requester".into(),
                options,
                FieldTable::default(),
            )
            .await
            .context("consume")?;
        Ok(Self {
            _connection: connection,
            publisher,
            consumer,
            _consumer_channel: channel,
            agents,
        })
    }

    /// One request to all and every answer to it: how long it took.
    pub(crate) async fn round(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        publish(&self.publisher, JOBS, "all", &[b'x'; REQUEST_BYTES]).await?;
        let all = async {
            for _ in 0..self.agents {
                self.consumer
                    .next()
                    .await
                    .context("the requester's consumer ended")?
                    .context("take an answer")?;
            }
            Ok::<_, anyhow::Error>(begun.elapsed())
        };
        tokio::time::timeout(ROUND_LIMIT, all)
            .await
            .context("an answer is missing after 30 s")?
    }
}

async fn connect(uri: &str) -> Result<Connection> {
    Connection::connect(uri, ConnectionProperties::default())
        .await
        .context("connect to the broker")
}

async fn declare(channel: &Channel) -> Result<()> {
    for exchange in [JOBS, REPLIES] {
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                exchange.into(),
                ExchangeKind::Topic,
                durable,
                FieldTable::default(),
            )
            .await
            .with_context(|| format!("declare {exchange}"))?;
    }
    Ok(())
}

async fn publish(channel: &Channel, exchange: &str, key: &str, body: &[u8]) -> Result<()> {
    channel
        .basic_publish(
            exchange.into(),
            key.into(),
            BasicPublishOptions::default(),
            body,
            BasicProperties::default(),
        )
        .await
        .with_context(|| format!("publish to {exchange}"))?;
    Ok(())
}
