//! Changes as rows: the tables, and how each change of [`super::fold`] is written to them, within the caller's transaction.

use muster_proto::id::HostId;
use rusqlite::{Connection, Transaction, params};

use super::fold::{Change, Entry, HostWord, Note, Opening, Sighting, Word, fold};
use super::read::{known_standing, standing_times};
use super::standing::Standing;
use super::store::{meta, number, set_meta, sql};

/// Jobs are kept for as long as the stream keeps them: thirty days.
pub const KEPT_MS: u64 = 30 * 24 * 3600 * 1000;

/// Hosts in jobs that are kept: 200 jobs to 5,000 hosts, or 100,000 to ten; some 300 MB at 300 bytes each.
pub const KEPT_ROWS: u64 = 1_000_000;

/// Old jobs are looked for this often.
const PRUNE_EVERY_MS: u64 = 3600 * 1000;

const TABLES: &str = "
    DROP TABLE IF EXISTS meta; DROP TABLE IF EXISTS counters; DROP TABLE IF EXISTS seen; DROP TABLE IF EXISTS jobs;
    DROP TABLE IF EXISTS job_hosts; DROP TABLE IF EXISTS hosts;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE seen (message BLOB PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE jobs (
        row INTEGER PRIMARY KEY, job TEXT NOT NULL UNIQUE, user TEXT NOT NULL, request BLOB NOT NULL,
        issued_ms INTEGER NOT NULL, deliver_by_ms INTEGER NOT NULL, run_limit_ms INTEGER NOT NULL,
        wait_until_ms INTEGER NOT NULL, rollout INTEGER NOT NULL, closed_ms INTEGER, stopped_by TEXT);
    CREATE INDEX jobs_issued ON jobs (issued_ms);
    CREATE TABLE job_hosts (
        job INTEGER NOT NULL, host TEXT NOT NULL, targeted INTEGER NOT NULL, away INTEGER NOT NULL,
        state TEXT NOT NULL, late INTEGER NOT NULL DEFAULT 0, changed_ms INTEGER NOT NULL DEFAULT 0,
        code TEXT, message TEXT, data TEXT, data_bytes INTEGER, received_ms INTEGER, started_ms INTEGER,
        finished_ms INTEGER, PRIMARY KEY (job, host)) WITHOUT ROWID;
    CREATE TABLE hosts (
        host TEXT PRIMARY KEY, enrolled_ms INTEGER, retired_ms INTEGER, started_ms INTEGER, version TEXT,
        labels TEXT, facts TEXT, seen_ms INTEGER, presence TEXT) WITHOUT ROWID;
";

pub(super) fn make_tables(change: &Transaction<'_>, generation: i64) -> rusqlite::Result<()> {
    change.execute_batch(TABLES)?;
    change.execute("INSERT INTO meta VALUES ('generation', ?1)", [generation])?;
    Ok(())
}

pub(super) fn apply_entry(
    change: &Transaction<'_>,
    entry: &Entry,
    now_ms: u64,
) -> rusqlite::Result<()> {
    // A dead letter has the id of the job's message, which many queues may let go: each is another message.
    if let Some(id) = entry.message_id.filter(|_| entry.death.is_none()) {
        let new = change
            .prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1, ?2)")?
            .execute(params![id.as_bytes().as_slice(), sql(now_ms)])?;
        if new == 0 {
            return count(change, "duplicate");
        }
    }
    let is_host = |user: &str| is_host(change, user);
    match fold(entry, &is_host) {
        Ok(changes) => changes.iter().try_for_each(|one| apply_change(change, one)),
        Err(ignored) => count(change, ignored.name()),
    }
}

fn is_host(db: &Connection, user: &str) -> bool {
    db.prepare_cached("SELECT 1 FROM hosts WHERE host = ?1")
        .and_then(|mut query| query.exists([user]))
        .unwrap_or(true)
}

fn count(db: &Connection, name: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO counters VALUES (?1, 1) ON CONFLICT (name) DO UPDATE SET count = count + 1",
    )?
    .execute([name])?;
    Ok(())
}

fn apply_change(change: &Transaction<'_>, one: &Change) -> rusqlite::Result<()> {
    match one {
        Change::Open(opening) => open_job(change, opening),
        Change::Observe(sighting) => observe(change, sighting),
        Change::Note(note) => note_job(change, note),
        Change::Host(word) => host_word(change, word),
    }
}

fn open_job(change: &Transaction<'_>, opening: &Opening) -> rusqlite::Result<()> {
    let request = &opening.request;
    let body = serde_json::to_string(request).unwrap_or_default();
    let new = change.execute(
        "INSERT OR IGNORE INTO jobs (job, user, request, issued_ms, deliver_by_ms, run_limit_ms, wait_until_ms, rollout)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            request.id.to_string(), opening.user, body, sql(request.issued_at_ms), sql(request.deliver_by_ms),
            sql(request.run_limit_ms), sql(opening.wait_until_ms), opening.rollout
        ],
    )?;
    if new == 0 {
        return count(change, "duplicate"); // an id is opened once: nobody adds hosts to a job that is there
    }
    let row = change.last_insert_rowid();
    for host in &opening.hosts {
        let standing = Standing::new(true, opening.away.contains(host), opening.rollout);
        put_standing(change, row, host, &standing)?;
    }
    Ok(())
}

fn observe(change: &Transaction<'_>, sighting: &Sighting) -> rusqlite::Result<()> {
    let Some((row, times)) = standing_times(change, sighting.job)? else {
        return count(change, "unknown-job"); // opened before the time that was read from
    };
    let known = known_standing(change, row, &sighting.host)?;
    let mut standing = known.unwrap_or_else(|| Standing::new(false, false, false));
    if standing.observe(times, sighting) {
        put_standing(change, row, &sighting.host, &standing)?;
    }
    Ok(())
}

fn put_standing(
    change: &Transaction<'_>,
    row: i64,
    host: &HostId,
    standing: &Standing,
) -> rusqlite::Result<()> {
    let (code, message) = standing
        .reason
        .as_ref()
        .map_or((None, None), |(code, text)| (Some(code), Some(text)));
    let answer = standing.answer.as_ref();
    change
        .prepare_cached(
            "INSERT OR REPLACE INTO job_hosts (job, host, targeted, away, state, late, changed_ms, code, message, data,
                 data_bytes, received_ms, started_ms, finished_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            row, host.as_str(), standing.targeted, standing.away, standing.state.name(), standing.late,
            sql(standing.changed_at_ms), code, message,
            answer.map(|answer| answer.data.as_str()), answer.map(|answer| sql(answer.data_bytes)),
            answer.map(|answer| sql(answer.received_at_ms)), answer.and_then(|answer| answer.started_at_ms).map(sql),
            answer.map(|answer| sql(answer.finished_at_ms))
        ])?;
    Ok(())
}

fn note_job(change: &Transaction<'_>, note: &Note) -> rusqlite::Result<()> {
    let closed = note.closed.then_some(sql(note.at_ms));
    change.execute(
        "UPDATE jobs SET closed_ms = coalesce(closed_ms, ?2), stopped_by = coalesce(stopped_by, ?3) WHERE job = ?1",
        params![note.job.to_string(), closed, note.stopped_by],
    )?;
    Ok(())
}

fn host_word(change: &Transaction<'_>, word: &HostWord) -> rusqlite::Result<()> {
    let (host, at) = (word.host.as_str(), sql(word.at_ms));
    change.execute("INSERT OR IGNORE INTO hosts (host) VALUES (?1)", [host])?;
    match &word.word {
        Word::Enrolled => {
            change.execute(
                "UPDATE hosts SET enrolled_ms = ?2, retired_ms = NULL WHERE host = ?1",
                params![host, at],
            )?;
        }
        Word::Retired => {
            change.execute(
                "UPDATE hosts SET retired_ms = ?2, presence = NULL WHERE host = ?1",
                params![host, at],
            )?;
        }
        Word::Started {
            version,
            boot_id: _,
            labels,
            facts,
        } => {
            let json = |map| serde_json::to_string(map).unwrap_or_default();
            change.execute(
                "UPDATE hosts SET started_ms = ?2, version = ?3, labels = ?4, facts = ?5 WHERE host = ?1",
                params![host, at, version, json(labels), json(facts)],
            )?;
        }
        Word::Stopped => {}
    }
    Ok(())
}

/// Lets go of jobs that are too old, and of the oldest where there are too many rows.
pub(super) fn prune(change: &Transaction<'_>, now_ms: u64) -> rusqlite::Result<()> {
    let last: u64 = meta::<i64>(change, "pruned")?.map_or(0, number);
    if now_ms.saturating_sub(last) < PRUNE_EVERY_MS {
        return Ok(());
    }
    let oldest = sql(now_ms.saturating_sub(KEPT_MS));
    change.execute("DELETE FROM seen WHERE at_ms < ?1", [oldest])?;
    change.execute("DELETE FROM jobs WHERE issued_ms < ?1", [oldest])?;
    change.execute(
        "DELETE FROM jobs WHERE row IN (
             SELECT row FROM (SELECT jobs.row AS row, sum(count(job_hosts.host)) OVER (ORDER BY jobs.row DESC) AS total
                              FROM jobs LEFT JOIN job_hosts ON job_hosts.job = jobs.row GROUP BY jobs.row)
             WHERE total > ?1)",
        [sql(KEPT_ROWS)],
    )?;
    change.execute(
        "DELETE FROM job_hosts WHERE job NOT IN (SELECT row FROM jobs)",
        [],
    )?;
    set_meta(change, "pruned", sql(now_ms))
}
