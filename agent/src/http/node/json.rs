//! JSON as the forerunner wrote it: indented by four, or in one line with a blank behind commas and colons. Key order is
//! that of the fields.

use std::io;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use serde_json::ser::{Formatter, PrettyFormatter};

use super::super::refusal::Refusal;

/// A body that is ready to be sent, and shared by all who asked at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body(pub(super) String);

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "no-store"),
        ];
        (headers, self.0).into_response()
    }
}

/// Indented by four.
pub(super) fn pretty(value: &impl Serialize) -> Result<Body, Refusal> {
    written(value, PrettyFormatter::with_indent(b"    "))
}

/// In one line, with blanks.
pub(super) fn spaced(value: &impl Serialize) -> Result<Body, Refusal> {
    written(value, Spaced)
}

/// In one line, without any.
pub(super) fn compact(value: &impl Serialize) -> Result<Body, Refusal> {
    written(value, serde_json::ser::CompactFormatter)
}

fn written(value: &impl Serialize, formatter: impl Formatter) -> Result<Body, Refusal> {
    let mut bytes = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    let outcome = value.serialize(&mut to).map_err(|error| error.to_string());
    let text = outcome.and_then(|()| String::from_utf8(bytes).map_err(|error| error.to_string()));
    text.map(Body)
        .map_err(|error| Refusal::unavailable(format!("write the answer: {error}")))
}

/// A map with its keys in the order in which they were found.
#[derive(Debug, PartialEq)]
pub(super) struct Ordered<V>(pub(super) Vec<(String, V)>);

impl<V: Serialize> Serialize for Ordered<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn three_ways_to_write_the_same() {
        let value = Ordered(vec![
            ("b".to_owned(), vec!["1", "2"]),
            ("a".to_owned(), vec![]),
        ]);
        let pretty = "{\n    \"b\": [\n        \"1\",\n        \"2\"\n    ],\n    \"a\": []\n}";
        assert_eq!(super::pretty(&value).unwrap().0, pretty);
        assert_eq!(spaced(&value).unwrap().0, r#"{"b": ["1", "2"], "a": []}"#);
        assert_eq!(compact(&value).unwrap().0, r#"{"b":["1","2"],"a":[]}"#);
    }
}
