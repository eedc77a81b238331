//! `muster ping`: who answers, and how fast.

use std::time::{Duration, Instant};

use anyhow::Result;
use muster_proto::action;
use muster_proto::id::{HostId, JobId};
use muster_proto::job::HostState;
use serde::Serialize;

use crate::cmd::Run;
use crate::cmd::sitting::{Sitting, preview, span, target};
use crate::context::Context;
use crate::dispatch::account::{Patience, exit_of};
use crate::dispatch::live::Done;
use crate::dispatch::order::Order;
use crate::dispatch::report::{Report, tone};
use crate::exit::{Exit, usage};
use crate::render::{Cell, Column, Style, Table, Tone, duration_ms, plural};
use std::collections::BTreeMap;

/// Up to so many hosts are listed one by one; of more only those that did not answer, and the sum.
const LISTED: usize = 50;

/// A clock that is off by less than this is not worth a word: much of it may be the way there.
const OFFSET_WORTH_MS: i64 = 1000;

/// Arguments of `muster ping`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ping {
    /// The hosts: an expression over names, labels and facts
    #[arg(short, long, value_name = "EXPRESSION", default_value = "*")]
    target: String,
    /// How often
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    count: u32,
    /// Pause between two rounds
    #[arg(short, long, value_name = "TIME", value_parser = span, default_value = "0s")]
    interval: Duration,
    /// How long to wait for the answers of a round
    #[arg(short, long, value_name = "TIME", value_parser = span, default_value = "5s")]
    wait: Duration,
    /// Leave out hosts that are away
    #[arg(long)]
    online: bool,
    /// Show the hosts that it would go to, and stop
    #[arg(long)]
    preview: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Pinged {
    targeted: usize,
    rounds: Vec<Round>,
    min_ms: Option<f64>,
    median_ms: Option<f64>,
    max_ms: Option<f64>,
    /// Of the last round.
    hosts: Vec<Host>,
    #[serde(skip)]
    sum_line: Report,
}

/// One round. `total_ms` is from sending to the last answer; `whole_ms` has the ledger's messages before and after, too.
#[derive(Debug, Clone, Serialize)]
struct Round {
    round: u32,
    job: JobId,
    answered: usize,
    states: BTreeMap<HostState, usize>,
    total_ms: f64,
    whole_ms: f64,
}

#[derive(Debug, Serialize)]
struct Host {
    host: HostId,
    state: HostState,
    away: bool,
    round_trip_ms: Option<f64>,
    /// The host's clock less ours; as exact as half the round trip.
    clock_offset_ms: Option<i64>,
}

impl Run for Ping {
    async fn run(self, context: &Context) -> Result<Exit> {
        if self.count == 0 || self.wait.is_zero() {
            return Err(usage("--count and --wait must be more than nothing"));
        }
        let target = target(&self.target)?;
        let spec = action::find("ping")
            .ok_or_else(|| anyhow::anyhow!("the action ping is not in the table"))?;
        let mut sitting = Sitting::open(context, spec.effect).await?;
        let resolved = sitting.resolve(&target, self.online)?;
        if self.preview {
            preview(context, &target, &resolved)?;
            sitting.close().await;
            return Ok(Exit::Ok);
        }
        let run_limit = Duration::from_millis(spec.run_limit_ms);
        let order = Order {
            action: spec.name,
            args: [].into(),
            target: target.source().to_owned(),
            resolved,
            dry_run: false,
            deliver_within: self.wait,
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
        let (mut rounds, mut exit) = (Vec::new(), Exit::Ok);
        let last = loop {
            let begun = Instant::now();
            let done = sitting.ask(&order, false).await?;
            let round = Round::of(
                u32::try_from(rounds.len())
                    .unwrap_or(u32::MAX)
                    .saturating_add(1),
                &done,
                begun.elapsed(),
            );
            if self.count > 1 {
                context.note(&round.line(done.waiting.account().targeted()));
            }
            exit = exit.worst(exit_of(done.waiting.account().tally(), false));
            rounds.push(round);
            if done.interrupted || rounds.len() >= self.count as usize {
                break done;
            }
            tokio::time::sleep(self.interval).await;
            sitting.again().await?;
        };
        let pinged = Pinged::of(rounds, &last);
        context.show(&pinged, |style| pinged.text(style))?;
        sitting.close().await;
        Ok(if last.interrupted {
            exit.worst(Exit::HostSilent)
        } else {
            exit
        })
    }
}

impl Round {
    fn of(round: u32, done: &Done, whole: Duration) -> Self {
        let tally = done.waiting.account().tally();
        Self {
            round,
            job: done.request.id,
            answered: tally.of(HostState::Succeeded),
            states: tally.iter().collect(),
            total_ms: milliseconds(done.took),
            whole_ms: milliseconds(whole),
        }
    }

    fn line(&self, targeted: usize) -> String {
        format!(
            "round {}: {} of {} answered in {}",
            self.round,
            self.answered,
            plural(targeted, "host"),
            duration_ms(self.total_ms)
        )
    }
}

impl Pinged {
    fn of(rounds: Vec<Round>, last: &Done) -> Self {
        let report = Report::of_wait(&last.request, &last.waiting, None);
        let hosts: Vec<Host> = report
            .hosts
            .iter()
            .map(|host| {
                let reply = last.waiting.replies().get(&host.host);
                let clock_offset_ms = reply.and_then(|reply| {
                    let half_ms = reply.round_trip?.as_millis() as i64 / 2;
                    Some(reply.received_at_ms as i64 - last.sent_at_ms as i64 - half_ms)
                });
                Host {
                    host: host.host.clone(),
                    state: host.state,
                    away: host.away,
                    round_trip_ms: host.round_trip_ms,
                    clock_offset_ms,
                }
            })
            .collect();
        // Over the rounds where there are some, else over the hosts.
        let mut times: Vec<f64> = match rounds.as_slice() {
            [_] => hosts.iter().filter_map(|host| host.round_trip_ms).collect(),
            rounds => rounds.iter().map(|round| round.total_ms).collect(),
        };
        times.sort_by(f64::total_cmp);
        Self {
            targeted: report.targeted,
            rounds,
            min_ms: times.first().copied(),
            median_ms: times.get(times.len() / 2).copied(),
            max_ms: times.last().copied(),
            hosts,
            sum_line: report,
        }
    }

    fn text(&self, style: &Style) -> String {
        let mut table = Table::new([
            Column::text("HOST"),
            Column::text("STATE"),
            Column::number("TIME"),
            Column::text("NOTE"),
        ]);
        let all = self.hosts.len() <= LISTED;
        let mut hosts: Vec<&Host> = self
            .hosts
            .iter()
            .filter(|host| all || host.state != HostState::Succeeded)
            .collect();
        hosts.sort_by_key(|host| host.state == HostState::Succeeded);
        for host in hosts {
            let offset = host
                .clock_offset_ms
                .filter(|offset| offset.abs() >= OFFSET_WORTH_MS);
            let note = match (offset, host.away) {
                (Some(offset), _) => {
                    let way = if offset > 0 { "ahead" } else { "behind" };
                    format!(
                        "its clock is {} {way}",
                        duration_ms(offset.unsigned_abs() as f64)
                    )
                }
                (None, true) => "away".to_owned(),
                (None, false) if host.state == HostState::Unknown => "no answer".to_owned(),
                (None, false) => String::new(),
            };
            table.row([
                Cell::from(host.host.as_str()),
                Cell::toned(host.state.name(), tone(host.state)),
                Cell::from(host.round_trip_ms.map(duration_ms).unwrap_or_default()),
                Cell::toned(note, Tone::Warn),
            ]);
        }
        let mut text = if table.is_empty() {
            String::new()
        } else {
            table.render(style)
        };
        text.push_str(&self.sum_line.sum_line(style));
        text.push('\n');
        if let (Some(min), Some(median), Some(max)) = (self.min_ms, self.median_ms, self.max_ms) {
            let what = if self.rounds.len() > 1 {
                plural(self.rounds.len(), "round")
            } else {
                "round trip".to_owned()
            };
            text.push_str(&format!(
                "{what}: min {}, median {}, max {}\n",
                duration_ms(min),
                duration_ms(median),
                duration_ms(max)
            ));
        }
        text
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
