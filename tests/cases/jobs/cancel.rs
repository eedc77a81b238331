//! Jobs that are ended before their time: by somebody, or by their run limit.

use anyhow::Result;
use muster_harness::{Broker, Fleet, FleetOptions};
use muster_proto::job::Outcome;
use serde_json::json;

use super::wire::{Signer, Wire};
use super::*;

#[tokio::test]
async fn a_running_job_is_cancelled_with_all_its_processes() -> Result<()> {
    let (_broker, fleet) = fleet(2).await?;
    let job = leave(
        &fleet.muster,
        &["run", "script.run", "name=stubborn", "-t", "*"],
    )
    .await?;
    for agent in &fleet.agents {
        await_lines(agent, "pids", 2).await?;
    }
    let cancelled = ask(&fleet.muster, 0, &["job", "cancel", &job]).await?;
    assert_states(&cancelled, &[("succeeded", 2)]);
    let report = await_states(&fleet.muster, &job, &[("cancelled", 2)]).await?;
    for agent in &fleet.agents {
        assert_eq!(verdict(&report, agent), ("cancelled", "cancel-requested"));
        await_deaths(agent, 2).await?;
    }
    let again = fleet.muster.succeed(&["job", "cancel", &job]).await?;
    assert!(again.stderr.contains("nothing to cancel"), "{again:?}");
    assert_eq!(fleet.muster.run(&["job", "watch", &job]).await?.code, 4);
    Ok(())
}

#[tokio::test]
async fn a_job_that_waits_for_its_turn_is_cancelled_and_never_begun() -> Result<()> {
    let broker = Broker::shared().await?;
    let tables = "[jobs]\nconcurrency = 1\n".to_owned();
    let fleet = Fleet::start(
        &broker,
        &FleetOptions {
            tables,
            ..options(1)
        },
    )
    .await?;
    let agent = &fleet.agents[0];
    let first = leave(
        &fleet.muster,
        &["run", "script.run", "name=hold", "-t", "*"],
    )
    .await?;
    await_lines(agent, "started", 1).await?;
    let second = leave(
        &fleet.muster,
        &["run", "script.run", "name=mark", "-t", "*"],
    )
    .await?;
    let status = ["run", "job.status", &format!("job={second}"), "-t", "*"];
    eventually("the second job waits", async || {
        let report = ask(&fleet.muster, 0, &status)
            .await
            .map_err(|error| error.to_string())?;
        want(
            host(&report, agent)["data"]["state"].clone(),
            json!("queued"),
        )
    })
    .await?;
    ask(&fleet.muster, 0, &["job", "cancel", &second]).await?;
    await_states(&fleet.muster, &second, &[("cancelled", 1)]).await?;
    let_go(agent)?;
    await_states(&fleet.muster, &first, &[("succeeded", 1)]).await?;
    assert_eq!(agent.lines("ran"), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_job_that_comes_after_its_cancellation_is_not_begun() -> Result<()> {
    let (broker, mut fleet) = fleet(1).await?;
    let (wire, signer) = (Wire::open(&broker).await?, Signer::of(&broker, &fleet)?);
    let mut replies = wire.listen("muster.replies").await?;
    let job = signer.request("script.run", &[("name", json!("mark"))]);
    let cancel = signer.request("job.cancel", &[("job", json!(job.id.to_string()))]);
    wire.send(&fleet.agents[0], &signer.frame(&cancel)?).await?;
    let told = replies.result(&fleet.agents[0], cancel.id).await?;
    assert_eq!(
        (told.outcome, &told.data["known"]),
        (Outcome::Succeeded, &json!(false))
    );
    // It is remembered over the agent's death.
    fleet.agents[0].kill().await?;
    fleet.agents[0].start()?;
    wire.send(&fleet.agents[0], &signer.frame(&job)?).await?;
    let result = replies.result(&fleet.agents[0], job.id).await?;
    assert_eq!(
        (result.outcome, result.started_at_ms),
        (Outcome::Cancelled, None)
    );
    assert_eq!(fleet.agents[0].lines("ran"), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_host_that_was_away_hears_of_a_cancellation_too() -> Result<()> {
    let (_broker, mut fleet) = fleet(1).await?;
    fleet.agents[0].stop().await?;
    let job = leave(
        &fleet.muster,
        &["run", "script.run", "name=hold", "-t", "*"],
    )
    .await?;
    let cancel = ask(&fleet.muster, 5, &["job", "cancel", &job]).await?;
    assert_states(&cancel, &[("pending", 1)]);
    fleet.agents[0].start()?;
    await_states(&fleet.muster, &job, &[("cancelled", 1)]).await?;
    await_states(&fleet.muster, &id_of(&cancel)?, &[("succeeded", 1)]).await?;
    assert_eq!(fleet.agents[0].lines("ended"), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn the_run_limit_ends_what_does_not_want_to_end() -> Result<()> {
    let (_broker, fleet) = fleet(1).await?;
    let arguments = [
        "run",
        "script.run",
        "name=stubborn",
        "-t",
        "*",
        "--run-limit",
        "1s",
    ];
    let report = ask(&fleet.muster, 4, &arguments).await?;
    assert_states(&report, &[("execution-expired", 1)]);
    assert_eq!(
        verdict(&report, &fleet.agents[0]),
        ("execution-expired", "run-limit")
    );
    assert_eq!(
        host(&report, &fleet.agents[0])["data"]["signal"],
        9,
        "{report}"
    );
    await_deaths(&fleet.agents[0], 2).await
}
