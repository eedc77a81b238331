//! A rollout: which hosts of a job go next, and when to stop. Pure: it is told of ends and of the time, and knows neither
//! clock nor broker.
//!
//! - **Batch**: never more hosts at a time than `batch`. A place that becomes free is given on at once; with a pause, the
//!   next batch waits for the end of the one before and then for the pause.
//! - **Canary**: the first hosts go alone, and all must succeed. One that can't be reached proves nothing and is replaced.
//! - **Max failures**: one more stops it. What is under way is waited for; what is held is skipped.
//! - **Per label**: batch and failures are counted for each value of the label on its own, so that one failure domain
//!   never has more than its batch out; a domain with too many failures stops the whole.
//! - A host that can't be reached is no failure and holds no place from when that is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;

use muster_proto::id::HostId;

/// A number of hosts, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(usize),
    /// So many in a hundred, rounded down.
    Percent(u8),
}

impl Amount {
    /// How many of `total` that is.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(share) => total.saturating_mul(usize::from(share)) / 100,
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a number of hosts nor a share such as 10%");
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Count).map_err(|_| wrong()),
            Some(share) => match share.parse() {
                Ok(share @ 0..=100) => Ok(Self::Percent(share)),
                _ => Err(wrong()),
            },
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// The rules of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Hosts that go first and must all succeed.
    pub canary: usize,
    /// Most hosts at a time, at least one.
    pub batch: Amount,
    /// Most failures; one more stops it.
    pub max_failures: Amount,
    /// Time between batches, in milliseconds.
    pub pause_ms: u64,
}

/// How a host that was released ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It did what was asked.
    Good,
    /// It failed, refused, was cut off, or went silent after it had taken the job.
    Bad,
    /// It never took the job.
    Unreachable,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Release these hosts, then ask again.
    Release(Vec<HostId>),
    /// Wait for an end, or until this time at the latest.
    Wait {
        /// Milliseconds on the clock that the rollout is told of.
        until_ms: Option<u64>,
    },
    /// Nothing is held or under way any more.
    Done,
    /// A rule has stopped it: these hosts will not be released. What is under way goes on.
    Stopped {
        /// The rule, for people.
        rule: String,
        /// The hosts that it left out.
        skipped: Vec<HostId>,
    },
}

#[derive(Debug, Default)]
struct Domain {
    name: String,
    size: usize,
    held: VecDeque<HostId>,
    flying: usize,
    failures: usize,
}

/// A rollout under way.
#[derive(Debug)]
pub struct Rollout {
    rules: Rules,
    domains: Vec<Domain>,
    flying: BTreeMap<HostId, usize>,
    canaries_good: usize,
    canaries: BTreeSet<HostId>,
    proven: bool,
    resume_ms: Option<u64>,
    stopped: Option<String>,
    turn: usize,
}

impl Rollout {
    /// A rollout over `hosts`, in their order, each with the value of the label that parts failure domains (the same for
    /// all where there is none).
    #[must_use]
    pub fn new(rules: Rules, hosts: impl IntoIterator<Item = (HostId, String)>) -> Self {
        let mut domains: Vec<Domain> = Vec::new();
        for (host, name) in hosts {
            let at = domains.iter().position(|domain| domain.name == name);
            match at.and_then(|at| domains.get_mut(at)) {
                Some(domain) => domain.held.push_back(host),
                None => domains.push(Domain {
                    name,
                    held: [host].into(),
                    ..Domain::default()
                }),
            }
        }
        domains
            .iter_mut()
            .for_each(|domain| domain.size = domain.held.len());
        Self {
            rules,
            domains,
            flying: BTreeMap::new(),
            canaries_good: 0,
            canaries: BTreeSet::new(),
            proven: rules.canary == 0,
            resume_ms: None,
            stopped: None,
            turn: 0,
        }
    }

    /// What to do at `now_ms`.
    pub fn step(&mut self, now_ms: u64) -> Step {
        if let Some(rule) = &self.stopped {
            let rule = rule.clone();
            let skipped = self
                .domains
                .iter_mut()
                .flat_map(|domain| domain.held.drain(..))
                .collect();
            return Step::Stopped { rule, skipped };
        }
        let held = self.domains.iter().any(|domain| !domain.held.is_empty());
        if !held {
            return if self.flying.is_empty() {
                Step::Done
            } else {
                Step::Wait { until_ms: None }
            };
        }
        if let Some(resume_ms) = self.resume_ms {
            if now_ms < resume_ms {
                return Step::Wait {
                    until_ms: Some(resume_ms),
                };
            }
            self.resume_ms = None;
        }
        let released = if self.proven {
            self.next_batch()
        } else {
            self.next_canaries()
        };
        if released.is_empty() {
            Step::Wait { until_ms: None }
        } else {
            Step::Release(released)
        }
    }

    /// Takes note of the end of a host that was released; any other is left alone.
    pub fn ended(&mut self, host: &HostId, verdict: Verdict, now_ms: u64) {
        let Some(at) = self.flying.remove(host) else {
            return;
        };
        let canary = self.canaries.remove(host);
        let Some(domain) = self.domains.get_mut(at) else {
            return;
        };
        domain.flying = domain.flying.saturating_sub(1);
        if verdict == Verdict::Bad {
            domain.failures += 1;
            let (failures, allowed) = (domain.failures, self.rules.max_failures.of(domain.size));
            if canary {
                self.stop(format!("canary {}: {host} failed", self.rules.canary));
            } else if failures > allowed {
                let place = if domain.name.is_empty() {
                    String::new()
                } else {
                    format!(" of {}", domain.name)
                };
                let rule = self.rules.max_failures;
                self.stop(format!(
                    "max-failures {rule}: {failures}{place} failed, {allowed} allowed"
                ));
            }
        }
        if canary && verdict == Verdict::Good {
            self.canaries_good += 1;
        }
        let was_proven = self.proven;
        self.proven |= self.canaries_good >= self.rules.canary;
        let batch_over = self.flying.is_empty() && self.proven;
        if self.rules.pause_ms > 0 && (batch_over || (self.proven && !was_proven)) {
            self.resume_ms = Some(now_ms.saturating_add(self.rules.pause_ms));
        }
    }

    /// Stops it for a reason from outside; what was stopped stays so.
    pub fn stop(&mut self, rule: impl Into<String>) {
        self.stopped.get_or_insert_with(|| rule.into());
    }

    /// How many hosts are released and have not ended.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.flying.len()
    }

    fn next_canaries(&mut self) -> Vec<HostId> {
        let wanted = self
            .rules
            .canary
            .saturating_sub(self.canaries_good + self.flying.len());
        let released = self.release(wanted);
        self.canaries.extend(released.iter().cloned());
        released
    }

    fn next_batch(&mut self) -> Vec<HostId> {
        if self.rules.pause_ms > 0 && !self.flying.is_empty() {
            return Vec::new();
        }
        self.release(usize::MAX)
    }

    /// Releases at most `most` hosts, as many of each domain as its batch allows, one domain after the other.
    fn release(&mut self, most: usize) -> Vec<HostId> {
        let mut released = Vec::new();
        let mut idle = 0;
        while released.len() < most && idle < self.domains.len() {
            let at = self.turn % self.domains.len();
            self.turn = self.turn.wrapping_add(1);
            let Some(domain) = self.domains.get_mut(at) else {
                break;
            };
            let room = domain.flying < self.rules.batch.of(domain.size).max(1);
            let next = if room { domain.held.pop_front() } else { None };
            match next {
                Some(host) => {
                    idle = 0;
                    domain.flying += 1;
                    self.flying.insert(host.clone(), at);
                    released.push(host);
                }
                None => idle += 1,
            }
        }
        released
    }
}

#[cfg(test)]
mod tests;
