//! `muster stats`: what the figures of all hosts come to, by hosts and by labels of their own, once and while it is
//! watched; the same from `muster serve`, with the figures of a while ago.

use anyhow::{Context, Result};
use muster_harness::{Broker, Fleet, FleetOptions, NodeOptions, eventually_within};
use serde_json::Value;

use super::{LIMIT, Serve};

/// The kernel's word for the memory of this machine, which every agent here sees.
fn memory_bytes() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
    Ok(f64::from(kib.context("MemTotal")?) * 1024.0)
}

/// The figure of a group.
fn figure<'a>(group: &'a Value, name: &str) -> Option<&'a Value> {
    let figures = group["figures"].as_array()?;
    figures.iter().find(|figure| figure["name"] == name)
}

#[tokio::test]
async fn figures_add_up_over_hosts_and_labels_once_and_while_watched() -> Result<()> {
    let broker = Broker::private(NodeOptions::default()).await?;
    let options = FleetOptions {
        agents: 3,
        keys: "presence_interval = \"2s\"\n".to_owned(),
        tables: "[collect.host]\ninterval = \"1s\"\ndeadline = \"900ms\"\n".to_owned(),
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(&broker, &options).await?;
    let serve = Serve::start(&fleet.muster, "serve")?;
    let memory = memory_bytes()?;

    let all = fleet
        .muster
        .succeed(&["stats", "host", "memory.total_bytes", "-o", "json"])
        .await?
        .json()?;
    let total = figure(&all[0], "memory.total_bytes").context("the memory")?;
    assert_eq!(
        (&all[0]["hosts"], &total["count"]),
        (&3.into(), &3.into()),
        "{all}"
    );
    assert_eq!(
        (total["sum"].as_f64(), total["p95"].as_f64()),
        (Some(3.0 * memory), Some(memory))
    );
    let hosts = ["stats", "host", "memory", "--by", "host", "-o", "ndjson"];
    let hosts = fleet.muster.succeed(&hosts).await?.json_lines()?;
    let names: Vec<&str> = hosts
        .iter()
        .filter_map(|group| group["group"].as_str())
        .collect();
    let wanted: Vec<&str> = fleet
        .agents
        .iter()
        .map(|agent| agent.host.as_str())
        .collect();
    assert_eq!(names, wanted);
    let loopback = [
        "stats",
        "host",
        "interface.rx_bytes",
        "--by",
        "interface",
        "-o",
        "ndjson",
    ];
    // An agent's first snapshot has no rates yet.
    eventually_within("the loopback's rate", LIMIT, async || {
        let output = fleet.muster.succeed(&loopback).await;
        let groups = output
            .and_then(|output| output.json_lines())
            .map_err(|error| format!("{error:#}"))?;
        let lo = groups.iter().find(|group| group["group"] == "lo");
        let bytes = lo.and_then(|lo| figure(lo, "interface.rx_bytes"));
        bytes
            .is_some_and(|bytes| bytes["rate"] == "per_s")
            .then_some(())
            .ok_or_else(|| format!("{groups:?}"))
    })
    .await?;

    // What there is not is said, with where to look.
    let bad = fleet
        .muster
        .run(&["stats", "host", "memory.free_byte"])
        .await?;
    assert_eq!(bad.code, 2, "{}", bad.stderr);
    assert!(
        bad.stderr.contains("`muster stats host --list` names them"),
        "{}",
        bad.stderr
    );
    let list = fleet
        .muster
        .succeed(&["stats", "keepalived", "--list"])
        .await?
        .stdout;
    assert!(list.contains("vrrp.state"), "{list}");

    watched(&fleet).await?;
    gathered(&serve, &wanted, memory).await
}

/// It goes on by itself, with a screenful for every change and no word beyond 80 columns.
async fn watched(fleet: &Fleet) -> Result<()> {
    let arguments = [
        "stats", "host", "load", "memory", "--watch", "--every", "500ms",
    ];
    let mut command = fleet.muster.command(&arguments);
    command.env("COLUMNS", "80");
    let mut watch = muster_harness::Process::spawn("stats-watch", &command, fleet.directory())?;
    eventually_within("three screenfuls", LIMIT, async || {
        let text = watch.stdout();
        let told = text
            .matches("3 hosts targeted, 3 told by themselves")
            .count();
        (told >= 3).then_some(()).ok_or(text)
    })
    .await
    .with_context(|| watch.stderr())?;
    let text = watch.stdout();
    let long: Vec<&str> = text
        .lines()
        .filter(|line| line.chars().count() > 80)
        .collect();
    assert!(
        long.is_empty() && !text.contains('\u{1b}'),
        "{long:?}\n{text}"
    );
    watch.kill().await?;
    Ok(())
}

/// The same from the daemon, which also knows what was a while ago.
async fn gathered(serve: &Serve, hosts: &[&str], memory: f64) -> Result<()> {
    eventually_within("serve has a history of every host", LIMIT, async || {
        let text = serve
            .get("/v1/series?collector=host&name=cpu.context_switches")
            .await?;
        let answer: Value =
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let series = answer["series"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = series
            .iter()
            .filter_map(|series| series["host"].as_str())
            .collect();
        let full = series.iter().all(|series| {
            series["points"]
                .as_array()
                .is_some_and(|points| points.len() == 6)
        });
        (names == hosts && full).then_some(()).ok_or(text)
    })
    .await?;
    let text = serve
        .get("/v1/stats?collector=host&name=memory.total_bytes&by=os.id")
        .await;
    let groups: Value = serde_json::from_str(&text.map_err(anyhow::Error::msg)?)?;
    assert!(groups[0]["group"].is_string(), "{groups}");
    let total = figure(&groups[0], "memory.total_bytes").context("the memory")?;
    assert_eq!(total["sum"].as_f64(), Some(3.0 * memory));
    let text = serve
        .get("/v1/stats?collector=hosts")
        .await
        .map_err(anyhow::Error::msg)?;
    assert!(text.contains("no collector"), "{text}");
    Ok(())
}
