//! The part that listens to the fleet's presence, keeps the fleet's state, and, while this program leads, tells what
//! changes: `fleet.host.lost`, `fleet.host.back`, `fleet.silence.began`, `fleet.silence.ended`.
//!
//! What was told stands in the history, whoever told it; who takes over tells the rest, and nothing a second time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use muster_link::{Incoming, Outgoing, Receipt, Session, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::event::{Event, Severity};
use muster_proto::id::{HostId, KeyId};
use muster_proto::presence::Presence;
use muster_proto::topology::{EVENTS, METRICS, topic_key};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::fleet::{Change, Fleet, Told};
use super::gather::SharedSeries;
use super::history::History;
use super::lead::Leading;
use super::session::Part;
use crate::ledger::{Ledger, sync};
use crate::listen::{Listening, listen};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often the ledger is asked who was taken out of the fleet.
const RETIRED_EVERY: u32 = 10;

/// Presence under way: a fleet of ten thousand says a few hundred words in a second.
const PREFETCH: u16 = 1000;

/// After taking over, how long the history is given to bring what the one before has told.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(3);

/// The topics, as (told as so, told as over).
const HOST_TOPICS: [&str; 2] = ["fleet.host.lost", "fleet.host.back"];
const SILENCE_TOPICS: [&str; 2] = ["fleet.silence.began", "fleet.silence.ended"];

/// The fleet's state, shared with those who show it.
pub(crate) type SharedFleet = Arc<Mutex<Fleet>>;

/// The part.
pub(crate) struct Watch {
    pub(crate) fleet: SharedFleet,
    pub(crate) series: SharedSeries,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) history: History,
    pub(crate) leading: Leading,
    /// In whose name events of the fleet as a whole are published.
    pub(crate) issuer: KeyId,
}

impl Part for Watch {
    fn name(&self) -> &str {
        "fleet"
    }

    async fn work(&mut self, session: &Session) -> Result<()> {
        let listening = Listening {
            issuer: &self.issuer,
            exchange: METRICS,
            keys: vec!["presence.#".to_owned()],
            prefetch: PREFETCH,
        };
        let (_, mut deliveries) = listen(session, listening).await?;
        // Also who has fallen silent while nobody looked is missed.
        sync::catch_up_presence(session, &self.ledger, &self.issuer)
            .await
            .context("read the last presence of the hosts")?;
        self.recall()?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<Told> = None;
        let mut led_for = 0;
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                incoming = deliveries.recv() => {
                    self.hear(&incoming.ok_or_else(|| anyhow!("the connection was lost"))?);
                }
                _ = tick.tick() => {
                    let now_ms = stamp::now_ms();
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(RETIRED_EVERY) {
                        self.let_go()?;
                    }
                    self.with(|fleet| fleet.tick(now_ms));
                    if !*self.leading.borrow() {
                        (told, led_for) = (None, 0);
                        continue;
                    }
                    led_for += 1;
                    if TICK * led_for < TAKE_OVER_AFTER {
                        continue;
                    }
                    let mut known = match told.take() {
                        Some(told) => told,
                        None => self.told()?,
                    };
                    for change in self.with(|fleet| fleet.untold(&known, now_ms)) {
                        self.tell(session, &change, now_ms).await?;
                        known.note(&change);
                    }
                    told = Some(known);
                }
            }
        }
    }
}

impl Watch {
    /// Begins with the hosts that the ledger knows; everybody gets their full time from now.
    fn recall(&self) -> Result<()> {
        let rows = self.ledger.with(crate::ledger::store::Store::hosts)?;
        self.with(|fleet| {
            for row in rows {
                if row.retired_ms.is_some() {
                    fleet.retire(&row.host);
                } else if let Some((presence, seen_ms)) = row.presence
                    && !fleet.hosts().contains_key(&row.host)
                {
                    fleet.hear(presence, seen_ms);
                }
            }
            fleet.listening_from(stamp::now_ms());
        });
        Ok(())
    }

    /// Forgets hosts that were taken out of the fleet, and their figures.
    fn let_go(&self) -> Result<()> {
        for host in self.ledger.with(crate::ledger::store::Store::retired)? {
            self.with(|fleet| fleet.retire(&host));
            self.series.lock().store.forget(&host);
        }
        Ok(())
    }

    fn hear(&self, incoming: &Incoming) {
        if let Ok(presence) = envelope::decode::<Presence>(&incoming.kind, &incoming.body)
            && incoming.user_id.as_deref() == Some(presence.host.as_str())
        {
            self.with(|fleet| fleet.hear(presence, stamp::now_ms()));
        }
    }

    /// What was told, by whoever led.
    fn told(&self) -> Result<Told> {
        let lost = self.history.newest_of(HOST_TOPICS)?;
        let silence = self.history.newest_of(SILENCE_TOPICS)?;
        Ok(Told {
            lost: lost
                .into_iter()
                .filter(|[_, topic, _]| topic == HOST_TOPICS[0])
                .filter_map(|[host, _, id]| Some((host.parse().ok()?, id.parse().ok()?)))
                .collect(),
            silence: silence
                .iter()
                .any(|[_, topic, _]| topic == SILENCE_TOPICS[0]),
        })
    }

    async fn tell(&self, session: &Session, change: &Change, now_ms: u64) -> Result<()> {
        let event = event(change, &self.issuer, now_ms)?;
        let message_id = match change {
            Change::Lost { id, .. } | Change::Back { id, .. } => *id,
            _ => stamp::new_message_id(),
        };
        tracing::info!(topic = event.topic, host = %event.host, "{}", event.summary);
        let outgoing = Outgoing {
            exchange: EVENTS,
            routing_key: topic_key(&event.topic, &event.host),
            kind: Kind::Event,
            message_id,
            correlation_id: None,
            timestamp_ms: now_ms,
            expiration_ms: None,
            mandatory: false,
            transient: false,
            reply_to: None,
            signature: None,
            body: envelope::encode(&event)?.into(),
        };
        match session.publish(outgoing).await {
            Ok(Receipt::Confirmed) => Ok(()),
            Ok(receipt) => Err(anyhow!(
                "publish {}: the broker said {receipt:?}",
                event.topic
            )),
            Err(error) => Err(error).with_context(|| format!("publish {}", event.topic)),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Fleet) -> T) -> T {
        work(&mut self.fleet.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The event of a change. One of the fleet as a whole bears the issuer's name in the host's place.
fn event(change: &Change, issuer: &KeyId, now_ms: u64) -> Result<Event> {
    let whole = || -> Result<HostId> {
        issuer
            .as_str()
            .parse()
            .context("take the issuer's name for a routing key")
    };
    let (topic, host, severity, summary, field) = match change {
        Change::Lost { host, seen_ms, .. } => (
            HOST_TOPICS[0],
            host.clone(),
            Severity::Error,
            format!(
                "{host} was heard of last {} s ago",
                now_ms.saturating_sub(*seen_ms) / 1000
            ),
            Some(("seen_ms", Value::from(*seen_ms))),
        ),
        Change::Back { host, .. } => (
            HOST_TOPICS[1],
            host.clone(),
            Severity::Notice,
            format!("{host} is heard of again"),
            None,
        ),
        Change::SilenceBegan { silent, hosts } => (
            SILENCE_TOPICS[0],
            whole()?,
            Severity::Critical,
            format!("{silent} of {hosts} hosts fell silent at once: the broker or the network?"),
            Some(("silent", Value::from(*silent))),
        ),
        Change::SilenceEnded { silent } => (
            SILENCE_TOPICS[1],
            whole()?,
            Severity::Notice,
            format!("most hosts are heard of again; {silent} are not"),
            Some(("silent", Value::from(*silent))),
        ),
    };
    let fields = field
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Ok(Event {
        topic: topic.to_owned(),
        key: host.to_string(),
        host,
        at_ms: now_ms,
        severity,
        summary,
        fields: fields.collect(),
        before: Value::Null,
        after: Value::Null,
        seq: 0,
        cause: None,
    })
}
