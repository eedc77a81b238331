//! The search of a block of lines: a vector search for literals over the whole block, and patterns on the few lines that
//! have one. Line by line is what makes log watchers slow. Pure; knows no rule.

use std::ops::Range;

use aho_corasick::packed;
use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::{RegexSet, RegexSetBuilder};

use super::literal::{Choice, choose};

/// What the patterns of a set may take together, compiled.
const SET_COMPILED_BYTES_MAX: usize = 16 << 20;

/// What the search may cache while it runs, per thread.
const CACHE_BYTES_MAX: usize = 4 << 20;

/// Finds lines with a match of any pattern.
#[derive(Debug)]
pub(super) struct Finder {
    first: First,
    set: RegexSet,
}

/// What the block is searched for.
#[derive(Debug)]
enum First {
    /// There is no pattern.
    Nothing,
    /// Literals, few enough for the vector search.
    Packed(packed::Searcher),
    /// Literals.
    Many(AhoCorasick),
    /// Some pattern has no literal that every match must have.
    EveryLine,
}

impl Finder {
    /// A finder for patterns that compile, with the literals of each; `samples` are lines that they may be tried on.
    pub(super) fn new<'a>(
        patterns: impl Iterator<Item = (&'a str, &'a [Choice])>,
        samples: &[&str],
    ) -> Result<Self, regex::Error> {
        let (texts, literals): (Vec<&str>, Vec<Vec<Choice>>) = patterns
            .map(|(text, choices)| (text, choices.to_vec()))
            .unzip();
        let set = RegexSetBuilder::new(&texts)
            .unicode(false)
            .size_limit(SET_COMPILED_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build()?;
        let first = match choose(&literals, samples) {
            _ if texts.is_empty() => First::Nothing,
            Some(literals) => literal_search(&literals).unwrap_or(First::EveryLine),
            None => First::EveryLine,
        };
        Ok(Self { first, set })
    }

    /// The patterns that match a line.
    pub(super) fn patterns(&self, line: &[u8]) -> impl Iterator<Item = usize> {
        self.set.matches(line).into_iter()
    }

    /// Calls `hit` with every line of `block` that a pattern matches.
    pub(super) fn lines(&self, block: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
        let mut from = 0; // always where a line begins
        while from < block.len() {
            let Some(at) = self.first.next(block, from) else {
                return;
            };
            let head = block.get(from..at).unwrap_or_default();
            let start = memchr::memrchr(b'\n', head).map_or(from, |before| from + before + 1);
            let tail = block.get(at..).unwrap_or_default();
            let end = memchr::memchr(b'\n', tail).map_or(block.len(), |length| at + length);
            let line = block.get(start..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if start < block.len() && self.set.is_match(line) {
                hit(start..start + line.len());
            }
            from = end + 1;
        }
    }
}

impl First {
    /// A place in the first line from `from` on that may match; no line before it does.
    fn next(&self, block: &[u8], from: usize) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Packed(searcher) => {
                let found = searcher.find_in(block, aho_corasick::Span::from(from..block.len()))?;
                Some(found.start())
            }
            Self::Many(search) => {
                let input = aho_corasick::Input::new(block).range(from..);
                Some(search.find(input)?.start())
            }
            Self::EveryLine => Some(from),
        }
    }
}

fn literal_search(literals: &[Vec<u8>]) -> Option<First> {
    let packed = packed::Config::new()
        .match_kind(packed::MatchKind::LeftmostFirst)
        .builder()
        .extend(literals)
        .build();
    if let Some(searcher) = packed {
        return Some(First::Packed(searcher));
    }
    let many = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(literals);
    many.ok().map(First::Many)
}
