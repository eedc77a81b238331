//! Jobs on real agents: every state and exit code, and everything that must not make a job run, or run twice.

mod answers;
mod away;
mod cancel;
mod forged;
mod garbage;
mod heard;
mod killed;
mod replay;
mod stage;
mod wire;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use muster_harness::{Agent, Broker, Fleet, FleetOptions, Muster, eventually, want};
use serde_json::Value;

/// A script leaves its job's id in `ran`.
const MARK: &str = r#"echo "$MUSTER_JOB_ID" >> ran"#;

/// One that can't do its work where the file `bad` is.
const CHECK: &str =
    r#"echo "$MUSTER_JOB_ID" >> ran; if [ -e bad ]; then echo "it is bad" >&2; exit 7; fi"#;

/// One that waits until it is let go; gone with its folder, too.
const HOLD: &str = r#"echo "$$" >> pids; echo "$MUSTER_JOB_ID" >> started
while [ -e started ] && [ ! -e go ]; do sleep 0.05; done
echo "$MUSTER_JOB_ID" >> ended"#;

/// One that won't end when it is told to, nor will what it starts.
const STUBBORN: &str = r#"trap '' TERM
stay() { while [ -e pids ]; do sleep 0.05; done; }
echo "$$" >> pids
sh -c 'trap "" TERM; echo "$$" >> pids; while [ -e pids ]; do sleep 0.05; done' &
stay"#;

/// Options of a fleet with all of these scripts, that comes back fast.
fn options(agents: usize) -> FleetOptions {
    let script = |name, text: &str| (name, text.to_owned());
    FleetOptions {
        agents,
        broker_keys: "reconnect_window = \"2s\"".to_owned(),
        scripts: vec![
            script("mark", MARK),
            script("check", CHECK),
            script("hold", HOLD),
            script("stubborn", STUBBORN),
        ],
        ..FleetOptions::default()
    }
}

/// A broker of all tests, and a fleet on it.
async fn fleet(agents: usize) -> Result<(Broker, Fleet)> {
    let broker = Broker::shared().await?;
    let fleet = Fleet::start(&broker, &options(agents)).await?;
    Ok((broker, fleet))
}

/// Runs a command that asks hosts, and must end with `code`; its report.
async fn ask(muster: &Muster, code: i32, arguments: &[&str]) -> Result<Value> {
    let output = muster.run(&[arguments, &["-o", "json"]].concat()).await?;
    assert_eq!(output.code, code, "{arguments:?}: {output:?}");
    let report = output.json()?;
    assert_sum(&report);
    Ok(report)
}

/// Leaves a job with its hosts; its id.
async fn leave(muster: &Muster, arguments: &[&str]) -> Result<String> {
    id_of(&ask(muster, 0, &[arguments, &["--no-wait"]].concat()).await?)
}

fn id_of(report: &Value) -> Result<String> {
    let id = report.pointer("/job").and_then(Value::as_str);
    Ok(id.context("a report without a job")?.to_owned())
}

/// A job as the ledger has it.
async fn show(muster: &Muster, job: &str) -> Result<Value> {
    let report = muster
        .succeed(&["job", "show", job, "-o", "json"])
        .await?
        .json()?;
    assert_sum(&report);
    Ok(report)
}

/// Waits until the ledger has exactly these states.
async fn await_states(muster: &Muster, job: &str, wanted: &[(&str, u64)]) -> Result<Value> {
    let what = format!("job {job} is {wanted:?}");
    let wanted: BTreeMap<String, u64> = named(wanted);
    eventually(&what, async || {
        let report = show(muster, job)
            .await
            .map_err(|error| format!("{error:#}"))?;
        want(states(&report), wanted.clone())
            .map(|()| report.clone())
            .map_err(|status| format!("{status} in {report}"))
    })
    .await
}

/// The states always add up to the number targeted, and each host is named.
fn assert_sum(report: &Value) {
    let sum: u64 = states(report).values().sum();
    let hosts = report["hosts"].as_array().map_or(0, Vec::len) as u64;
    let targeted = report["targeted"].as_u64().unwrap_or(u64::MAX);
    assert_eq!((sum, hosts), (targeted, targeted), "{report}");
}

fn assert_states(report: &Value, wanted: &[(&str, u64)]) {
    assert_eq!(states(report), named(wanted), "{report}");
}

fn named(states: &[(&str, u64)]) -> BTreeMap<String, u64> {
    states
        .iter()
        .map(|(state, count)| ((*state).to_owned(), *count))
        .collect()
}

fn states(report: &Value) -> BTreeMap<String, u64> {
    let states = report["states"].as_object().into_iter().flatten();
    states
        .map(|(state, count)| (state.clone(), count.as_u64().unwrap_or(u64::MAX)))
        .collect()
}

/// One host's part of a report.
fn host<'a>(report: &'a Value, agent: &Agent) -> &'a Value {
    let hosts = report["hosts"].as_array().into_iter().flatten();
    let mut found = hosts.filter(|host| host["host"] == agent.host.as_str());
    found.next().unwrap_or(&Value::Null)
}

/// State and reason code of one host.
fn verdict<'a>(report: &'a Value, agent: &Agent) -> (&'a str, &'a str) {
    let host = host(report, agent);
    (
        host["state"].as_str().unwrap_or_default(),
        host["reason"]["code"].as_str().unwrap_or_default(),
    )
}

/// Waits until a file that scripts write has so many lines; gives them.
async fn await_lines(agent: &Agent, file: &str, count: usize) -> Result<Vec<String>> {
    let what = format!("{count} lines in {file} of {}", agent.host);
    eventually(&what, async || {
        let lines = agent.lines(file);
        want(lines.len(), count).map(|()| lines)
    })
    .await
}

/// Lets the script `hold` go on.
fn let_go(agent: &Agent) -> Result<()> {
    fs::write(agent.files.join("go"), "").context("let the script go on")
}

/// Waits until no process of the file `pids` is alive.
async fn await_deaths(agent: &Agent, count: usize) -> Result<()> {
    let pids = await_lines(agent, "pids", count).await?;
    eventually("the script's processes are gone", async || {
        let alive: Vec<&String> = pids.iter().filter(|pid| is_alive(pid)).collect();
        want(alive, vec![])
    })
    .await
}

/// A zombie that nobody has reaped yet does nothing any more.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}
