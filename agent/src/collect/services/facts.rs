//! What the service manager says of one unit, gathered property by property. Pure; knows no bus and no event.
//!
//! Source: org.freedesktop.systemd1(5), the interfaces Unit and Service.

use muster_proto::snapshot::services::{Exit, Unit};
use serde_json::{Value, json};
use zbus::Variant;

/// `CLD_EXITED` of waitid(2).
const EXITED: i32 = 1;
/// `CLD_KILLED`.
const KILLED: i32 = 2;
/// `CLD_DUMPED`.
const DUMPED: i32 = 3;

/// A unit as the service manager describes it; what it has not said is empty or zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) description: String,
    pub(super) load_state: String,
    pub(super) active_state: String,
    pub(super) sub_state: String,
    pub(super) unit_file_state: String,
    /// The number of the service manager's job that waits for the unit, or works on it.
    pub(super) job: u32,
    /// When the state was last changed, by the wall clock.
    pub(super) since_us: u64,
    pub(super) active_since_us: u64,
    /// The same by the clock that is never set: another number is another activation.
    pub(super) active_since_mono_us: u64,
    pub(super) kind: String,
    /// `Restart=`.
    pub(super) restart: String,
    pub(super) result: String,
    pub(super) main_pid: u32,
    pub(super) exit_code: i32,
    pub(super) exit_status: i32,
    pub(super) exit_at_us: u64,
    pub(super) n_restarts: Option<u32>,
    pub(super) control_group: String,
    /// Whether everything was read, and not only what has changed.
    pub(super) complete: bool,
}

/// Where a unit comes to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Up,
    Down,
    Failed,
}

impl Facts {
    /// A unit that was not loaded, or is no more.
    pub(super) fn gone() -> Self {
        Self {
            active_state: "inactive".to_owned(),
            sub_state: "dead".to_owned(),
            ..Self::default()
        }
    }

    /// Takes over one property; others than we know are passed over, and so are values of another type.
    pub(super) fn apply(&mut self, name: &str, value: &Variant<'_>) {
        let text = |to: &mut String| {
            if let Variant::Str(text) = value {
                text.as_str().clone_into(to);
            }
        };
        let number = |to: &mut u64| {
            if let Variant::U64(number) = value {
                *to = *number;
            }
        };
        let signed = |to: &mut i32| {
            if let Variant::I32(number) = value {
                *to = *number;
            }
        };
        match name {
            "Description" => text(&mut self.description),
            "LoadState" => text(&mut self.load_state),
            "ActiveState" => text(&mut self.active_state),
            "SubState" => text(&mut self.sub_state),
            "UnitFileState" => text(&mut self.unit_file_state),
            "StateChangeTimestamp" => number(&mut self.since_us),
            "ActiveEnterTimestamp" => number(&mut self.active_since_us),
            "ActiveEnterTimestampMonotonic" => number(&mut self.active_since_mono_us),
            "Type" => text(&mut self.kind),
            "Restart" => text(&mut self.restart),
            "Result" => text(&mut self.result),
            "ControlGroup" => text(&mut self.control_group),
            "ExecMainCode" => signed(&mut self.exit_code),
            "ExecMainStatus" => signed(&mut self.exit_status),
            "ExecMainExitTimestamp" => number(&mut self.exit_at_us),
            "MainPID" => {
                if let Variant::U32(pid) = value {
                    self.main_pid = *pid;
                }
            }
            "NRestarts" => {
                if let Variant::U32(count) = value {
                    self.n_restarts = Some(*count);
                }
            }
            "Job" => {
                if let Variant::Structure(job) = value
                    && let Some(Variant::U32(id)) = job.fields().first()
                {
                    self.job = *id;
                }
            }
            _ => {}
        }
    }

    /// Where it rests; none while it is on its way: starting, stopping, waiting for its restart, or with a job that
    /// will take it on from here, as the second half of a restart.
    pub(super) fn rest(&self) -> Option<Rest> {
        let rest = match self.active_state.as_str() {
            "active" | "reloading" | "refreshing" | "maintenance" => return Some(Rest::Up),
            "inactive" => Rest::Down,
            "failed" => Rest::Failed,
            _ => return None,
        };
        let goes_on = self.job != 0 || self.sub_state.ends_with("-before-auto-restart");
        (!goes_on).then_some(rest)
    }

    /// Whether systemd may be about to restart it by itself, although it seems to rest: it can show as failed for an
    /// instant in between.
    pub(super) fn may_restart(&self) -> bool {
        self.restart != "no"
    }

    /// Whether its processes may be there.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.active_state.as_str(), "inactive" | "failed" | "")
    }

    /// Whether it waits for the time of its automatic restart.
    pub(super) fn waits_for_restart(&self) -> bool {
        self.active_state == "activating" && self.sub_state.starts_with("auto-restart")
    }

    /// How its main process ended; none where it has not, or where it has none.
    pub(super) fn exit(&self) -> Option<Exit> {
        let how = match self.exit_code {
            EXITED => "exited",
            KILLED => "killed",
            DUMPED => "dumped",
            _ => return None,
        };
        let exited = self.exit_code == EXITED;
        Some(Exit {
            how: how.to_owned(),
            status: exited.then_some(self.exit_status),
            signal: (!exited).then_some(self.exit_status),
            at_ms: ms(self.exit_at_us),
        })
    }

    /// The state as events show it.
    pub(super) fn state(&self) -> Value {
        json!({
            "active_state": self.active_state,
            "sub_state": self.sub_state,
            "result": self.result,
            "main_pid": self.main_pid,
            "n_restarts": self.n_restarts,
            "since_ms": ms(self.since_us),
        })
    }

    /// The unit as the snapshot shows it, without what it uses.
    pub(super) fn unit(&self, name: &str) -> Unit {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        Unit {
            name: name.to_owned(),
            description: self.description.clone(),
            kind: some(&self.kind),
            load_state: self.load_state.clone(),
            active_state: self.active_state.clone(),
            sub_state: self.sub_state.clone(),
            unit_file_state: some(&self.unit_file_state),
            result: some(&self.result),
            since_ms: ms(self.since_us),
            active_since_ms: ms(self.active_since_us),
            main_pid: (self.main_pid > 0).then_some(self.main_pid),
            exit: self.exit(),
            n_restarts: self.n_restarts,
            restarts_seen: 0,
            usage: None,
        }
    }
}

/// Why a unit has failed, in words: by its result, and by how its process ended where that is the reason.
pub(super) fn reason(result: &str, exit: Option<&Exit>) -> String {
    let ended = exit.map(|exit| match (exit.status, exit.signal) {
        (Some(status), _) => format!("exit status {status}"),
        (_, Some(signal)) => format!("signal {signal}{}", signal_name(signal)),
        _ => exit.how.clone(),
    });
    match (result, ended) {
        ("" | "success", Some(ended)) => ended,
        ("" | "success", None) => "no reason given".to_owned(),
        ("exit-code" | "signal", Some(ended)) => ended,
        (result, Some(ended)) => format!("{result} ({ended})"),
        (result, None) => result.to_owned(),
    }
}

/// Microseconds since 1970 as milliseconds; zero and the largest number say never.
fn ms(us: u64) -> Option<u64> {
    (us > 0 && us < u64::MAX).then_some(us / 1000)
}

/// Its name in brackets, where it is one that services die of (signal(7); the same numbers on x86 and ARM).
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        5 => " (SIGTRAP)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        10 => " (SIGUSR1)",
        11 => " (SIGSEGV)",
        12 => " (SIGUSR2)",
        13 => " (SIGPIPE)",
        14 => " (SIGALRM)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        25 => " (SIGXFSZ)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_taken_and_strangers_passed_over() {
        let mut facts = Facts::default();
        facts.apply("ActiveState", &Variant::new("failed"));
        facts.apply("Result", &Variant::new("signal"));
        facts.apply("ExecMainCode", &Variant::new(2_i32));
        facts.apply("ExecMainStatus", &Variant::new(9_i32));
        facts.apply(
            "ExecMainExitTimestamp",
            &Variant::new(1_700_000_000_000_000_u64),
        );
        facts.apply("NRestarts", &Variant::new(3_u32));
        facts.apply("MainPID", &Variant::new("not a number"));
        facts.apply("Weather", &Variant::new("fine"));
        facts.apply(
            "Job",
            &Variant::new((
                7_u32,
                zbus::wire::ObjectPath::from_static_str_unchecked("/"),
            )),
        );
        assert_eq!(
            (facts.active_state.as_str(), facts.n_restarts, facts.job),
            ("failed", Some(3), 7)
        );
        let exit = facts.exit();
        assert_eq!(
            exit,
            Some(Exit {
                how: "killed".to_owned(),
                status: None,
                signal: Some(9),
                at_ms: Some(1_700_000_000_000),
            })
        );
        assert_eq!(reason(&facts.result, exit.as_ref()), "signal 9 (SIGKILL)");
        assert_eq!(facts.unit("a.service").main_pid, None);
    }

    #[test]
    fn rests() {
        for (active, sub, job, want) in [
            ("active", "running", 0, Some(Rest::Up)),
            ("active", "exited", 9, Some(Rest::Up)),
            ("reloading", "reload", 9, Some(Rest::Up)),
            ("inactive", "dead", 0, Some(Rest::Down)),
            ("inactive", "dead", 9, None), // between the halves of a restart
            ("inactive", "dead-before-auto-restart", 0, None),
            ("failed", "failed", 0, Some(Rest::Failed)),
            ("failed", "failed-before-auto-restart", 0, None),
            ("activating", "auto-restart", 0, None),
            ("deactivating", "stop-sigterm", 9, None),
            ("", "", 0, None),
        ] {
            let facts = Facts {
                active_state: active.to_owned(),
                sub_state: sub.to_owned(),
                job,
                ..Facts::default()
            };
            assert_eq!(facts.rest(), want, "{active} {sub} {job}");
        }
    }

    #[test]
    fn reasons() {
        let exit = |status: Option<i32>, signal: Option<i32>| Exit {
            status,
            signal,
            ..Exit::default()
        };
        for (result, exit, want) in [
            ("exit-code", Some(exit(Some(3), None)), "exit status 3"),
            (
                "core-dump",
                Some(exit(None, Some(11))),
                "core-dump (signal 11 (SIGSEGV))",
            ),
            (
                "oom-kill",
                Some(exit(None, Some(9))),
                "oom-kill (signal 9 (SIGKILL))",
            ),
            ("timeout", None, "timeout"),
            ("success", Some(exit(Some(0), None)), "exit status 0"),
            ("", None, "no reason given"),
        ] {
            assert_eq!(reason(result, exit.as_ref()), want);
        }
    }

    #[test]
    fn never_is_none() {
        assert_eq!((ms(0), ms(u64::MAX), ms(1500)), (None, None, Some(1)));
    }
}
