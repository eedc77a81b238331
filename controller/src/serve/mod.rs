//! `muster serve`: what stands between the fleet and those who look at it. Any number may run; each keeps its own ledger
//! and history from the broker's streams, and one of them leads. This file wires; each part is a file of its own with a
//! connection of its own.
//!
//! A new config (SIGHUP) is checked as a whole before anything is touched. Parts whose settings it changes are stopped in
//! good order and started again; the others don't notice.

mod books;
pub mod bridges;
pub mod config;
mod derived;
mod fleet;
mod gather;
mod health;
mod history;
mod http;
mod lead;
mod metrics;
mod parts;
pub mod react;
pub mod republish;
mod scrape;
mod session;
mod stats;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, watch as value};
use tokio_util::sync::CancellationToken;

use self::books::Books;
use self::bridges::Bridge;
use self::bridges::board::Board;
use self::gather::{Gather, SharedSeries};
use self::health::Health;
use self::history::{Bounds, Follow, History};
use self::http::Shown;
use self::lead::Lead;
use self::parts::{Parts, Planned};
use self::react::tally::Tally;
use self::react::{Dispatcher, React};
use self::republish::Republish;
use self::watch::{SharedFleet, Watch};
use crate::config::{Config, Print};
use crate::ledger::Ledger;

/// What every part depends on.
const EVERYWHERE: [&str; 4] = ["issuer", "broker", "cache_dir", "serve.state_dir"];

/// What the gathered figures depend on.
const SERIES_KEYS: [&str; 3] = [
    "serve.series_max",
    "serve.series_per_host_max",
    "serve.series_points",
];

/// What reactions depend on.
const REACT_KEYS: [&str; 6] = [
    "key_file",
    "mail",
    "webhook",
    "reactions",
    "maintenance",
    "reaction",
];

/// What the parts share.
struct Core {
    state_dir: PathBuf,
    health: Health,
    leading: value::Sender<bool>,
    ledger: Arc<Ledger>,
    history: History,
    fleet: SharedFleet,
    series: SharedSeries,
    bridges: Board,
    reactions: Tally,
}

/// Serves until `stop`, or until a part fails in a way that it can't mend. `ready` is called once all parts have begun;
/// whatever comes by `reloads` has the config read again.
///
/// # Errors
/// When the config names no broker, or a file of its own can't be used.
pub async fn run(
    mut config: Config,
    mut reloads: mpsc::Receiver<()>,
    stop: CancellationToken,
    ready: impl FnOnce(),
) -> Result<()> {
    let health = Health::default();
    let mut core = Core::open(&config, health.clone())?;
    let mut parts = Parts::new(health);
    parts.adopt(plan(&config, &core)?).await?;
    ready();
    let failure = loop {
        tokio::select! {
            () = stop.cancelled() => break None,
            error = parts.failed() => break Some(error),
            Some(()) = reloads.recv() => {
                match reload(&config, &core) {
                    Ok((new_config, new_core, plan)) => {
                        (config, core) = (new_config, new_core.unwrap_or(core));
                        let changes = parts.adopt(plan).await?;
                        tracing::info!(stopped = ?changes.stopped, started = ?changes.started, "the new config is in use");
                    }
                    Err(error) => tracing::error!("the config was not taken, the one before stays in use: {error:#}"),
                }
            }
        }
    };
    let stopped = parts.stop_all().await;
    match failure {
        Some(error) => Err(error.context("muster serve has ended")),
        None => stopped.context("stop muster serve"),
    }
}

/// Reads and checks a new config, up to what it makes of the parts; nothing is touched yet.
fn reload(config: &Config, core: &Core) -> Result<(Config, Option<Core>, Vec<Planned>)> {
    let new = config.load_again()?;
    let opened = match new.serve.state_dir == core.state_dir {
        true => None,
        false => Some(Core::open(&new, core.health.clone())?),
    };
    let plan = plan(&new, opened.as_ref().unwrap_or(core))?;
    Ok((new, opened, plan))
}

/// Every part that the config asks for, each with the print of the settings that it is made from.
fn plan(config: &Config, core: &Core) -> Result<Vec<Planned>> {
    let broker = config.broker()?;
    let serve = &config.serve;
    let print = |own: &[&str]| -> Print { config.print_of(&[&EVERYWHERE, own].concat()) };
    let lead = Lead::new(core.leading.clone());
    let books = Books {
        ledger: core.ledger.clone(),
        reader: config.issuer.clone(),
    };
    let follow = Follow {
        history: core.history.clone(),
        bounds: Bounds {
            age_max_ms: u64::try_from(serve.history_age_max.as_millis()).unwrap_or(u64::MAX),
            bytes_max: serve.history_bytes_max,
        },
    };
    let watch = Watch {
        fleet: core.fleet.clone(),
        series: core.series.clone(),
        ledger: core.ledger.clone(),
        history: core.history.clone(),
        leading: core.leading.subscribe(),
        issuer: config.issuer.clone(),
    };
    let history_keys = ["serve.history_age_max", "serve.history_bytes_max"];
    let mut plan = vec![
        Planned::linked(lead, print(&[]), broker, &core.health),
        Planned::linked(books, print(&[]), broker, &core.health),
        Planned::linked(follow, print(&history_keys), broker, &core.health),
        Planned::linked(watch, print(&[]), broker, &core.health),
    ];
    if let Some(part) = Republish::new(config.republish.clone(), &core.state_dir) {
        let print = print(&["republish"]);
        plan.push(Planned::linked(part, print, broker, &core.health));
    }
    if serve.series.series_max > 0 {
        let gather = Gather {
            series: core.series.clone(),
            bounds: serve.series,
            issuer: config.issuer.clone(),
        };
        let print = print(&SERIES_KEYS);
        plan.push(Planned::linked(gather, print, broker, &core.health));
    }
    plan.extend(react_of(config, core, print(&REACT_KEYS))?);
    plan.extend(bridges(config, core)?);
    if let Some(listen) = serve.listen {
        let shown = Shown {
            health: core.health.clone(),
            leading: core.leading.subscribe(),
            fleet: core.fleet.clone(),
            history: core.history.clone(),
            series: core.series.clone(),
            bridges: core.bridges.clone(),
            reactions: core.reactions.clone(),
        };
        let http = async move |stop: CancellationToken| {
            tokio::select! {
                () = http::run(listen, shown) => {}
                () = stop.cancelled() => {}
            }
        };
        plan.push(Planned::task("http", print(&["serve.listen"]), http));
    }
    Ok(plan)
}

/// The part that reacts, where the config has reactions.
fn react_of(config: &Config, core: &Core, print: Print) -> Result<Option<Planned>> {
    if !config.react.has_reactions() {
        return Ok(None);
    }
    let has_jobs = config.react.has_jobs();
    let dispatcher = Dispatcher {
        issuer: config.issuer.clone(),
        key: has_jobs.then(|| config.signer()).transpose()?,
        fleet: core.fleet.clone(),
    };
    let (history, leading) = (core.history.clone(), core.leading.subscribe());
    let tally = core.reactions.clone();
    let react = React::new(config.react.clone(), dispatcher, history, leading, tally)?;
    let planned = Planned::linked(react, print, config.broker()?, &core.health);
    Ok(Some(planned))
}

/// A part for each bridge.
fn bridges(config: &Config, core: &Core) -> Result<Vec<Planned>> {
    let broker = config.broker()?;
    let names: Vec<&str> = config.bridges.iter().map(|one| one.name.as_str()).collect();
    core.bridges.keep(&names);
    let planned = config.bridges.iter().map(|bridge| {
        let key = format!("bridge.{}", bridge.name);
        let print = config.print_of(&[&EVERYWHERE, [key.as_str()].as_slice()].concat());
        let part = Bridge::new(bridge, &core.bridges, &core.health);
        Planned::linked(part, print, broker, &core.health)
    });
    Ok(planned.collect())
}

impl Core {
    fn open(config: &Config, health: Health) -> Result<Self> {
        let state_dir = config.serve.state_dir.clone();
        std::fs::create_dir_all(&state_dir)
            .with_context(|| format!("make the directory {}", state_dir.display()))?;
        Ok(Self {
            health,
            leading: value::Sender::new(false),
            ledger: Arc::new(Ledger::open(&state_dir).context("open the ledger")?),
            history: History::open(&state_dir)?,
            fleet: SharedFleet::default(),
            series: SharedSeries::new(config.serve.series),
            bridges: Board::default(),
            reactions: Tally::default(),
            state_dir,
        })
    }
}
