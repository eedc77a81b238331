//! Named tasks that stand and fall together. It must not know what they do.
//!
//! A task that ends before it is told to is a failure, even when it ends without an error. The first failure stops all
//! others, which get a grace period to finish what they hold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What a task may fail with.
type Failure = Box<dyn Error + Send + Sync>;

/// Tasks with names, one stop for all, and a limit for their last words.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<Result<(), Failure>>,
    names: HashMap<Id, Cow<'static, str>>,
    stop: CancellationToken,
    grace: Duration,
}

/// Why a supervisor's run was not a good one.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// A task ended with an error.
    #[error("the task {name} failed")]
    Failed {
        /// Its name.
        name: String,
        /// Its error.
        #[source]
        source: Failure,
    },
    /// A task ended, without an error, before it was told to.
    #[error("the task {name} ended before it was told to")]
    Early {
        /// Its name.
        name: String,
    },
    /// A task panicked.
    #[error("the task {name} panicked: {message}")]
    Panicked {
        /// Its name.
        name: String,
        /// What it said.
        message: String,
    },
    /// Tasks did not end within the grace period and were cut off.
    #[error("did not stop within {grace:?} and were cut off: {}", names.join(", "))]
    Stuck {
        /// Their names, sorted.
        names: Vec<String>,
        /// The grace period.
        grace: Duration,
    },
}

impl Supervisor {
    /// Tasks that are told to end by `stop`, and given `grace` to do it.
    #[must_use]
    pub fn new(stop: CancellationToken, grace: Duration) -> Self {
        Self {
            tasks: JoinSet::new(),
            names: HashMap::new(),
            stop,
            grace,
        }
    }

    /// The stop of all tasks, for the tasks to watch.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task. It is to run until the stop, and to end soon after.
    pub fn start<E: Into<Failure>>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self
            .tasks
            .spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name.into());
    }

    /// Runs until the stop or the first failure, then stops all tasks and waits for them.
    ///
    /// # Errors
    /// The first failure; or, when all else went well, the names of the tasks that had to be cut off.
    pub async fn run(mut self) -> Result<(), SuperviseError> {
        let stop = self.stop.clone();
        let mut first = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            Some(joined) = self.tasks.join_next_with_id() => self.judge(joined),
        };
        stop.cancel();
        let grace = self.grace;
        let in_time = timeout(grace, async {
            while let Some(joined) = self.tasks.join_next_with_id().await {
                let failure = self
                    .judge(joined)
                    .filter(|failure| !matches!(failure, SuperviseError::Early { .. }));
                if first.is_none() {
                    first = failure;
                } else if let Some(failure) = failure {
                    tracing::error!("{failure}: {:?}", failure.source());
                }
            }
        })
        .await;
        if in_time.is_err() {
            self.tasks.shutdown().await;
            let mut names: Vec<String> = self.names.into_values().map(Cow::into_owned).collect();
            names.sort();
            let stuck = SuperviseError::Stuck { names, grace };
            tracing::error!("{stuck}");
            first = first.or(Some(stuck));
        }
        first.map_or(Ok(()), Err)
    }

    /// What the end of a task means, as long as nobody has told it to end.
    fn judge(
        &mut self,
        joined: Result<(Id, Result<(), Failure>), JoinError>,
    ) -> Option<SuperviseError> {
        let (id, outcome) = match joined {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(error) => (error.id(), Err(error)),
        };
        let name = self
            .names
            .remove(&id)
            .map_or_else(|| "?".to_owned(), Cow::into_owned);
        match outcome {
            Ok(Ok(())) => Some(SuperviseError::Early { name }),
            Ok(Err(source)) => Some(SuperviseError::Failed { name, source }),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => Some(SuperviseError::Panicked {
                    name,
                    message: words(panic.as_ref()),
                }),
                Err(_cancelled) => None,
            },
        }
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a word".to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn supervisor() -> (Supervisor, CancellationToken) {
        let stop = CancellationToken::new();
        (Supervisor::new(stop.clone(), GRACE), stop)
    }

    /// A task that ends in good order some time after the stop, and leaves a mark.
    fn good(supervisor: &mut Supervisor, takes: Duration) -> Arc<AtomicBool> {
        let (stop, done) = (supervisor.stop(), Arc::new(AtomicBool::new(false)));
        let mark = Arc::clone(&done);
        supervisor.start("good", async move {
            stop.cancelled().await;
            tokio::time::sleep(takes).await;
            mark.store(true, Ordering::SeqCst);
            Ok::<(), io::Error>(())
        });
        done
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_all_in_good_order() {
        let (mut supervisor, stop) = supervisor();
        let done = good(&mut supervisor, GRACE / 2);
        stop.cancel();
        supervisor.run().await.unwrap();
        assert!(done.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_stops_the_others_and_is_named() {
        let (mut supervisor, _) = supervisor();
        let done = good(&mut supervisor, GRACE / 2);
        supervisor.start("bad", async { Err(io::Error::other("no disk")) });
        let error = supervisor.run().await.unwrap_err();
        assert_eq!(error.to_string(), "the task bad failed");
        assert_eq!(error.source().unwrap().to_string(), "no disk");
        assert!(
            done.load(Ordering::SeqCst),
            "the other task was not waited for"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn ending_early_and_panicking_are_failures() {
        let (mut early, _) = supervisor();
        early.start("short", async { Ok::<(), io::Error>(()) });
        assert_eq!(
            early.run().await.unwrap_err().to_string(),
            "the task short ended before it was told to"
        );
        let (mut panics, _) = supervisor();
        panics.start("wild", async {
            if GRACE > Duration::ZERO {
                panic!("oh no");
            }
            Ok::<(), io::Error>(())
        });
        assert_eq!(
            panics.run().await.unwrap_err().to_string(),
            "the task wild panicked: oh no"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_the_stop_is_cut_off_and_named() {
        let (mut supervisor, stop) = supervisor();
        good(&mut supervisor, Duration::ZERO);
        supervisor.start("deaf", std::future::pending::<Result<(), io::Error>>());
        stop.cancel();
        let error = supervisor.run().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "did not stop within 5s and were cut off: deaf"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_while_stopping_counts() {
        let (mut supervisor, stop) = supervisor();
        let told = supervisor.stop();
        supervisor.start("late", async move {
            told.cancelled().await;
            Err(io::Error::other("could not flush"))
        });
        stop.cancel();
        assert_eq!(
            supervisor.run().await.unwrap_err().to_string(),
            "the task late failed"
        );
    }
}
