//! RabbitMQ's management API, as far as setting up, checking and taking back need it. It must not know what Muster
//! keeps on the broker: who calls it says what shall be there.

mod error;

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Certificate, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::sleep;

pub use self::error::AdminError;
use crate::config::Config;
use crate::exit::usage;

/// Limit of connecting.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Limit of one request; declaring on a loaded broker takes seconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// How often a question is asked again that the API fails to answer, and when.
const READ_AGAIN: u32 = 2;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A user's access to the management API of one broker, for one vhost.
#[derive(Debug)]
pub struct Admin {
    client: reqwest::Client,
    base: String,
    user: String,
    password: SecretString,
    vhost: String,
}

impl Admin {
    /// The access that `config` describes. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is no section `[broker]`, a file that it names can't be read, or there is no password to use.
    pub fn from_config(config: &Config) -> Result<Self> {
        let broker = config.broker()?;
        let url = broker.url();
        let base = match &config.management.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None if url.host().contains(':') => format!("http://[{}]:15672", url.host()),
            None => format!("http://{}:15672", url.host()),
        };
        let ca_file = config
            .management
            .ca_file
            .as_deref()
            .or(config.broker_ca_file());
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(REQUEST_LIMIT);
        if let (true, Some(file)) = (base.starts_with("https:"), ca_file) {
            let pem = std::fs::read(file)
                .map_err(|error| usage(format!("read {}: {error}", file.display())))?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|error| {
                usage(format!(
                    "read the CA certificates in {}: {error}",
                    file.display()
                ))
            })?;
            client = client.tls_certs_only(roots);
        }
        Ok(Self {
            client: client.build().context("make an HTTP client")?,
            base,
            user: config
                .management
                .user
                .clone()
                .unwrap_or_else(|| broker.user().to_owned()),
            password: password(config)?,
            vhost: url.vhost().to_owned(),
        })
    }

    /// The vhost that it is for.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The user as whom it asks.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where the API is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// What stands at a path below `/api/`, given as its segments; `None` where there is nothing.
    ///
    /// # Errors
    /// When the API does not answer, refuses, or does not speak JSON.
    pub async fn get(&self, path: &[&str]) -> Result<Option<Value>, AdminError> {
        // A list is answered with 500 where something in it goes at that moment.
        for _ in 0..READ_AGAIN {
            match self.call(Method::GET, path, "", None).await {
                Err(AdminError::Refused { status: 500, .. }) => sleep(READ_AGAIN_AFTER).await,
                answered => return answered,
            }
        }
        self.call(Method::GET, path, "", None).await
    }

    /// Writes `body` to a path.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn put(&self, path: &[&str], body: &Value) -> Result<(), AdminError> {
        self.call_at_something(Method::PUT, path, body).await
    }

    /// Hands `body` to a path.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn post(&self, path: &[&str], body: &Value) -> Result<(), AdminError> {
        self.call_at_something(Method::POST, path, body).await
    }

    /// Deletes what stands at a path; `query` as in a URL, e.g. `if-empty=true`. Says whether there was something.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn delete(&self, path: &[&str], query: &str) -> Result<bool, AdminError> {
        Ok(self
            .call(Method::DELETE, path, query, None)
            .await?
            .is_some())
    }

    async fn call_at_something(
        &self,
        method: Method,
        path: &[&str],
        body: &Value,
    ) -> Result<(), AdminError> {
        let what = format!("{method} {}", self.url_of(path, ""));
        let answer = self.call(method, path, "", Some(body)).await?;
        answer.map(drop).ok_or(AdminError::NotThere { what })
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>, AdminError> {
        let url = self.url_of(path, query);
        let what = format!("{method} {url}");
        let mut request = self
            .client
            .request(method, &url)
            .basic_auth(&self.user, Some(self.password.expose_secret()));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| AdminError::of_transport(&self.base, &error))?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .map_err(|error| AdminError::of_transport(&self.base, &error))?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            // RabbitMQ answers with 401, too, when the login is good and the right is missing.
            StatusCode::UNAUTHORIZED if lacks_right(&text) => Err(AdminError::Forbidden {
                user: self.user.clone(),
                what,
                why: reason(&text),
            }),
            StatusCode::UNAUTHORIZED => Err(AdminError::Unauthorized {
                url: self.base.clone(),
                user: self.user.clone(),
                why: reason(&text),
            }),
            StatusCode::FORBIDDEN => Err(AdminError::Forbidden {
                user: self.user.clone(),
                what,
                why: reason(&text),
            }),
            status if !status.is_success() => Err(AdminError::Refused {
                what,
                status: status.as_u16(),
                why: reason(&text),
            }),
            _ if text.is_empty() => Ok(Some(Value::Null)),
            _ => serde_json::from_str(&text)
                .map(Some)
                .map_err(|_| AdminError::NotTheApi {
                    url: self.base.clone(),
                }),
        }
    }

    fn url_of(&self, path: &[&str], query: &str) -> String {
        let path = path
            .iter()
            .map(|segment| escaped(segment))
            .collect::<Vec<_>>()
            .join("/");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}/api/{path}{mark}{query}", self.base)
    }
}

/// The management API's own password, else the one for AMQP, else that of `guest`.
fn password(config: &Config) -> Result<SecretString> {
    let file = match (&config.management.password_file, config.broker_password()) {
        (Some(file), _) => Some(file.as_path()),
        (None, Some(password)) => return Ok(password.clone()),
        (None, None) => config.broker()?.password_file(),
    };
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).map_err(|error| {
            usage(format!(
                "read the password file {}: {error}",
                file.display()
            ))
        })?;
        return Ok(text.trim_end_matches(['\r', '\n']).into());
    }
    if config
        .management
        .user
        .as_deref()
        .unwrap_or(config.broker()?.user())
        == "guest"
    {
        return Ok("guest".into());
    }
    Err(usage(
        "the management API takes a password, and the config has none: set user and password_file in [management]",
    ))
}

/// RabbitMQ's own words in an error's body: `{"error": …, "reason": …}`.
fn reason(body: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let words = parsed
        .get("reason")
        .or_else(|| parsed.get("error"))
        .map(|reason| match reason {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
    let words = words.unwrap_or_else(|| body.to_owned());
    crate::render::clean(words.trim())
        .chars()
        .take(400)
        .collect()
}

fn lacks_right(body: &str) -> bool {
    let why = reason(body);
    [
        "Not management",
        "Not administrator",
        "Not monitor",
        "not authorised to access",
        "Access refused",
    ]
    .iter()
    .any(|start| why.contains(start))
}

/// One path segment: everything but RFC 3986's unreserved characters as `%XX`.
fn escaped(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped_and_reasons_are_read() {
        assert_eq!(escaped("/"), "%2F");
        assert_eq!(escaped("lb1.example.com"), "lb1.example.com");
        assert_eq!(escaped("a b%é"), "a%20b%25%C3%A9");
        assert_eq!(
            reason(r#"{"error":"bad_request","reason":"inequivalent arg 'type'"}"#),
            "inequivalent arg 'type'"
        );
        assert_eq!(reason(r#"{"error":"not_authorised"}"#), "not_authorised");
        assert_eq!(reason("<html>\u{1b}"), "<html>\\u{1b}");
    }
}
