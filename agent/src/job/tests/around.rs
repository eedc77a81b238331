//! What stands around the jobs: the broker's side, an action that the test steers, and a log of what happened.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use muster_proto::envelope::{self, Message};
use muster_proto::id::MessageId;
use muster_proto::job::JobResult;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::*;
use crate::action::{Action, Call, Failure};
use crate::state::State;

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn say(&self, what: impl Into<String>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what.into());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|one| one.as_str() == what).count()
    }
}

/// A delivery's fate.
pub(super) struct Tag(pub(super) Log, pub(super) String);

impl Acknowledge for Tag {
    fn ack(&self) -> BoxFuture<'_, ()> {
        self.0.say(format!("ack {}", self.1));
        Box::pin(async {})
    }

    fn reject(&self) -> BoxFuture<'_, ()> {
        self.0.say(format!("reject {}", self.1));
        Box::pin(async {})
    }
}

/// The broker: takes messages while it is up.
#[derive(Clone)]
pub(super) struct Broker {
    pub(super) log: Log,
    pub(super) up: watch::Sender<bool>,
    /// Confirms nothing but takes messages, as one whose confirms get lost.
    pub(super) deaf: Arc<AtomicBool>,
    /// Takes messages and does not write them, as a connection whose socket is full.
    pub(super) stuck: Arc<AtomicBool>,
    pub(super) messages: Arc<Mutex<Vec<OutMessage>>>,
}

/// A message that is written once the socket is not stuck.
struct Writing(Arc<AtomicBool>);

impl Underway for Writing {
    fn written(&mut self) -> Option<bool> {
        (!self.0.load(Ordering::SeqCst)).then_some(true)
    }
}

impl ReplyWire for Broker {
    fn up(&self) -> BoxFuture<'_, ()> {
        let mut up = self.up.subscribe();
        Box::pin(async move {
            let _ = up.wait_for(|up| *up).await;
        })
    }

    fn publish_ahead_of_ack(&self, message: OutMessage) -> Option<Box<dyn Underway>> {
        if !*self.up.borrow() {
            return None;
        }
        self.log.say(format!("ahead {}", message.kind.wire_name()));
        self.messages.lock().unwrap().push(message);
        Some(Box::new(Writing(self.stuck.clone())))
    }

    fn publish(&self, message: OutMessage) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if !*self.up.borrow() {
                return Err("down".to_owned());
            }
            self.log
                .say(format!("publish {}", message.kind.wire_name()));
            self.messages.lock().unwrap().push(message);
            if self.deaf.load(Ordering::SeqCst) {
                Err("no confirm".to_owned())
            } else {
                Ok(())
            }
        })
    }
}

impl Broker {
    pub(super) fn of<M: Message>(&self) -> Vec<(MessageId, M)> {
        let messages = self.messages.lock().unwrap();
        let of = messages.iter().filter(|message| message.kind == M::KIND);
        of.map(|message| {
            (
                message.message_id,
                envelope::decode(message.kind.wire_name(), &message.body).unwrap(),
            )
        })
        .collect()
    }

    /// Results that did not go through the outbox.
    pub(super) fn results(&self) -> Vec<JobResult> {
        self.of().into_iter().map(|(_, result)| result).collect()
    }
}

/// An action that the test steers by its job's arguments: `{"unit": "<what to do>"}`.
pub(super) struct Steered {
    pub(super) log: Log,
    pub(super) state: State,
    pub(super) gate: watch::Sender<bool>,
}

impl Action for Steered {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let what = call
                .args
                .get("unit")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let stage = self
                .state
                .job(call.job)
                .await
                .unwrap()
                .map(|record| record.stage);
            self.log.say(format!("run {what} {stage:?}"));
            match what.as_str() {
                "panic" => panic!("as asked"),
                "fail" => return Err(Failure::new("as asked").with(json!({ "x": 1 }))),
                "deaf" => std::future::pending::<()>().await,
                "wait" => {
                    let mut gate = self.gate.subscribe();
                    tokio::select! {
                        _ = gate.wait_for(|open| *open) => {}
                        () = call.stop.cancelled() => return Err(Failure::new("stopped").with(json!({ "half": true }))),
                    }
                }
                _ => {}
            }
            self.log.say(format!("done {what}"));
            Ok(json!({ "what": what }))
        })
    }
}
