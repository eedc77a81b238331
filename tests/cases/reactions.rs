//! Reactions of `muster serve`: from a line in a host's log to mails, webhooks and jobs, with real peers on all sides.

mod act;
mod faults;
mod original;
mod peers;
mod several;
mod stopped;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::ports::PortBlock;
use muster_harness::{Broker, Fleet, FleetOptions, Muster, Process, eventually_within};
use serde_json::Value;

/// Within this everything has happened, on two busy cores.
const LIMIT: Duration = Duration::from_secs(120);

/// Rules of the agents' logs: `say NUMBER of KEY` is an event `test.said`, `KEY is down` and `KEY is up` are of a service.
const RULES: &str = r#"
[[tail.rule]]
pattern = 'say (?<number>\d+) of (?<what>\S+)'
topic = "test.said"
severity = "warning"
summary = "said {number} of {what}"
key = "{what}"
numbers = ["number"]
[[tail.rule]]
pattern = '(?<what>\S+) is down'
topic = "test.service.down"
severity = "error"
summary = "{what} is down"
key = "{what}"
[[tail.rule]]
pattern = '(?<what>\S+) is up'
topic = "test.service.up"
severity = "notice"
summary = "{what} is up"
key = "{what}"
"#;

const INVENTORY: &str = "cluster_id: c7\narea: gz\nadmin_mail_group: [admins@example.com]\nserver:\n- {vip_instance: shop, \
                         descript: the shop, owners: ann, mailto: [ann@example.com], vip_group: [{vip: 192.0.2.99, port: 80}]}\n";

/// Hosts with logs, and `muster serve` that reacts to them.
struct Stage {
    fleet: Fleet,
    serves: Vec<Serve>,
    _broker: Broker,
}

/// One `muster serve`.
struct Serve {
    muster: Muster,
    process: Option<Process>,
    address: String,
    name: String,
    _ports: PortBlock,
}

impl Serve {
    /// With these sections in its config, started.
    fn start(muster: Muster, name: &str, sections: &str) -> Result<Self> {
        let ports = PortBlock::reserve()?;
        let address = format!("127.0.0.1:{}", ports.port(0));
        let config: PathBuf = muster.home().join(".config/muster/config.toml");
        let text = fs::read_to_string(&config).context("read the operator's config")?;
        let text = format!("{text}\n[serve]\nlisten = \"{address}\"\n{sections}\n");
        fs::write(&config, text)?;
        let mut serve = Self {
            muster,
            process: None,
            address,
            name: name.to_owned(),
            _ports: ports,
        };
        serve.restart()?;
        Ok(serve)
    }

    fn restart(&mut self) -> Result<()> {
        self.process = Some(self.muster.start(&self.name, &["-v", "serve"])?);
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it runs")?;
        process.kill().await.map(drop)
    }

    fn log(&self) -> String {
        let file = self.muster.home().join(format!("{}.stderr", self.name));
        fs::read_to_string(file).unwrap_or_default()
    }

    /// Its `/metrics`.
    async fn metrics(&self) -> Result<String> {
        let url = format!("http://{}/metrics", self.address);
        Ok(reqwest::get(url).await?.text().await?)
    }

    /// Whether all its parts work.
    async fn ready(&self) -> Result<(), String> {
        let url = format!("http://{}/readyz", self.address);
        let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{text}\n{}", self.log()))
    }
}

impl Stage {
    /// `agents` hosts with the log [`Stage::say`] writes, and a `muster serve` with these sections.
    async fn start(agents: usize, sections: &str) -> Result<Self> {
        let mut stage = Self::fleet(agents).await?;
        let muster = stage.fleet.second_desk("serve-0")?;
        stage
            .serves
            .push(Serve::start(muster, "serve-0", sections)?);
        stage.await_serving().await?;
        Ok(stage)
    }

    async fn fleet(agents: usize) -> Result<Self> {
        let broker = Broker::shared().await?;
        let options = FleetOptions {
            agents,
            // What a recovery does, and a job that brings the same trouble again.
            scripts: vec![
                (
                    "recover",
                    "echo \"$1 is up\" >> log\necho \"$1\" >> ran".to_owned(),
                ),
                (
                    "worsen",
                    "echo \"$1 is down\" >> log\necho \"$1\" >> ran".to_owned(),
                ),
            ],
            ..FleetOptions::default()
        };
        let mut fleet = Fleet::enroll(&broker, &options).await?;
        for agent in &mut fleet.agents {
            let (log, inventory) = (agent.files.join("log"), agent.files.join("info.yaml"));
            fs::write(&log, "")?;
            fs::write(&inventory, INVENTORY)?;
            let mut config = OpenOptions::new().append(true).open(&agent.config)?;
            write!(
                config,
                "\n[inventory]\nfile = {inventory:?}\n[[tail]]\nname = \"log\"\npaths = [{log:?}]\nstart = \"beginning\"\n\
                 packs = [\"keepalived\"]\n{RULES}"
            )?;
            agent.start()?;
        }
        fleet.await_all().await?;
        Ok(Self {
            fleet,
            serves: Vec::new(),
            _broker: broker,
        })
    }

    /// Waits until every `muster serve` is at work, and one of them reacts.
    async fn await_serving(&self) -> Result<()> {
        for serve in &self.serves {
            eventually_within("muster serve is ready", LIMIT, async || serve.ready().await).await?;
        }
        eventually_within("somebody reacts", LIMIT, async || {
            let active = self
                .told(&["reaction.active"])
                .await
                .map_err(|error| format!("{error:#}"))?;
            (!active.is_empty())
                .then_some(())
                .ok_or_else(|| self.logs())
        })
        .await
    }

    /// Writes lines to the log of a host.
    fn say(&self, agent: usize, lines: &str) -> Result<()> {
        let path = self.fleet.agents[agent].files.join("log");
        let mut file = OpenOptions::new().append(true).open(path)?;
        Ok(file.write_all(lines.as_bytes())?)
    }

    /// The history's events with one of these topics, oldest first.
    async fn told(&self, topics: &[&str]) -> Result<Vec<Value>> {
        let watch = ["watch", "--since", "1h", "--no-follow", "-o", "ndjson"];
        let output = self
            .fleet
            .muster
            .succeed(&[&watch, topics].concat())
            .await?;
        output.json_lines()
    }

    /// Waits until as many events of the topic are told as there should be; gives them.
    async fn await_told(&self, topic: &str, count: usize) -> Result<Vec<Value>> {
        eventually_within(topic, LIMIT, async || {
            let told = self
                .told(&[topic])
                .await
                .map_err(|error| format!("{error:#}"))?;
            if told.len() < count {
                return Err(format!(
                    "{} of {count}: {told:#?}\n{}",
                    told.len(),
                    self.logs()
                ));
            }
            assert_eq!(told.len(), count, "{told:#?}");
            Ok(told)
        })
        .await
    }

    fn logs(&self) -> String {
        self.serves.iter().map(Serve::log).collect()
    }
}

/// The lines of a keepalived that takes a real server out, or puts it back.
fn keepalived(state: &str) -> String {
    let (verb, to) = if state == "down" {
        ("Removing", "from")
    } else {
        ("Adding", "to")
    };
    format!(
        "Nov 22 14:31:01 lb1 Keepalived_healthcheckers[818]: {verb} service [10.8.1.2]:tcp:8080 {to} VS [192.0.2.99]:tcp:80\n"
    )
}
