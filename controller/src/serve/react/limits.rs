//! What holds reactions back: budgets, breakers, and the chain of causes. Pure; the time is handed in.

use std::collections::{HashMap, VecDeque};

use muster_proto::id::{HostId, MessageId};

use super::heard::Heard;
use super::rules::{Budget, Rules};

/// Causes that are remembered: hours of a busy fleet's reactions.
const CAUSES_MAX: usize = 100_000;

/// Jobs that are remembered as possible causes.
const TRACES_MAX: usize = 10_000;

/// The times at which something was spent, of the last span alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spent(VecDeque<u64>);

impl Spent {
    /// Whether there is something left at `now_ms`.
    pub(crate) fn has_left(&mut self, budget: Budget, now_ms: u64) -> bool {
        let since = now_ms.saturating_sub(budget.span_ms);
        while self.0.front().is_some_and(|at| *at < since) {
            self.0.pop_front();
        }
        self.0.len() < budget.count
    }

    /// Spends one.
    pub(crate) fn spend(&mut self, now_ms: u64) {
        self.0.push_back(now_ms);
    }

    /// Whether nothing of the last `span_ms` is in it.
    pub(crate) fn is_idle(&self, span_ms: u64, now_ms: u64) -> bool {
        let since = now_ms.saturating_sub(span_ms);
        self.0.back().is_none_or(|at| *at < since)
    }
}

/// A rule's breaker: opens when too much has ended badly, lets one try through after a pause, and closes when that goes
/// well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    bad: VecDeque<u64>,
    /// While it is open: when one may be tried.
    open_until_ms: Option<u64>,
    /// One is being tried, and nothing else is let through.
    trying: bool,
}

impl Breaker {
    /// Whether the rule may act at `now_ms`.
    pub(crate) fn lets_through(&self, now_ms: u64) -> bool {
        match self.open_until_ms {
            Some(until_ms) => now_ms >= until_ms,
            None => !self.trying,
        }
    }

    /// The rule acts at `now_ms`: where the breaker was open, that is the try.
    pub(crate) fn acts(&mut self, now_ms: u64) {
        if self
            .open_until_ms
            .is_some_and(|until_ms| now_ms >= until_ms)
        {
            self.open_until_ms = None;
            self.trying = true;
        }
    }

    /// Somebody told at `at_ms` that it is open, or closed.
    pub(crate) fn told(&mut self, open: bool, at_ms: u64, pause_ms: u64) {
        self.bad.clear();
        self.trying = false;
        self.open_until_ms = open.then(|| at_ms.saturating_add(pause_ms));
    }

    /// Something ended badly. Whether it opens now.
    pub(crate) fn bad(&mut self, rules: &Rules, now_ms: u64) -> bool {
        if self.open_until_ms.is_some_and(|until| now_ms < until) {
            return false;
        }
        self.bad.push_back(now_ms);
        let since = now_ms.saturating_sub(rules.breaker_within_ms);
        while self.bad.front().is_some_and(|at| *at < since) {
            self.bad.pop_front();
        }
        if !self.trying && self.bad.len() < rules.breaker_after {
            return false;
        }
        self.bad.clear();
        self.trying = false;
        self.open_until_ms = Some(now_ms.saturating_add(rules.breaker_pause_ms));
        true
    }

    /// Something ended well. Whether it closes now.
    pub(crate) fn good(&mut self) -> bool {
        std::mem::take(&mut self.trying)
    }
}

/// A job that was sent, as a possible cause of what is heard of its host next.
#[derive(Debug, Clone, PartialEq)]
struct Trace {
    host: HostId,
    key: String,
    topic: String,
    from_ms: u64,
    until_ms: u64,
    depth: u32,
}

/// How many reactions stand behind an event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Causes {
    depths: HashMap<MessageId, u32>,
    order: VecDeque<MessageId>,
    traces: VecDeque<Trace>,
}

impl Causes {
    /// What names `id` as its cause has `depth` reactions behind it.
    pub(crate) fn know(&mut self, id: MessageId, depth: u32) {
        if self.depths.insert(id, depth).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > CAUSES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.depths.remove(&oldest);
        }
    }

    /// A job went to `host` because of an event with this key and topic. Agents can't say what made their services
    /// change, so the next such event within the window is taken to be caused by it.
    pub(crate) fn trace(
        &mut self,
        of: (&HostId, &str, &str),
        from_ms: u64,
        window_ms: u64,
        depth: u32,
    ) {
        let (host, key, topic) = of;
        self.traces.push_back(Trace {
            host: host.clone(),
            key: key.to_owned(),
            topic: topic.to_owned(),
            from_ms,
            until_ms: from_ms.saturating_add(window_ms),
            depth,
        });
        while self.traces.len() > TRACES_MAX
            || self
                .traces
                .front()
                .is_some_and(|trace| trace.until_ms < from_ms)
        {
            self.traces.pop_front();
        }
    }

    /// The number of reactions behind `heard`. With `by_trace`, also those that it does not name itself.
    pub(crate) fn depth(&self, heard: &Heard, by_trace: bool) -> u32 {
        let event = &heard.event;
        if event.topic.starts_with("reaction.") {
            let told = event
                .fields
                .get("depth")
                .and_then(serde_json::Value::as_u64);
            return told
                .map_or(0, |depth| u32::try_from(depth).unwrap_or(u32::MAX))
                .saturating_add(1);
        }
        let named = event
            .cause
            .and_then(|cause| self.depths.get(&cause).copied());
        let traced = self.traces.iter().filter(|trace| {
            by_trace
                && trace.host == event.host
                && trace.key == event.key
                && (!event.key.is_empty() || trace.topic == event.topic)
                && (trace.from_ms..=trace.until_ms).contains(&heard.heard_ms)
        });
        named
            .into_iter()
            .chain(traced.map(|trace| trace.depth))
            .max()
            .unwrap_or(0)
    }
}
