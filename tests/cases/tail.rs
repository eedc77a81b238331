//! Logs, by a real agent and a real broker: every line that counts is one event, whatever becomes of the file, the agent
//! and the broker.

mod down;
mod full;
mod killed;
mod pack_keepalived;
mod rules_journal;
mod running;
mod search;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::{Agent, Broker, Fleet, FleetOptions, NodeOptions, eventually_within, want};
use muster_proto::event::Event;
use serde_json::Value;
use tempfile::TempDir;

use crate::outage::{assert_gapless, history};

/// For everything that is under way to arrive, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// One host whose agent follows the logs below a directory: a section for each of its directories.
struct Host {
    fleet: Fleet,
    logs: TempDir,
    broker: Broker,
}

impl Host {
    /// `sections`: name, pattern below the directory of that name, and further keys.
    async fn start(broker: Broker, sections: &[(&str, &str, &str)], tables: &str) -> Result<Self> {
        let logs = tempfile::tempdir()?;
        let mut config = tables.to_owned();
        for (name, pattern, keys) in sections {
            let dir = logs.path().join(name);
            fs::create_dir(&dir)?;
            config += &format!(
                r#"
[[tail]]
name = "{name}"
paths = ["{}/{pattern}"]
start = "beginning"
{keys}
[[tail.rule]]
pattern = 'counts (?P<number>[0-9]+)'
topic = "log.{name}"
severity = "info"
summary = "line {{number}}"
numbers = ["number"]
"#,
                dir.display()
            );
        }
        let options = FleetOptions {
            agents: 1,
            tables: config,
            ..FleetOptions::default()
        };
        let fleet = Fleet::start(&broker, &options).await?;
        Ok(Self {
            fleet,
            logs,
            broker,
        })
    }

    fn agent(&mut self) -> Result<&mut Agent> {
        self.fleet.agents.first_mut().context("an agent")
    }

    /// The directory of a section.
    fn log(&self, section: &str) -> Log {
        Log(self.logs.path().join(section))
    }

    /// Every event of the host, by the broker's history.
    async fn events(&self) -> Result<Vec<Event>> {
        let mut history = history(&self.broker).await?;
        let host = &self.fleet.agents.first().context("an agent")?.host;
        let events = history.remove(host).unwrap_or_default();
        assert_gapless(host, &events);
        Ok(events.into_values().collect())
    }

    /// Waits until as many lines of a section as `wanted` have arrived, and wants them to be these, in order.
    async fn arrived(&self, section: &str, wanted: &[u64]) -> Result<()> {
        let topic = format!("log.{section}");
        let what = format!("{} lines of {section}", wanted.len());
        eventually_within(&what, LIMIT, async || {
            let events = self.events().await.map_err(|error| format!("{error:#}"))?;
            let found = numbers(&events, &topic);
            if found.len() < wanted.len() {
                return Err(format!(
                    "{} have come, the last {:?}",
                    found.len(),
                    found.last()
                ));
            }
            assert_eq!(found, wanted, "{section}");
            Ok(())
        })
        .await
    }

    /// Bytes that the host says were lost, by section.
    async fn lost(&self, section: &str) -> Result<Vec<u64>> {
        let events = self.events().await?;
        let of = |event: &&Event| {
            event.topic == "agent.log.lost"
                && event.fields.get("section").and_then(Value::as_str) == Some(section)
        };
        let bytes = |event: &Event| event.fields.get("lost_bytes").and_then(Value::as_u64);
        Ok(events.iter().filter(of).filter_map(bytes).collect())
    }
}

/// The numbers of a topic's events, in the order in which the agent told them.
fn numbers(events: &[Event], topic: &str) -> Vec<u64> {
    let of = events.iter().filter(|event| event.topic == topic);
    of.filter_map(|event| event.fields.get("number")?.as_u64())
        .collect()
}

/// A directory with logs.
struct Log(PathBuf);

impl Log {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        append(&self.path(name), text.as_ref())
    }

    /// Numbered lines, one in ten of which counts; the numbers of those.
    fn write(&self, name: &str, numbers: Range<u64>) -> Result<Vec<u64>> {
        self.append(name, lines(numbers.clone()))?;
        Ok(numbers.filter(|number| number % 10 == 0).collect())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        Ok(fs::rename(self.path(from), self.path(to))?)
    }

    fn copy(&self, from: &str, to: &str) -> Result<()> {
        fs::copy(self.path(from), self.path(to))?;
        Ok(())
    }

    fn truncate(&self, name: &str) -> Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).truncate(true).open(self.path(name))?;
        Ok(())
    }
}

fn append(path: &Path, text: &[u8]) -> Result<()> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    Ok(file?.write_all(text)?)
}

fn lines(numbers: Range<u64>) -> String {
    let line = |number: u64| {
        let word = if number.is_multiple_of(10) {
            "counts"
        } else {
            "is"
        };
        format!(
            "Nov 22 19:{:02}:{:02} lb1 app[7]: this line {word} {number} and says no more\n",
            number / 60 % 60,
            number % 60
        )
    };
    numbers.map(line).collect()
}
