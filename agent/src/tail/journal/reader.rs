//! Follows the journal for one section: starts `journalctl`, starts it again where it ends, and commits what it said with
//! its cursor. It must not know where batches go.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_proto::event::Severity;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::export::Export;
use super::{Begin, JournalSource};
use crate::tail::{
    AlertStates, Batch, Line, Matcher, RateLimits, SectionCounters, Sink, SinkError, SourceInfo,
    TailEvent,
};

/// How long events wait for more of them.
const GATHER: Duration = Duration::from_millis(100);

/// How often a cursor is committed while nothing happens: what is read again after a kill.
const CURSOR_INTERVAL: Duration = Duration::from_secs(5);

/// Events in one commit.
const EVENTS_MAX: usize = 1_000;

/// First and longest pause before `journalctl` is started again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// One that has run for so long has worked.
const HAS_WORKED: Duration = Duration::from_secs(10);

const READ_BYTES: usize = 64 * 1024;
const STDERR_BYTES_MAX: u64 = 4096;

/// The record of where the reader stands.
const CURSOR: &[u8] = b"cursor";

/// The journal, followed for one section.
pub struct Journal {
    /// The section's name.
    pub section: String,
    /// What is read.
    pub source: JournalSource,
    /// Whether a section that is new begins with everything that is there.
    pub from_begin: bool,
    /// The section's rules.
    pub matcher: Arc<dyn Matcher>,
    /// What is counted while it is followed.
    pub counters: Arc<SectionCounters>,
    /// Where events and cursor go.
    pub sink: Arc<dyn Sink>,
    /// The time in milliseconds since 1970.
    pub now_ms: fn() -> u64,
}

/// Where the reader stands, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stand {
    cursor: String,
    realtime_us: u64,
}

/// What is held between commits.
struct Follower {
    journal: Journal,
    writer: String,
    info: SourceInfo,
    seq: u64,
    stand: Stand,
    moved: bool,
    committed: Instant,
    renewals: u64,
    alerts: AlertStates,
    limits: RateLimits,
    events: Vec<TailEvent>,
    /// Entries from before this are no news to a new section.
    skip_before_us: u64,
}

impl Journal {
    /// Follows the journal until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        let work = async {
            let Some(mut follower) = Follower::load(self).await else {
                return;
            };
            follower.run(&stop).await;
        };
        tokio::select! {
            () = work => {}
            // What was read and not committed is read again.
            () = stopped_for_good(&stop) => {}
        }
    }
}

/// A moment after the stop, for a last commit.
async fn stopped_for_good(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(Duration::from_secs(2)).await;
}

impl Follower {
    async fn load(journal: Journal) -> Option<Self> {
        let writer = format!("journal:{}", journal.section);
        let stored = loop {
            match journal.sink.load(&writer).await {
                Ok(stored) => break stored,
                Err(SinkError::Closed) => return None,
                Err(SinkError::NotNow(why)) => {
                    tracing::warn!(
                        section = journal.section,
                        why,
                        "could not load the journal's cursor"
                    );
                    sleep(PAUSES.0).await;
                }
            }
        };
        let record = stored.cursors.iter().find(|(key, _)| key == CURSOR);
        let stand = record.and_then(|(_, record)| serde_json::from_slice(record).ok());
        let alerts = stored
            .alerts
            .into_iter()
            .filter(|((section, _), _)| *section == journal.section);
        let new_at_us = (journal.now_ms)().saturating_mul(1000);
        Some(Self {
            skip_before_us: if stand.is_none() && !journal.from_begin {
                new_at_us
            } else {
                0
            },
            info: SourceInfo {
                section: journal.section.clone(),
                origin: "journal".to_owned(),
            },
            alerts: AlertStates::load(alerts.map(|((_, key), record)| (key, record))),
            limits: RateLimits::default(),
            journal,
            writer,
            seq: stored.seq,
            stand: stand.unwrap_or_default(),
            moved: false,
            committed: Instant::now(),
            renewals: 0,
            events: Vec::new(),
        })
    }

    async fn run(&mut self, stop: &CancellationToken) {
        let mut pause = PAUSES.0;
        let mut from = match (self.stand.cursor.as_str(), self.journal.from_begin) {
            ("", true) => Begin::First,
            ("", false) => Begin::End,
            (cursor, _) => Begin::Cursor(cursor.to_owned()),
        };
        while !stop.is_cancelled() {
            let began = Instant::now();
            let outcome = self.follow_once(&from, stop).await;
            let Ok(why) = outcome else { return };
            if stop.is_cancelled() {
                break;
            }
            let worked = began.elapsed() >= HAS_WORKED;
            tracing::warn!(
                section = self.journal.section,
                why,
                "journalctl has ended and is started again"
            );
            let refused = matches!(from, Begin::Cursor(_)) && !self.moved && why.contains("cursor");
            if refused {
                // The entry is of a journal that is gone: go on by the time.
                self.lost(&why);
                from = Begin::Time(self.stand.realtime_us);
            } else if !self.stand.cursor.is_empty() {
                from = Begin::Cursor(self.stand.cursor.clone());
            }
            pause = if worked {
                PAUSES.0
            } else {
                (pause * 2).min(PAUSES.1)
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        _ = self.commit().await;
    }

    /// Runs `journalctl` until it ends: why it did.
    async fn follow_once(
        &mut self,
        from: &Begin,
        stop: &CancellationToken,
    ) -> Result<String, SinkError> {
        let source = &self.journal.source;
        let Some(program) = source.program.first() else {
            return Ok("no program is named".to_owned());
        };
        let spawned = Command::new(program)
            .args(source.arguments(from))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return Ok(format!("start {program}: {error}")),
        };
        let Some(mut stdout) = child.stdout.take() else {
            return Ok("its output can't be read".to_owned());
        };
        let mut export = Export::default();
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let read = tokio::select! {
                read = timeout(self.wait(), stdout.read(&mut bytes)) => read,
                () = stop.cancelled() => return Ok("the agent is stopping".to_owned()),
            };
            match read {
                Ok(Ok(0)) => break,
                Ok(Err(error)) => return Ok(format!("read its output: {error}")),
                Ok(Ok(read)) => {
                    export.push(bytes.get(..read).unwrap_or_default());
                    while let Some(entry) = export.next() {
                        self.take(&entry);
                        if self.events.len() >= EVENTS_MAX {
                            self.commit().await?;
                        }
                    }
                }
                Err(_) => self.commit().await?,
            }
            let now_ms = (self.journal.now_ms)();
            self.journal
                .matcher
                .tick(now_ms, &mut self.alerts, &mut self.limits, &mut self.events);
        }
        self.commit().await?;
        Ok(last_words(&mut child).await)
    }

    /// How long to wait for more before there is something to commit.
    fn wait(&self) -> Duration {
        if !self.events.is_empty() {
            GATHER
        } else if self.moved {
            CURSOR_INTERVAL
                .saturating_sub(self.committed.elapsed())
                .max(GATHER)
        } else {
            Duration::from_secs(1)
        }
    }

    fn take(&mut self, entry: &super::export::Entry) {
        self.stand = Stand {
            cursor: entry.cursor.clone(),
            realtime_us: entry.realtime_us,
        };
        self.moved = true;
        if entry.realtime_us < self.skip_before_us || !self.journal.source.wants(entry) {
            return;
        }
        let bytes = entry.line();
        let counters = &self.journal.counters;
        count(&counters.bytes, bytes.len());
        count(&counters.lines, 1);
        count(&counters.truncated, usize::from(entry.truncated));
        let events = self.events.len();
        let line = Line {
            bytes: &bytes,
            truncated: entry.truncated,
            at_ms: entry.realtime_us / 1000,
            source: &self.info,
        };
        self.journal
            .matcher
            .apply(&line, &mut self.alerts, &mut self.limits, &mut self.events);
        count(&self.journal.counters.events, self.events.len() - events);
    }

    fn lost(&mut self, why: &str) {
        self.events.push(TailEvent {
            topic: "agent.log.cursor_lost".to_owned(),
            severity: Severity::Warning,
            summary: format!("the journal no longer has the entry that was read last: {why}"),
            key: self.journal.section.clone(),
            before: Value::Null,
            after: Value::Null,
            fields: [("section".to_owned(), self.journal.section.as_str().into())].into(),
            at_ms: (self.journal.now_ms)(),
        });
    }

    /// Commits what there is; waits for as long as there is no room.
    async fn commit(&mut self) -> Result<(), SinkError> {
        let changed = self.alerts.take_changed();
        let idle = self.events.is_empty() && changed.is_empty();
        if !self.moved && idle {
            return Ok(());
        }
        let section = &self.journal.section;
        let batch = Batch {
            writer: self.writer.clone(),
            seq: self.seq + 1,
            events: std::mem::take(&mut self.events),
            // Two plain fields can be encoded.
            cursors: vec![(
                CURSOR.to_vec(),
                Some(serde_json::to_vec(&self.stand).unwrap_or_default()),
            )],
            alerts: changed
                .into_iter()
                .map(|(key, record)| ((section.clone(), key), record))
                .collect(),
        };
        let mut pause = PAUSES.0;
        let renewals = loop {
            match self.journal.sink.commit(&batch).await {
                Ok(renewals) => break renewals,
                Err(SinkError::Closed) => return Err(SinkError::Closed),
                Err(SinkError::NotNow(why)) => {
                    tracing::warn!(section, why, "the journal's events wait for the store");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        };
        if renewals > self.renewals {
            self.renewals = renewals;
            self.alerts.mark_all_changed();
        }
        self.seq += 1;
        self.moved = false;
        self.committed = Instant::now();
        Ok(())
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// What a program that has ended said last, or how it ended.
async fn last_words(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        _ = timeout(Duration::from_secs(1), read_some(stderr, &mut said)).await;
    }
    let said = String::from_utf8_lossy(&said);
    let status = match timeout(Duration::from_secs(1), child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        _ => "it has not ended".to_owned(),
    };
    match said.lines().last().map(str::trim) {
        Some(line) if !line.is_empty() => format!("{line} ({status})"),
        _ => status,
    }
}

async fn read_some(stderr: impl AsyncRead + Unpin, said: &mut Vec<u8>) {
    _ = stderr.take(STDERR_BYTES_MAX).read_to_end(said).await;
}
