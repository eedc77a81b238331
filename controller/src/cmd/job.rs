//! `muster job list|show|watch|cancel`: jobs from the ledger, whoever asked for them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;
use muster_link::stamp;
use muster_proto::action;
use muster_proto::id::{HostId, JobId};
use muster_proto::job::HostState;
use muster_proto::target::SOURCE_BYTES_MAX;
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::cmd::Run;
use crate::cmd::sitting::{Sitting, show, show_report, span, target};
use crate::context::Context;
use crate::dispatch::account::Patience;
use crate::dispatch::desk::Desk;
use crate::dispatch::order::{Order, ms};
use crate::dispatch::report::{Report, tone};
use crate::exit::{Exit, usage};
use crate::ledger::read::Found;
use crate::render::{Cell, Column, Style, Table, clean, fields, names, paint, timestamp};

/// How often a job that is watched is looked up.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `muster job list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only jobs issued since so long ago
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "1d")]
    since: Duration,
    /// Show at most so many, the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    count: usize,
    /// Only jobs with hosts of which more is expected
    #[arg(long)]
    open: bool,
}

/// Arguments of `muster job show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The job: its id, the beginning or the end of it, or `last`
    job: String,
}

/// Arguments of `muster job watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchJob {
    /// The job: its id, the beginning or the end of it, or `last`
    job: String,
    /// Longest wait
    #[arg(long, value_name = "TIME", value_parser = span)]
    wait: Option<Duration>,
}

/// Arguments of `muster job cancel`.
#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    /// The job: its id, the beginning or the end of it, or `last`
    job: String,
    /// How long to wait for the hosts' answers
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "15s")]
    wait: Duration,
}

/// A job in the list.
#[derive(Debug, Serialize)]
struct Listed {
    job: JobId,
    action: String,
    target: String,
    issuer: String,
    user: String,
    dry_run: bool,
    issued_at_ms: u64,
    closed_at_ms: Option<u64>,
    stopped_by: Option<String>,
    targeted: usize,
    states: BTreeMap<HostState, usize>,
    surprises: usize,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<Exit> {
        let mut desk = Desk::open(context).await?;
        desk.since_ms = desk.since_ms.max(ms(self.since));
        desk.catch_up().await?;
        let now_ms = stamp::now_ms();
        let rows = desk
            .ledger
            .with(|store| store.jobs(now_ms.saturating_sub(ms(self.since)), self.count))?;
        let mut listed = Vec::with_capacity(rows.len());
        for row in rows {
            let standings = desk.ledger.with(|store| store.standings(row.request.id))?;
            let report = Report::of_ledger(&row, &standings, now_ms);
            if self.open && report.tally().open() == 0 {
                continue;
            }
            listed.push(Listed {
                job: report.job,
                action: report.action,
                target: report.target,
                issuer: report.issuer.to_string(),
                user: row.user,
                dry_run: report.dry_run,
                issued_at_ms: report.issued_at_ms,
                closed_at_ms: row.closed_ms,
                stopped_by: report.stopped_by,
                targeted: report.targeted,
                states: report.states,
                surprises: report.surprises.len(),
            });
        }
        desk.close().await;
        context.show_list(&listed, |style| table(&listed, style))?;
        Ok(Exit::Ok)
    }
}

fn table(listed: &[Listed], style: &Style) -> String {
    let heads = ["JOB", "ISSUED", "BY", "ACTION"]
        .map(Column::text)
        .into_iter();
    let mut table = Table::new(heads.chain([
        Column::number("HOSTS"),
        Column::text("STATES"),
        Column::text("TARGET"),
    ]));
    for job in listed {
        let worst = job
            .states
            .keys()
            .find(|state| **state != HostState::Succeeded)
            .copied();
        let states: Vec<String> = job
            .states
            .iter()
            .rev()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        let action = if job.dry_run {
            format!("{} (dry run)", job.action)
        } else {
            job.action.clone()
        };
        table.row([
            Cell::from(job.job.to_string()),
            Cell::from(timestamp(job.issued_at_ms, &TimeZone::system())),
            Cell::from(job.issuer.as_str()),
            Cell::from(action),
            Cell::from(job.targeted.to_string()),
            Cell::toned(
                states.join(", "),
                tone(worst.unwrap_or(HostState::Succeeded)),
            ),
            Cell::from(job.target.as_str()),
        ]);
    }
    table.render(style)
}

/// The job that `text` names, once the ledger is up to date. The error ends with 1: the job is not there.
fn find(desk: &Desk<'_>, text: &str) -> Result<JobId> {
    match desk.ledger.with(|store| store.find_job(text))? {
        Found::One(job) => Ok(job),
        Found::Nothing => Err(anyhow::anyhow!(
            "there is no job {text:?} in the ledger; `muster job list --since 30d` shows older ones"
        )),
        Found::Many(some) => Err(usage(format!(
            "more than one job is called {text:?}: {}",
            names(&some, 5)
        ))),
    }
}

fn report(desk: &Desk<'_>, job: JobId) -> Result<Report> {
    let row = desk.ledger.with(|store| store.job(job))?;
    let row = row.ok_or_else(|| anyhow::anyhow!("the job {job} is not in the ledger"))?;
    let standings = desk.ledger.with(|store| store.standings(job))?;
    Ok(Report::of_ledger(&row, &standings, stamp::now_ms()))
}

impl Run for Show {
    /// Exit code 0 where the job is found, whatever came of it.
    async fn run(self, context: &Context) -> Result<Exit> {
        let desk = Desk::open(context).await?;
        desk.catch_up().await?;
        let report = report(&desk, find(&desk, &self.job)?)?;
        desk.close().await;
        if context.screen.format == crate::render::Format::Table {
            context.print(&head(&report, &context.screen.style))?;
        }
        show_report(context, &report)?;
        Ok(Exit::Ok)
    }
}

fn head(report: &Report, style: &Style) -> String {
    let zone = TimeZone::system();
    let args: Vec<String> = report
        .args
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        })
        .collect();
    let action = format!(
        "{} {}{}",
        report.action,
        args.join(" "),
        if report.dry_run { " (dry run)" } else { "" }
    );
    let pairs = [
        ("job", report.job.to_string()),
        ("action", clean(action.trim())),
        ("target", clean(&report.target)),
        ("issuer", report.issuer.to_string()),
        ("issued", timestamp(report.issued_at_ms, &zone)),
        ("deliver by", timestamp(report.deliver_by_ms, &zone)),
    ];
    format!("{}\n", fields(&pairs, style))
}

impl Run for WatchJob {
    /// Shows every host whose state changes, until none is open any more; then as the job's own command would have ended.
    async fn run(self, context: &Context) -> Result<Exit> {
        let desk = Desk::open(context).await?;
        desk.catch_up().await?;
        let job = find(&desk, &self.job)?;
        let begun = tokio::time::Instant::now();
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        let mut shown: BTreeMap<HostId, HostState> = BTreeMap::new();
        loop {
            let report = report(&desk, job)?;
            for host in report
                .hosts
                .iter()
                .filter(|host| shown.get(&host.host) != Some(&host.state))
            {
                context.show_next(host, |style| {
                    let reason = host.reason.as_ref().map_or_else(String::new, |reason| {
                        format!(": {}", clean(&reason.message))
                    });
                    format!(
                        "{}: {}{reason}\n",
                        host.host,
                        paint(host.state.name(), tone(host.state), style)
                    )
                })?;
            }
            shown = report
                .hosts
                .iter()
                .map(|host| (host.host.clone(), host.state))
                .collect();
            let over =
                report.tally().open() == 0 || self.wait.is_some_and(|wait| begun.elapsed() >= wait);
            if over {
                context.note(&report.sum_line(&Style::default()));
                desk.close().await;
                return Ok(crate::dispatch::account::exit_of(
                    &report.tally(),
                    report.stopped_by.is_some(),
                ));
            }
            tokio::select! {
                () = sleep(WATCH_EVERY) => {}
                _ = &mut interrupt => return Ok(Exit::HostSilent),
            }
            desk.catch_up().await?;
        }
    }
}

impl Run for Cancel {
    async fn run(self, context: &Context) -> Result<Exit> {
        let spec = action::find("job.cancel")
            .ok_or_else(|| anyhow::anyhow!("the action job.cancel is not in the table"))?;
        let mut sitting = Sitting::open(context, spec.effect).await?;
        let report = report(&sitting.desk, find(&sitting.desk, &self.job)?)?;
        let open = |state: HostState| state.is_open() || state == HostState::Unknown;
        let hosts: Vec<&str> = report
            .hosts
            .iter()
            .filter(|host| open(host.state))
            .map(|host| host.host.as_str())
            .collect();
        if hosts.is_empty() {
            context.note("nothing to cancel: the job has ended on all its hosts");
            sitting.close().await;
            return Ok(Exit::Ok);
        }
        // The hosts by name; where they are too many for an expression, whoever the job itself was for.
        let named = hosts.join(", ");
        let target = target(if named.len() <= SOURCE_BYTES_MAX {
            &named
        } else {
            &report.target
        })?;
        let resolved = sitting.resolve(&target, false)?;
        let run_limit = Duration::from_millis(spec.run_limit_ms);
        // A host that comes back before the job's time is over has to hear of this, too.
        let left_ms = report.deliver_by_ms.saturating_sub(stamp::now_ms());
        let order = Order {
            action: spec.name,
            args: spec.parse(&[("job".to_owned(), report.job.to_string())])?,
            target: target.source().to_owned(),
            resolved,
            dry_run: false,
            deliver_within: Duration::from_millis(left_ms)
                .max(self.wait)
                .max(Duration::from_secs(60)),
            run_limit,
            patience: Patience {
                ack: self.wait,
                run: run_limit,
                whole: Some(self.wait),
                offline: None,
            },
            rollout: None,
            cause: None,
            no_wait: false,
        };
        let done = sitting.ask(&order, false).await?;
        let exit = show(context, &done, false)?;
        sitting.close().await;
        Ok(exit)
    }
}
