//! `keepalived.check` and `keepalived.reload`: its configuration tested by itself, and taken in if it is good.
//!
//! A reload is proved by its answer: every process of it is asked for its state after the signal, and what is different
//! from before is told. Data: `daemon`, `pid`, `config_file`, and `exit_code`, `errors` and `warnings` of the test;
//! after a reload `changes` and `processes`, too.

mod verdict;

use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_proto::job::{Args, Reason, ReasonCode};
use serde_json::{Map, Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use self::verdict::{Verdict, judge};
use super::process::run;
use super::{Action, ActionContext, Call, Failure, OutputSink};
use crate::collect::keepalived::{Control, Request, Target};

/// Between two looks for an answer.
const LOOK: Duration = Duration::from_millis(50);
/// How long an answer is waited for: large configurations take seconds to be read.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// After the answer: a process that dies of its new configuration dies at once.
const SETTLE: Duration = Duration::from_secs(1);

struct Keepalived {
    control: Control,
    then_reload: bool,
}

pub(super) fn check(context: &ActionContext) -> Box<dyn Action> {
    Box::new(Keepalived {
        control: context.keepalived.clone(),
        then_reload: false,
    })
}

pub(super) fn reload(context: &ActionContext) -> Box<dyn Action> {
    Box::new(Keepalived {
        control: context.keepalived.clone(),
        then_reload: true,
    })
}

impl Action for Keepalived {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(self.carry_out(call))
    }
}

impl Keepalived {
    async fn carry_out(&self, call: Call) -> Result<Value, Failure> {
        let target = self.target(&call.args).map_err(|reason| Failure {
            reason,
            data: Value::Null,
        })?;
        let verdict = test(&target, &call).await?;
        let data = data(&target, &verdict);
        let forced = call.args.get("force").and_then(Value::as_bool) == Some(true);
        let passes = verdict.errors.is_empty() || (self.then_reload && forced);
        if !passes {
            let first = verdict.errors.first().map_or("", String::as_str);
            let fails = format!("{} does not pass its test: {first}", target.config_file);
            let what = if self.then_reload {
                format!("not reloaded: {fails}")
            } else {
                fails
            };
            return Err(Failure::new(what).with(Value::Object(data)));
        }
        if !self.then_reload {
            return Ok(Value::Object(data));
        }
        self.reload(&target, data, &call).await
    }

    /// The one that the job names, or the only one.
    fn target(&self, args: &Args) -> Result<Target, Reason> {
        let mut targets = self.control.targets();
        let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
        let names = names.join(", ");
        let bad = |what: String| Reason::new(ReasonCode::BadArgument, what);
        match args.get("daemon").and_then(Value::as_str) {
            Some(name) => {
                let found = targets.into_iter().find(|target| target.name == name);
                found.ok_or_else(|| bad(format!("no keepalived {name:?} here; there are: {names}")))
            }
            None if targets.len() > 1 => Err(bad(format!(
                "several keepalived run here; name one of {names} as daemon"
            ))),
            None => targets
                .pop()
                .ok_or_else(|| bad("no keepalived on this host".to_owned())),
        }
    }

    async fn reload(
        &self,
        target: &Target,
        mut data: Map<String, Value>,
        call: &Call,
    ) -> Result<Value, Failure> {
        if target.pid.is_none() {
            let what = format!(
                "{} does not run on this host: nothing to reload",
                target.name
            );
            return Err(Failure::new(what).with(Value::Object(data)));
        }
        if call.dry_run {
            let would = format!("send SIGHUP to {}", target.name);
            data.insert("would".to_owned(), Value::from(would));
            return Ok(Value::Object(data));
        }
        let outcome = self.prove(target, &mut data, &call.stop).await;
        match outcome {
            Ok(()) => Ok(Value::Object(data)),
            Err(what) => Err(Failure::new(what).with(Value::Object(data))),
        }
    }

    async fn prove(
        &self,
        target: &Target,
        data: &mut Map<String, Value>,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let mut before = self.control.request(target)?;
        answered(&mut before, stop).await?;
        let old = self.control.family(target);
        self.control.reload(target)?;
        let mut after = self.control.request(target)?;
        let answer = answered(&mut after, stop).await;
        tokio::select! {
            () = tokio::time::sleep(SETTLE) => {}
            () = stop.cancelled() => {}
        }
        let now = self.control.family(target);
        data.insert("processes".to_owned(), json!(now));
        if now.is_empty() {
            return Err(format!("{} was told to reload and is gone", target.name));
        }
        answer.map_err(|error| format!("it was told to reload, and {error}"))?;
        let missing = old
            .iter()
            .find(|old| now.iter().all(|now| now.pid != old.pid));
        if let Some(missing) = missing {
            return Err(format!(
                "the {} process (pid {}) did not survive the reload; see its log",
                missing.role, missing.pid
            ));
        }
        let changes = before.state().changes(&after.state());
        data.insert("changes".to_owned(), json!(changes));
        Ok(())
    }
}

async fn answered(request: &mut Request, stop: &CancellationToken) -> Result<(), String> {
    let all = async {
        while !request.is_answered() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        ended = tokio::time::timeout(ANSWER_LIMIT, all) => ended.map_err(|_| {
            format!("did not tell its state within {} s", ANSWER_LIMIT.as_secs())
        }),
        () = stop.cancelled() => Err("the job was ended before it told its state".to_owned()),
    }
}

/// Has keepalived test the configuration that it would read.
async fn test(target: &Target, call: &Call) -> Result<Verdict, Failure> {
    let Some(program) = &target.program else {
        let what = "no keepalived program here; [collect.keepalived] binary names one";
        return Err(Failure::new(what));
    };
    let mut command = Command::new(program);
    command.arg("-t").arg("-f").arg(&target.config_file);
    if let Some(id) = &target.config_id {
        command.arg("-i").arg(id);
    }
    let ended = run(&mut command, &call.stop, &OutputSink::nowhere())
        .await
        .map_err(|error| Failure::new(format!("run {} -t: {error}", program.display())))?;
    if ended.stopped {
        return Err(Failure::new(
            "the test of the configuration was ended before its end",
        ));
    }
    let code = ended.status.and_then(|status| status.code());
    let text = format!(
        "{}\n{}",
        ended.stdout.into_text().0,
        ended.stderr.into_text().0
    );
    judge(code, &text).map_err(Failure::new)
}

fn data(target: &Target, verdict: &Verdict) -> Map<String, Value> {
    let data = json!({
        "daemon": target.name,
        "pid": target.pid,
        "config_file": target.config_file,
        "exit_code": verdict.exit_code,
        "errors": verdict.errors,
        "warnings": verdict.warnings,
    });
    match data {
        Value::Object(data) => data,
        _ => Map::new(),
    }
}
