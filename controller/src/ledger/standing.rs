//! Where a host stands in a job: pure. States move by [`transition`] alone, so that the end is the same in any order; this
//! adds what only a reader of the ledger needs: lateness, and what an open state means when nobody is left to wait.

use muster_proto::job::{HostState, transition};

use super::fold::{Answer, Sighting};

/// What decides whether an answer is late, and what an open state means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobTimes {
    /// When the controller meant to stop waiting.
    pub wait_until_ms: u64,
    /// After this nobody starts the job.
    pub deliver_by_ms: u64,
    /// How long it may run.
    pub run_limit_ms: u64,
    /// Whether the controller is done with it.
    pub closed: bool,
}

/// Where a host stands in a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: HostState,
    /// Whether its end became known only after the wait was over.
    pub late: bool,
    /// Whether it was away when the job was opened.
    pub away: bool,
    /// Whether the host is on the job's list; an answer of one that isn't is a surprise.
    pub targeted: bool,
    /// Code and sentence.
    pub reason: Option<(String, String)>,
    /// Its answer.
    pub answer: Option<Answer>,
    /// When the state last changed, by the clock of whoever said so.
    pub changed_at_ms: u64,
}

impl Standing {
    /// A host at the beginning of a job.
    #[must_use]
    pub fn new(targeted: bool, away: bool, rollout: bool) -> Self {
        let state = if rollout {
            HostState::Held
        } else {
            HostState::Pending
        };
        Self {
            state,
            late: false,
            away,
            targeted,
            reason: None,
            answer: None,
            changed_at_ms: 0,
        }
    }

    /// Takes note of `sighting`; whether that changed anything.
    pub fn observe(&mut self, times: JobTimes, sighting: &Sighting) -> bool {
        let Some(next) = transition(self.state, sighting.observation) else {
            return false;
        };
        if sighting.answer.is_some() {
            // A host that was away is not waited for, so the controller's close says nothing of the others.
            let after_close = times.closed && self.away;
            let after_wait = !times.closed && sighting.at_ms > times.wait_until_ms;
            self.late |= self.state == HostState::Unknown || after_close || after_wait;
        }
        self.state = next;
        self.reason.clone_from(&sighting.reason);
        self.answer.clone_from(&sighting.answer);
        self.changed_at_ms = sighting.at_ms;
        true
    }

    /// The state to show at `now_ms`. Where the controller died, nobody has said that the wait is over: then time says it.
    #[must_use]
    pub fn shown(&self, times: JobTimes, now_ms: u64) -> HostState {
        let over = times
            .deliver_by_ms
            .saturating_add(times.run_limit_ms)
            .saturating_add(GRACE_MS);
        let waited = times.wait_until_ms.saturating_add(GRACE_MS);
        match self.state {
            HostState::Held if now_ms > times.deliver_by_ms.saturating_add(GRACE_MS) => {
                HostState::Skipped
            }
            HostState::Held => HostState::Held,
            state if !state.is_open() => state,
            _ if self.away && now_ms > over => HostState::Unknown,
            _ if !self.away && now_ms > waited => HostState::Unknown,
            state => state,
        }
    }
}

/// How long after the end of the wait a job of a controller that died is counted as over: its last note may be on the way.
const GRACE_MS: u64 = 10_000;
