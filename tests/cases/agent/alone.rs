//! The agent without a fleet: its config, its checks, its collectors, its local HTTP interface.

use std::fs;
use std::process::Command;

use anyhow::Result;
use muster_harness::Broker;
use muster_harness::fleet::binary;
use muster_harness::ports::PortBlock;

use super::*;

fn agent(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("muster-agent")?);
    command.args(arguments);
    Ok(command)
}

#[tokio::test]
async fn a_bad_config_is_one_line_that_says_where_and_what_and_nothing_else_happens() -> Result<()>
{
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("agent.toml");
    let state = folder.path().join("state");
    let path = config.display().to_string();
    let head = format!("state_dir = {:?}\n", state.display().to_string());
    let cases = [
        ("hots = \"lb1\"\n", ":2:1: ", "host"),
        (
            "host = \"lb1\"\n[broker]\nurll = \"amqp://127.0.0.1:1\"\n",
            ":4:1: ",
            "url",
        ),
        ("[collect.host]\nintervall = \"1s\"\n", ":3:1: ", "interval"),
        ("[jobs]\nconcurrency = \"many\"\n", ":3:15: ", "concurrency"),
        ("host = \"lb 1\"\n", ":2:8: ", "host"),
        (
            "[[policy]]\nkey = \"ann\"\nactions = [\"*\"]\n",
            ":2:1: ",
            "ann",
        ),
        ("host = \"lb1\n", ":2:", ""),
    ];
    for (number, (text, place, near)) in cases.into_iter().enumerate() {
        fs::write(&config, head.clone() + text)?;
        for command in [&["run"][..], &["check"]] {
            let logs = folder.path().join(format!("{number}-{}", command[0]));
            fs::create_dir(&logs)?;
            let (code, stdout, stderr) =
                run(&agent(&[&["--config", &path], command].concat())?, &logs).await?;
            assert_eq!((code, stdout.as_str()), (2, ""), "{text}: {stderr}");
            assert!(
                stderr.starts_with(&format!("error: {path}{place}")),
                "{text}: {stderr}"
            );
            assert!(stderr.contains(near), "{text}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{text}: {stderr}");
        }
        assert!(!state.exists(), "{text}: a bad config has made something");
    }
    let missing = folder.path().join("missing.toml").display().to_string();
    let (code, _, stderr) = run(&agent(&["--config", &missing, "run"])?, folder.path()).await?;
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("muster-agent config default"), "{stderr}");
    Ok(())
}

#[tokio::test]
async fn the_default_config_is_one_and_check_and_collect_need_no_broker() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (code, sample, _) = run(&agent(&["config", "default"])?, folder.path()).await?;
    assert_eq!(code, 0);
    let table: toml::Table = sample.parse()?;
    assert_eq!(table["clock_tolerance"].as_str(), Some("30s"));
    let config = folder.path().join("agent.toml");
    let state = folder.path().join("state").display().to_string();
    fs::write(
        &config,
        sample.replace("\"/var/lib/muster\"", &format!("{state:?}")),
    )?;
    let config = config.display().to_string();
    let with =
        |arguments: &[&'static str]| agent(&[&["--config", config.as_str()], arguments].concat());

    let logs = |name: &str| -> Result<std::path::PathBuf> {
        let logs = folder.path().join(name);
        fs::create_dir(&logs)?;
        Ok(logs)
    };
    let (code, stdout, stderr) = run(&with(&["check", "--offline"])?, &logs("check")?).await?;
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("reads well"), "{stdout}");
    assert!(stdout.contains("warning  trust"), "{stdout}");

    let (code, stdout, stderr) = run(&with(&["collect", "host"])?, &logs("collect")?).await?;
    assert_eq!(code, 0, "{stderr}");
    let collected: Value = serde_json::from_str(&stdout)?;
    let memory = &collected["host"]["memory"]["total_bytes"];
    assert!(memory.as_u64().unwrap_or(0) > 1 << 20, "{collected}");
    let (code, _, stderr) = run(&with(&["collect", "nosuch"])?, &logs("nosuch")?).await?;
    assert_eq!(code, 1);
    assert!(
        stderr.contains("no such collector \"nosuch\"; there are: host"),
        "{stderr}"
    );
    assert!(
        !folder.path().join("state").exists(),
        "a check has made something"
    );
    Ok(())
}

#[tokio::test]
async fn check_tells_what_the_broker_says() -> Result<()> {
    let broker = Broker::shared().await?;
    let fleet = Fleet::enroll(&broker, &options()).await?;
    let agent = &fleet.agents[0];
    let (code, stdout, stderr) = run(&agent.command(&["check"])?, fleet.directory()).await?;
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        stdout.contains("is not there yet; the agent makes it"),
        "{stdout}"
    );
    assert!(
        broker
            .depth(&format!("muster.agent.{}", agent.host))
            .await
            .is_err(),
        "a check has made something"
    );

    let good = fs::read_to_string(&agent.config)?;
    let password = good
        .lines()
        .find(|line| line.starts_with("password"))
        .context("a password")?;
    let cases = [
        (
            good.replace(password, "password = \"wrong\""),
            "check `user`",
        ),
        (
            good.replace(&broker.amqp().to_string(), "127.0.0.1:1"),
            "127.0.0.1:1",
        ),
        (good.replace(broker.vhost(), "nosuch"), "nosuch"),
    ];
    for (number, (config, near)) in cases.into_iter().enumerate() {
        fs::write(&agent.config, config)?;
        let logs = fleet.directory().join(format!("check-{number}"));
        fs::create_dir(&logs)?;
        let (code, stdout, stderr) = run(&agent.command(&["check"])?, &logs).await?;
        assert_eq!(code, 69, "{stdout}{stderr}");
        let failed = stdout
            .lines()
            .find(|line| line.starts_with("failed"))
            .unwrap_or_default();
        assert!(failed.contains(near), "{near}: {stdout}");
    }
    Ok(())
}

#[tokio::test]
async fn the_local_http_interface_tells_how_it_is() -> Result<()> {
    let broker = Broker::shared().await?;
    let ports = PortBlock::reserve()?;
    let at = format!("127.0.0.1:{}", ports.port(0));
    let tables = format!(
        "[http]\nlisten = {at:?}\n[collect.host]\ninterval = \"1s\"\ndeadline = \"900ms\"\n"
    );
    let fleet = Fleet::start(
        &broker,
        &FleetOptions {
            tables,
            ..options()
        },
    )
    .await?;
    assert_eq!(mark(&fleet, &[]).await?.0, 0);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let get = async |path: &str| -> Result<(u16, String)> {
        let answer = client.get(format!("http://{at}{path}")).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    };
    assert_eq!(get("/healthz").await?, (200, "ok\n".to_owned()));
    let snapshot = eventually("a snapshot", async || {
        match get("/v1/snapshots/host").await {
            Ok((200, text)) => Ok(text),
            other => Err(format!("{other:?}")),
        }
    });
    let snapshot: Value = serde_json::from_str(&snapshot.await?)?;
    assert!(
        snapshot["memory"]["total_bytes"].as_u64().unwrap_or(0) > 1 << 20,
        "{snapshot}"
    );
    let (code, ready) = get("/readyz").await?;
    let ready: Value = serde_json::from_str(&ready)?;
    assert_eq!(
        (code, &ready["ready"], &ready["link"]),
        (200, &true.into(), &"up".into()),
        "{ready}"
    );
    assert_eq!(ready["host"], fleet.agents[0].host.as_str());
    let (code, metrics) = get("/metrics").await?;
    assert_eq!(code, 200);
    for line in [
        "muster_agent_link_up 1.0",
        "muster_agent_jobs_open 0.0",
        "muster_agent_outbox_records ",
        "# TYPE muster_host_memory_total_bytes gauge",
        "muster_host_interface_rx_bytes_total{interface=\"lo\"} ",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let (code, names) = get("/v1/snapshots").await?;
    assert!(code == 200 && names.contains("\"host\""), "{code} {names}");
    assert_eq!(get("/v1/snapshots/nosuch").await?.0, 404);
    assert_eq!(get("/nosuch").await?.0, 404);
    Ok(())
}
