//! `muster broker init`: makes the vhost and all that Muster needs in it. A second time it changes nothing.

use std::time::Duration;

use anyhow::{Result, bail};
use muster_proto::definitions::{broker_definitions, vhost_definitions};
use muster_proto::topology::{ExchangeKind, REACTIONS, exchange_kind};
use serde::Serialize;
use serde_json::{Value, json};

use super::topology::{Part, State, survey};
use super::users::renew;
use crate::admin::Admin;
use crate::cmd::Run;
use crate::context::Context;
use crate::exit::{Exit, usage};
use crate::render::{Cell, Column, Style, Table, Tone, to_json_document};

/// RabbitMQ notes on disk three seconds late who coordinates its streams, once in the life of a node. A node that is killed
/// before comes back and never has its streams again.
const NOTED: Duration = Duration::from_secs(5);

/// Arguments of `muster broker init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Only print the definitions, for the broker's `load_definitions`; nothing is sent
    #[arg(long)]
    print: bool,
}

/// What was done about one part.
#[derive(Debug, Serialize)]
struct Done {
    kind: &'static str,
    name: String,
    done: &'static str,
}

impl Run for Init {
    async fn run(self, context: &Context) -> Result<Exit> {
        if self.print {
            let vhost = context.config.broker()?.url().vhost().to_owned();
            context.print(&to_json_document(&broker_definitions(&vhost))?)?;
            return Ok(Exit::Ok);
        }
        let admin = Admin::from_config(&context.config)?;
        refuse_without_streams(&admin).await?;
        let (vhost_done, before) = survey_or_make_vhost(&admin).await?;
        refuse_contradictions(&before)?;
        if before.iter().any(|part| part.state != State::Same) {
            let first = !has_streams(&admin).await?;
            admin
                .post(&["definitions", admin.vhost()], &vhost_definitions())
                .await?;
            verify(&admin).await?;
            if first {
                context.note("waiting until RabbitMQ has noted on disk that it has streams now");
                tokio::time::sleep(NOTED).await;
            }
        }
        let mut done = vec![Done {
            kind: "vhost",
            name: admin.vhost().to_owned(),
            done: vhost_done,
        }];
        done.extend(before.into_iter().map(Done::from));
        // After what the rights are for.
        done.extend(renew(&admin).await?.into_iter().map(|name| Done {
            kind: "rights",
            name,
            done: "updated",
        }));
        context.show_list(&done, |style| table(&done, style))?;
        let changed = done.iter().filter(|done| done.done != UNCHANGED).count();
        context.note(&match changed {
            0 => format!(
                "unchanged: the vhost {:?} has all that Muster needs",
                admin.vhost()
            ),
            _ => format!(
                "the vhost {:?} is ready, and all of it was seen there",
                admin.vhost()
            ),
        });
        Ok(Exit::Ok)
    }
}

const UNCHANGED: &str = "unchanged";

impl From<Part> for Done {
    fn from(part: Part) -> Self {
        let done = match part.state {
            State::Same => UNCHANGED,
            State::Missing => "created",
            State::Differs | State::Wrong(_) => "updated",
        };
        Self {
            kind: part.kind,
            name: part.name,
            done,
        }
    }
}

async fn survey_or_make_vhost(admin: &Admin) -> Result<(&'static str, Vec<Part>)> {
    if let Some(parts) = survey(admin).await? {
        return Ok((UNCHANGED, parts));
    }
    admin.put(&["vhosts", admin.vhost()], &json!({})).await?;
    match survey(admin).await? {
        Some(parts) => Ok(("created", parts)),
        None => bail!(
            "made the vhost {:?}, and it is not there: look at the broker's log",
            admin.vhost()
        ),
    }
}

/// Streams are behind a feature flag that nodes upgraded from before 3.9 have off.
async fn refuse_without_streams(admin: &Admin) -> Result<()> {
    let Some(Value::Array(flags)) = admin.get(&["feature-flags"]).await? else {
        return Ok(());
    };
    let off = flags.iter().any(|flag| {
        flag.get("name").and_then(Value::as_str) == Some("stream_queue")
            && flag.get("state").and_then(Value::as_str) == Some("disabled")
    });
    if off {
        return Err(usage(
            "the broker has streams switched off: run `rabbitmqctl enable_feature_flag stream_queue`",
        ));
    }
    Ok(())
}

/// Whether the broker has any stream, in whatever vhost.
async fn has_streams(admin: &Admin) -> Result<bool> {
    let queues = admin.get(&["queues"]).await?;
    let queues = queues.as_ref().and_then(Value::as_array);
    let is_stream = |queue: &Value| queue.get("type").and_then(Value::as_str) == Some("stream");
    Ok(queues.is_some_and(|queues| queues.iter().any(is_stream)))
}

fn refuse_contradictions(parts: &[Part]) -> Result<()> {
    let wrong: Vec<String> = parts
        .iter()
        .filter_map(|part| match &part.state {
            State::Wrong(is) => Some(format!(
                "{} is {is} there, and a {} is needed",
                part.name,
                wanted(part.kind, &part.name)
            )),
            State::Same | State::Missing | State::Differs => None,
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "nothing was changed, since something else has a name that Muster needs: {}; delete it, or use a vhost of its own",
        wrong.join("; ")
    )))
}

fn wanted<'a>(kind: &'a str, name: &str) -> &'a str {
    match kind {
        "exchange" if exchange_kind(name) == ExchangeKind::Direct => "durable direct exchange",
        "exchange" => "durable topic exchange",
        "queue" if name == REACTIONS => "quorum queue with a single active consumer",
        "queue" => "classic queue",
        kind => kind,
    }
}

/// RabbitMQ answers before all of it can be used, and takes some definitions without obeying them.
async fn verify(admin: &Admin) -> Result<()> {
    let parts = survey(admin).await?.unwrap_or_default();
    let bad: Vec<String> = parts
        .iter()
        .filter(|part| part.state != State::Same)
        .map(|part| format!("{} {}", part.kind, part.name))
        .collect();
    if parts.is_empty() || !bad.is_empty() {
        bail!(
            "the broker took the definitions, and yet not all of them are there: {}",
            bad.join(", ")
        );
    }
    Ok(())
}

fn table(done: &[Done], style: &Style) -> String {
    let mut table = Table::new([
        Column::text("KIND"),
        Column::text("DONE"),
        Column::text("NAME"),
    ]);
    for done in done {
        let tone = if done.done == UNCHANGED {
            Tone::Dim
        } else {
            Tone::Good
        };
        table.row([
            Cell::from(done.kind),
            Cell::toned(done.done, tone),
            Cell::from(done.name.as_str()),
        ]);
    }
    table.render(style)
}
