//! Events and snapshots as JSON: what `[[republish]]` names is taken from queues of its own and repeated on the exchange
//! `muster.json`, under the same routing key and message id. It must not know what the messages mean.
//!
//! At least once: a message is done with when the broker has confirmed its repetition. Events come from one queue that
//! one program at a time reads, so their order is kept; snapshots, of which the newest win, are shared by all programs.

use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesOrdered;
use muster_link::{
    Acker, Acks, Binding, Consume, Incoming, Outgoing, PublishError, QueueDecl, QueueKind, Receipt,
    Session, stamp,
};
use muster_proto::envelope::Kind;
use muster_proto::topology::{BRIDGE_QUEUE_PREFIX, EVENTS, JSON, METRICS, REPUBLISH};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::session::{Again, Part};

/// Events under way at a time; each is 64 KiB at the most, but for those that name all hosts of a job.
const EVENTS_UNDER_WAY: u16 = 128;

/// Snapshots under way at a time; a large director's takes 10 MB as JSON.
const METRICS_UNDER_WAY: u16 = 8;

/// The file with what was bound, so that what is no longer wanted is unbound, also after a restart.
const FILE_NAME: &str = "republish.json";

/// There is nothing to do until the config is read again.
const NOTHING_TO_DO: Duration = Duration::from_secs(24 * 3600);

/// Longest binding key in bytes, by AMQP.
const KEY_BYTES_MAX: usize = 255;

/// `[[republish]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRepublish {
    /// Topics of events, or routing keys with the host behind the topic.
    #[serde(default)]
    events: Vec<toml::Spanned<String>>,
    /// Collectors, or `presence`, or routing keys.
    #[serde(default)]
    metrics: Vec<toml::Spanned<String>>,
}

/// What is to be repeated, as binding keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepublishConfig {
    /// On `muster.events`.
    pub events: BTreeSet<String>,
    /// On `muster.metrics`.
    pub metrics: BTreeSet<String>,
}

impl RepublishConfig {
    /// Checks all sections.
    ///
    /// # Errors
    /// Where in the file a pattern is no good, and why.
    pub fn parse(sections: Vec<RawRepublish>) -> Result<Self, (usize, String)> {
        let mut config = Self::default();
        for section in sections {
            for pattern in section.events {
                config.events.extend(binding_keys(pattern)?);
            }
            for pattern in section.metrics {
                config.metrics.extend(binding_keys(pattern)?);
            }
        }
        Ok(config)
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.metrics.is_empty()
    }
}

/// A pattern may be of a topic or of a whole routing key, which has the host's name behind the topic.
fn binding_keys(pattern: toml::Spanned<String>) -> Result<Vec<String>, (usize, String)> {
    let at = pattern.span().start;
    let pattern = pattern.into_inner();
    let good = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
    if !pattern.split('.').all(good) {
        let why = format!(
            "a pattern is words with dots between, `*` for any word and `#` for any number of them, such as \"lvs.#\"; found {pattern:?}"
        );
        return Err((at, why));
    }
    if pattern.len() + 2 > KEY_BYTES_MAX {
        return Err((at, "a pattern has at most 253 bytes".to_owned()));
    }
    if pattern.ends_with('#') {
        return Ok(vec![pattern]);
    }
    let with_host = format!("{pattern}.#");
    Ok(vec![pattern, with_host])
}

/// One binding of a queue of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Bound {
    queue: String,
    exchange: String,
    key: String,
}

/// The part that repeats.
pub(crate) struct Republish {
    config: RepublishConfig,
    file: PathBuf,
}

impl Republish {
    /// With its file in `dir`. `None` where there is nothing to repeat and nothing left of what was repeated once.
    pub(crate) fn new(config: RepublishConfig, dir: &Path) -> Option<Self> {
        let file = dir.join(FILE_NAME);
        (!config.is_empty() || file.exists()).then_some(Self { config, file })
    }

    fn wanted(&self) -> BTreeSet<Bound> {
        let bound = |queue: String, exchange: &str, key: &String| Bound {
            queue,
            exchange: exchange.to_owned(),
            key: key.clone(),
        };
        let (events, metrics) = (&self.config.events, &self.config.metrics);
        let events = events
            .iter()
            .map(|key| bound(REPUBLISH.to_owned(), EVENTS, key));
        let metrics = metrics
            .iter()
            .map(|key| bound(metrics_queue(), METRICS, key));
        events.chain(metrics).collect()
    }

    /// Binds the queues to what is wanted, and to nothing else that this program bound before.
    async fn bind(&self, session: &Session) -> Result<()> {
        let wanted = self.wanted();
        let before = read(&self.file);
        if !self.config.metrics.is_empty() {
            let queue = QueueDecl {
                name: metrics_queue(),
                kind: QueueKind::Classic,
            };
            session.declare_queue(&queue).await?;
        }
        // First on record, so that nothing stays bound that nobody knows of.
        write(&self.file, &before.union(&wanted).cloned().collect())?;
        for bound in &wanted {
            let bind = session.bind(&bound.queue, &bound.binding()).await;
            bind.context("bind what is to be repeated as JSON (has `muster broker init` been run since the last upgrade?)")?;
        }
        for bound in before.difference(&wanted) {
            session.unbind(&bound.queue, &bound.binding()).await?;
        }
        if wanted.is_empty() {
            std::fs::remove_file(&self.file)
                .with_context(|| format!("remove {}", self.file.display()))
        } else {
            write(&self.file, &wanted)
        }
    }
}

impl Part for Republish {
    fn name(&self) -> &str {
        "republish"
    }

    async fn work(&mut self, session: &Session) -> Result<()> {
        self.bind(session).await?;
        if self.config.is_empty() {
            return Err(Again(NOTHING_TO_DO).into());
        }
        let pump = async |wanted: &BTreeSet<String>, queue: String, under_way| {
            if wanted.is_empty() {
                pending().await
            } else {
                repeat(session, queue, under_way).await
            }
        };
        tokio::select! {
            end = pump(&self.config.events, REPUBLISH.to_owned(), EVENTS_UNDER_WAY) => end,
            end = pump(&self.config.metrics, metrics_queue(), METRICS_UNDER_WAY) => end,
        }
    }
}

impl Bound {
    fn binding(&self) -> Binding {
        Binding {
            exchange: self.exchange.clone(),
            key: self.key.clone(),
        }
    }
}

fn metrics_queue() -> String {
    format!("{BRIDGE_QUEUE_PREFIX}json")
}

/// What the file says; nothing where there is none that can be read.
fn read(file: &Path) -> BTreeSet<Bound> {
    let text = std::fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write(file: &Path, bound: &BTreeSet<Bound>) -> Result<()> {
    let new = file.with_extension("json.new");
    let text = serde_json::to_vec_pretty(bound).context("write bindings as JSON")?;
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("write {}", file.display()))
}

type Flight<'a> = Pin<Box<dyn Future<Output = (Acker, Result<Receipt, PublishError>)> + Send + 'a>>;

/// Repeats what comes by `queue`, in its order, until the session ends.
async fn repeat(session: &Session, queue: String, under_way: u16) -> Result<()> {
    let consume = Consume {
        queue,
        exclusive: false,
        prefetch: under_way,
        acks: Acks::Manual,
        offset: None,
    };
    let mut deliveries = session.consume(consume).await?;
    let mut flights: FuturesOrdered<Flight<'_>> = FuturesOrdered::new();
    // Told when the one before stands in the connection's queue: two that wait for room might overtake each other.
    let mut handed: Option<oneshot::Receiver<()>> = None;
    loop {
        let waiting = handed.is_some();
        tokio::select! {
            Some((acker, receipt)) = flights.next(), if !flights.is_empty() => {
                // One that a subscriber's queue refuses is that queue's to lose: it must not hold up the others.
                if receipt? == Receipt::Refused {
                    tracing::warn!("a queue of a subscriber to {JSON} has refused a message");
                }
                acker.ack().await;
            }
            _ = OptionFuture::from(handed.as_mut()), if waiting => handed = None,
            incoming = deliveries.recv(), if !waiting => {
                let incoming = incoming.ok_or_else(|| anyhow!("the connection was lost"))?;
                match repetition(&incoming) {
                    Ok(Some(outgoing)) => {
                        let (flight, told) = take_off(session, incoming.acker, outgoing);
                        flights.push_back(flight);
                        handed = Some(told);
                    }
                    Ok(None) => drop(incoming.acker.ack().await),
                    Err(why) => {
                        tracing::warn!(key = incoming.routing_key, "not repeated as JSON: {why}");
                        incoming.acker.ack().await;
                    }
                }
            }
        }
    }
}

/// A message on its way, up to the broker's word on it; and who tells that it was handed to the connection, or can't be.
fn take_off(
    session: &Session,
    acker: Acker,
    outgoing: Outgoing,
) -> (Flight<'_>, oneshot::Receiver<()>) {
    let (told, handed) = oneshot::channel();
    let handed_over = Box::new(move || {
        _ = told.send(());
    });
    let flight = async move {
        let receipt = session.publish_then(outgoing, Some(handed_over)).await;
        (acker, receipt)
    };
    (Box::pin(flight), handed)
}

/// The message as JSON; `None` for what only its sender wants.
fn repetition(incoming: &Incoming) -> Result<Option<Outgoing>, String> {
    let kind = Kind::from_wire_name(&incoming.kind)
        .ok_or_else(|| format!("its type {:?} is none of this version's", incoming.kind))?;
    if kind == Kind::Mark {
        return Ok(None);
    }
    let message_id = incoming.message_id.ok_or("it has no message id")?;
    let body = muster_proto::json::from_body(kind, &incoming.body);
    Ok(Some(Outgoing {
        exchange: JSON,
        routing_key: incoming.routing_key.clone(),
        kind,
        message_id,
        correlation_id: incoming.correlation_id,
        timestamp_ms: incoming.timestamp_ms.unwrap_or_else(stamp::now_ms),
        expiration_ms: None,
        mandatory: false,
        transient: false,
        reply_to: None,
        signature: None,
        body: Arc::from(body.map_err(|error| error.to_string())?),
    }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RepublishConfig, (usize, String)> {
        #[derive(Deserialize)]
        struct File {
            republish: Vec<RawRepublish>,
        }
        let file: File = toml::from_str(text).map_err(|error| (0, error.to_string()))?;
        RepublishConfig::parse(file.republish)
    }

    #[test]
    fn topics_become_keys_that_leave_room_for_the_host() {
        let config = parse(
            "[[republish]]\nevents = [\"lvs.#\", \"host.started\"]\n[[republish]]\nmetrics = [\"lvs\", \"#.lb1\"]\n",
        )
        .unwrap();
        let events: Vec<&str> = config.events.iter().map(String::as_str).collect();
        assert_eq!(events, ["host.started", "host.started.#", "lvs.#"]);
        let metrics: Vec<&str> = config.metrics.iter().map(String::as_str).collect();
        assert_eq!(metrics, ["#.lb1", "#.lb1.#", "lvs", "lvs.#"]);
    }

    #[test]
    fn what_is_no_pattern_is_named_with_its_place() {
        for bad in ["", "a..b", "a b", ".a", "lvs.", &"x".repeat(254)] {
            let text = format!("[[republish]]\nevents = [\"lvs.#\", {bad:?}]\n");
            let (at, why) = parse(&text).unwrap_err();
            assert_eq!(at, text.len() - bad.len() - 4, "{why}");
            assert!(why.starts_with("a pattern"), "{why}");
        }
        let (_, why) = parse("[[republish]]\ntopics = []\n").unwrap_err();
        assert!(why.contains("unknown field"), "{why}");
    }

    #[test]
    fn what_was_bound_is_remembered_until_nothing_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Republish::new(RepublishConfig::default(), dir.path()).is_none());
        let config = parse("[[republish]]\nevents = [\"lvs.#\"]\nmetrics = [\"lvs.#\"]\n").unwrap();
        let part = Republish::new(config, dir.path()).unwrap();
        let wanted = part.wanted();
        assert_eq!(wanted.len(), 2);
        write(&part.file, &wanted).unwrap();
        assert_eq!(read(&part.file), wanted);
        let left = Republish::new(RepublishConfig::default(), dir.path()).unwrap();
        assert_eq!((left.wanted().len(), read(&left.file).len()), (0, 2));
        std::fs::write(&part.file, "torn").unwrap();
        assert_eq!(read(&part.file).len(), 0);
    }
}
