use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::tail::rules::{RuleSet, Seen};
use crate::tail::{AlertStates, Line, Matcher, RateLimits, SourceInfo, TailEvent};

fn apply(
    rules: &RuleSet,
    line: &str,
    alerts: &mut AlertStates,
    at_ms: u64,
) -> (Vec<TailEvent>, Vec<(usize, Seen)>) {
    let source = SourceInfo {
        section: "test".to_owned(),
        origin: "/var/log/test".to_owned(),
    };
    let line = Line {
        bytes: line.as_bytes(),
        truncated: false,
        at_ms,
        source: &source,
    };
    let (mut events, mut seen) = (Vec::new(), Vec::new());
    let mut limits = RateLimits::default();
    rules.apply_seen(
        &line,
        alerts,
        &mut limits,
        &mut events,
        &mut |rule, what| {
            seen.push((rule, what));
        },
    );
    (events, seen)
}

#[test]
fn every_rule_has_examples_and_each_is_its_own() {
    for pack in PACKS {
        let rules =
            RuleSet::from_text(pack.text).unwrap_or_else(|why| panic!("{}: {why}", pack.name));
        let names: Vec<&str> = rules.rules().map(|(name, _)| name).collect();
        let mut with_examples: BTreeMap<usize, usize> = BTreeMap::new();
        for (number, line) in rules.examples() {
            *with_examples.entry(number).or_default() += 1;
            let (_, seen) = apply(&rules, line, &mut AlertStates::default(), 0);
            let matched: Vec<&str> = seen
                .iter()
                .filter(|(_, what)| *what != Seen::Excepted)
                .map(|(rule, _)| names[*rule])
                .collect();
            assert_eq!(matched, [names[number]], "{}: {line}", pack.name);
            let mut found = 0;
            rules.candidates(format!("x\n{line}\ny\n").as_bytes(), &mut |_| found += 1);
            assert_eq!(found, 1, "{}: {line}", pack.name);
        }
        let without: Vec<&str> = (0..names.len())
            .filter(|number| !with_examples.contains_key(number))
            .map(|number| names[number])
            .collect();
        assert!(
            without.is_empty(),
            "{}: rules without an example: {without:?}",
            pack.name
        );
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(
            sorted.len(),
            names.len(),
            "{}: a name is used twice",
            pack.name
        );
    }
}

/// What a pack makes of a log, line by line: what is told, what is not and why.
fn made(pack: &str, log: &str) -> String {
    let rules = RuleSet::from_text(find(pack).unwrap()).unwrap();
    let mut alerts = AlertStates::default();
    let mut text = String::new();
    for (at, line) in log.lines().enumerate() {
        let (events, seen) = apply(&rules, line, &mut alerts, at as u64 * 1000);
        writeln!(text, "  {line}").unwrap();
        for event in &events {
            let TailEvent {
                topic,
                severity,
                summary,
                key,
                ..
            } = event;
            writeln!(text, "{severity} {topic} [{key}] {summary}").unwrap();
        }
        for (_, what) in seen.iter().filter(|(_, what)| *what != Seen::Told) {
            writeln!(text, "({what:?})").unwrap();
        }
    }
    text
}

#[test]
fn keepalived_syslog() {
    insta::assert_snapshot!(made(
        "keepalived",
        include_str!("samples/keepalived_syslog.log")
    ));
}

#[test]
fn keepalived_console() {
    insta::assert_snapshot!(made(
        "keepalived",
        include_str!("samples/keepalived_console.log")
    ));
}

#[test]
fn haproxy_syslog() {
    insta::assert_snapshot!(made("haproxy", include_str!("samples/haproxy_syslog.log")));
}

#[test]
fn haproxy_stderr() {
    insta::assert_snapshot!(made("haproxy", include_str!("samples/haproxy_stderr.log")));
}

#[test]
fn nginx_error() {
    insta::assert_snapshot!(made("nginx", include_str!("samples/nginx_error.log")));
}

#[test]
fn sshd() {
    insta::assert_snapshot!(made("sshd", include_str!("samples/sshd.log")));
}
