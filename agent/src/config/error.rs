//! What is wrong with a config file, and where: file, line, column, and for an unknown key the one that was meant.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::tail::rules::{RuleError, Step, locate};

/// A config file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "read the config {path}: {source}; `muster-agent config default` prints one to start from"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}:{column}: {what}")]
    At {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong and what is wanted.
        what: String,
    },
    /// Something is wrong that stands at no one place of it.
    #[error("{path}: {what}")]
    Whole {
        /// The file.
        path: PathBuf,
        /// What is wrong and what is wanted.
        what: String,
    },
}

/// A config's text and where it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// The parser's or a value's own words, with the place.
    pub(super) fn refused(&self, error: &toml::de::Error) -> ConfigError {
        let said = error.message();
        let span = error.span().unwrap_or(0..0);
        let what = match unknown_key(said) {
            Some(unknown) => unknown,
            None => match self.key_before(span.start) {
                Some(key) => format!("{key}: {}", one_line(said)),
                None => one_line(said),
            },
        };
        self.at(span, what)
    }

    /// Something is wrong with the value at `path` of keys, or with the nearest table around it that is written out.
    pub(super) fn wrong(&self, path: &[&str], what: impl Into<String>) -> ConfigError {
        match self.span_of(path) {
            Some(span) => self.at(span, what.into()),
            None => ConfigError::Whole {
                path: self.path.to_owned(),
                what: what.into(),
            },
        }
    }

    /// Something is wrong with the item `number`, from 1, of the array of tables `name`.
    pub(super) fn wrong_item(
        &self,
        name: &str,
        number: usize,
        what: impl Into<String>,
    ) -> ConfigError {
        let header = format!("[[{name}]]");
        match self
            .text
            .match_indices(&header)
            .nth(number.saturating_sub(1))
        {
            Some((at, _)) => self.at(at..at, what.into()),
            None => self.wrong(&[name], what),
        }
    }

    /// Something is wrong within the item `at`, from 0, of the array of tables `name`.
    pub(super) fn wrong_rule(&self, name: &str, at: usize, error: RuleError) -> ConfigError {
        let what = error.to_string();
        let of_the_item = error.path.is_empty();
        let error = error.under(&[Step::Key(name.to_owned()), Step::Item(at)]);
        match locate(self.text, &error).filter(|_| !of_the_item) {
            Some((line, column)) => ConfigError::At {
                path: self.path.to_owned(),
                line,
                column,
                what,
            },
            None => self.wrong_item(name, at + 1, what),
        }
    }

    fn at(&self, span: Range<usize>, what: String) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ConfigError::At {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            what,
        }
    }

    /// The key whose value begins at `at`, when both stand on one line.
    fn key_before(&self, at: usize) -> Option<&str> {
        let before = self.text.get(..at)?;
        let line = before.rsplit('\n').next()?;
        let key = line
            .trim_end()
            .strip_suffix('=')?
            .rsplit([',', '{'])
            .next()?
            .trim();
        (!key.is_empty()).then_some(key)
    }

    fn span_of(&self, path: &[&str]) -> Option<Range<usize>> {
        let document = DeTable::parse(self.text).ok()?;
        let mut table = document.get_ref();
        let mut span = None;
        for part in path {
            let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == part) else {
                break;
            };
            span = Some(key.span());
            let Some(inner) = value.get_ref().as_table() else {
                break;
            };
            table = inner;
        }
        span
    }
}

/// The parser's words about a key that is not known, in ours.
fn unknown_key(said: &str) -> Option<String> {
    let rest = said.strip_prefix("unknown field `")?;
    let (found, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let hint = match nearest(found, &known) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None if known.is_empty() => "; none is known here".to_owned(),
        None => format!("; known here are {}", known.join(", ")),
    };
    Some(format!("unknown key `{found}`{hint}"))
}

/// The one of `known` that `found` most likely stands for.
fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|&name| (distance(found, name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= found.chars().count().max(3)).then_some(name)
}

/// Letters to insert, delete or replace to make `a` of `b` (Levenshtein); two neighbours that changed places count once.
fn distance(a: &str, b: &str) -> usize {
    let differ = || a.chars().zip(b.chars()).filter(|(a, b)| a != b);
    let crossed = match (differ().next(), differ().nth(1), differ().nth(2)) {
        (Some(first), Some(second), None) => first == (second.1, second.0),
        _ => false,
    };
    if crossed && a.chars().count() == b.chars().count() {
        return 1;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *slot;
            *slot = replaced.min(left + 1).min(diagonal + 1);
            left = *slot;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_near() {
        let known = ["interval", "deadline", "enabled"];
        for (found, want) in [
            ("intervall", Some("interval")),
            ("intreval", Some("interval")),
            ("deadlien", Some("deadline")),
            ("dedline", Some("deadline")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, &known), want, "{found}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
