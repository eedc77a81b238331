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

    /// Hands over what is told of reactions since `since_ms`, and every silence; in the stream's order, until `each` says
    /// that it is enough.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn facts(&self, since_ms: u64, each: impl FnMut(Kept) -> bool) -> Result<()> {
        self.0.with("read what is told of reactions", |db| {
            let mut statement = db.prepare_cached(
                "SELECT id, routing_key, at_ms, body FROM events INDEXED BY events_topic
                 WHERE topic >= 'reaction.' AND topic < 'reaction/' AND topic <> ?1
                 AND (at_ms >= ?2 OR topic IN (?3, ?4)) ORDER BY offset",
            )?;
            let params = params![ACTIVE, sql(since_ms), SILENCE_ADDED, SILENCE_REMOVED];
            hand_over(statement.query(params)?, each)
        })
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

    /// Hands over the events with a topic of `patterns` that came after somebody told, `since_ms` or before, that he
    /// reacts; in the stream's order, until `each` says that it is enough. By the stream and not by their own times:
    /// hosts' clocks differ, and what an agent had kept comes late. `is_good` tells who may say that he reacts.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn events(
        &self,
        patterns: &[String],
        since_ms: u64,
        is_good: impl Fn(&Event, &str) -> bool,
        each: impl FnMut(Kept) -> bool,
    ) -> Result<()> {
        let topics = self.topics(patterns)?;
        if topics.is_empty() {
            return Ok(());
        }
        let places = vec!["?"; topics.len()].join(", ");
        self.0.with("read the events that may wait", |db| {
            let first_good = |text: &str, before_ms: i64| -> rusqlite::Result<Option<i64>> {
                let mut statement = db.prepare_cached(text)?;
                let mut rows = statement.query(params![ACTIVE, before_ms])?;
                while let Some(row) = rows.next()? {
                    let is_good =
                        |(_, key, _, event): Kept| is_good(&event, &key).then(|| row.get(4));
                    if let Some(offset) = kept(raw(row)?).and_then(is_good) {
                        return offset.map(Some);
                    }
                }
                Ok(None)
            };
            let newest = first_good(
                "SELECT id, routing_key, at_ms, body, offset FROM events WHERE topic = ?1 AND at_ms <= ?2
                 ORDER BY offset DESC",
                sql(since_ms),
            )?;
            let from = match newest {
                Some(from) => from,
                None => first_good(
                    "SELECT id, routing_key, at_ms, body, offset FROM events WHERE topic = ?1 AND at_ms <= ?2
                     ORDER BY offset",
                    i64::MAX,
                )?
                .unwrap_or(0),
            };
            // The number is no text of anybody's.
            let text = format!(
                "SELECT id, routing_key, at_ms, body FROM events INDEXED BY events_offset
                 WHERE offset > {from} AND topic IN ({places}) ORDER BY offset"
            );
            let mut statement = db.prepare(&text)?;
            hand_over(statement.query(params_from_iter(topics.iter()))?, each)
        })
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

fn hand_over(
    mut rows: rusqlite::Rows<'_>,
    mut each: impl FnMut(Kept) -> bool,
) -> rusqlite::Result<()> {
    while let Some(row) = rows.next()? {
        if kept(raw(row)?).is_some_and(|kept| !each(kept)) {
            break;
        }
    }
    Ok(())
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::serve::history::Row;
    use crate::serve::history::tests::sample;

    fn said(offset: u64, topic: &str, host: &str) -> Row {
        let id = MessageId::from_parts(offset, [0; 10]).to_string();
        sample(offset, &id, topic, host)
    }

    #[test]
    fn a_host_that_says_it_reacts_hides_no_event() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(dir.path()).unwrap();
        let rows = [
            said(1, "x", "h1"),
            said(2, ACTIVE, "ops"),
            said(3, "x", "h1"),
            said(4, ACTIVE, "h1"),
            said(5, "x", "h1"),
        ];
        history.apply(&rows).unwrap();
        let past = Past(&history);
        let of = |is_good: &dyn Fn(&Event, &str) -> bool, since_ms| {
            let mut events = Vec::new();
            let each = |kept: Kept| {
                events.push(kept.2 / 1000);
                true
            };
            past.events(&["x".to_owned()], since_ms, is_good, each)
                .unwrap();
            events
        };
        let genuine =
            |event: &Event, key: &str| is_genuine(event, key, |host| host.as_str() == "h1");
        // By the newest before then, and where there is none by the oldest.
        for since_ms in [10_000, 0] {
            assert_eq!(of(&genuine, since_ms), [3, 5], "{since_ms}");
        }
        assert_eq!(of(&|_, _| true, 10_000), [5]);
        assert_eq!(of(&|_, _| false, 10_000), [1, 3, 5]);
    }

    #[test]
    fn what_is_old_is_handed_over_where_it_may_still_hold() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(dir.path()).unwrap();
        let topics = [
            SILENCE_ADDED,
            "reaction.fired",
            SILENCE_REMOVED,
            "reaction.fired",
            ACTIVE,
        ];
        let rows: Vec<Row> = (1..)
            .zip(topics)
            .map(|(number, topic)| said(number, topic, "ops"))
            .collect();
        history.apply(&rows).unwrap();
        let mut read = Vec::new();
        let each = |kept: Kept| {
            read.push(kept.2 / 1000);
            true
        };
        Past(&history).facts(4000, each).unwrap();
        assert_eq!(read, [1, 3, 4]);
    }

    #[test]
    fn one_who_reads_much_keeps_no_writer_waiting_and_stops_when_it_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(dir.path()).unwrap();
        let rows: Vec<Row> = (1..=100)
            .map(|number| said(number, "reaction.fired", "ops"))
            .collect();
        history.apply(&rows).unwrap();
        let reader = history.reader().unwrap();
        let mut read = 0;
        let each = |_| {
            read += 1;
            let next = said(1000 + read, "x", "h1");
            assert_eq!(history.apply(&[next]).unwrap(), 1);
            read < 50
        };
        Past(&reader).facts(0, each).unwrap();
        assert_eq!((read, history.count().unwrap()), (50, 150));
    }
}
