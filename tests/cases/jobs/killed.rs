//! Agents and controllers that die in the middle of a job, and operators who lose their patience.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::*;

#[tokio::test]
async fn a_job_whose_agent_is_killed_is_interrupted_and_never_run_again() -> Result<()> {
    let (_broker, mut fleet) = fleet(2).await?;
    let job = leave(
        &fleet.muster,
        &["run", "script.run", "name=hold", "-t", "*"],
    )
    .await?;
    for agent in &fleet.agents {
        await_lines(agent, "started", 1).await?;
    }
    let_go(&fleet.agents[1])?;
    fleet.agents[0].kill().await?;
    fleet.agents[0].start()?;
    let report = await_states(&fleet.muster, &job, &[("succeeded", 1), ("interrupted", 1)]).await?;
    assert_eq!(
        verdict(&report, &fleet.agents[0]),
        ("interrupted", "agent-died")
    );
    // The script itself has survived, and ends when it is let go.
    let_go(&fleet.agents[0])?;
    await_lines(&fleet.agents[0], "ended", 1).await?;
    fleet.agents[0].stop().await?;
    fleet.agents[0].start()?;
    fleet.await_all().await?;
    assert_eq!(fleet.agents[0].lines("started"), [job.as_str()]);
    assert_eq!(show(&fleet.muster, &job).await?, report);
    assert_eq!(fleet.muster.run(&["job", "watch", &job]).await?.code, 4);
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_stopped_ends_its_jobs_and_says_so() -> Result<()> {
    let (_broker, mut fleet) = fleet(1).await?;
    let job = leave(
        &fleet.muster,
        &["run", "script.run", "name=stubborn", "-t", "*"],
    )
    .await?;
    await_lines(&fleet.agents[0], "pids", 2).await?;
    fleet.agents[0].stop().await?;
    let report = await_states(&fleet.muster, &job, &[("interrupted", 1)]).await?;
    assert_eq!(
        verdict(&report, &fleet.agents[0]),
        ("interrupted", "agent-stopped")
    );
    await_deaths(&fleet.agents[0], 2).await
}

#[tokio::test]
async fn ctrl_c_leaves_the_job_running_and_says_how_to_look_again() -> Result<()> {
    let (_broker, fleet) = fleet(2).await?;
    let arguments = ["run", "script.run", "name=hold", "-t", "*", "-o", "json"];
    let mut run = fleet.muster.start("run", &arguments)?;
    for agent in &fleet.agents {
        await_lines(agent, "started", 1).await?;
    }
    let pid = i32::try_from(run.pid())
        .ok()
        .and_then(Pid::from_raw)
        .context("a pid")?;
    kill_process(pid, Signal::INT)?;
    let status = run.wait(Duration::from_secs(60)).await?;
    assert_eq!(status.code(), Some(5), "{}", run.stderr());
    let report: Value = serde_json::from_str(&run.stdout())?;
    let job = id_of(&report)?;
    assert!(
        run.stderr().contains(&format!("muster job show {job}")),
        "{}",
        run.stderr()
    );
    assert_sum(&report);

    for agent in &fleet.agents {
        let_go(agent)?;
    }
    let report = await_states(&fleet.muster, &job, &[("succeeded", 2)]).await?;
    let other = fleet.second_desk("elsewhere")?;
    assert_eq!(show(&other, &job).await?, report);
    let list = ["job", "list", "-o", "json", "-n", "1000"];
    let here = fleet.muster.succeed(&list).await?.json()?;
    assert_eq!(other.succeed(&list).await?.json()?, here);
    let rows = here.as_array().context("a list of jobs")?;
    for row in rows {
        let id = id_of(row)?;
        assert_eq!(show(&other, &id).await?, show(&fleet.muster, &id).await?);
    }
    for agent in &fleet.agents {
        assert_eq!(
            (agent.lines("started").len(), agent.lines("ended").len()),
            (1, 1)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_controller_that_is_killed_takes_no_job_with_it() -> Result<()> {
    let (_broker, mut fleet) = fleet(3).await?;
    let run = ["run", "script.run", "name=hold", "-t", "*", "--wait", "5s"];
    fleet.agents[2].process()?.pause().await?;
    let mut controller = fleet.muster.start("run", &run)?;
    for agent in &fleet.agents[..2] {
        await_lines(agent, "started", 1).await?;
    }
    controller.kill().await?;
    let other = fleet.second_desk("elsewhere")?;
    let job = id_of(
        &other
            .succeed(&["job", "show", "last", "-o", "json"])
            .await?
            .json()?,
    )?;
    let_go(&fleet.agents[0])?;
    // Nobody is left to say that the wait is over: then time says it.
    let over = await_states(&other, &job, &[("succeeded", 1), ("unknown", 2)]).await?;
    assert_eq!(host(&over, &fleet.agents[0])["state"], "succeeded");
    let_go(&fleet.agents[1])?;
    let_go(&fleet.agents[2])?;
    fleet.agents[2].process()?.resume()?;
    let report = await_states(&other, &job, &[("succeeded", 3)]).await?;
    assert_eq!(host(&report, &fleet.agents[2])["late"], true, "{report}");
    assert_eq!(show(&fleet.muster, &job).await?, report);
    for agent in &fleet.agents {
        assert_eq!(agent.lines("ended"), [job.as_str()], "{}", agent.host);
    }
    Ok(())
}
