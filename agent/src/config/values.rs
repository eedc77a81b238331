//! Values as people write them in a config file: durations, sizes, moments, paths. Each parses once and says, where it
//! doesn't, what is wanted. Knows no key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, de};

/// A duration such as `10s`, `1m 30s` or `7 days`, within bounds in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounded<const MIN_MS: u64, const MAX_MS: u64>(pub(super) Duration);

impl<const MIN_MS: u64, const MAX_MS: u64> Bounded<MIN_MS, MAX_MS> {
    pub(super) const fn ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl<'de, const MIN_MS: u64, const MAX_MS: u64> Deserialize<'de> for Bounded<MIN_MS, MAX_MS> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (min, max) = (Duration::from_millis(MIN_MS), Duration::from_millis(MAX_MS));
        let wanted = || {
            format!(
                "a duration from {} to {}, such as \"30s\"",
                shown(min),
                shown(max)
            )
        };
        let text = text(deserializer, &wanted())?;
        let found =
            |why: &str| de::Error::custom(format!("expected {}, found {text:?}{why}", wanted()));
        let duration = duration(&text).map_err(|why| found(&format!(" ({why})")))?;
        if duration < min || duration > max {
            return Err(found(""));
        }
        Ok(Self(duration))
    }
}

/// A size such as `64 MiB`, within bounds in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Size<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = format!(
            "a size from {} to {}, such as \"64 MiB\"",
            ByteSize(MIN),
            ByteSize(MAX)
        );
        let text = text(deserializer, &wanted)?;
        match ByteSize::from_str(&text) {
            Ok(ByteSize(bytes)) if (MIN..=MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(de::Error::custom(format!(
                "expected {wanted}, found {text:?}"
            ))),
        }
    }
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        value
            .as_integer()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| {
                de::Error::custom(format!(
                    "expected a whole number from {MIN} to {MAX}, found {value}"
                ))
            })
    }
}

/// A path from the root: a daemon's working directory means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AbsolutePath(pub(super) PathBuf);

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = "a path that begins with /";
        let text = text(deserializer, wanted)?;
        if Path::new(&text).is_absolute() {
            return Ok(Self(text.into()));
        }
        Err(de::Error::custom(format!(
            "expected {wanted}, found {text:?}"
        )))
    }
}

/// Reads a duration; a day has 24 hours.
fn duration(text: &str) -> Result<Duration, String> {
    let span: Span = text
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    let signed = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "months and years have no fixed length".to_owned())?;
    Duration::try_from(signed).map_err(|_| "it is negative".to_owned())
}

/// A duration in the form in which the config takes it.
fn shown(duration: Duration) -> String {
    let signed = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    format!("{signed:#}")
}

/// A text; anything else is refused in the words of what is wanted.
fn text<'de, D: Deserializer<'de>>(deserializer: D, wanted: &str) -> Result<String, D::Error> {
    struct Text<'a>(&'a str);

    impl de::Visitor<'_> for Text<'_> {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }

    deserializer.deserialize_str(Text(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Sample {
        #[serde(default = "none")]
        duration: Option<Bounded<1_000, 3_600_000>>,
        #[serde(default = "none")]
        size: Option<Size<1_024, 1_048_576>>,
        #[serde(default = "none")]
        count: Option<Count<1, 9>>,
        #[serde(default = "none")]
        path: Option<AbsolutePath>,
    }

    fn none<T>() -> Option<T> {
        None
    }

    fn check(text: &str) -> String {
        match toml::from_str::<Sample>(text) {
            Ok(sample) => format!("{sample:?}"),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn values_parse_or_say_what_is_wanted() {
        for (text, says) in [
            ("duration = \"10s\"", "10s"),
            ("duration = \"1m 30s\"", "90s"),
            ("duration = \"1 hour\"", "3600s"),
            ("duration = \"PT5M\"", "300s"),
            (
                "duration = \"soon\"",
                "expected a duration from 1s to 1h, such as \"30s\", found \"soon\"",
            ),
            (
                "duration = \"61 minutes\"",
                "expected a duration from 1s to 1h, such as \"30s\", found \"61 minutes\"",
            ),
            ("duration = \"-5s\"", "it is negative"),
            ("duration = \"1 month\"", "no fixed length"),
            (
                "duration = 10",
                "invalid type: integer `10`, expected a duration from 1s to 1h, such as \"30s\"",
            ),
            ("size = \"64 KiB\"", "Size(65536)"),
            ("size = \"1 MiB\"", "Size(1048576)"),
            (
                "size = \"2 MiB\"",
                "expected a size from 1.0 KiB to 1.0 MiB, such as \"64 MiB\", found \"2 MiB\"",
            ),
            ("size = \"much\"", "found \"much\""),
            ("count = 3", "Count(3)"),
            ("count = 0", "expected a whole number from 1 to 9, found 0"),
            (
                "count = \"3\"",
                "expected a whole number from 1 to 9, found \"3\"",
            ),
            ("path = \"/var\"", "AbsolutePath(\"/var\")"),
            (
                "path = \"var\"",
                "expected a path that begins with /, found \"var\"",
            ),
        ] {
            let got = check(text);
            assert!(got.contains(says), "{text}: {got}");
        }
    }

    #[test]
    fn days_are_taken_where_durations_are_long() {
        assert_eq!(duration("7 days"), Ok(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(duration("2w"), Ok(Duration::from_secs(14 * 24 * 3600)));
    }
}
