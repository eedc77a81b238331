//! What comes twice, what feeds itself, and what grows: each ends.

use muster_proto::target::Target;

use super::*;
use crate::serve::react::facts::{Ending, Teller};
use crate::serve::react::job::Prepared;
use crate::serve::react::text::values;

#[test]
fn a_second_copy_undoes_nothing_that_came_after_the_first() {
    let mut engine = engine(
        "[[reaction]]\nname = 'a'\non = ['x.down']\nuntil = ['x.up']\nfor = '10s'\nwebhook = ['w']",
    );
    let story = [(1, "x.down"), (2, "x.up"), (3, "x.down")];
    let story = story.map(|(n, topic)| heard(n, topic, "h1", "k", T + n));
    story.iter().for_each(|event| engine.take(event));
    check(&mut engine, T + 5, &["undone 1"]);
    story[1..].iter().for_each(|event| engine.take(event));
    check(&mut engine, T + 20_000, &["fire 1"]);
}

#[test]
fn a_rule_on_everything_does_not_feed_itself() {
    let mut engine =
        engine("[reactions]\ndepth_max = 3\n[[reaction]]\nname = 'a'\non = ['#']\nwebhook = ['w']");
    let teller = Teller {
        name: "ops".parse().unwrap(),
        now_ms: T,
    };
    let mut news = vec![heard(1, "x", "h1", "k", T)];
    let mut told = 0;
    while !news.is_empty() {
        news.iter().for_each(|event| engine.take(event));
        news.clear();
        for decision in engine.tick(T) {
            let events = match &decision {
                Decision::Fire(firing) => {
                    let ending = Ending {
                        action: "webhook:w".to_owned(),
                        outcome: Ok(Value::Null),
                        attempts: 1,
                        took_ms: 1,
                    };
                    let begun = teller.begun("a", &["webhook:w".to_owned()], firing);
                    vec![begun, teller.ended("a", firing, &ending)]
                }
                Decision::Suppress(it) => vec![teller.suppressed("a", it, &Value::Null)],
                Decision::Breaker {
                    rule: _,
                    open,
                    at_ms,
                } => {
                    vec![teller.breaker("a", *open, *at_ms, 1)]
                }
            };
            told += events.len();
            news.extend(events.into_iter().map(|(id, event)| {
                let mut news = (*heard(0, "x", "h1", "k", T)).clone();
                (news.id, news.event) = (id, event);
                Arc::new(news)
            }));
        }
        assert!(told < 500, "it does not end");
    }
    assert!(told > 2, "{told}");
}

#[test]
fn one_is_tried_after_the_breakers_pause_and_no_more_until_it_has_ended() {
    let text = "[reactions]\nbreaker_after = 2\nbreaker_pause = '1m'\n[[reaction]]\nname = 'a'\non = ['x']\nwebhook = ['w']";
    let mut engine = engine(text);
    engine.ended(0, false, T);
    engine.ended(0, false, T);
    check(&mut engine, T, &["open"]);
    for (n, want) in [(61, "fire 1"), (62, "breaker 1"), (63, "breaker 1")] {
        let at = T + n * 1000;
        engine.take(&heard(n, "x", "h1", "k", at));
        check(&mut engine, at, &[want]);
    }
    engine.ended(0, true, T + 64_000);
    check(&mut engine, T + 64_000, &["closed"]);
    engine.take(&heard(65, "x", "h1", "k", T + 65_000));
    check(&mut engine, T + 65_000, &["fire 1"]);

    // Whoever takes over keeps to what was told of it.
    let mut next = super::engine(text);
    let at_ms = T;
    let open = true;
    let rule = "a".to_owned();
    next.note(Fact::Breaker { rule, open, at_ms });
    for (n, want) in [(10, "breaker 1"), (61, "fire 1"), (62, "breaker 1")] {
        let at = T + n * 1000;
        next.take(&heard(n, "x", "h1", "k", at));
        check(&mut next, at, &[want]);
    }
}

#[test]
fn a_digest_has_no_more_hosts_than_its_job_can_name() {
    let text = "[[reaction]]\nname = 'a'\non = ['x']\nwindow = '1m'\njob = { action = 'ping' }";
    let mut engine = engine(text);
    let host = |n: u64| format!("web{n:03}.rack7.dc.example.com");
    for n in 0..400 {
        engine.take(&heard(n, "x", &host(n), "k", T));
    }
    let mut hosts = std::collections::BTreeSet::new();
    for decision in engine.tick(T + 60_000) {
        let firing = match decision {
            Decision::Fire(firing) => firing,
            other => unreachable!("{other:?}"),
        };
        let rules = config(text).unwrap().rules;
        let job = rules.rules[0].job.as_ref().unwrap();
        let prepared = Prepared::new(job, &firing, &values("a", &firing)).unwrap();
        let named: &Target = &prepared.target;
        hosts.extend(
            firing
                .events
                .iter()
                .map(|heard| heard.event.host.to_string()),
        );
        assert!(
            firing
                .events
                .iter()
                .all(|heard| named.source().contains(heard.event.host.as_str()))
        );
    }
    assert_eq!(hosts.len(), 400);
}

#[test]
fn of_groups_without_end_the_first_do_not_wait() {
    let mut engine = engine(
        "[reactions]\nbudget = '100000/1h'\nhost_budget = '100000/1h'\n[[reaction]]\nname = 'a'\non = ['x']\nwindow = '1h'\n\
         group_by = ['vs']\nbudget = '100000/1h'\nwebhook = ['w']",
    );
    let mut fired = 0;
    for n in 0..10_100 {
        engine.take(&heard(n, "x", "h1", &n.to_string(), T + n));
        fired += engine.tick(T + n).len();
    }
    assert_eq!(fired, 100);
    // Many between one look and the next, too.
    for n in 10_100..10_600 {
        engine.take(&heard(n, "x", "h1", &n.to_string(), T + n));
    }
    assert_eq!(engine.tick(T + 10_600).len(), 500);
}

#[test]
fn the_past_is_read_for_as_long_as_an_event_may_be_acted_upon() {
    let text = "[[reaction]]\nname = 'a'\non = ['x']\nmax_age = '13d'\nwindow = '1m'\nbudget = '1/1m'\nwebhook = ['w']";
    let memory_ms = config(text).unwrap().rules.memory_ms();
    assert!(memory_ms >= 13 * 86_400_000 + 120_000, "{memory_ms}");
}
