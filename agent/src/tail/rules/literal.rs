//! What a line must hold for a pattern to match it: the literals by which a block of lines is searched at the speed of
//! memory, before any pattern is tried. Pure; knows no rule.

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Hir, HirKind};

/// Literals of one pattern at the most: what the vector search takes in one go, shared among patterns.
const OPTION_LITERALS_MAX: usize = 24;

/// What is kept of a literal: longer ones find nothing that these don't.
const LITERAL_BYTES_MAX: usize = 16;

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

/// One set for each pattern, all in one: those are taken that share most. `None` where a pattern has no set.
pub(super) fn choose(patterns: &[Vec<Choice>]) -> Option<Vec<Vec<u8>>> {
    let mut chosen: Vec<Vec<u8>> = Vec::new();
    for choices in patterns {
        let best = worth(choices.first()?);
        let covered = |choice: &&Choice| {
            choice
                .iter()
                .all(|literal| chosen.iter().any(|one| within(one, literal)))
        };
        if choices.iter().any(|choice| covered(&choice)) {
            continue;
        }
        // Fewer literals are worth something, but not a common one.
        let good = choices
            .iter()
            .filter(|choice| worth(choice) * 3 >= best * 2);
        let choice = good.min_by_key(|choice| choice.len())?;
        for literal in choice {
            if !chosen.iter().any(|one| within(one, literal)) {
                chosen.retain(|one| !within(literal, one));
                chosen.push(literal.clone());
            }
        }
    }
    Some(chosen)
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
            parts.iter().for_each(|part| {
                if !matches!(part.kind(), HirKind::Literal(_)) {
                    gather(part, depth, found);
                }
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
    let literal = |literal: &Vec<u8>| literal.iter().map(|&byte| rarity(byte)).sum();
    choice.iter().map(literal).min().unwrap_or(0)
}

const fn rarity(byte: u8) -> u32 {
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
    fn the_best_literals_are_found_anywhere_in_a_pattern() {
        for (pattern, want) in [
            ("abc", vec!["abc"]),
            (
                r"\(([^)]+)\) Entering MASTER STATE",
                vec![") Entering MASTE"],
            ),
            (
                r"^\d+ (?:Adding|Enabling) service (\S+)",
                vec![" Adding service ", " Enabling servic"],
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
        let chosen = choose(&[
            of("disk failure"),
            of("big disk failure here"),
            of("[a-z]+ gone [0-9]"),
        ]);
        let chosen: Vec<_> = chosen
            .unwrap()
            .into_iter()
            .map(|literal| String::from_utf8(literal).unwrap())
            .collect();
        assert_eq!(chosen, ["disk failure", " gone "]);
        assert_eq!(choose(&[of("abc"), of("[0-9]+")]), None);
    }
}
