//! Values, states and discovery in a Zabbix proxy; what it has no items for is counted, again and again, and the rest comes.

use std::collections::BTreeSet;

use muster_harness::sinks::ZabbixProxy;
use muster_proto::snapshot::fields;

use super::*;

/// A parameter of an item's key, quoted where it needs it.
fn parameter(text: &str) -> String {
    if text.starts_with(['"', ' ', '[']) || text.contains([',', ']']) {
        format!("\"{}\"", text.replace('"', "\\\""))
    } else {
        text.to_owned()
    }
}

/// Host, key, value and time of every figure.
fn values(metrics: &Metrics) -> impl Iterator<Item = (String, String, String, u64)> + '_ {
    fields::series(&metrics.collector, &metrics.snapshot).map(|sample| {
        let labels: Vec<String> = sample
            .labels
            .iter()
            .map(|(_, value)| parameter(value))
            .collect();
        let mut key = format!("muster.{}.{}", metrics.collector, sample.series);
        if !labels.is_empty() {
            let _ = write!(key, "[{}]", labels.join(","));
        }
        (
            metrics.host.to_string(),
            key,
            sample.reading.to_string(),
            metrics.at_ms,
        )
    })
}

#[tokio::test]
async fn what_the_hosts_measured_is_in_a_zabbix_proxy_and_what_it_refuses_is_counted() -> Result<()>
{
    let broker = Broker::shared().await?;
    let mut fleet = enroll(&broker, 2).await?;
    let hosts: Vec<String> = fleet
        .agents
        .iter()
        .map(|agent| agent.host.clone())
        .collect();
    // The first host has an item for each of its figures but the load's, which are missing; the second host is unknown.
    let collected = fleet.agents[0].command(&["collect", "host"])?.output()?;
    let collected: Value = serde_json::from_slice(&collected.stdout).context("collect the host")?;
    let sample = Metrics {
        host: hosts[0].parse()?,
        collector: "host".to_owned(),
        at_ms: 0,
        seq: 0,
        snapshot: collected["host"].clone(),
    };
    let mut items: BTreeSet<(String, String, bool)> = values(&sample)
        .filter(|(_, key, _, _)| !key.starts_with("muster.host.load."))
        .map(|(host, key, value, _)| (host, key, value.parse::<f64>().is_err()))
        .collect();
    items.insert((
        hosts[0].clone(),
        "muster.discovery[host.interface]".to_owned(),
        true,
    ));
    items.insert((
        "muster".to_owned(),
        "muster.discovery[hosts]".to_owned(),
        true,
    ));
    let items: Vec<_> = items.into_iter().collect();
    assert!(items.len() > 100, "{}", items.len());
    let proxy = ZabbixProxy::start(fleet.directory(), &items).await?;
    let known: BTreeSet<(String, String)> = items
        .into_iter()
        .map(|(host, key, _)| (host, key))
        .collect();

    let table = bridge(
        "zabbix",
        "zabbix",
        proxy.address(),
        "collectors = [\"host\"]",
    );
    let serve = Serve::start(&fleet.muster, &table).await?;
    let mut tap = Tap::open(&broker, "host").await?;
    for agent in &mut fleet.agents {
        agent.start()?;
    }
    let mut heard = tap.hear(2, 4).await?;
    for agent in &mut fleet.agents {
        agent.stop().await?;
    }
    heard.extend(tap.rest().await?);
    await_taken(&serve, "zabbix", heard.len()).await?;

    let all: Vec<_> = heard.iter().flat_map(values).collect();
    let (wanted, refused): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|(host, key, _, _)| known.contains(&(host.clone(), key.clone())));
    assert!(
        wanted.len() > 400 && refused.len() > 400,
        "{} {}",
        wanted.len(),
        refused.len()
    );
    // The proxy writes down what it keeps a little later.
    eventually("the proxy keeps every value", async || {
        let kept = proxy.kept().map_err(|error| format!("{error:#}"))?;
        let found: BTreeMap<(String, String, u64), String> = kept
            .into_iter()
            .map(|kept| {
                (
                    (kept.host, kept.key, kept.clock * 1000 + kept.ns / 1_000_000),
                    kept.value,
                )
            })
            .collect();
        let wrong = wanted.iter().filter_map(|(host, key, value, at_ms)| {
            let found = found.get(&(host.clone(), key.clone(), *at_ms));
            let equal =
                found.is_some_and(|found| match (found.parse::<f64>(), value.parse::<f64>()) {
                    (Ok(found), Ok(value)) => (found - value).abs() <= value.abs() * 1e-12,
                    _ => found == value,
                });
            (!equal).then(|| format!("{host} {key}: {found:?}, wanted {value}"))
        });
        let wrong: Vec<String> = wrong.collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("{}: {:?}", wrong.len(), &wrong[..1]))
        }
    })
    .await
    .with_context(|| proxy.log())?;

    // Every refused value is counted, and said with whose it was; discovery of other tables is refused too.
    let failed = serve
        .figure("failed_figures_total", "zabbix")
        .await
        .map_err(anyhow::Error::msg)?;
    let least = u32::try_from(refused.len())?;
    assert!(
        failed >= f64::from(least) && failed < f64::from(least) + 100.0,
        "{failed} of {least}"
    );
    let log = serve.process.stderr();
    // The first of them, at once; which those are is the agents' doing.
    assert!(
        log.contains("the sink did not want") && hosts.iter().any(|host| log.contains(host)),
        "{log}"
    );

    // Discovery: the interfaces as the host has them, the hosts of the fleet.
    let interfaces: BTreeSet<String> = values(&sample)
        .filter_map(|(_, key, _, _)| {
            let rest = key.strip_prefix("muster.host.interface.")?;
            Some(rest.split_once('[')?.1.strip_suffix(']')?.to_owned())
        })
        .collect();
    eventually("discovery", async || {
        let kept = proxy.kept().map_err(|error| format!("{error:#}"))?;
        let last = |key: &str| {
            kept.iter()
                .rev()
                .find(|kept| kept.key == key)
                .map(|kept| kept.value.clone())
        };
        let names = |key: &str, name: &str| -> BTreeSet<String> {
            let list: Vec<Value> =
                serde_json::from_str(&last(key).unwrap_or_default()).unwrap_or_default();
            list.iter()
                .filter_map(|row| row[name].as_str().map(str::to_owned))
                .collect()
        };
        let found = names("muster.discovery[host.interface]", "{#INTERFACE}");
        let found_hosts = names("muster.discovery[hosts]", "{#HOST}");
        if found == interfaces
            && !found_hosts.is_empty()
            && found_hosts.iter().all(|host| hosts.contains(host))
        {
            Ok(())
        } else {
            Err(format!("{found:?} {found_hosts:?}"))
        }
    })
    .await
}
