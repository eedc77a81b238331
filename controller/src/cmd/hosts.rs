//! `muster hosts`: who there is, from the ledger and from presence.

use std::collections::BTreeMap;

use anyhow::Result;
use muster_link::stamp;
use muster_proto::id::HostId;
use muster_proto::target::Target;
use serde::Serialize;

use crate::cmd::Run;
use crate::cmd::sitting::target;
use crate::context::Context;
use crate::dispatch::desk::{Desk, known};
use crate::exit::{Exit, ending};
use crate::ledger::presence::is_there;
use crate::ledger::read::HostRow;
use crate::render::{Cell, Column, Style, Table, Tone, age, clean, duration_ms, plural};

/// A clock that is off by less than this is not worth a word: presence is told to the second or so.
const OFFSET_WORTH_MS: i64 = 3000;

/// Arguments of `muster hosts`.
#[derive(Debug, clap::Args)]
pub(crate) struct Hosts {
    /// Only these hosts: an expression over names, labels and facts
    #[arg(short, long, value_name = "EXPRESSION", default_value = "*")]
    target: String,
    /// Only hosts that are away
    #[arg(long, conflicts_with = "online")]
    away: bool,
    /// Only hosts that are there
    #[arg(long)]
    online: bool,
    /// Retired ones, too
    #[arg(long)]
    all: bool,
}

/// A host, for programs. Times are milliseconds since 1970.
#[derive(Debug, Serialize)]
struct Shown {
    host: HostId,
    /// `there`, `away` or `retired`.
    state: &'static str,
    last_seen_ms: Option<u64>,
    version: Option<String>,
    started_at_ms: Option<u64>,
    enrolled_at_ms: Option<u64>,
    /// The host's clock less ours, as far as its presence tells.
    clock_offset_ms: Option<i64>,
    outbox_records: Option<u64>,
    outbox_bytes: Option<u64>,
    outbox_dropped: Option<u64>,
    jobs_open: Option<u32>,
    failing: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    facts: BTreeMap<String, String>,
}

impl Run for Hosts {
    async fn run(self, context: &Context) -> Result<Exit> {
        let target = target(&self.target)?;
        let desk = Desk::open(context).await?;
        desk.catch_up_all().await?;
        let now_ms = stamp::now_ms();
        let rows = desk.hosts()?;
        let count = rows.iter().filter(|row| row.retired_ms.is_none()).count();
        let shown = self.shown(rows, &target, now_ms);
        desk.close().await;
        if shown.is_empty() && self.target != "*" {
            return Err(ending(
                Exit::NoHost,
                format!("no host matches {target}: {} known", plural(count, "host")),
            ));
        }
        context.show_list(&shown, |style| table(&shown, now_ms, style))?;
        Ok(Exit::Ok)
    }
}

impl Hosts {
    fn shown(&self, rows: Vec<HostRow>, target: &Target, now_ms: u64) -> Vec<Shown> {
        rows.into_iter()
            .filter(|row| row.retired_ms.is_none() || self.all)
            .filter(|row| {
                let subject = known(
                    vec![HostRow {
                        retired_ms: None,
                        ..row.clone()
                    }],
                    now_ms,
                );
                subject.first().is_some_and(|host| target.matches(host))
            })
            .map(|row| shown(row, now_ms))
            .filter(|host| {
                (!self.away || host.state == "away") && (!self.online || host.state == "there")
            })
            .collect()
    }
}

fn shown(row: HostRow, now_ms: u64) -> Shown {
    let there = row
        .presence
        .as_ref()
        .is_some_and(|(presence, seen)| is_there(presence, *seen, now_ms));
    let state = match (row.retired_ms, there) {
        (Some(_), _) => "retired",
        (None, true) => "there",
        (None, false) => "away",
    };
    let (presence, seen_ms) = row.presence.map_or((None, None), |(presence, seen)| {
        (Some(presence), Some(seen))
    });
    let start = row.at_start;
    let of = presence.as_ref();
    Shown {
        host: row.host,
        state,
        last_seen_ms: seen_ms.or(row.started_ms),
        version: of
            .map(|presence| presence.version.clone())
            .or_else(|| start.as_ref().map(|start| start.version.clone())),
        started_at_ms: of.map(|presence| presence.started_at_ms).or(row.started_ms),
        enrolled_at_ms: row.enrolled_ms,
        clock_offset_ms: of
            .zip(seen_ms)
            .map(|(presence, seen)| presence.at_ms as i64 - seen as i64),
        outbox_records: of.map(|presence| presence.outbox.records),
        outbox_bytes: of.map(|presence| presence.outbox.bytes),
        outbox_dropped: of.map(|presence| presence.outbox.dropped),
        jobs_open: of.map(|presence| presence.jobs_open),
        failing: of
            .map(|presence| presence.failing.clone())
            .unwrap_or_default(),
        labels: of
            .map(|presence| presence.labels.clone())
            .or_else(|| start.as_ref().map(|start| start.labels.clone()))
            .unwrap_or_default(),
        facts: presence
            .map(|presence| presence.facts)
            .or_else(|| start.map(|start| start.facts))
            .unwrap_or_default(),
    }
}

fn table(hosts: &[Shown], now_ms: u64, style: &Style) -> String {
    let mut table = Table::new(
        ["HOST", "STATE", "SEEN", "VERSION"]
            .map(Column::text)
            .into_iter()
            .chain([Column::number("OUTBOX"), Column::text("LABELS")]),
    );
    for host in hosts {
        let tone = match host.state {
            "there" => Tone::Good,
            "away" => Tone::Warn,
            _ => Tone::Dim,
        };
        let labels: Vec<String> = host
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        table.row([
            Cell::from(host.host.as_str()),
            Cell::toned(host.state, tone),
            Cell::from(
                host.last_seen_ms
                    .map_or_else(|| "never".to_owned(), |seen| age(now_ms, seen)),
            ),
            Cell::from(host.version.as_deref().unwrap_or("")),
            Cell::from(
                host.outbox_records
                    .map(|count| count.to_string())
                    .unwrap_or_default(),
            ),
            Cell::from(labels.join(" ")),
        ]);
    }
    let mut text = table.render(style);
    for host in hosts {
        for (collector, error) in &host.failing {
            text.push_str(&format!(
                "{}: {} fails: {}\n",
                host.host,
                clean(collector),
                clean(error)
            ));
        }
        if let Some(offset) = host
            .clock_offset_ms
            .filter(|offset| offset.abs() >= OFFSET_WORTH_MS)
        {
            let way = if offset > 0 { "ahead" } else { "behind" };
            text.push_str(&format!(
                "{}: its clock is {} {way}\n",
                host.host,
                duration_ms(offset.unsigned_abs() as f64)
            ));
        }
        if let Some(dropped) = host.outbox_dropped.filter(|dropped| *dropped > 0) {
            text.push_str(&format!(
                "{}: its outbox was full: {} dropped\n",
                host.host,
                plural(usize::try_from(dropped).unwrap_or(usize::MAX), "record")
            ));
        }
    }
    let there = hosts.iter().filter(|host| host.state == "there").count();
    text.push_str(&format!(
        "{}: {there} there, {} away\n",
        plural(hosts.len(), "host"),
        hosts.iter().filter(|host| host.state == "away").count()
    ));
    text
}
