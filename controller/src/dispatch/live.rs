//! One job, live: opened in the ledger, sent, waited for, accounted. The decisions are [`super::account`]'s and
//! [`super::rollout`]'s; this brings them what is heard and does what they say.
//!
//! The order is what makes the account hold: the ledger knows the job and its hosts, confirmed, before any host hears of
//! it. When the connection is lost, the wait goes on: a new one is made, the ledger tells what was missed, and what was
//! not confirmed is sent again with the same ids.

mod recover;
mod send;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use muster_link::{Outgoing, stamp};
use muster_proto::id::{HostId, JobId, KeyId};
use muster_proto::job::{HostState, JobNote, JobRequest, Output};
use muster_proto::signing::JobSigner;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until, timeout};

use super::account::Waiting;
use super::desk::Desk;
use super::order::{Order, Signed, ms};
use super::replies::{Replies, Said};
use super::rollout::{Rollout, Step};

pub use self::recover::random_below;
use self::send::Flight;

/// Longest silence before what the jobs have written is taken to be all.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// Who looks on while a job is waited for.
pub trait Onlooker {
    /// Something changed.
    fn changed(&mut self, waiting: &Waiting);
    /// A host's job has written something.
    fn output(&mut self, output: &Output);
    /// Whether it wants what the jobs write.
    fn wants_output(&self) -> bool;
}

/// How it went.
#[derive(Debug)]
pub struct Done {
    /// The job.
    pub request: JobRequest,
    /// The account.
    pub waiting: Waiting,
    /// The rule that stopped its rollout.
    pub stopped_by: Option<String>,
    /// Whether the operator would not wait any longer.
    pub interrupted: bool,
    /// When it was sent, in milliseconds since 1970.
    pub sent_at_ms: u64,
    /// From sending to the last answer.
    pub took: Duration,
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    All,
    Host(HostId),
}

struct Live<'d, 'a> {
    desk: &'d mut Desk<'a>,
    replies: &'d mut Replies,
    order: &'d Order,
    signed: Signed,
    waiting: Waiting,
    rollout: Option<Rollout>,
    unconfirmed: BTreeMap<To, Outgoing>,
    flights: FuturesUnordered<Flight>,
    note: JobNote,
    start: Instant,
    sent_at_ms: u64,
    last_word: Duration,
    deadline: Option<Duration>,
    lost: bool,
    ignored: usize,
}

/// Carries out `order` as the job `job`, whose answers come to `replies`.
///
/// # Errors
/// When the job could not be opened: then no host has heard of it. Later troubles end in the account.
pub async fn run(
    desk: &mut Desk<'_>,
    replies: &mut Replies,
    job: JobId,
    order: &Order,
    key: &(KeyId, JobSigner),
    onlooker: &mut dyn Onlooker,
) -> Result<Done> {
    let signed = order.sign(job, desk.issuer(), key, stamp::now_ms())?;
    desk.publish(&order.opened(&signed), "job.opened", job)
        .await?;
    let waiting = Waiting::new(
        job,
        &order.resolved.hosts,
        &order.resolved.away,
        order.rollout.is_some(),
        order.patience,
    );
    let rollout = order.rollout.as_ref().map(|plan| {
        // One that is away would run whenever it comes back, beside whatever is out then: a rollout leaves it out.
        let hosts = order.resolved.present().cloned();
        Rollout::new(
            plan.rules,
            hosts.map(|host| {
                (
                    host.clone(),
                    plan.domains.get(&host).cloned().unwrap_or_default(),
                )
            }),
        )
    });
    let mut live = Live {
        note: empty_note(job),
        desk,
        replies,
        order,
        signed,
        waiting,
        rollout,
        unconfirmed: BTreeMap::new(),
        flights: FuturesUnordered::new(),
        start: Instant::now(),
        sent_at_ms: stamp::now_ms(),
        last_word: Duration::ZERO,
        deadline: None,
        lost: false,
        ignored: 0,
    };
    if live.rollout.is_none() {
        live.send_everywhere();
    }
    let interrupted = live.wait(onlooker).await?;
    if onlooker.wants_output() && !interrupted && !live.lost {
        live.last_output(onlooker).await;
    }
    live.finish(interrupted).await
}

fn empty_note(job: JobId) -> JobNote {
    JobNote {
        job,
        at_ms: 0,
        released: Vec::new(),
        unroutable: Vec::new(),
        skipped: Vec::new(),
        given_up: Vec::new(),
        dead: Vec::new(),
        stopped_by: None,
        closed: false,
    }
}

async fn publish_note(desk: &Desk<'_>, note: &JobNote) -> bool {
    match desk.publish(note, "job.note", note.job).await {
        Ok(()) => true,
        Err(error) => {
            tracing::info!("the ledger does not know: {error:#}");
            false
        }
    }
}

impl Live<'_, '_> {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether the operator would not wait any longer.
    async fn wait(&mut self, onlooker: &mut dyn Onlooker) -> Result<bool> {
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            let until = self.advance().await?;
            onlooker.changed(&self.waiting);
            if self.is_done() {
                return Ok(false);
            }
            let tell_at = self.replies.tell_at();
            let next = [self.deadline.filter(|_| !self.order.no_wait), until]
                .into_iter()
                .flatten()
                .map(|next| self.start + next)
                .chain(tell_at)
                .min();
            // Where nothing has a time, answers and confirms come, or the connection ends.
            let alarm = sleep_until(next.unwrap_or(Instant::now() + Duration::from_secs(3600)));
            tokio::select! {
                incoming = self.replies.next() => match incoming {
                    Some(said) => self.heard(said, onlooker),
                    None => tokio::select! {
                        outcome = self.reconnect() => outcome?,
                        _ = &mut interrupt => return Ok(true),
                    },
                },
                Some((to, outcome)) = self.flights.next() => self.landed(to, outcome)?,
                () = alarm => self.time_is_up(onlooker).await?,
                _ = &mut interrupt => return Ok(true),
            }
        }
    }

    /// Takes pieces of output that come behind the last result: the result is the outbox's, they are not.
    async fn last_output(&mut self, onlooker: &mut dyn Onlooker) {
        while let Ok(Some(said)) = timeout(LAST_OUTPUT, self.replies.next()).await {
            self.heard(said, onlooker);
        }
    }

    fn is_done(&mut self) -> bool {
        if self.lost {
            return true;
        }
        let settled = self.unconfirmed.is_empty();
        if self.order.no_wait {
            return settled;
        }
        let rolled_out = self.rollout.is_none()
            || self
                .waiting
                .held()
                .iter()
                .all(|host| self.waiting.was_away(host));
        settled && rolled_out && self.waiting.is_over()
    }

    /// Lets a rollout take its next step. Gives when to ask it again.
    async fn advance(&mut self) -> Result<Option<Duration>> {
        let now_ms = ms(self.now());
        let deliver_by_over = stamp::now_ms() >= self.signed.request.deliver_by_ms;
        let Some(rollout) = &mut self.rollout else {
            return Ok(None);
        };
        if deliver_by_over && !self.waiting.held().is_empty() {
            rollout.stop("deliver-within: the time in which hosts may take the job is over");
        }
        match rollout.step(now_ms) {
            Step::Release(hosts) => {
                self.waiting.release(&hosts);
                let note = JobNote {
                    released: hosts.clone(),
                    at_ms: stamp::now_ms(),
                    ..empty_note(self.signed.request.id)
                };
                if publish_note(self.desk, &note).await {
                    self.note.released.retain(|host| !hosts.contains(host));
                } else {
                    self.note.released.extend(hosts.iter().cloned());
                }
                self.send_to(&hosts);
                self.deadline = self.waiting.next_deadline();
                Ok(None)
            }
            Step::Wait { until_ms } => Ok(until_ms.map(Duration::from_millis)),
            Step::Done => Ok(None),
            Step::Stopped { rule, skipped } => {
                self.waiting.skip(&skipped);
                self.note.skipped.extend(skipped);
                self.note.stopped_by.get_or_insert(rule);
                Ok(None)
            }
        }
    }

    fn heard(&mut self, said: Option<Said>, onlooker: &mut dyn Onlooker) {
        let now = self.now();
        let Some(said) = said.filter(|said| said.job() == self.signed.request.id) else {
            self.ignored += 1;
            return;
        };
        let host = said.host().clone();
        let state = match said {
            Said::Output(output) => return onlooker.output(&output),
            Said::Ack(ack) => {
                let state = self.waiting.taken(&host, ack.running, now);
                let own = self
                    .waiting
                    .awaited()
                    .contains(&host)
                    .then(|| self.waiting.deadline(&host));
                self.deadline = self.deadline.into_iter().chain(own).min();
                state
            }
            Said::Result(result) => {
                self.last_word = now;
                self.waiting.answered(*result, Some(now))
            }
        };
        self.moved(&host, state);
    }

    fn moved(&mut self, host: &HostId, state: Option<HostState>) {
        let Some(state) = state.filter(|state| !state.is_open()) else {
            return;
        };
        let now_ms = ms(self.now());
        if let Some(rollout) = &mut self.rollout {
            rollout.ended(host, self.waiting.verdict(host, state), now_ms);
        }
    }

    /// Hears what is there already: all of it, however much the runtime would have others run meanwhile.
    fn hear_all(&mut self, onlooker: &mut dyn Onlooker) {
        while let Some(Some(said)) = unconstrained(self.replies.next()).now_or_never() {
            self.heard(said, onlooker);
        }
    }

    async fn time_is_up(&mut self, onlooker: &mut dyn Onlooker) -> Result<()> {
        self.hear_all(onlooker);
        let due = |live: &Self| {
            if live.order.no_wait {
                Vec::new()
            } else {
                live.waiting.overdue(live.now())
            }
        };
        if !due(self).is_empty() {
            // The answer may have come while nobody listened.
            if self.desk.catch_up().await.is_ok() {
                self.learn_from_ledger()?;
            }
            self.hear_all(onlooker);
            let overdue = due(self);
            self.give_up(&overdue);
        }
        // Last, since it may take its time.
        let tell_at = self.replies.tell_at();
        if tell_at.is_some_and(|at| at <= Instant::now()) {
            self.replies.tell(&self.desk.session).await;
        }
        self.deadline = self.waiting.next_deadline();
        Ok(())
    }

    fn give_up(&mut self, hosts: &[HostId]) {
        let given_up = self.waiting.give_up(hosts);
        for host in &given_up {
            self.moved(host, Some(HostState::Unknown));
        }
        self.note.given_up.extend(given_up);
    }

    async fn finish(mut self, interrupted: bool) -> Result<Done> {
        if let Some(rollout) = self.rollout.as_mut().filter(|_| interrupted) {
            rollout.stop("interrupted by the operator");
            self.advance().await?;
        }
        if self.rollout.is_some() {
            let held = self.waiting.held(); // what is left was away when its turn came
            self.waiting.skip(&held);
            self.note.skipped.extend(held);
        }
        let stopped_by = self.note.stopped_by.clone();
        let leaves_open = (interrupted && self.rollout.is_none()) || self.order.no_wait;
        // Where there is nothing to say whoever asks the ledger finds the answers as they come.
        let silent = leaves_open && self.note == empty_note(self.signed.request.id);
        let note = JobNote {
            at_ms: stamp::now_ms(),
            closed: !leaves_open && !interrupted,
            ..self.note.clone()
        };
        let session = Arc::clone(&self.desk.session);
        let told = self.replies.tell(&session);
        let noted = async { silent || publish_note(self.desk, &note).await };
        let ((), noted) = tokio::join!(told, noted);
        if self.replies.tell_at().is_some() && session.has_ended() && !self.lost {
            self.tell_elsewhere().await;
        }
        if !noted || self.replies.tell_at().is_some() {
            self.desk.context.note(
                "the ledger was not told that this wait is over; it will find out by the time",
            );
        }
        if self.ignored > 0 {
            self.desk.context.note(&format!(
                "{} messages were ignored: not answers to this job",
                self.ignored
            ));
        }
        Ok(Done {
            request: self.signed.request,
            waiting: self.waiting,
            stopped_by,
            interrupted,
            sent_at_ms: self.sent_at_ms,
            took: self.last_word,
        })
    }
}
