//! Questions to the file: hosts, jobs, and where each host of a job stands. It changes nothing.

use std::collections::BTreeMap;

use muster_proto::id::{HostId, JobId};
use muster_proto::job::{HostState, JobRequest};
use muster_proto::presence::Presence;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fold::Answer;
use super::standing::{JobTimes, Standing};
use super::store::{Store, StoreError, number, sql};

/// A host that the ledger or the presence stream knows.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    /// The host.
    pub host: HostId,
    /// When it was enrolled, where the ledger has seen it.
    pub enrolled_ms: Option<u64>,
    /// When it was retired; such a host is no target.
    pub retired_ms: Option<u64>,
    /// When its agent was last started, by its own clock.
    pub started_ms: Option<u64>,
    /// Version, labels and facts as its agent's last start said them.
    pub at_start: Option<AtStart>,
    /// Its newest presence, and when that came in.
    pub presence: Option<(Presence, u64)>,
}

/// What an agent said at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtStart {
    /// The agent's version.
    pub version: String,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// What the agent found out.
    pub facts: BTreeMap<String, String>,
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// The request.
    pub request: JobRequest,
    /// The broker user that opened it.
    pub user: String,
    /// When the controller meant to stop waiting.
    pub wait_until_ms: u64,
    /// Whether it was rolled out in batches.
    pub rollout: bool,
    /// When the controller was done with it.
    pub closed_ms: Option<u64>,
    /// The rule that stopped its rollout.
    pub stopped_by: Option<String>,
}

impl JobRow {
    /// What decides whether an answer is late.
    #[must_use]
    pub const fn times(&self) -> JobTimes {
        JobTimes {
            wait_until_ms: self.wait_until_ms,
            deliver_by_ms: self.request.deliver_by_ms,
            run_limit_ms: self.request.run_limit_ms,
            closed: self.closed_ms.is_some(),
        }
    }
}

/// What a text that shall name a job names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// One job.
    One(JobId),
    /// None.
    Nothing,
    /// More than one; some of them.
    Many(Vec<JobId>),
}

impl Store {
    /// Every host that was ever seen, by name.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn hosts(&mut self) -> Result<Vec<HostRow>, StoreError> {
        self.run("read the hosts", |db| {
            db.prepare_cached(
                "SELECT host, enrolled_ms, retired_ms, started_ms, version, labels, facts, seen_ms, presence
                 FROM hosts ORDER BY host",
            )?
            .query_map([], host_row)?
            .collect()
        })
    }

    /// Hosts that were taken out of the fleet and are not back.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn retired(&mut self) -> Result<Vec<HostId>, StoreError> {
        self.run("read the retired hosts", |db| {
            db.prepare_cached("SELECT host FROM hosts WHERE retired_ms IS NOT NULL")?
                .query_map([], |row| parsed(row, 0))?
                .collect()
        })
    }

    /// Jobs issued since `since_ms`, newest first, at most `count`.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn jobs(&mut self, since_ms: u64, count: usize) -> Result<Vec<JobRow>, StoreError> {
        let count = sql(count as u64);
        self.run("read the jobs", |db| {
            db.prepare_cached(&format!(
                "{SELECT_JOB} WHERE issued_ms >= ?1 ORDER BY issued_ms DESC, job DESC LIMIT ?2"
            ))?
            .query_map(params![sql(since_ms), count], job_row)?
            .collect()
        })
    }

    /// One job.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn job(&mut self, job: JobId) -> Result<Option<JobRow>, StoreError> {
        self.run("read a job", |db| {
            db.prepare_cached(&format!("{SELECT_JOB} WHERE job = ?1"))?
                .query_row([job.to_string()], job_row)
                .optional()
        })
    }

    /// Where each host of a job stands, by name; the surprises among them are not `targeted`.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn standings(&mut self, job: JobId) -> Result<BTreeMap<HostId, Standing>, StoreError> {
        self.run("read a job's hosts", |db| {
            db.prepare_cached(&format!(
                "{SELECT_STANDING} WHERE job = (SELECT row FROM jobs WHERE job = ?1) ORDER BY host"
            ))?
            .query_map([job.to_string()], |row| {
                Ok((parsed(row, 0)?, standing(row)?))
            })?
            .collect()
        })
    }

    /// The job that `text` names: a whole id, the beginning or the end of one, or `last`.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn find_job(&mut self, text: &str) -> Result<Found, StoreError> {
        let text = text.to_ascii_lowercase();
        let exact: Vec<JobId> = self.run("look for a job", |db| {
            if text == "last" {
                return ids(db, "SELECT job FROM jobs WHERE ?1 = 'last' ORDER BY issued_ms DESC, job DESC LIMIT 1", &text);
            }
            // The text is compared, not a pattern: what it may hold is no concern of SQL's.
            ids(
                db,
                "SELECT job FROM jobs WHERE substr(job, 1, length(?1)) = ?1 OR substr(job, -length(?1)) = ?1
                 ORDER BY issued_ms DESC LIMIT 6",
                &text,
            )
        })?;
        Ok(match exact.as_slice() {
            _ if text.is_empty() => Found::Nothing,
            [] => Found::Nothing,
            [one] => Found::One(*one),
            many => Found::Many(many.to_vec()),
        })
    }

    /// How many messages were left out, by reason.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn counters(&mut self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.run("read the counters", |db| {
            db.prepare_cached("SELECT name, count FROM counters")?
                .query_map([], |row| Ok((row.get(0)?, number(row.get(1)?))))?
                .collect()
        })
    }
}

const SELECT_JOB: &str =
    "SELECT request, user, wait_until_ms, rollout, closed_ms, stopped_by FROM jobs";

const SELECT_STANDING: &str =
    "SELECT host, targeted, away, state, late, changed_ms, code, message, data, data_bytes,
    received_ms, started_ms, finished_ms FROM job_hosts";

/// The row of a job, and what decides whether an answer is late.
pub(super) fn standing_times(
    db: &Connection,
    job: JobId,
) -> rusqlite::Result<Option<(i64, JobTimes)>> {
    db.prepare_cached("SELECT row, wait_until_ms, deliver_by_ms, run_limit_ms, closed_ms FROM jobs WHERE job = ?1")?
        .query_row([job.to_string()], |row| {
            let times = JobTimes {
                wait_until_ms: number(row.get(1)?),
                deliver_by_ms: number(row.get(2)?),
                run_limit_ms: number(row.get(3)?),
                closed: row.get::<_, Option<i64>>(4)?.is_some(),
            };
            Ok((row.get(0)?, times))
        })
        .optional()
}

pub(super) fn known_standing(
    db: &Connection,
    row: i64,
    host: &HostId,
) -> rusqlite::Result<Option<Standing>> {
    db.prepare_cached(&format!("{SELECT_STANDING} WHERE job = ?1 AND host = ?2"))?
        .query_row(params![row, host.as_str()], standing)
        .optional()
}

fn ids(db: &Connection, query: &str, text: &str) -> rusqlite::Result<Vec<JobId>> {
    db.prepare_cached(query)?
        .query_map([text], |row| parsed(row, 0))?
        .collect()
}

fn unreadable(
    column: usize,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|_| unreadable(column, format!("{text:?} is not what stands here")))
}

fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(column, error)))
        .transpose()
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(number))
}

fn host_row(row: &Row<'_>) -> rusqlite::Result<HostRow> {
    let at_start = match row.get::<_, Option<String>>(4)? {
        None => None,
        Some(version) => Some(AtStart {
            version,
            labels: json(row, 5)?.unwrap_or_default(),
            facts: json(row, 6)?.unwrap_or_default(),
        }),
    };
    let presence = json::<Presence>(row, 8)?.zip(time(row, 7)?);
    Ok(HostRow {
        host: parsed(row, 0)?,
        enrolled_ms: time(row, 1)?,
        retired_ms: time(row, 2)?,
        started_ms: time(row, 3)?,
        at_start,
        presence,
    })
}

fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let request = json(row, 0)?.ok_or_else(|| unreadable(0, "a job without its request"))?;
    Ok(JobRow {
        request,
        user: row.get(1)?,
        wait_until_ms: number(row.get(2)?),
        rollout: row.get(3)?,
        closed_ms: time(row, 4)?,
        stopped_by: row.get(5)?,
    })
}

fn standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    let name: String = row.get(3)?;
    let state = HostState::ALL
        .into_iter()
        .find(|state| state.name() == name)
        .ok_or_else(|| unreadable(3, format!("there is no state {name:?}")))?;
    let code: Option<String> = row.get(6)?;
    let message: Option<String> = row.get(7)?;
    let answer = match time(row, 12)? {
        None => None,
        Some(finished_at_ms) => Some(Answer {
            data: row.get::<_, Option<String>>(8)?.unwrap_or_default(),
            data_bytes: time(row, 9)?.unwrap_or(0),
            received_at_ms: time(row, 10)?.unwrap_or(0),
            started_at_ms: time(row, 11)?,
            finished_at_ms,
        }),
    };
    Ok(Standing {
        state,
        late: row.get(4)?,
        away: row.get(2)?,
        targeted: row.get(1)?,
        reason: code.zip(message),
        answer,
        changed_at_ms: time(row, 5)?.unwrap_or(0),
    })
}
