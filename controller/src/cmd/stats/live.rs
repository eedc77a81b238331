//! The snapshots that hosts publish while somebody watches.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;
use muster_link::{Deliveries, Incoming, stamp};
use muster_proto::envelope;
use muster_proto::id::HostId;
use muster_proto::job::HostState;
use muster_proto::metric::Metrics;
use muster_proto::topology::METRICS;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::dispatch::desk::Desk;
use crate::dispatch::report::Report;
use crate::exit::{Exit, ending};
use crate::listen::{Listening, listen};
use crate::render::{plural, time_of_day};

/// Snapshots under way.
const PREFETCH: u16 = 500;

/// A host that has not told for so long is not counted among those that do.
const RECENT_MS: u64 = 3 * 60 * 1000;

/// A collector's snapshots as they come.
pub(super) struct Live {
    deliveries: Deliveries,
    collector: String,
    /// When each host told last.
    seen_ms: BTreeMap<HostId, u64>,
}

impl Live {
    /// Listens from now on.
    pub(super) async fn listen(desk: &Desk<'_>, collector: &str) -> Result<Self> {
        let listening = Listening {
            issuer: desk.issuer(),
            exchange: METRICS,
            keys: vec![format!("{collector}.#")],
            prefetch: PREFETCH,
        };
        let (_, deliveries) = listen(&desk.session, listening).await?;
        Ok(Self {
            deliveries,
            collector: collector.to_owned(),
            seen_ms: BTreeMap::new(),
        })
    }

    /// Takes what comes in `time` into the report. Where nobody looks at a screen, it stays until there is something new.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn gather(
        &mut self,
        report: &mut Report,
        time: Duration,
        is_screen: bool,
    ) -> Result<()> {
        let end = Instant::now() + time;
        let mut is_new = false;
        loop {
            tokio::select! {
                incoming = self.deliveries.recv() => {
                    let lost = || ending(Exit::NoBroker, "the connection was lost".to_owned());
                    is_new |= self.take(report, &incoming.ok_or_else(lost)?);
                }
                () = sleep_until(end), if is_screen || is_new => return Ok(()),
            }
        }
    }

    /// One line about who told of it, at `now_ms`.
    pub(super) fn told(&self, report: &Report, now_ms: u64) -> String {
        let is_recent = |seen_ms: &&u64| now_ms.saturating_sub(**seen_ms) < RECENT_MS;
        format!(
            "{} targeted, {} told by themselves in the last 3 minutes; {}",
            plural(report.targeted, "host"),
            self.seen_ms.values().filter(is_recent).count(),
            time_of_day(now_ms, &TimeZone::system()),
        )
    }

    /// Whether it was a snapshot of a host that is asked for.
    fn take(&mut self, report: &mut Report, incoming: &Incoming) -> bool {
        let Ok(metrics) = envelope::decode::<Metrics>(&incoming.kind, &incoming.body) else {
            return false;
        };
        let is_its_own = incoming.user_id.as_deref() == Some(metrics.host.as_str());
        if !is_its_own || metrics.collector != self.collector {
            return false;
        }
        let mut hosts = report.hosts.iter_mut();
        let Some(host) = hosts.find(|host| host.host == metrics.host) else {
            return false;
        };
        host.state = HostState::Succeeded;
        host.data = json!({ "snapshots": { metrics.collector: metrics.snapshot } });
        self.seen_ms.insert(metrics.host, stamp::now_ms());
        true
    }
}
