//! A new config while it serves: a bad one is refused with its place, a good one touches only what it changes; and the
//! check beforehand.

use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::ports::PortBlock;
use muster_harness::{Broker, Fleet, FleetOptions, NodeOptions, eventually_within};

use super::{LIMIT, Serve, config_of};

#[tokio::test]
async fn a_new_config_touches_what_it_changes_and_a_bad_one_nothing() -> Result<()> {
    let broker = Broker::private(NodeOptions::default()).await?;
    let options = FleetOptions {
        agents: 1,
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(&broker, &options).await?;
    let mut serve = Serve::start(&fleet.muster, "serve")?;
    serve.await_lead(true).await?;
    let file = config_of(&fleet.muster);
    let good = std::fs::read_to_string(&file)?;

    // A bad one: said with its place, to those who ask before and to those who don't.
    let line = good.lines().count() + 1;
    std::fs::write(&file, format!("{good}lisen = \"127.0.0.1:1\"\n"))?;
    let told = format!("config.toml:{line}:1: unknown key \"lisen\"; did you mean \"listen\"?");
    let checked = fleet.muster.run(&["serve", "--check"]).await?;
    assert_eq!(checked.code, 2, "{}", checked.stderr);
    assert!(checked.stderr.contains(&told), "{}", checked.stderr);
    serve.process.hang_up()?;
    serve.process.await_stderr(&told).await?;
    assert!(serve.ready().await.map_err(anyhow::Error::msg)?);

    // A good one: the HTTP interface moves, the rest goes on.
    let ports = PortBlock::reserve()?;
    let address = format!("127.0.0.1:{}", ports.port(0));
    std::fs::write(&file, good.replace(&serve.address, &address))?;
    fleet.muster.succeed(&["serve", "--check"]).await?;
    serve.process.hang_up()?;
    let before = std::mem::replace(&mut serve.address, address);
    serve.await_lead(true).await?;
    let old = reqwest::get(format!("http://{before}/healthz")).await;
    assert!(old.is_err(), "{before} still answers");
    let log = serve.process.stderr();
    let change = r#"stopped=["http"] started=["http"]"#;
    assert!(log.contains(change), "{log}");

    // Another directory is another ledger: everything begins anew there.
    let moved = file.with_file_name("moved");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{text}state_dir = {moved:?}\n"))?;
    serve.process.hang_up()?;
    eventually_within("the new directory is in use", LIMIT, async || {
        let there = moved.join("history.sqlite").exists()
            || moved.read_dir().is_ok_and(|mut dir| dir.next().is_some());
        there.then_some(()).ok_or("nothing there yet")
    })
    .await?;
    serve.await_lead(true).await?;
    let ended = serve.process.terminate(Duration::from_secs(30)).await?;
    assert!(ended.success(), "{ended} {}", serve.process.stderr());
    Ok(())
}

#[tokio::test]
async fn the_sample_config_is_printed_and_is_what_the_parser_takes() -> Result<()> {
    let home = tempfile::tempdir().context("make a directory")?;
    let muster = muster_harness::Muster::at(home.path())?;
    let sample = muster.succeed(&["config", "default"]).await?.stdout;
    std::fs::create_dir_all(config_of(&muster).parent().context("a parent")?)?;
    std::fs::write(config_of(&muster), &sample)?;
    // The sample's broker is not there: all that is before it is good.
    let checked = muster.run(&["serve", "--check"]).await?;
    assert!(
        checked.stderr.contains("good: the config"),
        "{}",
        checked.stderr
    );
    assert_eq!(checked.code, 69, "{}", checked.stderr);
    Ok(())
}
