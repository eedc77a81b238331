//! `muster serve`: several of them, of which one leads; the fleet's hosts lost and back, each told once; the same history
//! in all.

mod prometheus;
mod reload;
mod stats;
mod witness;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::ports::PortBlock;
use muster_harness::{
    Broker, Fleet, FleetOptions, Muster, NodeOptions, Process, eventually_within,
};
use serde_json::Value;

/// Within this a takeover is done, on two busy cores.
const LIMIT: Duration = Duration::from_secs(90);

/// A `muster serve`, and where it answers.
struct Serve {
    process: Process,
    address: String,
    /// Nobody else gets it meanwhile.
    _ports: PortBlock,
}

impl Serve {
    fn start(muster: &Muster, name: &str) -> Result<Self> {
        Self::start_with(muster, name, "")
    }

    /// With further keys of `[serve]`, and sections after it.
    fn start_with(muster: &Muster, name: &str, keys: &str) -> Result<Self> {
        let ports = PortBlock::reserve()?;
        let address = format!("127.0.0.1:{}", ports.port(0));
        let config = config_of(muster);
        let text = std::fs::read_to_string(&config).context("read the operator's config")?;
        std::fs::write(
            &config,
            format!("{text}\n[serve]\nlisten = \"{address}\"\n{keys}"),
        )?;
        let process = muster.start(name, &["-v", "serve"])?;
        Ok(Self {
            process,
            address,
            _ports: ports,
        })
    }

    async fn get(&self, path: &str) -> Result<String, String> {
        let url = format!("http://{}{path}", self.address);
        let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
        answer.text().await.map_err(|error| error.to_string())
    }

    /// Its `/readyz`, once it is ready; whether it leads.
    async fn ready(&self) -> Result<bool, String> {
        let text = self.get("/readyz").await?;
        let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        match (value["ready"].as_bool(), value["leads"].as_bool()) {
            (Some(true), Some(leads)) => Ok(leads),
            _ => Err(text),
        }
    }

    /// A figure of its `/metrics`.
    async fn figure(&self, name: &str) -> Result<f64, String> {
        let text = self.get("/metrics").await?;
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .ok_or_else(|| format!("no {name} in {text}"))
    }

    async fn await_lead(&self, leads: bool) -> Result<()> {
        eventually_within("it is known who leads", LIMIT, async || {
            let found = self.ready().await?;
            (found == leads)
                .then_some(())
                .ok_or_else(|| format!("leads: {found}"))
        })
        .await
    }
}

/// The operator's config.
fn config_of(muster: &Muster) -> PathBuf {
    muster.home().join(".config/muster/config.toml")
}

/// Topic and host of every event of the fleet, oldest first.
async fn told(fleet: &Fleet) -> Result<Vec<(String, String)>> {
    let arguments = [
        "watch",
        "--since",
        "10m",
        "--no-follow",
        "-o",
        "ndjson",
        "fleet.#",
    ];
    let output = fleet.muster.succeed(&arguments).await?;
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let events = output.json_lines()?;
    Ok(events
        .iter()
        .map(|event| (text(event, "topic"), text(event, "from")))
        .collect())
}

async fn await_told(fleet: &Fleet, wanted: &[(&str, &str)]) -> Result<()> {
    eventually_within("the fleet's events", LIMIT, async || {
        let told = told(fleet).await.map_err(|error| format!("{error:#}"))?;
        let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        if told == wanted {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await
}

#[tokio::test]
async fn of_several_one_tells_of_each_host_once_and_another_takes_over() -> Result<()> {
    let broker = Broker::private(NodeOptions::default()).await?;
    let options = FleetOptions {
        agents: 6,
        keys: "presence_interval = \"2s\"\n".to_owned(),
        ..FleetOptions::default()
    };
    let mut fleet = Fleet::start(&broker, &options).await?;
    let (second, third) = (fleet.second_desk("second")?, fleet.second_desk("third")?);
    let mut first = Serve::start(&fleet.muster, "serve-1")?;
    first.await_lead(true).await?;
    let second = Serve::start(&second, "serve-2")?;
    second.await_lead(false).await?;

    let lost = fleet.agents[0].host.clone();
    fleet.agents[0].kill().await?;
    let told = await_told(&fleet, &[("fleet.host.lost", &lost)]).await;
    told.with_context(|| first.process.stderr())?;

    // The one that told it dies; the other knows that it was told, and tells the rest.
    first.process.kill().await?;
    second.await_lead(true).await?;
    fleet.agents[0].start()?;
    let other = fleet.agents[1].host.clone();
    let back = [
        ("fleet.host.lost", lost.as_str()),
        ("fleet.host.back", &lost),
    ];
    await_told(&fleet, &back).await?;
    fleet.agents[1].kill().await?;
    let all = [back[0], back[1], ("fleet.host.lost", other.as_str())];
    await_told(&fleet, &all).await?;

    // One that comes later has the same history, and does not lead.
    let third = Serve::start(&third, "serve-3")?;
    third.await_lead(false).await?;
    eventually_within("both histories are the same", LIMIT, async || {
        let name = "muster_serve_history_events";
        let (one, two) = (second.figure(name).await?, third.figure(name).await?);
        (one == two && one > 8.0)
            .then_some(())
            .ok_or_else(|| format!("{one} and {two}"))
    })
    .await?;
    assert_eq!(
        second.figure("muster_host_up{host=\"h1\"}").await.ok(),
        third.figure("muster_host_up{host=\"h1\"}").await.ok()
    );
    await_told(&fleet, &all).await
}

#[tokio::test]
async fn many_that_fall_silent_at_once_are_one_event() -> Result<()> {
    let broker = Broker::private(NodeOptions::default()).await?;
    let options = FleetOptions {
        agents: 6,
        keys: "presence_interval = \"2s\"\n".to_owned(),
        ..FleetOptions::default()
    };
    let mut fleet = Fleet::start(&broker, &options).await?;
    let serve = Serve::start(&fleet.muster, "serve")?;
    serve.await_lead(true).await?;
    for agent in &mut fleet.agents[..5] {
        agent.process()?.pause().await?;
    }
    let issuer = issuer(&fleet)?;
    let told = await_told(&fleet, &[("fleet.silence.began", &issuer)]).await;
    let ready = serve.get("/readyz").await;
    told.with_context(|| format!("{ready:?}\n{}", serve.process.stderr()))?;
    for agent in &mut fleet.agents[..5] {
        agent.process()?.resume()?;
    }
    let all = [
        ("fleet.silence.began", issuer.as_str()),
        ("fleet.silence.ended", &issuer),
    ];
    await_told(&fleet, &all).await
}

/// In whose name the fleet's `muster` speaks.
fn issuer(fleet: &Fleet) -> Result<String> {
    let config: toml::Table = std::fs::read_to_string(config_of(&fleet.muster))?.parse()?;
    Ok(config["issuer"].as_str().context("an issuer")?.to_owned())
}
