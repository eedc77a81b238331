//! What a subscriber's broker user may do, by the broker's own judgement.

use anyhow::{Context, Result};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use muster_harness::broker::connect;

use super::Stage;

/// What is tried, each on a channel of its own.
#[derive(Clone, Debug)]
enum Try {
    Declare(String),
    Delete(String),
    Bind(String, &'static str),
    Consume(String),
    Publish(&'static str, String),
}

impl Try {
    async fn on(&self, channel: &Channel) -> lapin::Result<()> {
        match self {
            Self::Declare(queue) => {
                let durable = QueueDeclareOptions {
                    durable: true,
                    ..QueueDeclareOptions::default()
                };
                let declared =
                    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default());
                declared.await.map(drop)
            }
            Self::Delete(queue) => {
                let deleted =
                    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
                deleted.await.map(drop)
            }
            Self::Bind(queue, exchange) => {
                let options = QueueBindOptions::default();
                let (queue, exchange) = (queue.as_str().into(), (*exchange).into());
                channel
                    .queue_bind(queue, exchange, "#".into(), options, FieldTable::default())
                    .await
            }
            Self::Consume(queue) => {
                channel.basic_qos(1, BasicQosOptions::default()).await?;
                let mut first = FieldTable::default();
                if queue == "muster.history" {
                    first.insert(
                        "x-stream-offset".into(),
                        AMQPValue::LongString("first".into()),
                    );
                }
                let options = BasicConsumeOptions::default();
                channel
                    .basic_consume(queue.as_str().into(), "".into(), options, first)
                    .await
                    .map(drop)
            }
            Self::Publish(exchange, key) => {
                channel
                    .confirm_select(ConfirmSelectOptions::default())
                    .await?;
                let (exchange, key) = ((*exchange).into(), key.as_str().into());
                let (options, properties) =
                    (BasicPublishOptions::default(), BasicProperties::default());
                channel
                    .basic_publish(exchange, key, options, b"x", properties)
                    .await?
                    .await
                    .map(drop)
            }
        }
    }

    /// Whether the broker lets it happen; its words where not.
    async fn outcome(&self, connection: &Connection) -> Result<Result<(), String>> {
        let channel = connection
            .create_channel()
            .await
            .context("open a channel")?;
        let outcome = self.on(&channel).await;
        Ok(outcome.map_err(|error| error.to_string()))
    }
}

#[tokio::test]
async fn a_subscriber_reads_what_is_meant_for_it_and_changes_nothing() -> Result<()> {
    let stage = Stage::start(1).await?;
    let (name, url) = stage.enroll("reader").await?;
    let connection = connect(&url).await?;
    let own = format!("sub.{name}.events");
    let agent = format!("muster.agent.{}", stage.fleet.agents[0].host);
    for allowed in [
        Try::Declare(own.clone()),
        Try::Bind(own.clone(), "muster.events"),
        Try::Bind(own.clone(), "muster.metrics"),
        Try::Bind(own.clone(), "muster.json"),
        Try::Consume(own.clone()),
        Try::Consume("muster.history".to_owned()),
        Try::Delete(own.clone()),
    ] {
        let outcome = allowed.outcome(&connection).await?;
        assert_eq!(outcome, Ok(()), "{allowed:?}");
    }
    let other = stage.enroll("other").await?;
    let others = connect(&other.1).await?;
    let foreign = format!("sub.{}.events", other.0);
    assert_eq!(
        Try::Declare(foreign.clone()).outcome(&others).await?,
        Ok(())
    );
    let again = Try::Declare(own.clone()).outcome(&connection).await?;
    assert_eq!(again, Ok(()));
    let text = str::to_owned;
    for forbidden in [
        Try::Declare(text("events")),
        Try::Declare(text("muster.ctl.reader")),
        Try::Declare(format!("sub.{name}")),
        Try::Declare(foreign.clone()),
        Try::Delete(foreign.clone()),
        Try::Consume(foreign),
        Try::Bind(own.clone(), "muster.jobs"),
        Try::Bind(own.clone(), "muster.replies"),
        Try::Bind(own.clone(), "muster.dead"),
        Try::Bind(agent.clone(), "muster.events"),
        Try::Consume(agent.clone()),
        Try::Consume(text("muster.ledger")),
        Try::Consume(text("muster.presence")),
        Try::Consume(text("muster.dead")),
        Try::Consume(text("muster.reactions")),
        Try::Delete(text("muster.history")),
        Try::Delete(agent.clone()),
        Try::Publish("muster.jobs", text("all")),
        Try::Publish("muster.events", text("lvs.service.down.h1")),
        Try::Publish("muster.metrics", text("presence.h1")),
        Try::Publish("muster.json", text("lvs.service.down.h1")),
        Try::Publish("muster.replies", text("result.x.h1")),
        Try::Publish("", agent),
    ] {
        let outcome = forbidden.outcome(&connection).await?;
        let words = outcome
            .err()
            .with_context(|| format!("{forbidden:?} went through"))?;
        assert!(words.contains("ACCESS_REFUSED"), "{forbidden:?}: {words}");
    }

    // A retired one is thrown out, and does not come back.
    let told = stage
        .as_admin(&["broker", "retire", "--subscriber", &name])
        .await?;
    assert_eq!(told, format!("the subscriber {name} is retired\n"));
    muster_harness::eventually("the connection is closed", async || {
        if connection.status().connected() {
            Err("it is open")
        } else {
            Ok(())
        }
    })
    .await?;
    assert!(connect(&url).await.is_err());
    assert!(connect(&other.1).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn names_that_would_reach_into_anothers_queues_are_refused() -> Result<()> {
    let broker = muster_harness::Broker::shared().await?;
    let fleet = muster_harness::Fleet::enroll(&broker, &Default::default()).await?;
    for name in ["a.b", "A", "a b", ""] {
        let output = fleet
            .muster
            .run(&["broker", "enroll", "--subscriber", name])
            .await?;
        assert_eq!(output.code, 2, "{output:?}");
        assert!(output.stderr.contains("small letters"), "{output:?}");
    }
    // The host of that name is not a subscriber, nor the other way round.
    let admin = fleet.muster.home().join(".config/muster/admin.toml");
    let admin = admin.display().to_string();
    let name = format!("both-{}", broker.tag());
    let enroll = ["--config", &admin, "broker", "enroll"];
    fleet
        .muster
        .succeed(&[&enroll[..], &[name.as_str()]].concat())
        .await?;
    let output = fleet
        .muster
        .run(&[&enroll[..], &["--subscriber", &name]].concat())
        .await?;
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("did not make"), "{output:?}");
    Ok(())
}
