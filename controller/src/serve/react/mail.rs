//! Mails: `[mail]`, the `mail` of a reaction, and sending over SMTP with TLS and login. What the server refuses for good
//! is not tried again, what it refuses for now is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use muster_proto::id::MessageId;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::act::Trouble;
use super::decision::Firing;
use super::rules::{Fault, time};
use super::text::{Escape, Template};

/// Receivers of one mail.
const RECEIVERS_MAX: usize = 100;

/// Bytes of the mail server's answer that are told of each receiver that it refuses.
const REFUSAL_BYTES_MAX: usize = 200;

const SUBJECT: &str = "[muster] {{ rule }}: {{ summary }}{% if again %} (again){% endif %}";

const TEXT: &str = "\
{% for e in events %}{{ e.at }} {{ e.severity }} {{ e.host }} {{ e.topic }}
    {{ e.summary }}
{% for name, value in e.fields|items %}{% if count == 1 or name in ['vip_instance', 'description', 'owners'] %}    \
{{ name }}: {{ value }}
{% endif %}{% endfor %}{% endfor %}\
{% if more %}and {{ more }} more: {% for topic, n in topics|items %}{{ n }} {{ topic }}{% if not loop.last %}, {% endif %}{% endfor %}
{% endif %}
-- 
muster, reaction {{ rule }}, {{ firing }}{% if again %}, sent again: it may have been sent before{% endif %}
";

const HTML: &str = "\
<html><body><p>{{ summary }}</p><table border=\"1\" cellpadding=\"4\" style=\"border-collapse: collapse\">
<tr><th>time</th><th>severity</th><th>host</th><th>event</th><th>what</th><th>description</th><th>owners</th></tr>
{% for e in events %}<tr><td>{{ e.at }}</td><td>{{ e.severity }}</td><td>{{ e.host }}</td><td>{{ e.topic }}</td>\
<td>{{ e.summary }}</td><td>{{ e.fields.description }}</td><td>{% if e.fields.owners is string %}{{ e.fields.owners }}\
{% elif e.fields.owners %}{{ e.fields.owners|join(', ') }}{% endif %}</td></tr>
{% endfor %}</table>{% if more %}<p>and {{ more }} more: {% for topic, n in topics|items %}{{ n }} {{ topic }}\
{% if not loop.last %}, {% endif %}{% endfor %}</p>{% endif %}
<p><small>muster, reaction {{ rule }}, {{ firing }}{% if again %}, sent again: it may have been sent before{% endif %}\
</small></p></body></html>
";

/// `[mail]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMail {
    server: String,
    port: Option<u16>,
    tls: Option<Spanned<String>>,
    user: Option<String>,
    password: Option<SecretString>,
    password_file: Option<PathBuf>,
    from: Spanned<String>,
    ca_file: Option<PathBuf>,
    timeout: Option<Spanned<String>>,
    retry_for: Option<Spanned<String>>,
}

/// How the connection is made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Safety {
    StartTls,
    Tls,
    None,
}

/// The mail server.
#[derive(Debug)]
pub(crate) struct MailConfig {
    server: String,
    port: u16,
    safety: Safety,
    user: Option<String>,
    password: Option<SecretString>,
    password_file: Option<PathBuf>,
    from: Mailbox,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    /// How long a mail is tried, in milliseconds.
    pub(crate) retry_for_ms: u64,
}

/// The mail of a reaction as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMailAction {
    #[serde(default)]
    to: Vec<Spanned<String>>,
    #[serde(default)]
    to_fields: Vec<String>,
    subject: Option<Spanned<String>>,
    text: Option<Spanned<String>>,
    html: Option<Spanned<String>>,
}

/// The mail of a reaction.
#[derive(Debug)]
pub(crate) struct MailAction {
    pub(crate) to: Vec<Mailbox>,
    pub(crate) to_fields: Vec<String>,
    subject: Template,
    text: Template,
    html: Template,
}

impl MailAction {
    pub(crate) fn parse(raw: Spanned<RawMailAction>) -> Result<Self, Fault> {
        let at = raw.span().start;
        let raw = raw.into_inner();
        let to = raw
            .to
            .into_iter()
            .map(mailbox)
            .collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() && raw.to_fields.is_empty() {
            return Err(Fault::new(at, "mail: give it to, to_fields or both"));
        }
        let template = |text: Option<Spanned<String>>, default: &str| match text {
            Some(text) => Template::parse(text.span().start, text.into_inner()),
            None => Ok(Template::builtin(default)),
        };
        Ok(Self {
            to,
            to_fields: raw.to_fields,
            subject: template(raw.subject, SUBJECT)?,
            text: template(raw.text, TEXT)?,
            html: template(raw.html, HTML)?,
        })
    }

    /// One to `to`, in our own words.
    pub(crate) fn plain(to: Vec<Mailbox>) -> Self {
        Self {
            to,
            to_fields: Vec::new(),
            subject: Template::builtin(SUBJECT),
            text: Template::builtin(TEXT),
            html: Template::builtin(HTML),
        }
    }

    /// Who gets it: those that are named, and those whose addresses stand in the fields of the events.
    pub(crate) fn receivers(&self, firing: &Firing) -> Vec<Mailbox> {
        let mut receivers: Vec<Mailbox> = self.to.clone();
        let mut known: BTreeSet<String> = receivers
            .iter()
            .map(|mailbox| mailbox.email.to_string())
            .collect();
        for heard in &firing.events {
            let fields = self.to_fields.iter().filter_map(|name| heard.field(name));
            for text in fields {
                for address in text
                    .split([',', ';', ' '])
                    .filter(|text| text.contains('@'))
                {
                    let Ok(address) = address.trim().parse::<Address>() else {
                        continue;
                    };
                    if receivers.len() < RECEIVERS_MAX && known.insert(address.to_string()) {
                        receivers.push(Mailbox::new(None, address));
                    }
                }
            }
        }
        receivers
    }
}

/// An address, with a name or without one.
pub(crate) fn mailbox(text: Spanned<String>) -> Result<Mailbox, Fault> {
    text.get_ref().parse().map_err(|error| {
        let why = format!(
            "expected a mail address, found {:?}: {error}",
            text.get_ref()
        );
        Fault::new(text.span().start, why)
    })
}

impl MailConfig {
    pub(crate) fn parse(
        raw: RawMail,
        absolute: impl Fn(PathBuf) -> PathBuf,
    ) -> Result<Self, Fault> {
        let safety = match raw.tls.as_ref().map(|tls| tls.get_ref().as_str()) {
            None | Some("starttls") => Safety::StartTls,
            Some("tls") => Safety::Tls,
            Some("none") => Safety::None,
            Some(found) => {
                let at = raw.tls.as_ref().map_or(0, |tls| tls.span().start);
                let why =
                    format!("tls: expected \"starttls\", \"tls\" or \"none\", found {found:?}");
                return Err(Fault::new(at, why));
            }
        };
        if safety == Safety::None && raw.user.is_some() {
            let at = raw.tls.as_ref().map_or(0, |tls| tls.span().start);
            return Err(Fault::new(
                at,
                "tls: a login over a connection that is not encrypted gives the password away",
            ));
        }
        let port = raw.port.unwrap_or(match safety {
            Safety::StartTls => 587,
            Safety::Tls => 465,
            Safety::None => 25,
        });
        Ok(Self {
            server: raw.server,
            port,
            safety,
            user: raw.user,
            password: raw.password,
            password_file: raw.password_file.map(&absolute),
            from: mailbox(raw.from)?,
            ca_file: raw.ca_file.map(&absolute),
            timeout: Duration::from_millis(time(
                raw.timeout,
                Duration::from_secs(20),
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

/// A way to the mail server.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    limit: Duration,
    /// How long a mail is tried, in milliseconds.
    pub(crate) retry_for_ms: u64,
}

/// A mail under way: who has it, who refused it for good, and who is still to get it.
pub(crate) struct Letter {
    bytes: Vec<u8>,
    left: Vec<Address>,
    delivered: Vec<Address>,
    refused: BTreeMap<String, String>,
}

impl Mailer {
    /// Reads what the config names.
    ///
    /// # Errors
    /// When a file can't be read or does not hold what it should.
    pub(crate) fn open(config: &MailConfig) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.server);
        let parameters = || -> anyhow::Result<TlsParameters> {
            let mut parameters = TlsParameters::builder(config.server.clone());
            if let Some(file) = &config.ca_file {
                let pem =
                    std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
                let roots = Certificate::from_pem(&pem)
                    .with_context(|| format!("read the CA certificate in {}", file.display()))?;
                parameters = parameters
                    .certificate_store(CertificateStore::None)
                    .add_root_certificate(roots);
            }
            parameters.build_rustls().context("set up TLS for mail")
        };
        let tls = match config.safety {
            Safety::StartTls => Tls::Required(parameters()?),
            Safety::Tls => Tls::Wrapper(parameters()?),
            Safety::None => Tls::None,
        };
        let mut builder = builder
            .port(config.port)
            .tls(tls)
            .timeout(Some(config.timeout));
        if let Some(user) = &config.user {
            let password = match (&config.password, &config.password_file) {
                (Some(password), _) => password.expose_secret().to_owned(),
                (None, Some(file)) => std::fs::read_to_string(file)
                    .with_context(|| format!("read the password of mail in {}", file.display()))?
                    .trim_end_matches(['\r', '\n'])
                    .to_owned(),
                (None, None) => {
                    anyhow::bail!("[mail] has a user and no password: set password_file")
                }
            };
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        Ok(Self {
            transport: builder.build(),
            from: config.from.clone(),
            limit: config.timeout * 2,
            retry_for_ms: config.retry_for_ms,
        })
    }

    /// The mail about `firing`; `values` are what its templates see.
    ///
    /// # Errors
    /// When nobody is to get it, or it can't be written.
    pub(crate) fn letter(
        &self,
        action: &MailAction,
        firing: &Firing,
        values: &Value,
    ) -> Result<Letter, String> {
        let receivers = action.receivers(firing);
        if receivers.is_empty() {
            let fields = action.to_fields.join(", ");
            return Err(format!(
                "nobody to write to: no address in {fields} of the event"
            ));
        }
        let subject = action.subject.render(values, Escape::Plain)?;
        let subject: String = subject
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(300)
            .collect();
        let text = action.text.render(values, Escape::Plain)?;
        let html = action.html.render(values, Escape::Html)?;
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .message_id(Some(self.id(&firing.id)));
        for receiver in &receivers {
            message = message.to(receiver.clone());
        }
        let message = message
            .multipart(MultiPart::alternative_plain_html(text, html))
            .map_err(|error| format!("write the mail: {error}"))?;
        Ok(Letter {
            bytes: message.formatted(),
            left: receivers.into_iter().map(|mailbox| mailbox.email).collect(),
            delivered: Vec::new(),
            refused: BTreeMap::new(),
        })
    }

    /// The same for a mail that is sent again, so that receivers can tell.
    fn id(&self, firing: &MessageId) -> String {
        format!("<{firing}@{}>", self.from.email.domain())
    }

    /// Tries once. Where the server refuses a mail for good, each receiver is tried alone: one wrong address does not keep
    /// it from the others.
    ///
    /// # Errors
    /// Why it is not done, and whether trying again may help.
    pub(crate) async fn send(&self, letter: &mut Letter) -> Result<Value, Trouble> {
        let mut for_now = None;
        match self.send_to(letter.left.clone(), &letter.bytes).await {
            Ok(()) => letter.delivered.append(&mut letter.left),
            Err(trouble) if !trouble.again && letter.left.len() > 1 => {
                for address in std::mem::take(&mut letter.left) {
                    match self.send_to(vec![address.clone()], &letter.bytes).await {
                        Ok(()) => letter.delivered.push(address),
                        Err(trouble) if trouble.again => {
                            letter.left.push(address);
                            for_now = Some(trouble);
                        }
                        Err(trouble) => {
                            let why = refusal(&trouble.why).to_owned();
                            letter.refused.insert(address.to_string(), why);
                        }
                    }
                }
            }
            Err(trouble) => return Err(trouble),
        }
        if let Some(trouble) = for_now {
            return Err(trouble);
        }
        if letter.delivered.is_empty() {
            let why = letter.refused.values().next().cloned().unwrap_or_default();
            return Err(Trouble::for_good(why));
        }
        let texts = |addresses: &[Address]| -> Vec<String> {
            addresses.iter().map(ToString::to_string).collect()
        };
        let mut done = json!({ "to": texts(&letter.delivered) });
        if let (Some(done), false) = (done.as_object_mut(), letter.refused.is_empty()) {
            done.insert("refused".to_owned(), json!(letter.refused));
        }
        Ok(done)
    }

    async fn send_to(&self, to: Vec<Address>, bytes: &[u8]) -> Result<(), Trouble> {
        let envelope = Envelope::new(Some(self.from.email.clone()), to)
            .map_err(|error| Trouble::for_good(error.to_string()))?;
        let sent = self.transport.send_raw(&envelope, bytes);
        match tokio::time::timeout(self.limit, sent).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Trouble {
                why: chain(&error),
                // A server that can't be reached now may be later.
                again: !error.is_permanent() && !error.is_client(),
            }),
            Err(_) => Err(Trouble::for_now(format!(
                "the mail server took longer than {} s",
                self.limit.as_secs()
            ))),
        }
    }
}

/// A mail server's answer, short enough for a hundred of them in one event: the beginning of its first line.
fn refusal(why: &str) -> &str {
    let line = why.lines().next().unwrap_or_default();
    line.get(..line.floor_char_boundary(REFUSAL_BYTES_MAX))
        .unwrap_or(line)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(cause) = inner {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        inner = cause.source();
    }
    text
}

#[cfg(test)]
#[path = "mail_tests.rs"]
mod tests;
