//! The agent on its own host: what it does with a bad config, a bad state file, a full disk or a namesake, and what it
//! tells whoever asks it there.

mod alone;
mod disk;
mod namesake;
mod state;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::{Fleet, FleetOptions, Process, eventually};
use serde_json::Value;

/// One agent with one script, that leaves its job's id in `ran`.
fn options() -> FleetOptions {
    FleetOptions {
        agents: 1,
        broker_keys: "reconnect_window = \"2s\"".to_owned(),
        scripts: vec![("mark", r#"echo "$MUSTER_JOB_ID" >> ran"#.to_owned())],
        ..FleetOptions::default()
    }
}

/// Runs a script on the one agent; exit code and report.
async fn mark(fleet: &Fleet, arguments: &[&str]) -> Result<(i32, Value)> {
    let run = ["run", "script.run", "name=mark", "-t", "*", "-o", "json"];
    let output = fleet.muster.run(&[&run, arguments].concat()).await?;
    Ok((output.code, output.json()?))
}

/// Runs a command to its end: code, stdout, stderr.
async fn run(command: &Command, logs: &Path) -> Result<(i32, String, String)> {
    let mut process = Process::spawn("command", command, logs)?;
    let status = process.wait(Duration::from_secs(60)).await?;
    let code = status.code().context("a command that a signal ended")?;
    Ok((code, process.stdout(), process.stderr()))
}

/// Waits until the history has so many events of a topic; gives them.
async fn await_events(fleet: &Fleet, topic: &str, count: usize) -> Result<Vec<Value>> {
    let what = format!("{count} events {topic}");
    let arguments = [
        "watch",
        topic,
        "--since",
        "1h",
        "--no-follow",
        "-o",
        "ndjson",
    ];
    eventually(&what, async || {
        let output = fleet
            .muster
            .run(&arguments)
            .await
            .map_err(|error| error.to_string())?;
        let events = output.json_lines().map_err(|error| error.to_string())?;
        if events.len() == count {
            Ok(events)
        } else {
            Err(format!("{output:?}"))
        }
    })
    .await
}
