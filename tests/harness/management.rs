//! RabbitMQ's management API, as far as tests look at or change a broker behind Muster's back.
//!
//! One call takes about 20 ms, where `rabbitmqctl` takes 2.7 s. Its figures lag by up to a second: wait for them with
//! [`eventually`](crate::eventually()), or ask over AMQP.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// An administrator's view of one node.
#[derive(Clone, Debug)]
pub struct Management {
    client: reqwest::Client,
    base: String,
}

/// What a user may do in a vhost: regular expressions over names, empty for nothing.
#[derive(Clone, Copy, Debug)]
pub struct Permissions<'a> {
    /// Declare and delete.
    pub configure: &'a str,
    /// Publish to, bind to.
    pub write: &'a str,
    /// Consume from, bind from.
    pub read: &'a str,
}

/// Everything.
pub const ALL: Permissions<'static> = Permissions {
    configure: ".*",
    write: ".*",
    read: ".*",
};

/// A queue or stream as listed.
#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// `classic`, `quorum` or `stream`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Ready and unacknowledged messages, about a second ago.
    #[serde(default)]
    pub messages: u64,
    /// Consumers, about a second ago.
    #[serde(default)]
    pub consumers: u64,
}

/// A client's connection as listed.
#[derive(Clone, Debug, Deserialize)]
pub struct Connection {
    /// The name by which it can be closed.
    pub name: String,
    /// The broker user.
    #[serde(default)]
    pub user: String,
    /// `running`, `blocked`, `blocking` …
    #[serde(default)]
    pub state: String,
    /// What the client says of itself.
    #[serde(default)]
    pub client_properties: Value,
}

impl Management {
    /// For the node whose management listener is at `address`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn at(address: SocketAddr) -> Result<Self> {
        // The HTTP client wants a TLS provider to be chosen even where it speaks plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("make an HTTP client")?;
        Ok(Self {
            client,
            base: format!("http://{address}/api"),
        })
    }

    /// GET of a path below `/api/`.
    ///
    /// # Errors
    /// When the node does not answer, or not with 2xx and JSON; the error names the path and holds the body.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// PUT of a path below `/api/`.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.call(Method::PUT, path, Some(body)).await.map(drop)
    }

    /// POST to a path below `/api/`.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// DELETE of a path below `/api/`; what is not there counts as deleted.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.call(Method::DELETE, path, None).await.map(drop)
    }

    /// Whether the node takes AMQP clients on `port`.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn ready(&self, port: u16) -> Result<()> {
        self.get(&format!("health/checks/port-listener/{port}"))
            .await
            .map(drop)
    }

    /// Makes a vhost in which the administrator may do everything.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn put_vhost(&self, vhost: &str) -> Result<()> {
        self.put(&format!("vhosts/{}", escape(vhost)), &json!({}))
            .await?;
        self.put_permissions("admin", vhost, ALL).await
    }

    /// Deletes a vhost with all that is in it; its clients are cut off.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn delete_vhost(&self, vhost: &str) -> Result<()> {
        self.delete(&format!("vhosts/{}", escape(vhost))).await
    }

    /// Makes a user, or gives it a new password. Users are the node's, not the vhost's.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn put_user(&self, user: &str, password: &str, tags: &str) -> Result<()> {
        let body = json!({ "password": password, "tags": tags });
        self.put(&format!("users/{}", escape(user)), &body).await
    }

    /// Says what a user may do in a vhost.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn put_permissions(
        &self,
        user: &str,
        vhost: &str,
        may: Permissions<'_>,
    ) -> Result<()> {
        let body = json!({ "configure": may.configure, "write": may.write, "read": may.read });
        self.put(
            &format!("permissions/{}/{}", escape(vhost), escape(user)),
            &body,
        )
        .await
    }

    /// Sets a policy for queues whose name matches `pattern`, e.g. `{"max-length": 10}`.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn put_policy(
        &self,
        vhost: &str,
        name: &str,
        pattern: &str,
        definition: Value,
    ) -> Result<()> {
        let body = json!({ "pattern": pattern, "apply-to": "queues", "priority": 100, "definition": definition });
        self.put(
            &format!("policies/{}/{}", escape(vhost), escape(name)),
            &body,
        )
        .await
    }

    /// Takes a policy back.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn delete_policy(&self, vhost: &str, name: &str) -> Result<()> {
        self.delete(&format!("policies/{}/{}", escape(vhost), escape(name)))
            .await
    }

    /// The queues and streams of a vhost.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn queues(&self, vhost: &str) -> Result<Vec<Queue>> {
        let listed = self.get(&format!("queues/{}", escape(vhost))).await?;
        serde_json::from_value(listed).context("read the list of queues")
    }

    /// The client connections of a vhost.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn connections(&self, vhost: &str) -> Result<Vec<Connection>> {
        let listed = self
            .get(&format!("vhosts/{}/connections", escape(vhost)))
            .await?;
        serde_json::from_value(listed).context("read the list of connections")
    }

    /// Closes a connection from the broker's side, as an operator would.
    ///
    /// # Errors
    /// As for [`Management::get`].
    pub async fn close_connection(&self, name: &str) -> Result<()> {
        self.delete(&format!("connections/{}", escape(name))).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}/{path}", self.base);
        let deleting = method == Method::DELETE;
        let mut request = self
            .client
            .request(method.clone(), &url)
            .basic_auth("admin", Some("admin"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{method} {url}"))?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .with_context(|| format!("read the answer to {method} {url}"))?;
        if deleting && status == StatusCode::NOT_FOUND {
            return Ok(Value::Null);
        }
        if !status.is_success() {
            bail!("{method} {url} was answered with {status}: {text}");
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .with_context(|| format!("read as JSON what {method} {url} gave: {text}"))
    }
}

/// One path segment: everything but letters, digits and `-._~` as `%XX`.
pub(crate) fn escape(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
