#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn host(number: u8) -> HostId {
    format!("h{number}").parse().unwrap()
}

fn job() -> JobId {
    JobId::from_parts(1, [1; 10])
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn patience() -> Patience {
    Patience {
        ack: ms(15_000),
        run: ms(60_000),
        whole: None,
        offline: None,
    }
}

fn waiting(hosts: u8, away: &[u8], rollout: bool, patience: Patience) -> Waiting {
    let away = away.iter().copied().map(host).collect();
    Waiting::new(
        job(),
        &(0..hosts).map(host).collect(),
        &away,
        rollout,
        patience,
    )
}

fn result(from: u8, outcome: Outcome) -> JobResult {
    JobResult {
        job: job(),
        host: host(from),
        outcome,
        reason: None,
        data: Value::Null,
        received_at_ms: 0,
        started_at_ms: None,
        finished_at_ms: 0,
        dry_run: false,
    }
}

#[test]
fn a_silent_host_is_given_up_and_one_that_took_the_job_has_its_run_limit() {
    let mut job = waiting(3, &[2], false, patience());
    (0..3).for_each(|number| job.sent(&host(number), ms(100)));
    assert_eq!(job.next_deadline(), Some(ms(15_100)));
    job.taken(&host(1), true, ms(200));
    assert_eq!(
        job.overdue(ms(15_100)),
        [host(0)],
        "the one that is away is not waited for"
    );
    assert_eq!(job.give_up(&[host(0)]), [host(0)]);
    assert!(!job.is_over());
    assert_eq!(job.next_deadline(), Some(ms(200 + 60_000) + AFTER_RUN));
    job.answered(result(1, Outcome::Succeeded), Some(ms(900)));
    assert!(job.is_over());
    assert_eq!(
        job.replies().get(&host(1)).unwrap().round_trip,
        Some(ms(800))
    );
    assert_eq!(
        job.account().host(&host(2)).unwrap().state,
        HostState::Pending
    );
    assert_eq!(exit_of(job.account().tally(), false), Exit::HostSilent);
}

#[test]
fn the_whole_wait_ends_all_others() {
    let mut job = waiting(
        2,
        &[],
        false,
        Patience {
            whole: Some(ms(5_000)),
            ..patience()
        },
    );
    (0..2).for_each(|number| job.sent(&host(number), ms(0)));
    job.taken(&host(1), true, ms(200));
    assert_eq!(job.overdue(ms(5_000)).len(), 2);
}

#[test]
fn a_host_that_was_away_is_waited_for_when_asked_to_or_once_it_is_back() {
    let offline = Patience {
        offline: Some(ms(3_600_000)),
        ..patience()
    };
    let mut job = waiting(1, &[0], false, offline);
    job.sent(&host(0), ms(0));
    // The broker says that the time is over a moment after it is.
    assert_eq!(job.next_deadline(), Some(ms(3_602_000)));
    let mut job = waiting(1, &[0], false, patience());
    assert!(job.is_over());
    job.taken(&host(0), true, ms(5));
    assert!(!job.is_over());
}

#[test]
fn a_second_answer_and_a_surprise_change_no_count() {
    let mut job = waiting(1, &[], false, patience());
    assert!(
        job.answered(result(0, Outcome::Succeeded), Some(ms(1)))
            .is_some()
    );
    assert!(
        job.answered(result(0, Outcome::Failed), Some(ms(2)))
            .is_none()
    );
    assert!(
        job.answered(result(7, Outcome::Failed), Some(ms(2)))
            .is_none()
    );
    assert_eq!(job.account().tally().total(), 1);
    assert_eq!(exit_of(job.account().tally(), false), Exit::Ok);
    assert!(
        job.replies().contains_key(&host(7)),
        "what a surprise says is kept to be shown"
    );
}

#[test]
fn a_host_that_went_silent_with_the_job_in_hand_is_a_failure_of_the_rollout() {
    let mut job = waiting(2, &[], true, patience());
    assert!(job.is_over(), "nothing is released");
    job.release(&[host(0), host(1)]);
    job.taken(&host(0), false, ms(1));
    assert_eq!(job.verdict(&host(0), HostState::Unknown), Verdict::Bad);
    assert_eq!(
        job.verdict(&host(1), HostState::Unknown),
        Verdict::Unreachable
    );
}

#[test]
fn the_exit_code_is_the_highest_that_applies() {
    use HostState as S;
    let cases: &[(&[S], bool, Exit)] = &[
        (&[], false, Exit::Ok),
        (&[S::Succeeded], false, Exit::Ok),
        (&[S::Succeeded, S::Failed], false, Exit::HostFailed),
        (&[S::Failed, S::DeliveryExpired], false, Exit::HostSilent),
        (&[S::Unroutable], false, Exit::HostSilent),
        (&[S::Pending], false, Exit::HostSilent),
        (
            &[S::Rejected, S::Unknown, S::Failed],
            false,
            Exit::HostRefused,
        ),
        (&[S::Interrupted], false, Exit::HostFailed),
        (&[S::Skipped, S::Rejected], true, Exit::RolloutStopped),
    ];
    for (states, stopped, want) in cases {
        let tally: Tally = states.iter().copied().collect();
        assert_eq!(exit_of(&tally, *stopped), *want, "{states:?}");
    }
}

proptest! {
    /// Whatever is heard, the states add up, and the wait ends when everything waited for has ended or was given up.
    #[test]
    fn the_wait_ends_and_adds_up(
        hosts in 1_u8..6,
        away in prop::collection::vec(0_u8..6, 0..3),
        steps in prop::collection::vec((0_u8..8, 0_u8..6, 0_u64..100_000), 0..60),
    ) {
        let away: Vec<u8> = away.into_iter().filter(|number| *number < hosts).collect();
        let mut job = waiting(hosts, &away, false, patience());
        let mut latest = ms(0);
        for (number, what, at) in steps {
            let at = ms(at);
            latest = latest.max(at);
            match what {
                0 => { job.taken(&host(number), true, at); }
                1 => { job.answered(result(number, Outcome::Succeeded), Some(at)); }
                2 => { job.answered(result(number, Outcome::Rejected), None); }
                3 => { job.observe(&host(number), Observation::Unroutable); }
                4 => { let due = job.overdue(at); job.give_up(&due); }
                _ => job.sent(&host(number), at),
            }
            prop_assert_eq!(job.account().tally().total(), usize::from(hosts));
            prop_assert_eq!(job.is_over(), job.next_deadline().is_none());
            for waited in job.awaited() {
                prop_assert!(job.account().host(waited).unwrap().state.is_open());
            }
        }
        let due = job.overdue(latest + ms(80_000));
        job.give_up(&due);
        prop_assert!(job.is_over());
        let open = job.account().hosts().filter(|(_, record)| record.state.is_open());
        prop_assert!(open.into_iter().all(|(host, _)| job.was_away(host)));
    }
}
