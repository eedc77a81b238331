//! `/metrics` of the fleet, read by a real Prometheus: every figure that the agents measured, the same; nothing more of a
//! host that is gone; every query of the dashboards answered; the alert rules, loaded and tested.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_harness::ports::PortBlock;
use muster_harness::{Agent, Broker, Fleet, FleetOptions, NodeOptions, Process, eventually_within};
use muster_proto::snapshot::fields::{self, prometheus};
use serde_json::{Value, json};

use super::witness::Witness;
use super::{LIMIT, Serve};

/// A Prometheus of the test's own.
struct Prometheus {
    process: Process,
    address: String,
    _ports: PortBlock,
}

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards")
}

impl Prometheus {
    /// With the sample config and the rules, but that it scrapes `target`, every second.
    fn start(target: &str, directory: &Path) -> Result<Self> {
        let ports = PortBlock::reserve()?;
        let address = format!("127.0.0.1:{}", ports.port(0));
        let sample = std::fs::read_to_string(dashboards().join("prometheus.yml"))?;
        let rules = dashboards().join("muster.rules.yml").canonicalize()?;
        let text = sample
            .replace("127.0.0.1:9419", target)
            .replace("scrape_interval: 30s", "scrape_interval: 1s")
            .replace("scrape_timeout: 20s", "scrape_timeout: 1s")
            .replace("muster.rules.yml", &rules.display().to_string());
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, text)?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn");
        let process = Process::spawn("prometheus", &command, directory)?;
        Ok(Self {
            process,
            address,
            _ports: ports,
        })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let mut url = reqwest::Url::parse(&format!("http://{}{path}", self.address))
            .map_err(|error| error.to_string())?;
        url.query_pairs_mut().extend_pairs(query);
        let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        let answer: Value =
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(text),
        }
    }

    /// The labels and values that a query gives now.
    async fn query(&self, query: &str) -> Result<Vec<(Value, f64)>, String> {
        let data = self.get("/api/v1/query", &[("query", query)]).await?;
        let rows = data["result"].as_array().cloned().unwrap_or_default();
        let row = |row: Value| {
            let value = row["value"][1].as_str()?.parse().ok()?;
            Some((row["metric"].clone(), value))
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }
}

/// A line as Prometheus knows it: name and labels, without those of the target.
fn key(name: &str, labels: impl IntoIterator<Item = (String, String)>) -> String {
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    format!("{name} {labels:?}")
}

/// Every figure of a snapshot, as it is to be read from Prometheus.
fn expected(host: &str, collector: &str, snapshot: &Value) -> BTreeMap<String, f64> {
    let figures = fields::series(collector, snapshot).map(|sample| {
        let mut labels = vec![("host".to_owned(), host.to_owned())];
        for (name, value) in &sample.labels {
            // What the target has a label for already is set aside by Prometheus.
            let name = if *name == "instance" {
                "exported_instance"
            } else {
                name
            };
            labels.push((name.to_owned(), value.to_string()));
        }
        if let Some(word) = prometheus::word(&sample) {
            labels.push((prometheus::STATE.to_owned(), word.to_owned()));
        }
        // An empty label is no label.
        labels.retain(|(_, value)| !value.is_empty());
        (
            key(&prometheus::name(sample.series), labels),
            prometheus::figure(&sample),
        )
    });
    figures.collect()
}

/// What Prometheus has of a collector of a host.
async fn found(
    prometheus: &Prometheus,
    host: &str,
    collector: &str,
) -> Result<BTreeMap<String, f64>, String> {
    let query = format!(r#"{{__name__=~"muster_{collector}_.+", host="{host}"}}"#);
    let rows = prometheus.query(&query).await?;
    let rows = rows.into_iter().filter_map(|(metric, value)| {
        let mut labels = metric.as_object()?.clone();
        let name = labels.remove("__name__")?.as_str()?.to_owned();
        let labels = labels
            .into_iter()
            .filter(|(name, _)| name != "instance" && name != "job")
            .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
        Some((key(&name, labels), value))
    });
    Ok(rows.collect())
}

fn same(wanted: &BTreeMap<String, f64>, found: &BTreeMap<String, f64>) -> Result<(), String> {
    let other = wanted
        .iter()
        .filter(|(name, value)| found.get(*name) != Some(value));
    let other: Vec<String> = other
        .take(5)
        .map(|(name, value)| format!("{name}: {value} and {:?}", found.get(name)))
        .collect();
    match (other.is_empty(), wanted.len()) {
        (true, 1..) => Ok(()),
        (_, count) => Err(format!("of {count}: {}", other.join("\n"))),
    }
}

/// The newest snapshot of a collector, as the agent itself shows it.
async fn snapshot(address: &str, collector: &str) -> Result<Value, String> {
    let url = format!("http://{address}/v1/snapshots/{collector}");
    let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
    let text = answer.text().await.map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    Ok(value.get("snapshot").cloned().unwrap_or(value))
}

/// Gives an agent a local HTTP interface.
fn open_http(agent: &Agent, port: u16) -> Result<String> {
    let address = format!("127.0.0.1:{port}");
    let text = std::fs::read_to_string(&agent.config)?;
    std::fs::write(
        &agent.config,
        text.replace("listen = \"\"", &format!("listen = {address:?}")),
    )?;
    Ok(address)
}

#[tokio::test]
async fn prometheus_reads_what_the_agents_measured() -> Result<()> {
    let broker = Broker::private(NodeOptions::default()).await?;
    let options = FleetOptions {
        agents: 3,
        keys: "presence_interval = \"2s\"\n".to_owned(),
        tables: "[collect.host]\ninterval = \"20s\"\ndeadline = \"10s\"\n".to_owned(),
        ..FleetOptions::default()
    };
    let mut fleet = Fleet::enroll(&broker, &options).await?;
    let ports = PortBlock::reserve()?;
    let addresses = [
        open_http(&fleet.agents[0], ports.port(0))?,
        open_http(&fleet.agents[1], ports.port(1))?,
    ];
    let serve = Serve::start(&fleet.muster, "serve")?;
    serve.await_lead(true).await?;
    fleet.agents[0].start()?;
    fleet.agents[1].start()?;
    // The third is a director whose snapshots were recorded.
    let director = Witness::connect(&fleet.agents[2]).await?;
    let prometheus = Prometheus::start(&serve.address, fleet.directory())?;

    for (agent, address) in fleet.agents.iter().zip(&addresses) {
        let outcome = eventually_within("Prometheus has the agent's figures", LIMIT, async || {
            let wanted = expected(&agent.host, "host", &snapshot(address, "host").await?);
            same(&wanted, &found(&prometheus, &agent.host, "host").await?)
        });
        outcome.await.with_context(|| {
            format!(
                "{}\n{}",
                serve.process.stderr(),
                prometheus.process.stderr()
            )
        })?;
    }
    let checks = async {
        recorded_figures(&prometheus, &director.host).await?;
        rules(&prometheus).await?;
        for name in ["muster-fleet.json", "muster-lvs.json"] {
            dashboard(&prometheus, name, &serve.address).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        checked = checks => checked?,
        ended = tell(&director) => ended?,
    }
    gone(&prometheus, &mut fleet.agents[1]).await
}

/// Goes on as a director would. Ends only when it fails.
async fn tell(director: &Witness) -> Result<()> {
    let mut pace = tokio::time::interval(Duration::from_secs(1));
    for round in 1.. {
        pace.tick().await;
        for (collector, snapshot) in recorded(round) {
            director.tell(collector, round, &snapshot).await?;
        }
    }
    Ok(())
}

/// All figures of the recorded snapshots are there; what does not grow is the same.
async fn recorded_figures(prometheus: &Prometheus, host: &str) -> Result<()> {
    eventually_within("Prometheus has the director's figures", LIMIT, async || {
        for (collector, snapshot) in recorded(1) {
            let wanted = expected(host, collector, &snapshot);
            let found = found(prometheus, host, collector).await?;
            if let Some(missing) = wanted.keys().find(|name| !found.contains_key(*name)) {
                return Err(format!("{missing} is not among {}", found.len()));
            }
            let stays = wanted
                .into_iter()
                .filter(|(name, _)| !name.contains("_total "));
            same(&stays.collect(), &found)?;
        }
        Ok(())
    })
    .await
}

/// A host that is lost has no figures any more, though others have.
async fn gone(prometheus: &Prometheus, agent: &mut Agent) -> Result<()> {
    agent.kill().await?;
    let host = agent.host.clone();
    eventually_within("the figures of a lost host are gone", LIMIT, async || {
        let left = found(prometheus, &host, "host_memory").await?;
        let up = prometheus
            .query(&format!("muster_host_up{{host=\"{host}\"}}"))
            .await?;
        let up: Vec<f64> = up.into_iter().map(|(_, value)| value).collect();
        (left.is_empty() && up == [0.0])
            .then_some(())
            .ok_or_else(|| format!("{} left, up: {up:?}", left.len()))
    })
    .await?;
    let there = prometheus.query("muster_host_memory_free_bytes").await;
    assert_eq!(there.map_err(anyhow::Error::msg)?.len(), 1);
    Ok(())
}

/// The rules are what `promtool` and Prometheus itself take, and none of them fails.
async fn rules(prometheus: &Prometheus) -> Result<()> {
    for arguments in [
        ["check", "rules", "muster.rules.yml"],
        ["test", "rules", "muster.rules.test.yml"],
    ] {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(dashboards())
            .output()?;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    eventually_within("the rules are evaluated", LIMIT, async || {
        let data = prometheus.get("/api/v1/rules", &[]).await?;
        let groups = data["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<&Value> = groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .collect();
        let good = rules.iter().filter(|rule| rule["health"] == "ok").count();
        (good == rules.len() && good > 10)
            .then_some(())
            .ok_or_else(|| data.to_string())
    })
    .await
}

/// Every query of a dashboard has an answer; every name in it is one that there is.
async fn dashboard(prometheus: &Prometheus, name: &str, instance: &str) -> Result<()> {
    let board: Value = serde_json::from_str(&std::fs::read_to_string(dashboards().join(name))?)?;
    let known = prometheus
        .get("/api/v1/label/__name__/values", &[])
        .await
        .map_err(anyhow::Error::msg)?;
    let mut known: BTreeSet<String> = serde_json::from_value(known)?;
    known.extend(fields::all().map(prometheus::name));
    let panels = board["panels"].as_array().context("panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let mut queries = 0;
    for target in targets {
        let expr = target["expr"].as_str().context("an expression")?;
        let words = expr.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for word in words.filter(|word| word.starts_with("muster_")) {
            assert!(known.contains(word), "{name}: there is no {word}");
        }
        // Machines differ: this one need not have a service or a second disk.
        let asked = expr
            .replace("$instance", instance)
            .replace("$host", ".*")
            .replace("$virtual_server", ".*")
            .replace("$__rate_interval", "1m");
        queries += 1;
        let what = format!("{name} has an answer to {asked}");
        eventually_within(&what, LIMIT, async || {
            let rows = prometheus.query(&asked).await?;
            (!rows.is_empty())
                .then_some(())
                .ok_or_else(|| "none".to_owned())
        })
        .await?;
    }
    if queries < 10 {
        bail!("{name} has {queries} queries");
    }
    Ok(())
}

/// Snapshots of a director, as they were at `round`.
fn recorded(round: u64) -> [(&'static str, Value); 3] {
    let traffic = json!({
        "connections": {"total": 10 * round, "per_s": 1.0}, "in_packets": {"total": 100 * round, "per_s": 10.0},
        "out_packets": {"total": 90 * round, "per_s": 9.0}, "in_bytes": {"total": 64_000 * round, "per_s": 6400.0},
        "out_bytes": {"total": 128_000 * round, "per_s": 12_800.0},
    });
    let real = |name: &str, weight: u64, active: u64| json!({"name": name, "weight": weight, "active_connections": active, "inactive_connections": 1, "traffic": traffic});
    let lvs = json!({
        "present": true, "table_size": 4096,
        "totals": {"virtual_servers": 1, "virtual_servers_down": 0, "real_servers": 2, "real_servers_up": 1,
            "active_connections": 12, "inactive_connections": 2, "traffic": traffic},
        "virtual_servers": [{
            "name": "tcp/192.0.2.10:80", "real_servers_total": 2, "real_servers_up": 1, "weight_total": 1,
            "active_connections": 12, "inactive_connections": 2, "persistent_connections": 0, "traffic": traffic,
            "real_servers": [real("10.1.0.1:8080", 1, 12), real("10.1.0.2:8080", 0, 0)],
        }],
    });
    let keepalived = json!({"daemons": [{"name": "keepalived", "running": true, "vrrp": [{
        "name": "VI_1", "state": "MASTER", "wanted_state": "MASTER", "base_priority": 100, "effective_priority": 100,
        "counters": {"became_master": {"total": 1, "per_s": 0.0}, "adverts_sent": {"total": round, "per_s": 1.0}},
    }]}]});
    let services = json!({"active": 1, "failed": 0, "units": [
        {"name": "nginx.service", "active_state": "active", "usage": {"memory_bytes": 1 << 20}},
    ]});
    [
        ("lvs", lvs),
        ("keepalived", keepalived),
        ("services", services),
    ]
}
