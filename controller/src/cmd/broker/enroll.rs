//! `muster broker enroll`: makes the broker user of a host or of an operator, and prints the config to go with it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use muster_link::BrokerUrl;
use muster_proto::id::{HostId, KeyId};
use muster_proto::topology::{agent_permissions, controller_permissions, subscriber_permissions};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::agent_config::{Access, for_agent, for_operator, for_subscriber};
use super::users::{Found, look_for, new_password, put};
use super::{HostEvent, connect, subscriber};
use crate::admin::Admin;
use crate::cmd::Run;
use crate::cmd::key::{KnownKey, known_keys, policy_snippet};
use crate::context::Context;
use crate::exit::Exit;

/// Arguments of `muster broker enroll`.
#[derive(Debug, clap::Args)]
pub(crate) struct Enroll {
    /// The host; its agent's broker user gets the same name
    #[arg(required_unless_present_any = ["operator", "subscriber"])]
    host: Option<HostId>,
    /// Enroll an operator or another controller instead of a host
    #[arg(long, value_name = "NAME", conflicts_with_all = ["host", "labels"])]
    operator: Option<KeyId>,
    /// Enroll another service, which may read events and metrics and nothing else
    #[arg(long, value_name = "NAME", value_parser = subscriber, conflicts_with_all = ["host", "labels", "operator", "password_file"])]
    subscriber: Option<String>,
    /// A label of the host, by which jobs can be targeted; may be given more than once
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The broker's url as it is seen from there; this config's, if left out
    #[arg(long, value_name = "URL")]
    url: Option<BrokerUrl>,
    /// Write the config into this file (mode 600) and not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the password into this file (mode 600), which the config then names
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Run for Enroll {
    async fn run(self, context: &Context) -> Result<Exit> {
        let admin = Admin::from_config(&context.config)?;
        match (&self.host, &self.operator, &self.subscriber) {
            (Some(host), ..) => self.enroll_host(context, &admin, host).await?,
            (_, Some(operator), _) => self.enroll_operator(context, &admin, operator).await?,
            (.., Some(name)) => self.enroll_subscriber(context, &admin, name).await?,
            (None, None, None) => {
                return Err(crate::exit::usage(
                    "name a host, or an operator with --operator, or another service with --subscriber",
                ));
            }
        }
        Ok(Exit::Ok)
    }
}

impl Enroll {
    async fn enroll_host(&self, context: &Context, admin: &Admin, host: &HostId) -> Result<()> {
        let permissions = agent_permissions(host);
        let found = look_for(admin, host.as_str(), &permissions).await?;
        let keys = known_keys(&context.config.keys_dir, &context.config.key_file)?;
        // Before anything is changed, so that a host is not half enrolled when the event can't be sent.
        let session = connect(context, "enroll").await?;
        let password = new_password()?;
        put(admin, host.as_str(), &password, &permissions).await?;

        let labels: BTreeMap<String, String> = self.labels.iter().cloned().collect();
        let keys: Vec<&KnownKey> = keys.iter().collect();
        let config = |access: &Access<'_>| for_agent(host, &labels, access, &policy_snippet(&keys));
        self.hand_over(context, host.as_str(), &password, config)?;
        let event = HostEvent {
            topic: "host.enrolled",
            host,
            summary: format!("{host} was enrolled by {}", context.config.issuer),
            fields: [
                ("by", json!(context.config.issuer)),
                ("labels", json!(labels)),
            ],
        };
        event.publish(&session).await?;
        session.close().await;
        self.say(context, "the host", host.as_str(), found);
        if keys.is_empty() {
            context.note(
                "no key is known here, so its agent would refuse every job: see `muster key new`",
            );
        }
        Ok(())
    }

    async fn enroll_operator(
        &self,
        context: &Context,
        admin: &Admin,
        operator: &KeyId,
    ) -> Result<()> {
        let permissions = controller_permissions();
        let found = look_for(admin, operator.as_str(), &permissions).await?;
        let password = new_password()?;
        put(admin, operator.as_str(), &password, &permissions).await?;
        self.hand_over(context, operator.as_str(), &password, |access| {
            for_operator(operator, access)
        })?;
        self.say(context, "the operator", operator.as_str(), found);
        Ok(())
    }

    async fn enroll_subscriber(&self, context: &Context, admin: &Admin, name: &str) -> Result<()> {
        let permissions = subscriber_permissions(name);
        let found = look_for(admin, name, &permissions).await?;
        let password = new_password()?;
        put(admin, name, &password, &permissions).await?;
        self.hand_over(context, name, &password, |access| {
            for_subscriber(name, access)
        })?;
        self.say(context, "the subscriber", name, found);
        Ok(())
    }

    /// The config to standard output or its file, the password into it or into a file of its own.
    fn hand_over(
        &self,
        context: &Context,
        user: &str,
        password: &SecretString,
        config: impl Fn(&Access<'_>) -> String,
    ) -> Result<()> {
        let password_file = self
            .password_file
            .as_deref()
            .map(std::path::absolute)
            .transpose()?;
        if let Some(file) = &password_file {
            write_private(file, &format!("{}\n", password.expose_secret()))?;
        }
        let broker = context.config.broker()?;
        let urls = match &self.url {
            Some(url) => vec![url.to_string()],
            None => broker.urls().iter().map(ToString::to_string).collect(),
        };
        let text = config(&Access {
            urls,
            user,
            password,
            password_file: password_file.as_deref(),
            ca_file: context.config.broker_ca_file(),
        });
        match &self.out {
            Some(file) => write_private(file, &text),
            None => context.print(&text),
        }
    }

    fn say(&self, context: &Context, what: &str, name: &str, found: Found) {
        context.note(&match found {
            Found::Nobody => format!("{what} {name} is enrolled"),
            Found::Ours => format!(
                "{what} {name} was enrolled already: it has a new password, the old one is void"
            ),
        });
        if let Some(file) = &self.out {
            context.note(&format!("its config is in {}", file.display()));
        }
    }
}

/// Writes a file that only its owner can read, in place of one that may be there, in one step.
fn write_private(file: &Path, text: &str) -> Result<()> {
    let mut name = file.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(format!(".new-{}", std::process::id()));
    let new = file.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        open.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        open.write_all(text.as_bytes())?;
        open.sync_all()?;
        std::fs::rename(&new, file)
    };
    write().with_context(|| format!("write {}", file.display()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    let good = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !good {
        return Err("a label's name has letters, digits, '.', '-' and '_' only".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}
