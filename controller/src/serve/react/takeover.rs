//! Taking over: from what the history knows to an engine that goes on where another stopped. Reads for as long as it
//! takes, on a thread of its own. It must not act.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use muster_link::stamp;
use muster_proto::event::Event;
use muster_proto::id::{HostId, MessageId};

use super::engine::Engine;
use super::facts::fact;
use super::heard::Heard;
use super::past::{Past, is_genuine};
use super::rules::Rules;
use crate::serve::history::History;
use crate::serve::watch::SharedFleet;

/// How long an event may be between the stream and a decision, beside what its rule waits for.
const SLACK_MS: u64 = 60_000;

/// What is known of the hosts that events come from.
pub(super) struct Known(pub(super) SharedFleet);

impl Known {
    /// An event that came at `heard_ms`, with the labels of its host.
    pub(super) fn heard(&self, id: MessageId, event: Event, heard_ms: u64) -> Heard {
        let fleet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let host = fleet.hosts().get(&event.host);
        Heard {
            id,
            labels: host.map_or_else(Default::default, |host| host.presence.labels.clone()),
            event,
            heard_ms,
        }
    }

    /// Whether the event is by whom it says.
    pub(super) fn is_genuine(&self, event: &Event, routing_key: &str) -> bool {
        is_genuine(event, routing_key, |host| self.is_host(host))
    }

    fn is_host(&self, name: &HostId) -> bool {
        let fleet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fleet.hosts().contains_key(name)
    }
}

/// One who takes over.
pub(super) struct Takeover {
    /// Its own way to the history.
    pub(super) history: History,
    /// The rules.
    pub(super) rules: Arc<Rules>,
    /// The hosts.
    pub(super) known: Known,
}

impl Takeover {
    /// The engine as whoever reacted before has left it.
    ///
    /// # Errors
    /// When the history can't be read, or nobody waits for it any more.
    pub(super) fn engine(&self, is_wanted: impl Fn() -> bool) -> Result<Engine> {
        let (past, rules, known) = (Past(&self.history), &self.rules, &self.known);
        let (start, now_ms) = (Instant::now(), stamp::now_ms());
        let mut engine = Engine::new(Arc::clone(rules));
        let is_genuine = |event: &Event, key: &str| known.is_genuine(event, key);
        let (mut facts, mut events) = (0_u64, 0_u64);
        let since_ms = now_ms.saturating_sub(rules.memory_ms());
        past.facts(since_ms, |(_, key, _, event)| {
            if let Some(fact) = fact(&event).filter(|_| is_genuine(&event, &key)) {
                engine.note(fact);
                facts += 1;
            }
            is_wanted()
        })?;
        let since_ms = now_ms.saturating_sub(rules.wait_ms().saturating_add(SLACK_MS));
        let take = |(id, key, at_ms, event): (MessageId, String, u64, Event)| {
            if is_genuine(&event, &key) {
                engine.take(&Arc::new(known.heard(id, event, at_ms.min(now_ms))));
                events += 1;
            }
            is_wanted()
        };
        past.events(&rules.patterns(), since_ms, is_genuine, take)?;
        engine.resume(|id| {
            let (id, _, at_ms, event) = past.event(id).ok()??;
            Some(Arc::new(known.heard(id, event, at_ms)))
        });
        if !is_wanted() {
            bail!("nobody waits any more for what happened before");
        }
        let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(facts, events, took_ms, "read what happened before");
        Ok(engine)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::serve::fleet::tests::word;
    use crate::serve::history::tests::{row_of, sample};
    use crate::serve::react::decision::{Decision, Reason, Suppressed};
    use crate::serve::react::engine::tests::config;
    use crate::serve::react::facts::Teller;

    /// One who takes over after an event `x` of h1, of which `teller` told that it is not acted upon.
    fn after(teller: &str) -> (Takeover, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(dir.path()).unwrap();
        let now_ms = stamp::now_ms();
        let id = MessageId::from_parts(now_ms, [0; 10]);
        let mut event = sample(1, "", "x", "h1").event.unwrap();
        event.at_ms = now_ms;
        let known = Known(SharedFleet::default());
        known.0.lock().unwrap().hear(word("h1", now_ms), now_ms);
        let teller = Teller {
            name: teller.parse().unwrap(),
            now_ms,
        };
        let suppressed = Suppressed {
            rule: 0,
            reason: Reason::Budget,
            detail: String::new(),
            events: vec![Arc::new(known.heard(id, event.clone(), now_ms))],
        };
        let (told_id, told) = teller.suppressed("a", &suppressed, &Value::Null);
        let rows = [
            row_of(1, &id.to_string(), event),
            row_of(2, &told_id.to_string(), told),
        ];
        history.apply(&rows).unwrap();
        let rule = "[[reaction]]\nname = 'a'\non = ['x']\nwebhook = ['w']";
        let takeover = Takeover {
            history: history.reader().unwrap(),
            rules: config(rule).unwrap().rules,
            known,
        };
        (takeover, dir)
    }

    fn firings(teller: &str) -> usize {
        let (takeover, _dir) = after(teller);
        let mut engine = takeover.engine(|| true).unwrap();
        let decisions = engine.tick(stamp::now_ms() + 1);
        let fires = |decision: &&Decision| matches!(decision, Decision::Fire(_));
        decisions.iter().filter(fires).count()
    }

    #[test]
    fn what_was_decided_is_not_decided_again_unless_a_host_says_so() {
        assert_eq!(firings("ops"), 0);
        assert_eq!(firings("h1"), 1);
    }

    #[test]
    fn nobody_gets_half_of_what_happened_before() {
        let (takeover, _dir) = after("ops");
        assert!(takeover.engine(|| false).is_err());
    }
}
