//! Names of systemd units: checked, completed, held against the allow-list. Source: systemd.unit(5).

use std::fmt;
use std::str::FromStr;

use crate::job::glob_matches;

/// Longest name in bytes.
const BYTES_MAX: usize = 255;

/// Kinds of units that can be acted upon.
const SUFFIXES: &[&str] = &[
    ".service",
    ".socket",
    ".target",
    ".timer",
    ".path",
    ".mount",
    ".automount",
    ".swap",
    ".slice",
    ".scope",
    ".device",
];

/// A unit's full name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitName(String);

impl UnitName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UnitName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = completed(text);
        let bad = |why: &str| {
            Err(format!(
                "the unit {:?} is not valid: {why}",
                text.chars().take(80).collect::<String>()
            ))
        };
        let stem = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(stem, _)| stem);
        if stem.is_empty() {
            return bad("it is empty");
        }
        if name.len() > BYTES_MAX {
            return bad("it is longer than 255 bytes");
        }
        if !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
        {
            return bad("only letters, digits, ':', '-', '_', '.', '\\' and '@' are allowed");
        }
        match stem.split_once('@') {
            Some(("", _)) => bad("it begins with '@'"),
            Some((_, "")) => bad("it is a template; name an instance of it, as in app@1"),
            _ => Ok(Self(name)),
        }
    }
}

/// Whether one of the globs matches the name.
pub(super) fn allowed(globs: &[String], unit: &UnitName) -> bool {
    globs
        .iter()
        .any(|glob| glob_matches(glob, &unit.0) || glob_matches(&completed(glob), &unit.0))
}

/// The name with `.service` where it names no kind.
fn completed(text: &str) -> String {
    let whole = SUFFIXES.iter().any(|suffix| text.ends_with(suffix));
    if whole {
        text.to_owned()
    } else {
        format!("{text}.service")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_checked() {
        for (text, want) in [
            ("nginx", Ok("nginx.service")),
            ("nginx.service", Ok("nginx.service")),
            ("app@1", Ok("app@1.service")),
            ("my.app", Ok("my.app.service")),
            ("backup.timer", Ok("backup.timer")),
            ("", Err("it is empty")),
            (".service", Err("it is empty")),
            ("app@", Err("it is a template")),
            ("app@.service", Err("it is a template")),
            ("@1", Err("begins with '@'")),
            ("a b", Err("only letters")),
            ("../etc", Err("only letters")),
            ("a*", Err("only letters")),
            ("--help", Ok("--help.service")),
        ] {
            match (text.parse::<UnitName>(), want) {
                (Ok(name), Ok(want)) => assert_eq!(name.as_str(), want),
                (Err(error), Err(want)) => assert!(error.contains(want), "{text}: {error}"),
                (got, want) => assert_eq!(format!("{got:?}"), format!("{want:?}"), "{text}"),
            }
        }
        assert!("x".repeat(300).parse::<UnitName>().is_err());
    }

    #[test]
    fn only_listed_units_are_allowed() {
        let globs = [
            "nginx".to_owned(),
            "app@*".to_owned(),
            "back*.timer".to_owned(),
        ];
        for (unit, want) in [
            ("nginx", true),
            ("nginx.service", true),
            ("nginx.socket", false),
            ("nginx2", false),
            ("app@7", true),
            ("app", false),
            ("backup.timer", true),
            ("backup", false),
        ] {
            let unit: UnitName = unit.parse().unwrap_or_else(|_| UnitName(String::new()));
            assert_eq!(allowed(&globs, &unit), want, "{unit}");
        }
        assert!(!allowed(&[], &UnitName("nginx.service".into())));
    }
}
