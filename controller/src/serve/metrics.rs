//! `/metrics` of `muster serve`: the fleet's hosts and the program's own parts, for Prometheus. A host that was retired
//! is gone from the next scrape on; one that is lost stays, with 0 in `muster_host_up`. The figures that the hosts
//! measure follow after these, see [`super::scrape`].

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
    registry.register_collector(Box::new(shown.bridges.clone()));
    shown.reactions.register(&mut registry);
    let mut text = String::with_capacity(64 << 10);
    text::encode(&mut text, &registry)?;
    // The figures come after these.
    text.truncate(text.trim_end_matches(END).len());
    Ok(text)
}

/// The last words of a scrape, in which so many figures found no room.
pub(crate) fn end(left_out: usize) -> String {
    let name = "muster_serve_scrape_left_out";
    let help = "Figures that are too many for one answer";
    format!("# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {left_out}\n{END}")
}

/// How OpenMetrics text ends.
const END: &str = "# EOF\n";

/// The families with a line for each host.
pub(crate) const NAMES_OF_HOSTS: [&str; 9] = [
    "host_up",
    "host_info",
    "host_seen_seconds",
    "host_clock_ahead_seconds",
    "host_outbox_records",
    "host_outbox_bytes",
    "host_outbox_dropped",
    "host_outbox_lag_seconds",
    "host_jobs_open",
];

/// Labels of a host that `host_info` shows at the most, and their longest value.
const LABELS_MAX: usize = 16;
const LABEL_BYTES_MAX: usize = 128;

#[derive(Debug)]
struct Scrape {
    shown: Shown,
    events: u64,
}

/// Label values and a figure.
type Sample = (Vec<(String, String)>, f64);

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
            .own(fleet.refused)
            .into_iter()
            .chain(of_fleet(&fleet, stamp::now_ms()));
        for (name, help, samples) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in samples {
                if labels.is_empty() {
                    // There is one of these, and an empty pair of braces is not for all readers.
                    ConstGauge::new(value).encode(family)?;
                    break;
                }
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Scrape {
    /// What there is of this program itself.
    fn own(&self, refused: u64) -> Vec<Family> {
        let one = |value: bool| if value { 1.0 } else { 0.0 };
        let leads = *self.shown.leading.borrow();
        let parts = self.shown.health.parts().into_iter();
        let parts =
            parts.map(|(part, health)| (label("part", part), one(health == PartHealth::Up)));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let alone = |value: u64| vec![(Vec::new(), lossy(value))];
        let size = |value: usize| alone(u64::try_from(value).unwrap_or(u64::MAX));
        let gathered = self.shown.series.lock();
        let left_out = gathered.store.left_out().map(|(_, count)| count).sum();
        vec![
            (
                "serve_build_info",
                "The version",
                vec![(label("version", version), 1.0)],
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
                alone(self.events),
            ),
            (
                "serve_series",
                "Series of the fleet's figures",
                size(gathered.store.count()),
            ),
            (
                "serve_series_left_out",
                "Series that the bounds leave no room for",
                size(left_out),
            ),
            (
                "serve_series_shapes",
                "Different shapes of snapshots, of which each is kept once",
                size(gathered.store.shapes().0),
            ),
            (
                "serve_series_labels",
                "Different sets of labels, of which each is kept once",
                size(gathered.store.shapes().1),
            ),
            (
                "serve_snapshots",
                "Snapshots that were taken",
                alone(gathered.taken),
            ),
            (
                "serve_snapshots_refused",
                "Snapshots that could not be read, or did not come from the host that they name",
                alone(gathered.refused),
            ),
            (
                "serve_hosts_refused",
                "Words of hosts beyond the bound",
                alone(refused),
            ),
        ]
    }
}

/// What there is of the fleet.
fn of_fleet(fleet: &Fleet, now_ms: u64) -> Vec<Family> {
    let one = |value: bool| if value { 1.0 } else { 0.0 };
    let figures: [fn(&Host, u64) -> f64; 8] = [
        |host, _| f64::from(u8::from(host.state == HostState::There)),
        |host, now_ms| lossy(now_ms.saturating_sub(host.seen_ms)) / 1000.0,
        |host, _| signed(host.clock_ahead_ms) / 1000.0,
        |host, _| lossy(host.presence.outbox.records),
        |host, _| lossy(host.presence.outbox.bytes),
        |host, _| lossy(host.presence.outbox.dropped),
        |host, _| lossy(host.presence.lag_ms()) / 1000.0,
        |host, _| f64::from(host.presence.jobs_open),
    ];
    let helps = [
        "Whether the host's agent is heard of",
        "Time since the host was heard of last",
        "How far the host's clock is before this one's",
        "Messages that wait on the host to be sent",
        "Bytes that wait on the host to be sent",
        "Messages that the host's bounds forced out since its state file was made",
        "How long the host has waited for the broker's word, while messages wait to be sent",
        "Jobs that run or wait on the host",
    ];
    let names = NAMES_OF_HOSTS.iter().filter(|name| **name != "host_info");
    let mut families = vec![
        ("fleet_hosts", "Hosts by state", states(fleet)),
        (
            "fleet_silence",
            "Whether many hosts fell silent at once",
            vec![(Vec::new(), one(fleet.is_silent()))],
        ),
        ("host_info", "The host's agent and its labels", infos(fleet)),
        (
            "collector_failing",
            "Collectors of the host that do not work",
            failing(fleet),
        ),
    ];
    for ((name, help), figure) in names.zip(helps).zip(figures) {
        families.push((*name, help, hosts(fleet, |host| figure(host, now_ms))));
    }
    families
}

fn label(name: &str, value: String) -> Vec<(String, String)> {
    vec![(name.to_owned(), value)]
}

/// Version and labels of every host; labels as `label_<name>`, within bounds.
fn infos(fleet: &Fleet) -> Vec<Sample> {
    let info = |(name, host): (&muster_proto::id::HostId, &Host)| {
        let mut labels = label("host", name.to_string());
        labels.push(("version".to_owned(), host.presence.version.clone()));
        let own = host.presence.labels.iter().take(LABELS_MAX);
        for (name, value) in own.filter(|(_, value)| value.len() <= LABEL_BYTES_MAX) {
            let good = |letter: char| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '_'
                }
            };
            let name: String = name.chars().take(64).map(good).collect();
            let name = format!("label_{name}");
            // `a-b` and `a_b` would be the same label twice.
            if !labels.iter().any(|(known, _)| *known == name) {
                labels.push((name, value.clone()));
            }
        }
        (labels, 1.0)
    };
    fleet.hosts().iter().map(info).collect()
}

fn failing(fleet: &Fleet) -> Vec<Sample> {
    let of_host = |(name, host): (&muster_proto::id::HostId, &Host)| -> Vec<Sample> {
        let failing = host.presence.failing.keys().take(LABELS_MAX);
        let labels = failing.map(|collector| {
            let mut labels = label("host", name.to_string());
            labels.push(("collector".to_owned(), collector.clone()));
            (labels, 1.0)
        });
        labels.collect()
    };
    fleet.hosts().iter().flat_map(of_host).collect()
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
        (label("state", name.to_owned()), lossy(count))
    })
    .collect()
}

fn hosts(fleet: &Fleet, figure: impl Fn(&Host) -> f64) -> Vec<Sample> {
    fleet
        .hosts()
        .iter()
        .map(|(name, host)| (label("host", name.to_string()), figure(host)))
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
