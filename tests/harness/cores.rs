//! Many clients in one process, shared among as many threads as there are cores. Must not know what the clients do.
//!
//! Programs on hosts of their own do not wait for each other. In one process with one thread they do, and the broker on
//! the same machine then finds little to do at a time, which costs it several times as much for each message.

use std::future::Future;
use std::ops::Range;
use std::thread;

use anyhow::{Context, Result, anyhow};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// Threads at work. They end with the process, or when their work does.
#[derive(Debug)]
pub struct Cores {
    ended: mpsc::Receiver<Result<()>>,
    threads: usize,
}

impl Cores {
    /// Runs `work` on a thread for each core, each with a runtime of its own and a share of `0..clients`.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn share<W, F>(clients: usize, work: W) -> Result<Self>
    where
        W: Fn(Range<usize>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<()>>,
    {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let share = clients.div_ceil(cores).max(1);
        let starts = (0..clients).step_by(share);
        let threads = starts.len();
        let (tell, ended) = mpsc::channel(threads.max(1));
        for start in starts {
            let (work, tell) = (work.clone(), tell.clone());
            let numbers = start..clients.min(start + share);
            let run = move || {
                let runtime = Builder::new_current_thread().enable_all().build();
                let outcome = runtime
                    .context("make a runtime")
                    .and_then(|runtime| runtime.block_on(work(numbers)));
                // Nobody asks any more where the process ends.
                let _ = tell.blocking_send(outcome);
            };
            thread::Builder::new()
                .name(format!("clients-{start}"))
                .spawn(run)
                .context("start a thread for clients")?;
        }
        Ok(Self { ended, threads })
    }

    /// How many threads there are.
    #[must_use]
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// Waits for the next thread whose work has ended; `None` when all have.
    pub async fn ended(&mut self) -> Option<Result<()>> {
        let left = self.threads.checked_sub(1)?;
        let outcome = self.ended.recv().await;
        self.threads = left;
        // A thread that panics says nothing.
        Some(outcome.unwrap_or_else(|| Err(anyhow!("a thread of clients ended early"))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn every_client_has_its_place_on_one_thread() -> Result<()> {
        for clients in [0, 1, 5] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let note = Arc::clone(&seen);
            let mut cores = Cores::share(clients, move |numbers| {
                let note = Arc::clone(&note);
                async move {
                    let mut note = note.lock().map_err(|_| anyhow!("a thread panicked"))?;
                    note.extend(numbers);
                    Ok(())
                }
            })?;
            while let Some(outcome) = cores.ended().await {
                outcome?;
            }
            let mut seen = seen.lock().map_err(|_| anyhow!("a thread panicked"))?;
            seen.sort_unstable();
            assert_eq!(*seen, (0..clients).collect::<Vec<_>>());
        }
        let mut cores = Cores::share(1, |_| async { Err(anyhow!("no")) })?;
        assert!(cores.ended().await.is_some_and(|outcome| outcome.is_err()));
        assert!(cores.ended().await.is_none());
        Ok(())
    }
}
