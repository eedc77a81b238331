//! The whole way of a job on a host, against a real state file; only the broker is in memory.

mod around;
mod ends;
mod intake;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_proto::envelope::{self, Kind};
use muster_proto::id::MessageId;
use muster_proto::job::{JobRequest, JobResult, Outcome, ReasonCode};
use muster_proto::signing::JobSigner;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use around::{Broker, Log, Steered, Tag};

use super::*;
use crate::action::{self, Action, Built, HostFacts, Lane};
use crate::state::{OutboxRecord, OutboxSection, State, StateConfig, StateOwner, system_clock};

/// What happened, in order, as short words.
/// An agent's jobs, with everything around them.
struct Rig {
    dir: PathBuf,
    log: Log,
    broker: Broker,
    gate: watch::Sender<bool>,
    state: State,
    owner: StateOwner,
    deliveries: mpsc::Sender<Delivery>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    counters: Arc<JobCounters>,
}

const SECTION: JobsSection = JobsSection {
    concurrency: 2,
    queue_max: 2,
};

fn rig(dir: &Path) -> Rig {
    rig_with(dir, SECTION)
}

fn rig_with(dir: &Path, jobs: JobsSection) -> Rig {
    let log = Log::default();
    let broker = Broker {
        log: log.clone(),
        up: watch::Sender::new(true),
        deaf: Arc::default(),
        stuck: Arc::default(),
        messages: Arc::default(),
    };
    start_with(dir, log, broker, jobs)
}

fn access() -> Access {
    let key = KeySection {
        id: "ops".into(),
        public_key: signer().public().to_string(),
        not_before: None,
        not_after: None,
    };
    let policy = PolicySection {
        key: "ops".into(),
        actions: vec!["*".into()],
        args: BTreeMap::new(),
    };
    Access::parse(&[key], &[policy]).unwrap()
}

fn facts() -> HostFacts {
    HostFacts {
        host: "h1".parse().unwrap(),
        labels: BTreeMap::new(),
        facts: BTreeMap::new(),
        version: String::new(),
    }
}

fn start(dir: &Path, log: Log, broker: Broker) -> Rig {
    start_with(dir, log, broker, SECTION)
}

fn start_with(dir: &Path, log: Log, broker: Broker, jobs: JobsSection) -> Rig {
    let config = StateConfig::new(
        dir.to_owned(),
        "h1".parse().unwrap(),
        &OutboxSection::default(),
    );
    let (state, owner) = State::open(config).unwrap();
    let gate = watch::Sender::new(false);
    let (desk, window) = action::desk();
    let steered: Arc<dyn Action> = Arc::new(Steered {
        log: log.clone(),
        state: state.clone(),
        gate: gate.clone(),
    });
    let built = |name, lane, action| Built {
        spec: muster_proto::action::find(name).unwrap(),
        lane,
        action,
    };
    let mut actions: Vec<Built> = ["service.restart", "service.status"]
        .map(|name| built(name, Lane::Work, steered.clone()))
        .into();
    actions.extend(
        action::desk_actions(&desk)
            .into_iter()
            .map(|(name, action)| built(name, Lane::Desk, action)),
    );
    let counters = Arc::new(JobCounters::default());
    let (runner, _status) = Runner::new(RunnerConfig {
        host: "h1".parse().unwrap(),
        access: access(),
        facts: watch::Sender::new(Arc::new(facts())).subscribe(),
        clock_tolerance: Duration::ZERO,
        jobs,
        state: state.clone(),
        wire: Arc::new(broker.clone()),
        actions,
        window,
        clock: system_clock(),
        stop_grace: Duration::from_millis(200),
        counters: counters.clone(),
    });
    let (deliveries, receiver) = mpsc::channel(1000);
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(runner.run(receiver, stop.clone()));
    #[expect(clippy::disallowed_methods, reason = "the test holds the handle")]
    let task = tokio::spawn(async move { drop(tasks.join_next().await) });
    Rig {
        dir: dir.to_owned(),
        log,
        broker,
        gate,
        state,
        owner,
        deliveries,
        stop,
        task,
        counters,
    }
}

fn signer() -> JobSigner {
    JobSigner::from_seed(&[1; 32])
}

fn now_ms() -> u64 {
    system_clock()()
}

fn job_id(number: u8) -> JobId {
    JobId::from_parts(1_780_000_000_000, [number; 10])
}

fn request(number: u8, action: &str, what: &str) -> JobRequest {
    let arg = if action.starts_with("job.") {
        "job"
    } else {
        "unit"
    };
    JobRequest {
        id: job_id(number),
        issuer: "ann".parse().unwrap(),
        key_id: "ops".parse().unwrap(),
        target: "*".to_owned(),
        action: action.to_owned(),
        args: if action == "ping" {
            BTreeMap::new()
        } else {
            BTreeMap::from([(arg.to_owned(), json!(what))])
        },
        issued_at_ms: now_ms(),
        deliver_by_ms: now_ms() + 60_000,
        run_limit_ms: 30_000,
        dry_run: false,
        cause: None,
    }
}

fn change(number: u8, what: &str) -> JobRequest {
    request(number, "service.restart", what)
}

fn read(number: u8, what: &str) -> JobRequest {
    request(number, "service.status", what)
}

impl Rig {
    async fn deliver(&self, request: &JobRequest, tag: &str) {
        let body = envelope::encode(request).unwrap();
        let signature = signer().sign(&body).to_string();
        self.deliver_raw(body, Some(signature), tag).await;
    }

    async fn deliver_raw(&self, body: Vec<u8>, signature: Option<String>, tag: &str) {
        self.deliver_with(body, signature, tag, false).await;
    }

    /// As one that the broker forgets when it goes.
    async fn deliver_transient(&self, request: &JobRequest, tag: &str) {
        let body = envelope::encode(request).unwrap();
        let signature = signer().sign(&body).to_string();
        self.deliver_with(body, Some(signature), tag, true).await;
    }

    async fn deliver_with(
        &self,
        body: Vec<u8>,
        signature: Option<String>,
        tag: &str,
        transient: bool,
    ) {
        let delivery = Delivery {
            kind: Kind::Job.wire_name().to_owned(),
            body,
            key_id: Some("ops".to_owned()),
            signature,
            transient,
            direct: transient,
            acker: Arc::new(Tag(self.log.clone(), tag.to_owned())),
        };
        assert!(
            self.deliveries.send(delivery).await.is_ok(),
            "the runner takes deliveries"
        );
    }

    /// Waits until `what` was said `count` times.
    async fn until(&self, what: &str, count: usize) {
        eventually(
            what,
            || self.log.count(what) >= count,
            || format!("{:?}", self.log.all()),
        )
        .await;
    }

    async fn outbox(&self) -> Vec<OutboxRecord> {
        self.state
            .next_outbox(crate::state::Lane::Replies, 0, 10_000_000)
            .await
            .unwrap()
    }

    /// Results in the outbox.
    async fn stored(&self) -> Vec<JobResult> {
        let records = self.outbox().await;
        records
            .iter()
            .map(|record| {
                envelope::decode(record.message.kind.wire_name(), &record.message.body).unwrap()
            })
            .collect()
    }

    async fn stored_of(&self, number: u8) -> JobResult {
        for _ in 0..600 {
            if let Some(result) = self
                .stored()
                .await
                .into_iter()
                .find(|result| result.job == job_id(number))
            {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("job {number} has no result; {:?}", self.log.all());
    }

    async fn result_of(&self, number: u8) -> JobResult {
        let of = || {
            self.broker
                .results()
                .into_iter()
                .find(|result| result.job == job_id(number))
        };
        eventually(
            "a result",
            || of().is_some(),
            || format!("{:?}", self.log.all()),
        )
        .await;
        of().unwrap()
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters
            .all()
            .into_iter()
            .find(|(one, _)| *one == name)
            .unwrap()
            .1
    }

    /// Stops in good order.
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        self.owner.close().await;
    }

    /// Dies without a word, and starts anew on the same directory with the same broker.
    async fn die_and_return(self) -> Self {
        self.task.abort();
        let _ = self.task.await;
        self.owner.close().await;
        start(&self.dir, self.log, self.broker)
    }
}

async fn eventually(what: &str, done: impl Fn() -> bool, status: impl Fn() -> String) {
    for _ in 0..1500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: {}", status());
}
