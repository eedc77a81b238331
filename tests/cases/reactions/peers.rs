//! Who is told: a webhook's receiver that checks signatures, and a mail server with TLS and login.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use muster_harness::ports::PortBlock;
use muster_harness::{Process, eventually};
use serde_json::Value;
use sha2::Sha256;
use tokio::task::JoinSet;

/// What both sides know.
pub(super) const SECRET: &str = "between us";

/// A POST that was taken, or refused.
#[derive(Clone, Debug)]
pub(super) struct Post {
    /// The last part of the path.
    pub(super) to: String,
    /// Its `muster-id`.
    pub(super) id: String,
    /// Its body.
    pub(super) body: Value,
    /// Whether its signature is right.
    pub(super) signed: bool,
    /// What it was answered.
    pub(super) status: u16,
}

type Posts = Arc<Mutex<Vec<Post>>>;

/// A receiver of webhooks. `/good` takes, `/busy` refuses twice for now, `/gone` for good, `/slow` does not answer.
pub(super) struct Receiver {
    pub(super) address: String,
    posts: Posts,
    _tasks: JoinSet<()>,
}

impl Receiver {
    pub(super) async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let posts = Posts::default();
        let app = Router::new()
            .route("/{to}", post(take))
            .with_state(posts.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self {
            address,
            posts,
            _tasks: tasks,
        })
    }

    /// What came to `to`.
    pub(super) fn posts(&self, to: &str) -> Vec<Post> {
        let posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.iter().filter(|post| post.to == to).cloned().collect()
    }

    /// A section of the config for each of its ways, with `keys`.
    pub(super) fn sections(&self, names: &[&str], keys: &str) -> String {
        let section = |name: &&str| {
            format!(
                "[[webhook]]\nname = \"{name}\"\nurl = \"http://{}/{name}\"\nsecret = \"{SECRET}\"\n{keys}\n",
                self.address
            )
        };
        names.iter().map(section).collect()
    }
}

async fn take(
    Segment(to): Segment<String>,
    State(posts): State<Posts>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let id = header("muster-id");
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) else {
        return StatusCode::INTERNAL_SERVER_ERROR;
    };
    mac.update(format!("{}.{id}.", header("muster-timestamp")).as_bytes());
    mac.update(&body);
    let wanted: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signed = header("muster-signature") == format!("v1={wanted}");
    // Counted where it matters: tens of thousands may come elsewhere.
    let before = || {
        let posts = posts.lock().unwrap_or_else(PoisonError::into_inner);
        let same = posts.iter().filter(|post| post.id == id && post.to == to);
        same.count()
    };
    let status = match to.as_str() {
        "busy" if before() < 2 => StatusCode::SERVICE_UNAVAILABLE,
        "gone" => StatusCode::GONE,
        _ => StatusCode::OK,
    };
    posts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Post {
            to: to.clone(),
            id,
            body: serde_json::from_slice(&body).unwrap_or_default(),
            signed,
            status: status.as_u16(),
        });
    if to == "slow" {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    status
}

/// Where a reaction's words go: a receiver of webhooks and a mail server.
pub(super) struct Outlets {
    pub(super) receiver: Receiver,
    pub(super) mail: MailServer,
    // Dropped last: the mail server writes into it.
    _directory: tempfile::TempDir,
}

impl Outlets {
    /// `mode` as in [`MailServer::start`].
    pub(super) async fn start(mode: &'static str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self {
            receiver: Receiver::start().await?,
            mail: MailServer::start(directory.path(), mode).await?,
            _directory: directory,
        })
    }

    /// `[mail]` and the webhook `good`, which has the lines `keys`, too.
    pub(super) fn sections(&self, keys: &str) -> String {
        self.mail.section("secret") + &self.receiver.sections(&["good"], keys)
    }
}

/// A mail server.
pub(super) struct MailServer {
    port: u16,
    mode: &'static str,
    taken: PathBuf,
    _process: Process,
    _ports: PortBlock,
}

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("cases/link/tls")
        .join(format!("{name}.pem"))
}

impl MailServer {
    /// `mode` is `starttls` or `tls`.
    pub(super) async fn start(directory: &Path, mode: &'static str) -> Result<Self> {
        let ports = PortBlock::reserve()?;
        let port = ports.port(0);
        let taken = directory.join(format!("mails-{mode}"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/reactions/smtpd.py");
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg(script)
            .args(["127.0.0.1", &port.to_string(), mode])
            .args([pem("server"), pem("server.key"), taken.clone()]);
        let process = Process::spawn(&format!("smtpd-{mode}"), &command, directory)?;
        eventually("the mail server listens", async || {
            let listens = process.stdout().contains("listening");
            listens.then_some(()).ok_or_else(|| process.stderr())
        })
        .await?;
        Ok(Self {
            port,
            mode,
            taken,
            _process: process,
            _ports: ports,
        })
    }

    /// `[mail]` for the config.
    pub(super) fn section(&self, password: &str) -> String {
        format!(
            "[mail]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"{}\"\nuser = \"muster\"\npassword = \"{password}\"\n\
             from = \"Muster <muster@example.com>\"\nca_file = {:?}\n",
            self.port,
            self.mode,
            pem("ca")
        )
    }

    /// The mails that it took.
    pub(super) fn mails(&self) -> Result<Vec<Mail>> {
        let text = std::fs::read_to_string(&self.taken).unwrap_or_default();
        text.lines().map(Mail::read).collect()
    }
}

/// A mail that was taken.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) to: Vec<String>,
    /// As which user, and whether encrypted.
    pub(super) login: (String, bool),
    pub(super) headers: BTreeMap<String, String>,
    /// Both bodies, as they were written.
    pub(super) text: String,
}

impl Mail {
    fn read(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).context("read a mail")?;
        let text = value["text"]
            .as_str()
            .context("text")?
            .replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").context("a head")?;
        let unfolded = head.replace("\n ", " ");
        let headers = unfolded.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        });
        Ok(Self {
            to: serde_json::from_value(value["to"].clone())?,
            login: (
                value["user"].as_str().unwrap_or_default().to_owned(),
                value["tls"] == true,
            ),
            headers: headers.collect(),
            // Quoted-printable lines that go on.
            text: body.replace("=\n", "").replace("=3D", "="),
        })
    }
}
