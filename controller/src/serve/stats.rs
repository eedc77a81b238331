//! What the gathered figures come to, for programs: `/v1/stats` over hosts and labels, `/v1/series` one by one with their
//! short history.

use muster_link::stamp;
use muster_proto::id::HostId;
use muster_proto::snapshot::fields::{self, Series};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::fleet::{Fleet, HostState};
use super::http::Shown;
use crate::series::{By, Group, Item, Totals, is_made_of_others};

/// Series in one answer at the most.
const ANSWER_MAX: usize = 10_000;

/// What `/v1/stats` and `/v1/series` may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// The collector.
    collector: String,
    /// The series: its name, or the beginning of several before a `*`. All where it is left out.
    #[serde(default)]
    name: Option<String>,
    /// By what figures are put together: `host`, a label or fact of hosts, a label of series.
    #[serde(default)]
    by: Option<String>,
    /// Only this host.
    #[serde(default)]
    host: Option<String>,
}

/// One series and its points.
#[derive(Debug, Serialize)]
struct Past {
    host: HostId,
    name: String,
    labels: Map<String, Value>,
    /// Of a counter, the points are its growth per second.
    per_s: bool,
    /// Milliseconds since 1970 by the host's clock, and the figure; the oldest first.
    points: Vec<(u64, f64)>,
}

impl Question {
    /// The series that are asked for.
    fn series(&self) -> Result<Vec<Series>, String> {
        if fields::of(&self.collector).next().is_none() {
            return Err(format!(
                "no collector {:?} declares figures",
                self.collector
            ));
        }
        let wanted = |series: &Series| match &self.name {
            None => true,
            Some(name) => crate::series::is_named(*series, name),
        };
        let found: Vec<Series> = fields::of(&self.collector).filter(wanted).collect();
        match (&self.name, found.is_empty()) {
            (Some(name), true) => Err(format!("{} has no series {name:?}", self.collector)),
            _ => Ok(found),
        }
    }

    fn is_about(&self, host: &HostId) -> bool {
        self.host
            .as_deref()
            .is_none_or(|wanted| wanted == host.as_str())
    }
}

/// The groups that are asked for.
///
/// # Errors
/// What is asked for that there is not.
pub(crate) fn groups(shown: &Shown, question: &Question) -> Result<Vec<Group>, String> {
    let series = question.series()?;
    let by = match question.by.as_deref() {
        None => By::All,
        Some(label) if crate::series::is_label(&question.collector, label) => By::Label(label),
        Some(_) => By::Host,
    };
    let now_ms = stamp::now_ms();
    let fleet = shown
        .fleet
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let gathered = shown.series.lock();
    let mut totals = Totals::default();
    for series in series {
        for figure in gathered.store.newest(series, now_ms) {
            if is_gone(&fleet, figure.host) || !question.is_about(figure.host) {
                continue;
            }
            let mut labels = figure.labels.iter().map(|(name, value)| (*name, &**value));
            let group = match by {
                By::All => None,
                By::Host => of_host(
                    &fleet,
                    figure.host,
                    question.by.as_deref().unwrap_or_default(),
                ),
                By::Label(wanted) => match labels.clone().find(|(name, _)| *name == wanted) {
                    Some((_, value)) => Some(value.to_owned()),
                    None => continue,
                },
            };
            if !is_made_of_others(&mut labels, by) {
                let item = Item {
                    series,
                    reading: figure.reading,
                    per_s: figure.per_s,
                };
                totals.add(figure.host.as_str(), group, &item);
            }
        }
    }
    Ok(totals.groups())
}

/// The series that are asked for, with their points, up to a bound.
///
/// # Errors
/// What is asked for that there is not.
pub(crate) fn history(shown: &Shown, question: &Question) -> Result<Value, String> {
    let gathered = shown.series.lock();
    let mut found = Vec::new();
    let mut left_out = 0_usize;
    for series in question.series()? {
        for (host, labels, points) in gathered.store.history(series) {
            if !question.is_about(host) {
                continue;
            }
            if found.len() >= ANSWER_MAX {
                left_out += 1;
                continue;
            }
            let labels = labels.iter();
            found.push(Past {
                host: host.clone(),
                name: series.name(),
                labels: labels
                    .map(|(name, value)| ((*name).to_owned(), Value::from(&**value)))
                    .collect(),
                per_s: series.field.kind == fields::Kind::Counter,
                points,
            });
        }
    }
    Ok(json!({ "series": found, "left_out": left_out }))
}

/// Whether a host's figures are no longer to be shown: it is lost, or said goodbye.
pub(crate) fn is_gone(fleet: &Fleet, host: &HostId) -> bool {
    let state = fleet.hosts().get(host).map(|host| host.state);
    matches!(state, Some(HostState::Lost | HostState::Stopped))
}

/// What is known of a host by this name.
fn of_host(fleet: &Fleet, host: &HostId, label: &str) -> Option<String> {
    if label == "host" {
        return Some(host.to_string());
    }
    let presence = &fleet.hosts().get(host)?.presence;
    let labels = presence.labels.get(label);
    labels.or_else(|| presence.facts.get(label)).cloned()
}
