//! Connections that look as if they were there.

use anyhow::Result;
use muster_harness::{Direction, Flow, Proxy, eventually};

use super::*;

async fn recovers_from(flow: Flow) -> Result<()> {
    let broker = Broker::shared().await?;
    let proxy = Proxy::start(broker.amqp()).await?;
    let url = format!("amqp://{}/{}", proxy.address(), broker.vhost());
    let options = FleetOptions {
        agents_url: Some(url),
        ..options(2)
    };
    let mut fleet = Fleet::start(&broker, &options).await?;
    let pids = [
        fleet.agents[0].process()?.pid(),
        fleet.agents[1].process()?.pid(),
    ];
    let accepted = proxy.counts().accepted;
    proxy.set(Direction::Both, flow);
    // Held by the broker for agents that no longer hear it.
    let job = leave(&fleet.muster, "mark").await?;
    eventually("both have noticed", async || {
        let gone = fleet
            .agents
            .iter()
            .filter(|agent| agent.log().contains("no link to RabbitMQ"))
            .count();
        want(gone, 2)
    })
    .await?;
    proxy.set(Direction::Both, Flow::Pass);
    fleet.await_all().await?;
    await_success(&fleet, &job).await?;
    assert!(proxy.counts().accepted >= accepted + 2);
    for agent in &fleet.agents {
        assert_eq!(agent.lines("ran"), [job.as_str()], "{}", agent.host);
    }
    assert_eq!(
        [
            fleet.agents[0].process()?.pid(),
            fleet.agents[1].process()?.pid()
        ],
        pids
    );
    for (host, events) in history(&broker).await? {
        assert_gapless(&host, &events);
    }
    Ok(())
}

#[tokio::test]
async fn agents_whose_peer_is_silently_gone_come_back_past_their_own_ghosts() -> Result<()> {
    recovers_from(Flow::Swallow).await
}

#[tokio::test]
async fn agents_whose_peer_hangs_come_back() -> Result<()> {
    recovers_from(Flow::Stall).await
}

#[tokio::test]
async fn connections_that_are_cut_again_and_again_lose_nothing() -> Result<()> {
    let broker = Broker::shared().await?;
    let proxy = Proxy::start(broker.amqp()).await?;
    let url = format!("amqp://{}/{}", proxy.address(), broker.vhost());
    let options = FleetOptions {
        agents_url: Some(url),
        ..options(3)
    };
    let fleet = Fleet::start(&broker, &options).await?;
    let mut jobs = Vec::new();
    for _ in 0..10 {
        proxy.cut();
        jobs.push(leave(&fleet.muster, "mark").await?);
    }
    for job in &jobs {
        await_success(&fleet, job).await?;
    }
    for agent in &fleet.agents {
        let mut ran = agent.lines("ran");
        ran.sort();
        assert_eq!(ran, jobs, "{}", agent.host);
    }
    for (host, events) in history(&broker).await? {
        assert_gapless(&host, &events);
    }
    Ok(())
}
