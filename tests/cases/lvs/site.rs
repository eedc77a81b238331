//! Directors with a real IPVS and an agent each, a real RabbitMQ outside of them, and the operator's `muster` beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_harness::uml::Background;
use muster_harness::{Broker, Fleet, FleetOptions, Guest, Output, Proxy, eventually};
use serde_json::Value;

/// Client, namespaces with backends, and addresses on every director; see [`Site::start`].
///
/// Few processes: each costs 20 ms and more in there.
const NETWORK: &str = r#"
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
mkdir -p /run/www
echo hello >/run/www/index.html
{
  echo link set dummy0 up
  for vip in 192.0.2.10 192.0.2.11 192.0.2.12 192.0.2.99; do echo address add $vip/32 dev dummy0; done
  echo address add 2001:db8::10/128 dev dummy0 nodad
  # Each place is a machine behind a cable of its own.
  number=0
  for place in client b1 b2 b3; do
    echo netns add $place
    echo link add to-$place type veth peer name eth0 netns $place
    echo link set to-$place up
    echo address add 10.8.$number.1/24 dev to-$place
    echo address add fd00:8:$number::1/64 dev to-$place nodad
    number=$((number + 1))
  done
} | ip -batch -
number=0
for place in client b1 b2 b3; do
  ip -n $place -batch - <<BATCH
link set lo up
link set eth0 up
address add 10.8.$number.2/24 dev eth0
address add fd00:8:$number::2/64 dev eth0 nodad
route add default via 10.8.$number.1
route add default via fd00:8:$number::1
BATCH
  number=$((number + 1))
done
"#;

/// Some directors on one broker. Each has the same client and the same three backends, of its own.
pub(crate) struct Site {
    pub(crate) directors: Vec<Director>,
    pub(crate) fleet: Fleet,
    _broker: Broker,
}

/// A host of the fleet, with the kernel that its agent watches.
pub(crate) struct Director {
    pub(crate) guest: Guest,
    pub(crate) host: String,
    agent: Option<Background>,
    _way_out: Proxy,
}

impl Site {
    /// Boots directors and lays the cables; agents are configured with `tables` and do not run yet.
    ///
    /// Client `client` is 10.8.0.2 and fd00:8:0::2; backends `b1` to `b3` are 10.8.N.2 and fd00:8:N::2, with nothing
    /// running; virtual addresses are 192.0.2.10 to .12, 192.0.2.99 and 2001:db8::10.
    pub(crate) async fn start(directors: usize, tables: &str) -> Result<Self> {
        let broker = Broker::shared().await?;
        let mut booted = Vec::new();
        for _ in 0..directors {
            let guest = Guest::start().await?;
            guest.succeed(NETWORK).await?;
            let way_out = guest.reach(broker.amqp())?;
            booted.push((guest, way_out));
        }
        let (_, way_out) = booted.first().context("a site has one director at least")?;
        let options = FleetOptions {
            agents: directors,
            // The same for all: each has a network of its own with the same addresses.
            agents_url: Some(format!("amqp://{}/{}", way_out.address(), broker.vhost())),
            broker_keys: "reconnect_window = \"2s\"".to_owned(),
            tables: format!("[http]\nlisten = \"127.0.0.1:9418\"\n{tables}"),
            ..FleetOptions::default()
        };
        let fleet = Fleet::enroll(&broker, &options).await?;
        let mut directors = Vec::new();
        for (agent, (guest, way_out)) in fleet.agents.iter().zip(booted) {
            guest.share(fleet.directory()).await?;
            let program = muster_harness::fleet::binary("muster-agent")?;
            let folder = program.parent().context("the agent has a folder")?;
            guest.share(folder).await?;
            directors.push(Director {
                guest,
                host: agent.host.clone(),
                agent: None,
                _way_out: way_out,
            });
        }
        Ok(Self {
            directors,
            fleet,
            _broker: broker,
        })
    }

    /// The first or only director.
    pub(crate) fn director(&self) -> &Director {
        &self.directors[0]
    }

    /// Its kernel.
    pub(crate) fn guest(&self) -> &Guest {
        &self.directors[0].guest
    }

    /// Starts every agent that does not run, in its guest, and waits until all answer.
    pub(crate) async fn start_agents(&mut self) -> Result<()> {
        for (agent, director) in self.fleet.agents.iter().zip(&mut self.directors) {
            if director.agent.is_some() {
                continue;
            }
            let command = agent.command(&["run"])?;
            director.agent = Some(director.guest.spawn_command(&command)?);
        }
        let up = self.fleet.await_all().await;
        up.with_context(|| {
            let logs = self.directors.iter().map(Director::log);
            format!("the agents' logs: {}", logs.collect::<String>())
        })
    }

    /// Ends the first director's agent by a signal, and starts it again.
    pub(crate) async fn restart_agent(&mut self, signal: &str) -> Result<()> {
        let director = &mut self.directors[0];
        let agent = director.agent.take().context("the agent does not run")?;
        director.guest.end(agent, signal).await?;
        self.start_agents().await
    }

    /// `muster-agent collect NAME` in the first guest: the snapshot.
    pub(crate) async fn collect_once(&self, name: &str) -> Result<Value> {
        let command = self.fleet.agents[0].command(&["collect", name])?;
        let output = self.guest().run_command(&command).await?;
        let json = output.json()?;
        match json.get(name) {
            Some(snapshot) if output.code == 0 => Ok(snapshot.clone()),
            _ => bail!("collect {name} gave {output:?}"),
        }
    }

    /// `muster collect NAME` out here: the first director's snapshot, by way of the broker.
    pub(crate) async fn collect(&self, name: &str) -> Result<Value> {
        let output = self
            .fleet
            .muster
            .succeed(&["collect", name, "-t", &self.director().host, "-o", "json"])
            .await?;
        let json = output.json()?;
        let snapshot = json
            .pointer("/hosts/0/data/snapshots")
            .and_then(|all| all.get(name));
        snapshot
            .cloned()
            .with_context(|| format!("no snapshot {name} in {json}"))
    }

    /// `muster run` for all hosts, with JSON.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let run = ["run", "-t", "*", "-o", "json"];
        self.fleet.muster.run(&[&run, arguments].concat()).await
    }

    /// Every event that RabbitMQ keeps of these topics, oldest first.
    pub(crate) async fn events(&self, topics: &[&str]) -> Result<Vec<Value>> {
        let watch = ["watch", "--since", "1h", "--no-follow", "-o", "ndjson"];
        let output = self
            .fleet
            .muster
            .succeed(&[&watch, topics].concat())
            .await?;
        output.json_lines()
    }
}

/// Reads events of some topics in the order in which the broker has them.
pub(crate) struct Reader<'a> {
    site: &'a Site,
    topics: &'a [&'a str],
    seen: usize,
}

impl<'a> Reader<'a> {
    /// Begins after the first `seen` events.
    pub(crate) fn new(site: &'a Site, topics: &'a [&'a str], seen: usize) -> Self {
        Self { site, topics, seen }
    }

    /// How many events it has read.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Runs commands in the first director's guest and waits for what they are to bring: these events, each as
    /// `TOPIC KEY`, in whatever order, and no others.
    pub(crate) async fn step(&mut self, script: &str, wanted: &[&str]) -> Result<Vec<Value>> {
        self.step_passing(script, wanted, &[]).await
    }

    /// As [`Reader::step`], where a state may be seen that lasts an instant: all events of `passing`, or none.
    pub(crate) async fn step_passing(
        &mut self,
        script: &str,
        wanted: &[&str],
        passing: &[&str],
    ) -> Result<Vec<Value>> {
        self.site.guest().succeed(script).await?;
        let mut wanted: Vec<&str> = wanted.to_vec();
        wanted.sort_unstable();
        let what = format!("events {wanted:#?}");
        let found = eventually(&what, async || {
            let events = self.site.events(self.topics).await;
            let events = events.map_err(|error| format!("{error:#}"))?;
            let new = events.get(self.seen..).unwrap_or_default();
            let mut names: Vec<String> = new.iter().map(event_name).collect();
            names.sort_unstable();
            if passing
                .iter()
                .all(|one| names.iter().any(|name| name == one))
            {
                names.retain(|name| !passing.contains(&name.as_str()));
            }
            if names == wanted {
                return Ok(new.to_vec());
            }
            Err(format!("{names:#?}"))
        });
        let director = self.site.director();
        let events = found
            .await
            .with_context(|| format!("after {script}; the agent's log: {}", director.log()))?;
        self.seen += events.len();
        for event in &events {
            assert_eq!(event["from"], director.host.as_str(), "{event}");
            let summary = event["summary"].as_str().unwrap_or_default();
            assert!(!summary.is_empty(), "{event}");
        }
        Ok(events)
    }

    /// Waits until nothing new comes for five looks, and goes on behind what has come.
    pub(crate) async fn catch_up(&mut self) -> Result<()> {
        let mut quiet = 0;
        while quiet < 5 {
            let now = self.site.events(self.topics).await?.len();
            quiet = if now == self.seen { quiet + 1 } else { 0 };
            self.seen = now;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
}

impl Director {
    /// Waits until its agent has taken `times` snapshots more, by what it serves in the guest.
    pub(crate) async fn await_looks(&self, collector: &str, times: usize) -> Result<()> {
        let get = format!(
            "timeout 10 bash -c 'exec 3<>/dev/tcp/127.0.0.1/9418; \
             printf \"GET /v1/snapshots/{collector} HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'"
        );
        let mut looks = BTreeSet::new();
        let looked = eventually("snapshots in the guest", async || {
            let output = self.guest.run(&get).await;
            let output = output.map_err(|error| format!("{error:#}"))?.stdout;
            let body = output.split("\r\n\r\n").nth(1).unwrap_or_default();
            let snapshot = serde_json::from_str::<Value>(body).map_err(|_| output.clone())?;
            looks.extend(snapshot["at_ms"].as_u64());
            if looks.len() > times {
                return Ok(());
            }
            Err(format!("{} of {times}", looks.len()))
        });
        looked.await.with_context(|| self.log())
    }

    /// What the agent has logged.
    pub(crate) fn log(&self) -> String {
        let log = self.agent.as_ref().map(|agent| self.guest.output_of(agent));
        log.unwrap_or_default()
    }
}

/// Topic and key.
pub(crate) fn event_name(event: &Value) -> String {
    let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("topic"), text("key"))
}
