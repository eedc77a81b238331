//! What the ledger says, held against what the hosts have done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result, bail};
use muster_harness::Fleet;
use serde_json::Value;

use super::Run;

/// Faults that are shown; one is enough to fail.
const FAULTS_SHOWN: usize = 20;

/// The sums, and what does not add up.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) faults: Vec<String>,
    jobs: usize,
    targeted: u64,
    states: BTreeMap<String, u64>,
    runs: usize,
    abandoned: usize,
}

impl Verdict {
    pub(super) async fn of(fleet: &Fleet, runs: &[Run]) -> Result<Self> {
        let list = ["job", "list", "-o", "json", "--since", "1d", "-n", "100000"];
        let listed = fleet.muster.succeed(&list).await?.json()?;
        let listed = listed.as_array().context("a list of jobs")?;
        let mut verdict = Self::default();
        let done = verdict.deeds(fleet);
        let mut jobs: BTreeMap<&str, &Value> = BTreeMap::new();
        for row in listed.iter().filter(|row| row["action"] == "script.run") {
            jobs.insert(row["job"].as_str().unwrap_or_default(), row);
        }
        for run in runs {
            if !jobs.contains_key(run.job.as_str()) {
                verdict.fault(format!(
                    "job {} of a run that ended with {} is not in the ledger",
                    run.job, run.code
                ));
            }
        }
        let ids: BTreeSet<&str> = runs.iter().map(|run| run.job.as_str()).collect();
        if ids.len() != runs.len() {
            bail!("two runs had one job");
        }
        for (job, row) in &jobs {
            verdict.count(job, row);
            let known = ids.contains(job);
            verdict.abandoned += usize::from(!known);
            verdict.hosts(fleet, job, row, known, &done).await?;
        }
        for (job, host) in done
            .keys()
            .filter(|(job, _)| !jobs.contains_key(job.as_str()))
        {
            verdict.fault(format!(
                "{host} has run {job}, which the ledger does not know"
            ));
        }
        Ok(verdict)
    }

    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    /// How often each host ran each job: never twice.
    fn deeds(&mut self, fleet: &Fleet) -> BTreeMap<(String, String), usize> {
        let mut done: BTreeMap<(String, String), usize> = BTreeMap::new();
        for agent in &fleet.agents {
            for job in agent.lines("ran") {
                *done.entry((job, agent.host.clone())).or_default() += 1;
                self.runs += 1;
            }
        }
        for ((job, host), count) in done.iter().filter(|(_, count)| **count > 1) {
            self.fault(format!("{host} has run {job} {count} times"));
        }
        done
    }

    fn count(&mut self, job: &str, row: &Value) {
        let states = row["states"].as_object().into_iter().flatten();
        let mut sum = 0;
        for (state, count) in states {
            let count = count.as_u64().unwrap_or(u64::MAX);
            *self.states.entry(state.clone()).or_default() += count;
            sum += count;
        }
        let targeted = row["targeted"].as_u64().unwrap_or(0);
        if sum != targeted || targeted == 0 {
            self.fault(format!(
                "the states of {job} add up to {sum}, {targeted} were targeted: {row}"
            ));
        }
        self.jobs += 1;
        self.targeted += targeted;
    }

    /// Each host's state against what it did.
    async fn hosts(
        &mut self,
        fleet: &Fleet,
        job: &str,
        row: &Value,
        known: bool,
        done: &BTreeMap<(String, String), usize>,
    ) -> Result<()> {
        let runs_on = |host: &str| {
            done.get(&(job.to_owned(), host.to_owned()))
                .copied()
                .unwrap_or(0)
        };
        let whole = row["states"]["succeeded"] == row["targeted"];
        if whole && row["targeted"] == fleet.agents.len() {
            for agent in fleet
                .agents
                .iter()
                .filter(|agent| runs_on(&agent.host) != 1)
            {
                self.fault(format!(
                    "{} has succeeded with {job} and run it {} times",
                    agent.host,
                    runs_on(&agent.host)
                ));
            }
            return Ok(());
        }
        let shown = fleet
            .muster
            .succeed(&["job", "show", job, "-o", "json"])
            .await?
            .json()?;
        let mut targeted = BTreeSet::new();
        for line in shown["hosts"].as_array().into_iter().flatten() {
            let host = line["host"].as_str().unwrap_or_default();
            let state = line["state"].as_str().unwrap_or_default();
            targeted.insert(host.to_owned());
            let fits = match state {
                "succeeded" => runs_on(host) == 1,
                "delivery-expired" | "unroutable" | "rejected" | "skipped" => runs_on(host) == 0,
                "interrupted" | "unknown" => runs_on(host) <= 1,
                // Nothing fails here, and nothing may be open for ever.
                _ => false,
            };
            if !fits {
                self.fault(format!(
                    "{host} is {state} with {job} and has run it {} times: {line}",
                    runs_on(host)
                ));
            }
            if !known && runs_on(host) > 0 {
                self.fault(format!("{host} has run {job}, whose run has ended with 69"));
            }
        }
        for agent in fleet
            .agents
            .iter()
            .filter(|agent| !targeted.contains(&agent.host))
        {
            if runs_on(&agent.host) > 0 {
                self.fault(format!("{} has run {job} and was not targeted", agent.host));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>20} {}", "jobs", self.jobs)?;
        writeln!(f, "{:>20} {}", "opened and abandoned", self.abandoned)?;
        writeln!(f, "{:>20} {}", "hosts targeted", self.targeted)?;
        for (state, count) in &self.states {
            writeln!(f, "{state:>20} {count}")?;
        }
        writeln!(f, "{:>20} {}", "scripts run", self.runs)?;
        write!(f, "{:>20} {}", "faults", self.faults.len())?;
        for fault in self.faults.iter().take(FAULTS_SHOWN) {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}
