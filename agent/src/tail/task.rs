//! The task that keeps the reader going: woken by changes, it makes a pass on a thread where reading may block, and has
//! its batch committed before it makes the next. While the store takes nothing, nothing is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, Pass, WRITER, Wanted};
use super::followed::Now;
use super::section::Section;
use super::watch::Watch;
use super::{Batch, Sink, SinkError};

/// Time between two passes at the least, so that a busy log costs few of them.
const PAUSE: Duration = Duration::from_millis(100);

/// Time between two looks at everything where the kernel tells of changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The same for the sizes of files, for file systems on which it does not tell.
const SIZES_EVERY: Duration = Duration::from_secs(5);

/// Both where it tells nothing.
const BLIND_EVERY: Duration = Duration::from_secs(1);

/// Pause before a batch that could not be committed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Pause before the reader is begun anew after a defect.
const DEFECT_PAUSE: Duration = Duration::from_secs(10);

/// How long the last places may take to be stored.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// Follows the files of `sections` until `stop`; events and places go to `sink`.
pub async fn run(sections: Vec<Section>, sink: Arc<dyn Sink>, stop: CancellationToken) {
    if sections.is_empty() {
        stop.cancelled().await;
    }
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            stored = sink.load(WRITER) => match stored {
                Err(SinkError::Closed) => return,
                Err(SinkError::NotNow(why)) => {
                    tracing::warn!(why, "could not read where logs were left; trying again");
                    sleep(RETRY_AFTER).await;
                }
                Ok(stored) => {
                    let engine = Engine::new(sections.clone(), stored);
                    let follow = Follow { sink: &*sink, stop: &stop, damaged: None };
                    if follow.run(engine).await == End::Defect {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = sleep(DEFECT_PAUSE) => {}
                        }
                    }
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// The reader panicked: what was not committed is read again.
    Defect,
}

struct Follow<'a> {
    sink: &'a dyn Sink,
    stop: &'a CancellationToken,
    /// How often the store had been begun anew by the last commit.
    damaged: Option<u64>,
}

impl Follow<'_> {
    async fn run(mut self, mut engine: Engine) -> End {
        let began = Instant::now();
        let mut watch = Watch::new();
        let mut scan = true;
        let mut scanned = began;
        loop {
            let passed = Instant::now();
            let wanted = Wanted {
                scan,
                places: false,
            };
            let Some((back, pass)) = make_pass(engine, began, wanted).await else {
                return End::Defect;
            };
            engine = back;
            scan = match &pass.dirs {
                Some(dirs) => {
                    scanned = passed;
                    watch.set(dirs)
                }
                None => false,
            };
            if let Some(batch) = &pass.batch
                && !self.commit(batch, &mut engine).await
            {
                return End::Stopped; // nothing may be stored past a batch that was not
            }
            if self.stop.is_cancelled() {
                self.store_places(engine, began).await;
                return End::Stopped;
            }
            if pass.more || scan {
                continue;
            }
            let every = if watch.is_whole() {
                LOOK_EVERY
            } else {
                BLIND_EVERY
            };
            let next = self.sleep_ms(&pass, began).min(every);
            tokio::select! {
                () = self.stop.cancelled() => continue,
                names = watch.changed() => {
                    scan = names;
                    let pause = PAUSE.saturating_sub(passed.elapsed());
                    tokio::select! {
                        () = self.stop.cancelled() => continue,
                        () = sleep(pause) => {}
                    }
                }
                () = sleep(next) => {}
            }
            scan |= scanned.elapsed() >= every;
        }
    }

    fn sleep_ms(&self, pass: &Pass, began: Instant) -> Duration {
        let now_ms = Now::since(began).mono_ms;
        pass.due_ms.map_or(SIZES_EVERY, |due_ms| {
            // A moment later than it is due, so that it is due for certain.
            Duration::from_millis(due_ms.saturating_sub(now_ms) + 1).min(SIZES_EVERY)
        })
    }

    /// Commits a batch, however long that takes; `false` where the agent stops before.
    async fn commit(&mut self, batch: &Batch, engine: &mut Engine) -> bool {
        loop {
            let committed = tokio::select! {
                () = self.stop.cancelled() => return false,
                committed = self.sink.commit(batch) => committed,
            };
            match committed {
                Ok(damaged) => {
                    if self
                        .damaged
                        .replace(damaged)
                        .is_some_and(|before| before != damaged)
                    {
                        engine.store_again();
                    }
                    return true;
                }
                Err(SinkError::Closed) => return false,
                Err(SinkError::NotNow(why)) => {
                    tracing::warn!(why, "could not store what logs said; reading waits");
                    tokio::select! {
                        () = self.stop.cancelled() => return false,
                        () = sleep(RETRY_AFTER) => {}
                    }
                }
            }
        }
    }

    /// Stores every place before the end, so that little is read twice.
    async fn store_places(&self, engine: Engine, began: Instant) {
        let wanted = Wanted {
            scan: false,
            places: true,
        };
        let last = async {
            if let Some((_, pass)) = make_pass(engine, began, wanted).await
                && let Some(batch) = &pass.batch
            {
                _ = self.sink.commit(batch).await; // what is not stored is read again
            }
        };
        _ = timeout(LAST_COMMIT, last).await;
    }
}

/// A pass on a thread of its own; `None` after a panic.
async fn make_pass(engine: Engine, began: Instant, wanted: Wanted) -> Option<(Engine, Pass)> {
    let mut engine = engine;
    let made = tokio::task::spawn_blocking(move || {
        let pass = engine.pass(Now::since(began), wanted);
        (engine, pass)
    });
    match made.await {
        Ok(made) => Some(made),
        Err(error) => {
            tracing::error!(%error, "the reader of logs has panicked, which is a defect of the agent; it begins anew from what was stored");
            None
        }
    }
}
