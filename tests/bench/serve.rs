//! `serve`: what one real `muster serve` costs with a large fleet: N hosts' presence and snapshots every ten seconds, as
//! recorded from this machine's own agent, through a private broker.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use muster_harness::fleet::binary;
use muster_harness::management::ALL;
use muster_harness::ports::PortBlock;
use muster_harness::{Broker, Muster, NodeOptions, Process, broker, eventually_within};
use muster_link::stamp;
use muster_proto::envelope::{APP_ID, CONTENT_TYPE, Kind, encode};
use muster_proto::presence::Presence;
use muster_proto::topology::METRICS;
use serde::Serialize;
use serde_json::{Value, json};

use crate::fanout::set_up;
use crate::{ServeArguments, keep, note, say};

/// Different snapshots that are recorded; hosts begin at different ones.
const RECORDED: usize = 8;

/// How often a host says that it is there, and what it sees.
const INTERVAL: Duration = Duration::from_secs(10);

/// Within this the fleet is known, on a busy machine.
const UP_LIMIT: Duration = Duration::from_secs(180);

/// A snapshot as the agent sends it, without copying what was recorded.
#[derive(Serialize)]
struct Recorded<'a> {
    host: &'a str,
    collector: &'a str,
    at_ms: u64,
    seq: u64,
    snapshot: &'a Value,
}

/// The figures of one look at the program.
struct Look {
    at: Instant,
    cpu: Duration,
    snapshots: f64,
}

/// Measures and prints; `false` where a bound that the caller named is broken.
pub(crate) async fn run(arguments: &ServeArguments) -> Result<bool> {
    note("recording snapshots of this machine's agent");
    let snapshots = record()?;
    note("starting a private broker");
    let broker = Broker::private(NodeOptions::default()).await?;
    let home = tempfile::tempdir().context("make a directory")?;
    let muster = Muster::at(home.path())?;
    set_up(&broker, &muster, 0).await?;
    let ports = PortBlock::reserve()?;
    let address = format!("127.0.0.1:{}", ports.port(0));
    let config = muster.home().join(".config/muster/config.toml");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("{text}\n[serve]\nlisten = {address:?}\n"))?;
    let mut serve = muster.start("serve", &["-v", "serve"])?;
    eventually_within("muster serve is ready", UP_LIMIT, async || {
        figure(&address, "muster_serve_leads").await.map(|_| ())
    })
    .await?;
    let empty = serve.memory()?.rss_kib;

    let management = broker.management();
    management
        .put_user("swarm", "swarm", "impersonator")
        .await?;
    management
        .put_permissions("swarm", broker.vhost(), ALL)
        .await?;
    let connection = broker::connect(&broker.uri("swarm", "swarm")).await?;
    let channel = connection.create_channel().await?;
    note(&format!("{} hosts begin", arguments.hosts));
    let publishing = publish(&channel, arguments.hosts, &snapshots);
    let measuring = measure(arguments, &serve, &address);
    let figures = tokio::select! {
        ended = publishing => bail!("the publisher ended: {ended:?}"),
        figures = measuring => figures?,
    };
    let mut figures = figures;
    if let Some(figures) = figures.as_object_mut() {
        figures.insert("rss_mib_empty".to_owned(), json!(mib(empty)));
    }
    say(&figures.to_string());
    keep(arguments.json.as_ref(), &figures)?;
    serve.terminate(Duration::from_secs(30)).await?;
    let rss = figures
        .get("rss_mib")
        .and_then(Value::as_f64)
        .unwrap_or(f64::MAX);
    Ok(arguments.rss_mib_max.is_none_or(|max| rss <= max))
}

/// Waits for the fleet, lets the histories fill, measures, and reads everything once as Prometheus would.
async fn measure(arguments: &ServeArguments, serve: &Process, address: &str) -> Result<Value> {
    let all = arguments.hosts as f64;
    eventually_within("all hosts are known", UP_LIMIT, async || {
        let there = figure(address, "muster_fleet_hosts{state=\"there\"}").await?;
        (there >= all)
            .then_some(())
            .ok_or_else(|| format!("{there}"))
    })
    .await?;
    note("all hosts are known; letting the histories fill");
    tokio::time::sleep(INTERVAL * 8).await;
    note(&format!("counting for {} s", arguments.seconds));
    let before = look(serve, address).await?;
    let mut rss_kib = 0;
    while before.at.elapsed().as_secs() < arguments.seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rss_kib = rss_kib.max(serve.memory()?.rss_kib);
    }
    let after = look(serve, address).await?;
    let passed = after.at.duration_since(before.at).as_secs_f64();
    let cores = after.cpu.saturating_sub(before.cpu).as_secs_f64() / passed;
    let taken = (after.snapshots - before.snapshots) / passed;
    let series = figure(address, "muster_serve_series")
        .await
        .map_err(anyhow::Error::msg)?;
    let shapes = figure(address, "muster_serve_series_shapes")
        .await
        .map_err(anyhow::Error::msg)?;

    let (began, cpu) = (Instant::now(), serve.cpu()?);
    let bytes = read(address, "/metrics")
        .await
        .map_err(anyhow::Error::msg)?
        .len();
    let (scrape_s, scrape_cpu) = (
        began.elapsed().as_secs_f64(),
        serve.cpu()?.saturating_sub(cpu),
    );
    let scraped_kib = serve.memory()?.rss_kib;
    say(&format!(
        "hosts                           {:>12}",
        arguments.hosts
    ));
    say(&format!("series                          {series:>12.0}"));
    say(&format!(
        "snapshots taken, a second       {taken:>12.0}   (and as many words of presence)"
    ));
    say(&format!(
        "resident memory, MiB            {:>12.1}",
        mib(rss_kib)
    ));
    say(&format!("CPU, cores                      {cores:>12.3}"));
    say(&format!(
        "one scrape: MB of text          {:>12.1}",
        bytes as f64 / 1e6
    ));
    say(&format!(
        "  seconds, of CPU               {scrape_s:>12.2} {:>8.2}",
        scrape_cpu.as_secs_f64()
    ));
    say(&format!(
        "  resident memory then, MiB     {:>12.1}",
        mib(scraped_kib)
    ));
    Ok(json!({
        "benchmark": "serve", "hosts": arguments.hosts, "seconds": passed, "series": series, "shapes": shapes,
        "messages_per_s": taken * 2.0, "rss_mib": mib(rss_kib), "cpu_cores": cores,
        "scrape": { "bytes": bytes, "seconds": scrape_s, "cpu_s": scrape_cpu.as_secs_f64(), "rss_mib": mib(scraped_kib) },
    }))
}

/// Every host's word and snapshot once in every interval, spread evenly. Ends only when it fails.
async fn publish(channel: &Channel, hosts: usize, snapshots: &[Value]) -> Result<()> {
    let began = Instant::now();
    let started_at_ms = stamp::now_ms();
    let names: Vec<String> = (0..hosts)
        .map(|number| format!("swarm-{number:05}.example.com"))
        .collect();
    let pause = INTERVAL / u32::try_from(hosts.max(1))?;
    let mut count = 0_u32;
    for round in 0.. {
        for (number, name) in names.iter().enumerate() {
            let now_ms = stamp::now_ms();
            let snapshot = snapshots
                .get((number + round) % snapshots.len())
                .context("a snapshot")?;
            let recorded = Recorded {
                host: name,
                collector: "host",
                at_ms: now_ms,
                seq: u64::try_from(round)?,
                snapshot,
            };
            let word = presence(name, now_ms, started_at_ms, u64::try_from(round)?)?;
            send(channel, "presence", name, Kind::Presence, &encode(&word)?).await?;
            send(
                channel,
                "host",
                name,
                Kind::Metrics,
                &rmp_serde::to_vec_named(&recorded)?,
            )
            .await?;
            count += 1;
            tokio::time::sleep_until((began + pause * count).into()).await;
        }
    }
    Ok(())
}

async fn send(channel: &Channel, topic: &str, host: &str, kind: Kind, body: &[u8]) -> Result<()> {
    let properties = BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_app_id(APP_ID.into())
        .with_type(kind.wire_name().into())
        .with_message_id(ShortString::from(stamp::new_message_id().to_string()))
        .with_user_id(ShortString::from(host.to_owned()))
        .with_timestamp(stamp::now_ms() / 1000)
        .with_delivery_mode(1);
    let key = format!("{topic}.{host}");
    channel
        .basic_publish(
            METRICS.into(),
            key.into(),
            BasicPublishOptions::default(),
            body,
            properties,
        )
        .await
        .context("publish")?;
    Ok(())
}

/// A word of presence with what a real host has to say.
fn presence(host: &str, at_ms: u64, started_at_ms: u64, seq: u64) -> Result<Presence> {
    let pairs = |all: &[(&str, &str)]| {
        let pairs = all
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    };
    Ok(Presence {
        host: host.parse()?,
        at_ms,
        interval_ms: u64::try_from(INTERVAL.as_millis())?,
        seq,
        goodbye: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: "0b1c7c4e-5f5e-4c0e-9d0a-1f6f1c7f6e11".to_owned(),
        started_at_ms,
        labels: pairs(&[
            ("role", "lb"),
            ("dc", "gz"),
            ("rack", "r17"),
            ("owner", "platform"),
        ]),
        facts: pairs(&[
            ("os.id", "debian"),
            ("os.version", "12"),
            ("kernel", "6.1.0-28-amd64"),
            ("arch", "x86_64"),
            ("cpus", "8"),
            ("memory_bytes", "33554432000"),
        ]),
        outbox: muster_proto::presence::OutboxDepth::default(),
        last_job: None,
        last_confirm_at_ms: Some(at_ms),
        jobs_open: 0,
        failing: pairs(&[]),
    })
}

/// Snapshots of this machine, a second apart.
fn record() -> Result<Vec<Value>> {
    let one = || {
        let output = Command::new(binary("muster-agent")?)
            .args(["collect", "host"])
            .output()
            .context("run muster-agent collect host")?;
        let snapshots: Value =
            serde_json::from_slice(&output.stdout).context("read the snapshot")?;
        snapshots
            .get("host")
            .cloned()
            .context("a snapshot of the host")
    };
    (0..RECORDED).map(|_| one()).collect()
}

async fn look(serve: &Process, address: &str) -> Result<Look> {
    Ok(Look {
        at: Instant::now(),
        cpu: serve.cpu()?,
        snapshots: figure(address, "muster_serve_snapshots")
            .await
            .map_err(anyhow::Error::msg)?,
    })
}

/// One of the program's own figures; those of the fleet are left out of the answer.
async fn figure(address: &str, name: &str) -> Result<f64, String> {
    let text = read(address, "/metrics?collector=none").await?;
    let line = text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .trim_start_matches("{}")
            .strip_prefix(' ')
    });
    line.and_then(|value| value.parse().ok())
        .ok_or_else(|| format!("no {name}"))
}

async fn read(address: &str, path: &str) -> Result<String, String> {
    let answer = reqwest::get(format!("http://{address}{path}")).await;
    let answer = answer.map_err(|error| error.to_string())?;
    answer.text().await.map_err(|error| error.to_string())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
