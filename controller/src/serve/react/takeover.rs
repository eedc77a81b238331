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
