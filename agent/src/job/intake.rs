//! What is done with a delivery, and with the questions of other actions: the runner's methods that decide.

use std::sync::Arc;
use std::time::Duration;

use muster_proto::action::{ActionSpec, Effect};
use muster_proto::event::Severity;
use muster_proto::id::JobId;
use muster_proto::job::{JobRequest, Outcome, Reason, ReasonCode};
use tokio::time::Instant;

use super::answer::{self, End, Times};
use super::registry::Live;
use super::replies::AckSlot;
use super::run_one::{StopWhy, Stopper};
use super::runner::Runner;
use super::{Delivery, JobCounters, Refusal, Signed, Verified, verify};
use crate::action::{Action, JobWhere, Lane, Question};
use crate::state::{Begun, JobStage, NewEvent, NewJob, StateError};

/// Shortest time between two events about garbage on the queue.
const GARBAGE_EVENT_EVERY: Duration = Duration::from_secs(10);

impl Runner {
    /// Takes a delivery from the agent's queue.
    pub(super) async fn take(&mut self, delivery: Delivery) {
        let received_at_ms = self.now_ms();
        let facts = self.facts.borrow().clone();
        let message = Signed {
            kind: &delivery.kind,
            body: &delivery.body,
            key_id: delivery.key_id.as_deref(),
            signature: delivery.signature.as_deref(),
        };
        match verify(
            message,
            &self.access,
            &*facts,
            received_at_ms,
            self.clock_tolerance,
        ) {
            Ok(verified) => {
                self.last_job = Some(verified.request.id);
                self.take_job(verified, delivery, received_at_ms).await;
            }
            Err(Refusal::Garbage(why)) => self.refuse_garbage(&delivery, &why).await,
            Err(Refusal::Job {
                job,
                dry_run,
                outcome,
                reason,
            }) => {
                // A job that was taken and comes again past its deadline, or after labels or policy have changed, has
                // its own end. A forgery has no say in this.
                if is_signed(&reason) && self.is_known(job).await {
                    return self.take_again(job, delivery.slot()).await;
                }
                tracing::info!(%job, ?outcome, code = ?reason.code, why = reason.message, "refused a job");
                let expired = outcome == Outcome::DeliveryExpired;
                JobCounters::count(if expired {
                    &self.counters.expired
                } else {
                    &self.counters.refused
                });
                self.answer(
                    None,
                    job,
                    End::of(outcome, reason),
                    received_at_ms,
                    dry_run,
                    delivery.slot(),
                );
            }
        }
    }

    async fn take_job(&mut self, verified: Verified, delivery: Delivery, received_at_ms: u64) {
        let Verified { request, spec } = verified;
        let (job, dry_run) = (request.id, request.dry_run);
        if self.is_in_hand(job) {
            return self.take_again(job, delivery.slot()).await;
        }
        let (action, lane) = match self.admit(&request, spec) {
            Ok(found) => found,
            Err(_) if self.is_known(job).await => {
                return self.take_again(job, delivery.slot()).await;
            }
            Err(reason) => {
                JobCounters::count(&self.counters.refused);
                let end = End::of(Outcome::Rejected, reason);
                return self.answer(
                    Some(job),
                    job,
                    end,
                    received_at_ms,
                    dry_run,
                    delivery.slot(),
                );
            }
        };
        let starts = self.registry.has_place(lane);
        let mut live = Live {
            request,
            spec,
            action,
            lane,
            received_at_ms,
            started_at_ms: None,
            start_recorded: starts,
            told_waiting: false,
            stopper: Stopper::default(),
            slot: None,
        };
        let taken = match spec.effect {
            Effect::Read => self.take_read(&mut live, delivery),
            Effect::Change => self.record(&live, delivery, starts).await,
        };
        if !taken {
            return;
        }
        JobCounters::count(&self.counters.accepted);
        self.registry.jobs.insert(job, live);
        self.tell_later(job);
        if starts {
            self.start(job).await;
        } else {
            self.registry.queue.push_back(job);
        }
    }

    /// The action, if this host has it and its config lets jobs ask this of it.
    fn admit(
        &self,
        request: &JobRequest,
        spec: &ActionSpec,
    ) -> Result<(Arc<dyn Action>, Lane), Reason> {
        let Some(built) = self.actions.get(spec.name) else {
            let why = format!("this agent was built without {}", spec.name);
            return Err(Reason::new(ReasonCode::UnknownAction, why));
        };
        built.action.admit(&request.args)?;
        Ok((built.action.clone(), built.lane))
    }

    /// Takes a job that only reads: its delivery is acknowledged with its answer. `false` where it is not to be run.
    fn take_read(&mut self, live: &mut Live, delivery: Delivery) -> bool {
        let (job, dry_run) = (live.request.id, live.request.dry_run);
        let (at_ms, slot) = (live.received_at_ms, delivery.slot());
        if self.registry.cancelled_ahead.contains(job) {
            self.answer(Some(job), job, cancelled_ahead(), at_ms, dry_run, slot);
            return false;
        }
        if !self.registry.has_room(live.lane) {
            self.refuse_busy(job, at_ms, dry_run, slot);
            return false;
        }
        live.slot = Some(slot);
        true
    }

    /// Records a job with effects, then acknowledges its delivery. `false` where it is not to be run.
    async fn record(&mut self, live: &Live, delivery: Delivery, starts: bool) -> bool {
        let (job, received_at_ms, dry_run) =
            (live.request.id, live.received_at_ms, live.request.dry_run);
        if !self.registry.has_room(live.lane) {
            if self.is_known(job).await {
                self.take_again(job, delivery.slot()).await;
            } else {
                self.refuse_busy(job, received_at_ms, dry_run, delivery.slot());
            }
            return false;
        }
        let slot = delivery.slot();
        let new = NewJob {
            id: job,
            action: live.spec.name.to_owned(),
            idempotent: live.spec.idempotent,
            dry_run,
            received_at_ms,
            issued_at_ms: live.request.issued_at_ms,
            deliver_by_ms: live.request.deliver_by_ms,
            started_at_ms: starts.then_some(received_at_ms),
            request: delivery.body,
        };
        match self.state.begin_job(new).await {
            Ok(Begun::New) => {
                slot.get().ack().await;
                return true;
            }
            Ok(Begun::Known(_)) => self.take_again(job, slot).await,
            Ok(Begun::CancelledAhead) => {
                let times = Times {
                    received_at_ms,
                    started_at_ms: None,
                    finished_at_ms: self.now_ms(),
                };
                self.commit(job, cancelled_ahead(), times, dry_run).await;
                slot.get().ack().await;
            }
            Ok(Begun::Full) => self.refuse_busy(job, received_at_ms, dry_run, slot),
            Ok(Begun::Lost) => {
                JobCounters::count(&self.counters.not_recorded);
                let why = "it was not run: the agent's record of earlier jobs was damaged, so whether it was run before is not known; send it again as a new job";
                let end = End::of(Outcome::Rejected, Reason::new(ReasonCode::NotRecorded, why));
                self.answer(Some(job), job, end, received_at_ms, dry_run, slot);
            }
            // Not answered: the broker delivers it again to the next run.
            Err(StateError::Closed) => {}
            Err(error) => {
                JobCounters::count(&self.counters.not_recorded);
                let reason =
                    Reason::new(ReasonCode::NotRecorded, format!("it was not run: {error}"));
                self.answer(
                    Some(job),
                    job,
                    End::of(Outcome::Rejected, reason),
                    received_at_ms,
                    dry_run,
                    slot,
                );
            }
        }
        false
    }

    /// A job that is in hand or was done comes again: it is acknowledged, now or with its answer, and nothing is run.
    async fn take_again(&mut self, job: JobId, again: AckSlot) {
        JobCounters::count(&self.counters.duplicates);
        tracing::debug!(%job, "a job came again");
        let slot = self
            .registry
            .jobs
            .get(&job)
            .and_then(|live| live.slot.as_ref())
            .or_else(|| self.replies.slot(job));
        if let Some(slot) = slot {
            return slot.replace(again.get());
        }
        if !self.replies.send_again(job, again.clone()) {
            again.get().ack().await;
        }
    }

    fn is_in_hand(&self, job: JobId) -> bool {
        self.registry.jobs.contains_key(&job)
            || self.replies.slot(job).is_some()
            || self.replies.has_sent(job)
            || self.registry.answered.contains(job)
    }

    async fn is_known(&self, job: JobId) -> bool {
        self.is_in_hand(job)
            || matches!(self.state.job(job).await, Ok(Some(record)) if record.stage != JobStage::CancelledAhead)
    }

    fn refuse_busy(&mut self, job: JobId, received_at_ms: u64, dry_run: bool, slot: AckSlot) {
        JobCounters::count(&self.counters.busy);
        let message = format!(
            "the agent has as many jobs as it may hold ({} run, {} wait); send it again later",
            self.registry.working,
            self.registry.queue.len()
        );
        let end = End::of(Outcome::Rejected, Reason::new(ReasonCode::Busy, message));
        self.answer(None, job, end, received_at_ms, dry_run, slot);
    }

    /// Answers from memory; the delivery is acknowledged when the broker has the answer. `verified` is the job's id
    /// where its signature held.
    fn answer(
        &mut self,
        verified: Option<JobId>,
        job: JobId,
        end: End,
        received_at_ms: u64,
        dry_run: bool,
        slot: AckSlot,
    ) {
        let times = Times {
            received_at_ms,
            started_at_ms: None,
            finished_at_ms: self.now_ms(),
        };
        let result = answer::result(job, &self.host, end, times, dry_run);
        if let Some(message) = answer::message(&result) {
            self.replies.send(verified, message, slot);
        }
    }

    async fn refuse_garbage(&mut self, delivery: &Delivery, why: &str) {
        JobCounters::count(&self.counters.garbage);
        delivery.acker.reject().await;
        let (count, last) = &mut self.garbage;
        *count += 1;
        if last.is_some_and(|last| last.elapsed() < GARBAGE_EVENT_EVERY) {
            return;
        }
        let messages = std::mem::take(count);
        *last = Some(Instant::now());
        tracing::warn!(why, messages, "dead-lettered a message that is no job");
        let summary =
            format!("a message on the agent's queue is no job and was dead-lettered: {why}");
        let event = NewEvent::new(
            "agent.message.refused",
            self.now_ms(),
            Severity::Warning,
            summary,
        )
        .field("messages", messages)
        .field(
            "message_type",
            delivery.kind.chars().take(64).collect::<String>(),
        )
        .field("body_bytes", delivery.body.len());
        if let Err(error) = self.state.accept_events(vec![event]).await {
            tracing::warn!(%error, "could not store an event");
        }
    }

    /// Answers a question from the actions' desk.
    pub(super) async fn answer_question(&mut self, question: Question) {
        match question {
            Question::Where(job, answer) => {
                // An asker that is gone needs no answer.
                let _ = answer.send(self.whereabouts(job).await);
            }
            Question::Cancel(job, answer) => {
                let _ = answer.send(self.cancel(job).await);
            }
        }
    }

    async fn whereabouts(&self, job: JobId) -> Result<JobWhere, String> {
        if let Some(live) = self.registry.jobs.get(&job) {
            return Ok(if live.started_at_ms.is_some() {
                JobWhere::Running
            } else {
                JobWhere::Queued
            });
        }
        if self.is_in_hand(job) {
            return Ok(JobWhere::Finished(None));
        }
        let record = self
            .state
            .job(job)
            .await
            .map_err(|error| error.to_string())?;
        Ok(match record {
            None => JobWhere::Unknown,
            Some(record) => match record.stage {
                JobStage::Queued => JobWhere::Queued,
                JobStage::Started => JobWhere::Running,
                JobStage::Finished => JobWhere::Finished(record.outcome),
                JobStage::CancelledAhead => JobWhere::CancelledAhead,
            },
        })
    }

    async fn cancel(&mut self, job: JobId) -> Result<JobWhere, String> {
        let place = self.whereabouts(job).await?;
        let open = matches!(place, JobWhere::Running | JobWhere::Queued);
        if open && !self.registry.jobs.contains_key(&job) {
            let why =
                "the agent has just been started and has not settled that job yet; cancel it again";
            return Err(why.to_owned());
        }
        match place {
            JobWhere::Running => {
                if let Some(live) = self.registry.jobs.get(&job) {
                    live.stopper.stop(StopWhy::Cancel);
                }
            }
            JobWhere::Queued => {
                let reason = Reason::new(
                    ReasonCode::CancelRequested,
                    "it was cancelled before it ran",
                );
                self.finish(job, End::of(Outcome::Cancelled, reason)).await;
            }
            JobWhere::Unknown => {
                self.state
                    .cancel_ahead(job)
                    .await
                    .map_err(|error| error.to_string())?;
                self.registry.cancelled_ahead.insert(job);
            }
            JobWhere::Finished(_) | JobWhere::CancelledAhead => {}
        }
        Ok(place)
    }
}

/// Whether a job that is refused for `reason` was at least signed by one of the host's keys.
fn is_signed(reason: &Reason) -> bool {
    !matches!(
        reason.code,
        ReasonCode::BadSignature | ReasonCode::UnknownKey | ReasonCode::KeyNotValid
    )
}

fn cancelled_ahead() -> End {
    End::of(
        Outcome::Cancelled,
        Reason::new(
            ReasonCode::CancelRequested,
            "it was cancelled before it came",
        ),
    )
}
