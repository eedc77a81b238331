//! What holds for any events in any order, with a crash at any place and events that come again after it.

use proptest::prelude::*;

use super::*;
use crate::serve::react::decision::{Firing, Suppressed};
use crate::serve::react::facts::{Ending, Teller, fact};

/// What there is in the history of one `serve` or several: facts, and events with the time at which they came.
#[derive(Default)]
struct Book {
    facts: Vec<Fact>,
    events: Vec<Arc<Heard>>,
}

impl Book {
    /// Carries decisions out, up to a crash after `steps` of them: begun, acted, told. Gives how often each firing acted.
    fn carry_out(
        &mut self,
        engine: &mut Engine,
        decisions: Vec<Decision>,
        steps: &mut Option<u32>,
        acted: &mut Vec<(MessageId, bool, Vec<MessageId>)>,
        suppressed: &mut Vec<Suppressed>,
    ) -> bool {
        let teller = Teller {
            name: "ops".parse().unwrap(),
            now_ms: T,
        };
        let step = |steps: &mut Option<u32>| match steps {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        };
        for decision in decisions {
            match decision {
                Decision::Fire(firing) => {
                    let Firing { id, again, .. } = firing;
                    if !again {
                        if !step(steps) {
                            return false;
                        }
                        let (_, event) = teller.begun("a", &["webhook:w".to_owned()], &firing);
                        self.facts.push(fact(&event).unwrap());
                    }
                    if !step(steps) {
                        return false;
                    }
                    acted.push((
                        id,
                        again,
                        firing.events.iter().map(|heard| heard.id).collect(),
                    ));
                    if !step(steps) {
                        return false;
                    }
                    let ending = Ending {
                        action: "webhook:w".to_owned(),
                        outcome: Ok(Value::Null),
                        attempts: 1,
                        took_ms: 1,
                    };
                    let (_, event) = teller.ended("a", &firing, &ending);
                    self.facts.push(fact(&event).unwrap());
                    engine.ended(firing.rule, true, T);
                }
                Decision::Suppress(it) => {
                    if !step(steps) {
                        return false;
                    }
                    let (_, event) = teller.suppressed("a", &it, &Value::Null);
                    self.facts.push(fact(&event).unwrap());
                    suppressed.push(it);
                }
                Decision::Breaker { .. } => {}
            }
        }
        true
    }
}

proptest! {
    /// Any events, any crashes: every event that the rule wants is acted upon once, or again and marked so, or
    /// suppressed; and the budget holds.
    #[test]
    fn nothing_is_missed_and_nothing_is_done_twice_unmarked(
        events in proptest::collection::vec((0_u64..2000, 0_u8..4, 0_u8..3, 0_u8..4), 1..60),
        crashes in proptest::collection::vec(0_u32..12, 0..6),
        window in prop_oneof![Just(0_u64), Just(3), Just(10)],
        hold in proptest::bool::ANY,
        group in proptest::bool::ANY,
        redelivered in 0_usize..8,
    ) {
        let mut text = "[reactions]\nbreaker_after = 1000\n[[reaction]]\nname = 'a'\non = ['x.down']\nbudget = '10/1h'\nwebhook = ['w']\n".to_owned();
        text += &format!("window = '{window}s'\n");
        if hold { text += "for = '2s'\nuntil = ['x.up']\n"; }
        if group { text += "group_by = ['vs']\n"; }
        let rules = config(&text).unwrap().rules;
        let mut engine = Engine::new(Arc::clone(&rules));
        let mut book = Book::default();
        let (mut acted, mut suppressed) = (Vec::new(), Vec::new());
        let mut crashes = crashes.into_iter();
        let mut steps = crashes.next();
        let mut now_ms = T;
        for (n, (gap_ms, kind, host, key)) in events.iter().enumerate() {
            now_ms += gap_ms;
            let topic = if *kind == 0 { "x.up" } else { "x.down" };
            let event = heard(u64::try_from(n).unwrap(), topic, &format!("h{host}"), &format!("k{key}"), now_ms);
            book.events.push(Arc::clone(&event));
            engine.take(&event);
            let decisions = engine.tick(now_ms);
            if !book.carry_out(&mut engine, decisions, &mut steps, &mut acted, &mut suppressed) {
                engine = restart(&rules, &book, redelivered);
                steps = crashes.next();
            }
        }
        for _ in 0..20 {
            now_ms += 15_000;
            let decisions = engine.tick(now_ms);
            if !book.carry_out(&mut engine, decisions, &mut steps, &mut acted, &mut suppressed) {
                engine = restart(&rules, &book, redelivered);
                steps = crashes.next();
            }
        }
        let mut unmarked = BTreeSet::new();
        for (id, again, _) in &acted {
            prop_assert!(*again || unmarked.insert(*id), "{id} was done twice and not marked");
        }
        prop_assert!(unmarked.len() <= 10, "{} firings", unmarked.len());
        for event in book.events.iter().filter(|heard| heard.event.topic == "x.down") {
            let firings: BTreeSet<MessageId> = acted.iter().filter(|(_, _, events)| events.contains(&event.id)).map(|(id, ..)| *id).collect();
            let passed = suppressed.iter().any(|it| it.events.iter().any(|heard| heard.id == event.id));
            prop_assert!(firings.len() <= 1, "{} is in {} firings", event.id, firings.len());
            prop_assert!(firings.len() == 1 || passed, "{} was missed", event.id);
        }
    }
}

/// As one who takes over does it; the last events have not been acknowledged, and come again.
fn restart(rules: &Arc<Rules>, book: &Book, redelivered: usize) -> Engine {
    let mut engine = Engine::new(Arc::clone(rules));
    book.facts
        .iter()
        .cloned()
        .for_each(|fact| engine.note(fact));
    book.events.iter().for_each(|event| engine.take(event));
    engine.resume(|id| book.events.iter().find(|heard| heard.id == *id).cloned());
    let first = book.events.len().saturating_sub(redelivered);
    book.events[first..]
        .iter()
        .for_each(|event| engine.take(event));
    engine
}

#[test]
fn of_two_actions_the_next_one_does_what_was_left() {
    let rules = config(
        "[[reaction]]\nname = 'a'\non = ['x']\nwebhook = ['w']\njob = { action = 'service.restart', args = { unit = 'x' } }",
    );
    let rules = rules.unwrap().rules;
    let event = heard(1, "x", "h1", "k", T);
    let mut engine = Engine::new(Arc::clone(&rules));
    engine.take(&event);
    let Some(Decision::Fire(firing)) = engine.tick(T).pop() else {
        unreachable!("it fires");
    };
    let teller = Teller {
        name: "ops".parse().unwrap(),
        now_ms: T,
    };
    let actions = ["webhook:w", "job"].map(str::to_owned);
    let mut told = vec![teller.begun("a", &actions, &firing).1];
    let mut left = Vec::new();
    for action in actions {
        let mut next = Engine::new(Arc::clone(&rules));
        told.iter().filter_map(fact).for_each(|it| next.note(it));
        next.resume(|_| Some(Arc::clone(&event)));
        left.extend(next.tick(T).into_iter().map(|decision| match decision {
            Decision::Fire(firing) => (firing.again, firing.done.len()),
            _ => (false, 0),
        }));
        let ending = Ending {
            action,
            outcome: Ok(Value::Null),
            attempts: 1,
            took_ms: 1,
        };
        told.push(teller.ended("a", &firing, &ending).1);
    }
    assert_eq!(left, [(true, 0), (true, 1)]);
    let mut last = Engine::new(rules);
    told.iter().filter_map(fact).for_each(|it| last.note(it));
    last.resume(|_| Some(Arc::clone(&event)));
    check(&mut last, T, &[]);
}
