//! What the history knows of reactions, for whoever takes over: what has happened, and the events that may still wait.
//! It must not decide anything.

use std::collections::BTreeSet;

use anyhow::Result;
use muster_proto::envelope::{self, Kind};
use muster_proto::event::Event;
use muster_proto::id::{HostId, MessageId};
use rusqlite::{OptionalExtension as _, params, params_from_iter};

use super::engine::any_matches;
use super::facts::{ACTIVE, SILENCE_ADDED, SILENCE_REMOVED, TAKING};
use crate::serve::history::History;

/// A message of the history: its id, its routing key, when it was sent, and the event.
pub(crate) type Kept = (MessageId, String, u64, Event);

/// Reads [`History`].
pub(crate) struct Past<'a>(pub(crate) &'a History);

impl Past<'_> {
    /// Whether the message `id` is there.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn has(&self, id: &MessageId) -> Result<bool> {
        self.0.with("look for an event", |db| {
            db.prepare_cached("SELECT 1 FROM events WHERE id = ?1")?
                .exists([id.to_string()])
        })
    }

    /// The event `id`.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn event(&self, id: &MessageId) -> Result<Option<Kept>> {
        let row = self.0.with("read an event", |db| {
            db.prepare_cached("SELECT id, routing_key, at_ms, body FROM events WHERE id = ?1")?
                .query_row([id.to_string()], raw)
                .optional()
        })?;
        Ok(row.and_then(kept))
    }

    /// What is told of reactions since `since_ms`, and every silence; in the stream's order.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn facts(&self, since_ms: u64) -> Result<Vec<Kept>> {
        let rows = self.0.with("read what is told of reactions", |db| {
            db.prepare_cached(
                "SELECT id, routing_key, at_ms, body FROM events INDEXED BY events_topic
                 WHERE topic >= 'reaction.' AND topic < 'reaction/' AND topic <> ?1
                 AND (at_ms >= ?2 OR topic IN (?3, ?4)) ORDER BY offset",
            )?
            .query_map(
                params![ACTIVE, sql(since_ms), SILENCE_ADDED, SILENCE_REMOVED],
                raw,
            )?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(rows.into_iter().filter_map(kept).collect())
    }

    /// The binding keys that those who reacted before have told, the last few of them.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn bound_before(&self) -> Result<BTreeSet<String>> {
        let rows = self.0.with("read who reacted before", |db| {
            db.prepare_cached(
                "SELECT id, routing_key, at_ms, body FROM events WHERE topic IN (?1, ?2) ORDER BY offset DESC LIMIT 20",
            )?
            .query_map([ACTIVE, TAKING], raw)?
            .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let keys = rows.into_iter().filter_map(kept).flat_map(|kept| {
            let keys = kept.3.fields.get("keys").cloned().unwrap_or_default();
            serde_json::from_value::<Vec<String>>(keys).unwrap_or_default()
        });
        Ok(keys.collect())
    }

    /// The events with a topic of `patterns` that came after somebody told, `since_ms` or before, that he reacts; in the
    /// stream's order. By the stream and not by their own times: hosts' clocks differ, and what an agent had kept comes
    /// late.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn events(&self, patterns: &[String], since_ms: u64) -> Result<Vec<Kept>> {
        let topics = self.topics(patterns)?;
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let places = vec!["?"; topics.len()].join(", ");
        let rows = self.0.with("read the events that may wait", |db| {
            let from: Option<i64> = db
                .prepare_cached(
                    "SELECT offset FROM events WHERE topic = ?1 AND at_ms <= ?2 ORDER BY offset DESC LIMIT 1",
                )?
                .query_row(params![ACTIVE, sql(since_ms)], |row| row.get(0))
                .optional()?;
            let from = match from {
                Some(from) => from,
                None => db
                    .query_row(
                        "SELECT min(offset) FROM events WHERE topic = ?1",
                        [ACTIVE],
                        |row| row.get::<_, Option<i64>>(0),
                    )?
                    .unwrap_or(0),
            };
            // The number is no text of anybody's.
            let text = format!(
                "SELECT id, routing_key, at_ms, body FROM events INDEXED BY events_offset
                 WHERE offset > {from} AND topic IN ({places}) ORDER BY offset"
            );
            db.prepare(&text)?
                .query_map(params_from_iter(topics.iter()), raw)?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(rows.into_iter().filter_map(kept).collect())
    }

    /// The topics that there are, of those that match. Each costs one look at the index, however many events it has.
    fn topics(&self, patterns: &[String]) -> Result<Vec<String>> {
        let topics: Vec<String> = self.0.with("read the topics", |db| {
            db.prepare_cached(
                "WITH RECURSIVE one(topic) AS (SELECT min(topic) FROM events UNION ALL
                 SELECT (SELECT min(topic) FROM events WHERE topic > one.topic) FROM one WHERE one.topic IS NOT NULL)
                 SELECT topic FROM one WHERE topic IS NOT NULL",
            )?
            .query_map([], |row| row.get(0))?
            .collect()
        })?;
        Ok(topics
            .into_iter()
            .filter(|topic| any_matches(patterns, topic))
            .take(10_000)
            .collect())
    }
}

type Raw = (String, String, i64, Vec<u8>);

fn raw(row: &rusqlite::Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn kept((id, routing_key, at_ms, body): Raw) -> Option<Kept> {
    let event: Event = envelope::decode(Kind::Event.wire_name(), &body).ok()?;
    let at_ms = u64::try_from(at_ms).unwrap_or(0);
    Some((id.parse().ok()?, routing_key, at_ms, event))
}

fn sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whether the event is by whom it says. The broker lets an agent write only keys that end in its own name, so the
/// host in the body has to be the one in the key; and what controllers tell, no host may.
pub(crate) fn is_genuine(
    event: &Event,
    routing_key: &str,
    is_host: impl Fn(&HostId) -> bool,
) -> bool {
    let told = routing_key
        .strip_prefix(event.topic.as_str())
        .and_then(|rest| rest.strip_prefix('.'));
    if told != Some(event.host.as_str()) {
        return false;
    }
    if !["reaction.", "fleet."]
        .iter()
        .any(|family| event.topic.starts_with(family))
    {
        return true;
    }
    if event.topic.starts_with("fleet.host.") {
        return true; // about a host, in its name; a host that calls itself lost is heard of
    }
    // `ops.lb1` could be the host lb1 with a longer topic.
    let name = event.host.as_str();
    let ends = name
        .match_indices('.')
        .filter_map(|(at, _)| name.get(at + 1..));
    !std::iter::once(name)
        .chain(ends)
        .filter_map(|name| name.parse().ok())
        .any(|host| is_host(&host))
}
