//! The broker goes in the middle of a fan-out.

use anyhow::Result;
use muster_harness::NodeOptions;

use super::*;

#[tokio::test]
async fn a_broker_that_is_killed_in_the_middle_of_a_fan_out_makes_nobody_run_twice() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let fleet = Fleet::start(&broker, &options(12)).await?;
    let mut jobs = Vec::new();
    for round in 0..3 {
        let run = [
            "run",
            "script.run",
            "name=mark",
            "-t",
            "*",
            "-o",
            "json",
            "--ack-wait",
            "2m",
        ];
        let mut controller = fleet.muster.start(&format!("run-{round}"), &run)?;
        eventually_within("the first host has run it", BACK_LIMIT, async || {
            let ran: usize = fleet
                .agents
                .iter()
                .map(|agent| agent.lines("ran").len())
                .sum();
            if ran > round * fleet.agents.len() {
                Ok(())
            } else {
                Err(format!("{ran} runs"))
            }
        })
        .await?;
        broker.kill().await?;
        broker.start().await?;
        let status = controller.wait(BACK_LIMIT).await?;
        let report: Value = serde_json::from_str(&controller.stdout())?;
        let told = silent(&fleet, &report);
        assert_eq!(
            (status.code(), told.as_str()),
            (Some(0), ""),
            "{}",
            controller.stderr()
        );
        assert_eq!(
            report["states"],
            serde_json::json!({ "succeeded": 12 }),
            "{report}"
        );
        jobs.push(report["job"].as_str().context("a job")?.to_owned());
        fleet.await_all().await?;
    }
    for job in &jobs {
        await_success(&fleet, job).await?;
    }
    for agent in &fleet.agents {
        assert_eq!(agent.lines("ran"), jobs, "{}", agent.host);
    }
    for (host, events) in history(&broker).await? {
        assert_gapless(&host, &events);
    }
    Ok(())
}

/// Nobody confirms a ping to all, and a broker that goes forgets it: the host that had not answered is asked again.
#[tokio::test]
async fn a_ping_that_dies_with_the_broker_is_sent_again_to_who_has_not_answered() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let mut fleet = Fleet::start(&broker, &options(3)).await?;
    fleet.agents[0].process()?.pause().await?;
    let ping = ["ping", "--wait", "2m", "-o", "json"];
    let mut controller = fleet.muster.start("ping", &ping)?;
    eventually_within("the others have answered", BACK_LIMIT, async || {
        let listed = fleet.muster.run(&["job", "list", "-o", "json"]).await;
        let listed = listed
            .and_then(|output| output.json())
            .map_err(|error| format!("{error:#}"))?
            .to_string();
        listed
            .contains(r#""succeeded":2"#)
            .then_some(())
            .ok_or(listed)
    })
    .await?;
    // Moments after its set-up.
    broker.kill().await?;
    fleet.agents[0].process()?.resume()?;
    broker.start().await?;
    let status = controller.wait(BACK_LIMIT).await?;
    let pinged: Value = serde_json::from_str(&controller.stdout())?;
    assert_eq!(status.code(), Some(0), "{}", controller.stderr());
    assert_eq!(
        pinged["rounds"][0]["states"],
        serde_json::json!({ "succeeded": 3 }),
        "{pinged}"
    );
    assert!(controller.stderr().contains("connected again"));
    Ok(())
}

/// Hosts that have not succeeded: what they ran, and what they say of themselves.
fn silent(fleet: &Fleet, report: &Value) -> String {
    let hosts = report["hosts"].as_array().into_iter().flatten();
    let bad = hosts.filter(|host| host["state"] != "succeeded");
    bad.filter_map(|host| {
        let agent = fleet
            .agents
            .iter()
            .find(|agent| host["host"] == agent.host.as_str())?;
        Some(format!("{host}\n{:?}\n{}", agent.lines("ran"), agent.log()))
    })
    .collect()
}
