//! Two agents with one name: the second is told, the first goes on.

use std::fs;

use anyhow::Result;
use muster_harness::Broker;

use super::*;

#[tokio::test]
async fn a_second_agent_of_the_same_name_is_told_and_the_first_goes_on() -> Result<()> {
    let broker = Broker::shared().await?;
    let fleet = Fleet::start(&broker, &options()).await?;
    let folder = tempfile::tempdir()?;
    let first = &fleet.agents[0];
    let other_state = folder.path().join("state").display().to_string();
    let config = fs::read_to_string(&first.config)?;
    let config = config.replace(&first.state_dir.display().to_string(), &other_state);
    let path = folder.path().join("agent.toml");
    fs::write(&path, config)?;
    let mut command = std::process::Command::new(muster_harness::fleet::binary("muster-agent")?);
    command.arg("--config").arg(&path).arg("run");
    let mut second = Process::spawn("second", &command, folder.path())?;
    second
        .await_stderr("another program with this name is connected")
        .await?;
    for _ in 0..3 {
        let (code, report) = mark(&fleet, &[]).await?;
        assert_eq!(code, 0, "{report}");
    }
    assert_eq!(first.lines("ran").len(), 3);
    assert!(
        !first.log().contains("no link to RabbitMQ"),
        "{}",
        first.log()
    );
    // It waits for its chance, and does not give up.
    assert!(second.exit_status()?.is_none(), "{}", second.stderr());
    drop(fleet);
    Ok(())
}
