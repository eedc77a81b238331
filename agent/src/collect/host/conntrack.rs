//! Connection tracking table, from `/proc/sys/net/netfilter` and `/proc/net/stat/nf_conntrack` (kernel:
//! `net/netfilter/nf_conntrack_standalone.c`). A host without it has no such files, which is no fault.

use muster_proto::event::Severity;
use muster_proto::snapshot::host::{Conntrack, Counter};
use serde_json::json;

use super::super::files::{ParseError, number};
use super::super::rate::{Seen, Wrap, percent};
use super::config::Config;
use super::counters::{self, Named};
use super::level::Level;
use super::{Part, PartFailed, Run, change};

/// Where the count and the maximum are: since kernel 2.6.20, and before.
const PLACES: [(&str, &str); 2] = [
    (
        "sys/net/netfilter/nf_conntrack_count",
        "sys/net/netfilter/nf_conntrack_max",
    ),
    (
        "sys/net/ipv4/netfilter/ip_conntrack_count",
        "sys/net/ipv4/netfilter/ip_conntrack_max",
    ),
];

static DROPS: &[Named<Conntrack>] = &[
    ("drop", |conntrack| &mut conntrack.drops),
    ("early_drop", |conntrack| &mut conntrack.early_drops),
    ("insert_failed", |conntrack| &mut conntrack.insert_failures),
];

pub(super) fn parse_figure(text: &str) -> Result<u64, ParseError> {
    number(text).ok_or_else(|| ParseError::at(0, "a number", text))
}

/// A line of names, then a line of hexadecimal figures for each core; 32 bits each.
pub(super) fn parse_stat(text: &str, conntrack: &mut Conntrack) {
    let mut lines = text.lines();
    let names: Vec<_> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .collect();
    for line in lines {
        for (name, figure) in names.iter().zip(line.split_ascii_whitespace()) {
            let known = DROPS.iter().find(|(known, _)| known == name);
            if let Some(((_, field), figure)) = known.zip(u64::from_str_radix(figure, 16).ok()) {
                let counter = field(conntrack).get_or_insert(Counter::default());
                counter.total = counter.total.saturating_add(figure);
            }
        }
    }
}

pub(super) struct ConntrackPart {
    warning_percent: f64,
    level: Option<Level>,
    before: Option<Seen<Conntrack>>,
}

impl ConntrackPart {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            warning_percent: config.conntrack_warning_percent,
            level: None,
            before: None,
        }
    }

    fn figure(run: &mut Run<'_>, path: &str) -> Result<Option<u64>, PartFailed> {
        let path = run.proc(path);
        match run.files.text(&path) {
            Ok(text) => parse_figure(&text)
                .map(Some)
                .map_err(|error| PartFailed::parse(&path, error)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn judge(&mut self, run: &mut Run<'_>, now: &Conntrack) {
        let before = self.level.unwrap_or_default();
        let after = before.next(now.used_percent, self.warning_percent, f64::INFINITY);
        if self.level.is_some() && after != before {
            let (topic, severity) = match after {
                Level::Normal => ("host.conntrack.usage.normal", Severity::Notice),
                _ => ("host.conntrack.usage.warning", Severity::Warning),
            };
            let summary = format!(
                "connection tracking table is {:.1} % full ({} of {})",
                now.used_percent, now.entries, now.entries_max
            );
            let (before, after) = (
                json!({"level": before.name()}),
                json!({"level": after.name()}),
            );
            let mut change = change(topic, severity, "conntrack", summary, before, after);
            change
                .fields
                .insert("entries".to_owned(), json!(now.entries));
            change
                .fields
                .insert("entries_max".to_owned(), json!(now.entries_max));
            run.changes.push(change);
        }
        self.level = Some(after);
    }
}

impl Part for ConntrackPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let mut found = None;
        for (count, max) in PLACES {
            if let Some(entries) = Self::figure(run, count)? {
                found = Some((entries, Self::figure(run, max)?.unwrap_or(0)));
                break;
            }
        }
        let Some((entries, entries_max)) = found else {
            return Ok(());
        };
        let used_percent = percent(entries, entries_max);
        let mut conntrack = Conntrack {
            entries,
            entries_max,
            used_percent,
            ..Conntrack::default()
        };
        let path = run.proc("net/stat/nf_conntrack"); // not built into every kernel
        if let Ok(text) = run.files.text(&path) {
            parse_stat(&text, &mut conntrack);
        }
        if let Some(before) = &mut self.before {
            // Sums of 32-bit figures: a wrap of one of them shows as a reset, once in four thousand million drops.
            let seconds = before.seconds_to(run.now.mono_ms);
            counters::rates(
                DROPS,
                &mut before.value,
                &mut conntrack,
                seconds,
                Wrap::Never,
            );
        }
        self.judge(run, &conntrack);
        run.snapshot.conntrack = Some(conntrack.clone());
        self.before = Some(Seen {
            mono_ms: run.now.mono_ms,
            value: conntrack,
        });
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn per_core_figures_are_hexadecimal_and_added_up() {
        let mut conntrack = Conntrack::default();
        parse_stat(
            "entries  insert_failed drop\n0000000a 00000001 00000010\n0000000a 00000002 zz\n",
            &mut conntrack,
        );
        assert_eq!(conntrack.drops.unwrap().total, 16);
        assert_eq!(conntrack.insert_failures.unwrap().total, 3);
        assert_eq!(conntrack.early_drops, None);
        parse_stat("", &mut conntrack);
    }

    #[test]
    fn figures() {
        assert_eq!(parse_figure("262144\n"), Ok(262_144));
        for text in ["", "-1", "many"] {
            assert!(parse_figure(text).is_err(), "{text:?}");
        }
    }
}
