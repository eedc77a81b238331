//! A job that was sent once is carried out once, however often its frame comes again.

use anyhow::Result;

use super::wire::{Seen, Signer, Wire};
use super::*;

const REPLAYS: usize = 100;

/// Sends the frame that each host got again, so many times.
async fn send_again(wire: &Wire, fleet: &Fleet, frames: &[Seen], times: usize) -> Result<()> {
    for _ in 0..times {
        for (agent, frame) in fleet.agents.iter().zip(frames) {
            // The broker lets nobody name another user; everything else is as it was.
            let properties = frame.properties.clone().with_user_id("admin".into());
            wire.send_as_it_was(agent, properties, &frame.body).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_frame_that_comes_a_hundred_times_more_runs_nothing() -> Result<()> {
    let (broker, mut fleet) = fleet(3).await?;
    let wire = Wire::open(&broker).await?;
    let mut jobs = wire.listen("muster.jobs").await?;
    let mut replies = wire.listen("muster.replies").await?;
    let report = ask(
        &fleet.muster,
        0,
        &["run", "script.run", "name=mark", "-t", "*"],
    )
    .await?;
    assert_states(&report, &[("succeeded", 3)]);
    let job = id_of(&report)?;
    let before = show(&fleet.muster, &job).await?;
    let mut frames = Vec::new();
    for agent in &fleet.agents {
        let key = format!("host.{}", agent.host);
        let wanted = |frame: &Seen| frame.routing_key == key && frame.job() == job;
        frames.push(jobs.find(&key, wanted).await?);
    }

    send_again(&wire, &fleet, &frames, REPLAYS).await?;
    fleet.await_all().await?;
    for agent in &mut fleet.agents {
        agent.stop().await?;
    }
    // These wait in the queues while nobody is there.
    send_again(&wire, &fleet, &frames, 10).await?;
    for agent in &mut fleet.agents {
        agent.start()?;
    }
    fleet.await_all().await?;
    send_again(&wire, &fleet, &frames, 10).await?;
    for agent in &mut fleet.agents {
        agent.kill().await?;
        agent.start()?;
    }
    fleet.await_all().await?;
    send_again(&wire, &fleet, &frames, 10).await?;

    // Answered after everything that was sent before.
    let signer = Signer::of(&broker, &fleet)?;
    for agent in &fleet.agents {
        let end = signer.request("ping", &[]);
        wire.send(agent, &signer.frame(&end)?).await?;
        replies.result(agent, end.id).await?;
        assert_eq!(agent.lines("ran"), [job.as_str()], "{}", agent.host);
        let queue = format!("muster.agent.{}", agent.host);
        assert_eq!(broker.depth(&queue).await?, 0, "{queue}");
    }
    assert_eq!(replies.results(&job).len(), 3);
    assert_eq!(show(&fleet.muster, &job).await?, before);
    Ok(())
}
