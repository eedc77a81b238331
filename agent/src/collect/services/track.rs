//! From what is heard of a unit to events: one for each change from rest to rest, with the state before and after.
//! Pure; knows no bus. A unit rests when it is up, down or failed; what lies between is on its way and told by where it
//! ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_proto::event::Severity;
use muster_proto::snapshot::services::{Exit, Unit};
use serde_json::Value;

use super::super::Change;
use super::facts::{Facts, Rest, reason};

/// How long a unit may wait for its automatic restart before that is told as a failure.
pub(super) const RESTART_WAIT: Duration = Duration::from_secs(2);

/// How long a unit that systemd may restart has to rest before that is believed.
pub(super) const REST_WAIT: Duration = Duration::from_millis(200);

/// One unit over time.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// As last heard.
    pub(super) facts: Facts,
    /// Restarts seen.
    restarts: u64,
    rest: Rest,
    /// As it was when it last came to rest.
    rested: Facts,
    /// How it ended since then.
    ended: Option<(String, Exit)>,
    /// When it was heard to wait for its restart, or to rest where that is not yet believed.
    waits_since: Option<Instant>,
}

impl Track {
    /// A unit as it was found: what it did before is nobody's news.
    pub(super) fn found(facts: Facts) -> Self {
        Self {
            rest: facts.rest().unwrap_or(Rest::Down),
            rested: facts.clone(),
            facts,
            restarts: 0,
            ended: None,
            waits_since: None,
        }
    }

    /// A unit that was not there, or not loaded.
    pub(super) fn absent() -> Self {
        Self::found(Facts::gone())
    }

    /// Takes over what was heard `at`; a change where the unit came to another rest.
    pub(super) fn hear(&mut self, name: &str, facts: Facts, at: Instant) -> Option<Change> {
        self.facts = facts;
        self.waits_since = None;
        let facts = &self.facts;
        if !facts.is_alive() || facts.waits_for_restart() || facts.active_state == "deactivating" {
            let exit = facts
                .exit()
                .filter(|_| facts.exit_at_us > self.rested.exit_at_us);
            if let Some(exit) = exit {
                self.ended = Some((facts.result.clone(), exit));
            }
        }
        match facts.rest() {
            Some(Rest::Down | Rest::Failed) if facts.may_restart() => {
                self.waits_since = Some(at);
                None
            }
            Some(rest) => self.settle(name, rest),
            None => {
                self.waits_since = facts.waits_for_restart().then_some(at);
                None
            }
        }
    }

    /// A change where the unit has rested for so long that it is believed, or has been waiting for its automatic restart
    /// for so long that it is worth telling.
    pub(super) fn wait(&mut self, name: &str, now: Instant) -> Option<Change> {
        let waited = now.saturating_duration_since(self.waits_since?);
        let rest = self.facts.rest();
        let limit = if rest.is_some() {
            REST_WAIT
        } else {
            RESTART_WAIT
        };
        if waited < limit {
            return None;
        }
        self.waits_since = None;
        match rest {
            Some(rest) => self.settle(name, rest),
            None if self.rest == Rest::Failed => None,
            None => {
                let change = self.failed(name, true);
                // The restart to come is counted from where it was before, whenever systemd counts it.
                let n_restarts = self.rested.n_restarts;
                self.rest = Rest::Failed;
                self.rested.clone_from(&self.facts);
                self.rested.n_restarts = n_restarts;
                Some(change)
            }
        }
    }

    /// The unit is no longer loaded, so that it can't be but down.
    pub(super) fn gone(&mut self, name: &str) -> Option<Change> {
        self.facts = Facts::gone();
        self.settle(name, Rest::Down)
    }

    fn settle(&mut self, name: &str, rest: Rest) -> Option<Change> {
        let facts = &self.facts;
        let counts = self.rested.n_restarts.zip(facts.n_restarts);
        let again = counts.is_some_and(|(before, after)| after > before);
        let anew = facts.active_since_mono_us != self.rested.active_since_mono_us || again;
        let change = match (self.rest, rest) {
            (Rest::Up, Rest::Up) if anew => Some(self.restarted(name, again)),
            (Rest::Failed, Rest::Up) if again => Some(self.restarted(name, again)),
            (Rest::Down | Rest::Failed, Rest::Up) => Some(self.started(name)),
            (Rest::Up, Rest::Down) => Some(self.stopped(name)),
            (Rest::Failed, Rest::Down) => Some(self.cleared(name)),
            (Rest::Up | Rest::Down, Rest::Failed) => Some(self.failed(name, false)),
            // It was tried again, and has failed again.
            (Rest::Failed, Rest::Failed) if facts.since_us != self.rested.since_us => {
                Some(self.failed(name, false))
            }
            (Rest::Up, Rest::Up) | (Rest::Down, Rest::Down) | (Rest::Failed, Rest::Failed) => None,
        };
        self.rest = rest;
        self.rested.clone_from(&self.facts);
        self.ended = None;
        change
    }

    /// As the snapshot shows it, without what it uses.
    pub(super) fn unit(&self, name: &str) -> Unit {
        Unit {
            restarts_seen: self.restarts,
            ..self.facts.unit(name)
        }
    }

    fn restarted(&mut self, name: &str, automatic: bool) -> Change {
        self.restarts += 1;
        let why = self
            .ended
            .as_ref()
            .map(|(result, exit)| reason(result, Some(exit)));
        let (summary, severity) = match (automatic, why) {
            (true, Some(why)) => (
                format!("{name} ended by {why} and was restarted by systemd"),
                Severity::Warning,
            ),
            (true, None) => (
                format!("{name} ended and was restarted by systemd"),
                Severity::Warning,
            ),
            (false, _) => (format!("{name} was restarted"), Severity::Notice),
        };
        let mut change = self.change("service.restarted", severity, name, summary);
        change
            .fields
            .insert("automatic".to_owned(), Value::from(automatic));
        change
    }

    fn started(&self, name: &str) -> Change {
        let (summary, severity) = if self.rest == Rest::Failed {
            (
                format!("{name} was started and is no longer failed"),
                Severity::Notice,
            )
        } else {
            (format!("{name} was started"), Severity::Info)
        };
        self.change("service.started", severity, name, summary)
    }

    fn stopped(&self, name: &str) -> Change {
        self.change(
            "service.stopped",
            Severity::Notice,
            name,
            format!("{name} was stopped or has ended"),
        )
    }

    fn cleared(&self, name: &str) -> Change {
        let summary = format!("{name} is no longer failed: {}", self.facts.active_state);
        self.change("service.cleared", Severity::Notice, name, summary)
    }

    fn failed(&self, name: &str, restarting: bool) -> Change {
        let exit = self.ended.as_ref().map(|(_, exit)| exit);
        let why = reason(&self.facts.result, exit);
        let (summary, severity) = if restarting {
            (
                format!("{name} has failed: {why}; systemd is going to restart it"),
                Severity::Warning,
            )
        } else {
            (format!("{name} has failed: {why}"), Severity::Error)
        };
        let mut change = self.change("service.failed", severity, name, summary);
        change
            .fields
            .insert("restarting".to_owned(), Value::from(restarting));
        change
    }

    fn change(
        &self,
        topic: &'static str,
        severity: Severity,
        name: &str,
        summary: String,
    ) -> Change {
        let mut fields: BTreeMap<String, Value> = BTreeMap::new();
        let mut field = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        let (result, exit) = match &self.ended {
            Some((result, exit)) => (result, Some(exit)),
            None => (&self.facts.result, None),
        };
        field(
            "result",
            (!result.is_empty()).then(|| result.as_str().into()),
        );
        field("exit_how", exit.map(|exit| exit.how.as_str().into()));
        field(
            "exit_status",
            exit.and_then(|exit| exit.status).map(Value::from),
        );
        field(
            "exit_signal",
            exit.and_then(|exit| exit.signal).map(Value::from),
        );
        field(
            "exit_at_ms",
            exit.and_then(|exit| exit.at_ms).map(Value::from),
        );
        field("n_restarts", self.facts.n_restarts.map(Value::from));
        let pid = |facts: &Facts| (facts.main_pid > 0).then(|| facts.main_pid.into());
        field("main_pid", pid(&self.facts));
        field("main_pid_before", pid(&self.rested));
        Change {
            topic,
            severity,
            summary,
            key: name.to_owned(),
            before: self.rested.state(),
            after: self.facts.state(),
            fields,
        }
    }
}

#[cfg(test)]
#[expect(clippy::too_many_lines, reason = "tables of cases are long")]
#[path = "track_tests.rs"]
mod tests;
