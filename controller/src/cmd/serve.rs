//! `muster serve`: the daemon. Its parts are in `crate::serve`.

use anyhow::{Context as _, Result};
use muster_link::Session;
use tokio::signal::unix::{SignalKind, signal};
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

impl Run for Serve {
    async fn run(self, context: &Context) -> Result<Exit> {
        if self.check {
            return check(context).await;
        }
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let serving = crate::serve::run(&context.config, stop.clone());
        tokio::pin!(serving);
        loop {
            tokio::select! {
                outcome = &mut serving => return outcome.map(|()| Exit::Ok),
                Some(()) = terminate.recv() => stop.cancel(),
                Some(()) = interrupt.recv() => stop.cancel(),
            }
        }
    }
}

async fn check(context: &Context) -> Result<Exit> {
    let broker = context.config.broker()?;
    context.note("good: the config");
    let session = Session::open(broker, "muster serve --check")
        .await
        .map_err(|error| ending(Exit::NoBroker, error.to_string()))?;
    session.close().await;
    context.note("good: the broker lets us in; `muster broker check` looks at what is there");
    Ok(Exit::Ok)
}
