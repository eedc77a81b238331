//! A `[[tail]]` section of the configuration: which files, and how they are read. What the lines mean stands in keys
//! that this file hands on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use regex::bytes::Regex;
use serde::Deserialize;

use super::Matcher;
use super::charset::Charset;
use super::counters::SectionCounters;
use super::glob::{Exclude, Glob};
use super::lines::Joining;
use super::rules::{RuleError, Step, refused, wrong};

/// The keys of this file; the others belong to the rules.
const KEYS: [&str; 7] = [
    "name",
    "paths",
    "exclude",
    "start",
    "encoding",
    "line_bytes_max",
    "multiline",
];

const LINE_BYTES_DEFAULT: u64 = 64 << 10;
/// The least that a line may be cut to, and the most that is held in memory of one.
const LINE_BYTES_BOUNDS: std::ops::RangeInclusive<u64> = 256..=4 << 20;

/// Where to begin with files that are there when a section is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With what is written from now on.
    #[default]
    End,
    /// With everything in them.
    Beginning,
}

/// One section, checked.
#[derive(Clone)]
pub struct Section {
    /// Its name: in events, metrics and the state file.
    pub name: String,
    /// Where to begin.
    pub start: Start,
    /// What is counted while it is followed.
    pub counters: Arc<SectionCounters>,
    pub(super) globs: Vec<Glob>,
    pub(super) exclude: Exclude,
    pub(super) charset: Charset,
    pub(super) line_bytes_max: usize,
    pub(super) joining: Option<Joining>,
    pub(super) wait: Duration,
    pub(super) matcher: Arc<dyn Matcher>,
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    paths: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    start: Start,
    encoding: Option<String>,
    line_bytes_max: Option<ByteSize>,
    multiline: Option<RawMultiline>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMultiline {
    start: String,
    #[serde(default = "lines_max")]
    lines_max: usize,
    wait: Option<jiff::SignedDuration>,
}

fn lines_max() -> usize {
    500
}

impl Section {
    /// Reads a section; `rules` makes a matcher of the keys that are not about files.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(
        mut table: toml::Table,
        rules: impl FnOnce(&str, toml::Table) -> Result<Arc<dyn Matcher>, RuleError>,
    ) -> Result<Self, RuleError> {
        let mut own = toml::Table::new();
        for key in KEYS {
            own.extend(table.remove_entry(key));
        }
        let raw: Raw = own.try_into().map_err(|error| refused(&error))?;
        check_name(&raw.name)?;
        if raw.paths.is_empty() {
            return Err(wrong(
                "paths",
                "expected at least one path, such as \"/var/log/syslog\"",
            ));
        }
        let globs = raw.paths.iter().enumerate().map(|(at, path)| {
            Glob::parse(path).map_err(|what| RuleError {
                path: vec![Step::Key("paths".to_owned()), Step::Item(at)],
                offset: None,
                what,
            })
        });
        let globs: Result<Vec<Glob>, RuleError> = globs.collect();
        let charset = raw
            .encoding
            .as_deref()
            .map_or(Ok(Charset::Sniffed), Charset::parse);
        let ByteSize(bytes) = raw.line_bytes_max.unwrap_or(ByteSize(LINE_BYTES_DEFAULT));
        if !LINE_BYTES_BOUNDS.contains(&bytes) {
            let what = format!(
                "expected a size from 256 B to 4 MiB, found {}",
                ByteSize(bytes)
            );
            return Err(wrong("line_bytes_max", what));
        }
        let line_bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX);
        let (joining, wait) = match raw.multiline {
            None => (None, Duration::ZERO),
            Some(multiline) => {
                let inside = |error: RuleError| error.under(&[Step::Key("multiline".to_owned())]);
                let (joining, wait) = multiline.check(line_bytes_max).map_err(inside)?;
                (Some(joining), wait)
            }
        };
        Ok(Self {
            matcher: rules(&raw.name, table)?,
            counters: Arc::new(SectionCounters {
                name: raw.name.clone(),
                ..SectionCounters::default()
            }),
            name: raw.name,
            start: raw.start,
            globs: globs?,
            exclude: Exclude::of(raw.exclude),
            charset: charset.map_err(|what| wrong("encoding", what))?,
            line_bytes_max,
            joining,
            wait,
        })
    }
}

impl RawMultiline {
    fn check(self, bytes_max: usize) -> Result<(Joining, Duration), RuleError> {
        let start = Regex::new(&self.start)
            .map_err(|error| wrong("start", one_line(&error.to_string())))?;
        if !(1..=10_000).contains(&self.lines_max) {
            let what = format!(
                "expected a number from 1 to 10000, found {}",
                self.lines_max
            );
            return Err(wrong("lines_max", what));
        }
        let wait = self.wait.unwrap_or(jiff::SignedDuration::from_secs(1));
        let wait = Duration::try_from(wait)
            .ok()
            .filter(|wait| (Duration::from_millis(100)..=Duration::from_secs(60)).contains(wait))
            .ok_or_else(|| {
                wrong(
                    "wait",
                    "expected a duration from 100ms to 1m, such as \"1s\"",
                )
            })?;
        let joining = Joining {
            start,
            lines_max: self.lines_max,
            bytes_max,
        };
        Ok((joining, wait))
    }
}

pub(super) fn check_name(name: &str) -> Result<(), RuleError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        let what = format!("expected up to 64 letters, digits, '.', '-' and '_', found {name:?}");
        return Err(wrong("name", what));
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
