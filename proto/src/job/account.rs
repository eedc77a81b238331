//! The account of one job: every targeted host in one state, and their sum always the number targeted.

use std::collections::{BTreeMap, BTreeSet};

use super::{HostState, Observation, transition};
use crate::id::HostId;

/// Where one host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRecord {
    /// Its state.
    pub state: HostState,
    /// Whether its end became known only after the wait was over.
    pub late: bool,
}

/// How many hosts are in each state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally(BTreeMap<HostState, usize>);

impl Tally {
    /// The number of hosts in `state`.
    #[must_use]
    pub fn of(&self, state: HostState) -> usize {
        self.0.get(&state).copied().unwrap_or(0)
    }

    /// The states that at least one host is in, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (HostState, usize)> + '_ {
        self.0.iter().map(|(state, count)| (*state, *count))
    }

    /// The number of all hosts.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// The number of hosts of which more is expected.
    #[must_use]
    pub fn open(&self) -> usize {
        self.iter()
            .filter(|(state, _)| state.is_open())
            .map(|(_, count)| count)
            .sum()
    }

    /// Counts one more host in `state`.
    pub fn add(&mut self, state: HostState) {
        *self.0.entry(state).or_default() += 1;
    }

    fn shift(&mut self, from: HostState, to: HostState) {
        if let Some(count) = self.0.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&from);
            }
        }
        self.add(to);
    }
}

impl FromIterator<HostState> for Tally {
    fn from_iter<I: IntoIterator<Item = HostState>>(states: I) -> Self {
        let mut tally = Self::default();
        states.into_iter().for_each(|state| tally.add(state));
        tally
    }
}

/// One job's hosts. The list is fixed when it is made: nobody joins or leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    hosts: BTreeMap<HostId, HostRecord>,
    surprises: BTreeSet<HostId>,
    tally: Tally,
}

impl Account {
    /// The account of a job for `hosts`, all `pending`, or all `held` where it is rolled out in batches.
    pub fn open(hosts: impl IntoIterator<Item = HostId>, rollout: bool) -> Self {
        let state = if rollout {
            HostState::Held
        } else {
            HostState::Pending
        };
        let hosts: BTreeMap<_, _> = hosts
            .into_iter()
            .map(|host| (host, HostRecord { state, late: false }))
            .collect();
        let tally = hosts.values().map(|record| record.state).collect();
        Self {
            hosts,
            surprises: BTreeSet::new(),
            tally,
        }
    }

    /// Takes note of something about `host`; the new record where it changed. A host that is not on the list is a
    /// surprise, and counted nowhere else.
    pub fn observe(&mut self, host: &HostId, observation: Observation) -> Option<HostRecord> {
        let Some(record) = self.hosts.get_mut(host) else {
            self.surprises.insert(host.clone());
            return None;
        };
        let next = transition(record.state, observation)?;
        self.tally.shift(record.state, next);
        record.late |= record.state == HostState::Unknown;
        record.state = next;
        Some(*record)
    }

    /// The end of the wait: every open host but the held ones becomes `unknown`. Gives those hosts.
    pub fn give_up(&mut self, wanted: impl Fn(&HostId) -> bool) -> Vec<HostId> {
        let open: Vec<_> = self
            .hosts
            .iter()
            .filter(|(host, record)| record.state.is_open() && wanted(host))
            .map(|(host, _)| host.clone())
            .collect();
        open.into_iter()
            .filter(|host| self.observe(host, Observation::WaitOver).is_some())
            .collect()
    }

    /// The number of hosts targeted.
    #[must_use]
    pub fn targeted(&self) -> usize {
        self.hosts.len()
    }

    /// How many hosts are in each state; they add up to [`Account::targeted`].
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// One host's record.
    #[must_use]
    pub fn host(&self, host: &HostId) -> Option<HostRecord> {
        self.hosts.get(host).copied()
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostId, HostRecord)> {
        self.hosts.iter().map(|(host, record)| (host, *record))
    }

    /// Hosts that answered without being asked.
    #[must_use]
    pub fn surprises(&self) -> &BTreeSet<HostId> {
        &self.surprises
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::super::Outcome;
    use super::*;

    fn host(number: usize) -> HostId {
        format!("h{number}").parse().unwrap()
    }

    fn observation() -> impl Strategy<Value = Observation> {
        use Outcome as O;
        prop::sample::select(vec![
            Observation::Released,
            Observation::Unroutable,
            Observation::Skipped,
            Observation::Acked,
            Observation::Running,
            Observation::DeadLettered,
            Observation::WaitOver,
            Observation::Ended(O::Succeeded),
            Observation::Ended(O::Failed),
            Observation::Ended(O::Rejected),
            Observation::Ended(O::DeliveryExpired),
            Observation::Ended(O::ExecutionExpired),
            Observation::Ended(O::Cancelled),
            Observation::Ended(O::Interrupted),
        ])
    }

    fn check(account: &Account, targeted: usize) {
        assert_eq!(account.tally().total(), targeted);
        let counted: Tally = account.hosts().map(|(_, record)| record.state).collect();
        assert_eq!(&counted, account.tally());
    }

    proptest! {
        #[test]
        fn the_states_always_add_up(
            hosts in 1_usize..6,
            rollout: bool,
            steps in prop::collection::vec((0_usize..8, observation()), 0..80),
        ) {
            let mut account = Account::open((0..hosts).map(host), rollout);
            for (number, observation) in steps {
                let before = account.host(&host(number));
                account.observe(&host(number), observation);
                check(&account, hosts);
                prop_assert_eq!(number >= hosts, before.is_none());
                if let (Some(before), Some(after)) = (before, account.host(&host(number))) {
                    prop_assert!(before.state.is_open() || !after.state.is_open(), "an end is an end");
                }
            }
            account.give_up(|_| true);
            check(&account, hosts);
            prop_assert!(account.hosts().all(|(_, r)| !r.state.is_open() || r.state == HostState::Held));
        }

        #[test]
        fn the_end_does_not_depend_on_order_or_repeats(
            (steps, shuffled) in prop::collection::vec(observation(), 1..12).prop_flat_map(|steps| {
                // At most one agent's deed: the agent's dedupe sees to that. Everything else may repeat.
                let mut ended = None;
                let steps: Vec<_> = steps.into_iter().filter(|step| match step {
                    Observation::Ended(Outcome::Rejected | Outcome::DeliveryExpired) => true,
                    Observation::Ended(outcome) => *ended.get_or_insert(*outcome) == *outcome,
                    Observation::Unroutable | Observation::Skipped => false,
                    _ => true,
                }).collect();
                let doubled: Vec<_> = steps.iter().chain(&steps).copied().collect();
                (Just(steps), Just(doubled).prop_shuffle())
            }),
        ) {
            let end = |steps: &[Observation]| {
                let mut account = Account::open([host(0)], false);
                for step in steps {
                    account.observe(&host(0), *step);
                }
                account.host(&host(0)).unwrap().state
            };
            prop_assert_eq!(end(&steps), end(&shuffled));
        }
    }

    #[test]
    fn a_late_result_moves_unknown_and_is_marked() {
        let mut account = Account::open([host(0), host(1)], false);
        account.observe(&host(0), Observation::Ended(Outcome::Succeeded));
        assert_eq!(account.give_up(|_| true), vec![host(1)]);
        assert_eq!(account.observe(&host(1), Observation::Running), None);
        let late = account.observe(&host(1), Observation::Ended(Outcome::Failed));
        assert_eq!(
            late,
            Some(HostRecord {
                state: HostState::Failed,
                late: true
            })
        );
        assert!(!account.host(&host(0)).unwrap().late);
    }

    #[test]
    fn a_surprise_is_shown_and_not_counted() {
        let mut account = Account::open([host(0)], false);
        assert_eq!(
            account.observe(&host(9), Observation::Ended(Outcome::Succeeded)),
            None
        );
        assert!(account.surprises().contains(&host(9)));
        assert_eq!((account.targeted(), account.tally().total()), (1, 1));
    }

    #[test]
    fn what_a_host_did_outranks_what_others_say() {
        for word in [
            Observation::Unroutable,
            Observation::DeadLettered,
            Observation::Ended(Outcome::Rejected),
        ] {
            let mut account = Account::open([host(0)], false);
            account.observe(&host(0), word);
            account.observe(&host(0), Observation::Ended(Outcome::Succeeded));
            account.observe(&host(0), word);
            account.observe(&host(0), Observation::Ended(Outcome::Failed));
            assert_eq!(account.host(&host(0)).unwrap().state, HostState::Succeeded);
        }
    }
}
