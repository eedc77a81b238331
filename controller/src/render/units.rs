//! Quantities as people read them. Times come in as milliseconds since 1970; the time zone is the caller's.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A size in binary units: `0 B`, `1023 B`, `1.5 GiB`, `120 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    scaled(
        bytes,
        1024,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
    )
}

/// A count in decimal units: `950`, `12.3 k`, `4.0 M`.
#[must_use]
pub fn count(count: u64) -> String {
    scaled(count, 1000, &["", "k", "M", "G", "T", "P", "E"])
        .trim_end()
        .to_owned()
}

/// A rate in bytes a second: `1.2 MiB/s`.
#[must_use]
pub fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", bytes(whole(bytes_per_second)))
}

/// A part of one: `0.034` is `3.4 %`.
#[must_use]
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    if percent.abs() >= 99.95 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// A duration: `0.35 ms`, `12.0 ms`, `1.25 s`, `3 m 5 s`, `2 h 10 m`, `5 d 3 h`.
#[must_use]
pub fn duration_ms(ms: f64) -> String {
    let ms = if ms.is_finite() { ms.max(0.0) } else { 0.0 };
    if ms < 1.0 {
        return format!("{ms:.2} ms");
    }
    if ms < 100.0 {
        return format!("{ms:.1} ms");
    }
    if ms < 999.5 {
        return format!("{ms:.0} ms");
    }
    if ms < 59_950.0 {
        return format!("{:.1} s", ms / 1000.0);
    }
    let seconds = whole(ms / 1000.0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (large, small) = match (days, hours) {
        (0, 0) => ((minutes, "m"), (seconds % 60, "s")),
        (0, _) => ((hours, "h"), (minutes % 60, "m")),
        _ => ((days, "d"), (hours % 24, "h")),
    };
    match small {
        (0, _) => format!("{} {}", large.0, large.1),
        (rest, unit) => format!("{} {} {rest} {unit}", large.0, large.1),
    }
}

/// How long ago `then_ms` was at `now_ms`: `5 s ago`, `3 m ago`, `2 d ago`; `now` within a second and for the future.
#[must_use]
pub fn age(now_ms: u64, then_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0 => "now".to_owned(),
        1..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} m ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Date and time in `zone`, to the second: `2026-11-22 16:05:24`.
#[must_use]
pub fn timestamp(at_ms: u64, zone: &TimeZone) -> String {
    in_zone(at_ms, zone, "%Y-%m-%d %H:%M:%S")
}

/// Time in `zone`, to the millisecond: `16:05:24.120`.
#[must_use]
pub fn time_of_day(at_ms: u64, zone: &TimeZone) -> String {
    in_zone(at_ms, zone, "%H:%M:%S%.3f")
}

fn in_zone(at_ms: u64, zone: &TimeZone, format: &str) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(
        || "?".to_owned(),
        |at| at.to_zoned(zone.clone()).strftime(format).to_string(),
    )
}

fn scaled(value: u64, step: u64, units: &[&str]) -> String {
    let mut divisor = 1_u64;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for larger in units {
        // Up to 1023.4 of a unit is shown in it; what would be rounded to the next step's name is shown in the next.
        if value / divisor < step {
            break;
        }
        divisor = divisor.saturating_mul(step);
        unit = larger;
    }
    if divisor == 1 {
        return format!("{value} {unit}");
    }
    let tenths = (u128::from(value) * 10 + u128::from(divisor) / 2) / u128::from(divisor);
    if tenths < 1000 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", tenths / 10)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates; negative and NaN become 0"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_readable() {
        for (got, want) in [
            (bytes(0), "0 B"),
            (bytes(1023), "1023 B"),
            (bytes(1024), "1.0 KiB"),
            (bytes(1536 * 1024 * 1024), "1.5 GiB"),
            (bytes(120 << 20), "120 MiB"),
            (bytes(u64::MAX), "16.0 EiB"),
            (count(950), "950"),
            (count(12_345), "12.3 k"),
            (rate(1_258_291.0), "1.2 MiB/s"),
            (rate(-1.0), "0 B/s"),
            (percent(0.034), "3.4 %"),
            (percent(1.0), "100 %"),
            (duration_ms(0.35), "0.35 ms"),
            (duration_ms(12.04), "12.0 ms"),
            (duration_ms(250.0), "250 ms"),
            (duration_ms(1250.0), "1.2 s"),
            (duration_ms(185_000.0), "3 m 5 s"),
            (duration_ms(60_000.0), "1 m"),
            (duration_ms(7_800_000.0), "2 h 10 m"),
            (duration_ms(442_800_000.0), "5 d 3 h"),
            (duration_ms(f64::NAN), "0.00 ms"),
            (age(10_000, 9_500), "now"),
            (age(10_000, 20_000), "now"),
            (age(200_000, 0), "3 m ago"),
            (
                timestamp(1_700_000_000_123, &TimeZone::UTC),
                "2023-11-14 22:13:20",
            ),
            (
                time_of_day(1_700_000_000_123, &TimeZone::UTC),
                "22:13:20.123",
            ),
            (timestamp(u64::MAX, &TimeZone::UTC), "?"),
        ] {
            assert_eq!(got, want);
        }
    }
}
