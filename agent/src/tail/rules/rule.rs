//! One rule, compiled: what it makes of a line that its pattern matches. Knows no other rule and no source.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use muster_proto::event::{self, Severity};
use regex::bytes::{Captures, Regex, RegexBuilder};
use regex_syntax::hir::Hir;
use serde_json::Value;

use super::literal::{Choice, choices};
use super::section::{RuleError, RuleSection, Step, wrong};
use super::template::Template;
use crate::tail::limits::Limit;

/// Longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 4096;

/// What a compiled pattern may take: `\w{1000}` and the like are refused.
const PATTERN_COMPILED_BYTES_MAX: usize = 1 << 20;

/// Parentheses within parentheses.
const PATTERN_NEST_MAX: u32 = 64;

/// Longest value of a capture in bytes; what is over is cut.
const VALUE_BYTES_MAX: usize = 512;

/// A compiled rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) patterns: Vec<Pattern>,
    pub(super) not: Vec<Regex>,
    pub(super) topic: String,
    pub(super) severity: Severity,
    pub(super) limit: Option<Limit>,
    pub(super) state: Option<StateRule>,
    pub(super) examples: Vec<String>,
    summary: Template,
    key: Template,
    fields: BTreeMap<String, Field>,
    numbers: BTreeSet<String>,
}

/// One of a rule's patterns.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: String,
    /// Sets of literals one of which a match must have.
    pub(super) literals: Vec<Choice>,
    pub(super) regex: Regex,
}

/// A rule that tells changes of state only.
#[derive(Debug)]
pub(super) struct StateRule {
    /// The state that a match means.
    pub(super) state: String,
    /// What has the state, together with the event's key: shared by the rules that are about the same thing.
    pub(super) subject: String,
    /// Whether it is told where no state was known before.
    pub(super) first: bool,
}

#[derive(Debug)]
enum Field {
    Text(Template),
    Constant(Value),
}

/// What a rule makes of a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    pub(super) summary: String,
    pub(super) key: String,
    pub(super) fields: BTreeMap<String, Value>,
}

impl Rule {
    /// Compiles a rule.
    pub(super) fn new(section: RuleSection) -> Result<Self, RuleError> {
        let mut patterns = Vec::new();
        for (path, text) in section.patterns {
            let pattern =
                Pattern::new(text).map_err(|(offset, what)| RuleError { path, offset, what })?;
            patterns.push(pattern);
        }
        let not = excepted(section.not)?;
        if !event::is_topic(&section.topic) {
            let what = "expected words of small letters, digits, - and _ with dots between, as in \"app.failed\"";
            return Err(wrong("topic", format!("{what}, found {:?}", section.topic)));
        }
        let names = names(&patterns);
        let template = |key: &str, text: &str| {
            let template = Template::parse(text).map_err(|(offset, what)| RuleError {
                offset: Some(offset),
                ..wrong(key, what)
            })?;
            for name in template.names() {
                known(&names, name, key)?;
            }
            Ok(template)
        };
        let mut fields = BTreeMap::new();
        for (name, value) in section.fields {
            let in_fields = |error: RuleError| error.under(&[Step::Key("fields".to_owned())]);
            let field = match value {
                toml::Value::String(text) => {
                    Field::Text(template(&name, &text).map_err(in_fields)?)
                }
                other => Field::Constant(constant(&name, other).map_err(in_fields)?),
            };
            fields.insert(name, field);
        }
        for name in &section.numbers {
            known(&names, name, "numbers")?;
        }
        let state = StateRule::new(
            section.state,
            section.subject,
            section.first,
            &section.topic,
        )?;
        if state.is_some() && section.limit.is_some() {
            return Err(wrong(
                "limit",
                "a rule with a `state` tells every change once and has no limit",
            ));
        }
        Ok(Self {
            name: section.name.unwrap_or_else(|| section.topic.clone()),
            summary: template("summary", &section.summary)?,
            key: template("key", &section.key)?,
            patterns,
            not,
            topic: section.topic,
            severity: section.severity,
            limit: section
                .limit
                .map(|(events, per_ms)| Limit { events, per_ms }),
            state,
            examples: section.examples,
            fields,
            numbers: section.numbers.into_iter().collect(),
        })
    }

    /// What `line` means by the rule's pattern number `pattern`; `None` where it does not match or is excepted.
    pub(super) fn make(&self, pattern: usize, line: &[u8]) -> Option<Made> {
        if self.not.iter().any(|not| not.is_match(line)) {
            return None;
        }
        let pattern = self.patterns.get(pattern)?;
        let captures = pattern.regex.captures(line)?;
        let value = |name: &str| value(&captures, name);
        let mut fields = BTreeMap::new();
        for name in pattern.regex.capture_names().flatten() {
            let Some(text) = value(name) else { continue };
            let number = self
                .numbers
                .contains(name)
                .then(|| text.parse::<i64>().ok())
                .flatten();
            fields.insert(
                name.to_owned(),
                number.map_or_else(|| Value::from(text.as_ref()), Value::from),
            );
        }
        for (name, field) in &self.fields {
            let value = match field {
                Field::Text(template) => Value::from(template.render(value)),
                Field::Constant(constant) => constant.clone(),
            };
            fields.insert(name.clone(), value);
        }
        Some(Made {
            summary: self.summary.render(value),
            key: self.key.render(value),
            fields,
        })
    }
}

impl StateRule {
    fn new(
        state: Option<String>,
        subject: Option<String>,
        first: Option<bool>,
        topic: &str,
    ) -> Result<Option<Self>, RuleError> {
        let Some(state) = state else {
            return match (subject, first) {
                (Some(_), _) => Err(wrong("subject", "it is for rules with a `state`")),
                (None, Some(_)) => Err(wrong("first", "it is for rules with a `state`")),
                (None, None) => Ok(None),
            };
        };
        Ok(Some(Self {
            subject: subject.unwrap_or_else(|| family(topic)),
            // The end of something is no news to whoever has not heard of its beginning.
            first: first.unwrap_or(state != "up"),
            state,
        }))
    }
}

impl Pattern {
    fn new(text: String) -> Result<Self, (Option<usize>, String)> {
        let whole = |what: String| (None, what);
        if text.is_empty() {
            return Err(whole(
                "the pattern is empty: it would match every line".to_owned(),
            ));
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(whole(format!(
                "the pattern has more than {PATTERN_BYTES_MAX} bytes"
            )));
        }
        let hir = parse(&text)?;
        let regex = builder(&text).build().map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                whole("the pattern is too large once compiled: use smaller repetitions".to_owned())
            }
            other => whole(one_line(&other.to_string())),
        })?;
        Ok(Self {
            literals: choices(&hir),
            regex,
            text,
        })
    }
}

/// The patterns of `not`.
fn excepted(texts: Vec<String>) -> Result<Vec<Regex>, RuleError> {
    let one = |(at, text)| {
        Pattern::new(text)
            .map(|pattern| pattern.regex)
            .map_err(|(offset, what)| RuleError {
                path: vec![Step::Key("not".to_owned()), Step::Item(at)],
                offset,
                what,
            })
    };
    texts.into_iter().enumerate().map(one).collect()
}

/// A pattern's compiler: bytes, not characters, so that no line is out of its reach.
fn builder(text: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(text);
    builder
        .unicode(false)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .nest_limit(PATTERN_NEST_MAX);
    builder
}

fn parse(text: &str) -> Result<Hir, (Option<usize>, String)> {
    let parsed = regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .nest_limit(PATTERN_NEST_MAX)
        .build()
        .parse(text);
    parsed.map_err(|error| match error {
        regex_syntax::Error::Parse(error) => (
            Some(error.span().start.offset),
            format!("not a regex: {}", error.kind()),
        ),
        regex_syntax::Error::Translate(error) => (
            Some(error.span().start.offset),
            format!("not a regex: {}", error.kind()),
        ),
        other => (
            None,
            format!("not a regex: {}", one_line(&other.to_string())),
        ),
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The captures' names of all patterns.
fn names(patterns: &[Pattern]) -> BTreeSet<&str> {
    patterns
        .iter()
        .flat_map(|pattern| pattern.regex.capture_names().flatten())
        .collect()
}

fn known(names: &BTreeSet<&str>, name: &str, key: &str) -> Result<(), RuleError> {
    if names.contains(name) {
        return Ok(());
    }
    let names: Vec<_> = names.iter().copied().collect();
    let have = if names.is_empty() {
        "there is none; write (?<name>…)".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    Err(wrong(
        key,
        format!("no capture of the pattern is called {name:?}: {have}"),
    ))
}

fn constant(name: &str, value: toml::Value) -> Result<Value, RuleError> {
    match value {
        toml::Value::Integer(number) => Ok(number.into()),
        toml::Value::Boolean(flag) => Ok(flag.into()),
        toml::Value::Float(number) => Ok(number.into()),
        other => Err(wrong(
            name,
            format!("expected a text, a number, true or false, found {other}"),
        )),
    }
}

/// The topic without its last word: what `x.down` and `x.up` have in common.
fn family(topic: &str) -> String {
    topic
        .rsplit_once('.')
        .map_or(topic, |(family, _)| family)
        .to_owned()
}

fn value<'a>(captures: &Captures<'a>, name: &str) -> Option<Cow<'a, str>> {
    let bytes = captures.name(name)?.as_bytes();
    let bytes = bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes);
    Some(String::from_utf8_lossy(bytes))
}
