//! Programs that keep figures, as they come from their makers: statsd (npm), Graphite's carbon and Zabbix' proxy (Debian),
//! each with a directory and ports of its own. It must not know who sends them what.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

use crate::eventually::eventually;
use crate::ports::PortBlock;
use crate::process::Process;

/// Where Node's packages are.
const NODE_MODULES_VARIABLE: &str = "MUSTER_TEST_NODE_MODULES";

/// A sink that was told to stop has ended within this.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What all of them have.
#[derive(Debug)]
struct Server {
    name: &'static str,
    command: Command,
    folder: PathBuf,
    ports: PortBlock,
    process: Option<Process>,
}

impl Server {
    fn address(&self, offset: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.port(offset)))
    }

    /// Starts it, and waits until it listens on its ports `0..listening`.
    async fn start(&mut self, listening: u16) -> Result<()> {
        if self.process.is_some() {
            bail!("{} runs already", self.name);
        }
        let mut process = Process::spawn(self.name, &self.command, &self.folder)?;
        for offset in 0..listening {
            let address = self.address(offset);
            let what = format!("{} listens on {address}", self.name);
            eventually(&what, async || match process.exit_status() {
                Ok(None) => TcpStream::connect(address)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string()),
                ended => Err(format!(
                    "{ended:?}: {}{}",
                    process.stdout(),
                    process.stderr()
                )),
            })
            .await?;
        }
        self.process = Some(process);
        Ok(())
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .with_context(|| format!("{} does not run", self.name))
    }
}

/// Carbon's cache, which writes whisper files; a point each second, for ten minutes.
#[derive(Debug)]
pub struct Carbon(Server);

impl Carbon {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(folder: &Path) -> Result<Self> {
        let folder = folder.join("carbon");
        fs::create_dir_all(&folder)?;
        let ports = PortBlock::reserve()?;
        let dir = folder.display();
        let config = format!(
            "[cache]\nSTORAGE_DIR = {dir}\nLOCAL_DATA_DIR = {dir}/whisper/\nCONF_DIR = {dir}\nLOG_DIR = {dir}\nPID_DIR = {dir}\n\
             USER =\nMAX_CREATES_PER_MINUTE = inf\nMAX_UPDATES_PER_SECOND = inf\nMIN_TIMESTAMP_RESOLUTION = 1\n\
             LINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = {}\nPICKLE_RECEIVER_INTERFACE = 127.0.0.1\n\
             PICKLE_RECEIVER_PORT = {}\nCACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = {}\n\
             CARBON_METRIC_INTERVAL = 0\nWHISPER_FALLOCATE_CREATE = False\n",
            ports.port(0),
            ports.port(1),
            ports.port(2),
        );
        fs::write(folder.join("carbon.conf"), config)?;
        let schemas = "[all]\npattern = .*\nretentions = 1s:10m\n";
        fs::write(folder.join("storage-schemas.conf"), schemas)?;
        let mut command = Command::new("/usr/bin/carbon-cache");
        command
            .arg(format!("--config={dir}/carbon.conf"))
            .arg(format!("--pidfile={dir}/carbon.pid"))
            .args(["--nodaemon", "start"])
            .current_dir(&folder);
        let mut carbon = Self(Server {
            name: "carbon",
            command,
            folder,
            ports,
            process: None,
        });
        carbon.start_again().await?;
        Ok(carbon)
    }

    /// Where it takes lines.
    pub fn lines(&self) -> SocketAddr {
        self.0.address(0)
    }

    /// Where it takes pickles.
    pub fn pickles(&self) -> SocketAddr {
        self.0.address(1)
    }

    /// Starts it after it was stopped.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        let _ = fs::remove_file(self.0.folder.join("carbon.pid")); // of one that was killed
        self.0.start(3).await
    }

    /// The process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.0.process()
    }

    /// SIGTERM: it closes its connections, writes everything down, and ends.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self.0.process.take().context("carbon does not run")?;
        process.terminate(STOP_LIMIT).await.map(drop)
    }

    /// Every point of every file: by path, then second.
    ///
    /// # Errors
    /// When Python's whisper can't read them.
    pub fn points(&self) -> Result<BTreeMap<String, BTreeMap<u64, f64>>> {
        let folder = self.0.folder.join("whisper");
        let program = r#"
import json, os, sys, time, whisper
top, all = sys.argv[1], {}
for folder, _, files in os.walk(top):
    for file in files:
        if not file.endswith(".wsp"): continue
        path = os.path.join(folder, file)
        try: (begin, end, step), values = whisper.fetch(path, int(time.time()) - 590)
        except Exception as error: continue  # it is being made
        name = os.path.relpath(path, top)[:-4].replace("/", ".")
        all[name] = {begin + at * step: value for at, value in enumerate(values) if value is not None}
json.dump(all, sys.stdout)
"#;
        let output = Command::new("/usr/bin/python3")
            .args(["-c", program])
            .arg(&folder)
            .output()
            .context("run python3")?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "read whisper files: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

/// statsd, with what it flushes added up in a file.
#[derive(Debug)]
pub struct Statsd(Server);

/// What statsd has flushed so far.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Flushed {
    /// How many times.
    pub flushes: u64,
    /// Sums of the counters.
    pub counters: BTreeMap<String, f64>,
    /// Last values of the gauges.
    pub gauges: BTreeMap<String, f64>,
    /// Every value of the timers, in the order in which they were flushed.
    pub timers: BTreeMap<String, Vec<f64>>,
}

const BACKEND: &str = r#"
const fs = require('fs');
const all = {flushes: 0, counters: {}, gauges: {}, timers: {}};
exports.init = (start, config, events) => {
  events.on('flush', (time, metrics) => {
    all.flushes += 1;
    for (const [name, value] of Object.entries(metrics.counters)) all.counters[name] = (all.counters[name] || 0) + value;
    Object.assign(all.gauges, metrics.gauges);
    for (const [name, values] of Object.entries(metrics.timers)) all.timers[name] = (all.timers[name] || []).concat(values);
    fs.writeFileSync(config.all + '.new', JSON.stringify(all));
    fs.renameSync(config.all + '.new', config.all);
  });
  return true;
};
"#;

impl Statsd {
    /// Starts one.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start(folder: &Path) -> Result<Self> {
        let modules = node_modules()?;
        let program = modules.join("statsd/stats.js");
        if !program.is_file() {
            bail!(
                "no {}: tests/run --install-only installs it",
                program.display()
            );
        }
        let folder = folder.join("statsd");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("backend.js"), BACKEND)?;
        let ports = PortBlock::reserve()?;
        let config = format!(
            "{{ mgmt_address: '127.0.0.1', mgmt_port: {}, flushInterval: 1000, deleteCounters: true, deleteTimers: true,\n\
             servers: [ {{ server: './servers/tcp', address: '127.0.0.1', port: {} }},\n\
             {{ server: './servers/udp', address: '127.0.0.1', port: {} }} ],\n\
             backends: [ '{}' ], all: '{}' }}\n",
            ports.port(0),
            ports.port(1),
            ports.port(2),
            folder.join("backend.js").display(),
            folder.join("all.json").display(),
        );
        let path = folder.join("config.js");
        fs::write(&path, config)?;
        let mut command = Command::new("node");
        command.arg(&program).arg(&path).current_dir(&folder);
        let mut statsd = Self(Server {
            name: "statsd",
            command,
            folder,
            ports,
            process: None,
        });
        statsd.0.start(2).await?;
        Ok(statsd)
    }

    /// Where it takes datagrams.
    pub fn udp(&self) -> SocketAddr {
        self.0.address(2)
    }

    /// Where it takes connections.
    pub fn tcp(&self) -> SocketAddr {
        self.0.address(1)
    }

    /// The process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.0.process()
    }

    /// What it has flushed so far.
    ///
    /// # Errors
    /// When it has not yet.
    pub fn flushed(&self) -> Result<Flushed> {
        let text =
            fs::read_to_string(self.0.folder.join("all.json")).context("nothing flushed yet")?;
        serde_json::from_str(&text).context("read what statsd has flushed")
    }
}

/// Where Node's packages are: `tests/run` says it, else they are beside the tests.
fn node_modules() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(NODE_MODULES_VARIABLE) {
        return Ok(folder.into());
    }
    let test = std::env::current_exe().context("ask for the path of the test binary")?;
    let target = test.ancestors().nth(3).context("the target directory")?;
    Ok(target.join("tools/node/node_modules"))
}

/// Zabbix' proxy, which takes values for the items it knows and keeps them until a server fetches them.
#[derive(Debug)]
pub struct ZabbixProxy(Server);

/// A value that it keeps.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct Kept {
    /// The item's host.
    pub host: String,
    /// The item's key.
    pub key: String,
    /// The value, as it came.
    pub value: String,
    /// When it was taken, in seconds since 1970.
    pub clock: u64,
    /// Nanoseconds on top.
    pub ns: u64,
}

impl ZabbixProxy {
    /// Starts one that knows these items, each a host, a key, and whether its values are texts.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(folder: &Path, items: &[(String, String, bool)]) -> Result<Self> {
        let folder = folder.join("zabbix");
        fs::create_dir_all(&folder)?;
        let ports = PortBlock::reserve()?;
        let dir = folder.display();
        let config = format!(
            "ProxyMode=1\nHostname=proxy\nServer=127.0.0.1\nListenIP=127.0.0.1\nListenPort={}\nLogType=console\n\
             DBName={dir}/proxy.db\nSocketDir={dir}\nPidFile={dir}/proxy.pid\nAllowRoot=1\nStartPollers=0\nStartTrappers=2\n\
             StartPingers=0\nStartDiscoverers=0\nStartHTTPPollers=0\nStartPollersUnreachable=0\nStartPreprocessors=1\n",
            ports.port(0)
        );
        fs::write(folder.join("proxy.conf"), config)?;
        let mut command = Command::new("/usr/sbin/zabbix_proxy");
        command
            .args(["-f", "-c"])
            .arg(folder.join("proxy.conf"))
            .current_dir(&folder);
        let mut proxy = Self(Server {
            name: "zabbix_proxy",
            command,
            folder,
            ports,
            process: None,
        });
        proxy.make_database(items)?;
        proxy.0.start(1).await?;
        Ok(proxy)
    }

    /// Where it takes values.
    pub fn address(&self) -> SocketAddr {
        self.0.address(0)
    }

    /// What a server would have told it.
    fn make_database(&self, items: &[(String, String, bool)]) -> Result<()> {
        let mut text = String::from("PRAGMA synchronous=OFF;\nBEGIN;\n");
        let schema = Command::new("zcat")
            .arg("/usr/share/zabbix-proxy-sqlite3/schema.sql.gz")
            .output()
            .context("read the proxy's schema")?;
        text.push_str(&String::from_utf8_lossy(&schema.stdout));
        let mut hosts: Vec<&String> = items.iter().map(|(host, _, _)| host).collect();
        hosts.sort();
        hosts.dedup();
        for (number, host) in hosts.iter().enumerate() {
            text.push_str(&format!(
                "INSERT INTO hosts (hostid, host, name) VALUES ({}, {}, {});\n",
                number + 1,
                quoted(host),
                quoted(host)
            ));
        }
        for (number, (host, key, is_text)) in items.iter().enumerate() {
            let of = hosts
                .iter()
                .position(|one| *one == host)
                .unwrap_or_default()
                + 1;
            // Items of type 2 are trappers'; values of type 0 are numbers with fractions, of type 4 texts.
            let kind = if *is_text { 4 } else { 0 };
            text.push_str(&format!(
                "INSERT INTO items (itemid, type, hostid, name, key_, value_type) VALUES ({id}, 2, {of}, 'x', {key}, {kind});\n\
                 INSERT INTO item_rtdata (itemid) VALUES ({id});\n",
                id = number + 1,
                key = quoted(key),
            ));
        }
        text.push_str("COMMIT;\n");
        fs::write(self.0.folder.join("seed.sql"), text)?;
        self.sql(&format!(
            ".read {}",
            self.0.folder.join("seed.sql").display()
        ))
        .map(drop)
    }

    /// Every value that it keeps, in the order in which it came.
    ///
    /// # Errors
    /// When its database can't be read.
    pub fn kept(&self) -> Result<Vec<Kept>> {
        let text = self.sql(
            "SELECT h.host AS host, i.key_ AS key, p.value AS value, p.clock AS clock, p.ns AS ns FROM proxy_history p \
             JOIN items i ON i.itemid = p.itemid JOIN hosts h ON h.hostid = i.hostid ORDER BY p.id;",
        )?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&text).context("read the proxy's values")
    }

    fn sql(&self, text: &str) -> Result<String> {
        let output = Command::new("sqlite3")
            .args(["-json", "-cmd", ".timeout 10000"])
            .arg(self.0.folder.join("proxy.db"))
            .arg(text)
            .output()
            .context("run sqlite3")?;
        if !output.status.success() {
            bail!("sqlite3: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it has said.
    pub fn log(&self) -> String {
        self.0
            .process
            .as_ref()
            .map(|process| process.stdout() + &process.stderr())
            .unwrap_or_default()
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
