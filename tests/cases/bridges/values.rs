//! Every figure of every snapshot, to carbon by lines and by pickles, and to statsd by datagrams and by a connection.

use muster_harness::sinks::{Carbon, Flushed, Statsd};
use muster_proto::snapshot::fields::{self, Kind, Reading, Sample};

use super::*;

/// Snapshots of each host that are compared.
const SNAPSHOTS: usize = 6;

/// The path of a figure by the default names.
fn path(host: &str, sample: &Sample<'_>) -> String {
    let mut parts = vec![
        tame(host),
        sample.series.collector.to_owned(),
        sample.series.table.name.to_owned(),
    ];
    parts.extend(sample.labels.iter().map(|(_, value)| tame(value)));
    parts.push(sample.series.field.path.to_owned());
    parts.join(".")
}

fn numbers(metrics: &Metrics) -> impl Iterator<Item = (String, Kind, f64)> + '_ {
    fields::series(&metrics.collector, &metrics.snapshot).filter_map(|sample| {
        let value = sample.reading.number()?;
        Some((
            path(metrics.host.as_str(), &sample),
            sample.series.field.kind,
            value,
        ))
    })
}

/// Every point that is missing in carbon's files, or wrong.
fn not_in_files(
    files: &BTreeMap<String, BTreeMap<u64, f64>>,
    prefix: &str,
    heard: &[Metrics],
) -> Vec<String> {
    // The last of a second is the second's.
    let mut wanted = BTreeMap::new();
    for metrics in heard {
        for (path, _, value) in numbers(metrics) {
            wanted.insert((format!("{prefix}{path}"), metrics.at_ms / 1000), value);
        }
    }
    assert!(wanted.len() > heard.len() * 50, "{}", wanted.len());
    let wrong = wanted.into_iter().filter_map(|((path, second), value)| {
        let found = files
            .get(&path)
            .and_then(|points| points.get(&second))
            .copied();
        (found != Some(value)).then(|| format!("{path} at {second}: {found:?}, wanted {value}"))
    });
    wrong.collect()
}

/// What statsd has otherwise than the hosts had it.
fn not_in_statsd(flushed: &Flushed, prefix: &str, heard: &[Metrics]) -> Vec<String> {
    let mut gauges = BTreeMap::new();
    let mut added: BTreeMap<String, f64> = BTreeMap::new();
    let mut before: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for metrics in heard {
        for sample in fields::series(&metrics.collector, &metrics.snapshot) {
            let path = format!("{prefix}{}", path(metrics.host.as_str(), &sample));
            match (sample.series.field.kind, sample.reading) {
                (_, Reading::Word(_)) => {}
                (Kind::Counter, Reading::Whole(total)) => {
                    let last = before.insert(path.clone(), (metrics.seq, total));
                    if let Some((seq, last)) = last
                        && seq + 1 == metrics.seq
                        && total >= last
                    {
                        let increment = u32::try_from(total - last).map_or(f64::MAX, f64::from);
                        *added.entry(path).or_default() += increment;
                    }
                }
                (Kind::Counter, _) => {}
                (_, reading) => {
                    gauges.insert(path, reading.number());
                }
            }
        }
    }
    assert!(
        gauges.len() > 50 && added.len() > 50,
        "{} {}",
        gauges.len(),
        added.len()
    );
    let gauges = gauges.iter().filter_map(|(path, value)| {
        let found = flushed.gauges.get(path).copied();
        (found != *value).then(|| format!("gauge {path}: {found:?}, wanted {value:?}"))
    });
    let added = added.iter().filter_map(|(path, value)| {
        let found = flushed.counters.get(path).copied();
        (found != Some(*value)).then(|| format!("counter {path}: {found:?}, wanted {value}"))
    });
    gauges.chain(added).collect()
}

fn none(wrong: Vec<String>) -> Result<(), String> {
    match wrong.len() {
        0 => Ok(()),
        many => Err(format!("{many}: {:?}", &wrong[..many.min(5)])),
    }
}

#[tokio::test]
async fn what_the_hosts_measured_is_read_back_from_carbon_and_statsd() -> Result<()> {
    let broker = Broker::shared().await?;
    let mut fleet = enroll(&broker, 2).await?;
    let carbon = Carbon::start(fleet.directory()).await?;
    let statsd = Statsd::start(fleet.directory()).await?;
    let template = |first: &str| {
        format!("template = \"{first}.{{host}}.{{collector}}.{{table}}.{{labels}}.{{field}}\"")
    };
    let host = "collectors = [\"host\"]\n";
    let tables = [
        bridge("lines", "graphite", carbon.lines(), host),
        bridge(
            "pickles",
            "graphite",
            carbon.pickles(),
            &format!("{host}protocol = \"pickle\"\n{}", template("pickled")),
        ),
        bridge("datagrams", "statsd", statsd.udp(), host),
        bridge(
            "stream",
            "statsd",
            statsd.tcp(),
            &format!("{host}protocol = \"tcp\"\n{}", template("tcp")),
        ),
    ];
    let names = ["lines", "pickles", "datagrams", "stream"];
    let serve = Serve::start(&fleet.muster, &tables.concat()).await?;
    // Before the first snapshot: bridges and test see the same.
    let mut tap = Tap::open(&broker, "host").await?;
    for agent in &mut fleet.agents {
        agent.start()?;
    }
    let mut heard = tap.hear(2, SNAPSHOTS).await?;
    for agent in &mut fleet.agents {
        agent.stop().await?;
    }
    heard.extend(tap.rest().await?);
    for name in names {
        await_taken(&serve, name, heard.len()).await?;
    }

    eventually("carbon's files have every figure", async || {
        let files = carbon.points().map_err(|error| format!("{error:#}"))?;
        none(not_in_files(&files, "", &heard))?;
        none(not_in_files(&files, "pickled.", &heard))
    })
    .await?;
    eventually("statsd has flushed every figure", async || {
        let flushed = statsd.flushed().map_err(|error| format!("{error:#}"))?;
        none(not_in_statsd(&flushed, "", &heard))?;
        none(not_in_statsd(&flushed, "tcp.", &heard))
    })
    .await?;
    for name in names {
        for figure in [
            "dropped_snapshots_total",
            "unreadable_total",
            "failed_figures_total",
        ] {
            let found = serve
                .figure(figure, name)
                .await
                .map_err(anyhow::Error::msg)?;
            assert!(found == 0.0, "{name}: {figure} {found}");
        }
        let up = serve.figure("up", name).await.map_err(anyhow::Error::msg)?;
        assert!(up == 1.0, "{name} is not up");
    }
    println!("compared {} snapshots in four ways", heard.len());
    Ok(())
}
