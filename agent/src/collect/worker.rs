//! The thread on which collectors may block. It takes one run after the other; a run that does not come back leaves
//! with its thread. Knows neither schedule nor names.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc as blocking;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Collect, Collected, SampleTime};

/// Virtual size; a run touches little of it.
const STACK_BYTES: usize = 512 << 10;

/// One run to be made.
pub(super) struct Task {
    /// Number of the run.
    pub(super) run: u64,
    /// Which collector it is.
    pub(super) index: usize,
    /// The collector; it comes back with the outcome.
    pub(super) collector: Box<dyn Collect>,
    /// When the run was begun.
    pub(super) now: SampleTime,
}

/// One run made.
pub(super) struct Done {
    pub(super) run: u64,
    pub(super) index: usize,
    /// `None` after a panic: what it left behind is not trusted.
    pub(super) collector: Option<Box<dyn Collect>>,
    pub(super) now: SampleTime,
    pub(super) outcome: Result<Collected, String>,
    pub(super) took: Duration,
}

/// A thread that is ready for work. It ends when this is dropped and its run, if any, is over.
pub(super) struct Worker {
    tasks: blocking::SyncSender<Task>,
}

impl Worker {
    /// Starts the thread; outcomes go to `done`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(done: mpsc::Sender<Done>) -> std::io::Result<Self> {
        let (tasks, inbox) = blocking::sync_channel::<Task>(1);
        let work = move || {
            while let Ok(task) = inbox.recv() {
                if done.blocking_send(perform(task)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("collect".into())
            .stack_size(STACK_BYTES)
            .spawn(work)?;
        Ok(Self { tasks })
    }

    /// Gives the thread a run; `None` when it has been taken, the task back when the thread is gone or has one already.
    pub(super) fn give(&self, task: Task) -> Option<Task> {
        match self.tasks.try_send(task) {
            Ok(()) => None,
            Err(
                blocking::TrySendError::Full(task) | blocking::TrySendError::Disconnected(task),
            ) => Some(task),
        }
    }
}

/// Runs a collector; a panic is its failure and nobody else's.
fn perform(task: Task) -> Done {
    let Task {
        run,
        index,
        mut collector,
        now,
    } = task;
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| collector.collect(now)));
    let took = began.elapsed();
    let (collector, outcome) = match outcome {
        Ok(outcome) => (Some(collector), outcome.map_err(|error| error.to_string())),
        Err(panic) => (
            None,
            Err(format!(
                "panicked, which is a defect of the agent: {}",
                words(panic.as_ref())
            )),
        ),
    };
    Done {
        run,
        index,
        collector,
        now,
        outcome,
        took,
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no words)")
        .to_owned()
}
