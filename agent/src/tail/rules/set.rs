//! A set of rules: compiled together, searched together, each applied by itself.

use std::ops::Range;
use std::path::Path;

use muster_proto::event::Severity;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Table;

use super::block::Finder;
use super::place::locate;
use super::rule::{Made, Rule, StateRule};
use super::section::{Keys, RuleError, RuleSection, Step, wrong, wrong_here};
use crate::tail::limits::{RateLimits, Suppressed};
use crate::tail::{AlertStates, Line, Matcher, TailEvent, packs};

/// Rules of one section at the most.
const RULES_MAX: usize = 1000;

/// Largest file of rules.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How much of a line an event carries.
const LINE_BYTES_MAX: usize = 1024;

/// The compiled rules of one section.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Rule and pattern within it, by the pattern's number in the finder.
    patterns: Vec<(usize, usize)>,
    finder: Finder,
}

/// What became of a rule that matched a line: for people who try rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// An event.
    Told,
    /// The state is known already.
    SameState,
    /// Nothing was known of the state, and the rule tells changes from a known one only.
    NotFirst,
    /// The rule's limit was reached.
    Limited,
    /// A pattern of the rule's `not` matched as well.
    Excepted,
}

/// What is remembered of a state key.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    state: String,
    since_ms: u64,
}

impl RuleSet {
    /// Compiles the rules of a `[[tail]]` section: what is left of its table once the reader's own keys are taken out.
    /// `name` is the section's, for the events that a limit makes.
    ///
    /// # Errors
    /// The first thing in it that is wrong, with the way to it within the table.
    pub fn parse(name: &str, section: Table) -> Result<Self, RuleError> {
        let mut keys = Keys(section);
        let mut rules = Vec::new();
        for (at, pack) in keys.texts("packs")?.iter().enumerate() {
            let in_packs = |what: String| RuleError {
                path: vec![Step::Key("packs".to_owned()), Step::Item(at)],
                offset: None,
                what,
            };
            let text = packs::find(pack).ok_or_else(|| {
                in_packs(format!(
                    "no such pack {pack:?}; there are {}",
                    packs::names().join(", ")
                ))
            })?;
            rules.extend(file(text).map_err(|error| in_packs(format!("pack {pack}: {error}")))?);
        }
        for (at, path) in keys.texts("rule_files")?.iter().enumerate() {
            let in_files = |what: String| RuleError {
                path: vec![Step::Key("rule_files".to_owned()), Step::Item(at)],
                offset: None,
                what,
            };
            rules.extend(read(Path::new(path)).map_err(in_files)?);
        }
        rules.extend(compile("rule", keys.tables("rule")?)?);
        keys.end()?;
        if rules.is_empty() {
            let what = "there are no rules: name `packs`, `rule_files` or [[tail.rule]]";
            return Err(wrong_here(format!("{what} (section {name})")));
        }
        Self::of(rules).map_err(wrong_here)
    }

    /// Compiles the text of a rule file: `[[rule]]` tables.
    ///
    /// # Errors
    /// The first thing in it that is wrong, with its line and column where they are known.
    pub fn from_text(text: &str) -> Result<Self, String> {
        Self::of(file(text)?)
    }

    fn of(rules: Vec<Rule>) -> Result<Self, String> {
        if rules.len() > RULES_MAX {
            return Err(format!(
                "{} rules; at most {RULES_MAX} are wanted",
                rules.len()
            ));
        }
        let mut patterns = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            patterns.extend((0..rule.patterns.len()).map(|pattern| (number, pattern)));
        }
        let texts = rules
            .iter()
            .flat_map(|rule| &rule.patterns)
            .map(|pattern| (pattern.text.as_str(), pattern.literals.as_slice()));
        let samples: Vec<&str> = rules
            .iter()
            .flat_map(|rule| rule.examples.iter().map(String::as_str))
            .collect();
        let finder = Finder::new(texts, &samples)
            .map_err(|error| format!("the rules are too large together: {error}"))?;
        Ok(Self {
            rules,
            patterns,
            finder,
        })
    }

    /// The rules' names and topics, in order.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules
            .iter()
            .map(|rule| (rule.name.as_str(), rule.topic.as_str()))
    }

    /// The lines that a rule says it is about, with the rule's number.
    pub fn examples(&self) -> impl Iterator<Item = (usize, &str)> {
        self.rules.iter().enumerate().flat_map(|(number, rule)| {
            rule.examples
                .iter()
                .map(move |line| (number, line.as_str()))
        })
    }

    /// As [`Matcher::apply`]; `seen` hears what became of each rule that matched, by its number.
    pub fn apply_seen(
        &self,
        line: &Line<'_>,
        alerts: &mut AlertStates,
        limits: &mut RateLimits,
        out: &mut Vec<TailEvent>,
        seen: &mut dyn FnMut(usize, Seen),
    ) {
        let mut last = None;
        for found in self.finder.patterns(line.bytes) {
            let Some(&(number, pattern)) = self.patterns.get(found) else {
                continue;
            };
            let Some(rule) = self.rules.get(number).filter(|_| last != Some(number)) else {
                continue;
            };
            last = Some(number);
            let Some(made) = rule.make(pattern, line.bytes) else {
                seen(number, Seen::Excepted);
                continue;
            };
            seen(
                number,
                self.tell(number, rule, made, line, alerts, limits, out),
            );
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the two halves of what apply holds"
    )]
    fn tell(
        &self,
        number: usize,
        rule: &Rule,
        made: Made,
        line: &Line<'_>,
        alerts: &mut AlertStates,
        limits: &mut RateLimits,
        out: &mut Vec<TailEvent>,
    ) -> Seen {
        if let Some(limit) = rule.limit {
            self.tick(line.at_ms, alerts, limits, out);
            if !limits.tells(number, limit, line.at_ms) {
                return Seen::Limited;
            }
        }
        let mut event = TailEvent {
            topic: rule.topic.clone(),
            severity: rule.severity,
            summary: made.summary,
            key: made.key,
            before: Value::Null,
            after: Value::Null,
            fields: made.fields,
            at_ms: line.at_ms,
        };
        if let Some(state) = &rule.state {
            let told = change(state, &mut event, alerts);
            if told != Seen::Told {
                return told;
            }
        }
        event
            .fields
            .insert("rule".to_owned(), rule.name.as_str().into());
        event.fields.insert("source".to_owned(), "log".into());
        event
            .fields
            .insert("file".to_owned(), line.source.origin.as_str().into());
        let shown = line.bytes.get(..LINE_BYTES_MAX).unwrap_or(line.bytes);
        event
            .fields
            .insert("line".to_owned(), String::from_utf8_lossy(shown).into());
        if line.truncated || shown.len() < line.bytes.len() {
            event
                .fields
                .insert("line_truncated".to_owned(), true.into());
        }
        out.push(event);
        Seen::Told
    }
}

/// Remembers the state of what `event` is about, and whether that is to be told.
fn change(rule: &StateRule, event: &mut TailEvent, alerts: &mut AlertStates) -> Seen {
    let id = format!("{} {}", rule.subject, event.key);
    let known = alerts
        .get(&id)
        .and_then(|record| serde_json::from_slice::<Known>(record).ok());
    if known
        .as_ref()
        .is_some_and(|known| known.state == rule.state)
    {
        return Seen::SameState;
    }
    let now = Known {
        state: rule.state.clone(),
        since_ms: event.at_ms,
    };
    // Two plain fields can be encoded.
    alerts.set(&id, serde_json::to_vec(&now).unwrap_or_default());
    event.after = rule.state.as_str().into();
    match known {
        Some(known) => {
            event.before = known.state.into();
            let lasted_ms = event.at_ms.saturating_sub(known.since_ms);
            event
                .fields
                .insert("lasted_ms".to_owned(), lasted_ms.into());
            Seen::Told
        }
        None if rule.first => Seen::Told,
        None => Seen::NotFirst,
    }
}

impl Matcher for RuleSet {
    fn candidates(&self, block: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
        self.finder.lines(block, hit);
    }

    fn apply(
        &self,
        line: &Line<'_>,
        alerts: &mut AlertStates,
        limits: &mut RateLimits,
        out: &mut Vec<TailEvent>,
    ) {
        self.apply_seen(line, alerts, limits, out, &mut |_, _| {});
    }

    fn tick(
        &self,
        now_ms: u64,
        _alerts: &mut AlertStates,
        limits: &mut RateLimits,
        out: &mut Vec<TailEvent>,
    ) {
        let told = |suppressed: Suppressed| {
            let rule = self.rules.get(suppressed.rule)?;
            let summary = format!(
                "{} more events of the rule {} were held back",
                suppressed.events, rule.name
            );
            Some(TailEvent {
                topic: "tail.suppressed".to_owned(),
                severity: rule.severity.min(Severity::Notice),
                summary,
                key: rule.name.clone(),
                before: Value::Null,
                after: Value::Null,
                fields: [
                    ("rule".to_owned(), rule.name.as_str().into()),
                    ("topic".to_owned(), rule.topic.as_str().into()),
                    ("suppressed".to_owned(), suppressed.events.into()),
                    ("since_ms".to_owned(), suppressed.since_ms.into()),
                ]
                .into(),
                at_ms: if now_ms == u64::MAX {
                    suppressed.since_ms
                } else {
                    now_ms
                },
            })
        };
        out.extend(limits.over(now_ms).into_iter().filter_map(told));
    }
}

/// The rules of a file's text; errors with line and column.
fn file(text: &str) -> Result<Vec<Rule>, String> {
    let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!(
            "{}:{column}: {}",
            before.matches('\n').count() + 1,
            error.message()
        )
    })?;
    let mut keys = Keys(table);
    let compiled = (|| {
        keys.text("summary")?;
        let tables = keys.tables("rule")?;
        keys.end()?;
        if tables.is_empty() {
            return Err(wrong("rule", "there is no [[rule]]"));
        }
        compile("rule", tables)
    })();
    compiled.map_err(|error: RuleError| match locate(text, &error) {
        Some((line, column)) => format!("{line}:{column}: {error}"),
        None => error.to_string(),
    })
}

fn compile(list: &str, tables: Vec<Table>) -> Result<Vec<Rule>, RuleError> {
    let one = |(at, table)| {
        let rule = RuleSection::read(table).and_then(Rule::new);
        rule.map_err(|error| error.under(&[Step::Key(list.to_owned()), Step::Item(at)]))
    };
    tables.into_iter().enumerate().map(one).collect()
}

/// A rule file.
fn read(path: &Path) -> Result<Vec<Rule>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path)
        .map_err(|error| format!("read the rules {shown}: {error}"))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "read the rules {shown}: it is larger than {FILE_BYTES_MAX} bytes"
        ));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("read the rules {shown}: {error}"))?;
    file(&text).map_err(|what| format!("{shown}:{what}"))
}
