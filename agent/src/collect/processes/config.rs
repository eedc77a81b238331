//! The `[collect.processes]` section. The text for people is in `sample.toml`, which a test holds against these
//! defaults.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::super::{ConfigError, section};
use super::NAME;

/// Watches at most; each is matched against every process.
const WATCHES_MAX: usize = 64;

/// Compiled size of one expression; far more than any name needs.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// One program to be watched.
#[derive(Clone, Debug)]
pub(super) struct WatchConfig {
    pub(super) name: String,
    pub(super) command: Option<Regex>,
    pub(super) exe: Option<Regex>,
    pub(super) cmdline: Option<Regex>,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) count_min: u64,
}

/// Reads the section.
pub(super) fn parse(section: &toml::Table) -> Result<Vec<WatchConfig>, ConfigError> {
    let raw: Raw = section::parse(NAME, section)?;
    let refused = |what: &str| section::refused(NAME, "watch", what);
    if raw.watch.len() > WATCHES_MAX {
        let what = format!(
            "expected at most {WATCHES_MAX} watches, found {}",
            raw.watch.len()
        );
        return Err(refused(&what));
    }
    let mut names = BTreeSet::new();
    let mut watches = Vec::new();
    for raw in raw.watch {
        let name = raw.name.clone();
        let watch = raw
            .check()
            .map_err(|what| refused(&format!("watch {name:?}: {what}")))?;
        if !names.insert(name.clone()) {
            return Err(refused(&format!(
                "watch {name:?}: another watch has this name"
            )));
        }
        watches.push(watch);
    }
    Ok(watches)
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    watch: Vec<RawWatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWatch {
    name: String,
    #[serde(default)]
    command: String,
    #[serde(default)]
    exe: String,
    #[serde(default)]
    cmdline: String,
    #[serde(default)]
    pidfile: String,
    #[serde(default = "one")]
    count_min: u32,
}

const fn one() -> u32 {
    1
}

impl RawWatch {
    fn check(self) -> Result<WatchConfig, String> {
        let watch = WatchConfig {
            command: regex("command", &self.command)?,
            exe: regex("exe", &self.exe)?,
            cmdline: regex("cmdline", &self.cmdline)?,
            pidfile: (!self.pidfile.is_empty()).then(|| PathBuf::from(&self.pidfile)),
            count_min: u64::from(self.count_min),
            name: self.name,
        };
        if watch.name.trim().is_empty() {
            return Err("a name is wanted".to_owned());
        }
        if !watch.by_pidfile() && !watch.by_expression() {
            return Err("one of command, exe, cmdline and pidfile is wanted".to_owned());
        }
        if watch.pidfile.as_deref().is_some_and(Path::is_relative) {
            return Err(format!(
                "pidfile: an absolute path is wanted, found {:?}",
                self.pidfile
            ));
        }
        if watch.count_min == 0 {
            return Err("count_min: at least 1 is wanted".to_owned());
        }
        Ok(watch)
    }
}

impl WatchConfig {
    pub(super) fn by_pidfile(&self) -> bool {
        self.pidfile.is_some()
    }

    pub(super) fn by_expression(&self) -> bool {
        self.command.is_some() || self.exe.is_some() || self.cmdline.is_some()
    }
}

fn regex(key: &str, text: &str) -> Result<Option<Regex>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let built = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    let what = |error: regex::Error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default();
        format!("{key}: {text:?} is no regular expression: {last}")
    };
    built.map(Some).map_err(what)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<WatchConfig>, ConfigError> {
        parse(&text.parse().unwrap())
    }

    #[test]
    fn the_sample_is_the_default_and_its_example_is_good() {
        let sample: toml::Table = super::super::SPEC.sample.parse().unwrap();
        let section = |table: &toml::Table| {
            let section = table.get("collect").and_then(|collect| collect.get(NAME));
            section.and_then(toml::Value::as_table).unwrap().clone()
        };
        let mut bare = section(&sample);
        let timing = section::take_timing(&super::super::SPEC, &mut bare).unwrap();
        assert_eq!(timing.interval, super::super::SPEC.interval_default);
        assert_eq!(timing.deadline, super::super::SPEC.deadline_default);
        assert!(parse(&bare).unwrap().is_empty());
        let (_, example) = super::super::SPEC.sample.split_once("# [[collect").unwrap();
        let example: Vec<&str> = example
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .collect();
        let example: toml::Table = format!("[[collect{}", example.join("\n")).parse().unwrap();
        let watches = parse(&section(&example)).unwrap();
        let watch = watches.first().unwrap();
        assert!(watch.by_pidfile() && watch.by_expression() && watch.exe.is_none());
        assert_eq!((watch.name.as_str(), watch.count_min), ("cod4", 1));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            (
                "[[watch]]\nname = \"a\"",
                "one of command, exe, cmdline and pidfile is wanted",
            ),
            ("[[watch]]\ncommand = \"a\"", "missing field `name`"),
            (
                "[[watch]]\nname = \" \"\ncommand = \"a\"",
                "a name is wanted",
            ),
            (
                "[[watch]]\nname = \"a\"\ncommand = \"(\"",
                "is no regular expression",
            ),
            (
                "[[watch]]\nname = \"a\"\npidfile = \"run/a.pid\"",
                "an absolute path is wanted",
            ),
            (
                "[[watch]]\nname = \"a\"\ncommand = \"a\"\ncount_min = 0",
                "at least 1",
            ),
            (
                "[[watch]]\nname = \"a\"\ncomand = \"a\"",
                "unknown field `comand`",
            ),
            (
                "[[watch]]\nname = \"a\"\ncommand = \"a\"\n[[watch]]\nname = \"a\"\ncommand = \"b\"",
                "another watch has this name",
            ),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
