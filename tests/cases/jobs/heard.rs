//! Small answers go straight to the controller that waits, which tells the ledger: one message for all, and nothing lost
//! where the controller goes in between.

use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use muster_harness::broker::connect;
use muster_harness::management::Permissions;
use muster_harness::{Broker, Fleet, Process};
use muster_proto::envelope::{self, Kind};
use muster_proto::job::{JobResult, Outcome};
use tokio::time::Instant;

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

/// Has answers that nobody takes go to the dead letters as they do, only sooner.
async fn die_soon(broker: &Broker) -> Result<()> {
    let definition =
        serde_json::json!({ "message-ttl": 1000, "dead-letter-exchange": "muster.dead" });
    let pattern = r"^muster\.ctl\..*\.answers$";
    let management = broker.management();
    management
        .put_policy(broker.vhost(), "soon", pattern, definition)
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
    die_soon(&broker).await?;
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
    let job = newest(&desk).await?;
    let report = await_states(&desk, &job, &[("succeeded", 3)]).await?;
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

/// Another program that has logged in as a host.
struct Host {
    channel: Channel,
    name: String,
    _connection: Connection,
}

impl Host {
    async fn log_in(broker: &Broker, agent: &Agent) -> Result<Self> {
        let config: toml::Table = fs::read_to_string(&agent.config)?.parse()?;
        let password = config["broker"]["password"]
            .as_str()
            .context("a password")?;
        let connection = connect(&broker.uri(&agent.host, password)).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            channel,
            name: agent.host.clone(),
            _connection: connection,
        })
    }

    /// Answers a job that reads with so many bytes, in the way of agents.
    async fn answer(&self, job: &str, bytes: usize) -> Result<()> {
        let result = JobResult {
            job: job.parse()?,
            host: self.name.parse()?,
            outcome: Outcome::Succeeded,
            reason: None,
            data: "x".repeat(bytes).into(),
            received_at_ms: 1,
            started_at_ms: None,
            finished_at_ms: 2,
            dry_run: false,
        };
        let properties = BasicProperties::default()
            .with_type(Kind::Result.wire_name().into())
            .with_user_id(self.name.as_str().into())
            .with_correlation_id(job.into());
        let body = envelope::encode(&result)?;
        let sent = self.channel.basic_publish(
            "muster.answers".into(),
            format!("result.{job}").into(),
            BasicPublishOptions::default(),
            &body,
            properties,
        );
        let taken = sent.await?.await?;
        anyhow::ensure!(matches!(taken, Confirmation::Ack(None)), "{taken:?}");
        Ok(())
    }
}

/// The job that was sent last.
async fn newest(desk: &Muster) -> Result<String> {
    let jobs = desk.succeed(&["job", "list", "-o", "json"]).await?.json()?;
    let newest = jobs.as_array().and_then(|jobs| jobs.first());
    let id = newest.context("a job")?["job"].as_str();
    Ok(id.context("its id")?.to_owned())
}

/// A ping that the fleet's first host has not answered yet: it is paused.
async fn unanswered(broker: &Broker, fleet: &mut Fleet, arguments: &[&str]) -> Result<Process> {
    await_jobs(broker, &fleet.agents, 0).await?;
    fleet.agents[0].process()?.pause().await?;
    // One whose connection outlives a long stop.
    let desk = fleet.second_desk("patient")?;
    let config = desk.home().join(".config/muster/config.toml");
    let text = fs::read_to_string(&config)?;
    anyhow::ensure!(text.contains("[broker]\n"), "{text}");
    let slow = text.replace("[broker]\n", "[broker]\nheartbeat = \"2m\"\n");
    fs::write(&config, slow)?;
    let arguments = [&["ping", "-o", "json"], arguments].concat();
    let controller = desk.start("stopped", &arguments)?;
    await_jobs(broker, &fleet.agents[..1], 1).await?;
    Ok(controller)
}

#[tokio::test]
async fn what_comes_behind_the_last_answer_reaches_the_ledger() -> Result<()> {
    let (broker, mut fleet) = fleet(2).await?;
    let target = fleet.agents[0].host.clone();
    let arguments = ["--wait", "2m", "-t", &target];
    let mut controller = unanswered(&broker, &mut fleet, &arguments).await?;
    let desk = fleet.second_desk("another")?;
    let job = newest(&desk).await?;
    let other = Host::log_in(&broker, &fleet.agents[1]).await?;
    controller.pause().await?;
    fleet.agents[0].process()?.resume()?;
    await_jobs(&broker, &fleet.agents, 0).await?;
    // One that nobody asked says what it has to say while the controller has all that it waits for.
    other.answer(&job, 10).await?;
    controller.resume()?;
    let status = controller.wait(Duration::from_secs(60)).await?;
    assert_eq!(status.code(), Some(0), "{}", controller.stderr());
    let surprise = Some(other.name.clone());
    eventually("the ledger has the surprise", async || {
        let report = show(&desk, &job)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let found = report["surprises"][0]["host"].as_str().map(str::to_owned);
        want(found, surprise.clone())
    })
    .await?;
    assert_states(&show(&desk, &job).await?, &[("succeeded", 1)]);
    Ok(())
}

#[tokio::test]
async fn answers_that_came_while_the_controller_stood_still_count() -> Result<()> {
    let (broker, mut fleet) = fleet(3).await?;
    let mut patience = Duration::from_secs(12);
    let mut controller = loop {
        let wait = format!("{}s", patience.as_secs());
        let began = Instant::now();
        let asked = unanswered(&broker, &mut fleet, &["--wait", &wait]).await;
        if let Ok(controller) = asked
            && controller.pause().await.is_ok()
            && began.elapsed() < patience
        {
            break controller;
        }
        // Too slow a machine: it may have given up before it was stopped.
        fleet.agents[0].process()?.resume()?;
        patience *= 2;
        anyhow::ensure!(patience < Duration::from_secs(60), "never stopped in time");
    };
    fleet.agents[0].process()?.resume()?;
    await_jobs(&broker, &fleet.agents, 0).await?;
    tokio::time::sleep(patience).await;
    controller.resume()?;
    let status = controller.wait(Duration::from_secs(60)).await?;
    assert_eq!(status.code(), Some(0), "{}", controller.stdout());
    Ok(())
}

#[tokio::test]
async fn many_answers_that_nobody_heard_are_taken_over_in_parts() -> Result<()> {
    const ANSWERS: u32 = 60;
    let broker = Broker::shared().await?;
    let mut fleet = Fleet::start(&broker, &options(2)).await?;
    await_jobs(&broker, &fleet.agents, 0).await?;
    die_soon(&broker).await?;
    fleet.agents[0].process()?.pause().await?;
    let target = fleet.agents[0].host.clone();
    let arguments = ["ping", "--wait", "2m", "-t", &target];
    let mut controller = fleet.muster.start("killed", &arguments)?;
    await_jobs(&broker, &fleet.agents[..1], 1).await?;
    controller.kill().await?;
    let desk = fleet.second_desk("another")?;
    let job = newest(&desk).await?;
    let other = Host::log_in(&broker, &fleet.agents[1]).await?;
    // Together more than one message to the ledger may have.
    for _ in 0..ANSWERS {
        other.answer(&job, 100_000).await?;
    }
    eventually("all have become dead letters", async || {
        let depth = broker.depth("muster.dead").await;
        want(depth.map_err(|error| format!("{error:#}"))?, ANSWERS)
    })
    .await?;
    let report = show(&desk, &job).await?;
    assert_eq!(report["surprises"][0]["host"], other.name, "{report}");
    assert_eq!(broker.depth("muster.dead").await?, 0);
    Ok(())
}

#[tokio::test]
async fn agents_that_were_enrolled_before_get_the_rights_that_they_need() -> Result<()> {
    let (broker, fleet) = fleet(1).await?;
    let host = fleet.agents[0].host.clone();
    let path = format!("permissions/{}/{host}", broker.vhost());
    let now = broker.management().get(&path).await?;
    let text = |key: &str| now[key].as_str().context("a right").map(str::to_owned);
    // As the version without that exchange gave them.
    let before = text("write")?.replace("|answers", "");
    assert_ne!(before, text("write")?);
    let (configure, read) = (text("configure")?, text("read")?);
    let rights = Permissions {
        configure: &configure,
        write: &before,
        read: &read,
    };
    broker
        .management()
        .put_permissions(&host, broker.vhost(), rights)
        .await?;
    let admin = fleet.muster.home().join(".config/muster/admin.toml");
    let admin = admin.display().to_string();
    let init = ["--config", &admin, "broker", "init"];
    let said = fleet.muster.succeed(&init).await?;
    assert!(
        said.stdout.contains(&host) || said.stderr.contains(&host),
        "{said:?}"
    );
    assert_eq!(broker.management().get(&path).await?, now);
    assert_eq!(fleet.muster.run(&["ping"]).await?.code, 0);
    Ok(())
}
