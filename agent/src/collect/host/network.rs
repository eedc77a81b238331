//! Network interfaces, from `/proc/net/dev` (kernel: `net/core/net-procfs.c`) and `/sys/class/net/<name>/`.
//!
//! procfs's `InterfaceDeviceStatus` is not used: it fails where the first figure follows the colon at once, as in
//! kernels before 2.6.39 with large counters, and one bad line loses all.

use std::collections::BTreeMap;
use std::path::Path;

use muster_proto::event::Severity;
use muster_proto::snapshot::host::{Counter, Interface, Network};
use serde_json::json;

use super::super::files::{Files, Lines, ParseError};
use super::super::pattern::Patterns;
use super::super::rate::{Seen, Wrap, counter, growth};
use super::config::Config;
use super::{Part, PartFailed, Run, change};

/// Interfaces shown at the most.
const INTERFACES_MAX: usize = 1024;

/// The field that a column fills; none for what is not shown (compressed packets).
type Column = Option<fn(&mut Interface) -> &mut Counter>;

/// Columns of `/proc/net/dev`.
static COLUMNS: [Column; 16] = [
    Some(|interface| &mut interface.rx_bytes),
    Some(|interface| &mut interface.rx_packets),
    Some(|interface| &mut interface.rx_errors),
    Some(|interface| &mut interface.rx_dropped),
    Some(|interface| &mut interface.rx_fifo),
    Some(|interface| &mut interface.rx_frame),
    None,
    Some(|interface| &mut interface.rx_multicast),
    Some(|interface| &mut interface.tx_bytes),
    Some(|interface| &mut interface.tx_packets),
    Some(|interface| &mut interface.tx_errors),
    Some(|interface| &mut interface.tx_dropped),
    Some(|interface| &mut interface.tx_fifo),
    Some(|interface| &mut interface.tx_collisions),
    Some(|interface| &mut interface.tx_carrier),
    None,
];

pub(super) fn parse(text: &str) -> Lines<Interface> {
    const HEADER_LINES: usize = 2;
    let mut lines = Lines::default();
    if text
        .lines()
        .take(HEADER_LINES)
        .filter(|line| line.contains('|'))
        .count()
        < HEADER_LINES
    {
        lines.push(Err(ParseError::at(0, "two lines of column names", text)));
        return lines;
    }
    for (at, line) in text.lines().enumerate().skip(HEADER_LINES) {
        let wanted = "name: and sixteen figures";
        lines.push(interface(line).ok_or_else(|| ParseError::at(at, wanted, line)));
    }
    lines
}

fn interface(line: &str) -> Option<Interface> {
    let (name, figures) = figures(line)?;
    let mut interface = Interface {
        name: name.to_owned(),
        ..Interface::default()
    };
    for (column, total) in COLUMNS.iter().zip(figures) {
        if let Some(column) = column {
            column(&mut interface).total = total;
        }
    }
    Some(interface)
}

/// The name and the sixteen figures of a line. The name may hold colons (`eth0:1`), the figures cannot; there may be no
/// blank after the colon.
pub(crate) fn figures(line: &str) -> Option<(&str, [u64; COLUMNS.len()])> {
    let (name, text) = line.rsplit_once(':')?;
    let name = name.trim();
    let mut words = text.split_ascii_whitespace();
    let mut figures = [0; COLUMNS.len()];
    for figure in &mut figures {
        *figure = words.next()?.parse().ok()?;
    }
    (!name.is_empty()).then_some((name, figures))
}

/// Adds the rates to `after`. False where any counter went backwards, or the name stands for another interface now:
/// then there are none.
fn rates(before: &mut Interface, after: &mut Interface, seconds: f64, wrap: Wrap) -> bool {
    if before.index != after.index {
        return false;
    }
    let columns = || COLUMNS.iter().flatten();
    if columns().any(|column| growth(column(before).total, column(after).total, wrap).is_none()) {
        return false;
    }
    for column in columns() {
        let before = (column(before).total, seconds);
        let after = column(after);
        *after = counter(after.total, Some(before), wrap);
    }
    true
}

/// Fills in what `/sys/class/net/<name>` tells. An alias of an old kernel has no such directory.
fn describe(files: &mut Files, sys: &Path, before: Option<&Interface>, interface: &mut Interface) {
    let directory = sys.join("class/net").join(&interface.name);
    let mut word = |name: &str| Some(files.text(&directory.join(name)).ok()?.trim().to_owned());
    interface.operstate = word("operstate");
    if interface.operstate.is_none() {
        return;
    }
    interface.index = word("ifindex").and_then(|word| word.parse().ok());
    interface.mtu_bytes = word("mtu").and_then(|word| word.parse().ok());
    interface.carrier_changes = word("carrier_changes").and_then(|word| word.parse().ok());
    // Asking for the speed goes to the driver, which may be slow: only when the link can have changed. Kernels that do
    // not count the changes are asked each time.
    let link = |interface: &Interface| {
        (
            interface.index,
            interface.operstate.clone(),
            interface.carrier_changes,
        )
    };
    interface.speed_bits_per_s = match before {
        Some(before) if before.carrier_changes.is_some() && link(before) == link(interface) => {
            before.speed_bits_per_s
        }
        _ => word("speed").and_then(|word| bits_per_s(&word)),
    };
}

/// Megabits per second; -1 (or its 32 bits without a sign, in old kernels) and 0 say "not known".
fn bits_per_s(speed: &str) -> Option<u64> {
    let megabits: u64 = speed.parse().ok()?;
    let known = (1..u64::from(u32::MAX)).contains(&megabits);
    known.then(|| megabits.saturating_mul(1_000_000))
}

/// Whether an interface can carry packets as far as it tells; loopback and tunnels say `unknown`.
fn carries(operstate: &str) -> bool {
    matches!(operstate, "up" | "unknown")
}

pub(super) struct NetworkPart {
    exclude: Patterns,
    resets: BTreeMap<String, u32>,
    before: Option<Seen<Vec<Interface>>>,
}

impl NetworkPart {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            exclude: config.interfaces_exclude.clone(),
            resets: BTreeMap::new(),
            before: None,
        }
    }

    /// Describes and compares every interface with the one of the same name before.
    fn compare(&mut self, run: &mut Run<'_>, interfaces: &mut [Interface], wrap: Wrap) {
        let seconds = self
            .before
            .as_ref()
            .and_then(|seen| seen.seconds_to(run.now.mono_ms));
        let mut before = self.before.take().map(|seen| seen.value);
        for (at, interface) in interfaces.iter_mut().enumerate() {
            let known = before.as_mut().and_then(|before| {
                let same = |known: &Interface| known.name == interface.name;
                let place = before.get(at).is_some_and(same).then_some(at);
                place
                    .or_else(|| before.iter().position(same))
                    .and_then(|place| before.get_mut(place))
            });
            describe(run.files, &run.roots.sys, known.as_deref(), interface);
            if let Some((known, seconds)) = known.zip(seconds)
                && !rates(known, interface, seconds, wrap)
            {
                *self.resets.entry(interface.name.clone()).or_default() += 1;
            }
            interface.resets = self.resets.get(&interface.name).copied().unwrap_or(0);
        }
        if let Some(before) = before {
            tell_changes(run, &before, interfaces);
        }
    }
}

fn tell_changes(run: &mut Run<'_>, before: &[Interface], after: &[Interface]) {
    let find = |all: &[Interface], name: &str| all.iter().find(|one| one.name == name).cloned();
    for now in after {
        let known = find(before, &now.name);
        let states = (
            known.as_ref().map(|known| known.operstate.as_deref()),
            now.operstate.as_deref(),
        );
        let (topic, severity, what) = match states {
            (None, _) => ("host.interface.added", Severity::Info, "was added"),
            (Some(Some(before)), Some(after)) if carries(before) && !carries(after) => {
                ("host.interface.down", Severity::Error, "is down")
            }
            (Some(Some(before)), Some(after)) if !carries(before) && carries(after) => {
                ("host.interface.up", Severity::Notice, "is up")
            }
            _ => continue,
        };
        tell(run, topic, severity, what, known.as_ref(), Some(now));
    }
    for known in before
        .iter()
        .filter(|known| find(after, &known.name).is_none())
    {
        tell(
            run,
            "host.interface.removed",
            Severity::Notice,
            "was removed",
            Some(known),
            None,
        );
    }
}

fn tell(
    run: &mut Run<'_>,
    topic: &'static str,
    severity: Severity,
    what: &str,
    before: Option<&Interface>,
    after: Option<&Interface>,
) {
    let Some(name) = after.or(before).map(|interface| interface.name.clone()) else {
        return;
    };
    let state = |interface: Option<&Interface>| {
        interface.map_or(json!(null), |interface| {
            json!({"operstate": interface.operstate, "carrier_changes": interface.carrier_changes})
        })
    };
    let summary = match after.and_then(|after| after.operstate.as_deref()) {
        Some(operstate) => format!("interface {name} {what} ({operstate})"),
        None => format!("interface {name} {what}"),
    };
    run.changes.push(change(
        topic,
        severity,
        &name,
        summary,
        state(before),
        state(after),
    ));
}

impl Part for NetworkPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let path = run.proc("net/dev");
        let lines = parse(&run.files.text(&path)?);
        let mut interfaces = run.lines(&path, lines)?;
        let all = interfaces.len();
        interfaces.retain(|interface| !self.exclude.matches(&interface.name));
        interfaces.truncate(INTERFACES_MAX);
        let skipped = u32::try_from(all - interfaces.len()).unwrap_or(u32::MAX);
        self.resets
            .retain(|name, _| interfaces.iter().any(|interface| interface.name == *name));
        self.compare(run, &mut interfaces, Wrap::LONG);
        run.snapshot.network = Some(Network {
            interfaces: interfaces.clone(),
            skipped,
        });
        self.before = Some(Seen {
            mono_ms: run.now.mono_ms,
            value: interfaces,
        });
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const FIGURES: &str = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";

    #[test]
    fn names_with_colons_and_figures_without_a_blank() {
        for (line, name) in [
            (format!("  eth0: {FIGURES}"), "eth0"),
            (format!("eth0:{FIGURES}"), "eth0"),
            (format!("eth0:1:{FIGURES}"), "eth0:1"),
            (format!("eth0:1: {FIGURES}"), "eth0:1"),
        ] {
            let interface = interface(&line).unwrap();
            assert_eq!(interface.name, name, "{line}");
            assert_eq!(
                (interface.rx_bytes.total, interface.rx_multicast.total),
                (1, 8),
                "{line}"
            );
            assert_eq!(
                (interface.tx_bytes.total, interface.tx_carrier.total),
                (9, 15),
                "{line}"
            );
        }
        for line in [
            "",
            "eth0",
            "eth0: 1 2 3",
            ": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
            "eth0: -1 2 3 4 5 6 7 8 9 1 1 1 1 1 1 1",
        ] {
            assert_eq!(interface(line), None, "{line:?}");
        }
        let lines = parse(&format!("a|b\na|b\nbad\n lo: {FIGURES}\n"));
        assert_eq!((lines.items.len(), lines.bad.unwrap().line), (1, 3));
    }

    #[test]
    fn rates_wraps_and_resets() {
        const TOP: u64 = u32::MAX as u64;
        for (name, before, after, same, wrap, want) in [
            ("grows", 100, 1100, true, Wrap::Never, Some(100.0)),
            (
                "wraps on a 32-bit kernel",
                TOP,
                99,
                true,
                Wrap::At32,
                Some(10.0),
            ),
            ("began anew", TOP, 99, true, Wrap::Never, None),
            (
                "beyond 32 bits",
                TOP - 9,
                TOP + 991,
                true,
                Wrap::Never,
                Some(100.0),
            ),
            (
                "another interface of that name",
                100,
                1100,
                false,
                Wrap::Never,
                None,
            ),
        ] {
            let mut before_ = Interface {
                index: Some(2),
                ..Interface::default()
            };
            before_.tx_bytes.total = before;
            let mut after_ = Interface {
                index: Some(if same { 2 } else { 3 }),
                ..Interface::default()
            };
            after_.tx_bytes.total = after;
            assert_eq!(
                rates(&mut before_, &mut after_, 10.0, wrap),
                want.is_some(),
                "{name}"
            );
            assert_eq!(
                after_.tx_bytes,
                Counter {
                    total: after,
                    per_s: want
                },
                "{name}"
            );
            assert_eq!(
                after_.rx_bytes.per_s.is_some(),
                want.is_some(),
                "{name}: all or none"
            );
        }
    }

    #[test]
    fn speeds() {
        for (text, want) in [
            ("1000", Some(1_000_000_000)),
            ("-1", None),
            ("4294967295", None),
            ("0", None),
            ("", None),
            ("fast", None),
        ] {
            assert_eq!(bits_per_s(text), want, "{text}");
        }
    }
}
