//! The collectors' schedule: each runs when it falls due or is asked for, with its own deadline, on one thread. One that
//! fails, hangs or panics is reported once and troubles nobody else. It sends what comes out to one channel and must
//! not know what becomes of it.

mod board;
mod handle;
mod outcome;
mod report;
mod slot;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::board::{Board, Status};
pub use self::handle::Collectors;
use self::handle::Request;
pub use self::report::{Edge, Report};
use self::slot::Slot;
use super::section::{build_one, build_with};
use super::worker::{Done, Task, Worker};
use super::{Built, Collect, ConfigError, HostRoots, SampleTime, Wake};
use crate::tick::Grid;

/// Threads whose run did not come back, at most: a hung mount must not eat the host's threads.
const ABANDONED_MAX: usize = 4;

/// A snapshot of this age is given to whoever asks, instead of a run.
const FRESH: Duration = Duration::from_secs(1);

/// The schedule itself, to be run as one task.
pub struct Schedule {
    slots: Vec<Slot>,
    roots: HostRoots,
    sections: BTreeMap<String, toml::Table>,
    grid: Grid,
    /// Collectors that are to run next, by index.
    queue: VecDeque<usize>,
    worker: Option<Worker>,
    running: Option<Running>,
    runs: u64,
    /// Runs that were given up and are not back, with their collectors.
    abandoned: BTreeMap<u64, usize>,
    board: watch::Sender<Board>,
    requests: mpsc::Receiver<Request>,
    /// Rings when a collector asks for a run.
    ear: Arc<Notify>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    reports: mpsc::Sender<Report>,
}

struct Running {
    run: u64,
    index: usize,
    deadline: Instant,
}

impl Schedule {
    /// Sets up every enabled collector. What they give goes to `reports`, whose reader may slow them down.
    ///
    /// # Errors
    /// As [`super::build_all`].
    pub fn new(
        roots: HostRoots,
        sections: BTreeMap<String, toml::Table>,
        grid: Grid,
        reports: mpsc::Sender<Report>,
    ) -> Result<(Self, Collectors), ConfigError> {
        let ear = Arc::<Notify>::default();
        let wake = || Wake::heard_by(ear.clone());
        let built = build_with(&roots, sections.clone(), wake)?;
        Ok(Self::with(built, ear, roots, sections, grid, reports))
    }

    fn with(
        built: Vec<Built>,
        ear: Arc<Notify>,
        roots: HostRoots,
        sections: BTreeMap<String, toml::Table>,
        grid: Grid,
        reports: mpsc::Sender<Report>,
    ) -> (Self, Collectors) {
        let now = Instant::now(); // the first run is at once, so that there is something to show
        let slots: Vec<Slot> = built
            .into_iter()
            .map(|built| Slot::new(built, now))
            .collect();
        let (board, shown) = watch::channel(Board::of(
            slots.iter().map(|slot| (slot.spec.name, slot.timing)),
        ));
        let (collectors, requests) = Collectors::new(shown);
        let schedule = Self {
            slots,
            roots,
            sections,
            grid,
            queue: VecDeque::new(),
            worker: None,
            running: None,
            runs: 0,
            abandoned: BTreeMap::new(),
            board,
            requests,
            ear,
            done: mpsc::channel(ABANDONED_MAX + 1),
            reports,
        };
        (schedule, collectors)
    }

    /// Runs collectors until `stop`. A run that is under way then is left to itself.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.start_next().await;
            let wake = self.next_wake();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = self.done.1.recv() => self.settle(done).await,
                Some(request) = self.requests.recv() => self.take(request),
                () = self.ear.notified() => self.slots.iter_mut().for_each(Slot::listen),
                () = async { sleep_until(wake.unwrap_or_else(Instant::now)).await }, if wake.is_some() => {
                    self.tick().await;
                }
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let due = self.slots.iter().map(Slot::next).min();
        let deadline = self.running.as_ref().map(|running| running.deadline);
        [due, deadline].into_iter().flatten().min()
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        if let Some(late) = self.running.take_if(|running| running.deadline <= now) {
            self.abandon(&late).await;
        }
        for index in 0..self.slots.len() {
            let grid = self.grid;
            let slot = self.slots.get_mut(index);
            if slot.is_some_and(|slot| slot.take_due(now, grid)) {
                self.enqueue(index);
            }
        }
    }

    /// Puts a collector in the queue unless it is there, runs, or hangs.
    fn enqueue(&mut self, index: usize) {
        let idle = self
            .slots
            .get(index)
            .is_some_and(|slot| slot.collector.is_some());
        if idle && !self.queue.contains(&index) {
            self.queue.push_back(index);
        }
    }

    fn take(&mut self, request: Request) {
        let Some(index) = self
            .slots
            .iter()
            .position(|slot| slot.spec.name == request.collector)
        else {
            return;
        };
        let hangs = self.abandoned.values().any(|hanging| *hanging == index);
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let fresh = slot
            .fresh
            .as_ref()
            .filter(|(at, _)| at.elapsed() < FRESH)
            .map(|(_, snapshot)| snapshot.clone());
        if hangs {
            _ = request.answer.send(Err(
                "its last run hangs, and it is not started again until that is back".to_owned(),
            ));
        } else if let Some(snapshot) = fresh {
            _ = request.answer.send(Ok(snapshot));
        } else {
            slot.waiting.push(request.answer);
            self.enqueue(index);
        }
    }

    /// Hands the thread its next run, if it has none.
    async fn start_next(&mut self) {
        while self.running.is_none() {
            let Some(index) = self.queue.pop_front() else {
                return;
            };
            if let Err(error) = self.start(index) {
                self.fail(index, wall_ms(), error).await;
            }
        }
    }

    fn start(&mut self, index: usize) -> Result<(), String> {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.begin();
        }
        if self.worker.is_none() {
            if self.abandoned.len() >= ABANDONED_MAX {
                return Err(format!(
                    "not started: {ABANDONED_MAX} runs of collectors hang, and no more threads are spent"
                ));
            }
            let worker = Worker::start(self.done.0.clone())
                .map_err(|error| format!("start a thread: {error}"))?;
            self.worker = Some(worker);
        }
        let (Some(worker), Some(slot)) = (&self.worker, self.slots.get_mut(index)) else {
            return Ok(());
        };
        let Some(collector) = slot.collector.take() else {
            return Ok(());
        };
        self.runs += 1;
        let task = Task {
            run: self.runs,
            index,
            collector,
            now: SampleTime {
                wall_ms: wall_ms(),
                mono_ms: millis(self.grid.age()),
            },
        };
        if let Some(back) = worker.give(task) {
            slot.collector = Some(back.collector);
            self.worker = None;
            return Err("its thread is gone; the next run gets another".to_owned());
        }
        self.running = Some(Running {
            run: self.runs,
            index,
            deadline: Instant::now() + slot.timing.deadline,
        });
        Ok(())
    }

    /// Gives up a run that is over its deadline, and its thread with it.
    async fn abandon(&mut self, late: &Running) {
        self.worker = None;
        self.abandoned.insert(late.run, late.index);
        let Some(slot) = self.slots.get(late.index) else {
            return;
        };
        let limit = slot.timing.deadline.as_secs_f64();
        let error = format!(
            "hangs: not back after its deadline of {limit} s; not started again until it is"
        );
        self.fail(late.index, wall_ms(), error).await;
    }

    async fn settle(&mut self, done: Done) {
        let late = self.abandoned.remove(&done.run).is_some();
        self.running.take_if(|running| running.run == done.run);
        let collector = match done.collector {
            Some(collector) => Some(collector),
            None => self.rebuilt(done.index),
        };
        if let Some(slot) = self.slots.get_mut(done.index) {
            slot.end(collector, Instant::now());
        }
        match done.outcome {
            // What comes too late is not told: its successor will be in time, or will be late again.
            Ok(_) if late => {}
            Ok(collected) => {
                self.succeed(done.index, done.now, done.took, collected)
                    .await
            }
            Err(error) => self.fail(done.index, done.now.wall_ms, error).await,
        }
    }

    /// A new collector in the place of one that panicked.
    fn rebuilt(&self, index: usize) -> Option<Box<dyn Collect>> {
        let slot = self.slots.get(index)?;
        let section = self.sections.get(slot.spec.name).cloned();
        let built = build_one(slot.spec, &self.roots, section, slot.wake.clone());
        built.ok().map(|built| built.collector)
    }
}

fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
