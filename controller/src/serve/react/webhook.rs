//! Webhooks: `[[webhook]]`, and POSTing JSON with a signature, the same id at every try.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use muster_link::stamp;
use muster_proto::id::MessageId;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use toml::Spanned;

use super::act::Trouble;
use super::decision::Firing;
use super::rules::{Fault, time};
use super::text::{Escape, Template, alerts};

/// The firing's id, the same at every try: what has been taken under it need not be taken again.
const HEADER_ID: &str = "muster-id";
/// Seconds since 1970 at which it was signed.
const HEADER_TIME: &str = "muster-timestamp";
/// `v1=` and the hexadecimal HMAC-SHA256 of `<timestamp>.<id>.<body>`.
const HEADER_SIGNATURE: &str = "muster-signature";

/// Bytes of an answer that an error repeats.
const ANSWER_BYTES_MAX: usize = 200;

/// `[[webhook]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWebhook {
    name: Spanned<String>,
    url: Spanned<String>,
    body: Option<Spanned<String>>,
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
    ca_file: Option<PathBuf>,
    timeout: Option<Spanned<String>>,
    retry_for: Option<Spanned<String>>,
}

/// What is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    /// Everything that is known.
    Event,
    /// The original's alert: one object for one event, a list for several.
    Alert,
    /// A template's text.
    Text(Template),
}

/// A webhook.
#[derive(Debug)]
pub(crate) struct WebhookConfig {
    /// Its name.
    pub(crate) name: String,
    url: Url,
    body: Body,
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    headers: HeaderMap,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    retry_for_ms: u64,
}

impl WebhookConfig {
    pub(crate) fn parse(
        raw: RawWebhook,
        absolute: impl Fn(PathBuf) -> PathBuf,
    ) -> Result<Self, Fault> {
        let url_at = raw.url.span().start;
        let wrong = |why: String| {
            let text = raw.url.get_ref();
            Fault::new(
                url_at,
                format!("url: expected http:// or https://, found {text:?}{why}"),
            )
        };
        let url: Url = raw
            .url
            .get_ref()
            .parse()
            .map_err(|error| wrong(format!(": {error}")))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(wrong(String::new()));
        }
        let body = match raw.body {
            None => Body::Event,
            Some(text) => match text.get_ref().as_str() {
                "event" => Body::Event,
                "alert" => Body::Alert,
                _ => Body::Text(Template::parse(text.span().start, text.into_inner())?),
            },
        };
        let mut headers = HeaderMap::new();
        for (name, value) in raw.headers {
            let at = value.span().start;
            let header = HeaderName::try_from(&name).ok();
            let value = HeaderValue::try_from(value.into_inner()).ok();
            let (Some(header), Some(value)) = (header, value) else {
                return Err(Fault::new(
                    at,
                    format!("headers: {name:?} is no good header"),
                ));
            };
            headers.insert(header, value);
        }
        Ok(Self {
            name: raw.name.into_inner(),
            url,
            body,
            secret: raw.secret,
            secret_file: raw.secret_file.map(&absolute),
            headers,
            ca_file: raw.ca_file.map(&absolute),
            timeout: Duration::from_millis(time(
                raw.timeout,
                Duration::from_secs(10),
                Duration::from_secs(300),
            )?),
            retry_for_ms: time(
                raw.retry_for,
                Duration::from_secs(1800),
                Duration::from_secs(3600),
            )?,
        })
    }
}

/// A way to a webhook.
pub(crate) struct Hook {
    client: reqwest::Client,
    url: Url,
    body: Body,
    secret: Option<Vec<u8>>,
    headers: HeaderMap,
    /// How long it is tried, in milliseconds.
    pub(crate) retry_for_ms: u64,
}

impl Hook {
    /// Reads what the config names.
    ///
    /// # Errors
    /// When a file can't be read or does not hold what it should.
    pub(crate) fn open(config: &WebhookConfig) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(config.timeout);
        if let Some(file) = &config.ca_file {
            let pem = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
            let roots = Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("read the CA certificates in {}", file.display()))?;
            client = client.tls_certs_only(roots);
        }
        let secret = match (&config.secret, &config.secret_file) {
            (Some(secret), _) => Some(secret.expose_secret().as_bytes().to_vec()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("read the secret in {}", file.display()))?;
                Some(text.trim_end_matches(['\r', '\n']).as_bytes().to_vec())
            }
            (None, None) => None,
        };
        Ok(Self {
            client: client.build().context("make an HTTP client")?,
            url: config.url.clone(),
            body: config.body.clone(),
            secret,
            headers: config.headers.clone(),
            retry_for_ms: config.retry_for_ms,
        })
    }

    /// Where it is, without what may be secret in it.
    pub(crate) fn shown(&self) -> String {
        format!(
            "{}://{}{}",
            self.url.scheme(),
            self.url.host_str().unwrap_or_default(),
            self.url.path()
        )
    }

    /// The body about `firing`; `values` are what templates see.
    ///
    /// # Errors
    /// When the template can't write it.
    pub(crate) fn body(&self, firing: &Firing, values: &Value) -> Result<Vec<u8>, String> {
        match &self.body {
            Body::Event => Ok(values.to_string().into_bytes()),
            Body::Alert => {
                let mut alerts = alerts(firing);
                let value = match alerts.len() {
                    1 => alerts.remove(0),
                    _ => Value::Array(alerts),
                };
                Ok(value.to_string().into_bytes())
            }
            Body::Text(template) => Ok(template.render(values, Escape::Json)?.into_bytes()),
        }
    }

    /// Tries once.
    ///
    /// # Errors
    /// Why it is not done, and whether trying again may help.
    pub(crate) async fn post(&self, id: &MessageId, body: &[u8]) -> Result<Value, Trouble> {
        let (id, time) = (id.to_string(), (stamp::now_ms() / 1000).to_string());
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .headers(self.headers.clone())
            .header(HEADER_ID, &id)
            .header(HEADER_TIME, &time);
        if let Some(secret) = &self.secret {
            request = request.header(HEADER_SIGNATURE, signature(secret, &time, &id, body));
        }
        let answer = request.body(body.to_vec()).send().await.map_err(|error| {
            // It says where in its first words, and with it what may be secret in the URL.
            Trouble::for_now(chain(error.without_url()))
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(json!({ "status": status.as_u16() }));
        }
        let again = status.is_server_error()
            || [
                StatusCode::REQUEST_TIMEOUT,
                StatusCode::TOO_EARLY,
                StatusCode::TOO_MANY_REQUESTS,
            ]
            .contains(&status);
        let text = beginning(answer).await;
        let why = format!("it answered {status} {text}").trim_end().to_owned();
        Err(Trouble { why, again })
    }
}

/// What an answer says first; the rest is not waited for.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(ANSWER_BYTES_MAX);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The signature of a body.
fn signature(secret: &[u8], time: &str, id: &str, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new(); // HMAC takes keys of any length
    };
    for part in [time.as_bytes(), b".", id.as_bytes(), b".", body] {
        mac.update(part);
    }
    let mut text = "v1=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
    }
    text
}

fn chain(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut inner = std::error::Error::source(&error);
    while let Some(cause) = inner {
        text = format!("{text}: {cause}");
        inner = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
