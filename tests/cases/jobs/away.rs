//! Hosts that are away: named at once, not waited for, served when they come back, and never too late.

use anyhow::Result;

use super::*;

#[tokio::test]
async fn a_host_that_is_away_is_named_and_takes_the_job_when_it_is_back() -> Result<()> {
    let (_broker, mut fleet) = fleet(2).await?;
    fleet.agents[1].stop().await?;
    let arguments = ["run", "script.run", "name=mark", "-t", "*"];
    let report = ask(&fleet.muster, 5, &arguments).await?;
    assert_states(&report, &[("succeeded", 1), ("pending", 1)]);
    let away = host(&report, &fleet.agents[1]);
    assert_eq!(
        (&away["away"], &away["state"]),
        (&true.into(), &"pending".into()),
        "{report}"
    );
    let job = id_of(&report)?;
    let online = ask(&fleet.muster, 0, &[&arguments[..], &["--online"]].concat()).await?;
    assert_states(&online, &[("succeeded", 1)]);
    let text = fleet.muster.run(&arguments).await?;
    assert!(
        text.stdout
            .contains("2 hosts targeted: 1 succeeded, 1 pending (1 away)"),
        "{text:?}"
    );
    assert!(text.stdout.contains(&fleet.agents[1].host), "{text:?}");

    fleet.agents[1].start()?;
    await_states(&fleet.muster, &job, &[("succeeded", 2)]).await?;
    // Both that it missed, and not the one that left it out.
    await_lines(&fleet.agents[1], "ran", 2).await?;
    fleet.await_all().await?;
    assert_eq!(fleet.agents[0].lines("ran").len(), 3);
    assert_eq!(fleet.agents[1].lines("ran").len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_job_that_nobody_came_for_in_time_has_expired_and_not_failed() -> Result<()> {
    let (_broker, mut fleet) = fleet(2).await?;
    fleet.agents[1].stop().await?;
    let arguments = [
        "run",
        "script.run",
        "name=mark",
        "-t",
        "*",
        "--deliver-within",
        "1s",
    ];
    let report = ask(&fleet.muster, 5, &arguments).await?;
    let job = id_of(&report)?;
    let report = await_states(
        &fleet.muster,
        &job,
        &[("succeeded", 1), ("delivery-expired", 1)],
    )
    .await?;
    assert_eq!(verdict(&report, &fleet.agents[1]).0, "delivery-expired");
    assert_eq!(fleet.muster.run(&["job", "watch", &job]).await?.code, 5);
    // Somebody who waits is told as soon as the broker lets the job go.
    let waited = ask(
        &fleet.muster,
        5,
        &[&arguments[..], &["--wait-offline"]].concat(),
    )
    .await?;
    assert_eq!(
        host(&waited, &fleet.agents[1])["state"],
        "delivery-expired",
        "{waited}"
    );

    fleet.agents[1].start()?;
    fleet.await_all().await?;
    assert_eq!(fleet.agents[1].lines("ran"), Vec::<String>::new());
    await_states(
        &fleet.muster,
        &job,
        &[("succeeded", 1), ("delivery-expired", 1)],
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_host_that_waits_offline_is_waited_for() -> Result<()> {
    let (_broker, mut fleet) = fleet(2).await?;
    fleet.agents[1].stop().await?;
    let arguments = [
        "run",
        "script.run",
        "name=mark",
        "-t",
        "*",
        "--wait-offline",
        "--deliver-within",
        "10m",
        "-o",
        "json",
    ];
    let mut run = fleet.muster.start("run", &arguments)?;
    await_lines(&fleet.agents[0], "ran", 1).await?;
    fleet.agents[1].start()?;
    let status = run.wait(std::time::Duration::from_secs(60)).await?;
    assert_eq!(status.code(), Some(0), "{}", run.stderr());
    let report: Value = serde_json::from_str(&run.stdout())?;
    assert_sum(&report);
    assert_states(&report, &[("succeeded", 2)]);
    assert_eq!(host(&report, &fleet.agents[1])["away"], true, "{report}");
    Ok(())
}
