//! The checkers' side of the book: real servers, quorums, services without any real server, sorry servers.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::snapshot::keepalived::VirtualServer;
use serde_json::{Value, json};

use super::super::super::Change;
use super::super::draft::Draft;
use super::super::dump::CheckDump;
use super::super::topic::{self, Topic};
use super::{Backend, Book, Word, forget, learn};

impl Book {
    /// What the checker process told, as of `at_ms`.
    pub(in super::super) fn see_check(&mut self, dump: &CheckDump, at_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let word = Word {
            source: "dump",
            at_ms,
            replayed: false,
            first_is_news: false,
        };
        let mut there = BTreeSet::new();
        for server in &dump.virtual_servers {
            let told = self.check_seen && server.quorum_up.is_some();
            if told && !self.quorums.contains_key(&server.name) {
                let change = Draft::new(topic::SERVICE_ADDED, &server.name)
                    .says(format!("virtual server {} was added", server.name))
                    .states(Value::Null, json!({ "quorum": server.quorum }))
                    .field("virtual_server", server.name.as_str());
                self.push(Some(change), word, &mut changes);
            }
            for real in &server.real_servers {
                let key = (server.name.clone(), real.name.clone());
                let told = self.check_seen && real.alive.is_some();
                if told && !self.backends.contains_key(&key) {
                    let (name, of) = (&real.name, &server.name);
                    let change = backend_draft(topic::BACKEND_ADDED, &key)
                        .says(format!("real server {name} was added to {of}"))
                        .states(
                            Value::Null,
                            json!({ "alive": real.alive, "weight": real.weight }),
                        );
                    self.push(Some(change), word, &mut changes);
                }
                if let Some(alive) = real.alive {
                    self.backend(&key, alive, real.reason.as_deref(), word, &mut changes);
                }
                if let Some(weight) = real.weight {
                    self.weight(&key, weight, word, &mut changes);
                }
                there.insert(key);
            }
            if let Some(up) = server.quorum_up {
                self.quorum(&server.name, up, Some(server), word, &mut changes);
            }
        }
        self.forget_check(dump, &there, word, &mut changes);
        self.check_seen = true;
        self.services("dump", &mut changes);
        changes
    }

    fn forget_check(
        &mut self,
        dump: &CheckDump,
        there: &BTreeSet<Backend>,
        word: Word,
        changes: &mut Vec<Change>,
    ) {
        for (key, alive) in forget(&mut self.backends, there, word.at_ms) {
            let change = backend_draft(topic::BACKEND_REMOVED, &key)
                .says(format!(
                    "real server {} is no longer configured for {}",
                    key.1, key.0
                ))
                .states(json!({ "alive": alive }), Value::Null);
            self.push(Some(change), word, changes);
        }
        forget(&mut self.weights, there, word.at_ms);
        let servers = dump
            .virtual_servers
            .iter()
            .map(|server| server.name.clone())
            .collect();
        for (name, up) in forget(&mut self.quorums, &servers, word.at_ms) {
            let change = Draft::new(topic::SERVICE_REMOVED, &name)
                .says(format!("virtual server {name} is no longer configured"))
                .states(json!({ "quorum_up": up }), Value::Null)
                .field("virtual_server", name.as_str());
            self.push(Some(change), word, changes);
        }
        forget(&mut self.services, &servers, u64::MAX);
        forget(&mut self.sorry, &servers, u64::MAX);
    }

    pub(super) fn backend(
        &mut self,
        key: &Backend,
        up: bool,
        reason: Option<&str>,
        word: Word,
        changes: &mut Vec<Change>,
    ) {
        let news = learn(&mut self.backends, key, up, word);
        let Some(before) = news.or(word.replayed.then_some(None)) else {
            return;
        };
        let words = match (up, before) {
            (true, Some(_)) => "is in again",
            (true, None) => "is in",
            (false, _) => "is out",
        };
        let mut says = format!("real server {} of {} {words}", key.1, key.0);
        let mut change = backend_draft(topic::backend(up), key);
        if let Some(reason) = reason {
            says.push_str(": ");
            says.push_str(reason);
            change = change.field("reason", reason);
        }
        let state =
            |alive: Option<bool>| alive.map_or(Value::Null, |alive| json!({ "alive": alive }));
        let change = change.says(says).states(state(before), state(Some(up)));
        self.push(Some(change), word, changes);
    }

    fn weight(&mut self, key: &Backend, weight: i64, word: Word, changes: &mut Vec<Change>) {
        if let Some(Some(before)) = learn(&mut self.weights, key, weight, word) {
            let change = backend_draft(topic::BACKEND_WEIGHT, key)
                .says(format!(
                    "weight of {} in {} is {weight} (was {before})",
                    key.1, key.0
                ))
                .states(json!({ "weight": before }), json!({ "weight": weight }));
            self.push(Some(change), word, changes);
        }
    }

    pub(super) fn quorum(
        &mut self,
        name: &String,
        up: bool,
        server: Option<&VirtualServer>,
        word: Word,
        changes: &mut Vec<Change>,
    ) {
        let news = learn(&mut self.quorums, name, up, word);
        if let Some(before) = news.or(word.replayed.then_some(None)) {
            let words = match (up, before) {
                (true, Some(_)) => "has its quorum again",
                (true, None) => "has its quorum",
                (false, _) => "has no quorum",
            };
            let state = |up: Option<bool>| up.map_or(Value::Null, |up| json!({ "quorum_up": up }));
            let change = Draft::new(topic::quorum(up), name)
                .says(format!("virtual server {name} {words}"))
                .states(state(before), state(Some(up)))
                .field("virtual_server", name.as_str());
            self.push(Some(change), word, changes);
        }
        let Some(sorry) = server.and_then(|server| server.sorry_server.as_deref()) else {
            return;
        };
        // Whoever spoke last of the quorum, the sorry server follows it.
        let active = self.quorums.get(name).is_some_and(|quorum| !quorum.value);
        if let Some(Some(before)) = learn(&mut self.sorry, name, active, word) {
            let words = if active {
                "sends clients to"
            } else {
                "no longer needs"
            };
            let change = Draft::new(topic::sorry(active), name)
                .says(format!(
                    "virtual server {name} {words} its sorry server {sorry}"
                ))
                .states(json!({ "active": before }), json!({ "active": active }))
                .field("virtual_server", name.as_str())
                .field("sorry_server", sorry);
            self.push(Some(change), word, changes);
        }
    }

    /// Virtual servers without any real server that is alive, once all of them are known.
    pub(super) fn services(&mut self, source: &'static str, changes: &mut Vec<Change>) {
        if !self.check_seen {
            return;
        }
        let mut counts: BTreeMap<&String, (u64, u64, u64)> = BTreeMap::new();
        for ((server, _), alive) in &self.backends {
            let (up, all, at_ms) = counts.entry(server).or_default();
            *up += u64::from(alive.value);
            *all += 1;
            *at_ms = (*at_ms).max(alive.at_ms);
        }
        let mut drafts = Vec::new();
        for (server, (up, all, at_ms)) in counts {
            let word = Word {
                source,
                at_ms,
                replayed: false,
                first_is_news: false,
            };
            let Some(Some(before)) = learn(&mut self.services, server, up > 0, word) else {
                continue;
            };
            let words = match up {
                0 => format!("none of its {all} real servers is alive"),
                up => format!("{up} of its {all} real servers alive again"),
            };
            let draft = Draft::new(topic::service(up > 0), server)
                .says(format!("virtual server {server}: {words}"))
                .states(json!({ "up": before }), json!({ "up": up > 0 }))
                .field("virtual_server", server.as_str())
                .field("alive", up)
                .field("total", all);
            drafts.push((draft, word));
        }
        for (draft, word) in drafts {
            self.push(Some(draft), word, changes);
        }
    }
}

fn backend_draft(topic: Topic, key: &Backend) -> Draft {
    Draft::new(topic, &format!("{} {}", key.0, key.1))
        .field("virtual_server", key.0.as_str())
        .field("real_server", key.1.as_str())
}
