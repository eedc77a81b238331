//! What each write does to the tables, within one transaction. Every write leaves outbox, jobs and counters agreeing
//! with each other. It must not know when it is committed.

use muster_proto::id::JobId;
use muster_proto::job::{DELIVER_WINDOW_MS_MAX, JobResult, Outcome, Reason, ReasonCode};
use redb::{ReadableTable, Table, WriteTransaction};
use serde_json::Value;

use super::bounds::{GAP_EVENT_EVERY_MS, too_old};
use super::open::Fault;
use super::record::{
    Begun, Class, JobRecord, JobStage, NewEvent, NewJob, OutMessage, OutboxKey, Recovered,
    StoredMessage, result_message,
};
use super::store::{
    Applied, COUNTERS, Counters, JOBS, JOBS_BY_DEADLINE, META, OPEN_JOBS, OUTBOX, Op, REMEMBER_MS,
    decode, encode, whole,
};
use super::{StateConfig, new_message_id, tail};

/// How long a job is remembered after its deadline while there are as many as may be: still well past any tolerance of
/// clocks.
const REMEMBER_PRESSED_MS: u64 = 3600 * 1000;

/// Jobs that are forgotten in one transaction at the most, so that none takes long.
const FORGET_MAX: usize = 1000;

/// Messages that are dropped for their age in one transaction at the most.
const AGED_MAX: usize = 1000;

/// One write transaction.
pub(super) struct Txn<'txn> {
    outbox: Table<'txn, (u8, u64), &'static [u8]>,
    jobs: Table<'txn, &'static [u8; 16], &'static [u8]>,
    open_jobs: Table<'txn, &'static [u8; 16], ()>,
    by_deadline: Table<'txn, (u64, &'static [u8; 16]), ()>,
    meta: Table<'txn, &'static str, &'static [u8]>,
    counters: Counters,
    config: &'txn StateConfig,
    write: &'txn WriteTransaction,
}

impl<'txn> Txn<'txn> {
    pub(super) fn new(
        write: &'txn WriteTransaction,
        config: &'txn StateConfig,
        counters: Counters,
    ) -> Result<Self, Fault> {
        Ok(Self {
            outbox: write.open_table(OUTBOX)?,
            jobs: write.open_table(JOBS)?,
            open_jobs: write.open_table(OPEN_JOBS)?,
            by_deadline: write.open_table(JOBS_BY_DEADLINE)?,
            meta: write.open_table(META)?,
            counters,
            config,
            write,
        })
    }

    /// Saves the counters; the last thing before the commit.
    pub(super) fn save(mut self) -> Result<Counters, Fault> {
        let bytes = encode(&self.counters)?;
        self.meta.insert(COUNTERS, bytes.as_slice())?;
        Ok(self.counters)
    }

    pub(super) fn apply(&mut self, op: &Op, now_ms: u64) -> Result<Applied, Fault> {
        Ok(match op {
            Op::Events(events) => {
                self.put_events(events, now_ms)?;
                Applied::Done
            }
            Op::Tail(batch) => {
                if tail::put(self.write, batch)? {
                    self.put_events(&batch.events, now_ms)?;
                }
                Applied::Done
            }
            Op::Finish(result) => {
                self.finish(result, now_ms)?;
                Applied::Done
            }
            Op::Delete(keys) => {
                for key in keys {
                    self.take(*key)?;
                }
                Applied::Done
            }
            Op::Begin(job) => Applied::Begun(self.begin(job, now_ms)?),
            Op::Start(job, at_ms) => {
                self.start(*job, *at_ms)?;
                Applied::Done
            }
            Op::CancelAhead(job) => Applied::Flag(self.cancel_ahead(*job, now_ms)?),
            Op::Recover => Applied::Recovered(self.recover(now_ms)?),
            Op::Dropped(gap) => {
                self.counters.dropped += gap.records;
                self.counters.gap.merge(gap.clone());
                Applied::Done
            }
            Op::JobsLost(at_ms) => {
                self.counters.jobs_lost_before_ms = *at_ms;
                // Above all numbers of the file that is lost: nobody has had an event for each millisecond.
                self.counters.event_seq = self.counters.event_seq.max(*at_ms);
                Applied::Done
            }
            Op::Sweep => {
                self.drop_old(now_ms)?;
                self.forget(now_ms, REMEMBER_MS)?;
                Applied::Done
            }
        })
    }

    /// Drops what is too much and announces what was dropped.
    pub(super) fn keep_bounds(&mut self, now_ms: u64) -> Result<(), Fault> {
        for class in Class::ALL {
            while self.counters.bytes > self.config.outbox_bytes_max {
                let Some(key) = self.oldest(class)? else {
                    break;
                };
                self.drop_message(key, false)?;
            }
        }
        let last = self.counters.gap_at_ms;
        if self.counters.gap.records > 0 && (last > now_ms || now_ms - last >= GAP_EVENT_EVERY_MS) {
            let gap = std::mem::take(&mut self.counters.gap);
            self.counters.gap_at_ms = now_ms;
            // Among the last to be dropped, whatever its severity.
            self.put_event(gap.event(now_ms), Class::Critical, now_ms)?;
        }
        Ok(())
    }

    fn put_events(&mut self, events: &[NewEvent], now_ms: u64) -> Result<(), Fault> {
        for event in events {
            self.put_event(event.clone(), Class::of(event.severity), now_ms)?;
        }
        Ok(())
    }

    fn put_event(&mut self, event: NewEvent, class: Class, now_ms: u64) -> Result<(), Fault> {
        let seq = self.counters.event_seq + 1;
        let topic = event.topic.clone();
        match event.into_message(&self.config.host, seq, new_message_id(now_ms)) {
            Ok(message) => {
                self.counters.event_seq = seq;
                self.put(message, class, now_ms)
            }
            Err(error) => {
                tracing::error!(topic, %error, "an event could not be made a message and is lost");
                Ok(())
            }
        }
    }

    fn put(&mut self, message: OutMessage, class: Class, now_ms: u64) -> Result<(), Fault> {
        let bytes = encode(&StoredMessage::of(message, now_ms))?;
        self.counters.outbox_seq += 1;
        self.counters.records += 1;
        self.counters.bytes += bytes.len() as u64;
        self.outbox
            .insert((class as u8, self.counters.outbox_seq), bytes.as_slice())?;
        Ok(())
    }

    /// Takes a message out; its stored form, if it was there.
    fn take(&mut self, key: OutboxKey) -> Result<Option<Vec<u8>>, Fault> {
        let Some(bytes) = self
            .outbox
            .remove((key.class as u8, key.seq))?
            .map(|value| value.value().to_vec())
        else {
            return Ok(None);
        };
        self.counters.records = self.counters.records.saturating_sub(1);
        self.counters.bytes = self.counters.bytes.saturating_sub(bytes.len() as u64);
        Ok(Some(bytes))
    }

    fn drop_message(&mut self, key: OutboxKey, aged: bool) -> Result<(), Fault> {
        if let Some(bytes) = self.take(key)? {
            let stored: StoredMessage = decode(&bytes)?;
            self.counters.dropped += 1;
            self.counters
                .gap
                .add(key.class, bytes.len() as u64, stored.accepted_at_ms, aged);
        }
        Ok(())
    }

    fn oldest(&self, class: Class) -> Result<Option<OutboxKey>, Fault> {
        let first = self.outbox.range(whole(class))?.next().transpose()?;
        Ok(first.map(|(key, _)| OutboxKey {
            class,
            seq: key.value().1,
        }))
    }

    fn drop_old(&mut self, now_ms: u64) -> Result<(), Fault> {
        let age_max_ms = self.config.outbox_age_max_ms;
        for class in Class::ALL {
            for _ in 0..AGED_MAX {
                let accepted_at_ms = match self.outbox.range(whole(class))?.next() {
                    None => break,
                    Some(first) => decode::<StoredMessage>(first?.1.value())?.accepted_at_ms,
                };
                let Some(key) = self.oldest(class)? else {
                    break;
                };
                if !too_old(accepted_at_ms, now_ms, age_max_ms) {
                    break;
                }
                self.drop_message(key, true)?;
            }
        }
        Ok(())
    }

    fn job(&self, job: JobId) -> Result<Option<JobRecord>, Fault> {
        let found = self.jobs.get(job.as_bytes())?;
        found.map(|bytes| decode(bytes.value())).transpose()
    }

    fn put_job(&mut self, job: JobId, record: &JobRecord) -> Result<(), Fault> {
        self.jobs
            .insert(job.as_bytes(), encode(record)?.as_slice())?;
        let open = matches!(record.stage, JobStage::Queued | JobStage::Started);
        if open {
            self.open_jobs.insert(job.as_bytes(), ())?;
        } else {
            self.open_jobs.remove(job.as_bytes())?;
        }
        Ok(())
    }

    /// Records a job that was not known.
    fn add_job(&mut self, job: JobId, record: &JobRecord) -> Result<(), Fault> {
        self.put_job(job, record)?;
        self.by_deadline
            .insert((record.deliver_by_ms, job.as_bytes()), ())?;
        self.counters.jobs += 1;
        Ok(())
    }

    fn begin(&mut self, new: &NewJob, now_ms: u64) -> Result<Begun, Fault> {
        if let Some(known) = self.job(new.id)? {
            return Ok(if known.stage == JobStage::CancelledAhead {
                Begun::CancelledAhead
            } else {
                Begun::Known(known)
            });
        }
        if new.issued_at_ms < self.counters.jobs_lost_before_ms {
            return Ok(Begun::Lost);
        }
        if !self.job_fits(now_ms)? {
            return Ok(Begun::Full);
        }
        let started = new.started_at_ms.is_some();
        let record = JobRecord {
            stage: if started {
                JobStage::Started
            } else {
                JobStage::Queued
            },
            action: new.action.clone(),
            idempotent: new.idempotent,
            dry_run: new.dry_run,
            received_at_ms: new.received_at_ms,
            deliver_by_ms: new.deliver_by_ms,
            started_at_ms: new.started_at_ms,
            finished_at_ms: None,
            outcome: None,
            agent_run: self.counters.agent_run,
            request: (!started || new.idempotent).then(|| new.request.clone()),
        };
        self.add_job(new.id, &record)?;
        Ok(Begun::New)
    }

    fn job_fits(&mut self, now_ms: u64) -> Result<bool, Fault> {
        if self.counters.jobs >= self.config.jobs_max {
            self.forget(now_ms, REMEMBER_PRESSED_MS)?;
        }
        Ok(self.counters.jobs < self.config.jobs_max)
    }

    fn start(&mut self, job: JobId, at_ms: u64) -> Result<(), Fault> {
        let Some(mut record) = self.job(job)? else {
            return Ok(());
        };
        record.stage = JobStage::Started;
        record.started_at_ms = Some(at_ms);
        record.agent_run = self.counters.agent_run;
        if !record.idempotent {
            record.request = None;
        }
        self.put_job(job, &record)
    }

    fn finish(&mut self, result: &JobResult, now_ms: u64) -> Result<(), Fault> {
        if let Some(mut record) = self.job(result.job)? {
            if record.stage == JobStage::Finished {
                return Ok(());
            }
            record.stage = JobStage::Finished;
            record.started_at_ms = result.started_at_ms;
            record.finished_at_ms = Some(result.finished_at_ms);
            record.outcome = Some(result.outcome);
            record.request = None;
            self.put_job(result.job, &record)?;
        }
        match result_message(result, new_message_id(now_ms)) {
            Ok(message) => self.put(message, Class::Reply, now_ms),
            Err(error) => {
                tracing::error!(job = %result.job, %error, "a result could not be made a message and is lost");
                Ok(())
            }
        }
    }

    fn cancel_ahead(&mut self, job: JobId, now_ms: u64) -> Result<bool, Fault> {
        if self.job(job)?.is_some() || !self.job_fits(now_ms)? {
            return Ok(false);
        }
        let record = JobRecord {
            stage: JobStage::CancelledAhead,
            action: String::new(),
            idempotent: false,
            dry_run: false,
            received_at_ms: now_ms,
            // Its own deadline is not known: it may come for as long as any job may.
            deliver_by_ms: now_ms.saturating_add(DELIVER_WINDOW_MS_MAX),
            started_at_ms: None,
            finished_at_ms: None,
            outcome: None,
            agent_run: self.counters.agent_run,
            request: None,
        };
        self.add_job(job, &record)?;
        Ok(true)
    }

    fn recover(&mut self, now_ms: u64) -> Result<Recovered, Fault> {
        let mut open = Vec::new();
        for entry in self.open_jobs.iter()? {
            open.push(JobId::from_bytes(*entry?.0.value()));
        }
        let mut recovered = Recovered::default();
        for job in open {
            let Some(mut record) = self.job(job)? else {
                continue;
            };
            if record.agent_run == self.counters.agent_run {
                continue;
            }
            let in_time = now_ms <= record.deliver_by_ms;
            let waited = record.stage == JobStage::Queued;
            if in_time && (waited || record.idempotent) && record.request.is_some() {
                record.agent_run = self.counters.agent_run;
                self.put_job(job, &record)?;
                recovered.resume.push((job, record));
                continue;
            }
            let (outcome, reason) = if waited {
                recovered.expired += 1;
                let why = "the agent was stopped or died before the job's turn came, and was back only after its deadline";
                (
                    Outcome::DeliveryExpired,
                    Reason::new(ReasonCode::Expired, why),
                )
            } else {
                recovered.interrupted += 1;
                let why = "the agent died while it ran; whether it had its effect is not known";
                (
                    Outcome::Interrupted,
                    Reason::new(ReasonCode::AgentDied, why),
                )
            };
            self.finish(
                &leftover(job, &record, self.config, outcome, reason, now_ms),
                now_ms,
            )?;
        }
        Ok(recovered)
    }

    /// Forgets jobs that are over and can't come again: those whose deadline was `remember_ms` ago.
    fn forget(&mut self, now_ms: u64, remember_ms: u64) -> Result<(), Fault> {
        let mut over = Vec::new();
        for entry in self.by_deadline.iter()? {
            let (key, _) = entry?;
            let (deadline_ms, id) = key.value();
            if over.len() == FORGET_MAX || deadline_ms.saturating_add(remember_ms) >= now_ms {
                break;
            }
            if self.open_jobs.get(id)?.is_none() {
                over.push((deadline_ms, *id));
            }
        }
        for (deadline_ms, id) in over {
            self.by_deadline.remove((deadline_ms, &id))?;
            self.jobs.remove(&id)?;
            self.counters.jobs = self.counters.jobs.saturating_sub(1);
        }
        Ok(())
    }
}

fn leftover(
    job: JobId,
    record: &JobRecord,
    config: &StateConfig,
    outcome: Outcome,
    reason: Reason,
    now_ms: u64,
) -> JobResult {
    JobResult {
        job,
        host: config.host.clone(),
        outcome,
        reason: Some(reason),
        data: Value::Null,
        received_at_ms: record.received_at_ms,
        started_at_ms: record.started_at_ms,
        finished_at_ms: now_ms,
        dry_run: record.dry_run,
    }
}
