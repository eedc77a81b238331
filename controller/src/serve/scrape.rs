//! The fleet's figures as OpenMetrics text, one family after the other, by the names that the agents' own `/metrics` has
//! and with the label `host`. What is not heard of any more has no line, so that Prometheus marks it stale.

use std::fmt::Write as _;

use muster_proto::id::HostId;
use muster_proto::snapshot::fields::{Kind, Reading, Sample, Series, Unit, prometheus};

use crate::series::{SeriesStore, Shown};

/// Figures in one answer at the most: some 150 MB of text, which is written in pieces as the reader takes it.
pub(crate) const FIGURES_MAX: usize = 1_000_000;

/// The family of one series, up to `room` lines; empty where no host has it. Also how many figures there are.
pub(crate) fn family(
    store: &SeriesStore,
    series: Series,
    now_ms: u64,
    is_gone: impl Fn(&HostId) -> bool,
    room: usize,
) -> (String, usize) {
    let mut text = String::new();
    let mut count = 0;
    let shown = store
        .newest(series, now_ms)
        .filter(|shown| !is_gone(shown.host));
    let name = prometheus::name(series);
    for shown in shown {
        if count == 0 && room > 0 {
            head(&mut text, series);
        }
        if count < room {
            line(&mut text, &name, series, &shown);
        }
        count += 1;
    }
    (text, count)
}

fn head(text: &mut String, series: Series) {
    let name = prometheus::base_name(series);
    let kind = match series.field.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::State => "gauge",
    };
    let help = series.field.help;
    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, series: Series, shown: &Shown<'_>) {
    let sample = Sample {
        series,
        labels: Vec::new(),
        reading: shown.reading,
        per_s: None,
    };
    text.push_str(name);
    text.push_str("{host=\"");
    escape(text, shown.host.as_str());
    let word = prometheus::word(&sample).map(|word| (prometheus::STATE, word));
    let labels = shown.labels.iter().map(|(name, value)| (*name, &**value));
    for (name, value) in labels.chain(word) {
        let _ = write!(text, "\",{name}=\"");
        escape(text, value);
    }
    let is_scaled = !matches!(series.field.unit, Unit::One | Unit::Bytes);
    let _ = match shown.reading {
        Reading::Whole(whole) if !is_scaled => writeln!(text, "\"}} {whole}"),
        _ => writeln!(text, "\"}} {}", prometheus::figure(&sample)),
    };
}

/// As label values are written: backslash, quote and line end with a backslash.
fn escape(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use muster_proto::metric::Metrics;
    use muster_proto::snapshot::fields;
    use serde_json::{Value, json};

    use super::*;
    use crate::series::Bounds;

    fn store() -> SeriesStore {
        let mut store = SeriesStore::new(Bounds {
            series_max: 1000,
            per_host_max: 1000,
            points: 2,
        });
        let snapshot: Value = json!({
            "memory": {"free_bytes": 4096}, "cpu": {"total": {"interval": {"busy_percent": 25.0}}},
            "disks": {"devices": [{"name": "vd\"a", "stacked": false, "read_ms": 1500, "read_bytes": {"total": 9_007_199_254_740_991_u64}}]},
            "network": {"interfaces": [{"name": "eth0", "operstate": "up"}]},
        });
        for host in ["a", "b"] {
            let metrics = Metrics {
                host: host.parse().unwrap(),
                collector: "host".to_owned(),
                at_ms: 1,
                seq: 0,
                snapshot: snapshot.clone(),
            };
            store.take(&metrics, 1000);
        }
        store
    }

    fn text(name: &str, room: usize) -> (String, usize) {
        let series = fields::find("host", name).unwrap();
        family(&store(), series, 1000, |host| host.as_str() == "b", room)
    }

    #[test]
    fn names_labels_and_units_are_those_of_the_agents_and_the_gone_are_left_out() {
        for (name, want) in [
            (
                "memory.free_bytes",
                "muster_host_memory_free_bytes{host=\"a\"} 4096\n",
            ),
            (
                "cpu.busy_percent",
                "muster_host_cpu_busy_ratio{host=\"a\"} 0.25\n",
            ),
            (
                "disk.read_bytes",
                "muster_host_disk_read_bytes_total{host=\"a\",device=\"vd\\\"a\",stacked=\"false\"} 9007199254740991\n",
            ),
            (
                "disk.read_ms",
                "muster_host_disk_read_seconds_total{host=\"a\",device=\"vd\\\"a\",stacked=\"false\"} 1.5\n",
            ),
            (
                "interface.operstate",
                "muster_host_interface_operstate{host=\"a\",interface=\"eth0\",state=\"up\"} 1\n",
            ),
        ] {
            let (found, count) = text(name, 10);
            assert!(found.ends_with(want), "{found}");
            assert_eq!((count, found.lines().count()), (1, 3), "{found}");
        }
        assert!(
            text("disk.read_bytes", 1)
                .0
                .contains("# TYPE muster_host_disk_read_bytes counter\n")
        );
        assert_eq!(text("memory.free_bytes", 0), (String::new(), 1));
        assert_eq!(text("load.load1", 9), (String::new(), 0));
    }

    #[test]
    fn no_family_has_the_name_of_another() {
        let mut names: Vec<String> = fields::all().map(prometheus::base_name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        for own in super::super::metrics::NAMES_OF_HOSTS {
            assert!(!names.contains(&format!("muster_{own}")), "{own}");
        }
    }
}
