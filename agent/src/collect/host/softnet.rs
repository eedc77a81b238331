//! Packets handed from the drivers to the network stack, from `/proc/net/softnet_stat` (kernel:
//! `net/core/net-procfs.c`): a line of hexadecimal figures for each core, 32 bits each. procfs has no parser for it.

use muster_proto::snapshot::host::{Counter, Softnet, SoftnetCpu};

use super::super::files::{Lines, ParseError};
use super::super::rate::{Seen, Wrap, counter, thousandth};
use super::{Part, PartFailed, Run};

/// Where the core's number stands, since kernel 5.10.
const CORE_COLUMN: usize = 12;

pub(super) fn parse(text: &str) -> Lines<SoftnetCpu> {
    let mut lines = Lines::default();
    for (at, line) in text.lines().enumerate() {
        lines.push(
            cpu(at, line)
                .ok_or_else(|| ParseError::at(at, "three or more hexadecimal figures", line)),
        );
    }
    lines
}

fn cpu(at: usize, line: &str) -> Option<SoftnetCpu> {
    let mut figures = line
        .split_ascii_whitespace()
        .map(|figure| u32::from_str_radix(figure, 16).ok());
    let mut count = || {
        Some(Counter {
            total: figures.next()??.into(),
            per_s: None,
        })
    };
    let (processed, dropped, squeezed) = (count()?, count()?, count()?);
    let core = match figures.nth(CORE_COLUMN - 3) {
        Some(core) => core?,
        None => u32::try_from(at).ok()?,
    };
    Some(SoftnetCpu {
        core,
        processed,
        dropped,
        squeezed,
    })
}

/// The sum of all cores; its rate is the sum of the cores' rates, so that the wrap of one does no harm.
fn sum(cpus: &[SoftnetCpu], of: fn(&SoftnetCpu) -> Counter) -> Counter {
    let total = cpus
        .iter()
        .map(|cpu| of(cpu).total)
        .fold(0, u64::saturating_add);
    let rates: Vec<f64> = cpus.iter().filter_map(|cpu| of(cpu).per_s).collect();
    Counter {
        total,
        per_s: (!rates.is_empty()).then(|| thousandth(rates.iter().sum())),
    }
}

fn compare(
    before: Option<&Seen<Vec<SoftnetCpu>>>,
    mut cpus: Vec<SoftnetCpu>,
    now_ms: u64,
) -> Softnet {
    for (at, cpu) in cpus.iter_mut().enumerate() {
        let before = before.and_then(|seen| {
            let same = |before: &&SoftnetCpu| before.core == cpu.core;
            let known = seen
                .value
                .get(at)
                .filter(same)
                .or_else(|| seen.value.iter().find(same));
            known.zip(seen.seconds_to(now_ms))
        });
        let rate = |now: Counter, of: fn(&SoftnetCpu) -> Counter| {
            counter(
                now.total,
                before.map(|(cpu, seconds)| (of(cpu).total, seconds)),
                Wrap::At32,
            )
        };
        cpu.processed = rate(cpu.processed, |cpu| cpu.processed);
        cpu.dropped = rate(cpu.dropped, |cpu| cpu.dropped);
        cpu.squeezed = rate(cpu.squeezed, |cpu| cpu.squeezed);
    }
    Softnet {
        processed: sum(&cpus, |cpu| cpu.processed),
        dropped: sum(&cpus, |cpu| cpu.dropped),
        squeezed: sum(&cpus, |cpu| cpu.squeezed),
        cpus,
    }
}

#[derive(Default)]
pub(super) struct SoftnetPart {
    before: Option<Seen<Vec<SoftnetCpu>>>,
}

impl Part for SoftnetPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let path = run.proc("net/softnet_stat");
        let lines = match run.files.text(&path) {
            Ok(text) => parse(&text),
            Err(error) if error.is_absent() => return Ok(()), // a namespace without it, as in some containers
            Err(error) => return Err(error.into()),
        };
        let cpus = run.lines(&path, lines)?;
        let softnet = compare(self.before.as_ref(), cpus, run.now.mono_ms);
        run.snapshot.softnet = Some(softnet.clone());
        self.before = Some(Seen {
            mono_ms: run.now.mono_ms,
            value: softnet.cpus,
        });
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn kernels_old_and_new() {
        for (name, line, core) in [
            (
                "2.6: nine columns, the line is the core",
                "00000010 00000002 0000000a 0 0 0 0 0 0",
                1,
            ),
            (
                "4.x: eleven",
                "00000010 00000002 0000000a 0 0 0 0 0 0 0 0",
                1,
            ),
            (
                "5.10: the core's own number",
                "00000010 00000002 0000000a 0 0 0 0 0 0 0 0 0 00000007",
                7,
            ),
            (
                "6.x: fifteen",
                "00000010 00000002 0000000a 0 0 0 0 0 0 0 0 0 00000007 0 0",
                7,
            ),
        ] {
            let cpu = cpu(1, line).unwrap();
            assert_eq!(
                (
                    cpu.core,
                    cpu.processed.total,
                    cpu.dropped.total,
                    cpu.squeezed.total
                ),
                (core, 16, 2, 10),
                "{name}"
            );
        }
        for line in ["", "1 2", "x y z", "100000000 0 0"] {
            assert_eq!(cpu(0, line), None, "{line:?}");
        }
    }

    #[test]
    fn one_core_wraps_and_the_sum_goes_on() {
        let before = Seen {
            mono_ms: 0,
            value: parse("ffffffff 0 0\n00000000 0 0\n").items,
        };
        let softnet = compare(
            Some(&before),
            parse("00000009 0 0\n00000014 1 0\n").items,
            10_000,
        );
        assert_eq!(
            softnet.processed,
            Counter {
                total: 29,
                per_s: Some(3.0)
            }
        );
        assert_eq!(
            softnet.dropped,
            Counter {
                total: 1,
                per_s: Some(0.1)
            }
        );
    }
}
