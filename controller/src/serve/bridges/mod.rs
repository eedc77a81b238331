//! Bridges at work: a queue on the broker for each, a backlog here, and a sink that may be slow, down or lie.
//!
//! Each has a session, a backlog and a connection of its own, so that none waits for another. Several programs may work on
//! one queue: the broker gives each snapshot to one of them. A snapshot is acked once the sink has taken it; whatever is
//! in between when a program dies comes again to the next. What waits too long, or is more than may wait, is let go, the
//! oldest first, and counted.

mod backlog;
pub(crate) mod board;
pub mod config;
mod courier;
mod sink;

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use muster_link::{
    Acks, Binding, BrokerConfig, Consume, Deliveries, QueueDecl, QueueKind, Session, Supervisor,
};
use muster_proto::id::MessageId;
use muster_proto::topology::{BRIDGE_QUEUE_PREFIX, METRICS, topic_matches};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::backlog::Backlog;
use self::board::Board;
use self::config::BridgeConfig;
use self::courier::Courier;
use super::health::Health;
use super::session::{Part, keep};

/// Snapshots that may be on their way here. The backlog's own bounds are well below, so that what is too much is let go
/// here, where it is counted, and not on the broker.
const PREFETCH: u16 = 20_000;

/// How often it is looked whether something has waited too long.
const LOOK: Duration = Duration::from_secs(1);

/// Looks between two words about what was let go.
const LOOKS_PER_WORD: u32 = 60;

/// From the stop of a bridge that runs alone to its end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Ids of snapshots that were taken, in case the broker had not heard of it.
const TAKEN_MAX: usize = 20_000;

/// A bridge, as a part of `muster serve`.
pub(crate) struct Bridge {
    name: String,
    intake: Intake,
    courier: Courier,
}

/// What takes snapshots from the broker.
struct Intake {
    config: Arc<BridgeConfig>,
    backlog: Arc<Backlog>,
    board: Board,
}

impl Bridge {
    pub(crate) fn new(config: &BridgeConfig, board: &Board, health: &Health) -> Self {
        let config = Arc::new(config.clone());
        let backlog = Arc::new(Backlog::new(config.queue_bytes_max, config.age_max));
        board.with(&config.name, |_| ());
        Self {
            name: format!("bridge {}", config.name),
            courier: Courier::new(
                Arc::clone(&config),
                Arc::clone(&backlog),
                board.clone(),
                health.clone(),
            ),
            intake: Intake {
                config,
                backlog,
                board: board.clone(),
            },
        }
    }
}

impl Part for Bridge {
    fn name(&self) -> &str {
        &self.name
    }

    async fn work(&mut self, session: &Session) -> Result<()> {
        let deliveries = self.intake.listen(session).await?;
        // What waited belongs to a session that is gone, and comes again.
        self.intake.backlog.clear();
        tokio::select! {
            outcome = self.intake.take(deliveries) => outcome,
            never = self.courier.carry() => match never {},
        }
    }
}

impl Intake {
    async fn listen(&self, session: &Session) -> Result<Deliveries> {
        let queue = format!("{BRIDGE_QUEUE_PREFIX}{}", self.config.name);
        let declared = QueueDecl {
            name: queue.clone(),
            kind: QueueKind::Classic,
        };
        session.declare_queue(&declared).await?;
        for key in &self.config.keys {
            let binding = Binding {
                exchange: METRICS.to_owned(),
                key: key.clone(),
            };
            session.bind(&queue, &binding).await?;
        }
        let consume = Consume {
            queue,
            exclusive: false,
            prefetch: PREFETCH,
            acks: Acks::Manual,
            offset: None,
        };
        Ok(session.consume(consume).await?)
    }

    /// Takes what comes, for as long as the session lasts, whatever the sink does.
    async fn take(&self, mut deliveries: Deliveries) -> Result<()> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        let mut told = 0;
        loop {
            let let_go = tokio::select! {
                incoming = deliveries.recv() => {
                    let incoming = incoming.ok_or_else(|| anyhow!("the connection was lost"))?;
                    if !self.is_wanted(&incoming.routing_key) {
                        incoming.acker.ack().await;
                        continue;
                    }
                    self.backlog.push(incoming)
                }
                _ = look.tick() => {
                    looks = looks.wrapping_add(1);
                    self.backlog.overdue()
                }
            };
            for held in &let_go {
                held.incoming.acker.ack().await;
            }
            let dropped = self.board.with(&self.config.name, |counts| {
                counts.dropped += u64::try_from(let_go.len()).unwrap_or(u64::MAX);
                (counts.held, counts.held_bytes, counts.oldest) = self.backlog.size();
                counts.dropped
            });
            if dropped > told && (told == 0 || looks.is_multiple_of(LOOKS_PER_WORD)) {
                told = dropped;
                tracing::warn!(
                    bridge = self.config.name,
                    dropped,
                    "the sink takes too little: snapshots were let go, the oldest first"
                );
            }
        }
    }

    /// The queue may have bindings that an older config made.
    fn is_wanted(&self, key: &str) -> bool {
        let collector = key.split('.').next().unwrap_or_default();
        let mut keys = self.config.keys.iter();
        self.config.plan.wants(collector) && keys.any(|one| topic_matches(one, key))
    }
}

/// Ids of the last snapshots that a sink has taken.
#[derive(Default)]
struct Taken {
    order: VecDeque<MessageId>,
    ids: HashSet<MessageId>,
}

impl Taken {
    fn note(&mut self, id: MessageId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > TAKEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    fn has(&self, id: MessageId) -> bool {
        self.ids.contains(&id)
    }
}

/// Runs one bridge alone until `stop`.
///
/// # Errors
/// When it fails in a way that it can't mend.
pub async fn run_alone(
    broker: BrokerConfig,
    config: &BridgeConfig,
    stop: CancellationToken,
) -> Result<()> {
    let mut parts = Supervisor::new(stop.clone(), STOP_LIMIT);
    let health = Health::default();
    let bridge = Bridge::new(config, &Board::default(), &health);
    parts.start(bridge.name.clone(), async move {
        keep(bridge, broker, health, stop).await;
        Ok::<(), Infallible>(())
    });
    parts.run().await.context("muster bridge has ended")
}
