//! Reactions: what `muster serve` does about events. The rules are the config's, what to do is the pure engine's, and what
//! was done stands in the history, from which whoever takes over goes on. This file wires.
//!
//! One of all `muster serve` reacts: the one that leads. It takes events from the queue `muster.reactions`; having told
//! the history that it has begun, it acts, and tells how that ended. If it dies between, the next one finds what began
//! and did not end, and does it once more, marked `again`.

pub(crate) mod act;
pub mod config;
pub(crate) mod decision;
pub(crate) mod engine;
pub(crate) mod facts;
pub(crate) mod heard;
mod job;
mod limits;
mod mail;
mod maintenance;
mod past;
pub(crate) mod rules;
pub(crate) mod silence;
mod takeover;
pub(crate) mod tally;
pub(crate) mod text;
mod webhook;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use muster_link::{Acks, Binding, Consume, Deliveries, Incoming, Session, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::event::Event;
use muster_proto::id::MessageId;
use muster_proto::topology::{EVENTS, REACTIONS};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use self::act::{Hands, Outlets};
use self::config::ReactConfig;
use self::decision::{Decision, Firing};
use self::engine::Engine;
use self::facts::{ACTIVE, TAKING, fact};
use self::past::Past;
use self::rules::Rule;
use self::takeover::{Known, Takeover};
use self::tally::Tally;
use super::history::History;
use super::lead::Leading;
use super::session::{Again, Part};

pub(crate) use self::job::Dispatcher;

/// Deliveries under way.
const PREFETCH: u16 = 500;

/// How long the history may take to bring what was just told.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// How often the history is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often it is told that somebody reacts: so far back events are read by whoever takes over.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Firings under way; more events are not taken until there are fewer.
const FIRINGS_MAX: usize = 10_000;

/// What silences are told by.
const SILENCE_KEY: &str = "reaction.silence.#";

/// Something under way: which rule's actions ended, and how.
type Flight<'a> = Pin<Box<dyn Future<Output = Result<Option<(usize, Vec<bool>)>>> + Send + 'a>>;

/// The part.
pub(crate) struct React {
    config: Arc<ReactConfig>,
    hands: Hands,
    history: History,
    leading: Leading,
}

impl React {
    /// Opens what the config names.
    ///
    /// # Errors
    /// When a file that it names can't be used.
    pub(crate) fn new(
        config: Arc<ReactConfig>,
        dispatcher: Dispatcher,
        history: History,
        leading: Leading,
        tally: Tally,
    ) -> Result<Self> {
        let name = dispatcher.issuer.as_str().parse();
        Ok(Self {
            hands: Hands {
                outlets: Outlets::open(&config)?,
                name: name.context("take the issuer's name for a routing key")?,
                dispatcher,
                tally,
            },
            config,
            history,
            leading,
        })
    }
}

impl Part for React {
    fn name(&self) -> &str {
        "reactions"
    }

    async fn work(&mut self, session: &Session) -> Result<()> {
        let mut leading = self.leading.clone();
        let gone = || anyhow!("nobody says who leads");
        leading.wait_for(|leads| *leads).await.map_err(|_| gone())?;
        let outcome = tokio::select! {
            outcome = self.react(session) => outcome,
            // The session is closed, so that the queue goes to the one that leads now.
            _ = leading.wait_for(|leads| !*leads) => Err(Again(Duration::from_millis(500)).into()),
        };
        self.hands.tally.under_way(0);
        outcome
    }
}

impl React {
    /// Reacts, as the one that does, until the session ends.
    async fn react(&self, session: &Session) -> Result<()> {
        let keys = self.bind(session).await?;
        let told = self.hands.tell_part(session, TAKING, &keys).await?;
        self.await_history(&told).await?;
        let mut engine = self.take_over().await?;
        // Not before: who takes over next begins where somebody knew all that there was.
        self.hands.tell_part(session, ACTIVE, &keys).await?;
        let consume = Consume {
            queue: REACTIONS.to_owned(),
            exclusive: false,
            prefetch: PREFETCH,
            acks: Acks::Manual,
            offset: None,
        };
        let mut deliveries = session.consume(consume).await?;
        tracing::info!("this program reacts to events");
        let mut flights: FuturesUnordered<Flight<'_>> = FuturesUnordered::new();
        let mut tell_at = Instant::now() + TELL_EVERY;
        loop {
            let has_room = flights.len() < FIRINGS_MAX;
            self.hands.tally.under_way(flights.len());
            let mut pause = TELL_EVERY;
            if has_room {
                for decision in engine.tick(stamp::now_ms()) {
                    flights.push(self.carry_out(session, decision));
                }
                let due_ms = engine.next_due_ms().unwrap_or(u64::MAX);
                let due = Duration::from_millis(due_ms.saturating_sub(stamp::now_ms()));
                pause = pause.min(due);
            }
            tokio::select! {
                incoming = deliveries.recv(), if has_room => {
                    let incoming = incoming.ok_or_else(|| anyhow!("the connection was lost"))?;
                    self.take(&mut engine, &incoming);
                    incoming.acker.ack().await;
                    self.take_more(&mut engine, &mut deliveries).await;
                }
                Some(outcome) = flights.next(), if !flights.is_empty() => {
                    if let Some((rule, goods)) = outcome? {
                        let now_ms = stamp::now_ms();
                        goods.into_iter().for_each(|good| engine.ended(rule, good, now_ms));
                    }
                }
                () = sleep(pause), if has_room => {}
                () = sleep_until(tell_at) => {
                    tell_at = Instant::now() + TELL_EVERY;
                    let keys = keys.clone();
                    flights.push(Box::pin(async move {
                        self.hands.tell_part(session, ACTIVE, &keys).await.map(|_| None)
                    }));
                }
            }
        }
    }

    /// Takes what has come already: what is decided together is told together.
    async fn take_more(&self, engine: &mut Engine, deliveries: &mut Deliveries) {
        for _ in 1..PREFETCH {
            let next = futures_util::FutureExt::now_or_never(deliveries.recv());
            let Some(Some(incoming)) = next else { return };
            self.take(engine, &incoming);
            incoming.acker.ack().await;
        }
    }

    /// The history has the event, so that it may be acked: whoever takes over finds it there.
    fn take(&self, engine: &mut Engine, incoming: &Incoming) {
        let event: Event = match envelope::decode(&incoming.kind, &incoming.body) {
            Ok(event) => event,
            Err(error) => {
                if Kind::from_wire_name(&incoming.kind) == Some(Kind::Event) {
                    tracing::warn!(key = incoming.routing_key, "passed over: {error}");
                }
                return;
            }
        };
        let Some(id) = incoming.message_id else {
            return;
        };
        let known = self.known();
        if !known.is_genuine(&event, &incoming.routing_key) {
            tracing::warn!(key = incoming.routing_key, user = ?incoming.user_id, "passed over: it is not by whom it says");
            return;
        }
        if event.topic.starts_with("reaction.silence.")
            && let Some(fact) = fact(&event)
        {
            engine.note(fact);
        }
        engine.take(&Arc::new(known.heard(id, event, stamp::now_ms())));
    }

    fn carry_out<'a>(&'a self, session: &'a Session, decision: Decision) -> Flight<'a> {
        let rule = |at: usize| -> Result<&'a Rule> {
            let rule = self.config.rules.rules.get(at);
            rule.ok_or_else(|| anyhow!("a decision of no rule"))
        };
        Box::pin(async move {
            match decision {
                Decision::Fire(firing) => {
                    let at = firing.rule;
                    let goods = self.hands.carry_out(session, rule(at)?, firing).await?;
                    return Ok(Some((at, goods)));
                }
                Decision::Suppress(it) => {
                    let rule = rule(it.rule)?;
                    let would = match it.reason {
                        decision::Reason::DryRun => {
                            let firing = Firing::of_suppressed(&it);
                            self.hands.outlets.would(rule, &firing)
                        }
                        _ => serde_json::Value::Null,
                    };
                    self.hands
                        .tell_suppressed(session, rule, &it, &would)
                        .await?;
                }
                Decision::Breaker {
                    rule: at,
                    open,
                    at_ms,
                } => {
                    let told = (rule(at)?, open, at_ms);
                    self.hands.tell_breaker(session, &self.config, told).await?;
                }
            }
            Ok(None)
        })
    }

    /// Binds the queue to what the rules want, and unbinds what they no longer do. Gives the binding keys.
    async fn bind(&self, session: &Session) -> Result<BTreeSet<String>> {
        let patterns = self.config.rules.patterns();
        let mut keys: BTreeSet<String> = patterns.iter().map(|it| binding_key(it)).collect();
        keys.insert(SILENCE_KEY.to_owned());
        for key in &keys {
            session.bind(REACTIONS, &binding(key)).await?;
        }
        for key in Past(&self.history).bound_before()?.difference(&keys) {
            session.unbind(REACTIONS, &binding(key)).await?;
        }
        Ok(keys)
    }

    /// Waits until the history has the event `id`, and with it all that came before.
    async fn await_history(&self, id: &MessageId) -> Result<()> {
        let past = Past(&self.history);
        let deadline = Instant::now() + CATCH_UP_LIMIT;
        while !past.has(id)? {
            if Instant::now() > deadline {
                bail!("the history is not up to date yet");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The engine as whoever reacted before has left it. Read beside the session's work, however much there is.
    async fn take_over(&self) -> Result<Engine> {
        let takeover = Takeover {
            history: self.history.reader()?,
            rules: Arc::clone(&self.config.rules),
            known: self.known(),
        };
        // Whoever stops waiting drops it, and the reading ends.
        let waits = Arc::new(());
        let is_wanted = Arc::downgrade(&waits);
        let read = spawn_blocking(move || takeover.engine(|| is_wanted.strong_count() > 0));
        let engine = read.await.context("read what happened before")?;
        drop(waits);
        engine
    }

    fn known(&self) -> Known {
        Known(Arc::clone(&self.hands.dispatcher.fleet))
    }
}

fn binding(key: &str) -> Binding {
    Binding {
        exchange: EVENTS.to_owned(),
        key: key.to_owned(),
    }
}

/// What a queue is bound with to get events whose topic matches: the host comes behind it.
fn binding_key(pattern: &str) -> String {
    if pattern == "#" || pattern.ends_with(".#") {
        pattern.to_owned()
    } else {
        format!("{pattern}.#")
    }
}

/// Checks what the config names, as `muster serve` does when it begins.
///
/// # Errors
/// When a file can't be used.
pub fn check(config: &ReactConfig) -> Result<()> {
    Outlets::open(config).map(drop)
}
