//! What the commands that ask hosts share: options, connecting while the fleet is looked up, progress, and the outcome on
//! the screen. It must not know any command.

mod view;

use std::time::Duration;

use anyhow::Result;
use muster_link::stamp;
use muster_proto::action::Effect;
use muster_proto::id::{HostId, JobId, KeyId};
use muster_proto::job::HostState;
use muster_proto::signing::JobSigner;
use muster_proto::target::Target;
use serde::Serialize;

use crate::context::Context;
use crate::dispatch::account::exit_of;
use crate::dispatch::desk::Desk;
use crate::dispatch::live::{self, Done};
use crate::dispatch::order::Order;
use crate::dispatch::replies::Replies;
use crate::dispatch::report::Report;
use crate::dispatch::resolve::{Resolved, resolve};
use crate::exit::{Exit, ending, usage};
use crate::render::{Format, names, plural};

use self::view::View;

/// Hosts that a preview names in one line of a table; `--output json` has all.
const PREVIEW_NAMES: usize = 200;

/// A span of time on the command line: `15s`, `2m`, `1h 30m`; a bare number is seconds.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds)
            .map_err(|_| format!("{text:?} is not a span of time"));
    }
    let wrong = || format!("{text:?} is not a span of time such as 15s, 2m, 1h 30m or 7d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let span = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// The target expression in `text`.
pub(crate) fn target(text: &str) -> Result<Target> {
    Target::parse(text).map_err(|error| usage(format!("{error}\n{}", error.pointed())))
}

/// A connection on which the next job's answers are already listened for.
pub(crate) struct Sitting<'a> {
    pub(crate) desk: Desk<'a>,
    replies: Replies,
    key: (KeyId, JobSigner),
    next: JobId,
    /// Whether every host of the last job has answered.
    all_came: bool,
}

impl<'a> Sitting<'a> {
    /// Connects, and reads ledger and presence while the queue for the answers is made.
    pub(crate) async fn open(context: &'a Context, effect: Effect) -> Result<Self> {
        let key = context.config.signer()?;
        let desk = Desk::open(context).await?;
        let next = stamp::new_job_id();
        let (fleet, replies) = tokio::join!(
            desk.catch_up_all(),
            Replies::open(&desk.session, desk.issuer(), next, effect)
        );
        fleet?;
        Ok(Self {
            replies: replies?,
            desk,
            key,
            next,
            // Nobody was asked yet.
            all_came: true,
        })
    }

    /// The hosts that `target` means now.
    pub(crate) fn resolve(&self, target: &Target, online: bool) -> Result<Resolved> {
        let resolved = resolve(target, &self.desk.known()?, online)?;
        for key in &resolved.strange_keys {
            self.desk.context.note(&format!(
                "no known host has the label or fact {key:?}: is it spelt right?"
            ));
        }
        if resolved.hosts.is_empty() {
            let left_out = match resolved.left_out.len() {
                0 => String::new(),
                count => format!(
                    "; {} that would match left out by --online",
                    plural(count, "host")
                ),
            };
            let known = plural(resolved.known, "host");
            return Err(ending(
                Exit::NoHost,
                format!("no host matches {target}: {known} known{left_out}"),
            ));
        }
        Ok(resolved)
    }

    /// Carries out `order`, with a progress bar where a person looks on.
    pub(crate) async fn ask(&mut self, order: &Order, stream: bool) -> Result<Done> {
        let context = self.desk.context;
        let job = self.next;
        let mut view = View::new(context, order, stream);
        self.all_came = false;
        let done = live::run(
            &mut self.desk,
            &mut self.replies,
            job,
            order,
            &self.key,
            &mut view,
        )
        .await;
        view.end();
        let done = done?;
        let account = done.waiting.account();
        let came = |state: HostState| !state.is_open() && state != HostState::Unknown;
        self.all_came = account.hosts().all(|(_, record)| came(record.state));
        Ok(done)
    }

    /// Ends it in good order.
    pub(crate) async fn close(self) {
        let (replies, session) = (self.replies, &self.desk.session);
        replies.close(session, self.next, self.all_came).await;
        self.desk.close().await;
    }

    /// Has the next job's answers listened for, in place of the last one's.
    pub(crate) async fn again(&mut self) -> Result<()> {
        let last = self.next;
        self.next = stamp::new_job_id();
        let session = &self.desk.session;
        let (added, removed) = tokio::join!(
            self.replies.add(session, self.next),
            self.replies.remove(session, last)
        );
        added?;
        removed?;
        Ok(())
    }
}

/// Shows the hosts that a job would go to.
pub(crate) fn preview(context: &Context, target: &Target, resolved: &Resolved) -> Result<()> {
    #[derive(Serialize)]
    struct Preview<'a> {
        target: &'a str,
        targeted: usize,
        hosts: Vec<PreviewHost<'a>>,
        left_out: Vec<&'a HostId>,
    }
    #[derive(Serialize)]
    struct PreviewHost<'a> {
        host: &'a HostId,
        away: bool,
        known: bool,
    }
    let host = |host| PreviewHost {
        host,
        away: resolved.away.contains(host),
        known: !resolved.strangers.contains(host),
    };
    let shown = Preview {
        target: target.source(),
        targeted: resolved.hosts.len(),
        hosts: resolved.hosts.iter().map(host).collect(),
        left_out: resolved.left_out.iter().collect(),
    };
    context.show(&shown, |_| {
        let mut text = String::new();
        let there: Vec<&HostId> = resolved
            .present()
            .filter(|host| !resolved.strangers.contains(*host))
            .collect();
        let groups = [
            ("there", there),
            ("away", resolved.away.iter().collect()),
            ("not known", resolved.strangers.iter().collect()),
            ("left out, being away", resolved.left_out.iter().collect()),
        ];
        for (what, hosts) in groups.into_iter().filter(|(_, hosts)| !hosts.is_empty()) {
            text.push_str(&format!("{what}: {}\n", names(&hosts, PREVIEW_NAMES)));
        }
        text.push_str(&format!(
            "{} targeted\n",
            plural(resolved.hosts.len(), "host")
        ));
        text
    })
}

/// Shows a job's outcome, and gives the exit code.
pub(crate) fn show(context: &Context, done: &Done, no_wait: bool) -> Result<Exit> {
    let report = Report::of_wait(&done.request, &done.waiting, done.stopped_by.as_deref());
    show_report(context, &report)?;
    let id = done.request.id;
    let exit = exit_of(done.waiting.account().tally(), done.stopped_by.is_some());
    if no_wait {
        context.note(&format!(
            "the broker has the job; see `muster job watch {id}`"
        ));
        let sent = done
            .waiting
            .account()
            .hosts()
            .all(|(_, record)| record.state.is_open());
        return Ok(if sent {
            Exit::Ok
        } else {
            exit.worst(Exit::HostSilent)
        });
    }
    if done.interrupted {
        context.note(&format!(
            "the job goes on where it runs; see `muster job show {id}` or `muster job watch {id}`"
        ));
        return Ok(exit.worst(Exit::HostSilent));
    }
    if report.is_beside_the_point() {
        context.note(
            "none of the hosts has what the job is about: is it spelt right, and is the target?",
        );
        return Ok(exit.worst(Exit::NoHost));
    }
    if exit == Exit::HostSilent {
        context.note(&format!("late answers still count: `muster job show {id}`"));
    }
    Ok(exit)
}

/// Shows a job's outcome: text, one document, or a line for each host and one for the sum.
pub(crate) fn show_report(context: &Context, report: &Report) -> Result<()> {
    match context.screen.format {
        Format::Ndjson => context.show_list(&report.lines(), |_| String::new()),
        _ => context.show(report, |style| report.text(style)),
    }
}
