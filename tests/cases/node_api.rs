//! The local HTTP interface as whatever called the agent's forerunner sees it: its paths and shapes on the real `/proc`,
//! and what is said to those who ask for the wrong thing or without the token.

mod director;
mod paths;
mod token;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use muster_harness::fleet::binary;
use muster_harness::ports::PortBlock;
use muster_harness::{Process, eventually};
use serde_json::Value;

/// An agent without a broker, whose HTTP interface is asked.
struct Host {
    client: reqwest::Client,
    at: String,
    process: Process,
    folder: tempfile::TempDir,
    _ports: PortBlock,
}

/// An answer: code, headers, text.
struct Answer {
    code: u16,
    headers: BTreeMap<String, String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("read as JSON: {}", self.text))
    }

    fn error(&self) -> Result<String> {
        let body = self.json()?;
        let error = body["error"].as_str().context("an error in words")?;
        Ok(error.to_owned())
    }
}

impl Host {
    /// Starts an agent with `keys` in `[http]`; `{folder}` stands for its folder.
    fn start(keys: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ports = PortBlock::reserve()?;
        let at = format!("127.0.0.1:{}", ports.port(0));
        let path = folder.path().display().to_string();
        let config = format!(
            "host = \"n1\"\nstate_dir = \"{path}/state\"\n[broker]\nurl = \"amqp://127.0.0.1:1\"\npassword = \"x\"\n\
             [http]\nlisten = \"{at}\"\n{}\n",
            keys.replace("{folder}", &path)
        );
        let file = folder.path().join("agent.toml");
        fs::write(&file, config)?;
        let mut command = Command::new(binary("muster-agent")?);
        command.arg("--config").arg(&file).arg("run");
        let process = Process::spawn("agent", &command, folder.path())?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().build()?,
            at,
            process,
            folder,
            _ports: ports,
        })
    }

    /// The same, and waits until it answers.
    async fn up(keys: &str) -> Result<Self> {
        let host = Self::start(keys)?;
        eventually("the agent answers over HTTP", async || {
            match host.get("/healthz").await {
                Ok(answer) if answer.code == 200 => Ok(()),
                Ok(answer) => Err(answer.text),
                Err(error) => Err(format!("{error:#}; {}", host.process.stderr())),
            }
        })
        .await?;
        Ok(host)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn get(&self, path: &str) -> Result<Answer> {
        self.ask("GET", path, None).await
    }

    async fn ask(&self, method: &str, path: &str, token: Option<&str>) -> Result<Answer> {
        let mut request = self
            .client
            .request(method.parse()?, format!("http://{}{path}", self.at));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await?;
        let headers = response.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Ok(Answer {
            code: response.status().as_u16(),
            headers: headers.collect(),
            text: response.text().await?,
        })
    }
}
