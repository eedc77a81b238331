//! The agent's word of itself: at each session's start, at regular intervals, and a goodbye. It must not know who reads
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_link::{Link, LinkStatus, Outgoing, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::presence::Presence;
use muster_proto::topology;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::action::HostFacts;
use crate::collect::schedule::Board;
use crate::job::JobsStatus;
use crate::publish::{OutboxCounters, next_session, open_session};
use crate::state::StateStatus;
use crate::tick::Grid;

/// What presence is made of.
pub(crate) struct PresenceSource {
    pub(crate) facts: watch::Receiver<Arc<HostFacts>>,
    pub(crate) boot_id: String,
    pub(crate) started_at_ms: u64,
    pub(crate) interval: Duration,
    pub(crate) grid: Grid,
    pub(crate) state: watch::Receiver<StateStatus>,
    pub(crate) jobs: watch::Receiver<JobsStatus>,
    pub(crate) board: watch::Receiver<Board>,
    pub(crate) outbox: Arc<OutboxCounters>,
    pub(crate) seq: AtomicU64,
}

impl PresenceSource {
    /// Tells of the agent whenever it is due and there is a session; returns when the link was stopped.
    pub(crate) async fn tell(&self, link: &Link) {
        let mut status = link.status();
        while let Some(session) = next_session(&mut status).await {
            self.publish(link, false).await;
            self.tell_in(session, link, &mut status).await;
        }
    }

    /// The regular ones of one session.
    async fn tell_in(&self, session: u64, link: &Link, status: &mut watch::Receiver<LinkStatus>) {
        loop {
            let due = self.grid.next(Instant::now(), self.interval);
            let over = status.wait_for(|status| open_session(status) != Some(session));
            tokio::select! {
                () = sleep_until(due) => {}
                _ = over => return,
            }
            self.publish(link, false).await;
        }
    }

    /// Tells of the agent now, if there is a session. What is lost is made up for by the next.
    pub(crate) async fn publish(&self, link: &Link, goodbye: bool) {
        let presence = self.presence(goodbye);
        let body = match envelope::encode(&presence) {
            Ok(body) => body,
            Err(error) => {
                return tracing::error!(%error, "presence can't be sent: are there too many labels?");
            }
        };
        let outgoing = Outgoing {
            exchange: topology::METRICS,
            routing_key: topology::presence_key(&presence.host),
            kind: Kind::Presence,
            message_id: stamp::new_message_id(),
            correlation_id: None,
            timestamp_ms: presence.at_ms,
            expiration_ms: None,
            mandatory: false,
            transient: false,
            reply_to: None,
            signature: None,
            body: Arc::from(body),
        };
        if let Err(error) = link.publish(outgoing).await {
            tracing::debug!(%error, "presence was not confirmed");
        }
    }

    fn presence(&self, goodbye: bool) -> Presence {
        let facts = self.facts.borrow().clone();
        let jobs = *self.jobs.borrow();
        let last_confirm = self.outbox.last_confirm_at_ms.load(Ordering::Relaxed);
        Presence {
            host: facts.host.clone(),
            at_ms: stamp::now_ms(),
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            seq: self.seq.fetch_add(1, Ordering::Relaxed),
            goodbye,
            version: facts.version.clone(),
            boot_id: self.boot_id.clone(),
            started_at_ms: self.started_at_ms,
            labels: facts.labels.clone(),
            facts: facts.facts.clone(),
            outbox: self.state.borrow().depth,
            last_job: jobs.last_job,
            last_confirm_at_ms: (last_confirm > 0).then_some(last_confirm),
            jobs_open: jobs.open,
            failing: bounded(self.board.borrow().failing()),
        }
    }
}

/// Errors short enough for a presence; the events have them whole.
fn bounded(
    failing: std::collections::BTreeMap<String, String>,
) -> std::collections::BTreeMap<String, String> {
    const ERROR_CHARS_MAX: usize = 200;
    failing
        .into_iter()
        .map(|(name, error)| (name, error.chars().take(ERROR_CHARS_MAX).collect()))
        .collect()
}
