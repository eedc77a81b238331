//! The SQLite file: rows and the stream offset in one transaction. It must not know the broker.
//!
//! The file is a cache of the stream, so `synchronous = NORMAL` is enough: after a power cut the last commits may be
//! missing, rows and offset alike, and are read again from the stream; a torn file is set aside and rebuilt.
//! Any number of programs may share it: each checks the offset inside its transaction and leaves out what another has
//! written meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_proto::id::MessageId;
use muster_proto::presence::Presence;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

pub use super::error::StoreError;
use super::error::{place_of, wrap};
use super::fold::Entry;
use super::write::{apply_entry, make_tables, prune};

/// The file's name in its directory.
pub const FILE_NAME: &str = "ledger.sqlite";

/// The layout of the tables, and what was understood of the stream: before 2 no `muster.heard`. An older file is a cache:
/// its tables are dropped and built anew.
const SCHEMA_VERSION: i64 = 2;

/// How long to wait for another program's transaction, which is a batch and so far shorter.
const BUSY: Duration = Duration::from_secs(10);

/// Name of the time from which on the ledger was read.
const COVERED_FROM: &str = "ledger.from";

/// How far a stream has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Offset of the last message that was read.
    pub offset: u64,
    /// Its id: another broker's stream has another message there.
    pub message_id: Option<MessageId>,
    /// When that was, by this program's clock.
    pub at_ms: u64,
}

/// One of the streams that the file follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// `muster.ledger`.
    Ledger,
    /// `muster.presence`.
    Presence,
}

impl Stream {
    const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Presence => "presence",
        }
    }
}

/// A host's presence, and when it came in by this program's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The message.
    pub presence: Presence,
    /// When it came in.
    pub seen_ms: u64,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    pub(super) db: Connection,
    path: Option<PathBuf>,
    generation: i64,
}

impl Store {
    /// Opens the file in `dir`, which is made if it isn't there. A damaged file is set aside; then the second value says so.
    ///
    /// # Errors
    /// When the directory or the file can't be made, or the file is of a newer program.
    pub fn open(dir: &Path) -> Result<(Self, Option<String>), StoreError> {
        let path = dir.join(FILE_NAME);
        match Self::open_file(&path) {
            Err(StoreError::Damaged { why, .. }) => {
                let aside = set_aside(&path).map_err(|error| StoreError::Damaged {
                    path: path.display().to_string(),
                    why: format!("{why}; and it can't be set aside: {error}"),
                })?;
                let notice = format!(
                    "the ledger's cache was damaged ({why}): set aside as {}, built anew",
                    aside.display()
                );
                Ok((Self::open_file(&path)?, Some(notice)))
            }
            other => other.map(|store| (store, None)),
        }
    }

    /// A ledger that is gone with the program.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn in_memory() -> Result<Self, StoreError> {
        let db = Connection::open_in_memory().map_err(|error| wrap(None, "open", error))?;
        let mut store = Self {
            db,
            path: None,
            generation: 0,
        };
        store.prepare()?;
        Ok(store)
    }

    fn open_file(path: &Path) -> Result<Self, StoreError> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| StoreError::Sqlite {
                what: "make the directory",
                path: dir.display().to_string(),
                source: rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
            })?;
        }
        let db = Connection::open(path).map_err(|error| wrap(Some(path), "open", error))?;
        let mut store = Self {
            db,
            path: Some(path.to_owned()),
            generation: 0,
        };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        self.run("prepare", |db| {
            db.busy_timeout(BUSY)?;
            db.set_prepared_statement_cache_capacity(32);
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "NORMAL")
        })?;
        let version: i64 = self.run("read the version", |db| {
            db.pragma_query_value(None, "user_version", |row| row.get(0))
        })?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::Newer { path: self.place() });
        }
        if version < SCHEMA_VERSION {
            self.run("make the tables", |db| {
                let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let version: i64 =
                    change.pragma_query_value(None, "user_version", |row| row.get(0))?;
                if version < SCHEMA_VERSION {
                    make_tables(&change, 1)?;
                    change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                }
                change.commit()
            })?;
        }
        self.generation = self
            .run("read the generation", |db| meta(db, "generation"))?
            .unwrap_or(0);
        Ok(())
    }

    /// How far `stream` has been read; `None` where it has not.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn position(&mut self, stream: Stream) -> Result<Option<Position>, StoreError> {
        self.run("read the offset", |db| position(db, stream))
    }

    /// The time from which on the ledger was read; `None` where it was not.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn covered_from_ms(&mut self) -> Result<Option<u64>, StoreError> {
        self.run("read how far back it goes", |db| {
            Ok(meta::<i64>(db, COVERED_FROM)?.map(number))
        })
    }

    /// Takes note of the time from which on the ledger is read.
    ///
    /// # Errors
    /// When SQLite refuses, or another program has begun the file anew.
    pub fn cover_from(&mut self, from_ms: u64) -> Result<(), StoreError> {
        self.write("note how far back it goes", |change| {
            set_meta(change, COVERED_FROM, sql(from_ms))
        })
    }

    /// Writes the changes that a batch of the ledger's messages makes, and the offset, in one transaction. What another
    /// program has written meanwhile is left out.
    ///
    /// # Errors
    /// When SQLite refuses, or another program has begun the file anew.
    pub fn apply(&mut self, batch: &[Entry], now_ms: u64) -> Result<(), StoreError> {
        self.write("write a batch", |change| {
            let done = position(change, Stream::Ledger)?.map(|position| position.offset);
            for entry in batch
                .iter()
                .filter(|entry| done.is_none_or(|done| entry.offset > done))
            {
                apply_entry(change, entry, now_ms)?;
            }
            if let Some(last) = batch
                .last()
                .filter(|last| done.is_none_or(|done| last.offset > done))
            {
                set_position(change, Stream::Ledger, last.offset, last.message_id, now_ms)?;
            }
            prune(change, now_ms)
        })
    }

    /// Writes the newest presence of hosts, and the offset, in one transaction.
    ///
    /// # Errors
    /// When SQLite refuses, or another program has begun the file anew.
    pub fn apply_presence(&mut self, seen: &[Seen], at: Position) -> Result<(), StoreError> {
        self.write("write presence", |change| {
            let mut upsert = change.prepare_cached(
                "INSERT INTO hosts (host, seen_ms, presence) VALUES (?1, ?2, ?3)
                 ON CONFLICT (host) DO UPDATE SET seen_ms = ?2, presence = ?3 WHERE seen_ms IS NULL OR seen_ms <= ?2",
            )?;
            for one in seen {
                let text = serde_json::to_string(&one.presence).unwrap_or_default();
                upsert.execute(params![one.presence.host.as_str(), sql(one.seen_ms), text])?;
            }
            drop(upsert);
            set_position(change, Stream::Presence, at.offset, at.message_id, at.at_ms)
        })
    }

    /// Empties the file, to be built anew: the stream is another one, or has let go of what was not read yet.
    ///
    /// # Errors
    /// When SQLite refuses, or another program has begun the file anew.
    pub fn begin_anew(&mut self) -> Result<(), StoreError> {
        let next = self.generation + 1;
        self.write("begin anew", |change| make_tables(change, next))?;
        self.generation = next;
        Ok(())
    }

    /// Takes the generation of a file that another program has begun anew.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn follow(&mut self) -> Result<(), StoreError> {
        self.generation = self
            .run("read the generation", |db| meta(db, "generation"))?
            .unwrap_or(0);
        Ok(())
    }

    /// Sets a damaged file aside and opens a new one in its place; gives the notice for the operator.
    ///
    /// # Errors
    /// When that fails too.
    pub fn replace(&mut self) -> Result<String, StoreError> {
        let Some(path) = self.path.clone() else {
            *self = Self::in_memory()?;
            return Ok("the ledger in memory was damaged and is built anew".to_owned());
        };
        let aside = set_aside(&path).map_err(|error| StoreError::Damaged {
            path: path.display().to_string(),
            why: error.to_string(),
        })?;
        *self = Self::open_file(&path)?;
        Ok(format!(
            "the ledger's cache was damaged: set aside as {}, built anew",
            aside.display()
        ))
    }

    fn write(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let mine = self.generation;
        let same = self.run(what, |db| {
            let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if meta(&change, "generation")?.unwrap_or(0) != mine {
                return Ok(false);
            }
            work(&change)?;
            change.commit()?;
            Ok(true)
        })?;
        if same {
            Ok(())
        } else {
            Err(StoreError::Superseded)
        }
    }

    pub(super) fn run<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&mut self.db).map_err(|error| wrap(self.path.as_deref(), what, error))
    }

    fn place(&self) -> String {
        place_of(self.path.as_deref())
    }
}

/// Renames the file, and takes its journal along; only the last damaged one is kept.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = beside(".damaged");
    std::fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        match std::fs::remove_file(beside(suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

pub(super) fn meta<T: rusqlite::types::FromSql>(
    db: &Connection,
    name: &str,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

pub(super) fn set_meta(
    db: &Connection,
    name: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
        .execute(params![name, value])?;
    Ok(())
}

pub(super) fn position(db: &Connection, stream: Stream) -> rusqlite::Result<Option<Position>> {
    let name = stream.name();
    let Some(offset) = meta::<i64>(db, &format!("{name}.offset"))? else {
        return Ok(None);
    };
    let id: Option<Vec<u8>> = meta(db, &format!("{name}.message"))?;
    let at_ms = meta::<i64>(db, &format!("{name}.at"))?.unwrap_or(0);
    let message_id = id
        .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
        .map(MessageId::from_bytes);
    Ok(Some(Position {
        offset: number(offset),
        message_id,
        at_ms: number(at_ms),
    }))
}

pub(super) fn set_position(
    db: &Connection,
    stream: Stream,
    offset: u64,
    id: Option<MessageId>,
    at_ms: u64,
) -> rusqlite::Result<()> {
    let name = stream.name();
    set_meta(db, &format!("{name}.offset"), sql(offset))?;
    set_meta(
        db,
        &format!("{name}.message"),
        id.map_or(Vec::new(), |id| id.as_bytes().to_vec()),
    )?;
    set_meta(db, &format!("{name}.at"), sql(at_ms))
}

/// SQLite's integers are signed; times and counts are far from the difference.
pub(super) fn sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests;
