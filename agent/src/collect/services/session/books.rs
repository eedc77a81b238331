//! What a session knows of the units: which are watched, which are to be read, and what is told of them. It sends
//! nothing; calls are queued.

use std::time::Duration;

use tokio::time::Instant;

use super::super::facts::Facts;
use super::super::inbox::{News, UNITS_MAX};
use super::super::track::{REST_WAIT, RESTART_WAIT};
use super::super::wire::{Call, group_interface};
use super::{RELOAD_PAUSE, Session};
use crate::systemd::{SERVICE, UNIT};

/// Beyond a wait that somebody else measures, so that it is over then.
const MARGIN: Duration = Duration::from_millis(20);

impl Session<'_> {
    pub(super) fn is_watched(&self, name: &str) -> bool {
        self.desk.config.patterns.matches(name) || self.known.named.contains(name)
    }

    pub(super) fn has_room(&self, name: &str) -> bool {
        self.known.units.len() < UNITS_MAX || self.known.units.contains_key(name)
    }

    /// A unit that there is, while everything is being read.
    pub(super) fn found(&mut self, name: String) {
        if !self.has_room(&name) {
            self.left_out += 1;
            return;
        }
        self.read(&name);
        if let Some(seen) = &mut self.seen {
            seen.insert(name);
        }
    }

    pub(super) fn read(&mut self, name: &str) {
        if self.has_room(name) && self.reading.insert(name.to_owned()) {
            if name.ends_with(".service") {
                self.calls
                    .push_back(Call::Properties(name.to_owned(), SERVICE));
            }
            self.calls
                .push_back(Call::Properties(name.to_owned(), UNIT));
        }
    }

    /// A unit was let go. While the service manager reads all units anew, or runs itself anew, it says so of every unit,
    /// and takes it back: what becomes of those that do something shows when we read them too.
    pub(super) fn removed(&mut self, name: &str) {
        let Some(entry) = self.known.units.get(name) else {
            return;
        };
        if self.reloading || entry.facts.active_state != "inactive" {
            let at = Instant::now() + RELOAD_PAUSE;
            self.read_at = Some(self.read_at.map_or(at, |read_at| read_at.min(at)));
            return;
        }
        if self.known.named.contains(name) {
            if let Some(entry) = self.known.units.get_mut(name) {
                let facts = &mut entry.facts;
                let gone = Facts::gone();
                (facts.active_state, facts.sub_state) = (gone.active_state, gone.sub_state);
                (facts.job, facts.main_pid, facts.complete) = (0, 0, false);
                self.tell(name);
            }
        } else if self.known.units.remove(name).is_some() {
            self.put(News::Gone {
                name: name.to_owned(),
            });
        }
    }

    /// Tells how a unit is, if that is news, and asks for what is not known of it.
    pub(super) fn tell(&mut self, name: &str) {
        let Some(entry) = self.known.units.get_mut(name) else {
            return;
        };
        if entry.told.as_ref() == Some(&entry.facts) {
            return;
        }
        entry.told = Some(entry.facts.clone());
        let facts = Box::new(entry.facts.clone());
        // Whoever keeps track of it wants to look again then. News of others only put that off until they wake too.
        if facts.waits_for_restart() {
            self.wake_later_at = Some(Instant::now() + RESTART_WAIT + MARGIN);
        } else if !facts.is_alive() && facts.may_restart() {
            self.wake_at = Some(Instant::now() + REST_WAIT + MARGIN);
        }
        if !facts.complete && facts.active_state != "inactive" {
            self.read(name);
        } else if facts.is_alive() && facts.control_group.is_empty() && self.desk.config.usage {
            let call = group_interface(name).map(|of| Call::ControlGroup(name.to_owned(), of));
            self.calls.extend(call);
        }
        self.put(News::Unit {
            name: name.to_owned(),
            facts,
            at: Instant::now().into_std(),
        });
    }

    /// Everything was read: what was not there is gone.
    pub(super) fn whole(&mut self) {
        let (seen, left_out) = (self.seen.take().unwrap_or_default(), self.left_out);
        self.desk.inbox.count(|counts| counts.left_out = left_out);
        let gone = |name: &&String| !seen.contains(*name);
        let gone: Vec<String> = self.known.units.keys().filter(gone).cloned().collect();
        for name in gone {
            self.known.units.remove(&name);
            self.put(News::Gone { name });
        }
        self.put(News::Whole {
            version: self.version.clone(),
            at_ms: (self.desk.now_ms)(),
        });
    }

    fn put(&self, news: News) {
        self.desk.inbox.put(news);
        if self.seen.is_none() {
            self.desk.wake.now();
        }
    }
}
