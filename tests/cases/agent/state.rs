//! A state file that is torn, empty or something else: the agent starts, says so, and runs nothing of before.

use std::fs;

use anyhow::{Context, Result};
use muster_harness::{Agent, Broker};

use super::*;

fn set_aside(agent: &Agent) -> Result<usize> {
    let names = fs::read_dir(&agent.state_dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    let aside = names
        .iter()
        .filter(|name| name.starts_with("state.redb.damaged-"));
    Ok(aside.count())
}

#[tokio::test]
async fn a_damaged_state_file_is_set_aside_and_told_and_the_agent_goes_on() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = Fleet::start(&broker, &options()).await?;
    let damages: [(&str, fn(Vec<u8>) -> Vec<u8>); 4] = [
        ("torn in the middle", |bytes| {
            bytes[..bytes.len() / 2].to_vec()
        }),
        ("empty", |_| Vec::new()),
        ("something else", |bytes| {
            bytes.iter().map(|_| b'x').collect()
        }),
        ("a byte of each page changed", |bytes| {
            bytes
                .iter()
                .enumerate()
                .map(|(at, byte)| if at % 4096 == 700 { !byte } else { *byte })
                .collect()
        }),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        let (code, report) = mark(&fleet, &[]).await?;
        assert_eq!(code, 0, "{what}: {report}");
        fleet.agents[0].stop().await?;
        let file = fleet.agents[0].state_dir.join("state.redb");
        fs::write(&file, damage(fs::read(&file)?))?;
        fleet.agents[0].start()?;
        let events = await_events(&fleet, "agent.state.damaged", number + 1).await?;
        let last = events.last().context("an event")?;
        assert_eq!(last["severity"], "error", "{what}: {last}");
        assert!(
            last["summary"]
                .as_str()
                .unwrap_or_default()
                .contains("set aside as"),
            "{what}: {last}"
        );
        // The three newest are kept for people to look at.
        assert_eq!(set_aside(&fleet.agents[0])?, (number + 1).min(3), "{what}");
        fleet.await_all().await?;
        let (code, report) = mark(&fleet, &[]).await?;
        assert_eq!(code, 0, "{what}: {report}");
    }
    assert_eq!(fleet.agents[0].lines("ran").len(), 8);
    Ok(())
}

#[tokio::test]
async fn a_state_file_of_somebody_else_is_not_touched() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = Fleet::start(&broker, &options()).await?;
    let second = fleet.agents[0].command(&["run"])?;
    let logs = tempfile::tempdir()?;
    let (code, _, stderr) = run(&second, logs.path()).await?;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("another muster-agent uses"), "{stderr}");
    assert!(fleet.agents[0].process()?.exit_status()?.is_none());
    assert_eq!(mark(&fleet, &[]).await?.0, 0);
    Ok(())
}
