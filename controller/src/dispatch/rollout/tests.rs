#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;

use super::*;

fn host(number: usize) -> HostId {
    format!("h{number:03}").parse().unwrap()
}

fn rules(canary: usize, batch: &str, max_failures: &str, pause_ms: u64) -> Rules {
    Rules {
        canary,
        batch: batch.parse().unwrap(),
        max_failures: max_failures.parse().unwrap(),
        pause_ms,
    }
}

fn rollout(rules: Rules, hosts: usize) -> Rollout {
    Rollout::new(
        rules,
        (0..hosts).map(|number| (host(number), String::new())),
    )
}

fn names(hosts: &[HostId]) -> Vec<&str> {
    hosts.iter().map(HostId::as_str).collect()
}

fn released(rollout: &mut Rollout, now_ms: u64) -> Vec<HostId> {
    match rollout.step(now_ms) {
        Step::Release(hosts) => hosts,
        other => panic!("released nothing: {other:?}"),
    }
}

#[test]
fn amounts_are_numbers_or_shares() {
    for (text, of_25) in [
        ("3", Some(3)),
        ("0", Some(0)),
        ("10%", Some(2)),
        ("100%", Some(25)),
        ("0%", Some(0)),
    ] {
        assert_eq!(
            text.parse::<Amount>().ok().map(|amount| amount.of(25)),
            of_25,
            "{text}"
        );
    }
    for text in ["", "%", "-1", "101%", "ten", "1.5", "300%"] {
        assert!(text.parse::<Amount>().is_err(), "{text}");
    }
}

#[test]
fn a_canary_goes_alone_and_a_silent_one_is_replaced() {
    let mut rollout = rollout(rules(2, "3", "5", 0), 9);
    assert_eq!(names(&released(&mut rollout, 0)), ["h000", "h001"]);
    assert_eq!(rollout.step(0), Step::Wait { until_ms: None });
    rollout.ended(&host(0), Verdict::Unreachable, 0);
    assert_eq!(names(&released(&mut rollout, 0)), ["h002"]);
    rollout.ended(&host(1), Verdict::Good, 0);
    assert_eq!(
        rollout.step(0),
        Step::Wait { until_ms: None },
        "one canary is still out"
    );
    rollout.ended(&host(2), Verdict::Good, 0);
    assert_eq!(names(&released(&mut rollout, 0)), ["h003", "h004", "h005"]);
    rollout.ended(&host(4), Verdict::Good, 0);
    assert_eq!(
        names(&released(&mut rollout, 0)),
        ["h006"],
        "a free place is given on at once"
    );
}

#[test]
fn a_canary_that_fails_stops_it_whatever_is_allowed() {
    let mut rollout = rollout(rules(1, "3", "5", 0), 3);
    released(&mut rollout, 0);
    rollout.ended(&host(0), Verdict::Bad, 0);
    let Step::Stopped { rule, skipped } = rollout.step(0) else {
        panic!("not stopped")
    };
    assert_eq!(rule, "canary 1: h000 failed");
    assert_eq!(names(&skipped), ["h001", "h002"]);
}

#[test]
fn one_failure_too_many_stops_it_and_names_the_rule() {
    let mut rollout = rollout(rules(0, "2", "20%", 0), 10);
    for number in 0..4 {
        rollout.step(0);
        rollout.ended(
            &host(number),
            if number == 0 {
                Verdict::Good
            } else {
                Verdict::Bad
            },
            0,
        );
    }
    let Step::Stopped { rule, skipped } = rollout.step(0) else {
        panic!("not stopped")
    };
    assert_eq!(rule, "max-failures 20%: 3 failed, 2 allowed");
    assert_eq!(skipped.len(), 5, "four ended, one is under way");
    rollout.ended(&host(4), Verdict::Good, 0);
    assert_eq!(rollout.under_way(), 0);
}

#[test]
fn a_pause_waits_for_the_batch_and_then_for_the_time() {
    let mut rollout = rollout(rules(0, "2", "0", 1_000), 3);
    assert_eq!(released(&mut rollout, 0).len(), 2);
    rollout.ended(&host(0), Verdict::Good, 100);
    assert_eq!(rollout.step(100), Step::Wait { until_ms: None });
    rollout.ended(&host(1), Verdict::Good, 200);
    assert_eq!(
        rollout.step(200),
        Step::Wait {
            until_ms: Some(1_200)
        }
    );
    assert_eq!(released(&mut rollout, 1_200), [host(2)]);
    rollout.ended(&host(2), Verdict::Good, 1_300);
    assert_eq!(
        rollout.step(1_300),
        Step::Done,
        "nothing is left to pause for"
    );
}

#[test]
fn each_failure_domain_has_its_own_places() {
    let domain = |number: usize| if number < 4 { "a" } else { "b" };
    let hosts = (0..6).map(|number| (host(number), domain(number).to_owned()));
    let mut rollout = Rollout::new(rules(0, "1", "0", 0), hosts);
    assert_eq!(names(&released(&mut rollout, 0)), ["h000", "h004"]);
    rollout.ended(&host(4), Verdict::Good, 0);
    assert_eq!(names(&released(&mut rollout, 0)), ["h005"]);
    rollout.ended(&host(5), Verdict::Bad, 0);
    let Step::Stopped { rule, .. } = rollout.step(0) else {
        panic!("not stopped")
    };
    assert_eq!(rule, "max-failures 0: 1 of b failed, 0 allowed");
}

proptest! {
    /// Any fleet, any rules, any order of ends.
    #[test]
    fn the_limits_hold_at_every_moment(
        fates in prop::collection::vec((0_u8..3, 0_usize..3), 1..40),
        canary in 0_usize..4,
        batch in 1_usize..6,
        max_failures in 0_usize..5,
        pause_ms in prop::sample::select(vec![0_u64, 10]),
        order in prop::collection::vec(any::<prop::sample::Index>(), 400),
    ) {
        let rules = Rules { canary, batch: Amount::Count(batch), max_failures: Amount::Count(max_failures), pause_ms };
        let domain = |number: usize| fates.get(number).map_or(0, |fate| fate.1);
        let verdict = |number: usize| match fates.get(number).map(|fate| fate.0) {
            Some(0) => Verdict::Bad,
            Some(1) => Verdict::Unreachable,
            _ => Verdict::Good,
        };
        let hosts = (0..fates.len()).map(|number| (host(number), domain(number).to_string()));
        let mut rollout = Rollout::new(rules, hosts);
        let mut flying: Vec<usize> = Vec::new();
        let (mut failures, mut out, mut now_ms) = ([0_usize; 3], 0, 0);
        let mut order = order.iter();
        let end = loop {
            match rollout.step(now_ms) {
                Step::Release(hosts) => {
                    prop_assert!(!hosts.is_empty());
                    for host in hosts {
                        out += 1;
                        flying.push(host.as_str().trim_start_matches('h').parse().unwrap());
                    }
                }
                Step::Wait { until_ms } => {
                    prop_assert!(until_ms.is_some() || !flying.is_empty(), "it waits for nothing");
                    now_ms = until_ms.unwrap_or(now_ms + 1);
                    if !flying.is_empty() {
                        let number = flying.swap_remove(order.next().unwrap().index(flying.len()));
                        if verdict(number) == Verdict::Bad {
                            *failures.get_mut(domain(number)).unwrap() += 1;
                        }
                        rollout.ended(&host(number), verdict(number), now_ms);
                    }
                }
                end => break end,
            }
            prop_assert_eq!(rollout.under_way(), flying.len());
            for (at, failed) in failures.iter().enumerate() {
                let of_domain = flying.iter().filter(|number| domain(**number) == at).count();
                prop_assert!(of_domain <= batch, "{} of domain {} at a time", of_domain, at);
                prop_assert!(*failed <= max_failures + batch, "failures beyond what was under way");
            }
        };
        match end {
            Step::Stopped { rule, skipped } => {
                prop_assert!(!rule.is_empty());
                prop_assert_eq!(out + skipped.len(), fates.len(), "everyone was released or skipped");
                prop_assert!(failures.iter().any(|failed| *failed > 0));
            }
            _ => prop_assert_eq!(out, fates.len()),
        }
        let over = matches!(rollout.step(now_ms), Step::Done | Step::Stopped { .. });
        prop_assert!(over, "the end is an end");
    }
}
