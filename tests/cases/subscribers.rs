//! Other services that read along, by the page that tells how: its programs as they are printed there, against a live
//! fleet; the same as JSON; what a subscriber's broker user may do; and the facts of the schemas.

mod json;
mod printed;
mod programs;
mod rights;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_harness::{Broker, Fleet, FleetOptions, eventually_within};
use muster_proto::event::Event;
use tempfile::TempDir;

/// For everything that is under way to arrive, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Topic of the events that a stage's log makes.
const TOPIC: &str = "app.said";

/// A fleet whose agents all follow one log, each line of which is an event of every host.
struct Stage {
    fleet: Fleet,
    broker: Broker,
    logs: TempDir,
}

impl Stage {
    async fn start(agents: usize) -> Result<Self> {
        let broker = Broker::shared().await?;
        let logs = tempfile::tempdir()?;
        let tables = format!(
            r#"
[[tail]]
name = "app"
paths = ["{}/app.log"]
start = "beginning"
[[tail.rule]]
pattern = 'says (?<number>[0-9]+)'
topic = "{TOPIC}"
severity = "info"
summary = "says {{number}}"
numbers = ["number"]
"#,
            logs.path().display()
        );
        let options = FleetOptions {
            agents,
            keys: "presence_interval = \"2s\"".to_owned(),
            tables,
            ..FleetOptions::default()
        };
        let fleet = Fleet::start(&broker, &options).await?;
        Ok(Self {
            fleet,
            broker,
            logs,
        })
    }

    /// Writes a line for each number.
    fn say(&self, numbers: Range<u64>) -> Result<()> {
        let path = self.logs.path().join("app.log");
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let text: String = numbers.map(|number| format!("says {number}\n")).collect();
        file.write_all(text.as_bytes())?;
        Ok(())
    }

    /// What an administrator's `muster` prints.
    async fn as_admin(&self, arguments: &[&str]) -> Result<String> {
        let config = self.fleet.muster.home().join(".config/muster/admin.toml");
        let config = config.display().to_string();
        let arguments = [&["--config", config.as_str()], arguments].concat();
        Ok(self.fleet.muster.succeed(&arguments).await?.stdout)
    }

    /// A subscriber's name that no other test on the node has, and its URL.
    async fn enroll(&self, name: &str) -> Result<(String, String)> {
        let name = format!("{name}-{}", self.broker.tag());
        let told = self
            .as_admin(&["broker", "enroll", "--subscriber", &name])
            .await?;
        let url = told
            .lines()
            .find_map(|line| line.strip_prefix("MUSTER_URL="));
        let url = url.with_context(|| format!("no URL in {told}"))?.to_owned();
        Ok((name, url))
    }

    /// Waits until the history has the lines `0..count` of every host, and gives all that agents have told.
    async fn told(&self, count: u64) -> Result<BTreeMap<String, BTreeMap<u64, Event>>> {
        let hosts = self.fleet.agents.len();
        eventually_within("the history has every line", LIMIT, async || {
            let history = crate::outage::history(&self.broker).await;
            let history = history.map_err(|error| format!("{error:#}"))?;
            let said: Vec<usize> = history.values().map(|events| said(events).len()).collect();
            if said.len() == hosts && said.iter().all(|said| *said as u64 == count) {
                Ok(history)
            } else {
                Err(format!("{said:?} of {count}"))
            }
        })
        .await
    }

    /// Waits until `queue` has as many consumers.
    async fn await_consumers(&self, queue: &str, wanted: u64) -> Result<()> {
        eventually_within(
            &format!("{wanted} consumers of {queue}"),
            LIMIT,
            async || {
                let queues = self.broker.management().queues(self.broker.vhost()).await;
                let queues = queues.map_err(|error| format!("{error:#}"))?;
                let found = queues.iter().find(|one| one.name == queue);
                match found.map(|queue| queue.consumers) {
                    Some(consumers) if consumers == wanted => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            },
        )
        .await
    }
}

/// The events of the log, by their numbers on the host.
fn said(events: &BTreeMap<u64, Event>) -> BTreeSet<u64> {
    let of_log = events.values().filter(|event| event.topic == TOPIC);
    of_log.map(|event| event.seq).collect()
}

/// The page.
fn document() -> Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/subscribe.md");
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The program in `language` that the page prints.
fn program(language: &str) -> Result<String> {
    let text = document()?;
    let begin = format!("\n```{language}\n");
    let mut parts = text.split(&begin).skip(1);
    let rest = parts
        .next()
        .with_context(|| format!("no {language} on the page"))?;
    ensure!(
        parts.next().is_none(),
        "more than one program in {language}"
    );
    let (program, _) = rest
        .split_once("\n```\n")
        .context("a program without an end")?;
    Ok(format!("{program}\n"))
}
