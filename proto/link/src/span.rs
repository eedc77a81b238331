//! Times in config files.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A time in a config file: text such as `"10s"` or `"1m 30s"`, or a whole number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

impl de::Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"10s\" or \"1m 30s\", or a number of seconds")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
        let seconds = u64::try_from(seconds)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))?;
        Ok(Span(Duration::from_secs(seconds)))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Span, E> {
        Ok(Span(Duration::from_secs(seconds)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        let invalid = || E::invalid_value(de::Unexpected::Str(text), &self);
        let time: jiff::SignedDuration = text.parse().map_err(|_| invalid())?;
        Duration::try_from(time).map(Span).map_err(|_| invalid())
    }
}
