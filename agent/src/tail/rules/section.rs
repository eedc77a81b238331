//! Rules as they are written: tables of TOML, read key by key, so that whatever is wrong is said with its place. It must
//! not know what becomes of a rule.

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;
use muster_proto::event::Severity;
use toml::{Table, Value};

/// Where in a file of TOML something stands: keys, and numbers from 0 within lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A key of a table.
    Key(String),
    /// An item of a list.
    Item(usize),
}

/// A rule that cannot be used, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// The way to the value.
    pub path: Vec<Step>,
    /// Where in the value, in bytes, if it is a text and only a part of it is wrong.
    pub offset: Option<usize>,
    /// What is wrong and what is wanted.
    pub what: String,
}

impl RuleError {
    /// As seen from the table around: `step` leads to where the path begins.
    #[must_use]
    pub fn under(mut self, steps: &[Step]) -> Self {
        self.path.splice(0..0, steps.iter().cloned());
        self
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.path.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                // People count from 1.
                Step::Item(number) => write!(f, "[{}]", number + 1)?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for RuleError {}

/// A rule as it is written, every key of the right kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RuleSection {
    pub(super) name: Option<String>,
    /// At least one; with the way to each.
    pub(super) patterns: Vec<(Vec<Step>, String)>,
    pub(super) not: Vec<String>,
    pub(super) topic: String,
    pub(super) severity: Severity,
    pub(super) summary: String,
    pub(super) fields: BTreeMap<String, Value>,
    pub(super) numbers: Vec<String>,
    pub(super) limit: Option<(u32, u64)>,
    pub(super) key: String,
    pub(super) state: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) first: Option<bool>,
    pub(super) examples: Vec<String>,
}

impl RuleSection {
    /// Reads a rule's table.
    pub(super) fn read(table: Table) -> Result<Self, RuleError> {
        let mut keys = Keys(table);
        let mut patterns = Vec::new();
        if let Some(pattern) = keys.text("pattern")? {
            patterns.push((vec![Step::Key("pattern".to_owned())], pattern));
        }
        for (at, pattern) in keys.texts("patterns")?.into_iter().enumerate() {
            patterns.push((
                vec![Step::Key("patterns".to_owned()), Step::Item(at)],
                pattern,
            ));
        }
        if patterns.is_empty() {
            return Err(wrong_here(
                "`pattern` is missing: the regex that finds the lines",
            ));
        }
        let missing = |key: &str, what: &str| wrong_here(format!("`{key}` is missing: {what}"));
        let section = Self {
            name: keys.text("name")?,
            patterns,
            not: keys.texts("not")?,
            topic: keys
                .text("topic")?
                .ok_or_else(|| missing("topic", "the event's, as in \"app.failed\""))?,
            severity: severity(&mut keys)?,
            summary: keys.text("summary")?.ok_or_else(|| {
                missing("summary", "one line for people, with captures as {name}")
            })?,
            fields: keys.table("fields")?.into_iter().collect(),
            numbers: keys.texts("numbers")?,
            limit: keys
                .0
                .contains_key("limit")
                .then(|| limit(&mut keys))
                .transpose()?,
            key: keys.text("key")?.unwrap_or_default(),
            state: keys.text("state")?,
            subject: keys.text("subject")?,
            first: keys.flag("first")?,
            examples: keys.texts("examples")?,
        };
        keys.end()?;
        Ok(section)
    }
}

fn severity(keys: &mut Keys) -> Result<Severity, RuleError> {
    let all = [
        Severity::Info,
        Severity::Notice,
        Severity::Warning,
        Severity::Error,
        Severity::Critical,
    ];
    let Some(name) = keys.text("severity")? else {
        return Ok(Severity::Warning);
    };
    all.into_iter()
        .find(|severity| severity.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|severity| severity.name()).collect();
            wrong(
                "severity",
                format!("expected one of {}, found {name:?}", names.join(", ")),
            )
        })
}

fn limit(keys: &mut Keys) -> Result<(u32, u64), RuleError> {
    let at = [Step::Key("limit".to_owned())];
    let mut limit = Keys(keys.table("limit")?);
    let read = |limit: &mut Keys| {
        let events = limit
            .0
            .remove("events")
            .and_then(|value| value.as_integer());
        let events = events
            .and_then(|events| u32::try_from(events).ok())
            .filter(|&events| events > 0);
        let events = events.ok_or_else(|| wrong("events", "a whole number from 1 is wanted"))?;
        let per = limit.text("per")?.unwrap_or_default();
        let per_ms = per
            .parse::<SignedDuration>()
            .ok()
            .and_then(|per| u64::try_from(per.as_millis()).ok())
            .filter(|per_ms| (1_000..=86_400_000).contains(per_ms))
            .ok_or_else(|| {
                wrong(
                    "per",
                    format!("expected a duration from 1s to 24h, such as \"1m\", found {per:?}"),
                )
            })?;
        Ok((events, per_ms))
    };
    let parsed = read(&mut limit).map_err(|error: RuleError| error.under(&at))?;
    limit.end().map_err(|error| error.under(&at))?;
    Ok(parsed)
}

/// A table's keys, taken out one after the other.
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) Table);

impl Keys {
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, RuleError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, format!("expected a text, found {other}"))),
        }
    }

    /// A list of texts; one text stands for a list of one.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Vec<String>, RuleError> {
        let items = match self.0.remove(key) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => return Ok(vec![text]),
            Some(Value::Array(items)) => items,
            Some(other) => {
                return Err(wrong(
                    key,
                    format!("expected a list of texts, found {other}"),
                ));
            }
        };
        let text = |(at, item)| match item {
            Value::String(text) => Ok(text),
            other => {
                let mut error = wrong(key, format!("expected a text, found {other}"));
                error.path.push(Step::Item(at));
                Err(error)
            }
        };
        items.into_iter().enumerate().map(text).collect()
    }

    pub(super) fn table(&mut self, key: &str) -> Result<Table, RuleError> {
        match self.0.remove(key) {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table),
            Some(other) => Err(wrong(key, format!("expected a table, found {other}"))),
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, key: &str) -> Result<Vec<Table>, RuleError> {
        let wanted =
            |other: &Value| wrong(key, format!("expected tables [[{key}]], found {other}"));
        match self.0.remove(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::Table(table) => Ok(table),
                    other => Err(wanted(&other)),
                })
                .collect(),
            Some(other) => Err(wanted(&other)),
        }
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, RuleError> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(key, format!("expected true or false, found {other}"))),
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), RuleError> {
        match self.0.keys().next() {
            Some(key) => Err(wrong(key, "no such key is known here")),
            None => Ok(()),
        }
    }
}

/// What the parser of TOML says of a table that is no longer text, with the way to it where the parser tells.
pub(crate) fn refused(error: &toml::de::Error) -> RuleError {
    let said = error.to_string();
    let keys = said
        .lines()
        .find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
    let keys = keys.into_iter().flat_map(|keys| keys.split('.'));
    let words = error.message().split_whitespace();
    RuleError {
        path: keys.map(|key| Step::Key(key.to_owned())).collect(),
        offset: None,
        what: words.collect::<Vec<_>>().join(" "),
    }
}

/// Something is wrong with the value of `key`.
pub(crate) fn wrong(key: &str, what: impl Into<String>) -> RuleError {
    RuleError {
        path: vec![Step::Key(key.to_owned())],
        offset: None,
        what: what.into(),
    }
}

/// Something is wrong with the table as a whole.
pub(super) fn wrong_here(what: impl Into<String>) -> RuleError {
    RuleError {
        path: Vec::new(),
        offset: None,
        what: what.into(),
    }
}
