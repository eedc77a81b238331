//! The one thread that holds the state file: takes requests, commits those that came together as one, and goes on from
//! memory while the file can't be written.

use std::fs::File;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster_proto::event::Severity;
use muster_proto::presence::OutboxDepth;
use tokio::sync::{mpsc, watch};

use super::held::{Held, Write};
use super::open::{self, Fault, OpenError};
use super::record::{NewEvent, OutboxKey};
use super::request::{Group, Read, Request, Waiting, tell};
use super::store::{Applied, Op, Store};
use super::{StateConfig, StateError, StateStatus};

/// Requests that are committed together at the most.
const GROUP_MAX: usize = 256;

/// How long confirmed messages may wait to be deleted, so that a busy publisher does not cost a commit each.
const DELETE_WITHIN: Duration = Duration::from_millis(500);

/// Confirmed messages that may wait to be deleted.
const DELETES_MAX: usize = 1000;

/// Pause before a file that can't be written is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Time between two looks for what is too old.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The running owner thread. To be closed last, when nobody has anything to store any more.
pub struct StateOwner {
    thread: JoinHandle<()>,
    requests: mpsc::Sender<Request>,
}

impl StateOwner {
    /// Commits what is under way, closes the file and ends the thread.
    pub async fn close(self) {
        // An owner that is gone has nothing to close.
        let _ = self.requests.send(Request::Close).await;
        self.requests.closed().await;
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the state file's thread ended with a panic");
        }
    }
}

/// Opens the file and starts the thread.
pub(super) fn start(
    config: StateConfig,
    requests: (mpsc::Sender<Request>, mpsc::Receiver<Request>),
    status: watch::Sender<StateStatus>,
) -> Result<StateOwner, OpenError> {
    let (sender, mut receiver) = requests;
    let lock = open::lock(&config.dir)?;
    let mut owner = Owner::new(config, lock, status);
    owner.open_first()?;
    let denied = |why: std::io::Error, owner: &StateConfig| OpenError::Denied {
        what: "start the thread of",
        path: owner.dir.join(open::FILE),
        why: why.to_string(),
    };
    let config = owner.config.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|why| denied(why, &config))?;
    let thread = std::thread::Builder::new()
        .name("state".to_owned())
        .spawn(move || runtime.block_on(owner.run(&mut receiver)))
        .map_err(|why| denied(why, &config))?;
    Ok(StateOwner {
        thread,
        requests: sender,
    })
}

struct Owner {
    config: StateConfig,
    _lock: File,
    store: Option<Store>,
    /// Whether this run of the agent is counted in the file.
    run_counted: bool,
    held: Held,
    deletes: Vec<OutboxKey>,
    delete_at: Option<Instant>,
    retry_at: Instant,
    sweep_at: Instant,
    unwritable: Option<String>,
    write_failures: u64,
    damaged: u64,
    status: watch::Sender<StateStatus>,
}

impl Owner {
    fn new(config: StateConfig, lock: File, status: watch::Sender<StateStatus>) -> Self {
        let now = Instant::now();
        Self {
            config,
            _lock: lock,
            store: None,
            run_counted: false,
            held: Held::default(),
            deletes: Vec::new(),
            delete_at: None,
            retry_at: now,
            sweep_at: now,
            unwritable: None,
            write_failures: 0,
            damaged: 0,
            status,
        }
    }

    async fn run(mut self, requests: &mut mpsc::Receiver<Request>) {
        loop {
            let first = tokio::time::timeout(self.idle_for(), requests.recv()).await;
            let mut group = match first {
                Ok(None) => break,
                Ok(Some(request)) => vec![request],
                Err(_) => Vec::new(),
            };
            while group.len() < GROUP_MAX
                && let Ok(request) = requests.try_recv()
            {
                group.push(request);
            }
            if self.serve(group) {
                // What was sent before the end is still done.
                requests.close();
                let mut rest = Vec::new();
                while let Ok(request) = requests.try_recv() {
                    rest.push(request);
                }
                self.serve(rest);
                break;
            }
        }
        self.delete_at = Some(Instant::now());
        self.serve(Vec::new());
        if !self.held.is_empty() {
            tracing::error!(
                held = self.held.len(),
                "the state file could not be written until the end: this much is lost"
            );
        }
    }

    fn idle_for(&self) -> Duration {
        let now = Instant::now();
        let mut until = self.sweep_at;
        if let Some(at) = self.delete_at {
            until = until.min(at);
        }
        if self.store.is_none() || !self.held.is_empty() {
            until = until.min(self.retry_at);
        }
        until.saturating_duration_since(now)
    }

    /// Serves a group of requests; `true` where one of them is to close.
    fn serve(&mut self, requests: Vec<Request>) -> bool {
        let group = Group::of(requests);
        if !group.confirmed.is_empty() {
            self.deletes.extend(group.confirmed);
            self.delete_at
                .get_or_insert_with(|| Instant::now() + DELETE_WITHIN);
        }
        self.write(group.ops, group.waiting);
        group.reads.into_iter().for_each(|read| self.read(read));
        self.publish_status();
        group.close
    }

    fn write(&mut self, asked: Vec<Op>, waiting: Vec<Waiting>) {
        let now = Instant::now();
        let now_ms = (self.config.clock)();
        let retry = (self.store.is_none() || !self.held.is_empty()) && now >= self.retry_at;
        let delete = self.delete_at.is_some_and(|at| now >= at) || self.deletes.len() > DELETES_MAX;
        let sweep = now >= self.sweep_at;
        if asked.is_empty() && !retry && !delete && !sweep {
            return;
        }
        if sweep {
            self.sweep_at = now + SWEEP_EVERY;
        }
        if self.store.is_none() && now >= self.retry_at {
            self.reopen(now_ms);
        }
        let mut ops = self.held.ops();
        let before = ops.len();
        let wanted = asked.len();
        ops.extend(asked);
        if !self.deletes.is_empty() {
            ops.push(Op::Delete(self.deletes.clone()));
        }
        match self.apply(ops, sweep, now_ms) {
            Ok(applied) => {
                self.held = Held::default();
                self.deletes.clear();
                self.delete_at = None;
                self.unwritable = None;
                let applied = applied.into_iter().skip(before).take(wanted);
                waiting
                    .into_iter()
                    .zip(applied)
                    .for_each(|(waiting, applied)| tell(waiting, applied));
            }
            Err(why) => {
                self.delete_at = self.delete_at.map(|_| now + RETRY_AFTER);
                for waiting in waiting {
                    self.put_off(waiting, &why, now_ms);
                }
            }
        }
    }

    fn apply(
        &mut self,
        mut ops: Vec<Op>,
        sweep: bool,
        now_ms: u64,
    ) -> Result<Vec<Applied>, String> {
        let Some(store) = &mut self.store else {
            return Err(self.unwritable.clone().unwrap_or_default());
        };
        let done = open::contained(|| {
            if sweep && store.needs_sweep(now_ms)? {
                ops.push(Op::Sweep);
            }
            if ops.is_empty() {
                Ok(Vec::new())
            } else {
                store.apply(&ops, now_ms)
            }
        });
        done.map_err(|fault| self.failed(&fault))
    }

    /// Takes note of a failure: the file is opened anew before it is used again, since redb does not go on after one.
    fn failed(&mut self, fault: &Fault) -> String {
        let why = fault.why();
        if self.unwritable.is_none() {
            tracing::error!(
                why,
                "could not use the state file; going on from memory and trying again"
            );
        }
        self.write_failures += 1;
        self.unwritable = Some(why.clone());
        self.retry_at = Instant::now() + RETRY_AFTER;
        let store = self.store.take();
        // Closing a database that has just failed may fail, too; there is nothing left to save in it.
        let _ = open::contained(|| {
            drop(store);
            Ok(())
        });
        why
    }

    /// The answer to a write that was not done; what may be held is held.
    fn put_off(&mut self, waiting: Waiting, why: &str, now_ms: u64) {
        let unusable = || StateError::Unusable {
            path: self.config.dir.join(open::FILE),
            why: why.to_owned(),
        };
        // Askers that are gone need no answer.
        match waiting {
            Waiting::Write(write, answer) => {
                self.held.take(write, now_ms);
                let _ = answer.send(Ok(()));
            }
            Waiting::Begun(answer) => drop(answer.send(Err(unusable()))),
            Waiting::Done(answer) => drop(answer.send(Err(unusable()))),
            Waiting::Flag(answer) => drop(answer.send(Err(unusable()))),
            Waiting::Recovered(answer) => drop(answer.send(Err(unusable()))),
        }
    }

    fn read(&mut self, read: Read) {
        match read {
            Read::Job(job, answer) => {
                let got = self.look(|store| store.job(job));
                let _ = answer.send(got);
            }
            Read::Tail(writer, answer) => {
                let got = self.look(|store| store.tail(&writer));
                let _ = answer.send(got);
            }
            Read::Next {
                lane,
                after,
                bytes_max,
                answer,
            } => {
                let got = self.look(|store| store.next(lane, after, bytes_max));
                let _ = answer.send(got);
            }
        }
    }

    fn look<T>(&mut self, look: impl FnOnce(&Store) -> Result<T, Fault>) -> Result<T, StateError> {
        let got = match &self.store {
            Some(store) => open::contained(|| look(store)).map_err(|fault| self.failed(&fault)),
            None => Err(self.unwritable.clone().unwrap_or_default()),
        };
        got.map_err(|why| StateError::Unusable {
            path: self.config.dir.join(open::FILE),
            why,
        })
    }

    /// The opening at the agent's start: what will not pass is an error here.
    fn open_first(&mut self) -> Result<(), OpenError> {
        let path = self.config.dir.join(open::FILE);
        let now_ms = (self.config.clock)();
        match self.open(now_ms) {
            Ok(()) => {}
            Err(Fault::InUse) => return Err(OpenError::InUse { path }),
            Err(Fault::Denied(why) | Fault::Damaged(why)) => {
                return Err(OpenError::Denied {
                    what: "open",
                    path,
                    why,
                });
            }
            Err(fault @ Fault::Passing(_)) => {
                self.failed(&fault);
            }
        }
        self.publish_status();
        Ok(())
    }

    fn reopen(&mut self, now_ms: u64) {
        match self.open(now_ms) {
            Ok(()) => tracing::info!("the state file can be used again"),
            Err(fault) => {
                self.failed(&fault);
            }
        }
    }

    fn open(&mut self, now_ms: u64) -> Result<(), Fault> {
        let path = self.config.dir.join(open::FILE);
        let why = match self.open_once(&path) {
            Err(Fault::Damaged(why)) => why,
            other => return other,
        };
        self.damaged += 1;
        let aside = open::set_aside(&path, now_ms).map_err(|error| {
            Fault::Denied(format!(
                "it is damaged ({why}), and to set it aside: {error}"
            ))
        })?;
        tracing::error!(why, aside = %aside.display(), "the state file was damaged: set it aside and began a new one");
        let summary = format!(
            "the state file was damaged and set aside as {}: {why}",
            aside.display()
        );
        let event = NewEvent::new("agent.state.damaged", now_ms, Severity::Error, summary)
            .field("set_aside_as", aside.display().to_string());
        self.held.take(Write::Events(vec![event]), now_ms);
        self.held.jobs_lost_at_ms = Some(now_ms);
        self.open_once(&path)
    }

    fn open_once(&mut self, path: &std::path::Path) -> Result<(), Fault> {
        let database = open::database(path)?;
        let new_run = !self.run_counted;
        self.store = Some(open::contained(|| {
            Store::new(database, &self.config, new_run)
        })?);
        self.run_counted = true;
        Ok(())
    }

    fn publish_status(&self) {
        let old = self.status.borrow().clone();
        let (depth, newest_seq) = match &self.store {
            Some(store) => {
                let counters = &store.counters;
                let depth = OutboxDepth {
                    records: counters.records,
                    bytes: counters.bytes,
                    dropped: counters.dropped,
                };
                (depth, counters.outbox_seq)
            }
            None => (old.depth, old.newest_seq),
        };
        let status = StateStatus {
            depth,
            newest_seq,
            unwritable: self.unwritable.clone(),
            held: self.held.len(),
            write_failures: self.write_failures,
            damaged: self.damaged,
        };
        if status != old {
            self.status.send_replace(status);
        }
    }
}
