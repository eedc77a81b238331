//! What the engine decides, case by case.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bounds;
mod crashes;

use serde_json::{Value, json};

use super::*;
use crate::serve::react::config::{RawReact, ReactConfig};
use crate::serve::react::facts::Fact;
use crate::serve::react::silence::Silence;
use muster_proto::event::{Event, Severity};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    #[serde(default)]
    reactions: crate::serve::react::config::RawReactions,
    #[serde(default)]
    maintenance: Vec<toml::Spanned<crate::serve::react::config::RawMaintenance>>,
    reaction: Vec<crate::serve::react::config::RawReaction>,
    #[serde(default)]
    webhook: Vec<crate::serve::react::config::RawWebhook>,
}

pub(crate) fn config(text: &str) -> Result<ReactConfig, String> {
    let hook = "[[webhook]]\nname = 'w'\nurl = 'http://127.0.0.1:1/'\n";
    let sections: Sections =
        toml::from_str(&format!("{text}\n{hook}")).map_err(|error| error.to_string())?;
    let raw = RawReact {
        mail: None,
        webhook: sections.webhook,
        reactions: sections.reactions,
        maintenance: sections.maintenance,
        reaction: sections.reaction,
    };
    ReactConfig::parse(raw, std::path::Path::new("/")).map_err(|(_, why)| why)
}

fn engine(text: &str) -> Engine {
    Engine::new(config(text).unwrap().rules)
}

fn heard(number: u64, topic: &str, host: &str, key: &str, at_ms: u64) -> Arc<Heard> {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&number.to_be_bytes());
    Arc::new(Heard {
        id: MessageId::from_parts(at_ms, random),
        labels: [("role".to_owned(), "lb".to_owned())].into(),
        heard_ms: at_ms,
        event: Event {
            topic: topic.to_owned(),
            host: host.parse().unwrap(),
            at_ms,
            severity: Severity::Error,
            summary: "it happened".to_owned(),
            key: key.to_owned(),
            fields: [
                ("vs".to_owned(), Value::from(key)),
                ("n".to_owned(), json!(number)),
            ]
            .into(),
            before: Value::Null,
            after: Value::Null,
            seq: number,
            cause: None,
        },
    })
}

/// The decisions in short: `fire 3`, `silence 1`, `open`.
fn short(decisions: &[Decision]) -> Vec<String> {
    decisions
        .iter()
        .map(|decision| match decision {
            Decision::Fire(firing) => {
                let again = if firing.again { " again" } else { "" };
                format!("fire {}{again}", firing.events.len())
            }
            Decision::Suppress(it) => format!("{} {}", it.reason.name(), it.events.len()),
            Decision::Breaker { open, .. } => if *open { "open" } else { "closed" }.to_owned(),
        })
        .collect()
}

fn check(engine: &mut Engine, now_ms: u64, want: &[&str]) {
    let got = short(&engine.tick(now_ms));
    assert_eq!(got, want, "at {now_ms}");
}

const T: u64 = 1_800_000_000_000;

#[test]
fn each_event_that_matches_fires_once_however_often_it_comes() {
    let mut engine = engine(
        "[[reaction]]\nname = 'a'\non = ['lvs.*.down']\nwhen = 'role=lb and n>=2'\nwebhook = ['w']",
    );
    let events = [
        heard(1, "lvs.backend.down", "h1", "k", T),
        heard(2, "lvs.backend.down", "h1", "k", T),
        heard(2, "lvs.backend.down", "h1", "k", T),
        heard(3, "lvs.backend.up", "h1", "k", T),
        heard(4, "lvs.service.down", "h2", "k", T),
    ];
    events.iter().for_each(|event| engine.take(event));
    check(&mut engine, T, &["fire 1", "fire 1"]);
    events.iter().for_each(|event| engine.take(event));
    check(&mut engine, T + 1, &[]);
}

#[test]
fn a_window_makes_one_digest_of_each_group() {
    let mut engine = engine(
        "[[reaction]]\nname = 'a'\non = ['x.#']\ngroup_by = ['vs']\nwindow = '60s'\nwebhook = ['w']",
    );
    for n in 0..1000 {
        engine.take(&heard(n, "x.down", "h1", "k1", T + n * 59));
    }
    engine.take(&heard(5000, "x.down", "h1", "k2", T + 30_000));
    check(&mut engine, T + 59_999, &[]);
    assert_eq!(engine.next_due_ms(), Some(T + 60_000));
    check(&mut engine, T + 60_000, &["fire 1000"]);
    check(&mut engine, T + 90_000, &["fire 1"]);
}

#[test]
fn what_comes_within_the_interval_is_gathered() {
    let mut engine =
        engine("[[reaction]]\nname = 'a'\non = ['x']\ninterval = '60s'\nwebhook = ['w']");
    engine.take(&heard(1, "x", "h1", "k", T));
    check(&mut engine, T, &["fire 1"]);
    engine.take(&heard(2, "x", "h1", "k", T + 1000));
    engine.take(&heard(3, "x", "h2", "k", T + 2000));
    check(&mut engine, T + 59_000, &[]);
    check(&mut engine, T + 60_000, &["fire 2"]);
}

#[test]
fn a_batch_that_is_full_does_not_wait() {
    let mut engine =
        engine("[[reaction]]\nname = 'a'\non = ['x']\nwindow = '60s'\nwebhook = ['w']");
    for n in 0..u64::try_from(EVENTS_MAX).unwrap() + 5 {
        engine.take(&heard(n, "x", "h1", "k", T));
    }
    check(&mut engine, T, &[&format!("fire {EVENTS_MAX}")]);
    check(&mut engine, T + 60_000, &["fire 5"]);
}

#[test]
fn what_is_undone_in_time_does_not_fire() {
    let text =
        "[[reaction]]\nname = 'a'\non = ['x.down']\nfor = '30s'\nuntil = ['x.up']\nwebhook = ['w']";
    let mut engine = engine(text);
    engine.take(&heard(1, "x.down", "h1", "k1", T));
    engine.take(&heard(2, "x.down", "h1", "k2", T));
    engine.take(&heard(3, "x.up", "h1", "k1", T + 10_000));
    engine.take(&heard(4, "x.up", "h2", "k2", T + 10_000));
    check(&mut engine, T + 10_000, &["undone 1"]);
    check(&mut engine, T + 30_000, &["fire 1"]);
}

#[test]
fn silences_and_maintenance_hold_back_what_they_name() {
    let mut engine = engine(
        "[[maintenance]]\nname = 'm'\nwhen = 'host=h2'\nbegin = '2020-01-01T00:00:00Z'\nend = '2100-01-01T00:00:00Z'\n\
         [[reaction]]\nname = 'a'\non = ['x']\nwindow = '1s'\nwebhook = ['w']",
    );
    engine.note(Fact::Silenced(Silence {
        id: MessageId::from_parts(T, [1; 10]),
        matches: "vs=k1".parse().unwrap(),
        reaction: None,
        until_ms: T + 10_000,
        comment: "quiet".to_owned(),
        by: "ann".to_owned(),
    }));
    for (n, host, key) in [(1, "h1", "k1"), (2, "h2", "k2"), (3, "h3", "k3")] {
        engine.take(&heard(n, "x", host, key, T));
    }
    check(
        &mut engine,
        T + 1000,
        &["silence 1", "maintenance 1", "fire 1"],
    );
    engine.take(&heard(4, "x", "h1", "k1", T + 10_000));
    check(&mut engine, T + 11_000, &["fire 1"]);
}

#[test]
fn budgets_hold_and_open_the_breaker_which_closes_when_all_is_well() {
    let mut engine = engine(
        "[reactions]\nbreaker_after = 3\nbreaker_pause = '1m'\n[[reaction]]\nname = 'a'\non = ['x']\nbudget = '2/1h'\nwebhook = ['w']",
    );
    for n in 0..6 {
        engine.take(&heard(n, "x", "h1", "k", T + n));
        let want: &[&str] = match n {
            0 | 1 => &["fire 1"],
            2 | 3 => &["budget 1"],
            4 => &["budget 1", "open"],
            _ => &["breaker 1"],
        };
        check(&mut engine, T + n, want);
    }
    // An hour later there is budget again, and one is let through.
    let later = T + 3_700_000;
    engine.take(&heard(10, "x", "h1", "k", later));
    check(&mut engine, later, &["fire 1"]);
    engine.ended(0, true, later);
    check(&mut engine, later, &["closed"]);
    // One that fails on trial opens it at once.
    for n in 0..3 {
        engine.ended(0, false, later + n);
    }
    check(&mut engine, later + 3, &["open"]);
    let later = later + 70_000;
    engine.take(&heard(11, "x", "h1", "k", later));
    check(&mut engine, later, &["fire 1"]);
    engine.ended(0, false, later);
    check(&mut engine, later, &["open"]);
}

#[test]
fn hosts_and_the_fleet_have_budgets_of_their_own() {
    let mut engine = engine(
        "[reactions]\nbudget = '3/1h'\nhost_budget = '1/1h'\n[[reaction]]\nname = 'a'\non = ['x']\nwebhook = ['w']",
    );
    for (n, host, want) in [
        (1, "h1", "fire 1"),
        (2, "h1", "host-budget 1"),
        (3, "h2", "fire 1"),
        (4, "h3", "fire 1"),
        (5, "h4", "fleet-budget 1"),
    ] {
        engine.take(&heard(n, "x", host, "k", T + n));
        check(&mut engine, T + n, &[want]);
    }
}

#[test]
fn a_loop_ends_at_the_depth_limit_whether_events_name_their_cause_or_not() {
    let text = "[reactions]\ndepth_max = 3\n[[reaction]]\nname = 'a'\non = ['x']\n\
                job = { action = 'service.restart', args = { unit = 'x' } }";
    let mut by_trace = engine(text);
    for (n, want) in [(0, "fire 1"), (1, "fire 1"), (2, "fire 1"), (3, "depth 1")] {
        let at = T + n * 1000;
        by_trace.take(&heard(n, "x", "h1", "k", at));
        check(&mut by_trace, at, &[want]);
    }
    // Of another key, another host, or much later it is another matter.
    by_trace.take(&heard(10, "x", "h1", "other", T + 5000));
    by_trace.take(&heard(11, "x", "h2", "k", T + 5000));
    check(&mut by_trace, T + 5000, &["fire 1", "fire 1"]);
    by_trace.take(&heard(12, "x", "h1", "k", T + 1_000_000));
    check(&mut by_trace, T + 1_000_000, &["fire 1"]);

    let mut by_name = engine(&text.replace(
        "job = { action = 'service.restart', args = { unit = 'x' } }",
        "webhook = ['w']",
    ));
    let mut cause = None;
    for (n, want) in [(0, "fire 1"), (1, "fire 1"), (2, "fire 1"), (3, "depth 1")] {
        let mut event = (*heard(n, "x", "h1", &n.to_string(), T + n)).clone();
        event.event.cause = cause;
        by_name.take(&Arc::new(event));
        let decisions = by_name.tick(T + n);
        assert_eq!(short(&decisions), [want]);
        if let Decision::Fire(firing) = &decisions[0] {
            cause = Some(firing.id);
        }
    }
}

#[test]
fn old_events_and_dry_runs_are_told_and_not_acted_upon() {
    let mut engine = engine(
        "[[reaction]]\nname = 'a'\non = ['x']\nmax_age = '10m'\nwebhook = ['w']\n\
         [[reaction]]\nname = 'b'\non = ['x']\nmax_age = '1d'\ndry_run = true\nwebhook = ['w']",
    );
    engine.take(&heard(1, "x", "h1", "k", T));
    check(&mut engine, T + 700_000, &["age 1", "dry-run 1"]);
}

#[test]
fn what_is_wrong_in_the_config_is_named() {
    for (text, want) in [
        ("on = ['X']\nwebhook = ['w']", "is no topic"),
        ("on = []\nwebhook = ['w']", "name at least one topic"),
        ("on = ['x']", "it does nothing"),
        (
            "on = ['x']\nwebhook = ['v']",
            "there is no [[webhook]] with the name \"v\"",
        ),
        (
            "on = ['x']\nmail = { to = ['a@b.example'] }",
            "write a section [mail]",
        ),
        (
            "on = ['x']\nwebhook = ['w']\nfor = '5s'",
            "`for` and `until` go together",
        ),
        (
            "on = ['x']\nwebhook = ['w']\nwindow = '5h'",
            "expected a time such as",
        ),
        (
            "on = ['x']\nwebhook = ['w']\nbudget = '5'",
            "expected so many in so long",
        ),
        (
            "on = ['x']\nwebhook = ['w']\nwhen = 'a='",
            "when: character 3: expected a value",
        ),
        (
            "on = ['x']\njob = { action = 'make.coffee' }",
            "there is no action",
        ),
        (
            "on = ['x']\njob = { action = 'service.restart' }",
            "needs the argument unit",
        ),
        (
            "on = ['x']\njob = { action = 'ping', args = { a = 1 } }",
            "has no argument \"a\"",
        ),
        ("on = ['x']\nwebhook = ['w']\nwindw = '1s'", "unknown field"),
    ] {
        let error = config(&format!("[[reaction]]\nname = 'a'\n{text}")).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }
}
