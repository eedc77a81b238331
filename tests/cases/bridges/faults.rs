//! Sinks that are down, slow, half closed or full, beside one that works; and a bridge that is killed.

use std::time::Duration;

use muster_harness::sinks::{Carbon, Statsd};
use muster_harness::{Direction, Flow, Proxy};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

/// Seconds of a host's load that are in carbon's files.
fn seconds(carbon: &Carbon, host: &str) -> Result<Vec<u64>, String> {
    let files = carbon.points().map_err(|error| format!("{error:#}"))?;
    let path = format!("{}.host.load.load1", tame(host));
    Ok(files
        .get(&path)
        .map(|points| points.keys().copied().collect())
        .unwrap_or_default())
}

/// The seconds in which the host took a snapshot.
fn measured(heard: &[Metrics]) -> Vec<u64> {
    let mut seconds: Vec<u64> = heard.iter().map(|metrics| metrics.at_ms / 1000).collect();
    seconds.dedup();
    seconds
}

async fn await_all(carbon: &Carbon, host: &str, heard: &[Metrics]) -> Result<()> {
    let wanted = measured(heard);
    eventually("every snapshot is in carbon's files", async || {
        let found = seconds(carbon, host)?;
        let missing: Vec<&u64> = wanted
            .iter()
            .filter(|second| !found.contains(second))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("missing {missing:?} of {}", wanted.len()))
        }
    })
    .await
}

const LOAD: &str = "collectors = [\"host\"]\ntimeout = \"2s\"\n";

#[tokio::test]
async fn a_sink_that_is_down_slow_or_full_delays_no_other_and_is_counted() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = enroll(&broker, 1).await?;
    let host = fleet.agents[0].host.clone();
    let carbon = Carbon::start(fleet.directory()).await?;
    // Nobody listens on the one; the other takes connections and never reads; the third has little room.
    let ports = PortBlock::reserve()?;
    let down = format!("127.0.0.1:{}", ports.port(0));
    let deaf = TcpListener::bind("127.0.0.1:0").await?;
    let full = format!("{LOAD}queue_max = \"100kB\"\n");
    let tables = [
        bridge("works", "graphite", carbon.lines(), LOAD),
        bridge("down", "graphite", &down, LOAD),
        bridge("deaf", "graphite", deaf.local_addr()?, LOAD),
        bridge("full", "zabbix", &down, &full),
        bridge("nobody", "statsd", &down, LOAD),
    ];
    let serve = Serve::start(&fleet.muster, &tables.concat()).await?;
    let mut held = Vec::new();
    let mut tap = Tap::open(&broker, "host").await?;
    fleet.agents[0].start()?;
    let mut heard = tap.hear(1, 3).await?;
    while let Ok(accepted) = tokio::time::timeout(Duration::from_millis(500), deaf.accept()).await {
        held.push(accepted?);
    }
    // What works has it at once, whatever became of the others.
    await_all(&carbon, &host, &heard).await?;
    for bridge in ["down", "full", "nobody"] {
        eventually("it is down", async || {
            let (up, retries) = (
                serve.figure("up", bridge).await?,
                serve.figure("retries_total", bridge).await?,
            );
            if up == 0.0 && retries >= 1.0 {
                Ok(())
            } else {
                Err(format!("{bridge}: {up} {retries}"))
            }
        })
        .await?;
    }
    let ready = serve.get("/readyz").await.map_err(anyhow::Error::msg)?;
    let parts: Value = serde_json::from_str(&ready)?;
    assert_eq!(parts["parts"]["bridge works"]["state"], "up", "{ready}");
    assert_eq!(parts["parts"]["bridge down"]["state"], "down", "{ready}");

    // A bound that is reached lets the oldest go, and counts them; the others keep theirs.
    let dropped = async |bridge: &str| serve.figure("dropped_snapshots_total", bridge).await;
    eventually("the full one has let some go", async || {
        let (count, bytes) = (
            dropped("full").await?,
            serve.figure("held_bytes", "full").await?,
        );
        if count >= 1.0 && bytes <= 100_000.0 {
            Ok(())
        } else {
            Err(format!("{count} {bytes}"))
        }
    })
    .await?;
    for bridge in ["works", "down", "nobody"] {
        assert_eq!(
            dropped(bridge).await.map_err(anyhow::Error::msg)?,
            0.0,
            "{bridge}"
        );
    }
    // The deaf one is full up to the socket's buffers by now or will be; none of it reached the one that works.
    heard.extend(tap.hear(1, 3).await?);
    await_all(&carbon, &host, &heard).await?;

    // One comes up where nobody was: everything that waited is there.
    let late = TcpListener::bind(&down).await?;
    fleet.agents[0].stop().await?;
    heard.extend(tap.rest().await?);
    let wanted = measured(&heard).len();
    let path = format!("{}.host.load.load1 ", tame(&host));
    let mut text = String::new();
    let mut found = std::collections::BTreeSet::new();
    let began = std::time::Instant::now();
    // Two bridges come to that port; one of them speaks carbon's language.
    let (lines_to, mut lines) = tokio::sync::mpsc::channel::<Vec<u8>>(64);
    let mut readers = tokio::task::JoinSet::new();
    while found.len() < wanted {
        assert!(
            began.elapsed() < Duration::from_secs(90),
            "{} of {wanted}: {}",
            found.len(),
            serve.process.stderr()
        );
        tokio::select! {
            accepted = late.accept() => {
                let (mut stream, _) = accepted?;
                let to = lines_to.clone();
                readers.spawn(async move {
                    let mut bytes = vec![0; 65_536];
                    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                        let _ = to.send(bytes[..count].to_vec()).await;
                    }
                });
            }
            Some(bytes) = lines.recv() => {
                text.push_str(&String::from_utf8_lossy(&bytes));
                for line in text.lines() {
                    if let Some(rest) = line.strip_prefix(&path) {
                        found.extend(rest.split(' ').nth(1).filter(|second| second.len() == 10).map(str::to_owned));
                    }
                }
                text = text.rsplit_once('\n').map_or(text.clone(), |(_, rest)| rest.to_owned());
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    await_taken(&serve, "down", heard.len()).await?;
    Ok(())
}

#[tokio::test]
async fn a_carbon_that_goes_away_and_comes_back_misses_nothing() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = enroll(&broker, 1).await?;
    let host = fleet.agents[0].host.clone();
    let mut carbon = Carbon::start(fleet.directory()).await?;
    let proxy = Proxy::start(carbon.pickles()).await?;
    let through = format!(
        "{LOAD}protocol = \"pickle\"\ntemplate = \"through.{{host}}.{{collector}}.{{series}}\"\n"
    );
    let tables = [
        bridge("lines", "graphite", carbon.lines(), LOAD),
        bridge("through", "graphite", proxy.address(), &through),
    ];
    let serve = Serve::start(&fleet.muster, &tables.concat()).await?;
    let mut tap = Tap::open(&broker, "host").await?;
    fleet.agents[0].start()?;
    let mut heard = tap.hear(1, 2).await?;
    await_all(&carbon, &host, &heard).await?;

    // It closes its half and ends: the next snapshot is not written into a connection that is over. Nothing is being
    // written at that moment, since carbon's protocol tells nobody what it took.
    for _ in 0..2 {
        fleet.agents[0].process()?.pause().await?;
        heard.extend(tap.rest().await?);
        await_all(&carbon, &host, &heard).await?;
        carbon.stop().await?;
        fleet.agents[0].process()?.resume()?;
        heard.extend(tap.hear(1, 2).await?);
        carbon.start_again().await?;
        heard.extend(tap.hear(1, 2).await?);
    }
    await_all(&carbon, &host, &heard).await?;
    // It stands still for longer than a write may take, and goes on.
    proxy.set(Direction::Up, Flow::Stall);
    heard.extend(tap.hear(1, 4).await?);
    proxy.set(Direction::Up, Flow::Pass);
    heard.extend(tap.hear(1, 1).await?);
    fleet.agents[0].stop().await?;
    heard.extend(tap.rest().await?);
    await_all(&carbon, &host, &heard).await?;
    await_taken(&serve, "through", heard.len()).await?;
    for bridge in ["lines", "through"] {
        let dropped = serve
            .figure("dropped_snapshots_total", bridge)
            .await
            .map_err(anyhow::Error::msg)?;
        assert_eq!(dropped, 0.0, "{bridge}");
    }
    let retries = serve
        .figure("retries_total", "lines")
        .await
        .map_err(anyhow::Error::msg)?;
    assert!(retries >= 1.0, "{retries}");
    Ok(())
}

/// Two programs share a bridge's queue; one is killed, and the other has the rest.
#[tokio::test]
async fn two_share_the_work_and_one_takes_over() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = enroll(&broker, 2).await?;
    let carbon = Carbon::start(fleet.directory()).await?;
    let statsd = Statsd::start(fleet.directory()).await?;
    let table = bridge("lines", "graphite", carbon.lines(), LOAD)
        + &bridge(
            "counts",
            "statsd",
            statsd.udp(),
            "collectors = [\"host\"]\n",
        );
    let serve = Serve::start(&fleet.muster, &table).await?;
    let second = fleet.second_desk("second")?;
    let mut alone = second.start("bridge", &["-v", "bridge", "lines"])?;
    let mut other = second.start("bridge-counts", &["-v", "bridge", "counts"])?;
    let unknown = second.run(&["bridge", "lime"]).await?;
    assert!(
        unknown.code == 2 && unknown.stderr.contains("there are lines, counts"),
        "{unknown:?}"
    );
    for queue in ["muster.bridge.lines", "muster.bridge.counts"] {
        let path = format!("queues/{}/{queue}", broker.vhost().replace('/', "%2F"));
        eventually("two consume the queue", async || {
            let found = broker
                .management()
                .get(&path)
                .await
                .map_err(|error| format!("{error:#}"))?;
            muster_harness::want(found["consumers"].as_u64(), Some(2))
        })
        .await?;
    }
    let mut tap = Tap::open(&broker, "host").await?;
    for agent in &mut fleet.agents {
        agent.start()?;
    }
    let mut heard = tap.hear(2, 4).await?;
    alone.kill().await?;
    heard.extend(tap.hear(2, 3).await?);
    for agent in &mut fleet.agents {
        agent.stop().await?;
    }
    heard.extend(tap.rest().await?);
    for agent in &fleet.agents {
        let of_host: Vec<Metrics> = heard
            .iter()
            .filter(|one| one.host.as_str() == agent.host)
            .cloned()
            .collect();
        await_all(&carbon, &agent.host, &of_host).await?;
    }
    let taken = serve
        .figure("snapshots_total", "lines")
        .await
        .map_err(anyhow::Error::msg)?;
    let all = u32::try_from(heard.len())?;
    assert!(
        taken > 0.0 && taken < f64::from(all),
        "the work was not shared: {taken} of {all}"
    );
    // Neither saw all of a host's snapshots, and what they added up to is right to what a rate's rounding costs.
    other.terminate(Duration::from_secs(30)).await?;
    let host = tame(&fleet.agents[0].host);
    let path = format!("{host}.host.cpu.context_switches");
    let totals = heard
        .iter()
        .filter(|one| one.host.as_str() == fleet.agents[0].host);
    let totals: Vec<f64> = totals
        .filter_map(|one| {
            one.snapshot
                .pointer("/cpu/context_switches/total")?
                .as_f64()
        })
        .collect();
    let grown = totals.last().context("a total")? - totals.first().context("a total")?;
    eventually("the increments add up", async || {
        let flushed = statsd.flushed().map_err(|error| format!("{error:#}"))?;
        let found = flushed.counters.get(&path).copied().unwrap_or_default();
        if (found - grown).abs() <= grown * 0.002 + 10.0 {
            Ok(())
        } else {
            Err(format!("{found}, wanted {grown}"))
        }
    })
    .await
}
