//! `muster collect`: what the hosts' collectors see now.

use std::time::Duration;

use anyhow::Result;
use muster_proto::action;
use serde_json::Value;

use crate::cmd::Run;
use crate::cmd::figures::{FIGURES, Row, rows, spread};
use crate::cmd::sitting::{Sitting, preview, show_report, span, target};
use crate::cmd::units;
use crate::cmd::virtual_routers::{node_text, nodes};
use crate::cmd::virtual_servers::{director_text, directors};
use crate::context::Context;
use crate::dispatch::account::{Patience, exit_of};
use crate::dispatch::live::Done;
use crate::dispatch::order::Order;
use crate::dispatch::report::{HostReport, Report};
use crate::exit::Exit;
use crate::render::{Cell, Column, Format, Style, Table, Tone, clean};

/// Collectors with a table or a text of their own.
const HAVE_TABLES: &[&str] = &["host", "keepalived", "lvs", "processes", "services"];

/// Arguments of `muster collect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Collect {
    /// The collectors; all that a host has, if left out
    names: Vec<String>,
    #[command(flatten)]
    whom: Whom,
}

/// Which hosts' snapshots, and how long to wait for them.
#[derive(Debug, clap::Args)]
pub(crate) struct Whom {
    /// The hosts: an expression over names, labels and facts
    #[arg(short, long, value_name = "EXPRESSION", default_value = "*")]
    pub(crate) target: String,
    /// How long to wait for the answers
    #[arg(short, long, value_name = "TIME", value_parser = span, default_value = "15s")]
    pub(crate) wait: Duration,
    /// Leave out hosts that are away
    #[arg(long)]
    pub(crate) online: bool,
    /// Show the hosts that it would go to, and stop
    #[arg(long)]
    pub(crate) preview: bool,
}

impl Run for Collect {
    async fn run(self, context: &Context) -> Result<Exit> {
        let Some((mut sitting, order)) = prepare(context, &self.names, &self.whom).await? else {
            return Ok(Exit::Ok);
        };
        let done = sitting.ask(&order, false).await?;
        let report = Report::of_wait(&done.request, &done.waiting, None);
        if context.screen.format == Format::Table {
            context.show(&report, |style| text(&report, style))?;
        } else {
            show_report(context, &report)?;
        }
        sitting.close().await;
        Ok(exit(&done))
    }
}

/// Connects and finds the hosts; none where they were only to be shown.
pub(crate) async fn prepare<'a>(
    context: &'a Context,
    names: &[String],
    whom: &Whom,
) -> Result<Option<(Sitting<'a>, Order)>> {
    let spec = action::find("collect")
        .ok_or_else(|| anyhow::anyhow!("the action collect is not in the table"))?;
    let named: Vec<(String, String)> = names
        .iter()
        .map(|name| ("names".to_owned(), name.clone()))
        .collect();
    let args = spec.parse(&named)?;
    let target = target(&whom.target)?;
    let sitting = Sitting::open(context, spec.effect).await?;
    let resolved = sitting.resolve(&target, whom.online)?;
    if whom.preview {
        preview(context, &target, &resolved)?;
        sitting.close().await;
        return Ok(None);
    }
    let run_limit =
        Duration::from_millis(spec.run_limit_ms).min(whom.wait.max(Duration::from_secs(1)));
    let order = Order {
        action: spec.name,
        args,
        target: target.source().to_owned(),
        resolved,
        dry_run: false,
        deliver_within: whom.wait.max(Duration::from_secs(1)),
        run_limit,
        patience: Patience {
            ack: whom.wait,
            run: run_limit,
            whole: Some(whom.wait),
            offline: None,
        },
        rollout: None,
        cause: None,
        no_wait: false,
    };
    Ok(Some((sitting, order)))
}

pub(crate) fn exit(done: &Done) -> Exit {
    let exit = exit_of(done.waiting.account().tally(), false);
    if done.interrupted {
        exit.worst(Exit::HostSilent)
    } else {
        exit
    }
}

/// The host collector's figures as a table; whatever else came, under it.
fn text(report: &Report, style: &Style) -> String {
    let rows = rows(report);
    let mut text = String::new();
    if !rows.is_empty() {
        text.push_str(&table(&rows, style));
        text.push('\n');
    }
    for director in directors(report) {
        text.push_str(&director_text(&director, style));
        text.push('\n');
    }
    text.push_str(&units::text(report, style));
    for node in nodes(report) {
        text.push_str(&node_text(&node));
    }
    for host in &report.hosts {
        write_others(&mut text, host);
    }
    // Successes are above; what is left are those that did not answer.
    let bare = |host: &HostReport| HostReport {
        data: Value::Null,
        ..host.clone()
    };
    let rest = Report {
        hosts: report.hosts.iter().map(bare).collect(),
        ..report.clone()
    };
    text.push_str(&rest.text(style));
    text
}

/// A line for each collector that has no table of its own, and for each that failed.
fn write_others(text: &mut String, host: &HostReport) {
    let part = |name: &str| {
        host.data
            .get(name)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    let others = |collector: &str| !HAVE_TABLES.contains(&collector);
    for (collector, snapshot) in part("snapshots").filter(|(collector, _)| others(collector)) {
        text.push_str(&format!(
            "{} {}: {}\n",
            host.host,
            clean(collector),
            clean(&snapshot.to_string())
        ));
    }
    for (collector, error) in part("errors") {
        let words = error
            .as_str()
            .map_or_else(|| error.to_string(), str::to_owned);
        text.push_str(&format!(
            "{} {}: failed: {}\n",
            host.host,
            clean(collector),
            clean(&words)
        ));
    }
}

fn table(rows: &[Row], style: &Style) -> String {
    let columns = [Column::text("HOST")]
        .into_iter()
        .chain(FIGURES.iter().map(|figure| Column::number(figure.head)));
    let mut table = Table::new(columns);
    for row in rows {
        let cells = row.values.iter().zip(FIGURES).map(|(value, figure)| {
            let mut text = value.map_or_else(|| "-".to_owned(), |value| figure.unit.show(value));
            if let Some(mount) = row
                .fullest
                .as_ref()
                .filter(|_| figure.name == "filesystem_used_percent")
            {
                text = format!("{text} {}", clean(mount));
            }
            Cell::from(text)
        });
        table.row([Cell::from(row.host.as_str())].into_iter().chain(cells));
    }
    let all: Vec<&Row> = rows.iter().collect();
    if all.len() > 1 {
        for (name, pick) in [("sum", 0), ("mean", 1), ("max", 2)] {
            let cells = FIGURES.iter().enumerate().map(|(at, figure)| {
                let value = spread(&all, at).and_then(|spread| match pick {
                    0 => spread.sum,
                    1 => Some(spread.mean),
                    _ => Some(spread.max),
                });
                Cell::toned(
                    value
                        .map(|value| figure.unit.show(value))
                        .unwrap_or_default(),
                    Tone::Dim,
                )
            });
            table.row([Cell::toned(name, Tone::Dim)].into_iter().chain(cells));
        }
    }
    table.render(style)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use muster_proto::job::HostState;
    use serde_json::json;

    use super::*;

    fn host(name: &str, state: HostState, data: Value) -> HostReport {
        HostReport {
            host: name.parse().unwrap(),
            state,
            late: false,
            away: false,
            reason: None,
            data,
            round_trip_ms: None,
        }
    }

    #[test]
    fn figures_stand_in_a_table_with_sums_and_the_rest_below() {
        let snapshot = |load: f64, used: u64| {
            json!({ "snapshots": { "host": {
                "load": { "load1": load }, "memory": { "total_bytes": 4_294_967_296_u64, "available_bytes": 4_294_967_296_u64 - used },
                "filesystems": { "mounts": [{ "mount_point": "/var", "used_percent": 81.0 }] }, "uptime": { "uptime_s": 93_600.0 }
            } } })
        };
        let mut second = snapshot(2.5, 2_147_483_648);
        second
            .as_object_mut()
            .unwrap()
            .insert("errors".into(), json!({ "lvs": "no ip_vs in the kernel" }));
        let hosts = vec![
            host("lb1", HostState::Succeeded, snapshot(0.5, 1_073_741_824)),
            host("lb2", HostState::Succeeded, second),
            host("lb3", HostState::Unknown, Value::Null),
        ];
        let report = Report {
            job: "018bcfe5-6800-7000-8000-000000000000".parse().unwrap(),
            action: "collect".into(),
            args: [].into(),
            target: "*".into(),
            issuer: "op".parse().unwrap(),
            dry_run: false,
            issued_at_ms: 0,
            deliver_by_ms: 0,
            targeted: 3,
            states: [(HostState::Unknown, 1), (HostState::Succeeded, 2)].into(),
            stopped_by: None,
            hosts,
            surprises: vec![],
        };
        insta::assert_snapshot!(text(&report, &Style::default()));
    }
}
