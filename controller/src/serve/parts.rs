//! The parts that run: each a task of its own that stands apart from the others, so that a new config stops and starts
//! those whose settings changed and leaves the rest at work. It must not know what a part does.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use muster_link::{BrokerConfig, SuperviseError, Supervisor};
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::session::{Part, keep};
use crate::config::Print;

/// From a part's stop to its end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type End = Pin<Box<dyn Future<Output = (String, Result<(), SuperviseError>)>>>;

/// A part that a config asks for.
pub(crate) struct Planned {
    name: String,
    /// Of the settings that it was made from: another one, and it is stopped and started again.
    print: Print,
    begin: Box<dyn FnOnce(CancellationToken) -> Task>,
}

impl Planned {
    /// A part that runs until its stop by means of its own.
    pub(crate) fn task<F: Future<Output = ()> + Send + 'static>(
        name: impl Into<String>,
        print: Print,
        begin: impl FnOnce(CancellationToken) -> F + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            print,
            begin: Box::new(|stop| Box::pin(begin(stop))),
        }
    }

    /// A part that works on a connection of its own.
    pub(crate) fn linked(
        part: impl Part + 'static,
        print: Print,
        broker: &BrokerConfig,
        health: &Health,
    ) -> Self {
        let (broker, health) = (broker.clone(), health.clone());
        Self::task(part.name().to_owned(), print, move |stop| {
            health.begin(part.name());
            keep(part, broker, health, stop)
        })
    }
}

/// The parts at work.
pub(crate) struct Parts {
    slots: BTreeMap<String, Slot>,
    ends: FuturesUnordered<End>,
    health: Health,
}

struct Slot {
    print: Print,
    stop: CancellationToken,
}

/// What a new plan changed, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) stopped: Vec<String>,
    pub(crate) started: Vec<String>,
}

impl Parts {
    /// None yet; the board forgets those that are stopped.
    pub(crate) fn new(health: Health) -> Self {
        Self {
            slots: BTreeMap::new(),
            ends: FuturesUnordered::new(),
            health,
        }
    }

    /// Stops what is not in the plan or is there with other settings, and waits for its end; then starts what is new.
    ///
    /// # Errors
    /// When a part ends meanwhile that nobody told to.
    pub(crate) async fn adopt(&mut self, plan: Vec<Planned>) -> Result<Changes> {
        let wanted: BTreeMap<&str, &Print> = plan
            .iter()
            .map(|part| (part.name.as_str(), &part.print))
            .collect();
        let leaving: Vec<String> = self
            .slots
            .iter()
            .filter(|(name, slot)| wanted.get(name.as_str()) != Some(&&slot.print))
            .map(|(name, _)| name.clone())
            .collect();
        self.stop(&leaving).await?;
        let mut changes = Changes {
            stopped: leaving,
            started: Vec::new(),
        };
        for part in plan {
            if !self.slots.contains_key(&part.name) {
                changes.started.push(part.name.clone());
                self.start(part);
            }
        }
        Ok(changes)
    }

    /// Runs until a part ends that nobody told to, and says why.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        loop {
            match self.ends.next().await {
                Some((name, outcome)) => {
                    self.forget(&name);
                    match outcome {
                        Err(error) => return error.into(),
                        Ok(()) => {
                            return anyhow::anyhow!("the part {name} ended before it was told to");
                        }
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Stops all, together.
    ///
    /// # Errors
    /// When one did not end well; the others have ended all the same.
    pub(crate) async fn stop_all(&mut self) -> Result<()> {
        let all: Vec<String> = self.slots.keys().cloned().collect();
        self.stop(&all).await
    }

    fn start(&mut self, part: Planned) {
        let stop = CancellationToken::new();
        let mut supervisor = Supervisor::new(stop.clone(), STOP_LIMIT);
        let task = (part.begin)(stop.clone());
        supervisor.start(part.name.clone(), async move {
            task.await;
            Ok::<(), Infallible>(())
        });
        let name = part.name.clone();
        self.ends
            .push(Box::pin(async move { (name, supervisor.run().await) }));
        let print = part.print;
        self.slots.insert(part.name, Slot { print, stop });
    }

    async fn stop(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            if let Some(slot) = self.slots.get(name) {
                slot.stop.cancel();
            }
        }
        let mut waiting: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut first = Ok(());
        while !waiting.is_empty() {
            let Some((name, outcome)) = self.ends.next().await else {
                break;
            };
            self.forget(&name);
            let was_told = waiting.remove(name.as_str());
            let outcome = match outcome {
                Ok(()) if !was_told => Err(anyhow::anyhow!("it ended before it was told to")),
                other => other.map_err(anyhow::Error::from),
            };
            first = first.and(outcome.with_context(|| format!("the part {name}")));
        }
        first
    }

    fn forget(&mut self, name: &str) {
        self.slots.remove(name);
        self.health.end(name);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Log = Arc<Mutex<Vec<String>>>;

    fn part(log: &Log, name: &str, setting: &str) -> Planned {
        let (log, words) = (log.clone(), format!("{name} {setting}"));
        Planned::task(name, Print::of(setting), move |stop| async move {
            log.lock().unwrap().push(format!("{words} began"));
            stop.cancelled().await;
            log.lock().unwrap().push(format!("{words} ended"));
        })
    }

    #[tokio::test]
    async fn only_what_changed_is_started_again() {
        let log = Log::default();
        let mut parts = Parts::new(Health::default());
        let plan = ["a", "b", "c"].map(|name| part(&log, name, "1"));
        parts.adopt(plan.into()).await.unwrap();
        tokio::task::yield_now().await;
        log.lock().unwrap().clear();
        let plan = vec![
            part(&log, "a", "1"),
            part(&log, "b", "2"),
            part(&log, "d", "1"),
        ];
        let changes = parts.adopt(plan).await.unwrap();
        let of = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let want = Changes {
            stopped: of(&["b", "c"]),
            started: of(&["b", "d"]),
        };
        assert_eq!(changes, want);
        parts.stop_all().await.unwrap();
        let mut log = log.lock().unwrap().clone();
        log.sort();
        let want = [
            "a 1 ended",
            "b 1 ended",
            "b 2 began",
            "b 2 ended",
            "c 1 ended",
            "d 1 began",
            "d 1 ended",
        ];
        assert_eq!(log, want);
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_is_named() {
        let mut parts = Parts::new(Health::default());
        let short = Planned::task("short", Print::of(""), |_| async {});
        parts.adopt(vec![short]).await.unwrap();
        let error = format!("{:#}", parts.failed().await);
        assert!(
            error.contains("short ended before it was told to"),
            "{error}"
        );
    }
}
