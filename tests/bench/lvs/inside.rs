//! The part of `lvs` that runs in the guest: our collector in this process, or `ipvsadm` and a parse. Each prints one
//! line of JSON, as `dump.c` does.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use muster_agent::collect::lvs::Lvs;
use muster_agent::collect::{Collect, CollectContext, Collected, SampleTime};
use muster_proto::metric::MetricsRef;
use muster_proto::snapshot::lvs::LvsSnapshot;
use serde_json::json;

use crate::say;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Dump, decode, rates, changes and the typed snapshot.
    Snapshot,
    /// The whole run as the schedule has it, whose snapshot is packed as it is made.
    Run,
    /// The same, and the body of the message that is published.
    Collect,
    /// `ipvsadm -Ln --stats --exact`, every figure parsed.
    Ipvsadm,
}

/// Measures `rounds` times.
pub(crate) fn run(what: What, rounds: u32) -> Result<()> {
    let mut lvs = Lvs::new(&CollectContext::default())?;
    let mut times = Vec::new();
    let cpu = cpu_ms()?;
    let mut counts = (0, 0);
    let mut collected: Option<Collected> = None;
    for round in 0..rounds {
        let now = SampleTime {
            wall_ms: 0,
            mono_ms: u64::from(round) * 10_000,
        };
        let began = Instant::now();
        match what {
            What::Run => collected = Some(collect(&mut lvs, now)?),
            What::Collect => collected = Some(published(&mut lvs, now)?),
            What::Ipvsadm => counts = ipvsadm()?,
            _ => {
                let (snapshot, changes) = lvs.sample(now)?;
                ensure!(
                    changes.is_empty() && snapshot.errors.is_empty(),
                    "{:?}",
                    snapshot.errors
                );
                let totals = &snapshot.totals;
                counts = (totals.virtual_servers.into(), totals.real_servers.into());
            }
        }
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let (cpu_ms, rss_kib) = (cpu_ms()? - cpu, peak_kib()?);
    if let Some(collected) = collected {
        let totals = collected.snapshot.read::<LvsSnapshot>()?.totals;
        counts = (totals.virtual_servers.into(), totals.real_servers.into());
    }
    let line = json!({
        "ms": times, "cpu_ms": cpu_ms, "rss_kib": rss_kib,
        "virtual_servers": counts.0, "real_servers": counts.1,
    });
    say(&line.to_string());
    Ok(())
}

/// One run; what the agent keeps of it until the next one.
fn collect(lvs: &mut Lvs, now: SampleTime) -> Result<Collected> {
    let collected = lvs.collect(now)?;
    ensure!(collected.changes.is_empty(), "{:?}", collected.changes);
    Ok(collected)
}

/// One run and its message.
fn published(lvs: &mut Lvs, now: SampleTime) -> Result<Collected> {
    let collected = collect(lvs, now)?;
    let body = MetricsRef {
        host: &"lb1".parse()?,
        collector: "lvs",
        at_ms: now.wall_ms,
        seq: now.mono_ms,
        snapshot: &collected.snapshot,
    }
    .body()?;
    ensure!(body.len() > collected.snapshot.bytes().len());
    Ok(collected)
}

/// One call and every figure of it; how many virtual and real servers there were.
fn ipvsadm() -> Result<(u64, u64)> {
    const HEADER_LINES: usize = 3;
    const FIGURES: usize = 5;
    let output = Command::new("ipvsadm")
        .args(["-Ln", "--stats", "--exact"])
        .output()
        .context("run ipvsadm")?;
    let text = String::from_utf8(output.stdout)?;
    let mut counts = (0, 0);
    for line in text.lines().skip(HEADER_LINES) {
        let figures = line.split_ascii_whitespace().skip(2);
        let figures: Vec<u64> = figures.map(str::parse).collect::<Result<_, _>>()?;
        ensure!(figures.len() == FIGURES, "{line}");
        if line.starts_with("  ->") {
            counts.1 += 1;
        } else {
            counts.0 += 1;
        }
    }
    Ok(counts)
}

/// Processor time of this process and of its children that are over, in milliseconds, to ten of them.
fn cpu_ms() -> Result<f64> {
    const TICK_MS: f64 = 10.0; // USER_HZ is 100 wherever Linux runs
    const FIRST: usize = 11; // utime, stime, cutime, cstime, behind the name in brackets
    let stat = std::fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    let (_, figures) = stat.rsplit_once(") ").context("read /proc/self/stat")?;
    let ticks = figures.split(' ').skip(FIRST).take(4);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() * TICK_MS)
}

fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let figure = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(figure.context("no VmHWM in /proc/self/status")?.parse()?)
}
