//! The thread that listens to the service manager for as long as its collector lives: session, pause, session. It knows
//! how long to wait; what is heard goes to the inbox.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::Wake;
use super::config::Config;
use super::inbox::{Inbox, News};
use super::session::{self, Desk, Known};

/// Before the first new attempt.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Before the later ones, at most: there are hosts that never have a bus.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Virtual size; little of it is touched.
const STACK_BYTES: usize = 1 << 20;

/// The thread. It ends when this is dropped.
pub(super) struct Listener {
    pub(super) inbox: Arc<Inbox>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(config: Config, wake: Wake) -> std::io::Result<Self> {
        let (inbox, stop) = (Arc::<Inbox>::default(), CancellationToken::new());
        let (theirs, ended) = (inbox.clone(), stop.clone());
        let listen = move || {
            let desk = Desk {
                config: &config,
                inbox: &theirs,
                wake: &wake,
                now_ms,
            };
            let outcome = with_runtime(async {
                tokio::select! {
                    () = ended.cancelled() => {}
                    never = listen(desk) => match never {},
                }
            });
            if let Err(error) = outcome {
                theirs.put(News::Lost {
                    error,
                    at_ms: now_ms(),
                });
            }
        };
        let thread = thread::Builder::new()
            .name("services".into())
            .stack_size(STACK_BYTES)
            .spawn(listen)?;
        Ok(Self {
            inbox,
            stop,
            thread,
        })
    }

    /// Whether it listens no more, which it does only after a panic or without a runtime.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Reads everything once, with a connection that ends with the call. Blocks.
pub(super) fn once(config: &Config) -> Inbox {
    let inbox = Inbox::default();
    let desk = Desk {
        config,
        inbox: &inbox,
        wake: &Wake::default(),
        now_ms,
    };
    // A thread of its own: the caller's may be a runtime's, which must not be blocked by another.
    let outcome = thread::scope(|scope| {
        let read = || with_runtime(async { session::run(desk, &mut Known::default(), true).await });
        let outcome = scope.spawn(read).join();
        outcome.unwrap_or_else(|_| Err("panicked, which is a defect of the agent".to_owned()))
    });
    if let Err(error) = outcome.and_then(|outcome| outcome) {
        inbox.put(News::Lost {
            error,
            at_ms: now_ms(),
        });
    }
    inbox
}

fn with_runtime<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(|error| format!("start a runtime: {error}"))?;
    Ok(runtime.block_on(work))
}

async fn listen(desk: Desk<'_>) -> std::convert::Infallible {
    let mut known = Known::default();
    let mut pause = PAUSE_MIN;
    loop {
        let began = tokio::time::Instant::now();
        let error = match session::run(desk, &mut known, false).await {
            Ok(()) => "the connection to the bus has ended".to_owned(),
            Err(error) => error,
        };
        if began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN; // it was good for long
        }
        tracing::debug!(error, "services are not watched for the moment");
        desk.inbox.put(News::Lost {
            error,
            at_ms: now_ms(),
        });
        desk.wake.now();
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
