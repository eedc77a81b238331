//! From text to the raw config, with errors that name file, line and column, and the nearest key that there is.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// What is wrong with a config file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {why}", file.display())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong there, and what to do.
    pub why: String,
}

/// The value in `text`, which stands in `file`.
pub(super) fn parse<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        ConfigError::at(text, start, file.to_owned(), explain(error.message()))
    })
}

impl ConfigError {
    /// What is wrong at the byte `offset` of `text`.
    pub(super) fn at(text: &str, offset: usize, file: PathBuf, why: String) -> Self {
        let (line, column) = position(text, offset);
        Self {
            file,
            line,
            column,
            why,
        }
    }
}

/// Line and column of the byte at `offset`, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before
        .get(line_start..)
        .map_or(0, |line| line.chars().count());
    (before.matches('\n').count() + 1, column + 1)
}

/// The parser's words; an unknown key gets the nearest one that there is.
fn explain(message: &str) -> String {
    let message = message.trim().replace('\n', "; ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown field") {
        return message;
    }
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let nearest = known.iter().min_by_key(|key| unlikeness(unknown, key));
    match nearest {
        Some(key) if unlikeness(unknown, key) <= unknown.len().max(3) / 2 => {
            format!("unknown key {unknown:?}; did you mean {key:?}?")
        }
        _ => format!(
            "unknown key {unknown:?}; the keys here are {}",
            known.join(", ")
        ),
    }
}

/// How unlike two keys are: letters in the wrong order are one mistake, else as many as must be changed.
fn unlikeness(left: &str, right: &str) -> usize {
    let letters = |text: &str| {
        let mut letters = text.as_bytes().to_vec();
        letters.sort_unstable();
        letters
    };
    let reordered = left != right && letters(left) == letters(right);
    if reordered { 1 } else { distance(left, right) }
}

/// Levenshtein distance in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, byte) in left.bytes().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        let mut next = vec![before];
        for (cell, other) in row.iter().skip(1).zip(right.bytes()) {
            let changed = diagonal + usize::from(byte != other);
            before = changed.min(before + 1).min(cell + 1);
            diagonal = *cell;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only parsed")]
        issuer: Option<muster_proto::id::KeyId>,
        #[expect(dead_code, reason = "only parsed")]
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only parsed")]
        url: Option<String>,
        #[expect(dead_code, reason = "only parsed")]
        password_file: Option<String>,
    }

    #[test]
    fn errors_name_file_line_and_column_and_the_nearest_key() {
        for (text, want) in [
            (
                "issuer = \"a\"\n\n  isuer = 3\n",
                "m.toml:3:3: unknown key \"isuer\"; did you mean \"issuer\"?",
            ),
            (
                "[inner]\nurl = 'x'\npasword_file = ''\n",
                "m.toml:3:1: unknown key \"pasword_file\"; did you mean \"password_file\"?",
            ),
            (
                "[inner]\nzzzzzz = 1",
                "m.toml:2:1: unknown key \"zzzzzz\"; the keys here are url, password_file",
            ),
            (
                "[inner]\nurl = 5",
                "m.toml:2:7: invalid type: integer `5`, expected a string",
            ),
            (
                "issuer = \"é\"",
                "m.toml:1:10: name \"é\" is not valid: only letters, digits, '.', '-', '_' and '@' are allowed",
            ),
            (
                "issuer = \n",
                "m.toml:1:10: string values must be quoted, expected literal string",
            ),
        ] {
            let error = parse::<Sample>(text, Path::new("m.toml"))
                .err()
                .map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some(want), "{text:?}");
        }
    }

    #[test]
    fn distances_are_levenshteins() {
        for (left, right, want) in [
            ("", "", 0),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("url", "urls", 1),
        ] {
            assert_eq!(
                (distance(left, right), distance(right, left)),
                (want, want),
                "{left} {right}"
            );
        }
    }
}
