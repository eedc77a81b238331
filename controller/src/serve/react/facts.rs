//! The events that tell of reactions, written and read: what happened stands in the history and nowhere else. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::event::{Event, Severity};
use muster_proto::id::{HostId, MessageId};
use muster_proto::target::Target;
use serde_json::{Value, json};

use super::decision::{Firing, Reason, Suppressed};
use super::heard::Heard;
use super::silence::Silence;
use crate::serve::derived::derived_id;

/// Topics.
pub(crate) const TAKING: &str = "reaction.taking";
pub(crate) const ACTIVE: &str = "reaction.active";
pub(crate) const BEGUN: &str = "reaction.begun";
pub(crate) const FIRED: &str = "reaction.fired";
pub(crate) const FAILED: &str = "reaction.failed";
pub(crate) const SUPPRESSED: &str = "reaction.suppressed";
pub(crate) const BREAKER_OPEN: &str = "reaction.breaker.open";
pub(crate) const BREAKER_CLOSED: &str = "reaction.breaker.closed";
pub(crate) const SILENCE_ADDED: &str = "reaction.silence.added";
pub(crate) const SILENCE_REMOVED: &str = "reaction.silence.removed";

/// Bytes of hosts, keys and topics that a firing's event tells, so that it stays within the bound of an event.
const SUBJECT_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a text in an event.
const TEXT_BYTES_MAX: usize = 2000;

/// What happened, as the engine wants it told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    /// A rule has begun to act.
    Begun(Begun),
    /// One of its actions has ended.
    Ended {
        /// The firing.
        firing: MessageId,
        /// The rule's name.
        rule: String,
        /// The action: `mail`, `webhook:<name>`, `job`.
        action: String,
        /// Whether it was done.
        good: bool,
        /// When.
        at_ms: u64,
    },
    /// A rule has not acted.
    Suppressed {
        /// The rule's name.
        rule: String,
        /// Why.
        reason: Option<Reason>,
        /// The events.
        events: Vec<MessageId>,
        /// When.
        at_ms: u64,
    },
    /// A breaker.
    Breaker {
        /// The rule's name.
        rule: String,
        /// Whether it is open.
        open: bool,
        /// When that was told, in milliseconds since 1970.
        at_ms: u64,
    },
    /// A silence.
    Silenced(Silence),
    /// The end of one.
    Unsilenced(MessageId),
}

/// A rule has begun to act.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Begun {
    /// The firing.
    pub(crate) firing: MessageId,
    /// The rule's name.
    pub(crate) rule: String,
    /// The group.
    pub(crate) group: String,
    /// The events.
    pub(crate) events: Vec<MessageId>,
    /// Host, key and topic of the events, each once, as many as there was room for.
    pub(crate) subjects: Vec<(HostId, String, String)>,
    /// When.
    pub(crate) at_ms: u64,
    /// How many reactions stand behind it.
    pub(crate) depth: u32,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ending {
    /// Which: `mail`, `webhook:<name>`, `job`.
    pub(crate) action: String,
    /// What was done, or why it was not.
    pub(crate) outcome: Result<Value, String>,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// How long that took, in milliseconds.
    pub(crate) took_ms: u64,
}

/// An event and the id that it is published with.
pub(crate) type Told = (MessageId, Event);

/// In whose name, and when.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    /// The controller, in the place of the host.
    pub(crate) name: HostId,
    /// Now.
    pub(crate) now_ms: u64,
}

impl Teller {
    /// That `firing` has begun.
    pub(crate) fn begun(&self, rule: &str, actions: &[String], firing: &Firing) -> Told {
        let id = derived_id(firing.begun_ms, &[firing.id.as_bytes(), BEGUN.as_bytes()]);
        let subjects: BTreeSet<(&str, &str, &str)> = firing
            .events
            .iter()
            .map(|heard| {
                let event = &heard.event;
                (
                    event.host.as_str(),
                    event.key.as_str(),
                    event.topic.as_str(),
                )
            })
            .collect();
        let mut room = SUBJECT_BYTES_MAX;
        let subjects: Vec<_> = subjects
            .into_iter()
            .take_while(|(host, key, topic)| {
                let bytes = host.len() + key.len() + topic.len() + 8;
                let fits = bytes <= room;
                room = room.saturating_sub(bytes);
                fits
            })
            .collect();
        let fields = json!({
            "firing": firing.id, "group": cut(&firing.group), "events": ids(&firing.events), "count": firing.events.len(),
            "subjects": subjects, "depth": firing.depth, "actions": actions,
        });
        let summary = format!("{rule}: acts on {}", of_events(&firing.events));
        let mut event = self.event(BEGUN, Severity::Info, rule, summary, fields);
        event.at_ms = firing.begun_ms;
        event.cause = firing.events.first().map(|heard| heard.id);
        (id, event)
    }

    /// How one of the actions of `firing` ended.
    pub(crate) fn ended(&self, rule: &str, firing: &Firing, ending: &Ending) -> Told {
        let id = derived_id(
            firing.begun_ms,
            &[firing.id.as_bytes(), ending.action.as_bytes()],
        );
        let again = if firing.again { ", again" } else { "" };
        let what = format!("{rule}: {}{again}", ending.action);
        let about = of_events(&firing.events);
        let (topic, severity, summary) = match &ending.outcome {
            Ok(_) => (FIRED, Severity::Info, format!("{what}, for {about}")),
            Err(why) => {
                let summary = format!("{what} failed, for {about}: {}", cut(why));
                (FAILED, Severity::Error, summary)
            }
        };
        let mut fields = json!({
            "firing": firing.id, "action": ending.action, "again": firing.again, "depth": firing.depth,
            "count": firing.events.len(), "attempts": ending.attempts, "took_ms": ending.took_ms,
        });
        if let Some(fields) = fields.as_object_mut() {
            match &ending.outcome {
                Ok(Value::Object(done)) => fields.extend(done.clone()),
                Ok(_) => {}
                Err(why) => {
                    fields.insert("error".to_owned(), cut(why).into());
                }
            }
        }
        let mut event = self.event(topic, severity, rule, summary, fields);
        event.cause = firing.events.first().map(|heard| heard.id);
        (id, event)
    }

    /// That a rule did not act. With what a dry run would have done.
    pub(crate) fn suppressed(&self, rule: &str, it: &Suppressed, would: &Value) -> Told {
        let first = it.events.first();
        let unix_ms = first.map_or(self.now_ms, |heard| heard.id.unix_ms());
        let reason = it.reason.name();
        let mut parts = vec![rule.as_bytes(), reason.as_bytes()];
        parts.extend(first.map(|heard| heard.id.as_bytes().as_slice()));
        let id = derived_id(unix_ms, &parts);
        let detail = match it.detail.as_str() {
            "" => String::new(),
            detail => format!(" ({})", cut(detail)),
        };
        let summary = format!(
            "{rule}: not for {}: {reason}{detail}",
            of_events(&it.events)
        );
        let fields = json!({
            "reason": reason, "detail": cut(&it.detail), "events": ids(&it.events), "count": it.events.len(), "would": would,
        });
        let severity = if it.reason.is_bad() {
            Severity::Warning
        } else {
            Severity::Info
        };
        let mut event = self.event(SUPPRESSED, severity, rule, summary, fields);
        event.cause = first.map(|heard| heard.id);
        (id, event)
    }

    /// That a breaker opened or closed at `at_ms`.
    pub(crate) fn breaker(&self, rule: &str, open: bool, at_ms: u64, pause_ms: u64) -> Told {
        let topic = if open { BREAKER_OPEN } else { BREAKER_CLOSED };
        let id = derived_id(at_ms, &[rule.as_bytes(), topic.as_bytes()]);
        let (severity, summary) = if open {
            let pause = pause_ms / 1000;
            let summary = format!(
                "{rule}: its breaker is open, it does nothing for {pause} s: too much failed, looped or ran over its budget"
            );
            (Severity::Critical, summary)
        } else {
            (
                Severity::Notice,
                format!("{rule}: its breaker is closed, it acts again"),
            )
        };
        (id, self.event(topic, severity, rule, summary, json!({})))
    }

    /// This controller's part: [`TAKING`] when it takes over, [`ACTIVE`] when it is the one that reacts, with the topics
    /// that its queue is bound to.
    pub(crate) fn part(&self, id: MessageId, what: &'static str, keys: &BTreeSet<String>) -> Told {
        let summary = match what {
            TAKING => "it takes over the reactions to events",
            _ => "it is the one that reacts to events",
        };
        let fields = json!({ "keys": keys });
        (
            id,
            self.event(what, Severity::Info, "", summary.to_owned(), fields),
        )
    }

    /// A silence.
    pub(crate) fn silenced(&self, silence: &Silence) -> Told {
        let fields = json!({
            "id": silence.id, "matches": silence.matches.source(), "reaction": silence.reaction,
            "until_ms": silence.until_ms, "comment": silence.comment, "by": silence.by,
        });
        let summary = format!("silence over {}: {}", silence.matches, silence.comment);
        let event = self.event(SILENCE_ADDED, Severity::Notice, "", summary, fields);
        (silence.id, event)
    }

    /// The end of a silence.
    pub(crate) fn unsilenced(&self, id: MessageId, silence: MessageId) -> Told {
        let summary = format!("the silence {silence} is over");
        let fields = json!({ "id": silence });
        let event = self.event(SILENCE_REMOVED, Severity::Notice, "", summary, fields);
        (id, event)
    }

    fn event(
        &self,
        topic: &str,
        severity: Severity,
        rule: &str,
        summary: String,
        fields: Value,
    ) -> Event {
        let mut fields: BTreeMap<String, Value> = match fields {
            Value::Object(fields) => fields.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        fields.retain(|_, value| !value.is_null());
        if !rule.is_empty() {
            fields.insert("rule".to_owned(), rule.into());
        }
        Event {
            topic: topic.to_owned(),
            host: self.name.clone(),
            at_ms: self.now_ms,
            severity,
            summary,
            key: rule.to_owned(),
            fields,
            before: Value::Null,
            after: Value::Null,
            seq: 0,
            cause: None,
        }
    }
}

/// What an event of the history tells; none where it is no fact.
pub(crate) fn fact(event: &Event) -> Option<Fact> {
    let text = |name: &str| event.fields.get(name).and_then(Value::as_str);
    let owned = |name: &str| text(name).map(str::to_owned);
    let id = |name: &str| text(name)?.parse::<MessageId>().ok();
    let ids = || -> Vec<MessageId> {
        let list = event.fields.get("events").and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.filter_map(|text| text.parse().ok()).collect()
    };
    Some(match event.topic.as_str() {
        BEGUN => Fact::Begun(Begun {
            firing: id("firing")?,
            rule: owned("rule")?,
            group: owned("group")?,
            events: ids(),
            subjects: subjects(event),
            at_ms: event.at_ms,
            depth: u32::try_from(event.fields.get("depth")?.as_u64()?).ok()?,
        }),
        FIRED | FAILED => Fact::Ended {
            firing: id("firing")?,
            rule: owned("rule")?,
            action: owned("action")?,
            good: event.topic == FIRED,
            at_ms: event.at_ms,
        },
        SUPPRESSED => Fact::Suppressed {
            rule: owned("rule")?,
            reason: text("reason")
                .and_then(|name| Reason::ALL.into_iter().find(|reason| reason.name() == name)),
            events: ids(),
            at_ms: event.at_ms,
        },
        BREAKER_OPEN | BREAKER_CLOSED => Fact::Breaker {
            rule: owned("rule")?,
            open: event.topic == BREAKER_OPEN,
            at_ms: event.at_ms,
        },
        SILENCE_ADDED => Fact::Silenced(Silence {
            id: id("id")?,
            matches: Target::parse(text("matches")?).ok()?,
            reaction: owned("reaction"),
            until_ms: event.fields.get("until_ms")?.as_u64()?,
            comment: owned("comment").unwrap_or_default(),
            by: owned("by").unwrap_or_default(),
        }),
        SILENCE_REMOVED => Fact::Unsilenced(id("id")?),
        _ => return None,
    })
}

fn subjects(event: &Event) -> Vec<(HostId, String, String)> {
    let subjects = event.fields.get("subjects").cloned().unwrap_or_default();
    serde_json::from_value(subjects).unwrap_or_default()
}

fn ids(events: &[Arc<Heard>]) -> Vec<MessageId> {
    events.iter().map(|heard| heard.id).collect()
}

/// `lvs.backend.down of lb1`, `12 events of 3 hosts`.
pub(crate) fn of_events(events: &[Arc<Heard>]) -> String {
    match events {
        [] => "nothing".to_owned(),
        [one] => {
            let key = match one.event.key.as_str() {
                "" => String::new(),
                key => format!(" {}", cut(key)),
            };
            format!("{}{key} of {}", one.event.topic, one.event.host)
        }
        many => {
            let hosts: BTreeSet<&HostId> = many.iter().map(|heard| &heard.event.host).collect();
            match hosts.len() {
                1 => format!(
                    "{} events of {}",
                    many.len(),
                    hosts.first().map_or("", |host| host.as_str())
                ),
                count => format!("{} events of {count} hosts", many.len()),
            }
        }
    }
}

/// A text that is not too long for an event.
pub(crate) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX))
        .unwrap_or(text)
}
