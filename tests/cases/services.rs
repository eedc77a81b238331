//! Services on a real systemd: the actions, whose answers are what became of the unit, and the watch over units. And
//! processes that no service manager looks after.

mod processes;
mod watch;

use anyhow::{Context, Result};
use muster_harness::{Broker, Fleet, FleetOptions, Process, Systemd, eventually};
use serde_json::Value;

/// One agent that sees a systemd of the test's own as the machine's.
struct Host {
    // Ends before what it stands on.
    fleet: Fleet,
    systemd: Systemd,
    _broker: Broker,
}

/// Waits until these are all the events of a pattern that there are, as `topic key`; the last one.
async fn await_told(fleet: &Fleet, pattern: &str, wanted: &[&str]) -> Result<Value> {
    let since = ["--since", "1h", "--no-follow", "-o", "ndjson"];
    let arguments = [&["watch", pattern][..], &since].concat();
    let what = format!("the events {wanted:?}");
    let events = eventually(&what, async || {
        let events = fleet.muster.succeed(&arguments).await;
        let events = events.and_then(|output| output.json_lines());
        let events = events.map_err(|error| format!("{error:#}"))?;
        let told: Vec<String> = events
            .iter()
            .map(|event| format!("{} {}", word(event, "topic"), word(event, "key")))
            .collect();
        if told == wanted {
            Ok(events)
        } else {
            Err(format!("{events:#?}"))
        }
    });
    events.await?.pop().context("an event")
}

/// What `muster run` said of the host.
struct Answer {
    code: i32,
    state: String,
    reason: String,
    message: String,
    data: Value,
}

impl Host {
    async fn start() -> Result<Self> {
        let tables = "[services]\nunits = [\"demo-*\", \"absent\", \"masked.service\"]\n";
        Self::with(tables).await
    }

    /// The same with these tables in the agent's config.
    async fn with(tables: &str) -> Result<Self> {
        let systemd = Systemd::start().await?;
        let broker = Broker::shared().await?;
        let options = FleetOptions {
            agents: 1,
            tables: tables.to_owned(),
            ..FleetOptions::default()
        };
        let mut fleet = Fleet::enroll(&broker, &options).await?;
        let logs = fleet.directory().to_owned();
        let agent = fleet.agents.first_mut().context("no agent")?;
        let mut command = systemd.command(muster_harness::fleet::binary("muster-agent")?);
        command.arg("--config").arg(&agent.config).arg("run");
        agent.adopt(Process::spawn("agent", &command, &logs)?);
        fleet.await_all().await?;
        Ok(Self {
            fleet,
            systemd,
            _broker: broker,
        })
    }

    async fn run(&self, action: &str, unit: &str, more: &[&str]) -> Result<Answer> {
        let unit = format!("unit={unit}");
        let arguments = ["run", "-o", "json", "-t", "*", action, &unit];
        let output = self.fleet.muster.run(&[&arguments, more].concat()).await?;
        let json = output.json()?;
        let text = |pointer: &str| {
            let value = json.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        Ok(Answer {
            code: output.code,
            state: text("/hosts/0/state"),
            reason: text("/hosts/0/reason/code"),
            message: text("/hosts/0/reason/message"),
            data: json.pointer("/hosts/0/data").cloned().unwrap_or_default(),
        })
    }

    /// Runs it and wants it to have succeeded; its data.
    async fn good(&self, action: &str, unit: &str) -> Result<Value> {
        let answer = self.run(action, unit, &[]).await?;
        assert_eq!(
            (answer.code, answer.state.as_str()),
            (0, "succeeded"),
            "{action} {unit}: {}",
            answer.message
        );
        Ok(answer.data)
    }

    /// Runs it and wants it to have failed with these words.
    async fn bad(&self, action: &str, unit: &str, says: &str) -> Result<Answer> {
        let answer = self.run(action, unit, &[]).await?;
        assert_eq!(
            (answer.code, answer.state.as_str(), answer.reason.as_str()),
            (4, "failed", "action-failed"),
            "{action} {unit}: {}",
            answer.message
        );
        assert!(
            answer.message.contains(says),
            "{action} {unit}: {}",
            answer.message
        );
        Ok(answer)
    }

    async fn main_pid(&self, unit: &str) -> Result<u64> {
        let pid = self.systemd.property(unit, "MainPID").await?;
        pid.parse()
            .with_context(|| format!("{unit} has the main pid {pid:?}"))
    }
}

fn number(data: &Value, field: &str) -> Option<u64> {
    data.get(field).and_then(Value::as_u64)
}

fn word<'a>(data: &'a Value, field: &str) -> &'a str {
    data.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn what_is_asked_is_done_and_told() -> Result<()> {
    let host = Host::start().await?;

    // Start; a bare name means the service.
    let started = host.good("service.start", "demo-good").await?;
    assert_eq!(word(&started, "unit"), "demo-good.service");
    assert_eq!(
        (word(&started, "active_state"), word(&started, "job_result")),
        ("active", "done")
    );
    let first = host.main_pid("demo-good.service").await?;
    assert!(
        first > 0 && number(&started, "main_pid") == Some(first),
        "{started}"
    );

    // A dry run says what would be done, and the process stays the same.
    let dry = host
        .run("service.restart", "demo-good", &["--dry-run"])
        .await?;
    assert_eq!(dry.state, "succeeded", "{}", dry.message);
    assert_eq!(
        word(&dry.data, "would"),
        "restart demo-good.service, which is active (running)"
    );
    assert_eq!(host.main_pid("demo-good.service").await?, first);

    // A restart gives another process, and its status says so.
    let restarted = host.good("service.restart", "demo-good.service").await?;
    let second = host.main_pid("demo-good.service").await?;
    assert_ne!(second, first);
    assert_eq!(number(&restarted, "main_pid"), Some(second));
    let status = host.good("service.status", "demo-good").await?;
    assert_eq!(number(&status, "main_pid"), Some(second));
    assert!(
        number(&status, "since_ms").is_some_and(|at| at > 1_600_000_000_000),
        "{status}"
    );

    // A reload runs the unit's own command, once.
    host.good("service.start", "demo-reload").await?;
    host.good("service.reload", "demo-reload").await?;
    let reloads = std::fs::read_to_string(host.systemd.directory().join("reloads"))?;
    assert_eq!(reloads, "reloaded\n");

    // One that takes its time is waited for; a oneshot is done when it has ended.
    host.good("service.start", "demo-slow").await?;
    assert_eq!(
        host.systemd
            .property("demo-slow.service", "ActiveState")
            .await?,
        "active"
    );
    let once = host.good("service.start", "demo-once").await?;
    assert_eq!(word(&once, "active_state"), "inactive");

    let stopped = host.good("service.stop", "demo-good").await?;
    assert_eq!(word(&stopped, "active_state"), "inactive");
    assert_eq!(host.main_pid("demo-good.service").await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_fails_says_why_with_the_journal() -> Result<()> {
    let host = Host::start().await?;

    let failed = host
        .bad("service.start", "demo-bad", "start demo-bad.service failed")
        .await?;
    assert_eq!(word(&failed.data, "result"), "exit-code", "{}", failed.data);
    let journal = failed
        .data
        .get("journal")
        .map(Value::to_string)
        .unwrap_or_default();
    assert!(
        journal.contains("no such luck"),
        "the journal's tail: {journal}"
    );

    // It starts, says the service manager; a moment later it is dead.
    let dying = "[Service]\nExecStart=/bin/sh -c 'sleep 0.2; echo cannot go on >&2; exit 7'\n";
    host.systemd.put_unit("demo-dying.service", dying).await?;
    let died = host
        .bad("service.restart", "demo-dying", "exit status 7")
        .await?;
    assert_eq!(word(&died.data, "job_result"), "done", "{}", died.data);
    let journal = died
        .data
        .get("journal")
        .map(Value::to_string)
        .unwrap_or_default();
    assert!(
        journal.contains("cannot go on"),
        "the journal's tail: {journal}"
    );

    host.bad("service.start", "absent", "no unit absent.service")
        .await?;
    host.bad("service.status", "absent", "no unit absent.service")
        .await?;
    let masked = host.systemd.directory().join("units/masked.service");
    std::os::unix::fs::symlink("/dev/null", masked)?;
    host.systemd.run("systemctl", &["daemon-reload"]).await?;
    host.bad("service.start", "masked.service", "is masked")
        .await?;
    host.bad(
        "service.reload",
        "demo-good",
        "could not reload demo-good.service",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_touched_is_refused_and_what_takes_too_long_is_ended() -> Result<()> {
    let host = Host::start().await?;

    let before = host.main_pid("dbus.service").await?;
    let refused = host.run("service.restart", "dbus", &[]).await?;
    assert_eq!(
        (
            refused.code,
            refused.state.as_str(),
            refused.reason.as_str()
        ),
        (6, "rejected", "policy-denied"),
        "{}",
        refused.message
    );
    assert!(
        refused.message.contains("[services] units"),
        "{}",
        refused.message
    );
    assert_eq!(host.main_pid("dbus.service").await?, before);
    let odd = host.run("service.restart", "../demo-good", &[]).await?;
    assert_eq!(
        (odd.state.as_str(), odd.reason.as_str()),
        ("rejected", "bad-argument")
    );

    let stuck = "[Service]\nExecStartPre=/bin/sleep infinity\nExecStart=/bin/sleep infinity\n";
    host.systemd.put_unit("demo-stuck.service", stuck).await?;
    let ended = host
        .run("service.start", "demo-stuck", &["--run-limit", "2s"])
        .await?;
    assert_eq!(
        (ended.state.as_str(), ended.reason.as_str()),
        ("execution-expired", "run-limit"),
        "{}",
        ended.message
    );
    assert_eq!(
        host.systemd.property("demo-stuck.service", "Job").await?,
        ""
    );
    Ok(())
}
