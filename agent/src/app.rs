//! The one file that wires the agent: it makes the parts, joins them, starts them, and stops them in order: no more
//! work is taken, what was taken is brought to an end and sent, goodbye, and the files are closed.

mod logs;
mod on_demand;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use muster_link::{AgentPlan, Binding, Incoming, Link, QueueDecl, QueueKind, Supervisor, stamp};
use muster_proto::event::Severity;
use muster_proto::topology;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::action::{self, ActionContext, HostFacts, Lvs};
use crate::boot::{self, LastBoot};
use crate::collect::keepalived::Control;
use crate::collect::schedule::{Collectors, Schedule};
use crate::config::Config;
use crate::facts::Facts;
use crate::http::{self, Health};
use crate::inventory::InventoryFile;
use crate::job::{self, Delivery, JobCounters, JobsStatus, Runner, RunnerConfig};
use crate::liveness::{self, Liveness};
use crate::presence::PresenceSource;
use crate::publish::{OutboxCounters, OutboxPublisher, Snapshots, Wire, open_session};
use crate::report;
use crate::stack::apart;
use crate::state::{self, NewEvent, State, StateConfig};
use crate::tick::Grid;

/// The agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// From the stop to the end, all in all.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Of that, for sending what is left, the goodbye, and closing.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the goodbye waits for confirmed messages to be deleted.
const DELETED_WITHIN: Duration = Duration::from_millis(700);

/// How long jobs may go on by themselves once the agent is to stop; then they are told to end.
const JOBS_GRACE: Duration = Duration::from_millis(500);

/// Reports of collectors that wait for the state file.
const REPORTS_MAX: usize = 8;

/// Runs an agent until `stop`, or until a part of it fails. No state outside of `config.state_dir`, no signals: one
/// process may run many.
///
/// # Errors
/// When the state file can't be used, or a part of the agent fails.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let (started, _) = oneshot::channel();
    run_and_tell(config, stop, started).await
}

/// As [`run`]; `started` hears when the state file is open and everything runs, whether or not the broker is there.
///
/// # Errors
/// As [`run`].
pub async fn run_and_tell(
    config: Config,
    stop: CancellationToken,
    started: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let state_config = StateConfig::new(
        config.state_dir.clone(),
        config.host.clone(),
        &config.outbox,
    );
    let (state, owner) = State::open(state_config).context("open the state file")?;
    remove_copies(&run_dir(&config));
    let last_boot = LastBoot::read(&config.state_dir);
    let link_stop = CancellationToken::new();
    let (link, incoming) = Link::start(
        config.broker.clone(),
        format!("muster-agent {}", config.host),
        plan(&config),
        link_stop.clone(),
    );
    let found = Facts::find(&config.roots);
    let host_started = boot::host_started(VERSION, &config.labels, &found);
    let agent = Agent::assemble(config, found, state.clone(), link.clone(), incoming)?;
    let presence = agent.presence.clone();
    let boot_id = presence.boot_id.clone();
    let mut events = Vec::from_iter(
        last_boot
            .rebooted(&boot_id)
            .map(|before| boot::host_rebooted(before, &boot_id)),
    );
    events.push(host_started);
    state
        .accept_events(events)
        .await
        .context("store the event of the agent's start")?;
    if let Err(error) = last_boot.remember(&boot_id) {
        tracing::warn!(%error, "could not remember the boot's id; a reboot may be told twice");
    }
    let (work_stop, carry_stop) = (stop.child_token(), CancellationToken::new());
    let (hand_back, _incoming) = oneshot::channel();
    let (work, carry) = apart(|| agent.start(&work_stop, &carry_stop, hand_back));
    _ = started.send(()); // whoever started the agent need not listen

    let (work, carry) = (work.run(), carry.run());
    tokio::pin!(work, carry);
    let outcome = tokio::select! {
        done = &mut work => {
            let stopped = NewEvent::new("host.stopped", stamp::now_ms(), Severity::Info, "the agent was stopped");
            // A state file that is gone has its own error.
            _ = state.accept_events(vec![stopped]).await;
            carry_stop.cancel();
            done.and(carry.await)
        }
        done = &mut carry => {
            work_stop.cancel();
            done.and(work.await)
        }
    };
    let end_by = Instant::now() + LAST_WORDS;
    if open_session(&link.status().borrow()).is_some() {
        // What was confirmed is deleted a moment later; a goodbye that counts it would read as if it were stuck.
        let mut status = state.status();
        _ = timeout(
            DELETED_WITHIN,
            status.wait_for(|status| status.depth.records == 0),
        )
        .await;
    }
    _ = timeout_at(end_by, presence.publish(&link, true)).await;
    link_stop.cancel();
    _ = timeout_at(end_by + LAST_WORDS, link.stopped()).await;
    if timeout(LAST_WORDS, owner.close()).await.is_err() {
        tracing::error!("the state file was not closed in time");
    }
    outcome.context("the agent has ended")
}

/// Every part, made and joined, not yet running.
struct Agent {
    config: Config,
    state: State,
    link: Link,
    incoming: mpsc::Receiver<Incoming>,
    schedule: Schedule,
    reports: mpsc::Receiver<crate::collect::schedule::Report>,
    runner: Runner,
    snapshots: Arc<Snapshots>,
    outbox: Arc<OutboxCounters>,
    presence: Arc<PresenceSource>,
    health: Health,
    /// Kept so that the facts' receivers stay open.
    facts: watch::Sender<Arc<HostFacts>>,
}

impl Agent {
    fn assemble(
        config: Config,
        found: Facts,
        state: State,
        link: Link,
        incoming: mpsc::Receiver<Incoming>,
    ) -> anyhow::Result<Self> {
        let grid = Grid::by_chance(Instant::now());
        let (report, reports) = mpsc::channel(REPORTS_MAX);
        let (schedule, collectors) =
            Schedule::new(config.roots.clone(), config.collect.clone(), grid, report)?;
        let boot_id = found.boot_id.clone();
        let (facts_sender, facts) = watch::channel(Arc::new(HostFacts {
            host: config.host.clone(),
            labels: config.labels.clone(),
            facts: found.facts,
            version: VERSION.to_owned(),
        }));
        let job_counters = Arc::<JobCounters>::default();
        let (runner, jobs) = runner(
            &config,
            &state,
            &link,
            &facts,
            &collectors,
            job_counters.clone(),
        );
        let (outbox, snapshots) = (
            Arc::<OutboxCounters>::default(),
            Arc::<Snapshots>::default(),
        );
        let presence = Arc::new(PresenceSource {
            facts,
            boot_id,
            started_at_ms: stamp::now_ms(),
            interval: config.presence_interval,
            grid,
            state: state.status(),
            jobs: jobs.clone(),
            board: collectors.board(),
            outbox: outbox.clone(),
            seq: AtomicU64::new(0),
        });
        let health = Health {
            host: config.host.clone(),
            link: link.status(),
            state: state.status(),
            board: collectors.board(),
            collectors,
            roots: config.roots.clone(),
            jobs,
            job_counters,
            outbox: outbox.clone(),
            snapshots: snapshots.clone(),
            logs: config.log_counters().into(),
            link_counters: Arc::default(),
            started: Instant::now(),
        };
        let agent = Self {
            config,
            state,
            link,
            incoming,
            schedule,
            reports,
            runner,
            snapshots,
            outbox,
            presence,
            health,
            facts: facts_sender,
        };
        Ok(agent)
    }

    /// Splits into what brings work, which ends first, and what carries it away.
    fn start(
        self,
        work_stop: &CancellationToken,
        carry_stop: &CancellationToken,
        hand_back: oneshot::Sender<mpsc::Receiver<Incoming>>,
    ) -> (Supervisor, Supervisor) {
        let (stop, host) = (carry_stop.clone(), self.config.host.clone());
        let (link, state) = (self.link.clone(), self.state.clone());
        let mut carry = Supervisor::new(stop.clone(), LAST_WORDS);
        let inventory = InventoryFile::at(self.config.inventory.clone());
        let reports = report::run(
            self.reports,
            state.clone(),
            self.snapshots.clone(),
            inventory.clone(),
        );
        let reports_stop = stop.clone();
        carry.start("reports", async move {
            reports.await?;
            // The collectors have ended: told to, or with an error of their own.
            reports_stop.cancelled().await;
            Ok::<(), state::StateError>(())
        });
        let publisher = OutboxPublisher::new(state.clone(), link.clone(), self.outbox);
        carry.start("outbox", publisher.run(stop.clone()));
        let (snapshots, snapshots_link) = (self.snapshots, link.clone());
        let publish = async move { snapshots.publish(&snapshots_link, &host).await };
        carry.start("snapshots", until(stop.clone(), publish));
        let (presence, presence_link) = (self.presence, link.clone());
        let tell = async move { presence.tell(&presence_link).await };
        carry.start("presence", until(stop.clone(), tell));
        let events = liveness::events::run(link.status(), state);
        carry.start("link events", until(stop.clone(), events));
        let (counters, status) = (self.health.link_counters.clone(), link.status());
        let count = async move { counters.watch(status).await };
        carry.start("link counters", until(stop, count));

        let work = Work {
            link,
            logs: logs::StateSink::new(self.state, self.config.outbox.bytes_max.0, inventory),
            config: self.config,
            incoming: self.incoming,
            schedule: self.schedule,
            runner: self.runner,
            health: self.health,
            facts: self.facts,
        };
        (work.start(work_stop, hand_back), carry)
    }
}

/// What brings work, not yet running.
struct Work {
    logs: Arc<logs::StateSink>,
    config: Config,
    link: Link,
    incoming: mpsc::Receiver<Incoming>,
    schedule: Schedule,
    runner: Runner,
    health: Health,
    facts: watch::Sender<Arc<HostFacts>>,
}

impl Work {
    fn start(
        self,
        stop: &CancellationToken,
        hand_back: oneshot::Sender<mpsc::Receiver<Incoming>>,
    ) -> Supervisor {
        let mut work = Supervisor::new(stop.clone(), STOP_LIMIT - LAST_WORDS);
        let (deliver, deliveries) = mpsc::channel::<Delivery>(1);
        let liveness = Liveness {
            link: self.link,
            host: self.config.host,
            silence_max: liveness::SILENCE_MAX,
            probe_limit: liveness::PROBE_LIMIT,
        };
        let (mut incoming, intake_stop) = (self.incoming, stop.clone());
        work.start(
            "intake",
            done(async move {
                liveness.run(&mut incoming, deliver, intake_stop).await;
                // Handed back, because the link ends with it. A caller that is gone needs no link.
                _ = hand_back.send(incoming);
            }),
        );
        work.start("jobs", done(self.runner.run(deliveries, stop.clone())));
        let (schedule, facts, collect_stop) = (self.schedule, self.facts, stop.clone());
        work.start(
            "collectors",
            done(async move {
                schedule.run(collect_stop).await;
                drop(facts);
            }),
        );
        let (files, journals) = (self.config.tail, self.config.journals);
        let logs = logs::follow(files, journals, self.logs, stop.clone());
        work.start("logs", done(logs));
        if let Some(listen) = self.config.http.listen {
            let serve = http::serve(listen, self.config.http, self.health);
            work.start("http", until(stop.clone(), serve));
        }
        work
    }
}

fn plan(config: &Config) -> AgentPlan {
    let binding = |key: String| Binding {
        exchange: topology::JOBS.to_owned(),
        key,
    };
    AgentPlan {
        queue: QueueDecl {
            name: topology::agent_queue(&config.host),
            kind: QueueKind::Classic,
        },
        bindings: vec![
            binding(topology::ALL_KEY.to_owned()),
            binding(topology::host_key(&config.host)),
        ],
        prefetch: job::PREFETCH,
        exclusive: true,
        // Presence is not among them: it comes again.
        streams: &[topology::LEDGER, topology::HISTORY],
    }
}

fn runner(
    config: &Config,
    state: &State,
    link: &Link,
    facts: &watch::Receiver<Arc<HostFacts>>,
    collectors: &Collectors,
    counters: Arc<JobCounters>,
) -> (Runner, watch::Receiver<JobsStatus>) {
    let (desk, window) = action::desk();
    let context = ActionContext {
        facts: facts.clone(),
        snapshots: Arc::new(on_demand::OnDemand(collectors.clone())),
        desk,
        scripts: config.scripts.clone(),
        services: config.services.clone(),
        keepalived: Control::of(&config.roots, config.collect.get("keepalived")),
        logs: config.logs.clone(),
        lvs: Lvs::new(&config.roots.proc, &config.state_dir),
        run_dir: run_dir(config),
    };
    Runner::new(RunnerConfig {
        host: config.host.clone(),
        access: config.access.clone(),
        facts: facts.clone(),
        clock_tolerance: config.clock_tolerance,
        jobs: config.jobs,
        state: state.clone(),
        wire: Arc::new(Wire(link.clone())),
        actions: action::build_all(&context),
        window,
        clock: state::system_clock(),
        stop_grace: JOBS_GRACE,
        counters,
    })
}

/// Where the copies of scripts are while they run.
fn run_dir(config: &Config) -> PathBuf {
    config.state_dir.join("run")
}

/// Copies of scripts that an agent which was killed has left behind.
fn remove_copies(run_dir: &Path) {
    match std::fs::remove_dir_all(run_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %run_dir.display(), %error, "could not remove what earlier runs left behind");
        }
        _ => {}
    }
}

/// Runs `work` until `stop`: for tasks that hold nothing which has to be brought to an end.
async fn until<T>(
    stop: CancellationToken,
    work: impl Future<Output = T>,
) -> Result<(), std::convert::Infallible> {
    tokio::select! {
        _ = work => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}

/// A task that can't fail.
async fn done(work: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    work.await;
    Ok(())
}
