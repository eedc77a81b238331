//! A thousand jobs in a row to twenty agents, while agents are killed and restarted every moment, and the broker is
//! restarted twice. Afterwards what the ledger says is held against what the hosts have done.
//!
//! `MUSTER_CHAOS_JOBS` sets another number of jobs.

mod verdict;

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use muster_harness::{Agent, Broker, Fleet, FleetOptions, Muster, NodeOptions, eventually_within};

use verdict::Verdict;

const AGENTS: usize = 20;
const JOBS_DEFAULT: usize = 1000;

/// The script leaves its job's id; what it writes in one call is one line, whoever else writes.
const MARK: &str = r#"echo "$MUSTER_JOB_ID" >> ran"#;

/// The longest pause between two kills.
const KILL_PAUSE_MAX: Duration = Duration::from_millis(400);

/// One agent in so many stays dead for a while, so that short jobs expire.
const LONG_DEATHS: usize = 40;
const LONG_DEATH: Duration = Duration::from_secs(3);

/// Pause before a job that found no broker is tried again.
const NO_BROKER_PAUSE: Duration = Duration::from_millis(300);

/// The fleet may take this long to tell everything when nobody is killed any more.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);

/// What one `muster run` said.
#[derive(Debug)]
struct Run {
    job: String,
    code: i32,
}

/// What was done to the fleet, and how far it is.
#[derive(Debug, Default)]
struct Progress {
    opened: Cell<usize>,
    refused: Cell<usize>,
    kills: Cell<usize>,
    over: Cell<bool>,
}

fn jobs_wanted() -> Result<usize> {
    match std::env::var("MUSTER_CHAOS_JOBS") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("read MUSTER_CHAOS_JOBS={text}")),
        Err(_) => Ok(JOBS_DEFAULT),
    }
}

#[tokio::test]
async fn a_thousand_jobs_in_the_middle_of_chaos_are_all_accounted_for() -> Result<()> {
    let wanted = jobs_wanted()?;
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let options = FleetOptions {
        agents: AGENTS,
        broker_keys: "reconnect_window = \"2s\"".to_owned(),
        tables: "[collect.host]\nenabled = false\n".to_owned(),
        scripts: vec![("mark", MARK.to_owned())],
        ..FleetOptions::default()
    };
    let mut fleet = Fleet::start(&broker, &options).await?;
    let progress = Progress::default();
    let began = Instant::now();
    let Fleet { muster, agents, .. } = &mut fleet;
    let (runs, killed, restarted) = tokio::join!(
        dispatch(muster, wanted, &progress),
        kill_agents(agents, &progress),
        restart_broker(&mut broker, wanted, &progress),
    );
    let runs = runs?;
    killed?;
    restarted?;
    let took = began.elapsed();
    fleet.await_all().await?;
    let verdict = eventually_within("the ledger tells what was done", SETTLE_LIMIT, async || {
        let verdict = Verdict::of(&fleet, &runs)
            .await
            .map_err(|error| format!("{error:#}"))?;
        if verdict.faults.is_empty() {
            Ok(verdict)
        } else {
            Err(verdict.to_string())
        }
    })
    .await?;
    println!(
        "{verdict}\n{} runs in {:.1} s ({} found no broker), {} kills of agents, 2 restarts of the broker",
        runs.len(),
        took.as_secs_f64(),
        progress.refused.get(),
        progress.kills.get(),
    );
    Ok(())
}

/// Jobs one after the other, until so many were opened.
async fn dispatch(muster: &Muster, wanted: usize, progress: &Progress) -> Result<Vec<Run>> {
    let run = async {
        let mut runs = Vec::new();
        while runs.len() < wanted {
            match one_job(muster, runs.len()).await? {
                Some(run) => runs.push(run),
                None => {
                    progress.refused.set(progress.refused.get() + 1);
                    tokio::time::sleep(NO_BROKER_PAUSE).await;
                }
            }
            progress.opened.set(runs.len());
        }
        Ok(runs)
    };
    let outcome = run.await;
    progress.over.set(true);
    outcome
}

/// One job in one of the ways in which operators send them; nothing where there was no broker.
async fn one_job(muster: &Muster, number: usize) -> Result<Option<Run>> {
    let way: &[&str] = match number % 10 {
        0..=3 => &["--no-wait"],
        4 => &["--no-wait", "--deliver-within", "1s"],
        5 => &["--online", "--wait", "1s"],
        6 => &["-t", "number < 10", "--wait", "1s"],
        _ => &["--wait", "2s"],
    };
    let all: &[&str] = if way.contains(&"-t") {
        &[]
    } else {
        &["-t", "*"]
    };
    let run = ["run", "script.run", "name=mark", "-o", "json"];
    let output = muster.run(&[&run, all, way].concat()).await?;
    match output.code {
        0 | 4 | 5 => {
            let report = output.json()?;
            let job = report["job"]
                .as_str()
                .context("a report without a job")?
                .to_owned();
            Ok(Some(Run {
                job,
                code: output.code,
            }))
        }
        69 if output.stdout.is_empty() => Ok(None),
        _ => bail!("job {number}: {output:?}"),
    }
}

/// kill -9 of an agent by chance and its restart, again and again until the jobs are over.
async fn kill_agents(agents: &mut [Agent], progress: &Progress) -> Result<()> {
    let mut dice = Dice::new();
    while !progress.over.get() {
        let number = dice.below(agents.len());
        let agent = agents.get_mut(number).context("an agent")?;
        if let Some(status) = agent.process()?.exit_status()? {
            bail!(
                "{} ended by itself with {status}: {}",
                agent.host,
                agent.log()
            );
        }
        agent.kill().await?;
        if dice.below(LONG_DEATHS) == 0 {
            tokio::time::sleep(LONG_DEATH).await;
        }
        agent.start()?;
        progress.kills.set(progress.kills.get() + 1);
        let pause = dice.below(usize::try_from(KILL_PAUSE_MAX.as_millis())?);
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
    }
    Ok(())
}

/// In an orderly way after a third of the jobs, with kill -9 after two.
async fn restart_broker(broker: &mut Broker, wanted: usize, progress: &Progress) -> Result<()> {
    let reached = async |count: usize| {
        while progress.opened.get() < count && !progress.over.get() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    reached(wanted / 3).await;
    broker.stop().await?;
    broker.start().await?;
    reached(wanted * 2 / 3).await;
    broker.kill().await?;
    broker.start().await
}

/// Numbers by chance; the seed is printed.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(1, |time| time.subsec_nanos());
        println!("seed {seed}");
        Self(u64::from(seed) | 1)
    }

    /// xorshift64: no more is asked of it than to be spread.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap_or(0)
    }
}
