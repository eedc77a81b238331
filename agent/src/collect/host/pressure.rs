//! Pressure stall information, from `/proc/pressure/*` (kernel: `kernel/sched/psi.c`).
//!
//! procfs's parser is not used: it wants a `full` line, which `cpu` has only since kernel 5.13 and `irq` has alone,
//! and it panics on a line cut short.

use muster_proto::snapshot::host::{Pressure, Stall, Stalls};

use super::super::files::ParseError;
use super::super::rate::{Seen, Wrap, growth, lossy, thousandth};
use super::{Part, PartFailed, Run};

pub(super) fn parse(text: &str) -> Result<Stalls, ParseError> {
    let mut stalls = Stalls::default();
    for (at, line) in text.lines().enumerate() {
        let wanted = || ParseError::at(at, "some|full avg10=… avg60=… avg300=… total=…", line);
        let (kind, rest) = line.split_once(' ').ok_or_else(wanted)?;
        let stall = stall(rest).ok_or_else(wanted)?;
        match kind {
            "some" => stalls.some = Some(stall),
            "full" => stalls.full = Some(stall),
            _ => return Err(wanted()),
        }
    }
    if stalls == Stalls::default() {
        Err(ParseError::missing("a line `some` or `full`"))
    } else {
        Ok(stalls)
    }
}

fn stall(text: &str) -> Option<Stall> {
    let (mut avg10, mut avg60, mut avg300, mut total) = (None, None, None, None);
    for word in text.split_ascii_whitespace() {
        let (name, value) = word.split_once('=')?;
        let percent = || value.parse().ok().filter(|value: &f64| value.is_finite());
        match name {
            "avg10" => avg10 = percent(),
            "avg60" => avg60 = percent(),
            "avg300" => avg300 = percent(),
            "total" => total = value.parse().ok(),
            _ => {}
        }
    }
    Some(Stall {
        avg10_percent: avg10?,
        avg60_percent: avg60?,
        avg300_percent: avg300?,
        total_us: total?,
        interval_percent: None,
    })
}

/// The share of the interval between two samples, from the microseconds stalled.
fn fill(before: Option<&Stall>, after: Option<&mut Stall>, seconds: Option<f64>) {
    if let (Some(before), Some(after), Some(seconds)) = (before, after, seconds) {
        after.interval_percent = growth(before.total_us, after.total_us, Wrap::Never)
            // The kernel adds up at intervals of its own, so that a little more than the whole may show.
            .map(|us| thousandth(lossy(us) / 10_000.0 / seconds).min(100.0));
    }
}

#[derive(Default)]
pub(super) struct PressurePart {
    before: Option<Seen<Pressure>>,
}

impl PressurePart {
    fn one(
        run: &mut Run<'_>,
        file: &str,
        before: Option<&Stalls>,
        seconds: Option<f64>,
    ) -> Option<Stalls> {
        let path = run.proc("pressure").join(file);
        let parsed = match run.files.text(&path) {
            Ok(text) => parse(&text).map_err(|error| PartFailed::parse(&path, error)),
            Err(error) if error.is_absent() => return None,
            Err(error) => Err(error.into()),
        };
        match parsed {
            Ok(mut stalls) => {
                fill(
                    before.and_then(|before| before.some.as_ref()),
                    stalls.some.as_mut(),
                    seconds,
                );
                fill(
                    before.and_then(|before| before.full.as_ref()),
                    stalls.full.as_mut(),
                    seconds,
                );
                Some(stalls)
            }
            Err(failed) => {
                run.note(failed);
                None
            }
        }
    }
}

impl Part for PressurePart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let seconds = self
            .before
            .as_ref()
            .and_then(|before| before.seconds_to(run.now.mono_ms));
        let before = self
            .before
            .take()
            .map(|before| before.value)
            .unwrap_or_default();
        let pressure = Pressure {
            cpu: Self::one(run, "cpu", before.cpu.as_ref(), seconds),
            memory: Self::one(run, "memory", before.memory.as_ref(), seconds),
            io: Self::one(run, "io", before.io.as_ref(), seconds),
            irq: Self::one(run, "irq", before.irq.as_ref(), seconds),
        };
        if pressure != Pressure::default() {
            run.snapshot.pressure = Some(pressure.clone());
            self.before = Some(Seen {
                mono_ms: run.now.mono_ms,
                value: pressure,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SOME: &str = "some avg10=23.74 avg60=7.47 avg300=1.97 total=9861195\n";
    const FULL: &str = "full avg10=0.05 avg60=0.41 avg300=0.22 total=1692570\n";

    #[test]
    fn either_line_may_be_missing() {
        let both = parse(&format!("{SOME}{FULL}")).unwrap();
        assert_eq!(both.some.as_ref().unwrap().avg10_percent, 23.74);
        assert_eq!(both.full.as_ref().unwrap().total_us, 1_692_570);
        assert_eq!(parse(SOME).unwrap().full, None, "cpu before 5.13");
        assert_eq!(parse(FULL).unwrap().some, None, "irq");
    }

    #[test]
    fn garbage_is_refused() {
        for text in [
            "",
            "some",
            "some ",
            "some avg10=1",
            "full avg10=x avg60=0 avg300=0 total=0",
            "most avg10=0",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn share_of_the_interval() {
        let before = parse(SOME).unwrap().some.unwrap();
        for (name, grown, want) in [
            ("half", 5_000_000, Some(50.0)),
            ("over the whole", 10_100_000, Some(100.0)),
            ("none", 0, Some(0.0)),
        ] {
            let mut after = before.clone();
            after.total_us += grown;
            fill(Some(&before), Some(&mut after), Some(10.0));
            assert_eq!(after.interval_percent, want, "{name}");
        }
        let mut anew = before.clone();
        anew.total_us = 0;
        fill(Some(&before), Some(&mut anew), Some(10.0));
        assert_eq!(anew.interval_percent, None);
    }
}
