//! One job while somebody waits for it: who has answered what, who is still waited for, and until when. Pure: it is told
//! what was heard and when, and knows neither clock nor broker.
//!
//! The wait is for named hosts, never for a number of answers. A host that has not taken the job within the patience for
//! acks is given up, and one that has taken it is given its run limit and a little more. Hosts that were away are not
//! waited for, unless asked to or once they are heard of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_proto::id::{HostId, JobId};
use muster_proto::job::{
    Account, HostRecord, HostState, JobResult, Observation, Outcome, Tally, transition,
};
use serde_json::Value;

use super::rollout::Verdict;
use crate::exit::Exit;
use crate::ledger::fold::code_name;

/// An answer may be this much later than the run limit: the agent first ends the process, then writes it down.
pub const AFTER_RUN: Duration = Duration::from_secs(10);

/// The broker lets a job go when its time is over, and the news of that may be this much later.
const AFTER_EXPIRY: Duration = Duration::from_secs(2);

/// How long to wait. Times are since the job's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a word from a host to which the job was sent.
    pub ack: Duration,
    /// For the end at a host that has taken it.
    pub run: Duration,
    /// For everything.
    pub whole: Option<Duration>,
    /// For hosts that were away.
    pub offline: Option<Duration>,
}

/// What a host answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// Code and sentence, where it did not succeed.
    pub reason: Option<(String, String)>,
    /// What the action gave.
    pub data: Value,
    /// When the host got the job, by its clock.
    pub received_at_ms: u64,
    /// From sending to the answer; `None` for an answer that the ledger had.
    pub round_trip: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Times {
    sent: Option<Duration>,
    taken: Option<Duration>,
}

/// A job that is waited for.
#[derive(Debug)]
pub struct Waiting {
    job: JobId,
    account: Account,
    patience: Patience,
    away: BTreeSet<HostId>,
    times: BTreeMap<HostId, Times>,
    replies: BTreeMap<HostId, Reply>,
    surprises: BTreeMap<HostId, HostState>,
    awaited: BTreeSet<HostId>,
}

impl Waiting {
    /// A job for `hosts`, of which some are `away`; all `held` where it is a rollout.
    #[must_use]
    pub fn new(
        job: JobId,
        hosts: &BTreeSet<HostId>,
        away: &BTreeSet<HostId>,
        rollout: bool,
        patience: Patience,
    ) -> Self {
        let awaited = match (rollout, patience.offline) {
            (true, _) => BTreeSet::new(),
            (false, None) => hosts.difference(away).cloned().collect(),
            (false, Some(_)) => hosts.clone(),
        };
        Self {
            job,
            account: Account::open(hosts.iter().cloned(), rollout),
            patience,
            away: away.clone(),
            times: BTreeMap::new(),
            replies: BTreeMap::new(),
            surprises: BTreeMap::new(),
            awaited,
        }
    }

    /// The job.
    #[must_use]
    pub const fn job(&self) -> JobId {
        self.job
    }

    /// The account.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// What hosts answered, surprises included.
    #[must_use]
    pub const fn replies(&self) -> &BTreeMap<HostId, Reply> {
        &self.replies
    }

    /// What a host said that was not asked.
    #[must_use]
    pub fn surprise_state(&self, host: &HostId) -> HostState {
        self.surprises
            .get(host)
            .copied()
            .unwrap_or(HostState::Acked)
    }

    /// Whether `host` was away when the job was opened.
    #[must_use]
    pub fn was_away(&self, host: &HostId) -> bool {
        self.away.contains(host)
    }

    /// Hosts that are still waited for.
    #[must_use]
    pub const fn awaited(&self) -> &BTreeSet<HostId> {
        &self.awaited
    }

    /// Hosts of a rollout whose turn came.
    pub fn release(&mut self, hosts: &[HostId]) {
        for host in hosts {
            if self.account.observe(host, Observation::Released).is_some() {
                self.awaited.insert(host.clone());
            }
        }
    }

    /// The job is on its way to `host`.
    pub fn sent(&mut self, host: &HostId, at: Duration) {
        self.times.entry(host.clone()).or_default().sent = Some(at);
    }

    /// The host has taken the job. Gives its new state where that changed.
    pub fn taken(&mut self, host: &HostId, running: bool, at: Duration) -> Option<HostState> {
        self.times
            .entry(host.clone())
            .or_default()
            .taken
            .get_or_insert(at);
        let new = self.observe(
            host,
            if running {
                Observation::Running
            } else {
                Observation::Acked
            },
        );
        if new.is_some() {
            self.awaited.insert(host.clone()); // one that was away has come back
        }
        new
    }

    /// The host's result. Gives its new state where that changed: a second answer changes nothing. `at` is none for an
    /// answer that was read from the ledger.
    pub fn answered(&mut self, result: JobResult, at: Option<Duration>) -> Option<HostState> {
        let host = result.host;
        let sent = self.times.get(&host).and_then(|times| times.sent);
        let new = self.observe(&host, Observation::Ended(result.outcome));
        let surprise = self.account.surprises().contains(&host);
        if let Some(state) = surprise
            .then(|| transition(HostState::Pending, Observation::Ended(result.outcome)))
            .flatten()
        {
            self.surprises.entry(host.clone()).or_insert(state);
        }
        if new.is_some() || (surprise && !self.replies.contains_key(&host)) {
            let round_trip = at.zip(sent).map(|(at, sent)| at.saturating_sub(sent));
            let reply = Reply {
                reason: result
                    .reason
                    .map(|reason| (code_name(&reason.code), reason.message)),
                data: result.data,
                received_at_ms: result.received_at_ms,
                round_trip,
            };
            self.replies.insert(host, reply);
        }
        new
    }

    /// What the ledger had: the end of a host, with its answer where that was one. Gives the host's new state where that
    /// changed.
    pub fn learned(
        &mut self,
        host: &HostId,
        observation: Observation,
        reply: Option<Reply>,
    ) -> Option<HostState> {
        let new = self.observe(host, observation)?;
        if let Some(reply) = reply {
            self.replies.insert(host.clone(), reply);
        }
        Some(new)
    }

    /// Something else that became known. Gives the host's new state where that changed.
    pub fn observe(&mut self, host: &HostId, observation: Observation) -> Option<HostState> {
        let HostRecord { state, .. } = self.account.observe(host, observation)?;
        if !state.is_open() {
            self.awaited.remove(host);
        }
        Some(state)
    }

    /// Whether nobody is waited for any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.awaited.is_empty()
    }

    /// When the next host is to be given up, if nothing is heard; `None` where nobody is waited for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.awaited.iter().map(|host| self.deadline(host)).min()
    }

    /// Hosts whose time is over at `now`.
    #[must_use]
    pub fn overdue(&self, now: Duration) -> Vec<HostId> {
        self.awaited
            .iter()
            .filter(|host| self.deadline(host) <= now)
            .cloned()
            .collect()
    }

    /// Gives `hosts` up: they become `unknown`. Gives those that did.
    pub fn give_up(&mut self, hosts: &[HostId]) -> Vec<HostId> {
        hosts
            .iter()
            .filter(|host| {
                self.awaited.remove(*host);
                self.account.observe(host, Observation::WaitOver).is_some()
            })
            .cloned()
            .collect()
    }

    /// A stopped rollout left `hosts` out.
    pub fn skip(&mut self, hosts: &[HostId]) {
        for host in hosts {
            self.observe(host, Observation::Skipped);
        }
    }

    /// Hosts whose turn has not come.
    #[must_use]
    pub fn held(&self) -> Vec<HostId> {
        let held = self
            .account
            .hosts()
            .filter(|(_, record)| record.state == HostState::Held);
        held.map(|(host, _)| host.clone()).collect()
    }

    /// What the end of `host` in `state` means for a rollout.
    #[must_use]
    pub fn verdict(&self, host: &HostId, state: HostState) -> Verdict {
        let taken = self
            .times
            .get(host)
            .is_some_and(|times| times.taken.is_some());
        match state {
            HostState::Succeeded => Verdict::Good,
            HostState::Unroutable | HostState::DeliveryExpired | HostState::Skipped => {
                Verdict::Unreachable
            }
            HostState::Unknown if !taken => Verdict::Unreachable,
            _ => Verdict::Bad,
        }
    }

    /// When `host` is to be given up, if nothing more is heard of it.
    #[must_use]
    pub fn deadline(&self, host: &HostId) -> Duration {
        let times = self.times.get(host).copied().unwrap_or_default();
        let limit = match times {
            Times {
                taken: Some(taken), ..
            } => taken
                .saturating_add(self.patience.run)
                .saturating_add(AFTER_RUN),
            Times { sent, .. } => {
                let away = self
                    .away
                    .contains(host)
                    .then_some(self.patience.offline)
                    .flatten()
                    .map(|offline| offline.saturating_add(AFTER_EXPIRY));
                sent.unwrap_or_default()
                    .saturating_add(away.unwrap_or(self.patience.ack))
            }
        };
        self.patience.whole.map_or(limit, |whole| limit.min(whole))
    }
}

/// The exit code of a job whose hosts stand so.
#[must_use]
pub fn exit_of(tally: &Tally, stopped: bool) -> Exit {
    let mut exit = if stopped {
        Exit::RolloutStopped
    } else {
        Exit::Ok
    };
    for (state, _) in tally.iter() {
        exit = exit.worst(match state {
            HostState::Succeeded => Exit::Ok,
            HostState::Failed
            | HostState::ExecutionExpired
            | HostState::Interrupted
            | HostState::Cancelled => Exit::HostFailed,
            HostState::Rejected => Exit::HostRefused,
            _ => Exit::HostSilent,
        });
    }
    exit
}

/// The observation that a state read from the ledger stands for; none for a beginning.
#[must_use]
pub const fn observation_of(state: HostState) -> Option<Observation> {
    Some(match state {
        HostState::Held | HostState::Pending | HostState::Unknown => return None,
        HostState::Acked => Observation::Acked,
        HostState::Running => Observation::Running,
        HostState::Skipped => Observation::Skipped,
        HostState::Unroutable => Observation::Unroutable,
        HostState::DeliveryExpired => Observation::DeadLettered,
        HostState::Rejected => Observation::Ended(Outcome::Rejected),
        HostState::Interrupted => Observation::Ended(Outcome::Interrupted),
        HostState::Cancelled => Observation::Ended(Outcome::Cancelled),
        HostState::ExecutionExpired => Observation::Ended(Outcome::ExecutionExpired),
        HostState::Failed => Observation::Ended(Outcome::Failed),
        HostState::Succeeded => Observation::Ended(Outcome::Succeeded),
    })
}

#[cfg(test)]
mod tests;
