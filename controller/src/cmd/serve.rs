//! `muster serve`: the daemon. Its parts are in `crate::serve`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use muster_link::Session;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cmd::Run;
use crate::context::Context;
use crate::exit::{Exit, ending};

/// Arguments of `muster serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Only check the config, its files and the broker, and change nothing
    #[arg(long)]
    check: bool,
}

/// The signals that it listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Run for Serve {
    async fn run(self, context: &Context) -> Result<Exit> {
        if self.check {
            return check(context).await;
        }
        let signals = Signals::listen()?;
        let stop = CancellationToken::new();
        // One that waits is enough: the config is read when it is taken.
        let (reload, reloads) = mpsc::channel(1);
        let config = context.config.load_again()?;
        let serving = crate::serve::run(config, reloads, stop.clone(), || tell(NotifyState::Ready));
        tokio::select! {
            outcome = serving => outcome.map(|()| Exit::Ok),
            never = signals.attend(&stop, &reload) => match never {},
        }
    }
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("listen for SIGHUP")?,
        })
    }

    /// Passes on what comes, and tells the service manager, for as long as the program serves.
    async fn attend(
        mut self,
        stop: &CancellationToken,
        reload: &mpsc::Sender<()>,
    ) -> std::convert::Infallible {
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => stopping(stop),
                Some(()) = self.interrupt.recv() => stopping(stop),
                Some(()) = self.hangup.recv() => drop(reload.try_send(())),
                // This only comes while the event loop turns, which is what the watchdog is to see.
                () = tokio::time::sleep(watchdog.unwrap_or(Duration::MAX)), if watchdog.is_some() => tell(NotifyState::Watchdog),
            }
        }
    }
}

fn stopping(stop: &CancellationToken) {
    tracing::info!("stopping");
    tell(NotifyState::Stopping);
    stop.cancel();
}

/// Without a service manager nobody listens, and that is no error.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "could not notify the service manager");
    }
}

async fn check(context: &Context) -> Result<Exit> {
    let broker = context.config.broker()?;
    let react = &context.config.react;
    crate::serve::react::check(react)?;
    if react.has_jobs() {
        context.config.signer()?;
    }
    context.note("good: the config");
    let state_dir = &context.config.serve.state_dir;
    writable(state_dir)?;
    context.note(&format!("good: {} can be written", state_dir.display()));
    for bridge in &context.config.bridges {
        let (kind, to) = (bridge.spec.kind, &bridge.address);
        context.note(&format!(
            "good: the bridge {} to {kind} at {to}",
            bridge.name
        ));
    }
    let session = Session::open(broker, "muster serve --check")
        .await
        .map_err(|error| ending(Exit::NoBroker, error.to_string()))?;
    session.close().await;
    context.note("good: the broker lets us in; `muster broker check` looks at what is there");
    Ok(Exit::Ok)
}

/// Whether the directory, or the one that it would be made in, can be written.
fn writable(dir: &Path) -> Result<()> {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    rustix::fs::access(there, rustix::fs::Access::WRITE_OK)
        .with_context(|| format!("state_dir {}: write to {}", dir.display(), there.display()))
}
