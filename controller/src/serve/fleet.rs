//! The state of the fleet: which hosts there are, when they were heard of last, and who is lost. Pure: messages and the
//! time go in, and what is not told yet comes out. It must not know the broker.
//!
//! A host is silent after two of its own intervals without a word, lost after three, and back with its next word. When
//! many are silent at a time, it is the broker or the network and not the hosts: that is told once, as one silence, and
//! the hosts are named one by one only if they are still silent when others have been back for as long as it takes to be
//! lost, or when it does not end.

use std::collections::BTreeMap;

use muster_proto::id::{HostId, MessageId};
use muster_proto::presence::Presence;

use super::derived::derived_id;

/// A host is silent after this many of its intervals: one word may be lost.
const SILENT_INTERVALS: u64 = 2;

/// It is lost after this many: those who fell silent for the same reason are known by then.
const LOST_INTERVALS: u64 = 3;

/// From so many hosts on a silence may be one of many …
const MANY_MIN: usize = 3;

/// … where at least this part of those that were there is overdue, in percent.
const MANY_PERCENT: usize = 50;

/// How long a silence of many is waited out before its hosts are told as lost one by one.
const SILENCE_HOLD_MS: u64 = 5 * 60 * 1000;

/// Hosts that are kept at the most: ten times the largest fleet that one broker node carries.
pub(crate) const HOSTS_MAX: usize = 100_000;

/// What is known of one host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Host {
    /// Its newest word.
    pub(crate) presence: Presence,
    /// When that came in, by our clock.
    pub(crate) seen_ms: u64,
    /// How far its clock is before ours, as seen when it came in; delays make this too small, never too large.
    pub(crate) clock_ahead_ms: i64,
    /// Whether it is there.
    pub(crate) state: HostState,
}

/// Whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostState {
    /// It is.
    There,
    /// It said goodbye.
    Stopped,
    /// It is silent, and not yet lost, or with so many others that it is not the fault of each.
    Silent,
    /// It is lost.
    Lost,
}

/// What was told of the fleet, whoever told it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Hosts that were told as lost last, and by which event.
    pub(crate) lost: BTreeMap<HostId, MessageId>,
    /// Whether a silence was told as begun last.
    pub(crate) silence: bool,
}

impl Told {
    /// Takes note of what somebody told.
    pub(crate) fn note(&mut self, change: &Change) {
        match change {
            Change::Lost { host, id, .. } => _ = self.lost.insert(host.clone(), *id),
            Change::Back { host, .. } => _ = self.lost.remove(host),
            Change::SilenceBegan { .. } => self.silence = true,
            Change::SilenceEnded { .. } => self.silence = false,
        }
    }
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A host fell silent.
    Lost {
        /// Which.
        host: HostId,
        /// When it was heard of last.
        seen_ms: u64,
        /// Follows from its last word: of several who tell it, each has the same.
        id: MessageId,
    },
    /// A lost host is heard of again, or has said goodbye.
    Back {
        /// Which.
        host: HostId,
        /// Follows from the event that told it lost.
        id: MessageId,
    },
    /// Many fell silent at once.
    SilenceBegan {
        /// How many.
        silent: usize,
        /// Of how many.
        hosts: usize,
    },
    /// Most of them are heard of again, or are told as lost one by one.
    SilenceEnded {
        /// How many are still silent.
        silent: usize,
    },
}

/// The fleet as it is known here.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    hosts: BTreeMap<HostId, Host>,
    silence_since_ms: Option<u64>,
    /// When the others of a silence were back: who was silent with them has his time anew from then.
    back_since_ms: u64,
    /// Nobody is overdue before this: we were deaf ourselves.
    deaf_until_ms: u64,
    /// Words of hosts beyond the bound.
    pub(crate) refused: u64,
}

impl Fleet {
    /// Every host, by name.
    pub(crate) fn hosts(&self) -> &BTreeMap<HostId, Host> {
        &self.hosts
    }

    /// Whether a silence of many goes on.
    pub(crate) const fn is_silent(&self) -> bool {
        self.silence_since_ms.is_some()
    }

    /// We hear the fleet again, after a time in which we could not: everybody gets their full time anew.
    pub(crate) fn listening_from(&mut self, now_ms: u64) {
        let longest = self
            .hosts
            .values()
            .map(|host| LOST_INTERVALS.saturating_mul(host.presence.interval_ms))
            .max();
        self.deaf_until_ms = now_ms.saturating_add(longest.unwrap_or(0));
    }

    /// A host's word that came in at `now_ms`.
    pub(crate) fn hear(&mut self, presence: Presence, now_ms: u64) {
        let before = self.hosts.get(&presence.host);
        if before.is_none() && self.hosts.len() >= HOSTS_MAX {
            self.refused += 1;
            return;
        }
        // The goodbye of an agent that was started anew meanwhile says nothing of the one that runs.
        // Only of a goodbye: a host's clock may be set back, and its agent then started anew.
        let is_older = |before: &Host| before.presence.started_at_ms > presence.started_at_ms;
        if presence.goodbye && before.is_some_and(is_older) {
            return;
        }
        let state = if presence.goodbye {
            HostState::Stopped
        } else {
            HostState::There
        };
        let ahead = i128::from(presence.at_ms) - i128::from(now_ms);
        let host = Host {
            clock_ahead_ms: i64::try_from(ahead).unwrap_or(i64::MAX),
            seen_ms: now_ms,
            state,
            presence,
        };
        self.hosts.insert(host.presence.host.clone(), host);
    }

    /// A host was taken out of the fleet.
    pub(crate) fn retire(&mut self, host: &HostId) {
        self.hosts.remove(host);
    }

    /// Looks at the clock: who is overdue, and whether a silence of many has begun or ended.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        if now_ms < self.deaf_until_ms {
            return;
        }
        for host in self.hosts.values_mut() {
            if host.state == HostState::There
                && is_over(host.seen_ms, host, SILENT_INTERVALS, now_ms)
            {
                host.state = HostState::Silent;
            }
        }
        let silent = self.count(HostState::Silent);
        let expected = silent + self.count(HostState::There);
        let many = silent >= MANY_MIN && silent * 100 >= expected * MANY_PERCENT;
        self.silence_since_ms = match self.silence_since_ms {
            None if many => Some(now_ms),
            Some(since_ms) if many && now_ms.saturating_sub(since_ms) < SILENCE_HOLD_MS => {
                Some(since_ms)
            }
            Some(_) if !many => {
                self.back_since_ms = now_ms;
                None
            }
            _ => None,
        };
        if self.silence_since_ms.is_none() {
            let back_since_ms = self.back_since_ms;
            for host in self.hosts.values_mut() {
                let since_ms = host.seen_ms.max(back_since_ms);
                if host.state == HostState::Silent
                    && is_over(since_ms, host, LOST_INTERVALS, now_ms)
                {
                    host.state = HostState::Lost;
                }
            }
        }
    }

    /// What is so and was not told, and the other way round.
    pub(crate) fn untold(&self, told: &Told, now_ms: u64) -> Vec<Change> {
        if now_ms < self.deaf_until_ms {
            return Vec::new();
        }
        let mut changes = Vec::new();
        let silent = self.count(HostState::Silent);
        if self.is_silent() && !told.silence {
            let hosts = silent + self.count(HostState::There);
            changes.push(Change::SilenceBegan { silent, hosts });
        } else if !self.is_silent() && told.silence {
            let silent = silent + self.count(HostState::Lost);
            changes.push(Change::SilenceEnded { silent });
        }
        for (name, host) in &self.hosts {
            match host.state {
                HostState::Lost if !told.lost.contains_key(name) => changes.push(Change::Lost {
                    host: name.clone(),
                    seen_ms: host.seen_ms,
                    id: derived_id(host.presence.at_ms, &[b"lost", name.as_str().as_bytes()]),
                }),
                HostState::There | HostState::Stopped => {
                    changes.extend(told.lost.get(name).map(|lost| Change::Back {
                        host: name.clone(),
                        id: derived_id(lost.unix_ms(), &[b"back", lost.as_bytes()]),
                    }));
                }
                _ => {}
            }
        }
        changes
    }

    /// Hosts in this state.
    pub(crate) fn count(&self, state: HostState) -> usize {
        self.hosts
            .values()
            .filter(|host| host.state == state)
            .count()
    }
}

/// Whether so many of the host's intervals are over since then.
fn is_over(since_ms: u64, host: &Host, intervals: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) > intervals.saturating_mul(host.presence.interval_ms)
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
pub(crate) mod tests;
