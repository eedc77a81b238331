//! Names with `*` and `?`, as the configuration lists them: `veth*`, `/var/lib/docker/*`. Knows nothing of what is
//! named; `*` crosses slashes.

use serde::Deserialize;

/// A list of patterns, any of which may match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Patterns(Vec<String>);

impl<'a> FromIterator<&'a str> for Patterns {
    fn from_iter<I: IntoIterator<Item = &'a str>>(patterns: I) -> Self {
        Self(patterns.into_iter().map(str::to_owned).collect())
    }
}

impl Patterns {
    /// A list from literals.
    pub(crate) fn of(patterns: &[&str]) -> Self {
        Self(patterns.iter().map(|&pattern| pattern.to_owned()).collect())
    }

    /// Whether any pattern matches the whole name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }
}

/// Whether a name matches one pattern.
pub(crate) fn glob(pattern: &str, name: &str) -> bool {
    matches(pattern.as_bytes(), name.as_bytes())
}

/// Goes through both once; after a failure it takes up again at the last star, one byte further, so that the time is
/// bounded by the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, name);
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (rest.split_first(), left.split_first()) {
            (Some((b'*', after)), _) => {
                star = Some((after, left));
                rest = after;
            }
            (Some((want, pattern_left)), Some((found, name_left)))
                if *want == b'?' || want == found =>
            {
                (rest, left) = (pattern_left, name_left);
            }
            (None, None) => return true,
            _ => match star {
                Some((after, [_, further @ ..])) => {
                    star = Some((after, further));
                    (rest, left) = (after, further);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, want) in [
            ("", "", true),
            ("", "a", false),
            ("lo", "lo", true),
            ("lo", "lo0", false),
            ("veth*", "veth12ab", true),
            ("veth*", "eth0", false),
            ("*", "", true),
            ("sd?", "sda", true),
            ("sd?", "sda1", false),
            ("/var/*/x", "/var/a/b/x", true),
            ("/var/*/x", "/var/a/b/xy", false),
            ("a*b*c", "a1b2b3c", true),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(
                Patterns::of(&[pattern]).matches(name),
                want,
                "{pattern} {name}"
            );
        }
    }
}
