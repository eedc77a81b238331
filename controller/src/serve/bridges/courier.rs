//! Carries what waits to the sink: a load at a time, again and again until the sink has taken it or it is too old, and
//! only then says to the broker that it is done. It must not know how a sink is spoken to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use muster_link::{Acker, Backoff, stamp};
use muster_proto::envelope;
use muster_proto::id::MessageId;
use muster_proto::metric::Metrics;
use tokio::time::{Instant, sleep};

use super::Taken;
use super::backlog::{Backlog, Held};
use super::board::Board;
use super::config::BridgeConfig;
use super::sink::Sink;
use crate::bridge::points::{self, Memory};
use crate::bridge::zabbix::discovery::Discovery;
use crate::bridge::{Frame, Packing};
use crate::serve::health::Health;

/// Snapshots of one load at the most.
const LOAD_NUMBER_MAX: usize = 500;

/// Bytes of the snapshots of one load at the most; their figures are up to ten times as long.
const LOAD_BYTES_MAX: usize = 1 << 20;

/// What comes within this goes with the first.
const GATHER: Duration = Duration::from_millis(50);

/// Of what a sink did not want so many are named, so often.
const REFUSALS_NAMED: usize = 10;
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Longest pause before a sink is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What carries.
pub(super) struct Courier {
    config: Arc<BridgeConfig>,
    backlog: Arc<Backlog>,
    board: Board,
    health: Health,
    sink: Sink,
    memory: Memory,
    discovery: Discovery,
    refusals: Refusals,
    taken: Taken,
    /// Outlives a session with the broker: what the sink has of it, it is not sent twice.
    load: Option<Load>,
}

/// What the sink did not want, since it was told of.
#[derive(Default)]
struct Refusals {
    figures: u64,
    /// Some of them, or what they were among.
    about: Vec<String>,
    told: Option<Instant>,
}

/// Figures on their way.
struct Load {
    snapshots: Vec<(Acker, Option<MessageId>)>,
    frames: Vec<Frame>,
    /// How many of the frames the sink has.
    sent: usize,
    /// Figures that the sink did not want.
    failed: u64,
    since: Instant,
}

impl Courier {
    pub(super) fn new(
        config: Arc<BridgeConfig>,
        backlog: Arc<Backlog>,
        board: Board,
        health: Health,
    ) -> Self {
        Self {
            sink: Sink::new(Arc::clone(&config)),
            discovery: Discovery::new(config.fleet_host.clone()),
            refusals: Refusals::default(),
            config,
            backlog,
            board,
            health,
            memory: Memory::default(),
            taken: Taken::default(),
            load: None,
        }
    }

    /// For ever. It may be cut off at any time, and goes on where it was.
    pub(super) async fn carry(&mut self) -> Infallible {
        let mut backoff = Backoff::new(PAUSE_MAX);
        loop {
            if self.load.is_none() {
                self.fetch().await;
            }
            let Err(why) = self.deliver().await else {
                backoff.reset();
                self.settle().await;
                continue;
            };
            let retry_in = backoff.next(stamp::random_u64());
            tracing::warn!(
                bridge = self.config.name,
                to = %self.config.address,
                retry_in_ms = retry_in.as_millis(),
                "the sink took nothing: {why}"
            );
            self.health.down(&self.part(), why);
            self.board.with(&self.config.name, |counts| {
                counts.up = false;
                counts.retries += 1;
            });
            sleep(retry_in).await;
            self.give_up_if_old().await;
        }
    }

    /// The next load, once there is one.
    async fn fetch(&mut self) {
        let held = tokio::select! {
            held = self.backlog.next(LOAD_NUMBER_MAX, LOAD_BYTES_MAX) => held,
            never = self.sink.keep_an_eye() => match never {},
        };
        let since = held.first().map_or_else(Instant::now, |held| held.since);
        let mut all = Vec::new();
        let mut snapshots = Vec::new();
        let mut unreadable = 0;
        let mut repeated = 0;
        for Held { incoming, .. } in held {
            if incoming.redelivered && incoming.message_id.is_some_and(|id| self.taken.has(id)) {
                repeated += 1;
                incoming.acker.ack().await;
                continue;
            }
            let metrics = envelope::decode::<Metrics>(&incoming.kind, &incoming.body).ok();
            let sender = incoming.user_id.as_deref();
            match metrics.filter(|metrics| sender == Some(metrics.host.as_str())) {
                Some(metrics) => {
                    let (plan, spec) = (&self.config.plan, self.config.spec);
                    if spec.discovers {
                        all.extend(self.discovery.look(plan, &metrics, stamp::now_ms()));
                    }
                    let memory = &mut self.memory;
                    all.extend(points::points(plan, spec.takes_words, memory, &metrics));
                    snapshots.push((incoming.acker, incoming.message_id));
                }
                None => {
                    unreadable += 1;
                    incoming.acker.ack().await;
                }
            }
        }
        let packing = Packing {
            protocol: self.config.protocol.name,
            mtu: self.config.mtu,
        };
        let frames = (self.config.spec.encode)(&all, &packing);
        self.board.with(&self.config.name, |counts| {
            counts.unreadable += unreadable;
            counts.repeated += repeated;
            counts.left_out += frames.left_out;
            (counts.held, counts.held_bytes, counts.oldest) = self.backlog.size();
            counts.oldest = counts.oldest.or(Some(since));
        });
        self.load = Some(Load {
            snapshots,
            frames: frames.frames,
            sent: 0,
            failed: 0,
            since,
        });
    }

    /// Sends what the sink does not have yet.
    async fn deliver(&mut self) -> Result<(), String> {
        let Some(load) = &mut self.load else {
            return Ok(());
        };
        while let Some(frame) = load.frames.get(load.sent) {
            match self.sink.send(frame, load.sent == 0).await {
                Ok(failed) => {
                    load.sent += 1;
                    load.failed += failed.min(frame.figures);
                    if failed > 0 {
                        self.refusals.note(failed, frame);
                        self.board
                            .with(&self.config.name, |counts| counts.failed += failed);
                    }
                }
                Err(failure) => {
                    if failure.from_the_start {
                        load.sent = 0;
                    }
                    return Err(failure.why);
                }
            }
        }
        if let Err(failure) = self.sink.settle().await {
            load.sent = 0;
            return Err(failure.why);
        }
        Ok(())
    }

    /// The sink has it all: so says the broker's ack, and the board.
    async fn settle(&mut self) {
        let Some(load) = self.load.take() else {
            return;
        };
        for (acker, id) in &load.snapshots {
            acker.ack().await;
            if let Some(id) = id {
                self.taken.note(*id);
            }
        }
        self.refusals.tell(&self.config.name);
        self.health.up(&self.part());
        self.board.with(&self.config.name, |counts| {
            counts.up = true;
            counts.snapshots += count(load.snapshots.len());
            counts.figures +=
                load.frames.iter().map(|frame| frame.figures).sum::<u64>() - load.failed;
            (counts.held, counts.held_bytes, counts.oldest) = self.backlog.size();
        });
        // A moment for others to come along: many small loads cost more than one.
        sleep(GATHER).await;
    }

    async fn give_up_if_old(&mut self) {
        let age_max = self.config.age_max;
        let Some(load) = self.load.take_if(|load| load.since.elapsed() > age_max) else {
            return;
        };
        for (acker, _) in &load.snapshots {
            acker.ack().await;
        }
        self.board.with(&self.config.name, |counts| {
            counts.dropped += count(load.snapshots.len());
        });
    }

    fn part(&self) -> String {
        format!("bridge {}", self.config.name)
    }
}

impl Refusals {
    fn note(&mut self, failed: u64, frame: &Frame) {
        self.figures += failed;
        let room = REFUSALS_NAMED.saturating_sub(self.about.len());
        // An answer tells how many, not which: all of them, or some of those in it.
        let prefix = if failed >= frame.figures {
            ""
        } else {
            "among "
        };
        let named = frame
            .about
            .iter()
            .take(room.min(if prefix.is_empty() { room } else { 1 }));
        self.about
            .extend(named.map(|about| format!("{prefix}{about}")));
    }

    fn tell(&mut self, bridge: &str) {
        if self.figures == 0
            || self
                .told
                .is_some_and(|told| told.elapsed() < REFUSALS_TOLD_EVERY)
        {
            return;
        }
        tracing::warn!(
            bridge,
            figures = self.figures,
            about = self.about.join(", "),
            "the sink did not want some figures: has it items for them?"
        );
        *self = Self {
            told: Some(Instant::now()),
            ..Self::default()
        };
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
