//! A job's outcome for people and programs: pure. The unusual comes first, hosts that said the same are said once, and the
//! last line's numbers add up to the number targeted.

mod rows;
mod text;

use std::collections::BTreeMap;

use muster_proto::action::NOT_HERE;
use muster_proto::id::{HostId, JobId, KeyId};
use muster_proto::job::{Args, HostState, JobRequest, Tally};
use serde::Serialize;
use serde_json::Value;

use super::account::Waiting;
use crate::ledger::fold::NO_QUEUE;
use crate::ledger::read::JobRow;
use crate::ledger::standing::Standing;
use crate::render::{Style, Tone, clean, fold, paint, plural};

use self::text::Said;

/// A job's outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The job.
    pub job: JobId,
    /// The action.
    pub action: String,
    /// Its arguments.
    pub args: Args,
    /// The target expression.
    pub target: String,
    /// Who asked.
    pub issuer: KeyId,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// When it was made, in milliseconds since 1970.
    pub issued_at_ms: u64,
    /// A host that gets it later does not start it.
    pub deliver_by_ms: u64,
    /// Number of hosts targeted.
    pub targeted: usize,
    /// Number of hosts in each state; they add up to `targeted`.
    pub states: BTreeMap<HostState, usize>,
    /// The rule that stopped its rollout.
    pub stopped_by: Option<String>,
    /// Every targeted host, by name.
    pub hosts: Vec<HostReport>,
    /// Hosts that answered without being targeted.
    pub surprises: Vec<HostReport>,
}

/// One host in a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostReport {
    /// The host.
    pub host: HostId,
    /// Where it stands; none for a surprise that the controller knows nothing of but its answer.
    pub state: HostState,
    /// Whether its end became known only after the wait was over.
    pub late: bool,
    /// Whether it was away when the job was opened.
    pub away: bool,
    /// Why, where it did not succeed.
    pub reason: Option<ReasonReport>,
    /// What it answered.
    pub data: Value,
    /// From sending to the answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
}

/// Why a job did not succeed on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReasonReport {
    /// The code, for programs.
    pub code: String,
    /// The sentence, for people.
    pub message: String,
}

impl Report {
    /// The outcome of a job that was waited for.
    #[must_use]
    pub fn of_wait(request: &JobRequest, waiting: &Waiting, stopped_by: Option<&str>) -> Self {
        let account = waiting.account();
        let line = |host: &HostId, state: HostState, late: bool| {
            let reply = waiting.replies().get(host);
            let said = reply.and_then(|reply| reply.reason.as_ref());
            let reason = said
                .cloned()
                .map(|(code, message)| ReasonReport { code, message });
            HostReport {
                host: host.clone(),
                state,
                late,
                away: waiting.was_away(host),
                reason: reason.or_else(|| assumed(state, waiting.was_away(host), stopped_by)),
                data: reply.map_or(Value::Null, |reply| reply.data.clone()),
                round_trip_ms: reply
                    .and_then(|reply| reply.round_trip)
                    .map(|time| (time.as_secs_f64() * 1e6).round() / 1e3),
            }
        };
        let hosts = account
            .hosts()
            .map(|(host, record)| line(host, record.state, record.late))
            .collect();
        let surprises = account
            .surprises()
            .iter()
            .map(|host| line(host, waiting.surprise_state(host), false))
            .collect();
        Self::new(request, stopped_by, hosts, surprises)
    }

    /// The outcome of a job as the ledger has it at `now_ms`.
    #[must_use]
    pub fn of_ledger(row: &JobRow, standings: &BTreeMap<HostId, Standing>, now_ms: u64) -> Self {
        let (mut hosts, mut surprises) = (Vec::new(), Vec::new());
        for (host, standing) in standings {
            let state = standing.shown(row.times(), now_ms);
            let said = standing.reason.clone().filter(|_| state == standing.state);
            let reason = said.map(|(code, message)| ReasonReport { code, message });
            let line = HostReport {
                host: host.clone(),
                state,
                late: standing.late,
                away: standing.away,
                reason: reason.or_else(|| assumed(state, standing.away, row.stopped_by.as_deref())),
                data: data_of(standing),
                round_trip_ms: None,
            };
            if standing.targeted {
                hosts.push(line)
            } else {
                surprises.push(line)
            }
        }
        Self::new(&row.request, row.stopped_by.as_deref(), hosts, surprises)
    }

    fn new(
        request: &JobRequest,
        stopped_by: Option<&str>,
        hosts: Vec<HostReport>,
        surprises: Vec<HostReport>,
    ) -> Self {
        let tally: Tally = hosts.iter().map(|host| host.state).collect();
        Self {
            job: request.id,
            action: request.action.clone(),
            args: request.args.clone(),
            target: request.target.clone(),
            issuer: request.issuer.clone(),
            dry_run: request.dry_run,
            issued_at_ms: request.issued_at_ms,
            deliver_by_ms: request.deliver_by_ms,
            targeted: tally.total(),
            states: tally.iter().collect(),
            stopped_by: stopped_by.map(str::to_owned),
            hosts,
            surprises,
        }
    }

    /// Numbers of the states.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.hosts.iter().map(|host| host.state).collect()
    }

    /// Whether every host succeeded because it has nothing of what the job is about: then the job has missed its aim.
    #[must_use]
    pub fn is_beside_the_point(&self) -> bool {
        let not_here = |host: &HostReport| {
            host.state == HostState::Succeeded
                && host.data.get(NOT_HERE) == Some(&Value::Bool(true))
        };
        !self.hosts.is_empty() && self.hosts.iter().all(not_here)
    }

    /// The line whose numbers add up: `3 hosts targeted: 2 succeeded, 1 unknown`.
    #[must_use]
    pub fn sum_line(&self, style: &Style) -> String {
        let mut parts: Vec<String> = Vec::new();
        for (state, count) in self.states.iter().rev() {
            let away = self
                .hosts
                .iter()
                .filter(|host| host.state == *state && host.away && state.is_open())
                .count();
            let late = self
                .hosts
                .iter()
                .filter(|host| host.state == *state && host.late)
                .count();
            let mut part = format!("{count} {state}");
            match (away, late) {
                (0, 0) => {}
                (0, late) => part.push_str(&format!(" ({late} late)")),
                (away, _) => part.push_str(&format!(" ({away} away)")),
            }
            parts.push(paint(&part, tone(*state), style));
        }
        let mut line = format!(
            "{} targeted: {}",
            plural(self.targeted, "host"),
            parts.join(", ")
        );
        if !self.surprises.is_empty() {
            let surprises = plural(self.surprises.len(), "host");
            line.push_str(&format!("; {surprises} answered without being targeted"));
        }
        line
    }

    /// For programs that read lines: one object for each host, and a last one with the sum.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let of = |host: &HostReport, targeted: bool| {
            let mut line = serde_json::to_value(host).unwrap_or_default();
            if let Some(fields) = line.as_object_mut() {
                fields.insert("job".to_owned(), Value::from(self.job.to_string()));
                fields.insert("targeted".to_owned(), Value::from(targeted));
            }
            line
        };
        let hosts = self.hosts.iter().map(|host| of(host, true));
        let surprises = self.surprises.iter().map(|host| of(host, false));
        let mut sum = serde_json::to_value(Self {
            hosts: Vec::new(),
            surprises: Vec::new(),
            ..self.clone()
        })
        .unwrap_or_default();
        if let Some(fields) = sum.as_object_mut() {
            fields.retain(|name, _| name != "hosts" && name != "surprises");
        }
        hosts.chain(surprises).chain([sum]).collect()
    }

    /// For people: what is unusual, then the rest, each group of equal replies once, then the sum.
    #[must_use]
    pub fn text(&self, style: &Style) -> String {
        let mut text = String::new();
        let mut groups = fold(self.hosts.iter().map(|host| (&host.host, Said::of(host))));
        groups.sort_by_key(|group| {
            (
                group.value.state == HostState::Succeeded,
                group.value.state,
                group.members.len(),
            )
        });
        for group in groups {
            group.value.write(&mut text, &group.members, style);
        }
        for surprise in &self.surprises {
            let head = format!("{}: {} (was not targeted)", surprise.host, surprise.state);
            text.push_str(&format!("{}\n", paint(&head, Tone::Warn, style)));
        }
        if let Some(rule) = &self.stopped_by {
            text.push_str(&format!(
                "{}\n",
                paint(
                    &format!("stopped by the rule {}", clean(rule)),
                    Tone::Bad,
                    style
                )
            ));
        }
        text.push_str(&self.sum_line(style));
        text.push('\n');
        text
    }
}

fn data_of(standing: &Standing) -> Value {
    let Some(answer) = &standing.answer else {
        return Value::Null;
    };
    if answer.data.is_empty() && answer.data_bytes > 0 {
        return Value::from(format!(
            "({} bytes, too large for the cache)",
            answer.data_bytes
        ));
    }
    serde_json::from_str(&answer.data).unwrap_or(Value::Null)
}

/// What is said where no host has given a reason.
fn assumed(state: HostState, away: bool, stopped_by: Option<&str>) -> Option<ReasonReport> {
    let (code, message) = match state {
        HostState::Unroutable => ("no-queue", NO_QUEUE.to_owned()),
        HostState::Unknown => (
            "silent",
            "no answer within the wait; a late one still counts, see `muster job show`".to_owned(),
        ),
        HostState::DeliveryExpired => (
            "expired",
            "its time was over before the host took it".to_owned(),
        ),
        HostState::Skipped if away => (
            "away",
            "it was away, and a rollout does not wait".to_owned(),
        ),
        HostState::Skipped => (
            "skipped",
            stopped_by
                .unwrap_or("the rollout ended without it")
                .to_owned(),
        ),
        HostState::Pending if away => (
            "away",
            "it was away and may still take the job when it is back".to_owned(),
        ),
        _ => return None,
    };
    Some(ReasonReport {
        code: code.to_owned(),
        message,
    })
}

/// The colour of a state.
#[must_use]
pub const fn tone(state: HostState) -> Tone {
    match state {
        HostState::Succeeded => Tone::Good,
        HostState::Held | HostState::Pending | HostState::Acked | HostState::Running => Tone::Dim,
        HostState::Skipped
        | HostState::DeliveryExpired
        | HostState::Unroutable
        | HostState::Cancelled => Tone::Warn,
        _ => Tone::Bad,
    }
}

#[cfg(test)]
mod tests;
