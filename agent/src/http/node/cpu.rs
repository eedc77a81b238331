//! `GetCpuInfo`: what the kernel says of each processor; `GetCpuDetail`: their use over one second, as `mpstat 1 1`
//! prints it.

use std::time::Duration;

use muster_proto::snapshot::host::CpuPercent;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::super::refusal::Refusal;
use super::blocking;
use super::json::{Body, Ordered, compact, pretty};
use crate::collect::host::Host;
use crate::collect::{HostRoots, SampleTime};

/// Time over which the use is taken.
const SAMPLE: Duration = Duration::from_secs(1);

/// One map for each processor. Blocks are parted by empty lines; on some machines the last one is about the whole board.
fn processors(text: &str) -> Vec<Ordered<String>> {
    let block = |block: &str| {
        let pairs = block.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().replace(' ', "_"), value.trim().to_owned()))
        });
        let mut map: Vec<(String, String)> = Vec::new();
        for (name, value) in pairs {
            if !map.iter().any(|(known, _)| *known == name) {
                map.push((name, value));
            }
        }
        Ordered(map)
    };
    let mut all: Vec<_> = text.split("\n\n").map(block).collect();
    all.retain(|block| !block.0.is_empty());
    let is_processor =
        |block: &Ordered<String>| block.0.iter().any(|(name, _)| name == "processor");
    if all.iter().any(is_processor) {
        all.retain(is_processor);
    }
    all
}

/// The answer to `GetCpuInfo` from the text of `/proc/cpuinfo`.
pub(super) fn info(text: &str) -> Result<Body, Refusal> {
    pretty(&processors(text))
}

/// Percentages with two digits. What guests use is in none of them, as in `mpstat`.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Detail {
    user: String,
    nice: String,
    sys: String,
    iowait: String,
    irq: String,
    soft: String,
    steal: String,
    idle: String,
}

fn detail_shape(used: &CpuPercent) -> Detail {
    let digits = |percent: f64| format!("{percent:.2}");
    Detail {
        user: digits(used.user_percent),
        nice: digits(used.nice_percent),
        sys: digits(used.system_percent),
        iowait: digits(used.iowait_percent),
        irq: digits(used.irq_percent),
        soft: digits(used.softirq_percent),
        steal: digits(used.steal_percent),
        idle: digits(used.idle_percent),
    }
}

/// The answer to `GetCpuDetail`, one second from now.
pub(super) async fn detail(roots: &HostRoots) -> Result<Body, Refusal> {
    let begun = Instant::now();
    let now = move || SampleTime {
        wall_ms: muster_link::stamp::now_ms(),
        mono_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let mut host = Host::of_part("cpu", roots, toml::Table::new())
        .map_err(|error| Refusal::unavailable(error.to_string()))?;
    let mut host = blocking(move || {
        host.sample(now());
        host
    })
    .await?;
    sleep(SAMPLE).await;
    let (snapshot, _) = blocking(move || host.sample(now())).await?;
    let used = snapshot.cpu.and_then(|cpu| cpu.total.interval);
    match used {
        Some(used) => compact(&detail_shape(&used)),
        None => {
            let why = snapshot.errors.into_iter().next();
            let why = why.map_or("the kernel has accounted no time".to_owned(), |why| {
                why.error
            });
            Err(Refusal::unavailable(format!(
                "processor time over a second: {why}"
            )))
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const X86: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: Xeon: 8 cores\nflags\t\t: fpu vme\npower management:\n\nprocessor\t: 1\ncpu family\t: 6\n\n";

    #[test]
    fn a_map_per_processor_with_blanks_in_keys_as_underscores() {
        let want = r#"[{"processor":"0","vendor_id":"GenuineIntel","cpu_family":"6","model_name":"Xeon: 8 cores","flags":"fpu vme","power_management":""},{"processor":"1","cpu_family":"6"}]"#;
        assert_eq!(compact(&processors(X86)).unwrap().0, want);
        assert!(
            info(X86)
                .unwrap()
                .0
                .starts_with("[\n    {\n        \"processor\": \"0\",\n")
        );
    }

    #[test]
    fn boards_and_strange_kernels() {
        let arm = "processor\t: 0\nBogoMIPS\t: 48.00\n\nHardware\t: BCM2835\nRevision\t: a02082\n";
        assert_eq!(processors(arm).len(), 1);
        let s390 = "vendor_id       : IBM/S390\n# processors    : 2\n\nprocessor 0: version = 00,  identification = 1";
        assert_eq!(processors(s390).len(), 2);
        assert_eq!(info("").unwrap().0, "[]");
        assert_eq!(info("\n\n\u{0}\n:::").unwrap().0.matches('{').count(), 1);
    }

    #[test]
    fn percentages_have_two_digits_and_are_strings() {
        let used = CpuPercent {
            user_percent: 12.344,
            idle_percent: 87.656,
            guest_percent: 1.0,
            ..CpuPercent::default()
        };
        let want = r#"{"user":"12.34","nice":"0.00","sys":"0.00","iowait":"0.00","irq":"0.00","soft":"0.00","steal":"0.00","idle":"87.66"}"#;
        assert_eq!(compact(&detail_shape(&used)).unwrap().0, want);
    }
}
