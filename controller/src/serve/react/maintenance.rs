//! Maintenance windows: times in which nothing is done about the events that they name. Pure; the time is handed in.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use muster_proto::target::Target;
use serde::Deserialize;
use toml::Spanned;

use super::rules::{Fault, expression};

/// `[[maintenance]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMaintenance {
    name: Spanned<String>,
    when: Option<Spanned<String>>,
    #[serde(default)]
    reactions: Vec<String>,
    begin: Option<Spanned<String>>,
    end: Option<Spanned<String>>,
    #[serde(default)]
    days: Vec<Spanned<String>>,
    from: Option<Spanned<String>>,
    to: Option<Spanned<String>>,
    zone: Option<Spanned<String>>,
}

/// A maintenance window.
#[derive(Debug)]
pub(crate) struct Maintenance {
    /// Its name.
    pub(crate) name: String,
    /// Which events it is about; all if none.
    pub(crate) when: Option<Target>,
    /// Which reactions; all if empty.
    pub(crate) reactions: Vec<String>,
    times: Times,
}

#[derive(Debug)]
enum Times {
    /// Once, in milliseconds since 1970.
    Once { begin_ms: i64, end_ms: i64 },
    /// On these days of the week, between two times of the day; past midnight where `to` is not after `from`.
    Weekly {
        days: Vec<Weekday>,
        from: Time,
        to: Time,
        zone: TimeZone,
    },
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl Maintenance {
    pub(crate) fn parse(raw: Spanned<RawMaintenance>) -> Result<Self, Fault> {
        let raw = raw.into_inner();
        let at = raw.name.span().start;
        let times = match (raw.begin, raw.end, raw.from, raw.to) {
            (Some(begin), Some(end), None, None) if raw.days.is_empty() => {
                let (begin_ms, end_ms) = (instant(begin)?, instant(end)?);
                Times::Once { begin_ms, end_ms }
            }
            (None, None, Some(from), Some(to)) => Times::Weekly {
                days: raw.days.into_iter().map(day).collect::<Result<_, _>>()?,
                from: clock(from)?,
                to: clock(to)?,
                zone: zone(raw.zone)?,
            },
            _ => {
                return Err(Fault::new(
                    at,
                    "expected either begin and end, or from and to (with days, if not every day)",
                ));
            }
        };
        Ok(Self {
            name: raw.name.into_inner(),
            when: raw.when.map(|when| expression("when", when)).transpose()?,
            reactions: raw.reactions,
            times,
        })
    }

    /// Whether it is on at `now_ms`.
    pub(crate) fn is_on(&self, now_ms: u64) -> bool {
        let Ok(now_ms) = i64::try_from(now_ms) else {
            return false;
        };
        match &self.times {
            Times::Once { begin_ms, end_ms } => (*begin_ms..*end_ms).contains(&now_ms),
            Times::Weekly {
                days,
                from,
                to,
                zone,
            } => {
                let Ok(now) = Timestamp::from_millisecond(now_ms) else {
                    return false;
                };
                let now = now.to_zoned(zone.clone());
                let on = |day: Weekday| days.is_empty() || days.contains(&day);
                let today = now.weekday();
                if from < to {
                    on(today) && (*from..*to).contains(&now.time())
                } else {
                    // What began yesterday goes on until the morning.
                    (on(today) && now.time() >= *from) || (on(today.previous()) && now.time() < *to)
                }
            }
        }
    }
}

fn day(text: Spanned<String>) -> Result<Weekday, Fault> {
    let found = DAYS.iter().find(|(name, _)| name == text.get_ref());
    found.map(|(_, day)| *day).ok_or_else(|| {
        let why = format!(
            "expected a day such as \"mon\" or \"sun\", found {:?}",
            text.get_ref()
        );
        Fault::new(text.span().start, why)
    })
}

fn clock(text: Spanned<String>) -> Result<Time, Fault> {
    text.get_ref().parse().map_err(|_| {
        let why = format!(
            "expected a time of the day such as \"02:30\", found {:?}",
            text.get_ref()
        );
        Fault::new(text.span().start, why)
    })
}

fn zone(text: Option<Spanned<String>>) -> Result<TimeZone, Fault> {
    let Some(text) = text else {
        return Ok(TimeZone::system());
    };
    if text.get_ref() == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(text.get_ref()).map_err(|_| {
        let why = format!(
            "expected a time zone such as \"UTC\" or \"Asia/Shanghai\" (of the package tzdata), found {:?}",
            text.get_ref()
        );
        Fault::new(text.span().start, why)
    })
}

/// A time with its zone (RFC 3339), in milliseconds since 1970.
fn instant(text: Spanned<String>) -> Result<i64, Fault> {
    let written = text.get_ref();
    let instant: Option<Timestamp> = written.parse().ok();
    let zoned = || written.parse::<Zoned>().ok().map(|at| at.timestamp());
    instant
        .or_else(zoned)
        .map(Timestamp::as_millisecond)
        .ok_or_else(|| {
            let why =
                format!("expected a time such as \"2026-11-22T02:00:00+08:00\", found {written:?}");
            Fault::new(text.span().start, why)
        })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn window(text: &str) -> Result<Maintenance, Fault> {
        let raw: Spanned<RawMaintenance> =
            toml::from_str::<std::collections::BTreeMap<String, Spanned<RawMaintenance>>>(text)
                .unwrap()
                .remove("m")
                .unwrap();
        Maintenance::parse(raw)
    }

    fn at(text: &str) -> u64 {
        let at: Timestamp = text.parse().unwrap();
        u64::try_from(at.as_millisecond()).unwrap()
    }

    #[test]
    fn weekly_windows_hold_on_their_days_and_over_midnight() {
        // 2026-11-22 is a Sunday.
        let text = "[m]\nname = 'a'\ndays = ['sun']\nfrom = '22:00'\nto = '02:00'\nzone = 'UTC'";
        let night = window(text).unwrap();
        for (time, want) in [
            ("2026-11-22T21:59:00Z", false),
            ("2026-11-22T22:00:00Z", true),
            ("2026-11-23T01:59:59Z", true),
            ("2026-11-23T02:00:00Z", false),
            ("2026-11-23T23:00:00Z", false),
            ("2026-11-22T01:00:00Z", false),
        ] {
            assert_eq!(night.is_on(at(time)), want, "{time}");
        }
    }

    #[test]
    fn one_that_happens_once_has_a_begin_and_an_end() {
        let text =
            "[m]\nname = 'a'\nbegin = '2026-11-22T10:00:00+08:00'\nend = '2026-11-22T03:00:00Z'";
        let once = window(text).unwrap();
        assert!(once.is_on(at("2026-11-22T02:30:00Z")));
        assert!(!once.is_on(at("2026-11-22T03:00:00Z")));
        assert!(!once.is_on(at("2026-11-22T01:59:59Z")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, want) in [
            ("[m]\nname = 'a'", "expected either begin and end"),
            (
                "[m]\nname = 'a'\nfrom = '25:00'\nto = '01:00'",
                "time of the day",
            ),
            (
                "[m]\nname = 'a'\ndays = ['sunday']\nfrom = '2:00'\nto = '03:00'",
                "such as \"mon\"",
            ),
            (
                "[m]\nname = 'a'\nbegin = 'now'\nend = 'then'",
                "expected a time such as",
            ),
        ] {
            let fault = window(text).unwrap_err();
            assert!(fault.why.contains(want), "{text}: {}", fault.why);
        }
    }
}
