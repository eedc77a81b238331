//! What is known of one keepalived, from its dumps and from its FIFO alike, and the changes of it. Pure.
//!
//! One state per key, whatever told it: what one source has told already is no news from the other. A source that speaks
//! of an earlier moment than the last one does not take its word back.

mod checkers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::snapshot::keepalived::VrrpState;
use serde_json::{Value, json};

use super::super::Change;
use super::draft::Draft;
use super::dump::VrrpDump;
use super::fifo::Heard;
use super::notice::Notice;
use super::topic::{self, Topic};

/// Keys of one kind at the most.
const KEYS_MAX: usize = 100_000;

/// A state and the moment from which it is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known<T> {
    pub(super) value: T,
    /// The moment that the last word on it speaks of.
    at_ms: u64,
    /// When it became so, where that was seen.
    pub(super) since_ms: Option<u64>,
}

/// Virtual server and real server.
pub(super) type Backend = (String, String);

/// States by key.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Before each key, where several keepalived are watched.
    prefix: String,
    pub(super) instances: BTreeMap<String, Known<VrrpState>>,
    priorities: BTreeMap<String, Known<u32>>,
    pub(super) groups: BTreeMap<String, Known<VrrpState>>,
    pub(super) scripts: BTreeMap<String, Known<bool>>,
    pub(super) backends: BTreeMap<Backend, Known<bool>>,
    weights: BTreeMap<Backend, Known<i64>>,
    pub(super) quorums: BTreeMap<String, Known<bool>>,
    services: BTreeMap<String, Known<bool>>,
    sorry: BTreeMap<String, Known<bool>>,
    /// Whether there was a dump of each process before, so that what is new in the next one has been added.
    vrrp_seen: bool,
    check_seen: bool,
}

/// Who says so, and of which moment.
#[derive(Clone, Copy)]
struct Word {
    source: &'static str,
    at_ms: u64,
    replayed: bool,
    /// Whether a key that nobody has heard of is news.
    first_is_news: bool,
}

/// Takes a word in. `Some` where it is news: the state before, if there was one.
fn learn<K: Ord + Clone, T: PartialEq + Clone>(
    known: &mut BTreeMap<K, Known<T>>,
    key: &K,
    value: T,
    word: Word,
) -> Option<Option<T>> {
    match known.get_mut(key) {
        None => {
            // What may be long past is told and not believed.
            if known.len() < KEYS_MAX && !word.replayed {
                let since_ms = word.first_is_news.then_some(word.at_ms);
                let at_ms = word.at_ms;
                known.insert(
                    key.clone(),
                    Known {
                        value,
                        at_ms,
                        since_ms,
                    },
                );
            }
            word.first_is_news.then_some(None)
        }
        Some(before) if before.value == value => {
            before.at_ms = before.at_ms.max(word.at_ms);
            None
        }
        Some(before) if word.at_ms < before.at_ms => None,
        Some(before) => {
            before.at_ms = word.at_ms;
            before.since_ms = Some(word.at_ms);
            Some(Some(std::mem::replace(&mut before.value, value)))
        }
    }
}

/// Forgets the keys that are not in `there` any more and were not heard of since; gives them.
fn forget<K: Ord + Clone, T: Clone>(
    known: &mut BTreeMap<K, Known<T>>,
    there: &BTreeSet<K>,
    at_ms: u64,
) -> Vec<(K, T)> {
    let mut gone = Vec::new();
    known.retain(|key, state| {
        let stays = there.contains(key) || state.at_ms > at_ms;
        if !stays {
            gone.push((key.clone(), state.value.clone()));
        }
        stays
    });
    gone
}

impl Book {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            ..Self::default()
        }
    }

    /// What stands before each key.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What a FIFO said, in order.
    pub(super) fn hear(&mut self, heard: &[Heard]) -> Vec<Change> {
        let mut changes = Vec::new();
        // Of what waited in the FIFO for an unknown time, the last word on each key.
        let mut old: BTreeMap<Vec<String>, &Heard> = BTreeMap::new();
        for stale in heard.iter().filter(|heard| heard.replayed) {
            old.insert(key_of(&stale.notice), stale);
        }
        for stale in old.into_values() {
            self.notice(&stale.notice, stale.at_ms, true, &mut changes);
        }
        for fresh in heard.iter().filter(|heard| !heard.replayed) {
            self.notice(&fresh.notice, fresh.at_ms, false, &mut changes);
        }
        self.services("fifo", &mut changes);
        changes
    }

    fn notice(&mut self, notice: &Notice, at_ms: u64, replayed: bool, changes: &mut Vec<Change>) {
        let word = Word {
            source: "fifo",
            at_ms: if replayed { 0 } else { at_ms },
            replayed,
            first_is_news: true,
        };
        let quiet = Word {
            first_is_news: false,
            ..word
        };
        match notice {
            Notice::Instance {
                name,
                state,
                priority,
            } => {
                if let Some(priority) = priority.filter(|_| !replayed) {
                    self.priority(name, priority, quiet, changes);
                }
                let news = learn(&mut self.instances, name, *state, word);
                let change = state_change(
                    "instance",
                    name,
                    *state,
                    topic::vrrp(*state),
                    news.or(replayed.then_some(None)),
                );
                self.push(change, word, changes);
            }
            Notice::Priority { name, priority } => self.priority(name, *priority, quiet, changes),
            Notice::Group { name, state } => {
                let news = learn(&mut self.groups, name, *state, word);
                let change = state_change(
                    "group",
                    name,
                    *state,
                    topic::group(*state),
                    news.or(replayed.then_some(None)),
                );
                self.push(change, word, changes);
            }
            Notice::Virtual { server, up } => self.quorum(server, *up, None, word, changes),
            Notice::Real { server, real, up } => {
                let key = (server.clone(), real.clone());
                self.backend(&key, *up, None, word, changes);
            }
            Notice::Nothing => {}
        }
    }

    /// What the VRRP process told, as of `at_ms`.
    pub(super) fn see_vrrp(&mut self, dump: &VrrpDump, at_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let word = Word {
            source: "dump",
            at_ms,
            replayed: false,
            first_is_news: self.vrrp_seen,
        };
        let quiet = Word {
            first_is_news: false,
            ..word
        };
        for instance in &dump.instances {
            let (name, state) = (&instance.name, instance.state);
            if let Some(priority) = instance.effective_priority {
                self.priority(name, priority, quiet, &mut changes);
            }
            if state == VrrpState::Unknown {
                continue;
            }
            let news = learn(&mut self.instances, name, state, word);
            let change = state_change("instance", name, state, topic::vrrp(state), news);
            self.push(change, word, &mut changes);
        }
        for group in dump
            .groups
            .iter()
            .filter(|group| group.state != VrrpState::Unknown)
        {
            let news = learn(&mut self.groups, &group.name, group.state, word);
            let change = state_change(
                "group",
                &group.name,
                group.state,
                topic::group(group.state),
                news,
            );
            self.push(change, word, &mut changes);
        }
        for script in &dump.scripts {
            let Some(good) = script.good else { continue };
            if let Some(Some(before)) = learn(&mut self.scripts, &script.name, good, quiet) {
                let words = if good { "succeeds again" } else { "fails" };
                let change = Draft::new(topic::script(good), &script.name)
                    .says(format!("track script {} {words}", script.name))
                    .states(json!({ "good": before }), json!({ "good": good }))
                    .field("script", script.name.as_str());
                self.push(Some(change), word, &mut changes);
            }
        }
        self.forget_vrrp(dump, word, &mut changes);
        self.vrrp_seen = true;
        changes
    }

    fn forget_vrrp(&mut self, dump: &VrrpDump, word: Word, changes: &mut Vec<Change>) {
        let names = dump
            .instances
            .iter()
            .map(|instance| instance.name.clone())
            .collect();
        for (name, state) in forget(&mut self.instances, &names, word.at_ms) {
            if state != VrrpState::Deleted {
                let deleted = VrrpState::Deleted;
                let change = state_change(
                    "instance",
                    &name,
                    deleted,
                    topic::vrrp(deleted),
                    Some(Some(state)),
                );
                self.push(change, word, changes);
            }
        }
        forget(&mut self.priorities, &names, word.at_ms);
        let groups = dump.groups.iter().map(|group| group.name.clone()).collect();
        forget(&mut self.groups, &groups, word.at_ms);
        let scripts = dump
            .scripts
            .iter()
            .map(|script| script.name.clone())
            .collect();
        forget(&mut self.scripts, &scripts, word.at_ms);
    }

    fn priority(&mut self, name: &String, priority: u32, word: Word, changes: &mut Vec<Change>) {
        if let Some(Some(before)) = learn(&mut self.priorities, name, priority, word) {
            let change = Draft::new(topic::PRIORITY, name)
                .says(format!("priority of {name} is {priority} (was {before})"))
                .states(
                    json!({ "priority": before }),
                    json!({ "priority": priority }),
                )
                .field("instance", name.as_str());
            self.push(Some(change), word, changes);
        }
    }

    fn push(&self, draft: Option<Draft>, word: Word, changes: &mut Vec<Change>) {
        let Some(Draft(mut change)) = draft else {
            return;
        };
        change.key.insert_str(0, &self.prefix);
        change
            .fields
            .insert("source".to_owned(), Value::from(word.source));
        if word.replayed {
            change
                .fields
                .insert("replayed".to_owned(), Value::from(true));
        }
        changes.push(change);
    }
}

/// What a notice is about.
fn key_of(notice: &Notice) -> Vec<String> {
    let key = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    match notice {
        Notice::Instance { name, .. } => key(&["instance", name]),
        Notice::Priority { name, .. } => key(&["priority", name]),
        Notice::Group { name, .. } => key(&["group", name]),
        Notice::Virtual { server, .. } => key(&["virtual", server]),
        Notice::Real { server, real, .. } => key(&["real", server, real]),
        Notice::Nothing => Vec::new(),
    }
}

fn state_change(
    what: &str,
    name: &str,
    state: VrrpState,
    topic: Option<Topic>,
    news: Option<Option<VrrpState>>,
) -> Option<Draft> {
    let before = news?;
    let was = before
        .map(|before| format!(" (was {before})"))
        .unwrap_or_default();
    let value = |state: Option<VrrpState>| {
        state.map_or(Value::Null, |state| json!({ "state": state.name() }))
    };
    let draft = Draft::new(topic?, name)
        .says(format!("VRRP {what} {name} {}{was}", words(state)))
        .states(value(before), value(Some(state)))
        .field(what, name);
    Some(draft)
}

fn words(state: VrrpState) -> &'static str {
    match state {
        VrrpState::Init => "is at its beginning",
        VrrpState::Backup => "is backup",
        VrrpState::Master => "is master",
        VrrpState::Fault => "is in fault",
        VrrpState::Stop => "has stopped",
        VrrpState::Deleted => "is no longer configured",
        VrrpState::Unknown => "is in a state without a name",
    }
}
