//! Answers that go ahead of their acknowledgement, with the connection cut at any byte of both.

use anyhow::{Context, Result, ensure};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use muster_harness::{Broker, Direction, Flow, Proxy, eventually};
use muster_link::{Outgoing, Session};

use super::{classic, config, config_at, consume, message};

/// Bytes from one cut to the next: less than an acknowledgement has.
const STEP_BYTES: usize = 11;

/// What became of a question whose connection was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fate {
    /// The broker has the answer.
    answered: bool,
    /// The broker delivers the question again.
    again: bool,
}

struct Stage {
    broker: Broker,
    proxy: Proxy,
    own: Session,
}

impl Stage {
    async fn set_up() -> Result<Self> {
        let broker = Broker::shared().await?;
        let proxy = Proxy::start(broker.amqp()).await?;
        let own = Session::open(&config(&broker)?, "own").await?;
        for queue in ["asked", "answers"] {
            own.declare_queue(&classic(queue)).await?;
        }
        Ok(Self { broker, proxy, own })
    }

    /// Asks, answers on a connection that is cut after so many bytes, or not at all; and the bytes that it took.
    async fn ask(&self, cut_after: Option<u64>) -> Result<(Fate, u64)> {
        let question = Outgoing {
            transient: true,
            ..message("asked", b"?")
        };
        self.own.publish(question).await?;
        let config = config_at(&self.broker, self.proxy.address(), |_| {})?;
        let session = Session::open(&config, "answers").await?;
        let mut deliveries = session.consume(consume("asked")).await?;
        let asked = deliveries.recv().await.context("a question")?;
        ensure!(asked.transient, "a transient message comes as another");
        let before = self.proxy.counts().up_bytes;
        if let Some(bytes) = cut_after {
            self.proxy.set(Direction::Up, Flow::EndAfter(bytes));
        }
        // Where the cut is within the answer there is nothing to acknowledge.
        if let Ok(mut underway) = session.publish_unconfirmed(&message("answers", b"!")) {
            let written = eventually("the answer is written, or lost", async || {
                underway
                    .written()
                    .ok_or_else(|| "it still waits".to_owned())
            })
            .await?;
            if written {
                asked.acker.ack().await;
            }
        }
        if cut_after.is_some() {
            session.closed().await;
        } else {
            eventually("the broker has both", async || {
                let (waiting, _) = self.holds("answers").await.map_err(told)?;
                (waiting == 1)
                    .then_some(())
                    .ok_or_else(|| format!("{waiting} wait"))
            })
            .await?;
            session.close().await;
        }
        let bytes = self.proxy.counts().up_bytes - before;
        self.proxy.set(Direction::Up, Flow::Pass);
        // When the broker knows the consumer to be gone, what it had not acknowledged is back in the queue.
        eventually("the consumer is gone", async || {
            let (_, consumers) = self.holds("asked").await.map_err(told)?;
            (consumers == 0)
                .then_some(())
                .ok_or_else(|| format!("{consumers} consumers"))
        })
        .await?;
        let again = self.take("asked").await?;
        let answered = self.take("answers").await?;
        Ok((Fate { answered, again }, bytes))
    }

    /// Messages that wait in a queue, and its consumers.
    async fn holds(&self, queue: &str) -> Result<(u32, u32)> {
        let (_connection, channel) = self.broker.channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await?;
        Ok((queue.message_count(), queue.consumer_count()))
    }

    async fn take(&self, queue: &str) -> Result<bool> {
        let Some(message) = self.own.get(queue).await? else {
            return Ok(false);
        };
        Ok(message.acker.ack().await)
    }
}

fn told(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[tokio::test]
async fn wherever_the_connection_breaks_a_question_is_answered_or_comes_again() -> Result<()> {
    let stage = Stage::set_up().await?;
    let whole = Fate {
        answered: true,
        again: false,
    };
    let (fate, _) = stage.ask(None).await?;
    assert_eq!(fate, whole, "on a connection that holds");
    let mut fates = Vec::new();
    // The answer and its acknowledgement have fewer bytes than this; the last cut is behind both.
    for bytes in (0..).step_by(STEP_BYTES) {
        let (fate, sent) = stage.ask(Some(bytes)).await?;
        ensure!(
            fate.answered || fate.again,
            "cut after {sent} bytes: acknowledged and not answered"
        );
        fates.push(fate);
        if !fate.again {
            break;
        }
        ensure!(bytes < 2000, "never acknowledged: {fates:?}");
    }
    // Each kind of cut was among them: before the answer, and between it and the acknowledgement.
    assert_eq!(
        fates.first(),
        Some(&Fate {
            answered: false,
            again: true
        })
    );
    let between = Fate {
        answered: true,
        again: true,
    };
    assert!(fates.contains(&between), "{fates:?}");
    assert_eq!(fates.last(), Some(&whole));
    Ok(())
}
