//! Asks mounted filesystems for their size without ever being stuck with one that is dead: `statvfs(2)` on a file
//! server that is gone does not return and cannot be interrupted.
//!
//! One thread asks. Where it does not answer in time it is left behind with its mount, and the next question gets a
//! new thread. Threads left behind are counted and bounded; each ends by itself when its call comes back. Knows
//! nothing of mount tables.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

/// Threads that may be left behind: a file server's mounts mostly die together, and four of them waiting cost next to
/// nothing.
const STUCK_MAX: usize = 4;
/// `statvfs` and a channel need little.
const STACK_BYTES: usize = 64 << 10;

/// Sizes, as `statvfs(3)` gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) block_bytes: u64,
    pub(super) blocks: u64,
    pub(super) blocks_free: u64,
    pub(super) blocks_available: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

/// What became of a question.
#[derive(Debug)]
pub(super) enum Answer {
    /// It answered.
    Space(Space),
    /// It refused.
    Failed(io::Error),
    /// It has not answered in time, now or in an earlier run.
    Hung,
    /// It was not asked: as many threads as allowed are stuck.
    NotAsked,
}

pub(super) type Ask = dyn Fn(&Path) -> io::Result<Space> + Send + Sync;

/// The asking thread and those left behind.
pub(super) struct Prober {
    ask: Arc<Ask>,
    worker: Option<Worker>,
    stuck: Vec<(PathBuf, Receiver<io::Result<Space>>)>,
}

struct Worker {
    questions: SyncSender<PathBuf>,
    answers: Receiver<io::Result<Space>>,
}

impl Prober {
    /// Asks the kernel.
    pub(super) fn new() -> Self {
        Self::asking(Arc::new(statvfs))
    }

    pub(super) fn asking(ask: Arc<Ask>) -> Self {
        Self {
            ask,
            worker: None,
            stuck: Vec::new(),
        }
    }

    /// Asks for `path`, and waits for `deadline` at the most. A `remote` one leaves the last thread to the others.
    pub(super) fn ask(&mut self, path: &Path, remote: bool, deadline: Duration) -> Answer {
        // A late answer, or the end of the thread, says that it is free again.
        self.stuck
            .retain(|(_, answers)| matches!(answers.try_recv(), Err(TryRecvError::Empty)));
        if self.stuck.iter().any(|(stuck, _)| stuck == path) {
            return Answer::Hung;
        }
        if self.stuck.len() + usize::from(remote) >= STUCK_MAX {
            return Answer::NotAsked;
        }
        let worker = match self
            .worker
            .take()
            .map_or_else(|| Worker::start(Arc::clone(&self.ask)), Ok)
        {
            Ok(worker) => worker,
            Err(error) => return Answer::Failed(error),
        };
        if worker.questions.send(path.to_owned()).is_err() {
            return Answer::Failed(io::Error::other("the asking thread has ended"));
        }
        match worker.answers.recv_timeout(deadline) {
            Ok(answer) => {
                self.worker = Some(worker);
                answer.map_or_else(Answer::Failed, Answer::Space)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.stuck.push((path.to_owned(), worker.answers));
                Answer::Hung
            }
            Err(RecvTimeoutError::Disconnected) => {
                Answer::Failed(io::Error::other("the asking thread has ended"))
            }
        }
    }
}

impl Worker {
    fn start(ask: Arc<Ask>) -> io::Result<Self> {
        let (questions, asked) = sync_channel::<PathBuf>(1);
        let (answered, answers) = sync_channel(1);
        // Not joined: it ends when `questions` is dropped, which a stuck one sees as soon as its call comes back.
        thread::Builder::new()
            .name("statvfs".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                while let Ok(path) = asked.recv() {
                    if answered.send(ask(&path)).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { questions, answers })
    }
}

fn statvfs(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Space {
        block_bytes: stat.f_frsize,
        blocks: stat.f_blocks,
        blocks_free: stat.f_bfree,
        blocks_available: stat.f_bavail,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod tests {
    use std::sync::{Condvar, Mutex};
    use std::time::Instant;

    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    /// A question whose path begins with `/dead` is not answered until the gate is opened.
    fn gated() -> (Prober, Arc<(Mutex<bool>, Condvar)>) {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let gate_ = Arc::clone(&gate);
        let ask = move |path: &Path| {
            if path.starts_with("/dead") {
                let open = gate_.0.lock().unwrap();
                drop(gate_.1.wait_while(open, |open| !*open).unwrap());
            }
            statvfs(Path::new("/"))
        };
        (Prober::asking(Arc::new(ask)), gate)
    }

    #[test]
    fn the_kernel_answers_for_the_root() {
        let Answer::Space(space) = Prober::new().ask(Path::new("/"), false, LONG) else {
            panic!("no answer")
        };
        assert!(
            space.blocks > 0 && space.block_bytes >= 512 && space.blocks_free <= space.blocks,
            "{space:?}"
        );
        let missing = Prober::new().ask(Path::new("/nonexistent/path"), false, LONG);
        assert!(matches!(missing, Answer::Failed(_)), "{missing:?}");
    }

    #[test]
    fn a_dead_mount_costs_one_deadline_and_one_thread_until_it_is_back() {
        let (mut prober, gate) = gated();
        let dead = Path::new("/dead/1");
        assert!(matches!(prober.ask(dead, true, AT_ONCE), Answer::Hung));
        assert!(
            matches!(prober.ask(Path::new("/"), false, LONG), Answer::Space(_)),
            "others go on"
        );
        assert!(
            matches!(prober.ask(dead, true, LONG), Answer::Hung),
            "not asked again, so not waited for"
        );
        assert_eq!(prober.stuck.len(), 1);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let begun = Instant::now();
        while !matches!(prober.ask(dead, true, LONG), Answer::Space(_)) {
            assert!(begun.elapsed() < LONG, "still stuck: {:?}", prober.stuck);
            thread::yield_now();
        }
        assert!(prober.stuck.is_empty());
    }

    #[test]
    fn stuck_threads_are_bounded_and_local_filesystems_keep_one() {
        let (mut prober, gate) = gated();
        for at in 0..20 {
            let path = PathBuf::from(format!("/dead/{at}"));
            let answer = prober.ask(&path, true, AT_ONCE);
            assert!(
                matches!((at, &answer), (..3, Answer::Hung) | (3.., Answer::NotAsked)),
                "{at}: {answer:?}"
            );
        }
        assert!(matches!(
            prober.ask(Path::new("/"), false, LONG),
            Answer::Space(_)
        ));
        assert!(matches!(
            prober.ask(Path::new("/dead/local"), false, AT_ONCE),
            Answer::Hung
        ));
        assert!(matches!(
            prober.ask(Path::new("/"), false, LONG),
            Answer::NotAsked
        ));
        assert_eq!(prober.stuck.len(), STUCK_MAX);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
    }
}
