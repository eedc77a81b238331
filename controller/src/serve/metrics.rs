//! `/metrics` of `muster serve`: the fleet's hosts and the program's own parts, for Prometheus. A host that was retired
//! is gone from the next scrape on; one that is lost stays, with 0 in `muster_host_up`.

use std::fmt;
use std::sync::PoisonError;

use anyhow::Result;
use muster_link::stamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::fleet::{Fleet, Host, HostState};
use super::health::PartHealth;
use super::http::Shown;

/// The media type (OpenMetrics 1.0).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of a scrape.
///
/// # Errors
/// When the history can't be read.
pub(crate) fn text(shown: &Shown) -> Result<String> {
    let mut registry = Registry::with_prefix("muster");
    registry.register_collector(Box::new(Scrape {
        shown: shown.clone(),
        events: shown.history.count()?,
    }));
    let mut text = String::with_capacity(64 << 10);
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape {
    shown: Shown,
    events: u64,
}

/// Label values and a figure.
type Sample = (Vec<(&'static str, String)>, f64);

/// Name, help and samples.
type Family = (&'static str, &'static str, Vec<Sample>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let fleet = self
            .shown
            .fleet
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let families = self
            .own()
            .into_iter()
            .chain(of_fleet(&fleet, stamp::now_ms()));
        for (name, help, samples) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in samples {
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Scrape {
    /// What there is of this program itself.
    fn own(&self) -> [Family; 4] {
        let one = |value: bool| if value { 1.0 } else { 0.0 };
        let leads = *self.shown.leading.borrow();
        let parts = self.shown.health.parts().into_iter();
        let parts =
            parts.map(|(part, health)| (vec![("part", part)], one(health == PartHealth::Up)));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        [
            (
                "serve_build_info",
                "The version",
                vec![(vec![("version", version)], 1.0)],
            ),
            (
                "serve_leads",
                "Whether this one speaks for the fleet",
                vec![(Vec::new(), one(leads))],
            ),
            (
                "serve_part_up",
                "Whether a part of it works",
                parts.collect(),
            ),
            (
                "serve_history_events",
                "Events in the history",
                vec![(Vec::new(), lossy(self.events))],
            ),
        ]
    }
}

/// What there is of the fleet.
fn of_fleet(fleet: &Fleet, now_ms: u64) -> [Family; 7] {
    let one = |value: bool| if value { 1.0 } else { 0.0 };
    let seen = |host: &Host| lossy(now_ms.saturating_sub(host.seen_ms)) / 1000.0;
    [
        ("fleet_hosts", "Hosts by state", states(fleet)),
        (
            "fleet_silence",
            "Whether many hosts fell silent at once",
            vec![(Vec::new(), one(fleet.is_silent()))],
        ),
        (
            "host_up",
            "Whether the host's agent is heard of",
            hosts(fleet, |host| one(host.state == HostState::There)),
        ),
        (
            "host_seen_seconds",
            "Time since the host was heard of last",
            hosts(fleet, seen),
        ),
        (
            "host_clock_ahead_seconds",
            "How far the host's clock is before this one's",
            hosts(fleet, |host| signed(host.clock_ahead_ms) / 1000.0),
        ),
        (
            "host_outbox_records",
            "Messages that wait on the host to be sent",
            hosts(fleet, |host| lossy(host.presence.outbox.records)),
        ),
        (
            "host_outbox_dropped",
            "Messages that the host's bounds forced out since its state file was made",
            hosts(fleet, |host| lossy(host.presence.outbox.dropped)),
        ),
    ]
}

fn states(fleet: &Fleet) -> Vec<Sample> {
    [
        ("there", HostState::There),
        ("stopped", HostState::Stopped),
        ("silent", HostState::Silent),
        ("lost", HostState::Lost),
    ]
    .into_iter()
    .map(|(name, state)| {
        let count = u64::try_from(fleet.count(state)).unwrap_or(u64::MAX);
        (vec![("state", name.to_owned())], lossy(count))
    })
    .collect()
}

fn hosts(fleet: &Fleet, figure: impl Fn(&Host) -> f64) -> Vec<Sample> {
    fleet
        .hosts()
        .iter()
        .map(|(name, host)| (vec![("host", name.to_string())], figure(host)))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people and graphs")]
fn lossy(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people and graphs")]
fn signed(value: i64) -> f64 {
    value as f64
}
