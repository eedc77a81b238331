//! A systemd of the test's own: its units, its journal, its bus, and nothing left of it afterwards.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use muster_harness::{Process, Systemd, eventually, want};

#[tokio::test]
async fn systemd_runs_units_and_keeps_their_journal() -> Result<()> {
    let systemd = Systemd::start().await?;
    systemd
        .run("systemctl", &["start", "demo-good.service"])
        .await?;
    assert_eq!(
        systemd.property("demo-good.service", "ActiveState").await?,
        "active"
    );

    assert!(
        systemd
            .run("systemctl", &["start", "demo-bad.service"])
            .await
            .is_err(),
        "a bad unit started"
    );
    assert_eq!(
        systemd.property("demo-bad.service", "ActiveState").await?,
        "failed"
    );
    let journal = systemd
        .run("journalctl", &["--unit=demo-bad.service", "--output=cat"])
        .await?;
    assert!(journal.contains("no such luck"), "{journal}");

    systemd
        .run("systemctl", &["start", "demo-reload.service"])
        .await?;
    systemd
        .run("systemctl", &["reload", "demo-reload.service"])
        .await?;
    assert_eq!(
        std::fs::read_to_string(systemd.directory().join("reloads"))?,
        "reloaded\n"
    );

    systemd
        .put_unit(
            "mine.service",
            "[Service]\nType=oneshot\nExecStart=/bin/true\nRemainAfterExit=yes\n",
        )
        .await?;
    systemd.run("systemctl", &["start", "mine.service"]).await?;
    assert_eq!(
        systemd.property("mine.service", "SubState").await?,
        "exited"
    );
    Ok(())
}

/// A unit with default dependencies once pulled in the machine's own, and those emptied the machine's /tmp.
#[tokio::test]
async fn systemd_knows_no_unit_of_the_machine() -> Result<()> {
    let systemd = Systemd::start().await?;
    systemd
        .put_unit(
            "plain.service",
            "[Service]\nExecStart=/bin/sleep infinity\n",
        )
        .await?;
    systemd
        .run("systemctl", &["start", "plain.service"])
        .await?;
    let ours = std::fs::read_dir(systemd.directory().join("units"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<String>>>()?;
    let listed = systemd
        .run("systemctl", &["list-unit-files", "--no-legend"])
        .await?;
    let strangers: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|unit| !ours.iter().any(|own| own == unit))
        .collect();
    assert_eq!(
        strangers,
        Vec::<&str>::new(),
        "units from outside the test's own directory"
    );
    let loaded = systemd
        .run("systemctl", &["list-units", "--all", "--no-legend"])
        .await?;
    assert!(
        !loaded.contains("systemd-tmpfiles") && !loaded.contains("systemd-sysctl"),
        "{loaded}"
    );
    let configured = systemd.run("systemd-tmpfiles", &["--cat-config"]).await?;
    assert_eq!(configured.trim(), "", "what systemd-tmpfiles would do");
    Ok(())
}

#[tokio::test]
async fn systemd_bus_answers_outside_and_ends_with_the_test() -> Result<()> {
    let systemd = Systemd::start().await?;
    let logs = tempfile::tempdir()?;
    let mut command = Command::new("busctl");
    command
        .env("DBUS_SYSTEM_BUS_ADDRESS", systemd.bus_address())
        .args([
            "call",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "RestartUnit",
            "ss",
            "demo-good.service",
            "replace",
        ]);
    let mut call = Process::spawn("busctl", &command, logs.path())?;
    let status = call.wait(Duration::from_secs(30)).await?;
    assert!(status.success(), "{}", call.stderr());
    eventually("the unit is active", async || {
        let state = systemd.property("demo-good.service", "ActiveState").await;
        want(state.map_err(|error| error.to_string())?.as_str(), "active")
    })
    .await?;
    let main: String = systemd.property("demo-good.service", "MainPID").await?;
    assert!(main.parse::<u32>().is_ok_and(|pid| pid > 1), "{main}");
    let (directory, pid) = (systemd.directory().to_owned(), systemd.pid());
    drop(systemd);
    assert!(
        !directory.exists(),
        "{} is still there: something is mounted on it",
        directory.display()
    );
    let groups = std::fs::read_to_string("/proc/self/mountinfo")?;
    let groups = groups
        .lines()
        .filter(|line| line.contains(" - cgroup2 "))
        .filter_map(|line| line.split(' ').nth(4));
    for root in groups {
        let left = std::fs::read_dir(root)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| *name == format!("muster-test-{pid}"));
        assert_eq!(left, None, "a control group is left in {root}");
    }
    Ok(())
}
