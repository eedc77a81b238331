//! `muster silence`: what nobody wants to hear of for a while. A silence is an event in the history, so every `muster
//! serve` knows it; this program keeps nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;
use muster_link::stamp;
use muster_proto::id::{HostId, MessageId};
use muster_proto::target::Target;
use serde_json::{Value, json};

use crate::cmd::Run;
use crate::cmd::reactions::past;
use crate::cmd::sitting::{span, target};
use crate::context::Context;
use crate::dispatch::desk::connect;
use crate::dispatch::order::ms;
use crate::exit::{Exit, usage};
use crate::render::{Cell, Column, Table, clean, timestamp};
use crate::serve::react::act::publish;
use crate::serve::react::facts::{Fact, Teller, fact};
use crate::serve::react::silence::Silence;

/// Longest silence: what is older than this may be gone from the history.
const SILENCE_MAX: Duration = Duration::from_secs(13 * 24 * 3600);

/// Arguments of `muster silence add`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster silence add 'host=lb1' --for 2h --comment 'new kernel'\n  \
                        muster silence add 'topic=lvs.* and virtual_server=\"[192.0.2.99]:tcp:80\"' --for 30m --comment deploy\n\n\
                        The expression is over an event's topic, host, severity, key, summary, its fields, and its host's labels."
)]
pub(crate) struct Add {
    /// Which events: an expression over them
    matches: String,
    /// For how long
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    span: Duration,
    /// Why
    #[arg(long)]
    comment: String,
    /// Only for this reaction
    #[arg(long, value_name = "NAME")]
    reaction: Option<String>,
}

/// Arguments of `muster silence list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

/// Arguments of `muster silence remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Its id, or the beginning of it
    id: String,
}

fn teller(context: &Context) -> Result<Teller> {
    let name: HostId = context.config.issuer.as_str().parse()?;
    Ok(Teller {
        name,
        now_ms: stamp::now_ms(),
    })
}

impl Run for Add {
    async fn run(self, context: &Context) -> Result<Exit> {
        let matches: Target = target(&self.matches)?;
        if self.span.is_zero() || self.span > SILENCE_MAX {
            return Err(usage(
                "--for must be more than nothing and at most 13d".to_owned(),
            ));
        }
        if self.comment.trim().is_empty() || self.comment.len() > 1000 {
            return Err(usage(
                "--comment must say why, in at most 1000 bytes".to_owned(),
            ));
        }
        let teller = teller(context)?;
        let silence = Silence {
            id: stamp::new_message_id(),
            matches,
            reaction: self.reaction,
            until_ms: teller.now_ms.saturating_add(ms(self.span)),
            comment: self.comment,
            by: context.config.issuer.to_string(),
        };
        let session = connect(context).await?;
        publish(&session, teller.silenced(&silence)).await?;
        session.close().await;
        context.show(&shown(&silence), |_| format!("{}\n", silence.id))?;
        Ok(Exit::Ok)
    }
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<Exit> {
        let mut silences: Vec<Silence> = active(context).await?.into_values().collect();
        silences.sort_by_key(|silence| silence.until_ms);
        let items: Vec<Value> = silences.iter().map(shown).collect();
        context.show_list(&items, |style| {
            let mut table = Table::new(
                ["id", "until", "events", "reaction", "by", "comment"].map(Column::text),
            );
            for silence in &silences {
                table.row([
                    Cell::from(silence.id.to_string()),
                    Cell::from(timestamp(silence.until_ms, &TimeZone::system())),
                    Cell::from(clean(silence.matches.source())),
                    Cell::from(clean(silence.reaction.as_deref().unwrap_or("all"))),
                    Cell::from(clean(&silence.by)),
                    Cell::from(clean(&silence.comment)),
                ]);
            }
            table.render(style)
        })?;
        Ok(Exit::Ok)
    }
}

impl Run for Remove {
    async fn run(self, context: &Context) -> Result<Exit> {
        let found: Vec<MessageId> = active(context)
            .await?
            .into_keys()
            .filter(|id| id.to_string().starts_with(&self.id))
            .collect();
        let id = match found.as_slice() {
            [id] => *id,
            [] => return Err(usage(format!("there is no silence {}", self.id))),
            many => {
                let count = many.len();
                return Err(usage(format!("{count} silences begin with {}", self.id)));
            }
        };
        let session = connect(context).await?;
        let told = teller(context)?.unsilenced(stamp::new_message_id(), id);
        publish(&session, told).await?;
        session.close().await;
        context.show(&json!({ "removed": id }), |_| format!("{id} is over\n"))?;
        Ok(Exit::Ok)
    }
}

/// The silences that hold now, by id.
async fn active(context: &Context) -> Result<BTreeMap<MessageId, Silence>> {
    let now_ms = stamp::now_ms();
    let mut silences = BTreeMap::new();
    past(context, SILENCE_MAX, |_, event| match fact(event) {
        Some(Fact::Silenced(silence)) if now_ms < silence.until_ms => {
            silences.insert(silence.id, silence);
        }
        Some(Fact::Unsilenced(id)) => {
            silences.remove(&id);
        }
        _ => {}
    })
    .await?;
    Ok(silences)
}

fn shown(silence: &Silence) -> Value {
    json!({
        "id": silence.id, "until_ms": silence.until_ms, "matches": silence.matches.source(),
        "reaction": silence.reaction, "by": silence.by, "comment": silence.comment,
    })
}
