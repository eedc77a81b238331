//! `muster bridge NAME`: one bridge of the config by itself, where `muster serve` is not to do it.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cmd::Run;
use crate::context::Context;
use crate::exit::{Exit, usage};

/// Arguments of `muster bridge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Bridge {
    /// Which [[bridge]] of the config
    name: String,
}

impl Run for Bridge {
    async fn run(self, context: &Context) -> Result<Exit> {
        let broker = context.config.broker()?.clone();
        let mut bridges = context.config.bridges.iter();
        let bridge = bridges.find(|bridge| bridge.name == self.name);
        let bridge = bridge.ok_or_else(|| {
            let names: Vec<&str> = context
                .config
                .bridges
                .iter()
                .map(|one| one.name.as_str())
                .collect();
            usage(match names.as_slice() {
                [] => "the config has no table [[bridge]]".to_owned(),
                names => format!(
                    "no bridge is called {:?}; there are {}",
                    self.name,
                    names.join(", ")
                ),
            })
        })?;
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let running = crate::serve::bridges::run_alone(broker, bridge, stop.clone());
        tokio::pin!(running);
        loop {
            tokio::select! {
                outcome = &mut running => return outcome.map(|()| Exit::Ok),
                Some(()) = terminate.recv() => stop.cancel(),
                Some(()) = interrupt.recv() => stop.cancel(),
            }
        }
    }
}
