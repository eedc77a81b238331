//! The history of this `serve`: every event of the broker's stream `muster.history`, once, in a SQLite file.
//!
//! Rows and the stream's offset are written in one transaction, and a message that comes twice is known by its id. The
//! file is bounded by age and by size, the oldest goes first. It is a cache of the stream: a damaged one is set aside,
//! and what the stream still has is read again. It must not know what reads it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use muster_link::{Acks, Consume, Incoming, Session, StreamOffset, ends_before, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::event::Event;
use muster_proto::topology::{HISTORY, topic_key};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use tokio::time::timeout;

use super::session::Part;
use crate::ledger::sync::{FIRST_LIMIT, SyncError};

/// The file's name in the directory.
const FILE_NAME: &str = "history.sqlite";

/// The layout of the tables; a file of another one is set aside.
const SCHEMA_VERSION: i64 = 1;

/// Messages in one transaction.
const BATCH: usize = 512;

/// Deliveries under way: two batches.
const PREFETCH: u16 = 1024;

/// How long a transaction waits for more messages.
const LINGER: Duration = Duration::from_millis(100);

/// How often what is too old is looked for.
const PRUNE_EVERY_MS: u64 = 60_000;

/// Part of the rows that goes when the file is too large, as one in so many.
const PRUNE_PART: i64 = 20;

/// How long one who uses the file waits for another.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Bounds of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Longest age of a row in milliseconds.
    pub(crate) age_max_ms: u64,
    /// Most bytes of the file.
    pub(crate) bytes_max: u64,
}

/// A message of the stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Its place in the stream.
    pub(crate) offset: u64,
    /// The AMQP `message_id`; none for a message of a stranger's, which is not kept.
    pub(crate) id: Option<String>,
    /// The AMQP `type`.
    pub(crate) kind: String,
    /// The routing key.
    pub(crate) routing_key: String,
    /// When it was sent, in milliseconds since 1970 by its sender's clock.
    pub(crate) at_ms: u64,
    /// The event, where it is one.
    pub(crate) event: Option<Event>,
    /// The body as it came.
    pub(crate) body: Vec<u8>,
}

/// The file. Clones are the same file.
#[derive(Debug, Clone)]
pub(crate) struct History {
    db: Arc<Mutex<Connection>>,
    path: PathBuf,
}

impl History {
    /// Opens the file in `dir`.
    ///
    /// # Errors
    /// When neither it nor a new one in its place can be used.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let db = match open_file(&path) {
            Ok(db) => db,
            Err(error) => {
                let aside = path.with_extension(format!("sqlite.damaged-{}", stamp::now_ms()));
                std::fs::rename(&path, &aside).with_context(|| {
                    format!(
                        "open the history {}: {error}; and it can't be set aside",
                        path.display()
                    )
                })?;
                tracing::error!(
                    "the history could not be used ({error}): set aside as {}, and begun anew from the broker's stream",
                    aside.display()
                );
                open_file(&path)?
            }
        };
        Ok(Self {
            db: Arc::new(Mutex::new(db)),
            path,
        })
    }

    /// The same file for one who reads much: whoever writes does not wait for it.
    ///
    /// # Errors
    /// When the file can't be opened once more.
    pub(crate) fn reader(&self) -> Result<Self> {
        let db = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|db| db.busy_timeout(BUSY_LIMIT).map(|()| db));
        let db = db.with_context(|| format!("open the history {}", self.path.display()))?;
        Ok(Self {
            db: Arc::new(Mutex::new(db)),
            path: self.path.clone(),
        })
    }

    /// Offset and id of the last message that was read.
    fn position(&self) -> Result<Option<(u64, Option<String>)>> {
        self.with("read the offset", |db| {
            db.query_row("SELECT offset, id FROM position", [], |row| {
                Ok((number(row.get(0)?), row.get(1)?))
            })
            .optional()
        })
    }

    /// Writes rows and the offset in one transaction; gives how many of them were new.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn apply(&self, rows: &[Row]) -> Result<usize> {
        self.with("write a batch", |db| {
            let change = db.transaction()?;
            let mut new = 0;
            {
                let mut insert = change.prepare_cached(
                    "INSERT OR IGNORE INTO events (id, offset, kind, routing_key, at_ms, topic, host, severity, key, summary, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?;
                for row in rows {
                    let Some(id) = row.id.as_deref().filter(|_| is_kept(&row.kind)) else {
                        continue;
                    };
                    let event = row.event.as_ref();
                    new += insert.execute(params![
                        id,
                        sql(row.offset),
                        row.kind,
                        row.routing_key,
                        sql(row.at_ms),
                        event.map(|event| event.topic.as_str()),
                        event.map(|event| event.host.as_str()),
                        event.map(|event| event.severity.name()),
                        event.map(|event| event.key.as_str()),
                        event.map(|event| event.summary.as_str()),
                        row.body,
                    ])?;
                }
            }
            if let Some(last) = rows.last() {
                change.execute(
                    "INSERT OR REPLACE INTO position (one, offset, id) VALUES (1, ?1, ?2)",
                    params![sql(last.offset), last.id],
                )?;
            }
            change.commit()?;
            Ok(new)
        })
    }

    /// Lets go of what is too old, and of the oldest while the file is too large; gives how many rows went.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn prune(&self, bounds: Bounds, now_ms: u64) -> Result<usize> {
        self.with("let go of old events", |db| {
            let before = sql(now_ms.saturating_sub(bounds.age_max_ms));
            let mut gone = db.execute("DELETE FROM events WHERE at_ms < ?1", [before])?;
            let size = |db: &Connection, what: &str| -> rusqlite::Result<i64> {
                db.pragma_query_value(None, what, |row| row.get(0))
            };
            loop {
                let used = (size(db, "page_count")? - size(db, "freelist_count")?) * size(db, "page_size")?;
                if number(used) <= bounds.bytes_max {
                    return Ok(gone);
                }
                let went = db.execute(
                    "DELETE FROM events WHERE offset IN
                     (SELECT offset FROM events ORDER BY offset LIMIT (SELECT count(*) / ?1 + 1 FROM events))",
                    [PRUNE_PART],
                )?;
                if went == 0 {
                    return Ok(gone);
                }
                gone += went;
            }
        })
    }

    /// The newest event of each host with one of two topics, for whoever takes over from another: host, topic and id.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn newest_of(&self, topics: [&str; 2]) -> Result<Vec<[String; 3]>> {
        self.with("read the newest events", |db| {
            db.prepare_cached(
                "SELECT host, topic, id FROM events WHERE offset IN
                 (SELECT max(offset) FROM events WHERE topic IN (?1, ?2) GROUP BY host)",
            )?
            .query_map(topics, |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?
            .collect()
        })
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn count(&self) -> Result<u64> {
        self.with("count the events", |db| {
            db.query_row("SELECT count(*) FROM events", [], |row| {
                row.get(0).map(number)
            })
        })
    }

    fn begin_anew(&self) -> Result<()> {
        self.with("begin anew", |db| {
            db.execute_batch("DELETE FROM events; DELETE FROM position;")
        })
    }

    /// Works on the file; `what` is for the error.
    ///
    /// # Errors
    /// When the file can't be used.
    pub(super) fn with<T>(
        &self,
        what: &str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut db).with_context(|| format!("{what}: {}", self.path.display()))
    }
}

fn open_file(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_LIMIT)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // A cache of the stream: what a power cut takes is read again.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != SCHEMA_VERSION {
        db.execute_batch(
            "DROP TABLE IF EXISTS events; DROP TABLE IF EXISTS position;
             CREATE TABLE events (id TEXT PRIMARY KEY, offset INTEGER NOT NULL, kind TEXT NOT NULL,
                 routing_key TEXT NOT NULL, at_ms INTEGER NOT NULL, topic TEXT, host TEXT, severity TEXT, key TEXT,
                 summary TEXT, body BLOB NOT NULL) WITHOUT ROWID;
             CREATE UNIQUE INDEX events_offset ON events (offset);
             CREATE INDEX events_at ON events (at_ms);
             CREATE INDEX events_topic ON events (topic, host, offset);
             CREATE TABLE position (one INTEGER PRIMARY KEY, offset INTEGER NOT NULL, id TEXT);",
        )?;
        db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    Ok(db)
}

/// Marks are their readers' own.
fn is_kept(kind: &str) -> bool {
    Kind::from_wire_name(kind).is_some_and(|kind| kind != Kind::Mark)
}

/// The event of a message. It is one only under its own key: the broker lets an agent write keys that end in its name and
/// no others, while in the body it may call itself what it likes.
fn event_of(kind: &str, routing_key: &str, body: &[u8]) -> Option<Event> {
    if Kind::from_wire_name(kind) != Some(Kind::Event) {
        return None;
    }
    let event: Event = envelope::decode(kind, body).ok()?;
    (topic_key(&event.topic, &event.host) == routing_key).then_some(event)
}

fn row(incoming: Incoming) -> Row {
    let event = event_of(&incoming.kind, &incoming.routing_key, &incoming.body);
    Row {
        offset: incoming.stream_offset.unwrap_or(0),
        id: incoming.message_id.map(|id| id.to_string()),
        at_ms: incoming.timestamp_ms.unwrap_or(0),
        kind: incoming.kind,
        routing_key: incoming.routing_key,
        event,
        body: incoming.body,
    }
}

fn sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The part that follows the stream.
pub(crate) struct Follow {
    /// The file.
    pub(crate) history: History,
    /// Its bounds.
    pub(crate) bounds: Bounds,
}

impl Part for Follow {
    fn name(&self) -> &str {
        "history"
    }

    async fn work(&mut self, session: &Session) -> Result<()> {
        let known = self.history.position()?;
        let offset = match &known {
            Some((offset, _)) => StreamOffset::Offset(*offset),
            None => {
                StreamOffset::TimestampMs(stamp::now_ms().saturating_sub(self.bounds.age_max_ms))
            }
        };
        let consume = Consume {
            queue: HISTORY.to_owned(),
            exclusive: false,
            prefetch: PREFETCH,
            acks: Acks::Batched,
            offset: Some(offset),
        };
        let mut deliveries = session.consume(consume).await?;
        let lost = || anyhow!("the connection was lost");
        if let Some((offset, id)) = known {
            let first = match timeout(FIRST_LIMIT, deliveries.recv()).await {
                Ok(first) => Some(row(first.ok_or_else(lost)?)),
                Err(_) if ends_before(session, HISTORY, offset, FIRST_LIMIT).await? => None,
                Err(_) => return Err(SyncError::Busy { stream: HISTORY }.into()),
            };
            if !first.is_some_and(|first| first.offset == offset && first.id == id) {
                self.history.begin_anew()?;
                bail!(
                    "the broker's stream is another one, or has let go of events that were not read yet: the history is begun anew"
                );
            }
        }
        let mut pruned_ms = 0;
        loop {
            let mut batch = vec![row(deliveries.recv().await.ok_or_else(lost)?)];
            while batch.len() < BATCH {
                match timeout(LINGER, deliveries.recv()).await {
                    Ok(Some(next)) => batch.push(row(next)),
                    Ok(None) | Err(_) => break,
                }
            }
            self.history.apply(&batch)?;
            let now_ms = stamp::now_ms();
            if now_ms.saturating_sub(pruned_ms) >= PRUNE_EVERY_MS {
                self.history.prune(self.bounds, now_ms)?;
                pruned_ms = now_ms;
            }
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
pub(crate) mod tests;
