//! `service.status|start|stop|restart|reload`: one systemd unit, and the real outcome of what was done to it.
//!
//! What is done counts as done when the service manager says so, and the unit is still in the wanted state a moment
//! later: a service that dies right after its start has failed. Data: `unit`, the fields of its state, `job_result` (the
//! service manager's word for the outcome), and after a failure `journal`, its last lines.

mod journal;
mod unit_name;

use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_proto::job::{Args, Reason, ReasonCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::unit_name::{UnitName, allowed};
use super::systemd::{LoadedUnit, Systemd, SystemdError, UnitState, Verb};
use super::{Action, ActionContext, Call, Failure};

/// What the config says of services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Services {
    /// Globs over the units that jobs may name; none by default.
    pub units: Vec<String>,
    /// D-Bus address of the service manager; the system bus where there is none.
    pub bus: Option<String>,
    /// How long a service that was started must stay up before it counts as started.
    pub settle: Duration,
}

struct Service {
    services: Services,
    /// `None` only looks.
    verb: Option<Verb>,
}

pub(super) fn status(context: &ActionContext) -> Box<dyn Action> {
    Box::new(Service {
        services: context.services.clone(),
        verb: None,
    })
}

pub(super) fn start(context: &ActionContext) -> Box<dyn Action> {
    acting(context, Verb::Start)
}

pub(super) fn stop(context: &ActionContext) -> Box<dyn Action> {
    acting(context, Verb::Stop)
}

pub(super) fn restart(context: &ActionContext) -> Box<dyn Action> {
    acting(context, Verb::Restart)
}

pub(super) fn reload(context: &ActionContext) -> Box<dyn Action> {
    acting(context, Verb::Reload)
}

fn acting(context: &ActionContext, verb: Verb) -> Box<dyn Action> {
    Box::new(Service {
        services: context.services.clone(),
        verb: Some(verb),
    })
}

/// Whether the units that the config lists by name are there: one line each, good or not. Globs can't be checked.
pub async fn check(services: &Services) -> Vec<Result<String, String>> {
    let named: Vec<&String> = services
        .units
        .iter()
        .filter(|glob| !glob.contains(['*', '?']))
        .collect();
    if services.units.is_empty() {
        return Vec::new();
    }
    let systemd = match Systemd::connect(services.bus.as_deref()).await {
        Ok(systemd) => systemd,
        Err(error) => return vec![Err(error.to_string())],
    };
    let mut lines = vec![Ok(format!(
        "the service manager answers; {} unit(s) or globs are listed",
        services.units.len()
    ))];
    for name in named {
        let outcome = match name.parse::<UnitName>() {
            Ok(unit) => unit_state(&systemd, &unit)
                .await
                .map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        lines.push(
            outcome.map(|state| format!("{name} is {} ({})", state.active_state, state.sub_state)),
        );
    }
    lines
}

async fn unit_state(systemd: &Systemd, unit: &UnitName) -> Result<UnitState, SystemdError> {
    let loaded = systemd.load(unit.as_str()).await?;
    let state = systemd.state(&loaded).await?;
    state.check_loaded(unit.as_str())?;
    Ok(state)
}

impl Action for Service {
    fn admit(&self, args: &Args) -> Result<(), Reason> {
        self.unit(args).map(|_| ())
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(self.carry_out(call))
    }
}

impl Service {
    fn unit(&self, args: &Args) -> Result<UnitName, Reason> {
        let text = args.get("unit").and_then(Value::as_str).unwrap_or_default();
        let unit: UnitName = text
            .parse()
            .map_err(|why: String| Reason::new(ReasonCode::BadArgument, why))?;
        if allowed(&self.services.units, &unit) {
            return Ok(unit);
        }
        let why = format!(
            "this host's config does not let jobs touch {unit}; [services] units lists the units that they may"
        );
        Err(Reason::new(ReasonCode::PolicyDenied, why))
    }

    async fn carry_out(&self, call: Call) -> Result<Value, Failure> {
        let unit = self.unit(&call.args).map_err(|reason| Failure {
            reason,
            data: Value::Null,
        })?;
        let connect = Systemd::connect(self.services.bus.as_deref());
        let systemd = unless_stopped(&call.stop, connect).await?.map_err(failed)?;
        let loaded = unless_stopped(&call.stop, systemd.load(unit.as_str()))
            .await?
            .map_err(failed)?;
        let before = systemd.state(&loaded).await.map_err(failed)?;
        before
            .check_loaded(unit.as_str())
            .map_err(|error| failed(error).with(data(&unit, &before, None)))?;
        let Some(verb) = self.verb else {
            return Ok(data(&unit, &before, None));
        };
        if call.dry_run {
            let mut would = data(&unit, &before, None);
            let words = format!(
                "{} {unit}, which is {} ({})",
                verb.name(),
                before.active_state,
                before.sub_state
            );
            if let Some(fields) = would.as_object_mut() {
                fields.insert("would".to_owned(), Value::from(words));
            }
            return Ok(would);
        }
        let deed = Deed {
            systemd: &systemd,
            unit: &unit,
            loaded: &loaded,
            verb,
        };
        deed.carry_out(self.services.settle, &call.stop).await
    }
}

/// One thing done to one unit.
struct Deed<'a> {
    systemd: &'a Systemd,
    unit: &'a UnitName,
    loaded: &'a LoadedUnit,
    verb: Verb,
}

impl Deed<'_> {
    async fn carry_out(
        &self,
        settle: Duration,
        stop: &CancellationToken,
    ) -> Result<Value, Failure> {
        let mut job = match self.systemd.begin(self.loaded, self.verb).await {
            Ok(job) => job,
            Err(error) => return Err(self.with_state(failed(error), None, false).await),
        };
        let result = tokio::select! {
            ended = job.ended() => ended.map_err(failed)?,
            () = stop.cancelled() => {
                // It may be too late for that, and the unit stays as it is: the data says how.
                if let Err(error) = self.systemd.cancel(&job).await {
                    tracing::debug!(unit = %self.unit, %error, "the service manager's job was not taken back");
                }
                let why = format!("ended before {} was done with {}; it is left as the data says", self.verb.name(), self.unit);
                return Err(self.with_state(Failure::new(why), None, false).await);
            }
        };
        if result != "done" {
            let state = self.systemd.state(self.loaded).await.ok();
            let why = self.not_done(&result, state.as_ref());
            return Err(self
                .with_state(Failure::new(why), Some(&result), true)
                .await);
        }
        let then = self.systemd.state(self.loaded).await.map_err(failed)?;
        let now = if self.verb == Verb::Stop || settle.is_zero() {
            then.clone()
        } else {
            tokio::select! {
                () = tokio::time::sleep(settle) => {}
                () = stop.cancelled() => {}
            }
            self.systemd.state(self.loaded).await.map_err(failed)?
        };
        match verdict(self.verb, &then, &now) {
            Ok(()) => Ok(data(self.unit, &now, Some(&result))),
            Err(why) => {
                let failure = Failure::new(format!(
                    "{} of {} did not last: {why}",
                    self.verb.name(),
                    self.unit
                ));
                Err(self.with_state(failure, Some(&result), true).await)
            }
        }
    }

    fn not_done(&self, result: &str, state: Option<&UnitState>) -> String {
        let what = format!("{} {}", self.verb.name(), self.unit);
        let how = match result {
            "failed" => "failed",
            "timeout" => "ran into the unit's own time limit",
            "canceled" => "was taken back by another job of the service manager",
            "dependency" => "was not begun, because a unit that it needs failed",
            "skipped" => {
                "was skipped, because a condition of the unit does not hold or it is not running"
            }
            other => other,
        };
        match state {
            Some(state) => format!("{what} {how}; {}", words(state)),
            None => format!("{what} {how}"),
        }
    }

    /// Adds what there is to see of the unit.
    async fn with_state(&self, failure: Failure, result: Option<&str>, journal: bool) -> Failure {
        let Ok(state) = self.systemd.state(self.loaded).await else {
            return failure;
        };
        let mut data = data(self.unit, &state, result);
        if journal && let Some(fields) = data.as_object_mut() {
            fields.insert(
                "journal".to_owned(),
                Value::from(journal::tail(self.unit.as_str()).await),
            );
        }
        failure.with(data)
    }
}

/// Whether the unit is in the state that was asked for, `then` when the service manager was done and `now`, a moment
/// later; the reason where it isn't.
fn verdict(verb: Verb, then: &UnitState, now: &UnitState) -> Result<(), String> {
    let up = matches!(
        now.active_state.as_str(),
        "active" | "reloading" | "refreshing"
    );
    match verb {
        Verb::Stop if matches!(now.active_state.as_str(), "inactive" | "failed") => Ok(()),
        Verb::Start | Verb::Restart if now.kind == "oneshot" && !up => {
            let done = now.active_state == "inactive" && now.result == "success";
            if done { Ok(()) } else { Err(words(now)) }
        }
        Verb::Start | Verb::Restart | Verb::Reload if up => {
            if now.n_restarts > then.n_restarts {
                return Err(format!(
                    "it died and was started again by the service manager; {}",
                    words(now)
                ));
            }
            Ok(())
        }
        _ => Err(words(now)),
    }
}

/// A unit's state in words.
fn words(state: &UnitState) -> String {
    const EXITED: i32 = 1; // CLD_EXITED of waitid(2)
    let mut text = format!("it is {} ({})", state.active_state, state.sub_state);
    if !state.result.is_empty() && state.result != "success" {
        text.push_str(&format!(", result {}", state.result));
    }
    if state.main_pid == 0 && state.exit_code != 0 {
        let what = if state.exit_code == EXITED {
            "exit status"
        } else {
            "ended by signal"
        };
        text.push_str(&format!(", {what} {}", state.exit_status));
    }
    text
}

fn data(unit: &UnitName, state: &UnitState, result: Option<&str>) -> Value {
    let mut data = serde_json::to_value(state).unwrap_or_default();
    if let Some(fields) = data.as_object_mut() {
        fields.insert("unit".to_owned(), Value::from(unit.as_str()));
        fields.insert("job_result".to_owned(), json!(result));
    }
    data
}

fn failed(error: SystemdError) -> Failure {
    Failure::new(error.to_string())
}

async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => Ok(done),
        () = stop.cancelled() => Err(Failure::new("ended before anything was asked of the service manager")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(kind: &str, active: &str, result: &str, n_restarts: u32) -> UnitState {
        UnitState {
            load_state: "loaded".into(),
            active_state: active.into(),
            sub_state: "sub".into(),
            result: result.into(),
            main_pid: 0,
            n_restarts,
            since_ms: None,
            exit_code: 1,
            exit_status: 3,
            kind: kind.into(),
        }
    }

    type Moment = (&'static str, &'static str, &'static str, u32);

    /// What it is, what was done, type, state, result and restarts a moment later, and whether that is good.
    #[rustfmt::skip]
    const VERDICTS: &[(&str, Verb, Moment, bool)] = &[
        ("stays up", Verb::Start, ("simple", "active", "success", 0), true),
        ("dies", Verb::Start, ("simple", "failed", "exit-code", 0), false),
        ("waits for its next start", Verb::Restart, ("simple", "activating", "exit-code", 0), false),
        ("was started again meanwhile", Verb::Restart, ("simple", "active", "success", 1), false),
        ("ends well at once", Verb::Start, ("simple", "inactive", "success", 0), false),
        ("oneshot that ends well", Verb::Start, ("oneshot", "inactive", "success", 0), true),
        ("oneshot that fails", Verb::Start, ("oneshot", "failed", "exit-code", 0), false),
        ("oneshot that remains", Verb::Start, ("oneshot", "active", "success", 0), true),
        ("stopped", Verb::Stop, ("simple", "inactive", "success", 0), true),
        ("stopped with a bad status", Verb::Stop, ("simple", "failed", "exit-code", 0), true),
        ("does not stop", Verb::Stop, ("simple", "active", "success", 0), false),
        ("reloads", Verb::Reload, ("notify", "reloading", "success", 0), true),
        ("dies of a reload", Verb::Reload, ("notify", "failed", "signal", 0), false),
    ];

    #[test]
    fn the_state_a_moment_later_decides() {
        let up = state("simple", "active", "success", 0);
        for (name, verb, (kind, active, result, restarts), good) in VERDICTS {
            let now = state(kind, active, result, *restarts);
            assert_eq!(verdict(*verb, &up, &now).is_ok(), *good, "{name}");
        }
        let words = words(&state("simple", "failed", "exit-code", 0));
        assert_eq!(words, "it is failed (sub), result exit-code, exit status 3");
    }
}
