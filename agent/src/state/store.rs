//! The tables, and what is read from them. One call of [`Store::apply`] is one transaction; what each write does stands
//! in `txn`. It must not know threads, channels or what is done about failures.

use std::sync::Arc;

use muster_proto::id::JobId;
use muster_proto::job::JobResult;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::StateConfig;
use super::bounds::{Gap, too_old};
use super::open::Fault;
use super::record::{
    Begun, Class, JobRecord, Lane, NewEvent, NewJob, OutboxKey, OutboxRecord, Recovered,
    StoredMessage,
};
use super::tail::{self, TailBatch};
use super::txn::Txn;

/// Messages to send: (class, number) → message.
pub(super) const OUTBOX: TableDefinition<(u8, u64), &[u8]> = TableDefinition::new("outbox");
/// Jobs by id.
pub(super) const JOBS: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("jobs");
/// Jobs that are not finished.
pub(super) const OPEN_JOBS: TableDefinition<&[u8; 16], ()> = TableDefinition::new("open_jobs");
/// Jobs by the time until which they may come again: (milliseconds since 1970, id).
pub(super) const JOBS_BY_DEADLINE: TableDefinition<(u64, &[u8; 16]), ()> =
    TableDefinition::new("jobs_by_deadline");
/// Named records: [`COUNTERS`].
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

pub(super) const COUNTERS: &str = "counters";

/// How long a job is remembered after its deadline: clocks may be set back by less.
pub(super) const REMEMBER_MS: u64 = 24 * 3600 * 1000;

/// Most messages in one page of the outbox.
const PAGE_RECORDS_MAX: usize = 512;

/// What is counted in the file; saved with every transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counters {
    /// How often an agent opened the file.
    pub(super) agent_run: u64,
    /// Number of the last event.
    pub(super) event_seq: u64,
    /// Number of the last message.
    pub(super) outbox_seq: u64,
    /// Messages in the outbox.
    pub(super) records: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Messages that the bounds have dropped.
    pub(super) dropped: u64,
    /// Jobs remembered.
    pub(super) jobs: u64,
    /// Dropped and not announced.
    pub(super) gap: Gap,
    /// When a gap was last announced.
    pub(super) gap_at_ms: u64,
    /// Which jobs were done before this time is not known any more: the file that knew was damaged.
    pub(super) jobs_lost_before_ms: u64,
}

/// One write of a transaction.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Events(Vec<NewEvent>),
    Finish(Box<JobResult>),
    Tail(Arc<TailBatch>),
    Delete(Vec<OutboxKey>),
    Begin(Box<NewJob>),
    Start(JobId, u64),
    CancelAhead(JobId),
    Recover,
    Dropped(Gap),
    /// A file was damaged at this time, and this one begun.
    JobsLost(u64),
    /// Drop what is too old, forget what need not be remembered.
    Sweep,
}

/// What a write gave.
#[derive(Debug)]
pub(super) enum Applied {
    Done,
    Begun(Begun),
    Flag(bool),
    Recovered(Recovered),
}

/// The open database.
pub(super) struct Store {
    database: Database,
    config: StateConfig,
    pub(super) counters: Counters,
}

impl Store {
    /// Takes a database over: makes its tables, reads its counters, begins a new run of the agent if it is one.
    pub(super) fn new(
        database: Database,
        config: &StateConfig,
        new_run: bool,
    ) -> Result<Self, Fault> {
        let write = database.begin_write()?;
        let mut counters: Counters = {
            let meta = write.open_table(META)?;
            let found = meta.get(COUNTERS)?;
            match found {
                None => Counters::default(),
                Some(bytes) => decode(bytes.value())?,
            }
        };
        if new_run {
            counters.agent_run += 1;
        }
        Txn::new(&write, config, counters.clone())?.save()?;
        tail::make_tables(&write)?;
        write.commit()?;
        Ok(Self {
            database,
            config: config.clone(),
            counters,
        })
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Applies all writes, or none.
    pub(super) fn apply(&mut self, ops: &[Op], now_ms: u64) -> Result<Vec<Applied>, Fault> {
        let write = self.database.begin_write()?;
        let mut txn = Txn::new(&write, &self.config, self.counters.clone())?;
        let mut applied = Vec::with_capacity(ops.len());
        for op in ops {
            applied.push(txn.apply(op, now_ms)?);
        }
        txn.keep_bounds(now_ms)?;
        let counters = txn.save()?;
        write.commit()?;
        self.counters = counters;
        Ok(applied)
    }

    /// Whether a sweep would find anything.
    pub(super) fn needs_sweep(&self, now_ms: u64) -> Result<bool, Fault> {
        if self.counters.gap.records > 0 {
            return Ok(true);
        }
        let read = self.database.begin_read()?;
        let outbox = read.open_table(OUTBOX)?;
        for class in Class::ALL {
            if let Some(first) = outbox.range(whole(class))?.next() {
                let (_, value) = first?;
                if too_old(
                    decode::<StoredMessage>(value.value())?.accepted_at_ms,
                    now_ms,
                    self.config.outbox_age_max_ms,
                ) {
                    return Ok(true);
                }
            }
        }
        let by_deadline = read.open_table(JOBS_BY_DEADLINE)?;
        let first = by_deadline.first()?;
        Ok(first.is_some_and(|(key, _)| key.value().0.saturating_add(REMEMBER_MS) < now_ms))
    }

    pub(super) fn job(&self, job: JobId) -> Result<Option<JobRecord>, Fault> {
        let jobs = self.database.begin_read()?.open_table(JOBS)?;
        let found = jobs.get(job.as_bytes())?;
        found.map(|bytes| decode(bytes.value())).transpose()
    }

    /// The next messages of a lane, by number.
    pub(super) fn next(
        &self,
        lane: Lane,
        after: u64,
        bytes_max: usize,
    ) -> Result<Vec<OutboxRecord>, Fault> {
        let outbox = self.database.begin_read()?.open_table(OUTBOX)?;
        let from = after.saturating_add(1);
        let mut classes: Vec<_> = Vec::new();
        for class in lane.classes() {
            classes.push((
                *class,
                outbox
                    .range((*class as u8, from)..=(*class as u8, u64::MAX))?
                    .peekable(),
            ));
        }
        let mut page = Vec::new();
        let mut bytes = 0;
        while page.len() < PAGE_RECORDS_MAX {
            let next = classes.iter_mut().filter_map(|(class, range)| {
                let seq = match range.peek()? {
                    Ok((key, _)) => key.value().1,
                    Err(_) => 0, // comes out of `next` below
                };
                Some((seq, *class, range))
            });
            let Some((seq, class, range)) = next.min_by_key(|(seq, ..)| *seq) else {
                break;
            };
            let Some(item) = range.next() else { break };
            let (_, value) = item?;
            let stored: StoredMessage = decode(value.value())?;
            bytes += stored.body.len();
            if bytes > bytes_max && !page.is_empty() {
                break;
            }
            let kind = stored.kind.clone();
            match stored.into_message() {
                Some(message) => page.push(OutboxRecord {
                    key: OutboxKey { class, seq },
                    message,
                }),
                None => tracing::error!(
                    seq,
                    kind,
                    "a stored message is of no kind that can be sent; it stays until it is too old"
                ),
            }
        }
        Ok(page)
    }
}

pub(super) fn whole(class: Class) -> std::ops::RangeInclusive<(u8, u64)> {
    (class as u8, 0)..=(class as u8, u64::MAX)
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Fault> {
    rmp_serde::to_vec_named(value)
        .map_err(|error| Fault::Passing(format!("could not encode a record: {error}")))
}

pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| Fault::Damaged(format!("a record does not decode: {error}")))
}
