//! `muster reactions`: the rules of this config, what they would do about events, and what reactions have done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;
use muster_link::{Acks, Consume, StreamOffset, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::event::{Event, Severity};
use muster_proto::id::{HostId, MessageId};
use muster_proto::topology::HISTORY;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cmd::Run;
use crate::cmd::sitting::span;
use crate::cmd::watch::send_mark;
use crate::context::Context;
use crate::dispatch::desk::connect;
use crate::dispatch::order::ms;
use crate::exit::{Exit, ending, usage};
use crate::render::{Cell, Column, Table, clean, timestamp};
use crate::serve::react::act::Outlets;
use crate::serve::react::decision::{Decision, Firing, Suppressed};
use crate::serve::react::engine::{Engine, any_matches};
use crate::serve::react::heard::Heard;
use crate::serve::react::rules::{Rule, Rules};

/// Longest wait for the next message of the history, whose end is known to be there.
const READ_LIMIT: Duration = Duration::from_secs(20);

const PREFETCH: u16 = 2000;

/// Largest file of events.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Arguments of `muster reactions list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

/// Arguments of `muster reactions show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Only of this reaction
    name: Option<String>,
    /// How far back
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "24h")]
    since: Duration,
}

/// Arguments of `muster reactions test`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file holds events as JSON: one, a list, or one a line, such as `muster watch -o ndjson` prints.\n\
                        Needed are topic and host; nothing is done and no broker is asked."
)]
pub(crate) struct Test {
    /// A file of events; - for standard input
    #[arg(value_name = "EVENTFILE")]
    file: PathBuf,
}

/// An event as a file has it.
#[derive(Debug, Deserialize)]
struct Written {
    topic: String,
    #[serde(alias = "from")]
    host: HostId,
    #[serde(alias = "message_id")]
    id: Option<MessageId>,
    at_ms: Option<u64>,
    severity: Option<Severity>,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    fields: BTreeMap<String, Value>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    before: Value,
    #[serde(default)]
    after: Value,
    cause: Option<MessageId>,
}

/// What a rule would do, or why not.
#[derive(Debug, Serialize)]
struct Verdict {
    rule: String,
    decision: &'static str,
    reason: String,
    at_ms: u64,
    events: Vec<MessageId>,
    #[serde(skip_serializing_if = "Value::is_null")]
    would: Value,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<Exit> {
        let rules = &context.config.react.rules.rules;
        let items: Vec<Value> = rules
            .iter()
            .map(|rule| {
                json!({
                    "name": rule.name, "on": rule.on, "when": rule.when.as_ref().map(|when| when.source()),
                    "for_ms": rule.hold_ms, "until": rule.until, "group_by": rule.group_by, "window_ms": rule.window_ms,
                    "interval_ms": rule.interval_ms, "actions": rule.actions(), "dry_run": rule.dry_run,
                    "budget": { "count": rule.budget.count, "span_ms": rule.budget.span_ms },
                })
            })
            .collect();
        context.show_list(&items, |style| {
            let heads = ["name", "on", "actions", "when"].map(Column::text);
            let mut table = Table::new(heads);
            for rule in rules {
                let dry = if rule.dry_run { " (dry run)" } else { "" };
                table.row([
                    Cell::from(rule.name.as_str()),
                    Cell::from(rule.on.join(" ")),
                    Cell::from(format!("{}{dry}", rule.actions().join(" "))),
                    Cell::from(rule.when.as_ref().map_or("", |when| when.source())),
                ]);
            }
            table.render(style)
        })?;
        Ok(Exit::Ok)
    }
}

impl Run for Show {
    async fn run(self, context: &Context) -> Result<Exit> {
        if let Some(name) = &self.name
            && !context
                .config
                .react
                .rules
                .rules
                .iter()
                .any(|rule| rule.name == *name)
        {
            context.note(&format!("no reaction {name:?} in this config"));
        }
        let mut found: Vec<(MessageId, Event)> = Vec::new();
        past(context, self.since, |id, event| {
            let about = ["reaction.begun", "reaction.active"];
            let wanted =
                event.topic.starts_with("reaction.") && !about.contains(&event.topic.as_str());
            if wanted && self.name.as_deref().is_none_or(|name| event.key == name) {
                found.push((id, event.clone()));
            }
        })
        .await?;
        let items: Vec<Value> = found
            .iter()
            .map(|(id, event)| {
                json!({
                    "id": id, "topic": event.topic, "at_ms": event.at_ms, "by": event.host, "rule": event.key,
                    "severity": event.severity, "summary": event.summary, "fields": event.fields, "cause": event.cause,
                })
            })
            .collect();
        context.show_list(&items, |style| {
            let heads = ["at", "what", "by", ""].map(Column::text);
            let mut table = Table::new(heads);
            for (_, event) in &found {
                let what = event.topic.trim_start_matches("reaction.");
                table.row([
                    Cell::from(timestamp(event.at_ms, &TimeZone::system())),
                    Cell::from(what),
                    Cell::from(event.host.as_str()),
                    Cell::from(clean(&event.summary)),
                ]);
            }
            table.render(style)
        })?;
        Ok(Exit::Ok)
    }
}

impl Run for Test {
    async fn run(self, context: &Context) -> Result<Exit> {
        let events = self.read()?;
        let outlets = Outlets::open(&context.config.react)?;
        let verdicts = judge(&context.config.react.rules, &outlets, &events);
        context.show_list(&verdicts, |style| {
            let heads = ["at", "reaction", "does", "events", "why, or what"].map(Column::text);
            let mut table = Table::new(heads);
            for verdict in &verdicts {
                let what = match &verdict.would {
                    Value::Null => verdict.reason.clone(),
                    would => format!("{} {would}", verdict.reason).trim().to_owned(),
                };
                table.row([
                    Cell::from(timestamp(verdict.at_ms, &TimeZone::system())),
                    Cell::from(verdict.rule.as_str()),
                    Cell::from(verdict.decision),
                    Cell::from(verdict.events.len().to_string()),
                    Cell::from(clean(&what)),
                ]);
            }
            table.render(style)
        })?;
        Ok(Exit::Ok)
    }
}

impl Test {
    fn read(&self) -> Result<Vec<Arc<Heard>>> {
        let name = self.file.display();
        let text = if self.file.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin()).context("read standard input")?
        } else {
            let size = std::fs::metadata(&self.file)
                .with_context(|| format!("read {name}"))?
                .len();
            if size > FILE_BYTES_MAX {
                return Err(usage(format!(
                    "{name} has more than {FILE_BYTES_MAX} bytes"
                )));
            }
            std::fs::read_to_string(&self.file).with_context(|| format!("read {name}"))?
        };
        let mut events = Vec::new();
        for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
            let value = value.map_err(|error| usage(format!("{name}: {error}")))?;
            let list = match value {
                Value::Array(list) => list,
                one => vec![one],
            };
            for value in list {
                let number = events.len() + 1;
                let written: Written = serde_json::from_value(value)
                    .map_err(|error| usage(format!("{name}: event {number}: {error}")))?;
                events.push(Arc::new(written.heard()));
            }
        }
        events.sort_by_key(|heard| heard.heard_ms);
        Ok(events)
    }
}

impl Written {
    fn heard(self) -> Heard {
        let at_ms = self.at_ms.unwrap_or_else(stamp::now_ms);
        Heard {
            id: self.id.unwrap_or_else(stamp::new_message_id),
            labels: self.labels,
            heard_ms: at_ms,
            event: Event {
                topic: self.topic,
                host: self.host,
                at_ms,
                severity: self.severity.unwrap_or(Severity::Warning),
                summary: self.summary,
                key: self.key,
                fields: self.fields,
                before: self.before,
                after: self.after,
                seq: 0,
                cause: self.cause,
            },
        }
    }
}

/// What the rules make of the events, at the times at which they happened.
fn judge(rules: &Arc<Rules>, outlets: &Outlets, events: &[Arc<Heard>]) -> Vec<Verdict> {
    let mut engine = Engine::new(Arc::clone(rules));
    let mut verdicts = Vec::new();
    for heard in events {
        let at_ms = heard.heard_ms;
        while let Some(due_ms) = engine.next_due_ms().filter(|due| *due < at_ms) {
            verdicts.extend(decided(rules, outlets, engine.tick(due_ms), due_ms));
        }
        for rule in &rules.rules {
            if let Some(reason) = not_wanted(rule, heard) {
                verdicts.push(Verdict {
                    rule: rule.name.clone(),
                    decision: "nothing",
                    reason,
                    at_ms,
                    events: vec![heard.id],
                    would: Value::Null,
                });
            }
        }
        engine.take(heard);
        verdicts.extend(decided(rules, outlets, engine.tick(at_ms), at_ms));
    }
    while let Some(due_ms) = engine.next_due_ms() {
        verdicts.extend(decided(rules, outlets, engine.tick(due_ms), due_ms));
    }
    verdicts
}

/// Why the rule does not want the event.
fn not_wanted(rule: &Rule, heard: &Heard) -> Option<String> {
    let topic = &heard.event.topic;
    if !any_matches(&rule.on, topic) && !any_matches(&rule.until, topic) {
        return Some(format!("{topic} is none of {}", rule.on.join(", ")));
    }
    let when = rule.when.as_ref().filter(|when| !when.matches(heard))?;
    Some(format!("not: {when}"))
}

fn decided(rules: &Rules, outlets: &Outlets, decisions: Vec<Decision>, at_ms: u64) -> Vec<Verdict> {
    let ids = |events: &[Arc<Heard>]| events.iter().map(|heard| heard.id).collect();
    let verdict = |decision| -> Option<Verdict> {
        Some(match decision {
            Decision::Fire(firing) => {
                let rule = rules.rules.get(firing.rule)?;
                let firing: Firing = firing;
                Verdict {
                    rule: rule.name.clone(),
                    decision: "fires",
                    reason: String::new(),
                    at_ms,
                    events: ids(&firing.events),
                    would: outlets.would(rule, &firing),
                }
            }
            Decision::Suppress(it) => {
                let it: Suppressed = it;
                let rule = rules.rules.get(it.rule)?;
                Verdict {
                    rule: rule.name.clone(),
                    decision: "suppressed",
                    reason: format!("{} {}", it.reason.name(), it.detail)
                        .trim()
                        .to_owned(),
                    at_ms,
                    events: ids(&it.events),
                    would: outlets.would(rule, &Firing::of_suppressed(&it)),
                }
            }
            Decision::Breaker { rule, open, .. } => Verdict {
                rule: rules.rules.get(rule)?.name.clone(),
                decision: if open {
                    "breaker opens"
                } else {
                    "breaker closes"
                },
                reason: String::new(),
                at_ms,
                events: Vec::new(),
                would: Value::Null,
            },
        })
    };
    decisions.into_iter().filter_map(verdict).collect()
}

/// Reads the history of the last `since` up to now; copies of a message come once.
pub(crate) async fn past(
    context: &Context,
    since: Duration,
    mut each: impl FnMut(MessageId, &Event),
) -> Result<()> {
    let session = connect(context).await?;
    let from = StreamOffset::TimestampMs(stamp::now_ms().saturating_sub(ms(since)));
    let consume = Consume {
        queue: HISTORY.to_owned(),
        exclusive: false,
        prefetch: PREFETCH,
        acks: Acks::Batched,
        offset: Some(from),
    };
    let mut deliveries = session.consume(consume).await?;
    let mark = send_mark(context, &session).await?;
    let mut seen = std::collections::HashSet::new();
    loop {
        let incoming = timeout(READ_LIMIT, deliveries.recv()).await.map_err(|_| {
            ending(Exit::Failed, format!("the stream {HISTORY} did not bring our mark: has `muster broker init` bound it?"))
        })?;
        let incoming = incoming.context("the connection was lost")?;
        if incoming.message_id == Some(mark) {
            break;
        }
        // Only these are looked at, so only these are remembered.
        let wanted = incoming.routing_key.starts_with("reaction.")
            && Kind::from_wire_name(&incoming.kind) == Some(Kind::Event);
        if let (true, Some(id)) = (wanted, incoming.message_id)
            && seen.insert(id)
            && let Ok(event) = envelope::decode::<Event>(&incoming.kind, &incoming.body)
        {
            each(id, &event);
        }
    }
    session.close().await;
    Ok(())
}
