//! What is to be done about events: pure. Events, facts of the history and the time go in, decisions come out.
//!
//! Every event that a rule wants ends in exactly one decision of that rule: it is among the events of a firing, or of a
//! suppression with its reason. Until then it is held (`for`) or gathered (`window`, `interval`). Whoever takes over has
//! first the facts of the history told ([`Engine::note`]), then the events that it still has; what the facts cover is
//! not decided again, and a firing that had begun and not ended comes out once more, marked `again`.

mod gather;
mod recall;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use muster_proto::id::{HostId, MessageId};
use muster_proto::topology::topic_matches;

use self::gather::Batch;
use super::decision::{Decision, EVENTS_MAX, Firing, Reason, Suppressed};
use super::facts::{Begun, SUPPRESSED};
use super::heard::Heard;
use super::limits::{Breaker, Causes, Spent};
use super::rules::{Rule, Rules};
use super::silence::Silences;
use crate::serve::derived::derived_id;

/// Decided events that are remembered, so that a second copy is known.
const COVERED_MAX: usize = 200_000;

/// An event that must hold for a while.
#[derive(Debug, Clone)]
struct Held {
    heard: Arc<Heard>,
    due_ms: u64,
}

/// The engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    rules: Arc<Rules>,
    held: BTreeMap<(usize, HostId, String), Held>,
    batches: BTreeMap<(usize, String), Batch>,
    covered: HashSet<(usize, MessageId)>,
    covered_order: VecDeque<(usize, MessageId)>,
    last: BTreeMap<(usize, String), u64>,
    spent: Vec<Spent>,
    spent_hosts: BTreeMap<HostId, Spent>,
    spent_all: Spent,
    breakers: Vec<Breaker>,
    pub(crate) silences: Silences,
    causes: Causes,
    open: BTreeMap<MessageId, (Begun, BTreeSet<String>)>,
    out: Vec<Decision>,
}

impl Engine {
    /// One that knows nothing yet.
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        let count = rules.rules.len();
        Self {
            rules,
            held: BTreeMap::new(),
            batches: BTreeMap::new(),
            covered: HashSet::new(),
            covered_order: VecDeque::new(),
            last: BTreeMap::new(),
            spent: vec![Spent::default(); count],
            spent_hosts: BTreeMap::new(),
            spent_all: Spent::default(),
            breakers: vec![Breaker::default(); count],
            silences: Silences::default(),
            causes: Causes::default(),
            open: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// An event came. What is to be done about it comes out of the next [`Engine::tick`] that is due.
    pub(crate) fn take(&mut self, heard: &Arc<Heard>) {
        // That a rule did not act is nobody's cue: telling of that would never end.
        if heard.event.topic == SUPPRESSED {
            return;
        }
        let rules = Arc::clone(&self.rules);
        for (at, rule) in rules.rules.iter().enumerate() {
            let event = &heard.event;
            let place = (at, event.host.clone(), event.key.clone());
            let undoes = any_matches(&rule.until, &event.topic);
            let wanted = any_matches(&rule.on, &event.topic)
                && rule.when.as_ref().is_none_or(|when| when.matches(&**heard));
            // A second copy does nothing: what it would undo may have come after the first.
            if !(undoes || wanted) || !self.cover(at, heard.id) {
                continue;
            }
            // What is undone is not told.
            if undoes && let Some(held) = self.held.remove(&place) {
                self.suppress(at, Reason::Undone, &event.topic, vec![held.heard]);
            }
            if !wanted {
                continue;
            }
            if rule.hold_ms == 0 {
                self.gather(at, rule, Arc::clone(heard), heard.heard_ms);
                continue;
            }
            match self.held.entry(place) {
                Entry::Vacant(free) => {
                    let due_ms = heard.heard_ms.saturating_add(rule.hold_ms);
                    let heard = Arc::clone(heard);
                    free.insert(Held { heard, due_ms });
                }
                // The same said again.
                Entry::Occupied(_) => {
                    let heard = vec![Arc::clone(heard)];
                    self.suppress(at, Reason::Undone, "it is said already", heard);
                }
            }
        }
    }

    /// When something is due next, in milliseconds since 1970.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        if !self.out.is_empty() {
            return Some(0);
        }
        let held = self.held.values().map(|held| held.due_ms);
        let batches = self.batches.values().map(|batch| batch.due_ms);
        held.chain(batches).min()
    }

    /// What is to be done at `now_ms`.
    pub(crate) fn tick(&mut self, now_ms: u64) -> Vec<Decision> {
        let rules = Arc::clone(&self.rules);
        let due: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| held.due_ms <= now_ms)
            .map(|(place, _)| place.clone())
            .collect();
        for place in due {
            if let (Some(held), Some(rule)) = (self.held.remove(&place), rules.rules.get(place.0)) {
                self.gather(place.0, rule, held.heard, now_ms);
            }
        }
        let mut due: Vec<_> = self
            .batches
            .iter()
            .filter(|(_, batch)| batch.due_ms <= now_ms)
            .map(|(place, batch)| (batch.due_ms, place.clone()))
            .collect();
        due.sort();
        for (_, place) in due {
            if let (Some(batch), Some(rule)) =
                (self.batches.remove(&place), rules.rules.get(place.0))
            {
                self.decide(place.0, rule, batch, now_ms);
            }
        }
        let idle_ms = rules.host_budget.span_ms;
        if self.last.len() > 1000 {
            self.last.retain(|(at, _), last_ms| {
                let rule = rules.rules.get(*at);
                rule.is_some_and(|rule| last_ms.saturating_add(rule.interval_ms) > now_ms)
            });
        }
        if self.spent_hosts.len() > 1000 {
            self.spent_hosts
                .retain(|_, spent| !spent.is_idle(idle_ms, now_ms));
        }
        std::mem::take(&mut self.out)
    }

    /// An action of a firing has ended.
    pub(crate) fn ended(&mut self, rule: usize, good: bool, now_ms: u64) {
        let rules = Arc::clone(&self.rules);
        let Some(breaker) = self.breakers.get_mut(rule) else {
            return;
        };
        let changes = if good {
            breaker.good()
        } else {
            breaker.bad(&rules, now_ms)
        };
        if changes {
            let open = !good;
            self.out.push(Decision::Breaker {
                rule,
                open,
                at_ms: now_ms,
            });
        }
    }

    /// Remembers that the rule has to do with the event; whether that is new.
    fn cover(&mut self, rule: usize, id: MessageId) -> bool {
        let new = self.covered.insert((rule, id));
        if new {
            self.covered_order.push_back((rule, id));
        }
        if self.covered_order.len() > COVERED_MAX
            && let Some(oldest) = self.covered_order.pop_front()
        {
            self.covered.remove(&oldest);
        }
        new
    }

    fn decide(&mut self, at: usize, rule: &Rule, batch: Batch, now_ms: u64) {
        let rules = Arc::clone(&self.rules);
        if !self
            .breakers
            .get(at)
            .is_none_or(|it| it.lets_through(now_ms))
        {
            return self.suppress(at, Reason::Breaker, "", batch.events);
        }
        let wait_ms = rule.hold_ms + rule.window_ms + rule.interval_ms;
        let mut held_back: BTreeMap<(Reason, String), Vec<Arc<Heard>>> = BTreeMap::new();
        let mut events = Vec::new();
        let mut depth = 0;
        for heard in batch.events {
            let behind = self.causes.depth(&heard, rule.job.is_some());
            match self.obstacle(&rules, rule, &heard, behind, wait_ms, now_ms) {
                Some(why) => held_back.entry(why).or_default().push(heard),
                None => {
                    depth = depth.max(behind);
                    events.push(heard);
                }
            }
        }
        for ((reason, detail), events) in held_back {
            self.suppress(at, reason, &detail, events);
        }
        let Some(first) = events.first() else { return };
        if rule.dry_run {
            return self.suppress(at, Reason::DryRun, "", events);
        }
        let left = self
            .spent
            .get_mut(at)
            .is_none_or(|it| it.has_left(rule.budget, now_ms));
        if !left {
            return self.suppress(at, Reason::Budget, "", events);
        }
        if !self.spent_all.has_left(rules.budget, now_ms) {
            return self.suppress(at, Reason::FleetBudget, "", events);
        }
        let id = firing_id(&rule.name, first);
        self.spend(at, rule, &events, (id, depth), now_ms);
        if rule.interval_ms > 0 {
            self.last.insert((at, batch.group.clone()), now_ms);
        }
        if let Some(breaker) = self.breakers.get_mut(at) {
            breaker.acts(now_ms);
        }
        self.out.push(Decision::Fire(Firing {
            id,
            rule: at,
            group: batch.group,
            events,
            begun_ms: now_ms,
            depth,
            again: false,
            done: BTreeSet::new(),
        }));
    }

    fn spend(
        &mut self,
        at: usize,
        rule: &Rule,
        events: &[Arc<Heard>],
        (id, depth): (MessageId, u32),
        now_ms: u64,
    ) {
        if let Some(spent) = self.spent.get_mut(at) {
            spent.spend(now_ms);
        }
        self.spent_all.spend(now_ms);
        let hosts: BTreeSet<&HostId> = events.iter().map(|heard| &heard.event.host).collect();
        for host in hosts {
            self.spent_hosts
                .entry(host.clone())
                .or_default()
                .spend(now_ms);
        }
        self.causes.know(id, depth + 1);
        if rule.job.is_some() {
            for heard in events {
                let event = &heard.event;
                let of = (&event.host, event.key.as_str(), event.topic.as_str());
                self.causes
                    .trace(of, now_ms, self.rules.loop_window_ms, depth + 1);
            }
        }
    }

    /// Why one event is not acted upon.
    fn obstacle(
        &mut self,
        rules: &Rules,
        rule: &Rule,
        heard: &Heard,
        depth: u32,
        wait_ms: u64,
        now_ms: u64,
    ) -> Option<(Reason, String)> {
        let age_ms = now_ms.saturating_sub(heard.event.at_ms);
        if age_ms > rule.max_age_ms.saturating_add(wait_ms) {
            return Some((Reason::Age, String::new()));
        }
        if let Some(silence) = self.silences.over(heard, &rule.name, now_ms) {
            return Some((
                Reason::Silence,
                format!("{} ({})", silence.comment, silence.by),
            ));
        }
        let window = rules.maintenance.iter().find(|window| {
            (window.reactions.is_empty() || window.reactions.contains(&rule.name))
                && window.is_on(now_ms)
                && window.when.as_ref().is_none_or(|when| when.matches(heard))
        });
        if let Some(window) = window {
            return Some((Reason::Maintenance, window.name.clone()));
        }
        if depth >= rules.depth_max {
            return Some((Reason::Depth, format!("{depth} reactions stand behind it")));
        }
        let spent = self.spent_hosts.get_mut(&heard.event.host);
        if spent.is_some_and(|spent| !spent.has_left(rules.host_budget, now_ms)) {
            return Some((Reason::HostBudget, heard.event.host.to_string()));
        }
        None
    }

    fn suppress(&mut self, rule: usize, reason: Reason, detail: &str, events: Vec<Arc<Heard>>) {
        let at_ms = events.iter().map(|heard| heard.heard_ms).max().unwrap_or(0);
        let together = self.out.iter_mut().find_map(|decision| match decision {
            Decision::Suppress(it)
                if it.rule == rule
                    && it.reason == reason
                    && it.detail == detail
                    && it.events.len() + events.len() <= EVENTS_MAX =>
            {
                Some(it)
            }
            _ => None,
        });
        match together {
            Some(known) => known.events.extend(events),
            None => self.out.push(Decision::Suppress(Suppressed {
                rule,
                reason,
                detail: detail.to_owned(),
                events,
            })),
        }
        if reason.is_bad() {
            self.ended(rule, false, at_ms);
        }
    }

    fn rule_named(&self, name: &str) -> Option<usize> {
        self.rules.rules.iter().position(|rule| rule.name == name)
    }
}

/// The id of the firing of the rule called `rule` whose first event is `first`.
fn firing_id(rule: &str, first: &Heard) -> MessageId {
    derived_id(first.id.unix_ms(), &[rule.as_bytes(), first.id.as_bytes()])
}

/// Whether one of the patterns is of `topic`.
pub(crate) fn any_matches(patterns: &[String], topic: &str) -> bool {
    patterns.iter().any(|pattern| topic_matches(pattern, topic))
}

#[cfg(test)]
pub(crate) mod tests;
