//! `muster stats`: the fleet's figures, over all hosts or by a label. Asks the hosts for a snapshot now; with `--watch` it
//! goes on with those that they publish.

mod live;
mod tables;
mod views;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use muster_link::stamp;
use muster_proto::id::HostId;
use muster_proto::snapshot::fields::{self, DECLARED, Series};
use muster_proto::target::Subject;

use self::live::Live;
use self::views::HAVE_VIEWS;
use crate::cmd::Run;
use crate::cmd::collect::{Whom, exit, prepare};
use crate::cmd::span;
use crate::context::Context;
use crate::dispatch::report::Report;
use crate::dispatch::resolve::Known;
use crate::exit::{Exit, usage};
use crate::render::{Format, Style};
use crate::series::{By, is_label, is_named};

/// Arguments of `muster stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    /// The collector. `host`, `keepalived` (the master of each virtual router), `lvs` (each virtual server over all its
    /// directors) and `services` (each unit over all its hosts) have a view of their own; every other shows its figures
    #[arg(default_value = "host", value_parser = collectors())]
    collector: String,
    /// Show these figures, as --list names them: `interface.rx_bytes`, `interface` for all of an interface, `cpu.*`
    #[arg(value_name = "FIGURE")]
    figures: Vec<String>,
    /// Aggregate for each value of this label or fact of hosts (`host`: for each host), or of this label of the figures
    /// (`interface`, `virtual_server` …)
    #[arg(long, value_name = "LABEL")]
    by: Option<String>,
    /// Stay, and show what the hosts publish
    #[arg(short = 'f', long)]
    watch: bool,
    /// With --watch, how often to show it
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "2s")]
    every: Duration,
    /// Name the collector's figures: their units, what they are, and how they are put together
    #[arg(long, conflicts_with_all = ["watch", "by"])]
    list: bool,
    #[command(flatten)]
    whom: Whom,
}

/// What is shown at a time.
struct Screenful<'a> {
    context: &'a Context,
    report: &'a Report,
    by: Option<&'a str>,
    /// The label's value at each host that has it.
    values: &'a BTreeMap<HostId, String>,
    /// While it is watched, how many hosts have told of it.
    watched: Option<String>,
}

impl Run for Stats {
    async fn run(self, context: &Context) -> Result<Exit> {
        let series = self.series()?;
        if self.list {
            tables::show_list(context, &series)?;
            return Ok(Exit::Ok);
        }
        let names = [self.collector.clone()];
        let Some((mut sitting, order)) = prepare(context, &names, &self.whom).await? else {
            return Ok(Exit::Ok);
        };
        let values = self.values(&sitting.desk.known()?)?;
        // Before the hosts are asked, so that nothing is missed in between.
        let mut live = match self.watch {
            true => Some(Live::listen(&sitting.desk, &self.collector).await?),
            false => None,
        };
        let done = sitting.ask(&order, false).await?;
        let mut report = Report::of_wait(&done.request, &done.waiting, None);
        let outcome = match &mut live {
            None => self.show(context, &report, &values, &series, None),
            Some(live) => {
                self.watch(context, live, &mut report, &values, &series)
                    .await
            }
        };
        sitting.close().await;
        outcome?;
        Ok(if self.watch { Exit::Ok } else { exit(&done) })
    }
}

impl Stats {
    /// Shows it again and again, until the user or the broker ends it.
    async fn watch(
        &self,
        context: &Context,
        live: &mut Live,
        report: &mut Report,
        values: &BTreeMap<HostId, String>,
        series: &[Series],
    ) -> Result<()> {
        let is_screen = context.screen.format == Format::Table && context.screen.stdout_is_terminal;
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            if is_screen {
                // Home, and everything after it away: what comes is one screenful.
                context.print("\u{1b}[H\u{1b}[2J")?;
            }
            let told = live.told(report, stamp::now_ms());
            self.show(context, report, values, series, Some(told))?;
            tokio::select! {
                news = live.gather(report, self.every, is_screen) => news?,
                _ = &mut interrupt => return Ok(()),
            }
        }
    }

    fn show(
        &self,
        context: &Context,
        report: &Report,
        values: &BTreeMap<HostId, String>,
        series: &[Series],
        watched: Option<String>,
    ) -> Result<()> {
        let screenful = Screenful {
            context,
            report,
            by: self.by.as_deref(),
            values,
            watched,
        };
        let by = self.by();
        let has_view = HAVE_VIEWS.contains(&self.collector.as_str());
        if has_view && self.figures.is_empty() && !matches!(by, By::Label(_)) {
            screenful.show_view(&self.collector)
        } else {
            screenful.show_figures(&self.collector, by, series)
        }
    }

    fn by(&self) -> By<'_> {
        match self.by.as_deref() {
            None => By::All,
            Some(label) if is_label(&self.collector, label) => By::Label(label),
            Some(_) => By::Host,
        }
    }

    /// The figures that are asked for; all where none is named.
    fn series(&self) -> Result<Vec<Series>> {
        let all = || fields::of(&self.collector);
        let stranger = self
            .figures
            .iter()
            .find(|pattern| !all().any(|series| is_named(series, pattern)));
        if let Some(pattern) = stranger {
            let collector = &self.collector;
            return Err(usage(format!(
                "{collector} has no figure {pattern:?}; `muster stats {collector} --list` names them"
            )));
        }
        let wanted = |series: &Series| {
            let mut patterns = self.figures.iter();
            self.figures.is_empty() || patterns.any(|pattern| is_named(*series, pattern))
        };
        Ok(all().filter(wanted).collect())
    }

    /// The label's value at each host that has it.
    fn values(&self, known: &[Known]) -> Result<BTreeMap<HostId, String>> {
        let (Some(label), By::Host) = (&self.by, self.by()) else {
            return Ok(BTreeMap::new());
        };
        let value = |host: &Known| match label.as_str() {
            "host" => Some(host.host.to_string()),
            label => host.value(label).map(std::borrow::Cow::into_owned),
        };
        let values: BTreeMap<HostId, String> = known
            .iter()
            .filter_map(|host| Some((host.host.clone(), value(host)?)))
            .collect();
        if values.is_empty() {
            return Err(usage(format!(
                "--by {label}: no known host has that label or fact, and no figure of {} that label",
                self.collector
            )));
        }
        Ok(values)
    }
}

impl Screenful<'_> {
    /// The last line.
    fn foot(&self, style: &Style) -> String {
        match &self.watched {
            Some(told) => format!("{told}\n"),
            None => format!("{}\n", self.report.sum_line(style)),
        }
    }
}

fn collectors() -> PossibleValuesParser {
    PossibleValuesParser::new(DECLARED.iter().map(|declared| declared.collector))
}
