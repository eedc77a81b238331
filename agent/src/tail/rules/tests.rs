use std::ops::Range;

use muster_proto::event::Severity;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tail::{AlertStates, Line, Matcher, RateLimits, SourceInfo, TailEvent};

/// Rules that have run over lines.
struct Run {
    rules: RuleSet,
    alerts: AlertStates,
    limits: RateLimits,
    now_ms: u64,
}

impl Run {
    fn of(text: &str) -> Self {
        Self {
            rules: RuleSet::from_text(text).unwrap(),
            alerts: AlertStates::default(),
            limits: RateLimits::default(),
            now_ms: 1_000,
        }
    }

    fn line(&mut self, line: &str) -> Vec<TailEvent> {
        let source = SourceInfo {
            section: "test".to_owned(),
            origin: "/var/log/test".to_owned(),
        };
        let line = Line {
            bytes: line.as_bytes(),
            truncated: false,
            at_ms: self.now_ms,
            source: &source,
        };
        let mut out = Vec::new();
        self.rules
            .apply(&line, &mut self.alerts, &mut self.limits, &mut out);
        self.now_ms += 10;
        out
    }

    fn topics(&mut self, lines: &[&str]) -> Vec<String> {
        let events = lines.iter().flat_map(|line| self.line(line));
        events.map(|event| event.topic).collect()
    }
}

const PAIR: &str = r#"
[[rule]]
pattern = '(?<name>\w+) lost (?<count>\d+)'
topic = "app.peer.down"
severity = "error"
summary = "{name} is gone"
key = "{name}"
state = "down"
numbers = ["count"]
fields = { kind = "peer", of = "<{name}>", level = 3 }

[[rule]]
pattern = '(?<name>\w+) found'
topic = "app.peer.up"
severity = "notice"
summary = "{name} is back"
key = "{name}"
state = "up"
"#;

#[test]
fn a_line_becomes_an_event_with_its_captures() {
    let events = Run::of(PAIR).line("x a lost 12 \u{fffd}");
    let [event] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (
            event.topic.as_str(),
            event.severity,
            event.summary.as_str(),
            event.key.as_str()
        ),
        ("app.peer.down", Severity::Error, "a is gone", "a")
    );
    assert_eq!(
        (&event.before, &event.after),
        (&json!(null), &json!("down"))
    );
    let want = json!({
        "name": "a", "count": 12, "kind": "peer", "of": "<a>", "level": 3, "rule": "app.peer.down",
        "source": "log", "file": "/var/log/test", "line": "x a lost 12 \u{fffd}",
    });
    assert_eq!(json!(event.fields), want);
}

#[test]
fn a_state_is_told_when_it_changes_and_an_end_only_after_its_beginning() {
    let mut run = Run::of(PAIR);
    let lines = [
        "a found", "a lost 1", "a lost 2", "b found", "a found", "a found", "a lost 3",
    ];
    assert_eq!(
        run.topics(&lines),
        ["app.peer.down", "app.peer.up", "app.peer.down"]
    );
    // What is remembered is all that is needed.
    let stored = run.alerts.take_changed();
    run.alerts = AlertStates::load(
        stored
            .into_iter()
            .filter_map(|(key, record)| Some((key, record?))),
    );
    assert_eq!(run.topics(&["a lost 4", "b lost 1"]), ["app.peer.down"]);
    let [event] = &run.line("a found")[..] else {
        panic!("no event")
    };
    assert_eq!(
        (&event.before, &event.after),
        (&json!("down"), &json!("up"))
    );
    assert_eq!(event.fields.get("lasted_ms"), Some(&json!(30)));
}

#[test]
fn what_a_limit_holds_back_is_counted_and_told() {
    let mut run = Run::of(
        "[[rule]]\npattern = 'no'\ntopic = 'app.no'\nsummary = 'no'\nlimit = { events = 2, per = '1m' }\n",
    );
    assert_eq!(run.topics(&["no"; 5]), ["app.no", "app.no"]);
    let mut out = Vec::new();
    run.rules
        .tick(61_000, &mut run.alerts, &mut run.limits, &mut out);
    let [event] = &out[..] else { panic!("{out:?}") };
    assert_eq!(
        (event.topic.as_str(), event.key.as_str()),
        ("tail.suppressed", "app.no")
    );
    assert_eq!(event.fields.get("suppressed"), Some(&json!(3)));
    // The line after a time that is over tells of it before itself, whether or not a tick came between.
    run.now_ms = 70_000;
    run.topics(&["no"; 3]);
    run.now_ms = 200_000;
    assert_eq!(run.topics(&["no"]), ["tail.suppressed", "app.no"]);
}

#[test]
fn exceptions_hold_and_every_rule_counts() {
    let mut run = Run::of(
        "[[rule]]\npatterns = ['aa', 'ab']\nnot = 'quiet'\ntopic = 'x.one'\nsummary = ''\n\
         [[rule]]\npattern = 'ab'\ntopic = 'x.two'\nsummary = ''\n",
    );
    assert_eq!(run.topics(&["aa ab"]), ["x.one", "x.two"]);
    assert_eq!(run.topics(&["aa ab quiet"]), ["x.two"]);
}

/// Rule files, and how their errors begin.
const WRONG: &[(&str, &str)] = &[
    ("", "rule: there is no [[rule]]"),
    ("[[rule]]\n", "1:1: rule[1]: `pattern` is missing"),
    ("x = 1", "1:1: x: no such key is known here"),
    (
        "[[rule]]\npattern = 'a'\n",
        "1:1: rule[1]: `topic` is missing",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a.b'\nsummary = ''\nsate = 'x'",
        "5:1: rule[1].sate: no such key is known here",
    ),
    (
        "[[rule]]\npattern = 'ab(c'\ntopic = 'a'\nsummary = ''",
        "2:14: rule[1].pattern: not a regex: unclosed group",
    ),
    (
        "[[rule]]\npattern = \"\"\"ab(c\"\"\"\ntopic = 'a'\nsummary = ''",
        "2:16: rule[1].pattern: not a regex: unclosed group",
    ),
    (
        "[[rule]]\npatterns = ['a', '[b']\ntopic = 'a'\nsummary = ''",
        "2:19: rule[1].patterns[2]: not a regex: unclosed character class",
    ),
    (
        "[[rule]]\npattern = '(?:\\w{200}){200}'\ntopic = 'a'\nsummary = ''",
        "2:1: rule[1].pattern: the pattern is too large once compiled",
    ),
    (
        "[[rule]]\npattern = 'a(?=b)'\ntopic = 'a'\nsummary = ''",
        "2:13: rule[1].pattern: not a regex: look-around",
    ),
    (
        "[[rule]]\npattern = ''\ntopic = 'a'\nsummary = ''",
        "2:1: rule[1].pattern: the pattern is empty",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'A'\nsummary = ''",
        "3:1: rule[1].topic: expected words",
    ),
    (
        "[[rule]]\npattern = '(?<x>a)'\ntopic = 'a'\nsummary = 'is {y}'",
        "4:1: rule[1].summary: no capture of the pattern is called \"y\": there are x",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = 'is {y'",
        "4:15: rule[1].summary: a `{` without its `}`",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = ''\nfields = { a = '{b}' }",
        "5:12: rule[1].fields.a: no capture",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = ''\nfields = { a = [1] }",
        "5:12: rule[1].fields.a: expected a text, a number",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = ''\nseverity = 'bad'",
        "5:1: rule[1].severity: expected one of info, notice",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = ''\nlimit = { events = 0, per = '1m' }",
        "5:11: rule[1].limit.events: a whole number",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = ''\nlimit = { events = 1, per = 'x' }",
        "5:23: rule[1].limit.per: expected a duration",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = ''\nstate = 'x'\nlimit = { events = 1, per = '1m' }",
        "6:1: rule[1].limit: a rule with a `state`",
    ),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = ''\nfirst = true",
        "5:1: rule[1].first: it is for rules with a `state`",
    ),
    (
        "[[rule]]\npattern = 3",
        "2:1: rule[1].pattern: expected a text, found 3",
    ),
    ("[[rule]]\npattern = ", "2:11: "),
    (
        "[[rule]]\npattern = 'a'\ntopic = 'a'\nsummary = ''\n[[rule]]\npattern = 'ab)'\ntopic='a'\nsummary = ''",
        "6:14: rule[2].pattern: not a regex: unopened group",
    ),
];

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, says) in WRONG {
        let said = RuleSet::from_text(text)
            .err()
            .unwrap_or_else(|| "good".to_owned());
        assert!(said.starts_with(says), "{text}\nsays {said}\nnot  {says}");
    }
}

#[test]
fn a_section_names_packs_files_and_rules() {
    let parse = |text: &str| RuleSet::parse("s", toml::from_str(text).unwrap());
    let said = |text: &str| {
        parse(text)
            .err()
            .map_or_else(|| "good".to_owned(), |error| error.to_string())
    };
    assert_eq!(said("packs = ['keepalived']"), "good");
    assert!(
        said("packs = ['apache']")
            .starts_with("packs[1]: no such pack \"apache\"; there are haproxy, keepalived")
    );
    assert!(said("").starts_with("there are no rules"));
    assert!(
        said("rule_files = '/nowhere/x.toml'")
            .starts_with("rule_files[1]: read the rules /nowhere/x.toml: ")
    );
    assert_eq!(
        said("packs = 'keepalived'\npaths = 'x'"),
        "paths: no such key is known here"
    );
    assert_eq!(
        said("[[rule]]\npattern = 'a('"),
        "rule[1]: `topic` is missing: the event's, as in \"app.failed\""
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[rule]]\npattern = 'a'\ntopic = 'a'\n").unwrap();
    let path = file.path().display();
    let want = format!(
        "rule_files[1]: {path}:1:1: rule[1]: `summary` is missing: one line for people, with captures as {{name}}"
    );
    assert_eq!(said(&format!("rule_files = ['{path}']")), want);
}

/// Patterns of all sorts, so that every way to search a block has its turn.
const SETS: &[&[&str]] = &[
    &["error", "fail(?:ed|ure)"],
    &["^a", "b$", r"\bab\b", "^$"],
    &[r"\d+", "xyz"],
    &["(?i)ABC", r"a.c", r"[ab]{3}"],
    &["abc", r"b\s*c", r"\x00ab"],
    &[r"(?:aab|bba)+c?", "cab "],
];

fn rules(patterns: &[&str]) -> RuleSet {
    let rule = |pattern: &&str| {
        format!("[[rule]]\npattern = '''{pattern}'''\ntopic = 'a'\nsummary = ''\n")
    };
    RuleSet::from_text(&patterns.iter().map(rule).collect::<String>()).unwrap()
}

fn found(rules: &RuleSet, block: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    rules.candidates(block, &mut |line| found.push(line));
    found
}

/// The lines with a match, one after the other.
fn naive(patterns: &[&str], block: &[u8]) -> Vec<Range<usize>> {
    let compile = |pattern: &&str| {
        regex::bytes::RegexBuilder::new(pattern)
            .unicode(false)
            .build()
            .unwrap()
    };
    let patterns: Vec<_> = patterns.iter().map(compile).collect();
    let mut found = Vec::new();
    let mut from = 0;
    for line in block.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if patterns.iter().any(|pattern| pattern.is_match(text)) {
            found.push(from..from + text.len());
        }
        from += line.len();
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_block_is_searched_as_if_line_by_line(
        set in 0..SETS.len(),
        words in prop::collection::vec(prop::sample::select(vec![
            "a", "b", "c", "ab", "abc", "aab", "cab ", "error", "failed", "failur", "1", " ", "\n", "\n", "\r\n", "\r", "\0ab", "\u{e9}", "Abc", "xyz",
        ]), 0..120),
    ) {
        let block = words.concat().into_bytes();
        prop_assert_eq!(found(&rules(SETS[set]), &block), naive(SETS[set], &block));
    }

    #[test]
    fn no_bytes_do_harm(set in 0..SETS.len(), block in prop::collection::vec(any::<u8>(), 0..600)) {
        let rules = rules(SETS[set]);
        prop_assert_eq!(found(&rules, &block), naive(SETS[set], &block));
        let source = SourceInfo::default();
        let line = Line { bytes: &block, truncated: true, at_ms: 0, source: &source };
        rules.apply(&line, &mut AlertStates::default(), &mut RateLimits::default(), &mut Vec::new());
    }
}
