//! Exact text, globs and regular expressions. Knows nothing of labels or expressions.

use std::str::Chars;

use regex::bytes::{Regex, RegexBuilder};

use super::token::Fault;
use super::{REGEX_BYTES_MAX, REGEX_DEPTH_MAX};

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    Exact(String),
    Glob(Glob),
}

impl Pattern {
    /// A pattern from a bare word: a glob if it has `*`, `?` or a class. A fault's offset counts from the word's start.
    pub(super) fn bare(word: &str) -> Result<Self, Fault> {
        if is_glob(word) {
            Glob::parse(word).map(Self::Glob)
        } else {
            Ok(Self::Exact(word.to_owned()))
        }
    }

    /// The pattern that every value matches.
    pub(super) fn any() -> Self {
        Self::Glob(Glob {
            pieces: vec![Piece::Run],
        })
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => text == value,
            Self::Glob(glob) => glob.matches(value),
        }
    }

    pub(super) fn exact(&self) -> Option<&str> {
        match self {
            Self::Exact(text) => Some(text),
            Self::Glob(_) => None,
        }
    }
}

pub(super) fn is_glob(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// A shell-like pattern over the whole value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    One(char),
    Any,
    /// `*`: any number of characters.
    Run,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Piece {
    fn accepts(&self, c: char) -> bool {
        match self {
            Self::One(one) => *one == c,
            Self::Any | Self::Run => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

impl Glob {
    fn parse(word: &str) -> Result<Self, Fault> {
        let mut pieces = Vec::new();
        let mut chars = word.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                // Runs in a row are one run.
                '*' if pieces.last() == Some(&Piece::Run) => {}
                '*' => pieces.push(Piece::Run),
                '?' => pieces.push(Piece::Any),
                '[' => {
                    let Some((inside, _)) = chars.as_str().split_once(']') else {
                        return Err((at, "this `[` is never closed".to_owned()));
                    };
                    pieces.push(class(inside).map_err(|message| (at, message))?);
                    chars.by_ref().find(|(_, c)| *c == ']');
                }
                c => pieces.push(Piece::One(c)),
            }
        }
        Ok(Self { pieces })
    }

    /// Takes at most as many steps as the pattern's length times the value's: when a character does not fit, only the
    /// last run needs to grow, because an earlier one could not reach further.
    fn matches(&self, value: &str) -> bool {
        let mut pieces = self.pieces.as_slice();
        let mut rest = value.chars();
        let mut last_run: Option<(&[Piece], Chars<'_>)> = None;
        loop {
            if let [Piece::Run, tail @ ..] = pieces {
                if tail.is_empty() {
                    return true;
                }
                last_run = Some((tail, rest.clone()));
                pieces = tail;
                continue;
            }
            match (pieces, rest.next()) {
                ([], None) => return true,
                (_, None) => return false,
                ([piece, tail @ ..], Some(c)) if piece.accepts(c) => pieces = tail,
                _ => {
                    let Some((tail, from)) = &mut last_run else {
                        return false;
                    };
                    from.next();
                    pieces = tail;
                    rest = from.clone();
                }
            }
        }
    }
}

/// A class from what stands between its brackets: characters and ranges, after `!` or `^` all others.
fn class(inside: &str) -> Result<Piece, String> {
    let (negated, members) = match inside.strip_prefix(['!', '^']) {
        Some(members) => (true, members),
        None => (false, inside),
    };
    if members.is_empty() {
        return Err("this class is empty".to_owned());
    }
    let mut ranges = Vec::new();
    let mut chars = members.chars();
    while let Some(low) = chars.next() {
        let mut ahead = chars.clone();
        // A dash at the end stands for itself.
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                chars = ahead;
                high
            }
            _ => low,
        };
        if high < low {
            return Err(format!(
                "the range `{low}-{high}` in this class runs backwards"
            ));
        }
        ranges.push((low, high));
    }
    Ok(Piece::Class { negated, ranges })
}

/// A bounded regular expression. A fault's offset counts from the pattern's start.
pub(super) fn compile(pattern: &str, any_case: bool) -> Result<Regex, Fault> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(any_case)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .nest_limit(REGEX_DEPTH_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => (
                0,
                format!(
                    "this pattern needs more than {} KiB compiled: repeat less",
                    REGEX_BYTES_MAX / 1024
                ),
            ),
            error => syntax_fault(&error.to_string()),
        })
}

/// The place and the reason out of the regex crate's report, which shows the pattern, carets under it, and `error: …`
/// in its last line. If the report looks different, the place is the pattern's start.
fn syntax_fault(report: &str) -> Fault {
    const INDENT: usize = 4;
    let lines: Vec<&str> = report.lines().collect();
    let reason = lines
        .last()
        .map_or(report, |line| line.trim_start_matches("error: "));
    let offset = match lines.as_slice() {
        [_, pattern, carets, _] => carets
            .find('^')
            .and_then(|column| column.checked_sub(INDENT))
            .and_then(|column| {
                let pattern = pattern.get(INDENT..)?;
                pattern
                    .char_indices()
                    .map(|(offset, _)| offset)
                    .chain([pattern.len()])
                    .nth(column)
            }),
        _ => None,
    };
    (offset.unwrap_or(0), format!("bad pattern: {reason}"))
}
