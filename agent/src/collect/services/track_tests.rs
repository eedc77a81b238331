//! Units from one state to the next, as systemd tells of them: which events that makes.

use super::*;

/// A step of a unit's life: states, job, main pid, activation, automatic restarts, result, exit code, status, its time.
#[derive(Clone, Copy)]
struct Step {
    states: &'static str,
    job: u32,
    pid: u32,
    active_since: u64,
    n_restarts: u32,
    result: &'static str,
    exit: (i32, i32, u64),
    since: u64,
}

const RUNNING: Step = Step {
    states: "active/running",
    job: 0,
    pid: 100,
    active_since: 10,
    n_restarts: 0,
    result: "success",
    exit: (0, 0, 0),
    since: 10,
};

const DEAD: Step = Step {
    states: "inactive/dead",
    pid: 0,
    since: 20,
    ..RUNNING
};

const KILLED: Step = Step {
    states: "failed/failed",
    pid: 0,
    result: "signal",
    exit: (2, 9, 20),
    since: 20,
    ..RUNNING
};

const WAITING: Step = Step {
    states: "activating/auto-restart",
    ..KILLED
};

const AGAIN: Step = Step {
    pid: 200,
    active_since: 30,
    n_restarts: 1,
    since: 30,
    ..RUNNING
};

fn facts(step: Step) -> Facts {
    let (active, sub) = step.states.split_once('/').unwrap_or_default();
    Facts {
        active_state: active.to_owned(),
        sub_state: sub.to_owned(),
        job: step.job,
        main_pid: step.pid,
        active_since_mono_us: step.active_since,
        n_restarts: Some(step.n_restarts),
        result: step.result.to_owned(),
        exit_code: step.exit.0,
        exit_status: step.exit.1,
        exit_at_us: step.exit.2,
        since_us: step.since,
        restart: "no".to_owned(),
        complete: true,
        ..Facts::default()
    }
}

/// What is told of a unit that was found in the first state and goes through the others.
fn told(found: Step, steps: &[Step]) -> Vec<String> {
    let mut track = Track::found(facts(found));
    let changes = steps
        .iter()
        .filter_map(|step| track.hear("a.service", facts(*step), Instant::now()));
    changes
        .map(|change| format!("{}: {}", change.topic, change.summary))
        .collect()
}

fn check(name: &str, found: Step, steps: &[Step], want: &[&str]) {
    assert_eq!(told(found, steps), want, "{name}");
}

#[test]
fn each_change_from_rest_to_rest_is_told_once() {
    let on_its_way = |states| Step {
        states,
        pid: 0,
        ..RUNNING
    };
    check("nothing happens", RUNNING, &[RUNNING, RUNNING], &[]);
    check("found failed, and still is", KILLED, &[KILLED], &[]);
    check(
        "killed",
        RUNNING,
        &[KILLED, KILLED],
        &["service.failed: a.service has failed: signal 9 (SIGKILL)"],
    );
    check(
        "started",
        DEAD,
        &[on_its_way("activating/start"), RUNNING],
        &["service.started: a.service was started"],
    );
    check(
        "stopped",
        RUNNING,
        &[
            Step {
                job: 7,
                ..on_its_way("deactivating/stop-sigterm")
            },
            Step { job: 7, ..DEAD },
            DEAD,
        ],
        &["service.stopped: a.service was stopped or has ended"],
    );
    check(
        "failed, then started",
        KILLED,
        &[
            on_its_way("activating/start"),
            Step {
                active_since: 30,
                since: 30,
                ..RUNNING
            },
        ],
        &["service.started: a.service was started and is no longer failed"],
    );
    check(
        "reset-failed",
        KILLED,
        &[Step { since: 20, ..DEAD }],
        &["service.cleared: a.service is no longer failed: inactive"],
    );
    check(
        "reloaded, and its main process replaced by itself",
        RUNNING,
        &[
            Step {
                states: "reloading/reload",
                job: 8,
                ..RUNNING
            },
            Step {
                pid: 101,
                ..RUNNING
            },
        ],
        &[],
    );
}

#[test]
fn restarts_are_one_event_however_much_of_them_is_heard() {
    let by_hand = Step {
        pid: 200,
        active_since: 30,
        since: 30,
        ..RUNNING
    };
    let want = ["service.restarted: a.service was restarted"];
    let stopping = Step {
        states: "deactivating/stop-sigterm",
        job: 7,
        ..RUNNING
    };
    let between = Step { job: 7, ..DEAD };
    let starting = Step {
        states: "activating/start",
        job: 7,
        ..DEAD
    };
    check(
        "by hand, all heard",
        RUNNING,
        &[stopping, between, starting, by_hand],
        &want,
    );
    check("by hand, only the end", RUNNING, &[by_hand], &want);
    check(
        "by hand after automatic ones: the count begins anew",
        AGAIN,
        &[Step {
            active_since: 50,
            ..by_hand
        }],
        &want,
    );
    let want =
        "service.restarted: a.service ended by signal 9 (SIGKILL) and was restarted by systemd";
    let before = Step {
        states: "failed/failed-before-auto-restart",
        ..KILLED
    };
    check("killed", RUNNING, &[WAITING, AGAIN], &[want]);
    check(
        "killed, a newer systemd",
        RUNNING,
        &[before, WAITING, AGAIN],
        &[want],
    );
    check(
        "killed, only the end heard",
        RUNNING,
        &[AGAIN],
        &["service.restarted: a.service ended and was restarted by systemd"],
    );
    check(
        "killed until the limit",
        RUNNING,
        &[
            WAITING,
            AGAIN,
            Step {
                exit: (2, 9, 40),
                since: 40,
                n_restarts: 1,
                ..WAITING
            },
            Step {
                result: "start-limit-hit",
                exit: (2, 9, 40),
                since: 41,
                n_restarts: 1,
                ..KILLED
            },
        ],
        &[
            want,
            "service.failed: a.service has failed: start-limit-hit (signal 9 (SIGKILL))",
        ],
    );
    check(
        "ended by itself",
        RUNNING,
        &[
            Step {
                result: "success",
                exit: (1, 0, 20),
                ..WAITING
            },
            AGAIN,
        ],
        &["service.restarted: a.service ended by exit status 0 and was restarted by systemd"],
    );
}

#[test]
fn oneshots_are_told_where_they_fail() {
    let starting = Step {
        states: "activating/start",
        active_since: 0,
        ..RUNNING
    };
    let done = Step {
        exit: (1, 0, 25),
        active_since: 0,
        ..DEAD
    };
    let failed = Step {
        states: "failed/failed",
        result: "exit-code",
        exit: (1, 3, 35),
        since: 35,
        active_since: 0,
        ..DEAD
    };
    check("well", DEAD, &[starting, done], &[]);
    check(
        "badly",
        done,
        &[starting, failed],
        &["service.failed: a.service has failed: exit status 3"],
    );
    check(
        "badly again: another run, another failure",
        failed,
        &[
            starting,
            Step {
                exit: (1, 4, 45),
                since: 45,
                ..failed
            },
        ],
        &["service.failed: a.service has failed: exit status 4"],
    );
    check(
        "well again",
        failed,
        &[
            starting,
            Step {
                since: 46,
                exit: (1, 0, 46),
                ..done
            },
        ],
        &["service.cleared: a.service is no longer failed: inactive"],
    );
    let exited = Step {
        states: "active/exited",
        exit: (1, 0, 9),
        pid: 0,
        ..RUNNING
    };
    check(
        "one that remains",
        DEAD,
        &[starting, exited],
        &["service.started: a.service was started"],
    );
    check(
        "before its main process",
        DEAD,
        &[Step {
            result: "exit-code",
            exit: (0, 0, 0),
            ..KILLED
        }],
        &["service.failed: a.service has failed: exit-code"],
    );
}

/// The same for a unit that systemd restarts by itself.
fn lasting(step: Step) -> Facts {
    Facts {
        restart: "on-failure".to_owned(),
        ..facts(step)
    }
}

#[test]
fn a_long_wait_for_the_restart_is_a_failure_and_the_restart_its_end() {
    let at = Instant::now();
    let just_before = |wait: Duration| at + wait - Duration::from_millis(1);
    let mut track = Track::found(lasting(RUNNING));
    assert!(track.hear("a.service", lasting(WAITING), at).is_none());
    assert!(track.wait("a.service", just_before(RESTART_WAIT)).is_none());
    let failed = track
        .wait("a.service", at + RESTART_WAIT)
        .map(|change| (change.topic, change.summary));
    assert_eq!(
        failed,
        Some((
            "service.failed",
            "a.service has failed: signal 9 (SIGKILL); systemd is going to restart it".to_owned()
        ))
    );
    assert!(
        track.wait("a.service", at + RESTART_WAIT * 2).is_none(),
        "told once"
    );
    let back = track
        .hear("a.service", lasting(AGAIN), at)
        .map(|change| change.topic);
    assert_eq!((back, track.restarts), (Some("service.restarted"), 1));
    // A start by hand in the meantime is a start.
    let mut track = Track::found(lasting(RUNNING));
    assert!(track.hear("a.service", lasting(WAITING), at).is_none());
    assert!(track.wait("a.service", at + RESTART_WAIT).is_some());
    let by_hand = Step {
        active_since: 30,
        since: 30,
        ..RUNNING
    };
    let back = track
        .hear("a.service", lasting(by_hand), at)
        .map(|change| change.topic);
    assert_eq!(back, Some("service.started"));
}

#[test]
fn a_failure_that_lasts_for_an_instant_is_none() {
    let at = Instant::now();
    let hear = |steps: &[Step]| {
        let mut track = Track::found(lasting(RUNNING));
        let changes = steps
            .iter()
            .filter_map(|step| track.hear("a.service", lasting(*step), at));
        (
            changes.map(|change| change.summary).collect::<Vec<_>>(),
            track,
        )
    };
    let (told, _) = hear(&[KILLED, WAITING, AGAIN]);
    assert_eq!(
        told,
        ["a.service ended by signal 9 (SIGKILL) and was restarted by systemd"]
    );
    let clean = Step {
        exit: (1, 0, 20),
        result: "success",
        ..DEAD
    };
    let (told, _) = hear(&[
        clean,
        Step {
            states: WAITING.states,
            ..clean
        },
        AGAIN,
    ]);
    assert_eq!(
        told,
        ["a.service ended by exit status 0 and was restarted by systemd"]
    );
    for (step, topic) in [(KILLED, "service.failed"), (DEAD, "service.stopped")] {
        let (told, mut track) = hear(&[step]);
        assert!(told.is_empty());
        assert!(track.wait("a.service", at + REST_WAIT / 2).is_none());
        let change = track
            .wait("a.service", at + REST_WAIT)
            .map(|change| change.topic);
        assert_eq!(change, Some(topic));
        assert!(track.wait("a.service", at + REST_WAIT * 2).is_none());
    }
}

#[test]
fn events_hold_both_states_and_the_reason() {
    let mut track = Track::found(facts(RUNNING));
    let change = track.hear("a.service", facts(KILLED), Instant::now());
    let Some(change) = change else {
        unreachable!("no change")
    };
    assert_eq!(
        (change.key.as_str(), change.severity),
        ("a.service", Severity::Error)
    );
    assert_eq!(
        change.before.get("active_state"),
        Some(&Value::from("active"))
    );
    assert_eq!(
        change.after.get("active_state"),
        Some(&Value::from("failed"))
    );
    let field = |name: &str| change.fields.get(name).cloned();
    assert_eq!(field("result"), Some("signal".into()));
    assert_eq!(field("exit_how"), Some("killed".into()));
    assert_eq!(field("exit_signal"), Some(9.into()));
    assert_eq!(field("exit_status"), None);
    assert_eq!(field("main_pid_before"), Some(100.into()));
    assert!(muster_proto::event::is_topic(change.topic));
}

#[test]
fn units_that_come_and_go() {
    let mut track = Track::absent();
    let came = track.hear("app@1.service", facts(RUNNING), Instant::now());
    assert_eq!(came.map(|change| change.topic), Some("service.started"));
    let went = track.gone("app@1.service");
    assert_eq!(went.map(|change| change.topic), Some("service.stopped"));
    assert!(track.gone("app@1.service").is_none());
}
