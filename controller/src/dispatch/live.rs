//! One job, live: opened in the ledger, sent, waited for, accounted. The decisions are [`super::account`]'s and
//! [`super::rollout`]'s; this brings them what is heard and does what they say.
//!
//! The order is what makes the account hold: the ledger knows the job and its hosts, confirmed, before any host hears of
//! it. When the connection is lost, the wait goes on: a new one is made, the ledger tells what was missed, and what was
//! not confirmed is sent again with the same ids.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use muster_link::{Outgoing, PublishError, Receipt, Session, stamp};
use muster_proto::envelope::Kind;
use muster_proto::id::{HostId, JobId, KeyId};
use muster_proto::job::{HostState, JobNote, JobRequest, Observation, Output};
use muster_proto::signing::JobSigner;
use muster_proto::topology::{ALL_KEY, JOBS, host_key};
use tokio::time::{Instant, sleep, sleep_until};

use super::account::{Reply, Waiting, observation_of};
use super::desk::{Desk, connect};
use super::order::{Order, Signed, ms};
use super::replies::{Replies, Said, said};
use super::rollout::{Rollout, Step};
use crate::exit::{Exit, ending};
use crate::ledger::standing::Standing;

/// Pauses between tries to connect again grow to this; each is taken at random below it, so that operators of a broker
/// that comes back don't come all at once.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long to try to hand over what the broker has not confirmed, where nobody waits for the answer.
const RESEND_FOR: Duration = Duration::from_secs(30);

/// Who looks on while a job is waited for.
pub trait Onlooker {
    /// Something changed.
    fn changed(&mut self, waiting: &Waiting);
    /// A host's job has written something.
    fn output(&mut self, output: &Output);
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

type Flight = Pin<Box<dyn Future<Output = (To, Result<Receipt, PublishError>)>>>;

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
        stopped_by: None,
        closed: false,
    }
}

impl Live<'_, '_> {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn send_everywhere(&mut self) {
        let hosts: Vec<HostId> = self.order.resolved.hosts.iter().cloned().collect();
        if self.order.resolved.by_broadcast() {
            self.send(To::All, ALL_KEY.to_owned());
            let now = self.now();
            hosts.iter().for_each(|host| self.waiting.sent(host, now));
        } else {
            self.send_to(&hosts);
        }
        self.deadline = self.waiting.next_deadline();
    }

    fn send_to(&mut self, hosts: &[HostId]) {
        for host in hosts {
            self.send(To::Host(host.clone()), host_key(host));
            let now = self.now();
            self.waiting.sent(host, now);
        }
    }

    fn send(&mut self, to: To, routing_key: String) {
        let now_ms = stamp::now_ms();
        let mut limit_ms = self.signed.request.deliver_by_ms.saturating_sub(now_ms);
        if self.rollout.is_some() {
            // A host that does not take it now must not take it later, beside another batch.
            limit_ms = limit_ms.min(ms(self.order.patience.ack));
        }
        let outgoing = Outgoing {
            exchange: JOBS,
            routing_key,
            kind: Kind::Job,
            message_id: stamp::new_message_id(),
            correlation_id: Some(self.signed.request.id),
            timestamp_ms: now_ms,
            expiration_ms: Some(limit_ms),
            mandatory: true,
            signature: Some(self.signed.signature.clone()),
            body: Arc::clone(&self.signed.body),
        };
        self.flights
            .push(flight(&self.desk.session, to.clone(), outgoing.clone()));
        self.unconfirmed.insert(to, outgoing);
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
            let next = [self.deadline.filter(|_| !self.order.no_wait), until]
                .into_iter()
                .flatten()
                .min();
            // Where nothing has a time, answers and confirms come, or the connection ends.
            let alarm = sleep_until(self.start + next.unwrap_or(Duration::from_secs(3600)));
            tokio::select! {
                incoming = self.replies.next() => match incoming {
                    Some(incoming) => self.heard(said(&incoming), onlooker),
                    None => tokio::select! {
                        outcome = self.reconnect() => outcome?,
                        _ = &mut interrupt => return Ok(true),
                    },
                },
                Some((to, outcome)) = self.flights.next() => self.landed(to, outcome)?,
                () = alarm => self.time_is_up().await?,
                _ = &mut interrupt => return Ok(true),
            }
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
                if self.publish_note(&note).await {
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

    fn landed(&mut self, to: To, outcome: Result<Receipt, PublishError>) -> Result<()> {
        match outcome {
            Ok(Receipt::Confirmed) => {
                self.unconfirmed.remove(&to);
            }
            Ok(Receipt::Returned { .. } | Receipt::Refused) => {
                self.unconfirmed.remove(&to);
                let hosts: Vec<HostId> = match to {
                    To::All => self
                        .waiting
                        .account()
                        .hosts()
                        .map(|(host, _)| host.clone())
                        .collect(),
                    To::Host(host) => vec![host],
                };
                for host in hosts {
                    let state = self.waiting.observe(&host, Observation::Unroutable);
                    self.moved(&host, state);
                    self.note.unroutable.push(host);
                }
            }
            Err(PublishError::Invalid { why }) => {
                return Err(ending(Exit::Failed, format!("send the job: {why}")));
            }
            // The connection has ended, of which its reader tells; it is sent again on the next one.
            Err(_) => {}
        }
        Ok(())
    }

    async fn time_is_up(&mut self) -> Result<()> {
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
            let overdue = due(self);
            self.give_up(&overdue);
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

    /// Takes over what the ledger knows and this job has not heard.
    fn learn_from_ledger(&mut self) -> Result<()> {
        let job = self.signed.request.id;
        for (host, standing) in self.desk.ledger.with(|store| store.standings(job))? {
            let state = learn(&mut self.waiting, &host, standing, self.start.elapsed());
            self.moved(&host, state);
        }
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<()> {
        let ended = self.desk.session.closed().await;
        self.desk.context.note(&format!(
            "the connection to the broker is lost ({ended}); the job goes on, connecting again"
        ));
        self.flights.clear();
        let began = Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            sleep(random_below(pause)).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            if self.is_hopeless(began) {
                let overdue = self.waiting.overdue(self.now());
                self.desk.context.note(
                    "the wait is over and the broker is not back: ask `muster job show` later",
                );
                self.give_up(&overdue);
                self.lost = true;
                return Ok(());
            }
            match connect(self.desk.context).await {
                Ok(session) => self.desk.session = session.into(),
                Err(error) if Exit::of(&error) == Exit::NoBroker => continue,
                Err(error) => return Err(error),
            }
            if let Err(error) = self.restore().await {
                tracing::info!("connected, and lost again: {error:#}");
                continue;
            }
            self.desk.context.note("connected again");
            return Ok(());
        }
    }

    /// Whether nothing is left to wait for without a connection since `began`.
    fn is_hopeless(&self, began: Instant) -> bool {
        let expired = stamp::now_ms() > self.signed.request.deliver_by_ms;
        let held = self.rollout.is_some() && !expired;
        let all_overdue = self.waiting.overdue(self.now()).len() == self.waiting.awaited().len();
        // What the broker has not confirmed yet is worth a while even where nobody waits for the answer.
        let sent = self.unconfirmed.is_empty() || began.elapsed() > RESEND_FOR;
        !held && all_overdue && (sent || expired)
    }

    async fn restore(&mut self) -> Result<()> {
        let job = self.signed.request.id;
        *self.replies = Replies::open(&self.desk.session, self.desk.issuer(), job).await?;
        self.desk.catch_up().await?;
        self.learn_from_ledger()?;
        for (to, outgoing) in &self.unconfirmed {
            self.flights
                .push(flight(&self.desk.session, to.clone(), outgoing.clone()));
        }
        self.deadline = self.waiting.next_deadline();
        Ok(())
    }

    async fn publish_note(&self, note: &JobNote) -> bool {
        let job = self.signed.request.id;
        match self.desk.publish(note, "job.note", job).await {
            Ok(()) => true,
            Err(error) => {
                tracing::info!("the ledger does not know: {error:#}");
                false
            }
        }
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
        if leaves_open && self.note == empty_note(self.signed.request.id) {
            // Nothing to say: whoever asks the ledger finds the answers as they come.
        } else {
            let note = JobNote {
                at_ms: stamp::now_ms(),
                closed: !leaves_open && !interrupted,
                ..self.note.clone()
            };
            if !self.publish_note(&note).await {
                self.desk.context.note(
                    "the ledger was not told that this wait is over; it will find out by the time",
                );
            }
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

fn flight(session: &Arc<Session>, to: To, outgoing: Outgoing) -> Flight {
    let session = Arc::clone(session);
    Box::pin(async move {
        loop {
            match session.publish(outgoing.clone()).await {
                Err(PublishError::Blocked { .. }) => {
                    let mut blocked = session.blocked();
                    let free = async { blocked.wait_for(Option::is_none).await.is_ok() };
                    tokio::select! {
                        _ = free => {}
                        ended = session.closed() => return (to, Err(PublishError::Down { why: ended.why })),
                    }
                }
                outcome => return (to, outcome),
            }
        }
    })
}

/// Takes over where a host stands by the ledger. Gives its new state where that changed.
pub fn learn(
    waiting: &mut Waiting,
    host: &HostId,
    standing: Standing,
    now: Duration,
) -> Option<HostState> {
    match standing.state {
        HostState::Acked | HostState::Running => {
            waiting.taken(host, standing.state == HostState::Running, now)
        }
        state => {
            let observation = observation_of(state)?;
            let reply = standing.answer.map(|answer| Reply {
                reason: standing.reason,
                data: serde_json::from_str(&answer.data).unwrap_or_default(),
                received_at_ms: answer.received_at_ms,
                round_trip: None,
            });
            waiting.learned(host, observation, reply)
        }
    }
}

/// A random part of `limit`, so that programs that lost the same broker don't come back at once.
#[must_use]
pub fn random_below(limit: Duration) -> Duration {
    let mut bytes = [0; 8];
    // Without randomness there is no jitter: the whole pause.
    let share = getrandom::fill(&mut bytes)
        .map_or(1.0, |()| u64::from_le_bytes(bytes) as f64 / u64::MAX as f64);
    limit.mul_f64(share)
}
