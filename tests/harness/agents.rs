//! A fleet of real agents on one broker, enrolled as an operator would: topology, a key, a broker user for each host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::broker::Broker;
use crate::eventually::eventually_within;
use crate::fleet::{Muster, binary};
use crate::process::Process;

/// Agents are up within this, also when forty of them start on two busy cores.
const UP_LIMIT: Duration = Duration::from_secs(120);

/// An agent that was told to stop has ended within this.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What a fleet is to be.
#[derive(Clone, Debug, Default)]
pub struct FleetOptions {
    /// Number of agents.
    pub agents: usize,
    /// What agents connect to in place of the broker itself: a proxy's `amqp://HOST:PORT/VHOST`.
    pub agents_url: Option<String>,
    /// Top-level keys for every agent's config.
    pub keys: String,
    /// Keys of `[broker]` for every agent's config.
    pub broker_keys: String,
    /// Tables for every agent's config.
    pub tables: String,
    /// Scripts that jobs may run, by name: shell, begun in the host's own [`Agent::files`], ended by the first failure.
    pub scripts: Vec<(&'static str, String)>,
}

/// The agents, and the operator who commands them.
#[derive(Debug)]
pub struct Fleet {
    /// The operator's `muster`, with a broker user that has an operator's permissions and no more.
    pub muster: Muster,
    /// The agents, by number.
    pub agents: Vec<Agent>,
    // Last: the processes above write into it.
    directory: TempDir,
}

/// One host's agent: its config, and its process while it runs.
#[derive(Debug)]
pub struct Agent {
    /// The host's name.
    pub host: String,
    /// Its config.
    pub config: PathBuf,
    /// Where its state file is.
    pub state_dir: PathBuf,
    /// Where its scripts begin, and leave what they do.
    pub files: PathBuf,
    logs: PathBuf,
    process: Option<Process>,
}

impl Fleet {
    /// Sets the broker up, enrols an operator and the hosts, starts the agents, and waits until all answer.
    ///
    /// Agents are labelled `number=N` and `parity=even|odd`.
    ///
    /// # Errors
    /// When any of that fails.
    pub async fn start(broker: &Broker, options: &FleetOptions) -> Result<Self> {
        let mut fleet = Self::enroll(broker, options).await?;
        for agent in &mut fleet.agents {
            agent.start()?;
        }
        fleet.await_all().await?;
        Ok(fleet)
    }

    /// The same without starting any agent.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn enroll(broker: &Broker, options: &FleetOptions) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("muster-fleet-")
            .tempdir()
            .context("make a directory for a fleet")?;
        let home = directory.path().join("operator");
        let folder = home.join(".config/muster");
        fs::create_dir_all(&folder).context("make the operator's config folder")?;
        let muster = Muster::at(&home)?;
        let operator = format!("ops-{}", broker.tag());
        let admin = folder.join("admin.toml");
        fs::write(&admin, admin_config(broker, &operator)).context("write the admin's config")?;
        let admin = admin.display().to_string();
        let as_admin = |arguments: &[&str]| {
            [&["--config", admin.as_str()], arguments]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        succeed(&muster, as_admin(&["broker", "init"])).await?;
        let config = folder.join("config.toml").display().to_string();
        succeed(
            &muster,
            as_admin(&[
                "broker",
                "enroll",
                "--operator",
                &operator,
                "--out",
                &config,
            ]),
        )
        .await?;
        succeed(&muster, as_admin(&["key", "new", &operator])).await?;
        let mut agents = Vec::new();
        for number in 0..options.agents {
            let agent = Agent::at(&directory, format!("h{number}-{}", broker.tag()))?;
            let parity = if number % 2 == 0 {
                "parity=even"
            } else {
                "parity=odd"
            };
            let number = format!("number={number}");
            let mut arguments = as_admin(&[
                "broker",
                "enroll",
                &agent.host,
                "--label",
                &number,
                "--label",
                parity,
            ]);
            if let Some(url) = &options.agents_url {
                arguments.extend(["--url".to_owned(), url.clone()]);
            }
            let enrolled = succeed(&muster, arguments).await?;
            agent.configure(&enrolled, options)?;
            agents.push(agent);
        }
        Ok(Self {
            muster,
            agents,
            directory,
        })
    }

    /// Waits until a ping of all is answered by all.
    ///
    /// # Errors
    /// When they don't within two minutes; the error ends with the last ping's words.
    pub async fn await_all(&self) -> Result<()> {
        let wanted = self.agents.len();
        eventually_within("every agent answers", UP_LIMIT, || async {
            let output = self
                .muster
                .run(&["ping", "-o", "json"])
                .await
                .map_err(|error| format!("{error:#}"))?;
            let answered = output.json().ok().and_then(|value| {
                value
                    .pointer("/rounds/0/states/succeeded")
                    .and_then(Value::as_u64)
            });
            if output.code == 0 && answered == u64::try_from(wanted).ok() {
                return Ok(());
            }
            Err(format!(
                "exit {}, {answered:?} of {wanted}: {}{}",
                output.code, output.stdout, output.stderr
            ))
        })
        .await
    }

    /// The same operator at another desk: same config and key, and nothing in the cache.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn second_desk(&self, name: &str) -> Result<Muster> {
        let home = self.directory.path().join(name);
        let from = self.muster.home().join(".config/muster");
        let to = home.join(".config/muster");
        copy_folder(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        Muster::at(&home)
    }

    /// Where the fleet's files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Agent {
    fn at(directory: &TempDir, host: String) -> Result<Self> {
        let folder = directory.path().join(&host);
        let (state_dir, files) = (folder.join("state"), folder.join("files"));
        for folder in [&state_dir, &files] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(Self {
            host,
            config: folder.join("agent.toml"),
            state_dir,
            files,
            logs: folder,
            process: None,
        })
    }

    /// What `enroll` printed, with this host's folders and the test's own keys and tables.
    fn configure(&self, enrolled: &str, options: &FleetOptions) -> Result<()> {
        let FleetOptions {
            keys,
            broker_keys,
            tables,
            ..
        } = options;
        let http = if tables.contains("[http]") {
            ""
        } else {
            "[http]\nlisten = \"\"\n"
        };
        let enrolled = enrolled.replace("\n[broker]\n", &format!("\n[broker]\n{broker_keys}\n"));
        let mut text = format!(
            "state_dir = {:?}\n{keys}\n{enrolled}\n{http}{tables}\n",
            self.state_dir.display().to_string()
        );
        for (name, script) in &options.scripts {
            text.push_str(&self.script(name, script)?);
        }
        fs::write(&self.config, text).with_context(|| format!("write {}", self.config.display()))
    }

    /// Writes a script, and gives its table for the config.
    fn script(&self, name: &str, text: &str) -> Result<String> {
        let path = self.logs.join(format!("{name}.sh"));
        let text = format!(
            "#!/bin/sh\nset -eu\ncd '{}'\n{text}\n",
            self.files.display()
        );
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let sum = Command::new("sha256sum")
            .arg(&path)
            .output()
            .context("run sha256sum")?;
        let sum = String::from_utf8_lossy(&sum.stdout)
            .chars()
            .take(64)
            .collect::<String>();
        Ok(format!(
            "\n[scripts.{name}]\npath = {:?}\nsha256 = {sum:?}\n",
            path.display().to_string()
        ))
    }

    /// The lines of a file that its scripts wrote; none where there is no such file.
    pub fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.files.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Starts it; it must not run.
    ///
    /// # Errors
    /// When it runs, or can't be started.
    pub fn start(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("{} runs already", self.host);
        }
        self.process = Some(Process::spawn(
            "agent",
            &self.command(&["run"])?,
            &self.logs,
        )?);
        Ok(())
    }

    /// `muster-agent` with this host's config.
    ///
    /// # Errors
    /// When the program is not built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("muster-agent")?);
        command.arg("--config").arg(&self.config).args(arguments);
        Ok(command)
    }

    /// Runs it in the way of `process`, started elsewhere (in a namespace, say).
    pub fn adopt(&mut self, process: Process) {
        self.process = Some(process);
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        let mut process = self
            .process
            .take()
            .with_context(|| format!("{} does not run", self.host))?;
        process.kill().await.map(drop)
    }

    /// SIGTERM, and the end.
    ///
    /// # Errors
    /// When it does not run, does not end within a minute, or ends with another status than 0.
    pub async fn stop(&mut self) -> Result<()> {
        let mut process = self
            .process
            .take()
            .with_context(|| format!("{} does not run", self.host))?;
        let status = process.terminate(STOP_LIMIT).await?;
        if !status.success() {
            bail!("{} ended with {status}: {}", self.host, process.stderr());
        }
        Ok(())
    }

    /// The process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .with_context(|| format!("{} does not run", self.host))
    }

    /// Everything it has logged, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.logs.join("agent.stderr")).unwrap_or_default()
    }
}

fn admin_config(broker: &Broker, operator: &str) -> String {
    format!(
        "issuer = \"{operator}\"\n[broker]\nurl = \"amqp://{}/{}\"\nuser = \"admin\"\npassword = \"admin\"\n\
         [management]\nurl = \"http://{}\"\n",
        broker.amqp(),
        broker.vhost(),
        broker.management_address()
    )
}

async fn succeed(muster: &Muster, arguments: Vec<String>) -> Result<String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Ok(muster.succeed(&arguments).await?.stdout)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
