//! Small answers go straight to the controller that waits, which tells the ledger: one message for all, and nothing lost
//! where the controller goes in between.

use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use muster_harness::{Broker, Fleet};

use super::*;

/// The types of the messages in the ledger that are about answers, from its beginning to now.
async fn answers_in_the_ledger(broker: &Broker) -> Result<Vec<String>> {
    let (_connection, channel) = broker.channel().await?;
    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    let from = AMQPValue::LongString("first".into());
    arguments.insert("x-stream-offset".into(), from);
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume("muster.ledger".into(), "".into(), options, arguments);
    let mut consumer = consumer.await?;
    let mut kinds = Vec::new();
    // A stream that has given all that it has is silent.
    while let Ok(Some(delivery)) =
        tokio::time::timeout(Duration::from_secs(2), consumer.next()).await
    {
        let delivery = delivery?;
        let kind = delivery
            .properties
            .kind()
            .as_ref()
            .map(|kind| kind.to_string());
        kinds.extend(
            kind.filter(|kind| {
                kind.starts_with("muster.result") || kind.starts_with("muster.heard")
            }),
        );
        delivery
            .acker
            .ack(lapin::options::BasicAckOptions::default())
            .await?;
    }
    Ok(kinds)
}

/// The queues of controllers for answers.
async fn answers_queues(broker: &Broker) -> Result<Vec<String>> {
    let queues = broker.management().queues(broker.vhost()).await?;
    let names = queues.into_iter().map(|queue| queue.name);
    Ok(names.filter(|name| name.ends_with(".answers")).collect())
}

#[tokio::test]
async fn the_answers_to_a_ping_are_one_message_in_the_ledger_and_everybody_knows_them() -> Result<()>
{
    let (broker, fleet) = fleet(3).await?;
    let before = answers_in_the_ledger(&broker).await?.len();
    // Of pings that not all had answered yet, while the fleet came up.
    let old = answers_queues(&broker).await?;
    let pinged = ask_ping(&fleet).await?;
    let after = answers_in_the_ledger(&broker).await?;
    assert_eq!(
        after.get(before..),
        Some(&["muster.heard/1".to_owned()][..]),
        "{after:?}"
    );
    let report = show(&fleet.second_desk("another")?, &pinged).await?;
    assert_states(&report, &[("succeeded", 3)]);
    // It is of no use any more, and its controller has ended in good order.
    eventually("the queue for answers is gone", async || {
        let queues = answers_queues(&broker)
            .await
            .map_err(|error| format!("{error:#}"))?;
        want(queues, old.clone())
    })
    .await
}

/// Pings all; the job.
async fn ask_ping(fleet: &Fleet) -> Result<String> {
    let pinged = fleet
        .muster
        .succeed(&["ping", "-o", "json"])
        .await?
        .json()?;
    let job = pinged["rounds"][0]["job"].as_str();
    Ok(job.context("a job")?.to_owned())
}

/// Waits until each of these agents' queues has so many jobs that are not acknowledged, given out or not.
async fn await_jobs(
    broker: &Broker,
    agents: impl IntoIterator<Item = &Agent>,
    count: u64,
) -> Result<()> {
    for agent in agents {
        let path = format!("queues/{}/muster.agent.{}", broker.vhost(), agent.host);
        let what = format!("{count} jobs are in the queue of {}", agent.host);
        eventually(&what, async || {
            let queue = broker.management().get(&path).await;
            let queue = queue.map_err(|error| format!("{error:#}"))?;
            want(queue["messages"].as_u64(), Some(count))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn answers_to_a_controller_that_was_killed_reach_the_ledger() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = Fleet::start(&broker, &options(3)).await?;
    // As it is, only sooner.
    let definition =
        serde_json::json!({ "message-ttl": 1000, "dead-letter-exchange": "muster.dead" });
    broker
        .management()
        .put_policy(
            broker.vhost(),
            "soon",
            r"^muster\.ctl\..*\.answers$",
            definition,
        )
        .await?;
    // The acknowledgements of what they answered trail a moment.
    await_jobs(&broker, &fleet.agents, 0).await?;
    for agent in &mut fleet.agents {
        agent.process()?.pause().await?;
    }
    let arguments = ["ping", "--wait", "2m", "-o", "json"];
    let mut controller = fleet.muster.start("killed", &arguments)?;
    await_jobs(&broker, &fleet.agents, 1).await?;
    controller.kill().await?;
    for agent in &mut fleet.agents {
        agent.process()?.resume()?;
    }
    let desk = fleet.second_desk("another")?;
    let jobs = desk.succeed(&["job", "list", "-o", "json"]).await?.json()?;
    let newest = jobs
        .as_array()
        .and_then(|jobs| jobs.first())
        .context("a job")?;
    let job = newest["job"].as_str().context("its id")?;
    let report = await_states(&desk, job, &[("succeeded", 3)]).await?;
    assert_eq!(report["action"], "ping", "{report}");
    Ok(())
}

#[tokio::test]
async fn answers_wait_for_a_ledger_that_is_out_of_reach() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = Fleet::start(&broker, &options(3)).await?;
    await_jobs(&broker, &fleet.agents, 0).await?;
    fleet.agents[2].process()?.pause().await?;
    let arguments = ["ping", "--wait", "2m", "-o", "json"];
    let mut controller = fleet.muster.start("cut", &arguments)?;
    // Two have answered, one has not.
    await_jobs(&broker, fleet.agents.get(2), 1).await?;
    let of_agent = |user: &str| fleet.agents.iter().any(|agent| agent.host == user);
    for connection in broker.management().connections(broker.vhost()).await? {
        if !of_agent(&connection.user) {
            broker
                .management()
                .close_connection(&connection.name)
                .await?;
        }
    }
    controller.await_stderr("connected again").await?;
    fleet.agents[2].process()?.resume()?;
    let status = controller.wait(Duration::from_secs(60)).await?;
    assert_eq!(status.code(), Some(0), "{}", controller.stderr());
    let pinged: Value = serde_json::from_str(&controller.stdout())?;
    let job = pinged["rounds"][0]["job"].as_str().context("a job")?;
    let report = show(&fleet.second_desk("another")?, job).await?;
    assert_states(&report, &[("succeeded", 3)]);
    Ok(())
}
