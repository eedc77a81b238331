//! The collectors' figures for `/metrics`: what the newest snapshots hold, by the names and units that are declared for
//! them. Of a collector that has not run well for a while there is nothing, rather than what was.

use std::borrow::Cow;
use std::fmt;

use muster_proto::packed::Packed;
use muster_proto::snapshot::fields::{self, Kind, Reading, Sample, Unit, prometheus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::ready::is_fresh;
use crate::collect::schedule::Board;

/// Figures in one answer at the most: 15 MiB of text, and what a Prometheus takes from one target.
const FIGURES_MAX: usize = 100_000;

/// The snapshots of one moment.
pub(super) struct Figures(Vec<(&'static str, Packed)>);

impl Figures {
    /// Those of the board that are fresh.
    pub(super) fn of(board: &Board, now_ms: u64) -> Self {
        let fresh = board.collectors.iter().filter_map(|(name, status)| {
            let snapshot = status.snapshot.clone()?;
            is_fresh(status, now_ms).then_some((*name, snapshot))
        });
        Self(fresh.collect())
    }
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut room = FIGURES_MAX;
        let mut left_out = 0_u32;
        for (collector, packed) in &self.0 {
            // One tree at a time: that of a large director is large.
            let Ok(snapshot) = packed.value() else {
                continue;
            };
            for series in fields::of(collector) {
                let mut samples = fields::samples(series, &snapshot).peekable();
                if samples.peek().is_none() {
                    continue;
                }
                let (name, help) = (prometheus::base_name(series), series.field.help);
                let kind = match series.field.kind {
                    Kind::Counter => MetricType::Counter,
                    Kind::Gauge | Kind::State => MetricType::Gauge,
                };
                let mut family = encoder.encode_descriptor(&name, help, None, kind)?;
                for sample in samples {
                    if room == 0 {
                        left_out += 1;
                        continue;
                    }
                    room -= 1;
                    let labels = labels(&sample);
                    if labels.is_empty() {
                        // There is one of these, and an empty pair of braces is not for all readers.
                        write(&sample, family)?;
                        break;
                    }
                    write(&sample, family.encode_family(&labels)?)?;
                }
            }
        }
        let name = "muster_agent_figures_left_out";
        let help = "Figures of snapshots that are too many for one answer";
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(f64::from(left_out)).encode(encoder)
    }
}

type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

fn labels<'a>(sample: &Sample<'a>) -> Labels<'a> {
    let word = prometheus::word(sample).map(|word| (prometheus::STATE, Cow::Borrowed(word)));
    sample.labels.iter().cloned().chain(word).collect()
}

/// Whole counters are written exactly.
fn write(sample: &Sample<'_>, encoder: MetricEncoder<'_>) -> fmt::Result {
    let scaled = !matches!(sample.series.field.unit, Unit::One | Unit::Bytes);
    match (sample.series.field.kind, sample.reading) {
        (Kind::Counter, Reading::Whole(count)) if !scaled => {
            ConstCounter::new(count).encode(encoder)
        }
        (Kind::Counter, _) => ConstCounter::new(prometheus::figure(sample)).encode(encoder),
        (Kind::Gauge | Kind::State, _) => {
            ConstGauge::new(prometheus::figure(sample)).encode(encoder)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;
    use serde_json::{Value, json};

    use super::*;
    use crate::collect::schedule::Status;

    fn scrape(snapshot: Value, age_ms: u64) -> String {
        let mut board = Board::default();
        let status = Status {
            interval_ms: 10_000,
            deadline_ms: 8_000,
            snapshot: Some(Packed::of(&snapshot).unwrap()),
            success_at_ms: Some(1_000_000),
            ..Status::default()
        };
        board.collectors.insert("host", status);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Figures::of(&board, 1_000_000 + age_ms)));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn families_have_their_types_names_and_labels() {
        let snapshot = json!({
            "memory": {"free_bytes": 4096, "available_estimated": false},
            "cpu": {"total": {"interval": {"busy_percent": 25.0}}},
            "disks": {"devices": [{"name": "vd\"a", "stacked": false, "read_ms": 1500, "read_bytes": {"total": u64::MAX}}]},
            "network": {"interfaces": [{"name": "eth0", "operstate": "up"}, {"name": "eth1", "operstate": "down"}]},
        });
        let page = scrape(snapshot, 0);
        for line in [
            "# TYPE muster_host_memory_free_bytes gauge",
            "muster_host_memory_free_bytes 4096.0",
            "muster_host_memory_available_estimated 0.0",
            "muster_host_cpu_busy_ratio 0.25",
            "# TYPE muster_host_disk_read_seconds counter",
            "muster_host_disk_read_seconds_total{device=\"vd\\\"a\",stacked=\"false\"} 1.5",
            "muster_host_disk_read_bytes_total{device=\"vd\\\"a\",stacked=\"false\"} 18446744073709551615",
            "muster_host_interface_operstate{interface=\"eth0\",state=\"up\"} 1.0",
            "muster_host_interface_operstate{interface=\"eth1\",state=\"down\"} 1.0",
            "muster_agent_figures_left_out 0.0",
            "# EOF",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert_eq!(
            page.matches("# TYPE muster_host_interface_operstate ")
                .count(),
            1
        );
    }

    #[test]
    fn what_is_not_fresh_is_left_out_and_what_is_too_much_is_counted() {
        let snapshot = json!({"memory": {"free_bytes": 4096}});
        assert!(scrape(snapshot.clone(), 38_000).contains("free_bytes 4096.0"));
        assert!(!scrape(snapshot, 38_001).contains("free_bytes"));
        let one = json!({"name": "eth0", "rx_bytes": 1, "tx_bytes": 1});
        let many = json!({"network": {"interfaces": vec![one; FIGURES_MAX / 2 + 10]}});
        assert!(scrape(many, 0).contains("muster_agent_figures_left_out 20.0"));
    }
}
