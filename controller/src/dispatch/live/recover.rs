//! A job whose connection was lost: connecting again, learning from the ledger what was missed, sending again what was
//! not confirmed.

use std::time::Duration;

use anyhow::Result;
use muster_link::stamp;
use muster_proto::id::HostId;
use muster_proto::job::HostState;
use tokio::time::{Instant, sleep};

use super::Live;
use super::send::flight;
use crate::dispatch::account::{Reply, Waiting, observation_of};
use crate::dispatch::desk::connect;
use crate::exit::Exit;
use crate::ledger::standing::Standing;

/// Pauses between tries to connect again grow to this; each is taken at random below it, so that operators of a broker
/// that comes back don't come all at once.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long to try to hand over what the broker has not confirmed, where nobody waits for the answer.
const RESEND_FOR: Duration = Duration::from_secs(30);

impl Live<'_, '_> {
    /// Takes over what the ledger knows and this job has not heard.
    pub(super) fn learn_from_ledger(&mut self) -> Result<()> {
        let job = self.signed.request.id;
        for (host, standing) in self.desk.ledger.with(|store| store.standings(job))? {
            let state = learn(&mut self.waiting, &host, standing, self.start.elapsed());
            self.moved(&host, state);
        }
        Ok(())
    }

    pub(super) async fn reconnect(&mut self) -> Result<()> {
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

    /// Tells the ledger on a new connection what it was not told on the one that is lost: nobody else has it.
    pub(super) async fn tell_elsewhere(&mut self) {
        let (job, began) = (self.signed.request.id, Instant::now());
        let mut pause = Duration::from_millis(250);
        while self.replies.tell_at().is_some() && began.elapsed() < RESEND_FOR {
            sleep(random_below(pause)).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            let Ok(session) = connect(self.desk.context).await else {
                continue;
            };
            self.desk.session = session.into();
            let (session, issuer) = (&self.desk.session, self.desk.issuer());
            if self.replies.move_to(session, issuer, job).await.is_ok() {
                self.replies.tell(session).await;
            }
        }
    }

    async fn restore(&mut self) -> Result<()> {
        let job = self.signed.request.id;
        let (session, issuer) = (&self.desk.session, self.desk.issuer());
        self.replies.move_to(session, issuer, job).await?;
        self.desk.catch_up().await?;
        self.learn_from_ledger()?;
        for (to, outgoing) in &self.unconfirmed {
            self.flights
                .push(flight(&self.desk.session, to.clone(), outgoing.clone()));
        }
        if self.is_transient() {
            // Also one that has taken it: its answer may have gone to the queue of the connection that is lost.
            let silent = |state| {
                matches!(
                    state,
                    HostState::Pending | HostState::Acked | HostState::Running
                )
            };
            let silent: Vec<HostId> = self
                .waiting
                .account()
                .hosts()
                .filter(|(_, record)| silent(record.state))
                .map(|(host, _)| host.clone())
                .collect();
            self.send_to(&silent);
        }
        self.deadline = self.waiting.next_deadline();
        Ok(())
    }
}

/// Takes over where a host stands by the ledger. Gives its new state where that changed.
fn learn(
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
