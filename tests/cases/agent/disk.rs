//! A full disk: what can't be recorded is not run, the agent stays, and all goes on when there is space again.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use muster_harness::{Broker, Process};

use super::*;

/// Jobs until the room inside of the state file is used up; each takes up to 60 KB of it.
const JOBS_MAX: usize = 200;

/// Starts the agent in a mount namespace of its own, where its state directory is a disk of 4 MiB.
fn start_on_a_small_disk(fleet: &mut Fleet) -> Result<()> {
    let agent = &mut fleet.agents[0];
    let own = agent.command(&["run"])?;
    // A user who is not root may do this in a user namespace of its own.
    let how = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let script = "mount -t tmpfs -o size=4m tmpfs \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args([how, "sh", "-c", script])
        .arg(&agent.state_dir);
    command.arg(own.get_program()).args(own.get_args());
    let process = Process::spawn("agent", &command, fleet.directory())?;
    fleet.agents[0].adopt(process);
    Ok(())
}

/// The disk as it is seen from outside.
fn disk(fleet: &mut Fleet) -> Result<PathBuf> {
    let agent = &mut fleet.agents[0];
    let pid = agent.process()?.pid();
    let inside = agent.state_dir.strip_prefix("/")?;
    Ok(PathBuf::from(format!("/proc/{pid}/root")).join(inside))
}

/// Takes all the space that is left, to the last page.
fn fill(balloon: &std::path::Path) -> Result<()> {
    let mut file = File::create(balloon)?;
    while file.write_all(&[1; 4096]).is_ok() {}
    Ok(())
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_all_goes_on_when_there_is_space() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = Fleet::enroll(&broker, &options()).await?;
    start_on_a_small_disk(&mut fleet)?;
    fleet.await_all().await?;
    assert_eq!(mark(&fleet, &[]).await?.0, 0);
    let pid = fleet.agents[0].process()?.pid();
    let balloon = disk(&mut fleet)?.join("balloon");

    fill(&balloon)?;
    let padding: Vec<String> = (0..14)
        .map(|_| format!("args={}", "x".repeat(4000)))
        .collect();
    let padding: Vec<&str> = padding.iter().map(String::as_str).collect();
    let mut tries = 0;
    let refused = loop {
        let (code, report) = mark(&fleet, &padding).await?;
        if code == 6 {
            break report;
        }
        tries += 1;
        // Where the record fits, the script's copy may not.
        assert!(code == 0 || code == 4, "{report}");
        if tries > JOBS_MAX {
            bail!("{tries} jobs fit on a full disk: {report}");
        }
        fill(&balloon)?;
    };
    assert_eq!(refused["hosts"][0]["state"], "rejected", "{refused}");
    assert_eq!(
        refused["hosts"][0]["reason"]["code"], "not-recorded",
        "{refused}"
    );
    let ran = fleet.agents[0].lines("ran");
    let job = refused["job"].as_str().unwrap_or_default();
    assert!(!ran.iter().any(|id| id == job), "{refused}");
    // What only looks is answered all the same.
    fleet.muster.succeed(&["ping"]).await?;

    fs::remove_file(&balloon)?;
    eventually("a change is carried out again", async || {
        match mark(&fleet, &[]).await {
            Ok((0, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert!(!fleet.agents[0].lines("ran").iter().any(|id| id == job));
    assert_eq!(fleet.agents[0].process()?.pid(), pid);
    assert!(fleet.agents[0].process()?.exit_status()?.is_none());
    Ok(())
}
