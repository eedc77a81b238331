//! What a line must hold for a pattern to match it: the literals by which a block of lines is searched at the speed of
//! memory, before any pattern is tried. Pure; knows no rule.

use std::collections::{BTreeMap, BTreeSet};

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, HirKind};

/// Literals of one pattern at the most: what the vector search takes in one go, shared among patterns.
const OPTION_LITERALS_MAX: usize = 24;

/// What is kept of a literal.
const LITERAL_BYTES_MAX: usize = 32;

/// Bytes that are searched for: enough to be rare, and few enough to be shared.
const PIECE_BYTES: usize = 6;

/// From here on a piece is rare enough, and it counts who shares it.
const RARE: u32 = 14;

/// Shorter ones are everywhere.
const LITERAL_BYTES_MIN: usize = 3;

/// Steps taken into a pattern's structure.
const DEPTH_MAX: usize = 24;

/// A set of literals one of which is in every match.
pub(super) type Choice = Vec<Vec<u8>>;

/// The sets that would do for a pattern, best first; none where no set is any good.
pub(super) fn choices(hir: &Hir) -> Vec<Choice> {
    let mut found = Vec::new();
    gather(hir, DEPTH_MAX, &mut found);
    found.sort_by_key(|choice| std::cmp::Reverse(worth(choice)));
    found.dedup();
    found
}

/// Pieces of literals to search for, so that every match of every pattern has one of them. Few, since patterns share them,
/// and rare; `samples` are lines, of which what most have in common is not rare, such as the name of the program. `None`
/// where a pattern has no literals.
pub(super) fn choose(patterns: &[Vec<Choice>], samples: &[&str]) -> Option<Vec<Vec<u8>>> {
    if patterns.iter().any(Vec::is_empty) {
        return None;
    }
    let mut chosen: Vec<Vec<u8>> = Vec::new();
    let mut open: Vec<&Vec<Choice>> = patterns.iter().collect();
    while let Some(piece) = most_shared(&open, samples) {
        open.retain(|choices| !choices.iter().any(|choice| covers(&[&piece], choice)));
        chosen.push(piece);
    }
    // Patterns of which every set has several literals: the best of their sets.
    for choices in open {
        let so_far: Vec<&[u8]> = chosen.iter().map(Vec::as_slice).collect();
        if choices.iter().any(|choice| covers(&so_far, choice)) {
            continue;
        }
        for literal in choices.first()? {
            let piece = pieces(literal).max_by_key(|piece| rarity(piece))?;
            if !chosen.iter().any(|one| within(one, literal)) {
                chosen.push(piece.to_vec());
            }
        }
    }
    Some(chosen)
}

/// The piece of a literal by itself that most patterns share; among equals, the rarest. Common ones only where a pattern
/// has no other.
fn most_shared(open: &[&Vec<Choice>], samples: &[&str]) -> Option<Vec<u8>> {
    let mut shares: BTreeMap<&[u8], usize> = BTreeMap::new();
    for choices in open {
        let single = choices.iter().filter_map(|choice| match choice.as_slice() {
            [literal] => Some(literal),
            _ => None,
        });
        let own: BTreeSet<&[u8]> = single.flat_map(|literal| pieces(literal)).collect();
        let is_rare = |piece: &[u8]| rarity(piece) >= RARE && !common(piece, samples);
        let rare: BTreeSet<&[u8]> = own.iter().copied().filter(|piece| is_rare(piece)).collect();
        for piece in own {
            if rare.is_empty() || rare.contains(piece) {
                *shares.entry(piece).or_default() += 1;
            }
        }
    }
    let best = shares
        .into_iter()
        .max_by_key(|(piece, shares)| (*shares, rarity(piece)));
    best.map(|(piece, _)| piece.to_vec())
}

/// Whether more than a fifth of the samples have it.
fn common(piece: &[u8], samples: &[&str]) -> bool {
    let with = samples.iter().filter(|line| within(piece, line.as_bytes()));
    with.count() * 5 > samples.len()
}

/// The pieces of a literal that are searched for: its parts of so many bytes, or all of it.
fn pieces(literal: &[u8]) -> impl Iterator<Item = &[u8]> {
    literal.windows(PIECE_BYTES.min(literal.len()).max(1))
}

/// Whether every literal of a set has one of the pieces in it.
fn covers(pieces: &[&[u8]], choice: &Choice) -> bool {
    choice
        .iter()
        .all(|literal| pieces.iter().any(|piece| within(piece, literal)))
}

/// Whether every text with `whole` in it has `part` in it.
fn within(part: &[u8], whole: &[u8]) -> bool {
    memchr::memmem::find(whole, part).is_some()
}

fn gather(hir: &Hir, depth: usize, found: &mut Vec<Choice>) {
    found.extend(prefixes(hir));
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    match hir.kind() {
        HirKind::Concat(parts) => {
            // Every match has a match of the rest in it, from any part on.
            for from in 1..parts.len() {
                let rest: Vec<Hir> = parts.iter().skip(from).cloned().collect();
                found.extend(prefixes(&Hir::concat(rest)));
            }
            parts.iter().for_each(|part| match part.kind() {
                HirKind::Literal(literal) => found.extend(fit(vec![literal.0.to_vec()])),
                _ => gather(part, depth, found),
            });
        }
        HirKind::Alternation(branches) => found.extend(each_branch(branches, depth)),
        HirKind::Capture(capture) => gather(&capture.sub, depth, found),
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            gather(&repetition.sub, depth, found);
        }
        _ => {}
    }
}

/// The best of each branch together.
fn each_branch(branches: &[Hir], depth: usize) -> Option<Choice> {
    let mut all = Choice::new();
    for branch in branches {
        let mut found = Vec::new();
        gather(branch, depth, &mut found);
        all.extend(found.into_iter().max_by_key(worth)?);
    }
    fit(all)
}

fn prefixes(hir: &Hir) -> Option<Choice> {
    let mut extractor = Extractor::new();
    extractor
        .kind(ExtractKind::Prefix)
        .limit_class(4)
        .limit_repeat(4)
        .limit_literal_len(LITERAL_BYTES_MAX)
        .limit_total(OPTION_LITERALS_MAX);
    let literals = extractor.extract(hir);
    let literals = literals.literals()?;
    fit(literals
        .iter()
        .map(|literal| literal.as_bytes().to_vec())
        .collect())
}

fn fit(mut choice: Choice) -> Option<Choice> {
    for literal in &mut choice {
        literal.truncate(LITERAL_BYTES_MAX);
    }
    choice.sort();
    choice.dedup();
    // Where one is part of another, the other finds nothing more.
    let all = choice.clone();
    choice.retain(|whole| !all.iter().any(|part| part != whole && within(part, whole)));
    let short = choice
        .iter()
        .any(|literal| literal.len() < LITERAL_BYTES_MIN);
    (!choice.is_empty() && !short && choice.len() <= OPTION_LITERALS_MAX).then_some(choice)
}

/// How rarely lines of a log have any of these, roughly: the worth of the least literal.
fn worth(choice: &Choice) -> u32 {
    let literals = choice
        .iter()
        .map(|literal| pieces(literal).map(rarity).max());
    literals
        .map(Option::unwrap_or_default)
        .min()
        .unwrap_or_default()
}

fn rarity(piece: &[u8]) -> u32 {
    piece.iter().map(|&byte| byte_rarity(byte)).sum()
}

const fn byte_rarity(byte: u8) -> u32 {
    match byte {
        b' ' | b'0'..=b'9' => 1,
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b':' | b'.' => 2,
        b'a'..=b'z' | b'-' | b'[' | b']' | b'=' | b'/' => 3,
        b'A'..=b'Z' | b'(' | b')' => 5,
        _ => 4,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn best(pattern: &str) -> Vec<String> {
        let hir = regex_syntax::ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .build()
            .parse(pattern)
            .unwrap();
        let first = choices(&hir).into_iter().next().unwrap_or_default();
        let text = |literal: Vec<u8>| String::from_utf8_lossy(&literal).into_owned();
        first.into_iter().map(text).collect()
    }

    #[test]
    fn literals_are_found_anywhere_in_a_pattern() {
        for (pattern, want) in [
            ("abc", vec!["abc"]),
            (
                r"\(([^)]+)\) Entering MASTER STATE",
                vec![") Entering MASTER STATE"],
            ),
            (
                r"^\d+ (?:Adding|Enabling) (\S+)",
                vec![" Adding ", " Enabling "],
            ),
            (r"(?:error|warning): \d+", vec!["error: ", "warning: "]),
            (r"x?(?:foobar)+", vec!["foobar"]),
            (r"(?:foo|b)", vec![]),
            (r"\d+", vec![]),
            (r"", vec![]),
            (r".*ab", vec![]),
        ] {
            assert_eq!(best(pattern), want, "{pattern}");
        }
    }

    #[test]
    fn patterns_share_what_they_can() {
        let of = |pattern: &str| choices(&regex_syntax::parse(pattern).unwrap());
        let chosen = choose(
            &[
                of("disk failure"),
                of("[0-9]+ disk failed (?:here|there)"),
                of("[a-z]+ gone [0-9]"),
                of("(?:Adding|Removing) [a-z]"),
            ],
            &[],
        );
        let chosen: Vec<_> = chosen
            .unwrap()
            .into_iter()
            .map(|literal| String::from_utf8(literal).unwrap())
            .collect();
        assert_eq!(chosen, ["k fail", " gone ", "Adding", "Removi"]);
        assert_eq!(choose(&[of("abc"), of("[0-9]+")], &[]), None);
    }
}
