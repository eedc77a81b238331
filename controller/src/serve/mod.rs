//! `muster serve`: what stands between the fleet and those who look at it. Any number may run; each keeps its own ledger
//! and history from the broker's streams, and one of them leads. This file wires; each part is a file of its own with a
//! connection of its own.

mod books;
pub mod config;
mod fleet;
mod health;
mod history;
mod http;
mod lead;
mod metrics;
mod session;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use muster_link::{BrokerConfig, Supervisor};
use tokio_util::sync::CancellationToken;

use self::books::Books;
use self::health::Health;
use self::history::{Bounds, Follow, History};
use self::http::Shown;
use self::lead::Lead;
use self::session::{Part, keep};
use self::watch::{SharedFleet, Watch};
use crate::config::Config;
use crate::ledger::Ledger;

/// From the stop to the end, all in all.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Serves until `stop`, or until a part fails in a way that it can't mend.
///
/// # Errors
/// When the config names no broker, or a file of its own can't be used.
pub async fn run(config: &Config, stop: CancellationToken) -> Result<()> {
    let broker = config.broker()?.clone();
    let serve = &config.serve;
    std::fs::create_dir_all(&serve.state_dir)
        .with_context(|| format!("make the directory {}", serve.state_dir.display()))?;
    let health = Health::default();
    let mut parts = Supervisor::new(stop.clone(), STOP_LIMIT);
    let (lead, leading) = Lead::new();
    start(&mut parts, lead, &broker, &health, &stop);
    let ledger = Arc::new(Ledger::open(&serve.state_dir).context("open the ledger")?);
    let history = History::open(&serve.state_dir)?;
    let fleet = SharedFleet::default();
    let books = Books {
        ledger: ledger.clone(),
        reader: config.issuer.clone(),
    };
    start(&mut parts, books, &broker, &health, &stop);
    let follow = Follow {
        history: history.clone(),
        bounds: Bounds {
            age_max_ms: u64::try_from(serve.history_age_max.as_millis()).unwrap_or(u64::MAX),
            bytes_max: serve.history_bytes_max,
        },
    };
    start(&mut parts, follow, &broker, &health, &stop);
    let watch = Watch {
        fleet: fleet.clone(),
        ledger,
        history: history.clone(),
        leading: leading.clone(),
        issuer: config.issuer.clone(),
    };
    start(&mut parts, watch, &broker, &health, &stop);
    if let Some(listen) = serve.listen {
        let shown = Shown {
            health,
            leading,
            fleet,
            history,
        };
        let stopped = stop.clone();
        parts.start("http", async move {
            tokio::select! {
                () = http::run(listen, shown) => {}
                () = stopped.cancelled() => {}
            }
            Ok::<(), Infallible>(())
        });
    }
    parts.run().await.context("muster serve has ended")
}

/// Puts a part to work, with a connection of its own.
fn start(
    parts: &mut Supervisor,
    part: impl Part + 'static,
    broker: &BrokerConfig,
    health: &Health,
    stop: &CancellationToken,
) {
    let name = part.name().to_owned();
    health.begin(&name);
    let (broker, health, stop) = (broker.clone(), health.clone(), stop.clone());
    parts.start(name, async move {
        keep(part, broker, health, stop).await;
        Ok::<(), Infallible>(())
    });
}
