//! `muster-bench`: measures Muster against the limit in the same run, on the same broker. See `tests/bench/run`.

mod fanout;
mod idle;
mod limit;
mod lvs;
mod report;
mod serve;
mod tail;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "benchmarks of Muster: always a ratio against the limit in the same run")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// One job to N agents and all their replies, against bare lapin clients that only echo.
    Fanout(FanoutArguments),
    /// What one connected agent costs while nothing happens: resident memory, and CPU over a time.
    Idle(IdleArguments),
    /// How fast logs become events, against grep and ripgrep; then to the broker, with the agent killed in the middle.
    Tail(TailArguments),
    /// The collector of virtual servers, against a bare netlink dump of the same table and against ipvsadm.
    Lvs(LvsArguments),
    /// What one `muster serve` costs with N hosts that report every ten seconds: resident memory and CPU.
    Serve(ServeArguments),
    /// What `lvs` runs in its guest.
    #[command(hide = true)]
    LvsInside {
        what: lvs::inside::What,
        #[arg(long)]
        rounds: u32,
    },
    /// The bare consumers of `fanout`; it starts them itself.
    #[command(hide = true)]
    LimitAgents {
        #[arg(long)]
        uri: String,
        #[arg(long)]
        agents: usize,
    },
}

/// Options of `fanout`.
#[derive(clap::Args)]
pub(crate) struct FanoutArguments {
    /// Number of agents.
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// Rounds of each kind; medians are over these.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Whole `muster ping` commands to time.
    #[arg(long, default_value_t = 10)]
    commands: usize,
    /// Write the figures to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// End with exit code 1 if the ratio of the medians is above this, or any count was wrong.
    #[arg(long)]
    ratio_max: Option<f64>,
}

/// Options of `idle`.
#[derive(clap::Args)]
pub(crate) struct IdleArguments {
    /// How long CPU is counted, in seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Write the figures to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// End with exit code 1 if resident memory is above this many MiB.
    #[arg(long)]
    rss_mib_max: Option<f64>,
}

/// Options of `tail`.
#[derive(clap::Args)]
pub(crate) struct TailArguments {
    /// Size of the log, in MiB.
    #[arg(long, default_value_t = 954)]
    mib: u64,
    /// Rounds of each kind; medians are over these.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave out the way to the broker.
    #[arg(long)]
    alone: bool,
    /// Write the figures to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// End with exit code 1 if a goal is missed; wrong counts always end so.
    #[arg(long)]
    strict: bool,
}

/// Options of `lvs`.
#[derive(clap::Args)]
pub(crate) struct LvsArguments {
    /// Number of virtual servers.
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Number of real servers in each.
    #[arg(long, default_value_t = 10)]
    backends: usize,
    /// How often every kind takes its turn.
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Rounds of a kind in one turn; medians are over all turns.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Write the figures to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// End with exit code 1 if our snapshot takes more than this many times the bare dump.
    #[arg(long)]
    ratio_max: Option<f64>,
}

/// Options of `serve`.
#[derive(clap::Args)]
pub(crate) struct ServeArguments {
    /// Number of hosts.
    #[arg(long, default_value_t = 10_000)]
    hosts: usize,
    /// How long CPU is counted, in seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Write the figures to this file, too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// End with exit code 1 if resident memory is above this many MiB.
    #[arg(long)]
    rss_mib_max: Option<f64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().benchmark {
        Benchmark::Fanout(arguments) => fanout::run(&arguments).await,
        Benchmark::Idle(arguments) => idle::run(&arguments).await,
        Benchmark::Tail(arguments) => tail::run(&arguments).await,
        Benchmark::Lvs(arguments) => lvs::run(&arguments).await,
        Benchmark::Serve(arguments) => serve::run(&arguments).await,
        Benchmark::LvsInside { what, rounds } => lvs::inside::run(what, rounds).map(|()| true),
        Benchmark::LimitAgents { uri, agents } => limit::serve(&uri, agents).await.map(|()| true),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            note(&format!("muster-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line of figures.
pub(crate) fn say(line: &str) {
    // Nobody is left to be told when stdout is gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line about what is being done.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes `figures` to `path`, where one was named.
pub(crate) fn keep(path: Option<&PathBuf>, figures: &serde_json::Value) -> Result<()> {
    if let Some(path) = path {
        std::fs::write(path, serde_json::to_string_pretty(figures)? + "\n")?;
    }
    Ok(())
}
