//! `/metrics`: the agent's own figures, written at each scrape from what the parts count anyway.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_link::LinkStatus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Health;
use super::figures::Figures;
use crate::app::VERSION;
use crate::tail::SectionCounters;

/// The text of a scrape; `snapshots`: with the figures of the collectors.
pub(super) fn text(health: &Health, snapshots: bool) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let own = registry.sub_registry_with_prefix("muster_agent");
    own.register_collector(Box::new(Scrape(health.clone())));
    if snapshots {
        let board = health.board.borrow().clone();
        let figures = Figures::of(&board, muster_link::stamp::now_ms());
        registry.register_collector(Box::new(figures));
    }
    let mut text = String::with_capacity(8 << 10);
    text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Scrape(Health);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut page = Page(encoder);
        let family = &[(vec![("version", VERSION)], 1.0)];
        page.gauges("build_info", "The agent's version", family)?;
        page.gauge(
            "resident_memory_bytes",
            "The agent's resident memory",
            resident_bytes(),
        )?;
        self.outbox(&mut page)?;
        self.link(&mut page)?;
        self.jobs(&mut page)?;
        self.logs(&mut page)?;
        self.collectors(&mut page)
    }
}

impl Scrape {
    fn outbox(&self, page: &mut Page<'_>) -> fmt::Result {
        let state = self.0.state.borrow().clone();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.gauge(
            "outbox_records",
            "Messages that wait to be sent",
            lossy(state.depth.records),
        )?;
        page.gauge(
            "outbox_bytes",
            "Bytes that wait to be sent",
            lossy(state.depth.bytes),
        )?;
        page.counter(
            "outbox_dropped",
            "Messages that the outbox's bounds forced out",
            state.depth.dropped,
        )?;
        page.gauge(
            "outbox_held",
            "Messages held in memory because the state file can't be written",
            lossy(state.held),
        )?;
        page.gauge(
            "outbox_unconfirmed",
            "Messages sent and not yet confirmed",
            lossy(count(&self.0.outbox.unconfirmed)),
        )?;
        page.counter(
            "outbox_confirmed",
            "Messages that the broker confirmed",
            count(&self.0.outbox.confirmed),
        )?;
        page.counter(
            "outbox_refused",
            "Messages that the broker refused; they are sent again",
            count(&self.0.outbox.refused),
        )?;
        page.counter(
            "state_write_failures",
            "Failed writes of the state file",
            state.write_failures,
        )?;
        page.counter(
            "state_damaged",
            "State files that were damaged and set aside",
            state.damaged,
        )?;
        page.counter(
            "snapshots_dropped",
            "Snapshots that were overtaken or lost on their way",
            self.0.snapshots.dropped(),
        )
    }

    fn link(&self, page: &mut Page<'_>) -> fmt::Result {
        let status = self.0.link.borrow().clone();
        let up = matches!(status, LinkStatus::Up { .. });
        page.gauge(
            "link_up",
            "Whether there is a link to RabbitMQ",
            f64::from(u8::from(up)),
        )?;
        let blocked = matches!(
            status,
            LinkStatus::Up {
                blocked: Some(_),
                ..
            }
        );
        page.gauge(
            "link_blocked",
            "Whether RabbitMQ takes nothing at the moment",
            f64::from(u8::from(blocked)),
        )?;
        page.counter(
            "link_sessions",
            "Connections to RabbitMQ that were set up",
            self.0.link_counters.sessions(),
        )?;
        let blocked = self.0.link_counters.blocked().as_secs_f64();
        page.counter_f64(
            "link_blocked_seconds",
            "Time for which RabbitMQ took nothing",
            blocked,
        )
    }

    fn jobs(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "jobs_open",
            "Jobs that run or wait",
            f64::from(self.0.jobs.borrow().open),
        )?;
        let all = self.0.job_counters.all();
        let samples: Vec<_> = all
            .iter()
            .map(|(event, count)| (vec![("event", *event)], *count))
            .collect();
        page.counters("jobs", "What happened to jobs", &samples)
    }

    fn logs(&self, page: &mut Page<'_>) -> fmt::Result {
        let sections = &self.0.logs;
        let each = |value: fn(&SectionCounters) -> &AtomicU64| -> Vec<_> {
            let sample = |section: &Arc<SectionCounters>| {
                let label = vec![("section", section.name.clone())];
                (label, value(section).load(Ordering::Relaxed))
            };
            sections.iter().map(sample).collect()
        };
        let gauge = |samples: Vec<(_, u64)>| -> Vec<(_, f64)> {
            let float = |(label, value)| (label, lossy(value));
            samples.into_iter().map(float).collect()
        };
        let lag = gauge(each(|section| &section.lag_bytes));
        page.gauges(
            "log_lag_bytes",
            "Bytes of logs that are there and not read",
            &lag,
        )?;
        let files = gauge(each(|section| &section.files));
        page.gauges("log_files", "Files that are followed", &files)?;
        let bytes = each(|section| &section.bytes);
        page.counters("log_bytes", "Bytes of logs that were read", &bytes)?;
        let lines = each(|section| &section.lines);
        page.counters("log_lines", "Lines in them", &lines)?;
        let hits = each(|section| &section.hits);
        page.counters(
            "log_hits",
            "Lines in which a rule may have found something",
            &hits,
        )?;
        let events = each(|section| &section.events);
        page.counters("log_events", "Events that came of them", &events)?;
        let truncated = each(|section| &section.truncated);
        page.counters(
            "log_truncated",
            "Lines among them that were too long and were cut",
            &truncated,
        )?;
        let lost = each(|section| &section.lost_bytes);
        page.counters(
            "log_lost_bytes",
            "Bytes of logs that were gone before they were read",
            &lost,
        )
    }

    fn collectors(&self, page: &mut Page<'_>) -> fmt::Result {
        let board = self.0.board.borrow().clone();
        let label = |name: &&'static str| vec![("collector", *name)];
        let each = board.collectors.iter();
        let took: Vec<_> = each
            .clone()
            .map(|(name, status)| (label(name), lossy(status.took_us) / 1e6))
            .collect();
        page.gauges(
            "collector_duration_seconds",
            "How long the last good run took",
            &took,
        )?;
        let last: Vec<_> = each
            .clone()
            .filter_map(|(name, status)| Some((label(name), lossy(status.success_at_ms?) / 1e3)))
            .collect();
        page.gauges(
            "collector_last_success_seconds",
            "When the last good run began, since 1970",
            &last,
        )?;
        let failing: Vec<_> = each
            .clone()
            .map(|(name, status)| (label(name), f64::from(u8::from(status.error.is_some()))))
            .collect();
        page.gauges("collector_failing", "Whether the last run failed", &failing)?;
        let runs: Vec<_> = each
            .clone()
            .map(|(name, status)| (label(name), status.successes))
            .collect();
        page.counters("collector_successes", "Good runs", &runs)?;
        let failures: Vec<_> = each
            .map(|(name, status)| (label(name), status.failures))
            .collect();
        page.counters(
            "collector_failures",
            "Runs that failed, hung or could not be started",
            &failures,
        )
    }
}

/// Writes one metric after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn gauges<Labels: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[(Labels, f64)],
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn counter_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn counters<Labels: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: &[(Labels, u64)],
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// A count as a float; exact up to 2^53.
fn lossy(count: u64) -> f64 {
    count as f64
}

/// `VmRSS` of `/proc/self/status`, which counts in KiB; 0 where it can't be read.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    lossy(kib.unwrap_or_default().saturating_mul(1024))
}
