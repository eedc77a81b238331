//! The watch over units: every change of state is one event on the broker, whatever happens to the bus meanwhile, and
//! nothing is asked while nothing happens.

use anyhow::{Context, Result};
use muster_harness::eventually::eventually;
use serde_json::{Value, json};

use super::{Host, await_told, number, word};

const WATCHING: &str = r#"
[collect.services]
units = ["demo-*", "app@*", "absent"]
interval = "300ms"
"#;

/// A service that systemd restarts by itself.
const LASTING: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=50ms\n";

/// A service of which there may be many.
const TEMPLATE: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n";

/// A job that fails.
const FAILING: &str =
    "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'exit 3'\n";

impl Host {
    /// An agent that has read all there is, so that what comes is news.
    async fn watching() -> Result<Self> {
        let host = Self::with(WATCHING).await?;
        host.await_shown("the service manager is connected", |snapshot| {
            let connected = snapshot.pointer("/manager/connected")?.as_bool()?;
            connected.then_some(())
        })
        .await?;
        Ok(host)
    }

    /// Waits until these are all the events that there are, as `topic key`; the last one.
    async fn await_told(&self, wanted: &[&str]) -> Result<Value> {
        await_told(&self.fleet, "service.#", wanted).await
    }

    /// What the collector shows now.
    async fn snapshot(&self) -> Result<Value> {
        let arguments = ["collect", "services", "-o", "json"];
        let report = self.fleet.muster.succeed(&arguments).await?.json()?;
        let snapshot = report.pointer("/hosts/0/data/snapshots/services");
        snapshot
            .cloned()
            .with_context(|| format!("no snapshot in {report}"))
    }

    /// Waits until the snapshot shows what `wanted` finds in it.
    async fn await_shown<T>(&self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> Result<T> {
        eventually(what, async || {
            let snapshot = self
                .snapshot()
                .await
                .map_err(|error| format!("{error:#}"))?;
            wanted(&snapshot).ok_or_else(|| format!("{snapshot:#}"))
        })
        .await
    }

    async fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        self.systemd.run("systemctl", arguments).await
    }
}

fn unit<'a>(snapshot: &'a Value, name: &str) -> Option<&'a Value> {
    let units = snapshot.get("units")?.as_array()?;
    units.iter().find(|unit| word(unit, "name") == name)
}

#[tokio::test]
async fn each_change_of_a_unit_is_one_event_with_its_reason() -> Result<()> {
    let host = Host::watching().await?;
    host.systemd
        .put_unit("demo-lasting.service", LASTING)
        .await?;
    host.systemd.put_unit("app@.service", TEMPLATE).await?;
    host.systemd.put_unit("demo-job.service", FAILING).await?;
    // Killed: one event, with the signal.
    host.systemctl(&["start", "demo-good"]).await?;
    let mut told = vec!["service.started demo-good.service"];
    host.await_told(&told).await?;
    host.systemctl(&["kill", "--signal=KILL", "demo-good"])
        .await?;
    told.push("service.failed demo-good.service");
    let failed = host.await_told(&told).await?;
    assert_eq!(failed["fields"]["result"], "signal", "{failed}");
    assert_eq!(failed["fields"]["exit_how"], "killed", "{failed}");
    assert_eq!(failed["fields"]["exit_signal"], 9, "{failed}");
    assert_eq!(failed["before"]["active_state"], "active", "{failed}");
    assert_eq!(failed["after"]["active_state"], "failed", "{failed}");
    assert_eq!(failed["severity"], "error", "{failed}");
    let shown = host.snapshot().await?;
    let good = unit(&shown, "demo-good.service").context("demo-good is shown")?;
    assert_eq!(
        (&good["active_state"], &good["exit"]["signal"]),
        (&json!("failed"), &json!(9))
    );
    assert_eq!(shown["failed"], 1, "{shown}");

    // Restarted by hand: one event.
    host.systemctl(&["start", "demo-good"]).await?;
    told.push("service.started demo-good.service");
    host.await_told(&told).await?;
    host.systemctl(&["restart", "demo-good"]).await?;
    told.push("service.restarted demo-good.service");
    let restarted = host.await_told(&told).await?;
    assert_eq!(restarted["fields"]["automatic"], false, "{restarted}");

    // Restarted by systemd: one event, with the reason.
    host.systemctl(&["start", "demo-lasting"]).await?;
    told.push("service.started demo-lasting.service");
    host.await_told(&told).await?;
    host.systemctl(&["kill", "--signal=SEGV", "demo-lasting"])
        .await?;
    told.push("service.restarted demo-lasting.service");
    let restarted = host.await_told(&told).await?;
    assert_eq!(restarted["fields"]["automatic"], true, "{restarted}");
    assert_eq!(restarted["fields"]["exit_signal"], 11, "{restarted}");
    assert_eq!(restarted["after"]["n_restarts"], 1, "{restarted}");

    // A job that fails, twice; then it is forgotten.
    for _ in 0..2 {
        assert!(host.systemctl(&["start", "demo-job"]).await.is_err());
        told.push("service.failed demo-job.service");
        let failed = host.await_told(&told).await?;
        assert_eq!(failed["fields"]["exit_status"], 3, "{failed}");
    }
    host.systemctl(&["reset-failed", "demo-job"]).await?;
    told.push("service.cleared demo-job.service");
    host.await_told(&told).await?;

    // An instance that was not there when the agent began; one that is not watched.
    host.systemd.put_unit("other.service", TEMPLATE).await?;
    host.systemctl(&["start", "other"]).await?;
    host.systemctl(&["start", "app@7"]).await?;
    told.push("service.started app@7.service");
    host.await_told(&told).await?;
    // Two sockets: its output and its errors go to the journal.
    let usage = host
        .await_shown("what the instance uses", |snapshot| {
            let usage = unit(snapshot, "app@7.service")?.get("usage")?.clone();
            number(&usage, "processes").map(|_| usage)
        })
        .await?;
    assert_eq!(
        (&usage["processes"], &usage["sockets"]),
        (&json!(1), &json!(2)),
        "{usage}"
    );
    host.systemctl(&["stop", "app@7"]).await?;
    told.push("service.stopped app@7.service");
    host.await_told(&told).await?;
    let shown = host
        .await_shown("the instance is gone", |snapshot| {
            unit(snapshot, "app@7.service")
                .is_none()
                .then(|| snapshot.clone())
        })
        .await?;
    let absent = unit(&shown, "absent.service").context("absent is shown")?;
    assert_eq!(
        (word(absent, "load_state"), word(absent, "active_state")),
        ("not-found", "inactive")
    );
    assert!(unit(&shown, "other.service").is_none(), "{shown}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_missed_while_systemd_or_the_bus_are_restarted() -> Result<()> {
    let host = Host::watching().await?;
    host.systemctl(&["start", "demo-good"]).await?;
    let mut told = vec!["service.started demo-good.service"];
    host.await_told(&told).await?;

    // systemd runs itself anew, and knows nobody's wish to hear signals.
    host.systemctl(&["daemon-reexec"]).await?;
    host.systemctl(&["kill", "--signal=KILL", "demo-good"])
        .await?;
    told.push("service.failed demo-good.service");
    host.await_told(&told).await?;
    host.systemctl(&["daemon-reload"]).await?;
    host.systemctl(&["start", "demo-good"]).await?;
    told.push("service.started demo-good.service");
    host.await_told(&told).await?;

    // Without a bus nothing can be heard: what happens then is told when it is back.
    host.systemctl(&["stop", "dbus.socket", "dbus.service"])
        .await?;
    told.push("service.watch.lost systemd");
    host.await_told(&told).await?;
    let shown = host.snapshot().await?;
    assert_eq!(shown["manager"]["connected"], false, "{shown}");
    assert!(!word(&shown["manager"], "error").is_empty(), "{shown}");
    host.systemctl(&["restart", "demo-good"]).await?;
    host.systemctl(&["start", "dbus.socket"]).await?;
    told.push("service.restarted demo-good.service");
    told.push("service.watch.restored systemd");
    host.await_told(&told).await?;

    // And the signals are back too.
    host.systemctl(&["stop", "demo-good"]).await?;
    told.push("service.stopped demo-good.service");
    host.await_told(&told).await?;
    Ok(())
}

/// So many times three seconds a manager has to come to rest.
const WINDOWS: usize = 20;

#[tokio::test]
async fn nothing_is_asked_while_nothing_happens() -> Result<()> {
    let host = Host::watching().await?;
    host.systemctl(&["start", "demo-good"]).await?;
    host.await_told(&["service.started demo-good.service"])
        .await?;
    let counts = |snapshot: &Value| {
        let manager = snapshot.get("manager")?;
        let usage = unit(snapshot, "demo-good.service")?.get("usage")?;
        number(usage, "processes")?;
        Some([
            number(manager, "calls")?,
            number(manager, "signals")?,
            number(snapshot, "at_ms")?,
        ])
    };
    let mut before = host.await_shown("all is read", counts).await?;
    // A manager may still have something to say of itself; calls of ours that made it speak would never end.
    for _ in 0..WINDOWS {
        let [calls, signals, began_ms] = before;
        // Ten runs and more.
        let after = host
            .await_shown("the collector has run for three seconds", |snapshot| {
                counts(snapshot).filter(|[_, _, at_ms]| *at_ms > began_ms + 3_000)
            })
            .await?;
        if after[1] == signals {
            assert_eq!(after[0], calls, "calls without a signal");
            return Ok(());
        }
        before = after;
    }
    anyhow::bail!("the manager speaks all the time, {before:?} calls and signals in the end")
}
