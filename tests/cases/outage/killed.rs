//! kill -9 of the broker in the middle of a fan-out.

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
