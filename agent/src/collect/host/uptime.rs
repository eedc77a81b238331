//! Time since boot, from `/proc/uptime`, by procfs's parser.

use muster_proto::snapshot::host::Uptime;
use procfs::FromRead;

use super::super::files::ParseError;
use super::{Part, PartFailed, Run};

/// `btime` of `/proc/stat` is computed by the kernel in the same way (clock less uptime), and reading that file twice
/// per run would cost more than all of this part. The value before is kept unless the clock was set: the hundredths of
/// uptime alone move it by a second.
const JITTER_S: u64 = 1;

pub(super) fn parse(text: &str) -> Result<(f64, f64), ParseError> {
    let wanted = "seconds up and seconds idle";
    let uptime =
        procfs::Uptime::from_read(text.as_bytes()).map_err(|_| ParseError::at(0, wanted, text))?;
    let sane = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
    if sane(uptime.uptime) && sane(uptime.idle) {
        Ok((uptime.uptime, uptime.idle))
    } else {
        Err(ParseError::at(0, wanted, text))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be finite and positive; `as` saturates"
)]
fn boot_time_s(before: Option<u64>, wall_ms: u64, uptime_s: f64) -> u64 {
    let up_ms = (uptime_s * 1000.0) as u64;
    let boot = wall_ms.saturating_sub(up_ms) / 1000;
    before
        .filter(|before| before.abs_diff(boot) <= JITTER_S)
        .unwrap_or(boot)
}

#[derive(Default)]
pub(super) struct UptimePart {
    boot_time_s: Option<u64>,
}

impl Part for UptimePart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let path = run.proc("uptime");
        let (uptime_s, idle_s) =
            parse(&run.files.text(&path)?).map_err(|error| PartFailed::parse(&path, error))?;
        let boot_time_s = boot_time_s(self.boot_time_s, run.now.wall_ms, uptime_s);
        self.boot_time_s = Some(boot_time_s);
        run.snapshot.uptime = Some(Uptime {
            uptime_s,
            idle_s,
            boot_time_s,
        });
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn reads_both_figures() {
        assert_eq!(parse("646.73 1166.10\n").unwrap(), (646.73, 1166.10));
        for text in ["", "1", "a b", "NaN 1", "-1 2", "1 inf"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn boot_time_stands_still_unless_the_clock_is_set() {
        for (name, before, wall_ms, uptime_s, want) in [
            ("first", None, 1_000_600_700, 600.2, 1_000_000),
            ("rounding", Some(1_000_000), 1_000_610_600, 610.0, 1_000_000),
            (
                "clock set",
                Some(1_000_000),
                1_000_720_000,
                620.0,
                1_000_100,
            ),
            ("clock before the boot", None, 5_000, 620.0, 0),
            ("absurd", None, 5_000, f64::MAX, 0),
        ] {
            assert_eq!(boot_time_s(before, wall_ms, uptime_s), want, "{name}");
        }
    }
}
