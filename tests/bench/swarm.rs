//! `muster-swarm`: many agents in one process, each the real agent's code with its own connection, broker user,
//! queue, identity and state file. For benchmarks and scale tests; says `ready` when it has started them.
//!
//! Collectors and the local HTTP server are off: a host has one agent, and a thousand copies of one host's collectors
//! would measure the collectors.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use muster_agent::collect::COLLECTORS;
use muster_agent::config::Config;
use muster_harness::Cores;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Parser, Clone)]
struct Arguments {
    /// Number of agents; they are called swarm-00000, swarm-00001 …
    #[arg(long)]
    agents: usize,
    /// Broker and vhost.
    #[arg(long)]
    url: String,
    /// Password of every agent's broker user.
    #[arg(long)]
    password: String,
    /// Public half of the key that may sign every job.
    #[arg(long)]
    public_key: String,
    /// Where each agent gets a directory for its state file.
    #[arg(long)]
    state_dir: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "muster-swarm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let stop = CancellationToken::new();
    let (agents, token) = (arguments.agents, stop.clone());
    let mut cores = Cores::share(agents, move |numbers| {
        let (arguments, token) = (arguments.clone(), token.clone());
        async move {
            let mut agents = start(&arguments, numbers, &token)?;
            while let Some(ended) = agents.join_next().await {
                ended.context("join an agent")??;
            }
            Ok(())
        }
    })?;
    let _ = writeln!(std::io::stdout(), "ready");
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => {}
        Some(ended) = cores.ended() => return ended,
    }
    stop.cancel();
    while let Some(ended) = cores.ended().await {
        ended?;
    }
    Ok(())
}

/// Starts the agents with these numbers.
fn start(
    arguments: &Arguments,
    numbers: Range<usize>,
    stop: &CancellationToken,
) -> Result<JoinSet<Result<()>>> {
    let mut agents = JoinSet::new();
    for number in numbers {
        let name = format!("swarm-{number:05}");
        let state_dir = arguments.state_dir.join(&name);
        std::fs::create_dir_all(&state_dir)
            .with_context(|| format!("make {}", state_dir.display()))?;
        let config = Config::parse(
            &config(arguments, &name, &state_dir),
            Path::new("swarm.toml"),
        )?;
        let stop = stop.clone();
        agents.spawn(async move { muster_agent::run(config, stop).await.with_context(|| name) });
    }
    Ok(agents)
}

fn config(arguments: &Arguments, name: &str, state_dir: &Path) -> String {
    let Arguments {
        url,
        password,
        public_key,
        ..
    } = arguments;
    format!(
        r#"
host = "{name}"
state_dir = "{state_dir}"
[labels]
swarm = "yes"
[broker]
url = "{url}"
password = "{password}"
[http]
listen = ""
[[keys]]
id = "bench"
public_key = "{public_key}"
[[policy]]
key = "bench"
actions = ["*"]
{collectors}"#,
        state_dir = state_dir.display(),
        collectors = collectors_off(),
    )
}

/// Every collector there is, switched off.
fn collectors_off() -> String {
    COLLECTORS
        .iter()
        .map(|spec| format!("[collect.{}]\nenabled = false\n", spec.name))
        .collect()
}
