//! Processes that no service manager looks after, as the agent of a real host sees them: by name, by program and by
//! pidfile; what starts, stops and is restarted is one event each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use muster_harness::{Broker, Fleet, FleetOptions, Process, eventually};
use serde_json::Value;
use tempfile::TempDir;

use super::{await_told, number, word};

/// A host with an agent, and programs of its own that nobody else runs.
struct Host {
    fleet: Fleet,
    programs: TempDir,
    broker: Broker,
}

impl Host {
    async fn watching() -> Result<Self> {
        let broker = Broker::shared().await?;
        let programs = tempfile::tempdir()?;
        let folder = programs.path().display();
        let tag = broker.tag();
        let tables = format!(
            r#"
[collect.processes]
interval = "300ms"
[[collect.processes.watch]]
name = "game"
command = "^game-{tag}$"
cmdline = " 28960$"
[[collect.processes.watch]]
name = "pair"
exe = "^{folder}/pair-{tag}$"
count_min = 2
[[collect.processes.watch]]
name = "app"
pidfile = "{folder}/app.pid"
"#
        );
        let options = FleetOptions {
            agents: 1,
            tables,
            ..FleetOptions::default()
        };
        let fleet = Fleet::start(&broker, &options).await?;
        let host = Self {
            fleet,
            programs,
            broker,
        };
        // What the first look finds is no news.
        host.await_shown("all watches", |watches| {
            (watches.len() == 3 && watches.iter().all(|watch| watch["up"] == false)).then_some(())
        })
        .await?;
        Ok(host)
    }

    /// A copy of `sleep` under this name, running for `seconds`.
    fn run(&self, name: &str, seconds: &str) -> Result<Process> {
        let program = self.program(name)?;
        let mut command = Command::new(&program);
        command.arg(seconds);
        Process::spawn(name, &command, self.programs.path())
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self
            .programs
            .path()
            .join(format!("{name}-{}", self.broker.tag()));
        if !path.exists() {
            fs::copy("/bin/sleep", &path).context("copy sleep")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(path)
    }

    fn pidfile(&self) -> PathBuf {
        self.programs.path().join("app.pid")
    }

    /// Waits until these are all the events that there are, as `topic key`; the last one.
    async fn await_told(&self, wanted: &[&str]) -> Result<Value> {
        await_told(&self.fleet, "process.#", wanted).await
    }

    /// Waits until the snapshot's watches show what `wanted` finds in them.
    async fn await_shown<T>(
        &self,
        what: &str,
        wanted: impl Fn(&[Value]) -> Option<T>,
    ) -> Result<T> {
        let arguments = ["collect", "processes", "-o", "json"];
        eventually(what, async || {
            let report = self.fleet.muster.succeed(&arguments).await;
            let report = report.and_then(|output| output.json());
            let report = report.map_err(|error| format!("{error:#}"))?;
            let watches = report.pointer("/hosts/0/data/snapshots/processes/watches");
            let watches = watches.and_then(Value::as_array).map(Vec::as_slice);
            watches
                .and_then(&wanted)
                .ok_or_else(|| format!("{report:#}"))
        })
        .await
    }

    /// What happens between two looks of the agent.
    async fn unseen<T>(&mut self, what: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let agent = self.fleet.agents.first_mut().context("an agent")?;
        agent.process()?.pause().await?;
        let done = what(self).await;
        let agent = self.fleet.agents.first_mut().context("an agent")?;
        agent.process()?.resume()?;
        done
    }
}

fn write_pid(file: &Path, process: &Process) -> Result<()> {
    fs::write(file, format!("{}\n", process.pid())).context("write the pidfile")
}

fn shows(watches: &[Value], at: usize, pid: u32, restarts: u64) -> Option<()> {
    let watch = &watches[at];
    let main = number(&watch["main"], "pid");
    let seen = number(watch, "restarts_seen");
    (watch["up"] == true && main == Some(u64::from(pid)) && seen == Some(restarts)).then_some(())
}

#[tokio::test]
async fn what_starts_stops_and_is_restarted_is_one_event_each() -> Result<()> {
    let mut host = Host::watching().await?;
    let mut told = Vec::new();

    // By name: not the one with other arguments.
    let _other = host.run("game", "28961")?;
    let mut game = host.run("game", "28960")?;
    told.push("process.started game");
    host.await_told(&told).await?;
    host.await_shown("the game", |watches| shows(watches, 0, game.pid(), 1))
        .await?;

    // A restart between two looks, and one after the other.
    let mut game = host
        .unseen(async |host| {
            game.kill().await?;
            host.run("game", "28960")
        })
        .await?;
    told.push("process.restarted game");
    let restarted = host.await_told(&told).await?;
    assert_eq!(
        number(&restarted["after"], "main_pid"),
        Some(u64::from(game.pid())),
        "{restarted}"
    );
    host.await_shown("the game", |watches| shows(watches, 0, game.pid(), 2))
        .await?;
    game.kill().await?;
    told.push("process.stopped game");
    let stopped = host.await_told(&told).await?;
    assert_eq!(word(&stopped, "severity"), "error", "{stopped}");

    // By program: it takes two, and one more or less is no restart.
    let mut first = host.run("pair", "1000")?;
    let _second = host.run("pair", "1001")?;
    told.push("process.started pair");
    host.await_told(&told).await?;
    let third = host.run("pair", "1002")?;
    host.await_shown("three", |watches| {
        (number(&watches[1], "count") == Some(3)).then_some(())
    })
    .await?;
    first.kill().await?;
    host.await_shown("two", |watches| {
        (number(&watches[1], "count") == Some(2)).then_some(())
    })
    .await?;
    drop(third);
    told.push("process.stopped pair");
    let stopped = host.await_told(&told).await?;
    assert!(
        word(&stopped, "summary").contains("1 of 2 processes"),
        "{stopped}"
    );

    // By pidfile: one that is stale is told as such.
    let mut app = host.run("app", "2000")?;
    write_pid(&host.pidfile(), &app)?;
    told.push("process.started app");
    host.await_told(&told).await?;
    let mut app = host
        .unseen(async |host| {
            app.kill().await?;
            let app = host.run("app", "2000")?;
            write_pid(&host.pidfile(), &app)?;
            Ok(app)
        })
        .await?;
    told.push("process.restarted app");
    host.await_told(&told).await?;
    host.await_shown("the app", |watches| shows(watches, 2, app.pid(), 2))
        .await?;
    app.kill().await?;
    told.push("process.stopped app");
    let stopped = host.await_told(&told).await?;
    let note = stopped.pointer("/fields/note").and_then(Value::as_str);
    assert!(
        note.is_some_and(|note| note.contains("app.pid")),
        "{stopped}"
    );
    host.await_shown("the stale pidfile", |watches| {
        watches[2]["note"].as_str().map(drop)
    })
    .await
}
