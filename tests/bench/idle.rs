//! `idle`: what one real agent costs while nothing happens: the binary itself with its default config (all host
//! collectors every 10 s), connected to a real broker.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::fleet::binary;
use muster_harness::{Broker, Muster, NodeOptions, Process, eventually_within};
use serde_json::json;

use crate::fanout::set_up;
use crate::{IdleArguments, keep, note, say};

/// Time for the start's own work to be over.
const SETTLE: Duration = Duration::from_secs(20);

/// Measures and prints; `false` where a bound that the caller named is broken.
pub(crate) async fn run(arguments: &IdleArguments) -> Result<bool> {
    note("starting a private broker");
    let broker = Broker::private(NodeOptions::default()).await?;
    let home = tempfile::tempdir().context("make a directory")?;
    let muster = Muster::at(home.path())?;
    set_up(&broker, &muster, 0).await?;
    let config = home.path().join("agent.toml");
    let enrolled = muster.succeed(&["broker", "enroll", "idle-agent"]).await?;
    // What `enroll` prints is the whole config; only the places of files have to be this test's own.
    let state_dir = home.path().join("state").display().to_string();
    std::fs::write(
        &config,
        format!(
            "state_dir = {state_dir:?}\n{}",
            without(&enrolled.stdout, "state_dir")
        ),
    )?;
    let mut command = Command::new(binary("muster-agent")?);
    command.arg("--config").arg(&config).arg("run");
    let mut agent = Process::spawn("idle-agent", &command, home.path())?;
    eventually_within("muster ping", Duration::from_secs(60), || async {
        let output = muster
            .run(&["ping", "-o", "json"])
            .await
            .map_err(|error| error.to_string())?;
        if output.code == 0 {
            Ok(())
        } else {
            Err(output.stderr)
        }
    })
    .await?;
    tokio::time::sleep(SETTLE).await;

    let seconds = Duration::from_secs(arguments.seconds);
    note(&format!("counting for {} s", arguments.seconds));
    let before = agent.cpu()?;
    tokio::time::sleep(seconds).await;
    let used = agent.cpu()?.saturating_sub(before);
    let memory = agent.memory()?;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (rss_mib, pss_mib) = (
        memory.rss_kib as f64 / 1024.0,
        memory.pss_kib as f64 / 1024.0,
    );
    let percent = used.as_secs_f64() / seconds.as_secs_f64() * 100.0;
    say(&format!("resident memory, MiB        {rss_mib:>8.2}"));
    say(&format!("proportional share, MiB     {pss_mib:>8.2}"));
    say(&format!("CPU, per cent of one core   {percent:>8.3}"));
    let figures = json!({
        "benchmark": "idle", "seconds": arguments.seconds, "rss_mib": rss_mib, "pss_mib": pss_mib, "cpu_percent": percent,
    });
    say(&figures.to_string());
    keep(arguments.json.as_ref(), &figures)?;
    agent.terminate(Duration::from_secs(30)).await?;
    Ok(arguments.rss_mib_max.is_none_or(|max| rss_mib <= max))
}

/// `config` without the line that sets `key`.
fn without(config: &str, key: &str) -> String {
    let sets = |line: &&str| {
        line.split('=')
            .next()
            .is_some_and(|name| name.trim() == key)
    };
    config
        .lines()
        .filter(|line| !sets(line))
        .map(|line| format!("{line}\n"))
        .collect()
}
