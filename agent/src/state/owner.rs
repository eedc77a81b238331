//! The one thread that holds the state file: takes requests, commits those that came together as one, and goes on from
//! memory while the file can't be written.

use std::collections::VecDeque;
use std::fs::File;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster_proto::event::Severity;
use muster_proto::id::JobId;
use muster_proto::job::JobResult;
use muster_proto::presence::OutboxDepth;
use tokio::sync::{mpsc, oneshot, watch};

use super::bounds::Gap;
use super::open::{self, Fault, OpenError};
use super::record::{Begun, Class, JobRecord, Lane, NewEvent, NewJob, OutboxKey, OutboxRecord, Recovered};
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

/// Events that are held in memory while the file can't be written: about 1 MiB of usual ones.
const HELD_EVENTS_MAX: usize = 2000;

/// Their estimated bytes: a small part of what an agent may cost.
const HELD_BYTES_MAX: u64 = 4 * 1024 * 1024;

type Answer<T> = oneshot::Sender<Result<T, StateError>>;

/// What is taken over even while the file can't be written.
pub(super) enum Write {
    Events(Vec<NewEvent>),
    Finish(Box<JobResult>),
}

/// A request to the owner.
pub(super) enum Request {
    Write(Write, Answer<()>),
    Begin(Box<NewJob>, Answer<Begun>),
    Start(JobId, u64, Answer<()>),
    CancelAhead(JobId, Answer<bool>),
    Recover(Answer<Recovered>),
    Job(JobId, Answer<Option<JobRecord>>),
    Next { lane: Lane, after: u64, bytes_max: usize, answer: Answer<Vec<OutboxRecord>> },
    Confirm(Vec<OutboxKey>),
    Close,
}

/// Whom to tell what became of a write.
enum Waiting {
    Write(Write, Answer<()>),
    Begun(Answer<Begun>),
    Done(Answer<()>),
    Flag(Answer<bool>),
    Recovered(Answer<Recovered>),
}

/// A read, done after the writes that came with it.
enum Read {
    Job(JobId, Answer<Option<JobRecord>>),
    Next { lane: Lane, after: u64, bytes_max: usize, answer: Answer<Vec<OutboxRecord>> },
}

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|why| denied(why, &config))?;
    let thread = std::thread::Builder::new()
        .name("state".to_owned())
        .spawn(move || runtime.block_on(owner.run(&mut receiver)))
        .map_err(|why| denied(why, &config))?;
    Ok(StateOwner { thread, requests: sender })
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

/// What waits in memory to be written.
#[derive(Default)]
struct Held {
    events: VecDeque<(NewEvent, u64)>,
    events_bytes: u64,
    finished: Vec<Box<JobResult>>,
    gap: Gap,
    /// When the file was found damaged, until the new one knows.
    jobs_lost_at_ms: Option<u64>,
}

impl Held {
    fn len(&self) -> u64 {
        (self.events.len() + self.finished.len()) as u64
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.finished.is_empty() && self.gap.records == 0 && self.jobs_lost_at_ms.is_none()
    }

    fn take(&mut self, write: Write, now_ms: u64) {
        match write {
            Write::Finish(result) => self.finished.push(result),
            Write::Events(events) => {
                for event in events {
                    let bytes = estimated_bytes(&event);
                    self.events_bytes += bytes;
                    self.events.push_back((event, bytes));
                }
                while self.events.len() > HELD_EVENTS_MAX || self.events_bytes > HELD_BYTES_MAX {
                    self.drop_one(now_ms);
                }
            }
        }
    }

    /// Drops the oldest of the least important.
    fn drop_one(&mut self, now_ms: u64) {
        let least = self.events.iter().enumerate().min_by_key(|(index, (event, _))| (event.severity, *index));
        let Some(index) = least.map(|(index, _)| index) else { return };
        if let Some((event, bytes)) = self.events.remove(index) {
            self.events_bytes -= bytes;
            self.gap.add(Class::of(event.severity), bytes, event.at_ms.min(now_ms), false);
        }
    }

    fn ops(&self) -> Vec<Op> {
        // Before anything else: no job may be begun in a new file that does not know this.
        let mut ops: Vec<Op> = self.jobs_lost_at_ms.map(Op::JobsLost).into_iter().collect();
        ops.extend(self.finished.iter().cloned().map(Op::Finish));
        if !self.events.is_empty() {
            ops.push(Op::Events(self.events.iter().map(|(event, _)| event.clone()).collect()));
        }
        if self.gap.records > 0 {
            ops.push(Op::Dropped(self.gap.clone()));
        }
        ops
    }
}

fn estimated_bytes(event: &NewEvent) -> u64 {
    let values = [&event.before, &event.after].into_iter().chain(event.fields.values());
    let values: usize = values.map(|value| value.to_string().len()).sum();
    (200 + event.topic.len() + event.summary.len() + event.key.len() + values) as u64
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
            tracing::error!(held = self.held.len(), "the state file could not be written until the end: this much is lost");
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
    fn serve(&mut self, group: Vec<Request>) -> bool {
        let (mut ops, mut waiting, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        let mut close = false;
        for request in group {
            match request {
                Request::Write(write, answer) => {
                    ops.push(match &write {
                        Write::Events(events) => Op::Events(events.clone()),
                        Write::Finish(result) => Op::Finish(result.clone()),
                    });
                    waiting.push(Waiting::Write(write, answer));
                }
                Request::Begin(job, answer) => {
                    ops.push(Op::Begin(job));
                    waiting.push(Waiting::Begun(answer));
                }
                Request::Start(job, at_ms, answer) => {
                    ops.push(Op::Start(job, at_ms));
                    waiting.push(Waiting::Done(answer));
                }
                Request::CancelAhead(job, answer) => {
                    ops.push(Op::CancelAhead(job));
                    waiting.push(Waiting::Flag(answer));
                }
                Request::Recover(answer) => {
                    ops.push(Op::Recover);
                    waiting.push(Waiting::Recovered(answer));
                }
                Request::Job(job, answer) => reads.push(Read::Job(job, answer)),
                Request::Next { lane, after, bytes_max, answer } => reads.push(Read::Next { lane, after, bytes_max, answer }),
                Request::Confirm(keys) => {
                    self.deletes.extend(keys);
                    self.delete_at.get_or_insert_with(|| Instant::now() + DELETE_WITHIN);
                }
                Request::Close => close = true,
            }
        }
        self.write(ops, waiting);
        reads.into_iter().for_each(|read| self.read(read));
        self.publish_status();
        close
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
                waiting.into_iter().zip(applied).for_each(|(waiting, applied)| tell(waiting, applied));
            }
            Err(why) => {
                self.delete_at = self.delete_at.map(|_| now + RETRY_AFTER);
                for waiting in waiting {
                    self.put_off(waiting, &why, now_ms);
                }
            }
        }
    }

    fn apply(&mut self, mut ops: Vec<Op>, sweep: bool, now_ms: u64) -> Result<Vec<Applied>, String> {
        let Some(store) = &mut self.store else {
            return Err(self.unwritable.clone().unwrap_or_default());
        };
        let done = open::contained(|| {
            if sweep && store.needs_sweep(now_ms)? {
                ops.push(Op::Sweep);
            }
            if ops.is_empty() { Ok(Vec::new()) } else { store.apply(&ops, now_ms) }
        });
        done.map_err(|fault| self.failed(&fault))
    }

    /// Takes note of a failure: the file is opened anew before it is used again, since redb does not go on after one.
    fn failed(&mut self, fault: &Fault) -> String {
        let why = fault.why();
        if self.unwritable.is_none() {
            tracing::error!(why, "could not use the state file; going on from memory and trying again");
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
        let unusable = || StateError::Unusable { path: self.config.dir.join(open::FILE), why: why.to_owned() };
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
            Read::Next { lane, after, bytes_max, answer } => {
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
        got.map_err(|why| StateError::Unusable { path: self.config.dir.join(open::FILE), why })
    }

    /// The opening at the agent's start: what will not pass is an error here.
    fn open_first(&mut self) -> Result<(), OpenError> {
        let path = self.config.dir.join(open::FILE);
        let now_ms = (self.config.clock)();
        match self.open(now_ms) {
            Ok(()) => {}
            Err(Fault::InUse) => return Err(OpenError::InUse { path }),
            Err(Fault::Denied(why) | Fault::Damaged(why)) => return Err(OpenError::Denied { what: "open", path, why }),
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
        let aside = open::set_aside(&path, now_ms).map_err(|error| Fault::Denied(format!("it is damaged ({why}), and to set it aside: {error}")))?;
        tracing::error!(why, aside = %aside.display(), "the state file was damaged: set it aside and began a new one");
        let summary = format!("the state file was damaged and set aside as {}: {why}", aside.display());
        let event = NewEvent::new("agent.state.damaged", now_ms, Severity::Error, summary).field("set_aside_as", aside.display().to_string());
        self.held.take(Write::Events(vec![event]), now_ms);
        self.held.jobs_lost_at_ms = Some(now_ms);
        self.open_once(&path)
    }

    fn open_once(&mut self, path: &std::path::Path) -> Result<(), Fault> {
        let database = open::database(path)?;
        let new_run = !self.run_counted;
        self.store = Some(open::contained(|| Store::new(database, &self.config, new_run))?);
        self.run_counted = true;
        Ok(())
    }

    fn publish_status(&self) {
        let old = self.status.borrow().clone();
        let (depth, newest_seq) = match &self.store {
            Some(store) => {
                let counters = &store.counters;
                let depth = OutboxDepth { records: counters.records, bytes: counters.bytes, dropped: counters.dropped };
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

/// Tells whoever waits what became of a write.
fn tell(waiting: Waiting, applied: Applied) {
    match (waiting, applied) {
        (Waiting::Write(_, answer) | Waiting::Done(answer), Applied::Done) => drop(answer.send(Ok(()))),
        (Waiting::Begun(answer), Applied::Begun(begun)) => drop(answer.send(Ok(begun))),
        (Waiting::Flag(answer), Applied::Flag(flag)) => drop(answer.send(Ok(flag))),
        (Waiting::Recovered(answer), Applied::Recovered(recovered)) => drop(answer.send(Ok(recovered))),
        // The pairs are made side by side, so there are no others; an answer that is dropped reads as closed.
        _ => tracing::error!("a write and its answer do not belong together"),
    }
}
