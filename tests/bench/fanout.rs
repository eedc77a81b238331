//! `fanout`: one job to N agents, all replies in.
//!
//! On one private broker, one after the other: bare lapin echoes with a bare requester (the limit), then N agents of
//! the real code in one process, each with its own connection, user, queue, keys and state file, and the real
//! `muster ping`; then the limit again, since machines that others share are faster at one time than at another. A round
//! of Muster's is from the job's opening in the ledger to the ledger's knowing every answer.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster_harness::fleet::binary;
use muster_harness::{Broker, Muster, NodeOptions, Process, eventually_within};
use muster_proto::id::HostId;
use muster_proto::topology;
use serde_json::{Value, json};

use crate::report::{Samples, heading};
use crate::{FanoutArguments, keep, limit, note, say};

/// Agents of a thousand connect within this, on two busy cores.
const UP_LIMIT: Duration = Duration::from_secs(300);

/// The password of the bench's own throw-away users.
const PASSWORD: &str = "bench";

/// Measures and prints; `false` where a bound that the caller named is broken.
pub(crate) async fn run(arguments: &FanoutArguments) -> Result<bool> {
    note("starting a private broker");
    // As deploy/rabbitmq/rabbitmq.conf has it.
    let options = NodeOptions {
        config: vec![
            "tcp_listen_options.sndbuf = 16384".into(),
            "tcp_listen_options.recbuf = 16384".into(),
            "collect_statistics_interval = 30000".into(),
        ],
    };
    let broker = Broker::private(options).await?;
    let logs = tempfile::tempdir().context("make a directory")?;
    let before = limit_phase(&broker, arguments, logs.path()).await?;
    let muster = muster_phase(&broker, arguments, logs.path()).await?;
    let bare = before.and(limit_phase(&broker, arguments, logs.path()).await?);

    let ratio = muster.rounds.median() / bare.rounds.median();
    say(&heading());
    say(&bare
        .rounds
        .row(&format!("limit: {} bare lapin echoes", arguments.agents)));
    say(&muster
        .rounds
        .row(&format!("muster ping, in the client, {}", arguments.agents)));
    say(&muster
        .dispatched
        .row("  of that, from sending to last reply"));
    say(&muster.commands.row("muster ping, whole command"));
    say(&format!("ratio of medians                   {ratio:>9.2}"));
    say(&format!(
        "rounds with a wrong count          {:>9}",
        muster.wrong
    ));
    say(&format!(
        "{:<36} {:>9} {:>9}",
        "CPU milliseconds per round", "broker", "agents"
    ));
    say(&bare.cpu.row("limit"));
    say(&muster.cpu.row("muster"));
    say(&format!(
        "memory per agent, KiB              {:>9.0}   (bare {:.0})",
        muster.agent_kib, bare.agent_kib
    ));
    say(&format!(
        "broker memory per agent, KiB       {:>9.0}   (bare {:.0})",
        muster.broker_kib, bare.broker_kib
    ));
    let figures = json!({
        "benchmark": "fanout", "agents": arguments.agents, "ratio": ratio, "wrong_counts": muster.wrong,
        "limit_ms": bare.rounds.json(), "muster_ms": muster.rounds.json(), "muster_dispatch_ms": muster.dispatched.json(), "muster_command_ms": muster.commands.json(),
        "cpu_ms_per_round": {
            "limit": { "broker": bare.cpu.broker_ms, "agents": bare.cpu.agents_ms },
            "muster": { "broker": muster.cpu.broker_ms, "agents": muster.cpu.agents_ms },
        },
        "memory_per_agent_kib": { "muster": muster.agent_kib, "limit": bare.agent_kib },
        "broker_memory_per_agent_kib": { "muster": muster.broker_kib, "limit": bare.broker_kib },
    });
    say(&figures.to_string());
    keep(arguments.json.as_ref(), &figures)?;
    Ok(muster.wrong == 0 && arguments.ratio_max.is_none_or(|max| ratio <= max))
}

/// What one kind of client took.
struct Phase {
    rounds: Samples,
    /// From sending to the last reply, without the ledger's messages before and after.
    dispatched: Samples,
    commands: Samples,
    wrong: usize,
    cpu: Cpu,
    agent_kib: f64,
    broker_kib: f64,
}

impl Phase {
    /// The same kind's rounds at two times. Memory is what it was at first.
    fn and(self, later: Self) -> Self {
        Self {
            rounds: self.rounds.and(&later.rounds),
            cpu: Cpu {
                broker_ms: f64::midpoint(self.cpu.broker_ms, later.cpu.broker_ms),
                agents_ms: f64::midpoint(self.cpu.agents_ms, later.cpu.agents_ms),
            },
            ..self
        }
    }
}

async fn limit_phase(broker: &Broker, arguments: &FanoutArguments, logs: &Path) -> Result<Phase> {
    note(&format!(
        "the limit: {} bare lapin clients",
        arguments.agents
    ));
    let before = broker.memory()?.rss_kib;
    let uri = broker.uri("admin", "admin");
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args([
        "limit-agents",
        "--uri",
        &uri,
        "--agents",
        &arguments.agents.to_string(),
    ]);
    let mut agents = Process::spawn("limit-agents", &command, logs)?;
    await_line(&mut agents, "ready").await?;
    let per_agent = Costs::read(broker, &agents, before, arguments.agents).await?;
    let mut requester = limit::Requester::open(&uri, arguments.agents).await?;
    requester.round().await.context("warm up")?;
    let mut rounds = Vec::new();
    let cpu = Cpu::now(broker, &agents)?;
    for _ in 0..arguments.rounds {
        rounds.push(millis(requester.round().await?));
    }
    let cpu = cpu.per_round(broker, &agents, arguments.rounds)?;
    drop(requester);
    agents.kill().await?;
    await_connections(broker, 0).await?;
    Ok(Phase {
        rounds: Samples::new(rounds),
        dispatched: Samples::new(Vec::new()),
        commands: Samples::new(Vec::new()),
        wrong: 0,
        cpu,
        agent_kib: per_agent.agent_kib,
        broker_kib: per_agent.broker_kib,
    })
}

async fn muster_phase(broker: &Broker, arguments: &FanoutArguments, logs: &Path) -> Result<Phase> {
    note(&format!(
        "muster: {} agents of the real code",
        arguments.agents
    ));
    let home = tempfile::tempdir().context("make a directory")?;
    let muster = Muster::at(home.path())?;
    let public_key = set_up(broker, &muster, arguments.agents).await?;
    let before = broker.memory()?.rss_kib;
    let mut command = Command::new(binary("muster-swarm")?);
    command
        .args([
            "--agents",
            &arguments.agents.to_string(),
            "--url",
            &url(broker),
            "--password",
            PASSWORD,
        ])
        .args(["--public-key", &public_key])
        .arg("--state-dir")
        .arg(home.path().join("state"));
    let mut swarm = Process::spawn("swarm", &command, logs)?;
    await_line(&mut swarm, "ready").await?;
    let per_agent = Costs::read(broker, &swarm, before, arguments.agents).await?;

    // Connected is not yet there: the first word of presence follows.
    eventually_within("all answer a ping", UP_LIMIT, || async {
        let output = muster.run(&["ping", "-o", "json"]).await;
        let output = output.map_err(|error| format!("{error:#}"))?;
        match output
            .json()
            .and_then(|document| rounds(&document, arguments.agents))
        {
            Ok((_, 0)) => Ok(()),
            _ => Err(format!("exit {}: {}", output.code, output.stderr)),
        }
    })
    .await?;
    let cpu = Cpu::now(broker, &swarm)?;
    let output = muster
        .run(&["ping", "-c", &arguments.rounds.to_string(), "-o", "json"])
        .await?;
    let cpu = cpu.per_round(broker, &swarm, arguments.rounds)?;
    let document = output.json()?;
    let (rounds, mut wrong) = rounds(&document, arguments.agents)?;
    let dispatched = totals(&document, "total_ms")?;
    let mut commands = Vec::new();
    for _ in 0..arguments.commands {
        let begun = Instant::now();
        let output = muster.run(&["ping", "-o", "json"]).await?;
        commands.push(millis(begun.elapsed()));
        wrong += usize::from(output.code != 0);
    }
    swarm.terminate(Duration::from_secs(60)).await?;
    Ok(Phase {
        rounds: Samples::new(rounds),
        dispatched: Samples::new(dispatched),
        commands: Samples::new(commands),
        wrong,
        cpu,
        agent_kib: per_agent.agent_kib,
        broker_kib: per_agent.broker_kib,
    })
}

/// Times of the rounds with the ledger's messages, in milliseconds, and how many did not have every host succeed.
fn rounds(document: &Value, agents: usize) -> Result<(Vec<f64>, usize)> {
    let agents = u64::try_from(agents)?;
    let targeted = document.get("targeted").and_then(Value::as_u64);
    let all =
        |round: &&Value| round.pointer("/states/succeeded").and_then(Value::as_u64) == Some(agents);
    let wrong = list(document)?
        .iter()
        .filter(|round| targeted != Some(agents) || !all(round))
        .count();
    Ok((totals(document, "whole_ms")?, wrong))
}

fn totals(document: &Value, name: &str) -> Result<Vec<f64>> {
    let number = |round: &Value| {
        round
            .get(name)
            .and_then(Value::as_f64)
            .with_context(|| format!("a round without {name}"))
    };
    list(document)?.iter().map(number).collect()
}

fn list(document: &Value) -> Result<&Vec<Value>> {
    document
        .get("rounds")
        .and_then(Value::as_array)
        .context("no rounds in the output of muster ping")
}

/// Topology, an operator with a key, and a broker user per agent; gives the operator's public key.
pub(crate) async fn set_up(broker: &Broker, muster: &Muster, agents: usize) -> Result<String> {
    let config = format!(
        "issuer = \"bench\"\n[broker]\nurl = \"{}\"\nuser = \"admin\"\npassword = \"admin\"\n[management]\nurl = \"http://{}\"\n",
        url(broker),
        broker.management_address()
    );
    let folder = muster.home().join(".config/muster");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("config.toml"), config)?;
    muster.succeed(&["broker", "init"]).await?;
    muster.succeed(&["key", "new", "bench"]).await?;
    let public_key =
        std::fs::read_to_string(folder.join("keys/bench.pub")).context("read the public key")?;
    let (mut users, mut permissions, mut topics) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..agents {
        let host: HostId = host_name(number).parse()?;
        let may = topology::agent_permissions(&host);
        let vhost = broker.vhost();
        users.push(json!({ "name": host, "password": PASSWORD, "tags": "" }));
        permissions.push(json!({
            "user": host, "vhost": vhost, "configure": may.configure, "write": may.write, "read": may.read,
        }));
        topics.extend(may.topics.iter().map(|topic| {
            json!({ "user": host, "vhost": vhost, "exchange": topic.exchange, "write": topic.write, "read": topic.read })
        }));
    }
    let definitions =
        json!({ "users": users, "permissions": permissions, "topic_permissions": topics });
    broker
        .management()
        .post("definitions", &definitions)
        .await
        .context("make the agents' broker users")?;
    Ok(public_key.trim().to_owned())
}

/// Name of the swarm's agent `number`.
fn host_name(number: usize) -> String {
    format!("swarm-{number:05}")
}

/// The broker's address and vhost as Muster's configs take them.
pub(crate) fn url(broker: &Broker) -> String {
    format!("amqp://{}/{}", broker.amqp(), broker.vhost())
}

/// CPU time of the broker and of all agents: since they were started, or per round.
#[derive(Clone, Copy)]
struct Cpu {
    broker_ms: f64,
    agents_ms: f64,
}

impl Cpu {
    fn now(broker: &Broker, agents: &Process) -> Result<Self> {
        Ok(Self {
            broker_ms: millis(broker.cpu()?),
            agents_ms: millis(agents.cpu()?),
        })
    }

    fn per_round(self, broker: &Broker, agents: &Process, rounds: usize) -> Result<Self> {
        let now = Self::now(broker, agents)?;
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let rounds = rounds.max(1) as f64;
        Ok(Self {
            broker_ms: (now.broker_ms - self.broker_ms) / rounds,
            agents_ms: (now.agents_ms - self.agents_ms) / rounds,
        })
    }

    fn row(self, name: &str) -> String {
        format!("{name:<36} {:>9.0} {:>9.0}", self.broker_ms, self.agents_ms)
    }
}

struct Costs {
    agent_kib: f64,
    broker_kib: f64,
}

impl Costs {
    async fn read(
        broker: &Broker,
        process: &Process,
        broker_before: u64,
        agents: usize,
    ) -> Result<Self> {
        await_connections(broker, agents).await?;
        let broker_now = broker.memory()?.rss_kib;
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let per_agent = |kib: u64| kib as f64 / agents.max(1) as f64;
        Ok(Self {
            agent_kib: per_agent(process.memory()?.rss_kib),
            broker_kib: per_agent(broker_now.saturating_sub(broker_before)),
        })
    }
}

async fn await_connections(broker: &Broker, wanted: usize) -> Result<()> {
    eventually_within("the broker's count of connections", UP_LIMIT, || async {
        let overview = broker
            .management()
            .get("overview")
            .await
            .map_err(|error| error.to_string())?;
        let count = overview
            .pointer("/object_totals/connections")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        if count == u64::try_from(wanted).unwrap_or(u64::MAX) {
            Ok(())
        } else {
            Err(format!("{count} of {wanted}"))
        }
    })
    .await
}

async fn await_line(process: &mut Process, line: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        if process.stdout().lines().any(|found| found == line) {
            return Ok(());
        }
        if let Some(status) = process.exit_status()? {
            bail!("it ended with {status}: {}", process.stderr());
        }
        if begun.elapsed() > UP_LIMIT {
            bail!("it was not {line} after {UP_LIMIT:?}: {}", process.stderr());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
