//! What the engine is told by whoever takes over: the facts of the history, and what had begun and not ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_proto::id::{HostId, MessageId};

use super::Engine;
use crate::serve::react::decision::{Decision, Firing, Reason};
use crate::serve::react::facts::{Begun, Fact};
use crate::serve::react::heard::Heard;

impl Engine {
    /// A fact of the history, for one who takes over. To be told in order, before the events.
    pub(crate) fn note(&mut self, fact: Fact) {
        match fact {
            Fact::Begun(begun) => self.note_begun(begun),
            Fact::Ended {
                firing,
                rule,
                action,
                good,
                at_ms,
            } => {
                let Some(rule) = self.rule_named(&rule) else {
                    return;
                };
                let is_over = self.open.get_mut(&firing).is_some_and(|(_, done)| {
                    done.insert(action);
                    let rule = self.rules.rules.get(rule);
                    rule.is_some_and(|rule| rule.actions().iter().all(|it| done.contains(it)))
                });
                if is_over {
                    self.open.remove(&firing);
                }
                self.ended(rule, good, at_ms);
            }
            Fact::Suppressed {
                rule,
                reason,
                events,
                at_ms,
            } => {
                let Some(rule) = self.rule_named(&rule) else {
                    return;
                };
                for id in events {
                    self.cover(rule, id);
                }
                if reason.is_some_and(Reason::is_bad) {
                    self.ended(rule, false, at_ms);
                }
            }
            Fact::Breaker { rule, open, at_ms } => {
                // It is known: nobody need tell it again.
                let rule = self.rule_named(&rule);
                let pause_ms = self.rules.breaker_pause_ms;
                if let Some(breaker) = rule.and_then(|rule| self.breakers.get_mut(rule)) {
                    breaker.told(open, at_ms, pause_ms);
                }
                self.out.retain(|decision| !matches!(decision, Decision::Breaker { rule: of, open: was, .. } if Some(*of) == rule && *was == open));
            }
            Fact::Silenced(silence) => self.silences.add(silence),
            Fact::Unsilenced(id) => self.silences.remove(&id),
        }
    }

    fn note_begun(&mut self, begun: Begun) {
        self.spent_all.spend(begun.at_ms);
        let hosts: BTreeSet<&HostId> = begun.subjects.iter().map(|(host, ..)| host).collect();
        for host in hosts {
            self.spent_hosts
                .entry(host.clone())
                .or_default()
                .spend(begun.at_ms);
        }
        let Some(at) = self.rule_named(&begun.rule) else {
            return;
        };
        for id in &begun.events {
            self.cover(at, *id);
        }
        if let Some(spent) = self.spent.get_mut(at) {
            spent.spend(begun.at_ms);
        }
        if let Some(breaker) = self.breakers.get_mut(at) {
            breaker.acts(begun.at_ms);
        }
        let rules = Arc::clone(&self.rules);
        if rules.rules.get(at).is_some_and(|rule| rule.interval_ms > 0) {
            self.last.insert((at, begun.group.clone()), begun.at_ms);
        }
        if rules.rules.get(at).is_some_and(|rule| rule.job.is_some()) {
            for (host, key, topic) in &begun.subjects {
                self.causes.trace(
                    (host, key, topic),
                    begun.at_ms,
                    rules.loop_window_ms,
                    begun.depth + 1,
                );
            }
        }
        self.causes.know(begun.firing, begun.depth + 1);
        self.open.insert(begun.firing, (begun, BTreeSet::new()));
    }

    /// After the facts: the firings that had begun and not ended, of which an event is had by `find`.
    pub(crate) fn resume(&mut self, mut find: impl FnMut(&MessageId) -> Option<Arc<Heard>>) {
        for (id, (begun, done)) in std::mem::take(&mut self.open) {
            let Some(at) = self.rule_named(&begun.rule) else {
                continue;
            };
            let events: Vec<Arc<Heard>> = begun.events.iter().filter_map(&mut find).collect();
            if events.is_empty() {
                continue;
            }
            self.out.push(Decision::Fire(Firing {
                id,
                rule: at,
                group: begun.group,
                events,
                begun_ms: begun.at_ms,
                depth: begun.depth,
                again: true,
                done,
            }));
        }
    }
}
