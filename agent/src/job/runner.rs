//! The owner task of all jobs: one loop over deliveries, ends, answers and questions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use muster_proto::envelope::{self, Kind};
use muster_proto::id::{HostId, JobId};
use muster_proto::job::{JobRequest, JobResult, Outcome, Reason, ReasonCode};
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::{self, End, Times};
use super::live;
use super::registry::{Live, Registry};
use super::replies::Replies;
use super::run_one::{STOP_LIMIT, StopWhy, Stopper, run_one};
use super::wait::{next_end, until};
use super::{ACK_AFTER, Access, Delivery, JobCounters, JobsSection, JobsStatus, ReplyWire};
use crate::action::{Built, Call, DeskWindow, HostFacts, Lane, OutputSink, Question};
use crate::state::{Clock, JobRecord, OutMessage, State};

/// Pieces of output of one job that wait to be made messages.
const PIECES_MAX: usize = 64;

/// Jobs in hand beyond those that wait and run, before no more deliveries are taken: pings and the like.
const DESK_JOBS_MAX: usize = 512;

/// Pause before the state file is asked again what earlier runs left behind.
const RECOVER_AGAIN: Duration = Duration::from_secs(5);

/// What the runner needs.
pub struct RunnerConfig {
    /// This host.
    pub host: HostId,
    /// Who may do what.
    pub access: Access,
    /// What targets are evaluated over.
    pub facts: watch::Receiver<Arc<HostFacts>>,
    /// How far clocks may be apart.
    pub clock_tolerance: Duration,
    /// Bounds.
    pub jobs: JobsSection,
    /// The state file.
    pub state: State,
    /// The way to the broker.
    pub wire: Arc<dyn ReplyWire>,
    /// Every action, from [`build_all`](crate::action::build_all).
    pub actions: Vec<Built>,
    /// The other side of the actions' desk.
    pub window: DeskWindow,
    /// The time.
    pub clock: Clock,
    /// How long jobs may go on running once the agent is to stop.
    pub stop_grace: Duration,
    /// Counts what happens.
    pub counters: Arc<JobCounters>,
}

/// What the runner waits for besides deliveries.
enum Event {
    Ended(Result<(task::Id, End), JoinError>),
    /// The broker has an answer; the job, if it was a verified one.
    Answered(Option<JobId>),
    Asked(Question),
}

/// The owner of all jobs.
pub struct Runner {
    pub(super) host: HostId,
    pub(super) access: Access,
    pub(super) facts: watch::Receiver<Arc<HostFacts>>,
    pub(super) clock_tolerance: Duration,
    pub(super) state: State,
    pub(super) actions: HashMap<&'static str, Built>,
    pub(super) clock: Clock,
    pub(super) counters: Arc<JobCounters>,
    pub(super) registry: Registry,
    pub(super) replies: Replies,
    /// Garbage since the last event about it, and when that was.
    pub(super) garbage: (u64, Option<Instant>),
    window: DeskWindow,
    stop_grace: Duration,
    running: JoinSet<End>,
    tasks: HashMap<task::Id, JobId>,
    acks: VecDeque<(Instant, JobId)>,
    live: mpsc::Sender<OutMessage>,
    pump: JoinSet<()>,
    status: watch::Sender<JobsStatus>,
    pub(super) last_job: Option<JobId>,
    recovered: bool,
}

impl Runner {
    /// A runner. To be made on the runtime, since it starts the task that sends acks and output.
    #[must_use]
    pub fn new(config: RunnerConfig) -> (Self, watch::Receiver<JobsStatus>) {
        let (live, live_messages) = mpsc::channel(live::MESSAGES_MAX);
        let mut pump = JoinSet::new();
        pump.spawn(live::send(config.wire.clone(), live_messages));
        let (status, status_receiver) = watch::channel(JobsStatus::default());
        let runner = Self {
            host: config.host,
            access: config.access,
            facts: config.facts,
            clock_tolerance: config.clock_tolerance,
            state: config.state,
            actions: config
                .actions
                .into_iter()
                .map(|built| (built.spec.name, built))
                .collect(),
            clock: config.clock,
            replies: Replies::new(config.wire, config.counters.clone()),
            counters: config.counters,
            registry: Registry::new(config.jobs.concurrency, config.jobs.queue_max),
            garbage: (0, None),
            window: config.window,
            stop_grace: config.stop_grace,
            running: JoinSet::new(),
            tasks: HashMap::new(),
            acks: VecDeque::new(),
            live,
            pump,
            status,
            last_job: None,
            recovered: false,
        };
        (runner, status_receiver)
    }

    /// Carries jobs out until `stop`, then ends in good order: nothing new is taken, what runs has the grace, then is
    /// ended and answered; what waits stays recorded, or unacknowledged on the broker, for the next run.
    pub async fn run(mut self, mut deliveries: mpsc::Receiver<Delivery>, stop: CancellationToken) {
        let mut recover_at = Instant::now();
        loop {
            let take = self.has_room();
            let ack_at = self.acks.front().map(|(at, _)| *at);
            let acknowledge_at = self.replies.acknowledge_at();
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(recover_at), if !self.recovered => {
                    self.recover().await;
                    recover_at = Instant::now() + RECOVER_AGAIN;
                }
                delivery = deliveries.recv(), if take => match delivery {
                    Some(delivery) => self.take(delivery).await,
                    None => break,
                },
                event = self.event() => self.handle(event).await,
                () = until(ack_at) => self.tell_waiting(),
                () = until(acknowledge_at) => self.replies.acknowledge(),
            }
            self.start_waiting().await;
            self.publish_status();
        }
        self.wind_down().await;
    }

    /// Waits for an end, an answer or a question. Only waits: what it gives is gone from where it was, so it must be
    /// handled where nothing can cut that off.
    async fn event(&mut self) -> Event {
        tokio::select! {
            ended = next_end(&mut self.running) => Event::Ended(ended),
            answered = self.replies.done() => Event::Answered(answered),
            Some(question) = self.window.0.recv() => Event::Asked(question),
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Ended(ended) => self.ended(ended).await,
            Event::Answered(None) => {}
            Event::Answered(Some(job)) => self.registry.answered.insert(job),
            Event::Asked(question) => self.answer_question(question).await,
        }
    }

    fn has_room(&self) -> bool {
        let jobs_max = self.registry.places + self.registry.queue_max + DESK_JOBS_MAX;
        self.replies.has_room() && self.registry.jobs.len() < jobs_max
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    async fn recover(&mut self) {
        let recovered = match self.state.recover().await {
            Ok(recovered) => recovered,
            Err(error) => {
                tracing::warn!(%error, "could not settle the jobs of the agent's last run, trying again");
                return;
            }
        };
        self.recovered = true;
        if recovered.interrupted + recovered.expired + recovered.resume.len() > 0 {
            tracing::info!(
                interrupted = recovered.interrupted,
                expired = recovered.expired,
                resumed = recovered.resume.len(),
                "settled the jobs of the agent's last run"
            );
        }
        for (job, record) in recovered.resume {
            self.resume(job, &record).await;
        }
    }

    async fn resume(&mut self, job: JobId, record: &JobRecord) {
        let body = record.request.as_deref().unwrap_or_default();
        let request = envelope::decode::<JobRequest>(Kind::Job.wire_name(), body).ok();
        let built = self.actions.get(record.action.as_str());
        let (Some(request), Some(built)) = (request, built) else {
            let reason = Reason::new(
                ReasonCode::AgentDied,
                "the agent ended before it ran, and this version can't run it",
            );
            let times = Times {
                received_at_ms: record.received_at_ms,
                started_at_ms: None,
                finished_at_ms: self.now_ms(),
            };
            self.commit(
                job,
                End::of(Outcome::Interrupted, reason),
                times,
                record.dry_run,
            )
            .await;
            return;
        };
        let live = Live {
            spec: built.spec,
            action: built.action.clone(),
            lane: Lane::Work,
            received_at_ms: record.received_at_ms,
            started_at_ms: None,
            start_recorded: false,
            told_waiting: false,
            stopper: Stopper::default(),
            slot: None,
            request,
        };
        self.registry.jobs.insert(job, live);
        self.registry.queue.push_back(job);
        self.tell_later(job);
    }

    /// Starts what waits, as far as there are places.
    async fn start_waiting(&mut self) {
        while let Some(job) = self.registry.next_in_queue() {
            self.start(job).await;
        }
    }

    /// Starts a job that is in the registry.
    pub(super) async fn start(&mut self, job: JobId) {
        let now_ms = self.now_ms();
        let Some(live) = self.registry.jobs.get(&job) else {
            return;
        };
        if live.is_change()
            && !live.start_recorded
            && let Err(error) = self.state.start_job(job, now_ms).await
        {
            let reason = Reason::new(
                ReasonCode::NotRecorded,
                format!("it was not started: {error}"),
            );
            self.finish(job, End::of(Outcome::Rejected, reason)).await;
            return;
        }
        let Some(live) = self.registry.jobs.get_mut(&job) else {
            return;
        };
        live.started_at_ms = Some(now_ms);
        if live.lane == Lane::Work {
            self.registry.working += 1;
        }
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let call = Call {
            job,
            issuer: live.request.issuer.clone(),
            args: live.request.args.clone(),
            dry_run: live.request.dry_run,
            run_limit: Duration::from_millis(live.request.run_limit_ms),
            stop: live.stopper.token(),
            output: OutputSink::new(sender),
        };
        let told_waiting = live.told_waiting;
        let run = run_one(live.action.clone(), call, live.stopper.clone());
        let forward = live::forward(
            pieces,
            self.live.clone(),
            job,
            self.host.clone(),
            self.clock.clone(),
        );
        let task = self.running.spawn(async move {
            // The sink is dropped with the call, so that the forwarding ends after the action.
            let (end, ()) = tokio::join!(run, forward);
            end
        });
        self.tasks.insert(task.id(), job);
        if told_waiting {
            self.tell(job, true);
        }
    }

    async fn ended(&mut self, ended: Result<(task::Id, End), JoinError>) {
        let (task, end) = match ended {
            Ok((task, end)) => (task, end),
            Err(error) => {
                JobCounters::count(&self.counters.panicked);
                let reason = Reason::new(
                    ReasonCode::ActionFailed,
                    "the action panicked; this is a bug, the agent's log has more",
                );
                (error.id(), End::of(Outcome::Failed, reason))
            }
        };
        let Some(job) = self.tasks.remove(&task) else {
            return;
        };
        if self
            .registry
            .jobs
            .get(&job)
            .is_some_and(|live| live.lane == Lane::Work)
        {
            self.registry.working = self.registry.working.saturating_sub(1);
        }
        self.finish(job, end).await;
    }

    /// Answers a job that is in the registry, and takes it out.
    pub(super) async fn finish(&mut self, job: JobId, end: End) {
        let Some(live) = self.registry.withdraw(job) else {
            return;
        };
        let counter = if end.outcome == Outcome::Succeeded {
            &self.counters.succeeded
        } else {
            &self.counters.failed
        };
        JobCounters::count(counter);
        let times = Times {
            received_at_ms: live.received_at_ms,
            started_at_ms: live.started_at_ms,
            finished_at_ms: self.now_ms(),
        };
        let dry_run = live.request.dry_run;
        match live.slot {
            None => self.commit(job, end, times, dry_run).await,
            Some(slot) => {
                let result = answer::result(job, &self.host, end, times, dry_run);
                if let Some(message) = answer::message(&result) {
                    self.replies.send(Some(job), message, slot);
                }
            }
        }
    }

    /// Records a job's end with its result.
    pub(super) async fn commit(&mut self, job: JobId, end: End, times: Times, dry_run: bool) {
        let result: JobResult = answer::result(job, &self.host, end, times, dry_run);
        if let Err(error) = self.state.finish_job(result).await {
            tracing::error!(%job, %error, "could not record a job's end; it will be answered as interrupted");
        }
    }

    /// Tells controllers of jobs that have not been done within a moment.
    fn tell_waiting(&mut self) {
        while let Some((at, job)) = self.acks.front().copied() {
            if at > Instant::now() {
                return;
            }
            self.acks.pop_front();
            let Some(live) = self.registry.jobs.get_mut(&job) else {
                continue;
            };
            let running = live.started_at_ms.is_some();
            live.told_waiting = !running;
            self.tell(job, running);
        }
    }

    /// Has the job's controller told of it, if it is not done within a moment.
    pub(super) fn tell_later(&mut self, job: JobId) {
        self.acks.push_back((Instant::now() + ACK_AFTER, job));
    }

    fn tell(&self, job: JobId, running: bool) {
        live::tell(&self.live, &self.host, job, running, self.now_ms());
    }

    fn publish_status(&self) {
        let open = u32::try_from(self.registry.jobs.len()).unwrap_or(u32::MAX);
        let status = JobsStatus {
            open,
            last_job: self.last_job,
        };
        self.status
            .send_if_modified(|old| std::mem::replace(old, status) != status);
    }

    async fn wind_down(&mut self) {
        let grace_over = Instant::now() + self.stop_grace;
        let end_by = grace_over + STOP_LIMIT + Duration::from_secs(1);
        self.registry.queue.clear();
        let mut told = false;
        while !self.running.is_empty() || !self.replies.is_empty() {
            tokio::select! {
                event = self.event() => self.handle(event).await,
                () = tokio::time::sleep_until(grace_over), if !told => {
                    told = true;
                    self.registry.jobs.values().for_each(|live| live.stopper.stop(StopWhy::AgentStop));
                }
                () = tokio::time::sleep_until(end_by) => break,
            }
            // Answers that the broker does not take now are given again after the next start.
            if told && self.running.is_empty() {
                break;
            }
        }
        self.replies.acknowledge();
        self.running.abort_all();
        let left: Vec<JobId> = self.tasks.drain().map(|(_, job)| job).collect();
        for job in left {
            let reason = Reason::new(
                ReasonCode::AgentStopped,
                "the agent was stopped and the action did not end in time",
            );
            self.finish(job, End::of(Outcome::Interrupted, reason))
                .await;
        }
        self.pump.abort_all();
        self.publish_status();
    }
}
