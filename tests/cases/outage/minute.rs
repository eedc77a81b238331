//! A minute without a broker, which ends in an orderly way and comes back with its data.

use std::fs;

use anyhow::Result;
use muster_harness::{NodeOptions, eventually};

use super::*;

const OUTAGE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_minute_without_a_broker_loses_nothing() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let sys = tempfile::tempdir()?;
    let interface = sys.path().join("class/net/lo");
    fs::create_dir_all(&interface)?;
    let operstate = |state: &str| fs::write(interface.join("operstate"), state);
    operstate("up\n")?;
    let tables = format!(
        "[roots]\nsys = {:?}\n[collect.host]\ninterval = \"500ms\"\ndeadline = \"450ms\"\n",
        sys.path().display().to_string()
    );
    let mut fleet = Fleet::start(
        &broker,
        &FleetOptions {
            tables,
            ..options(4)
        },
    )
    .await?;
    // Each has a snapshot to compare the next with.
    let before = ["collect", "host", "-t", "*", "-o", "json"];
    eventually("every host collects", async || {
        let output = fleet
            .muster
            .run(&before)
            .await
            .map_err(|error| error.to_string())?;
        want(output.code, 0)
    })
    .await?;
    let pids = pids(&mut fleet)?;
    let job = leave(&fleet.muster, "hold").await?;
    for agent in &fleet.agents {
        await_lines(agent, "started", 1).await?;
    }

    broker.stop().await?;
    let began = tokio::time::Instant::now();
    assert_eq!(fleet.muster.run(&["ping"]).await?.code, 69);
    for agent in &fleet.agents {
        fs::write(agent.files.join("go"), "")?;
        await_lines(agent, "ran", 1).await?;
    }
    operstate("down\n")?;
    // One is killed meanwhile: what it has accepted it still has.
    let last = fleet.agents.len() - 1;
    tokio::time::sleep_until(began + OUTAGE / 2).await;
    fleet.agents[last].kill().await?;
    fleet.agents[last].start()?;
    tokio::time::sleep_until(began + OUTAGE).await;
    broker.start().await?;

    fleet.await_all().await?;
    await_success(&fleet, &job).await?;
    for (number, agent) in fleet.agents.iter().enumerate() {
        assert_eq!(agent.lines("ran"), [job.as_str()], "{}", agent.host);
        assert_eq!(agent.lines("started").len(), 1, "{number}");
    }
    assert_eq!(pids[..last], self::pids(&mut fleet)?[..last]);
    assert_events(&broker, &fleet).await
}

fn pids(fleet: &mut Fleet) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for agent in &mut fleet.agents {
        let process = agent.process()?;
        assert!(process.exit_status()?.is_none(), "{}", process.stderr());
        pids.push(process.pid());
    }
    Ok(pids)
}

/// What happened in that minute is in the history, once, and `watch` shows it.
async fn assert_events(broker: &Broker, fleet: &Fleet) -> Result<()> {
    let last = fleet.agents.len() - 1;
    let told = eventually("each host has told that it is back", async || {
        let events = history(broker)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let back = |agent: &Agent| {
            events.get(&agent.host).is_some_and(|events| {
                events
                    .values()
                    .any(|event| event.topic == "agent.link.back")
            })
        };
        let missing: Vec<&str> = fleet.agents[..last]
            .iter()
            .filter(|agent| !back(agent))
            .map(|agent| agent.host.as_str())
            .collect();
        want(missing, vec![]).map(|()| events)
    })
    .await?;
    let watch = ["watch", "--since", "10m", "--no-follow", "-o", "ndjson"];
    let lines = fleet.muster.succeed(&watch).await?.json_lines()?;
    for (number, agent) in fleet.agents.iter().enumerate() {
        let events = &told[&agent.host];
        assert_gapless(&agent.host, events);
        let count = |topic: &str| events.values().filter(|event| event.topic == topic).count();
        let shown = |topic: &str| {
            lines
                .iter()
                .filter(|line| line["from"] == agent.host.as_str() && line["topic"] == topic)
                .count()
        };
        for topic in ["host.interface.down", "agent.link.lost"] {
            assert_eq!(
                (count(topic), shown(topic)),
                (1, 1),
                "{topic} of {}: {events:?}",
                agent.host
            );
        }
        // Who was killed in between does not know that there was a link before.
        let (starts, back) = if number == last { (2, 0) } else { (1, 1) };
        assert_eq!(
            (count("host.started"), count("agent.link.back")),
            (starts, back),
            "{}: {events:?}",
            agent.host
        );
        for event in events.values() {
            let same = |line: &&Value| {
                line["from"] == agent.host.as_str()
                    && line["topic"] == event.topic.as_str()
                    && line["at_ms"] == event.at_ms
            };
            assert_eq!(lines.iter().filter(same).count(), 1, "{event:?}");
        }
    }
    Ok(())
}
