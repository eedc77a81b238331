//! The rules of reactions, as the config holds them: `[[reaction]]`, `[reactions]` and `[[maintenance]]`. From text to
//! checked values, with the place of what is wrong. It must not know how a reaction is carried out.

mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use lettre::message::Mailbox;
use muster_proto::action::{self, ActionSpec};
use muster_proto::target::Target;
use serde::Deserialize;
use toml::Spanned;

use self::values::{budget, patterns};
pub(crate) use self::values::{expression, time};
use super::mail::{MailAction, RawMailAction, mailbox};
use super::maintenance::{Maintenance, RawMaintenance};
use super::text::Template;
use crate::dispatch::order::ms;

/// Longest wait of `for`, `window` and `interval`: what waits is found again in the history by whoever takes over.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Longest span of a budget; the history is read back so far.
const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is wrong in the config, and at which byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The byte.
    pub(crate) at: usize,
    /// What is wrong there and what would be right.
    pub(crate) why: String,
}

impl Fault {
    pub(crate) fn new(at: usize, why: impl Into<String>) -> Self {
        Self {
            at,
            why: why.into(),
        }
    }
}

/// `[[reaction]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReaction {
    name: Spanned<String>,
    on: Spanned<Vec<Spanned<String>>>,
    when: Option<Spanned<String>>,
    #[serde(rename = "for")]
    hold: Option<Spanned<String>>,
    #[serde(default)]
    until: Vec<Spanned<String>>,
    #[serde(default)]
    group_by: Vec<String>,
    window: Option<Spanned<String>>,
    interval: Option<Spanned<String>>,
    max_age: Option<Spanned<String>>,
    budget: Option<Spanned<String>>,
    #[serde(default)]
    dry_run: bool,
    mail: Option<Spanned<RawMailAction>>,
    #[serde(default)]
    webhook: Vec<Spanned<String>>,
    job: Option<Spanned<RawJob>>,
}

/// The job of a reaction as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJob {
    action: Spanned<String>,
    #[serde(default)]
    args: BTreeMap<String, Spanned<toml::Value>>,
    target: Option<Spanned<String>>,
    deliver_within: Option<Spanned<String>>,
    run_limit: Option<Spanned<String>>,
    #[serde(default)]
    dry_run: bool,
}

/// `[reactions]` as it is written: what holds for all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawReactions {
    budget: Option<Spanned<String>>,
    host_budget: Option<Spanned<String>>,
    depth_max: Option<u32>,
    loop_window: Option<Spanned<String>>,
    breaker_after: Option<usize>,
    breaker_within: Option<Spanned<String>>,
    breaker_pause: Option<Spanned<String>>,
    #[serde(default)]
    tell: Vec<Spanned<String>>,
    #[serde(default)]
    tell_webhook: Vec<Spanned<String>>,
    #[serde(default)]
    dry_run: bool,
}

impl RawReaction {
    /// The webhooks that it names.
    pub(crate) fn webhook_names(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.webhook.iter()
    }

    /// Where its mail stands.
    pub(crate) fn mail_at(&self) -> Option<usize> {
        self.mail.as_ref().map(|mail| mail.span().start)
    }
}

impl RawReactions {
    /// The webhooks that it names.
    pub(crate) fn webhook_names(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.tell_webhook.iter()
    }

    /// Where the first one stands who is told by mail.
    pub(crate) fn tell_at(&self) -> Option<usize> {
        self.tell.first().map(|one| one.span().start)
    }

    /// Who is told by mail.
    pub(crate) fn tell(&self) -> Result<Vec<Mailbox>, Fault> {
        self.tell.iter().cloned().map(mailbox).collect()
    }
}

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// How many.
    pub(crate) count: usize,
    /// In how many milliseconds.
    pub(crate) span_ms: u64,
}

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Its name.
    pub(crate) name: String,
    /// Patterns of the topics that it reacts to.
    pub(crate) on: Vec<String>,
    /// What must hold for the event.
    pub(crate) when: Option<Target>,
    /// How long no event of `until` may come, in milliseconds.
    pub(crate) hold_ms: u64,
    /// Patterns of the topics that undo the event within that time: same host, same key.
    pub(crate) until: Vec<String>,
    /// Events with the same values of these fields belong together.
    pub(crate) group_by: Vec<String>,
    /// How long the first event of a group waits for others, in milliseconds.
    pub(crate) window_ms: u64,
    /// Least time between two firings for the same group, in milliseconds; what comes meanwhile is gathered.
    pub(crate) interval_ms: u64,
    /// An event that is older than this is not reacted to any more, in milliseconds.
    pub(crate) max_age_ms: u64,
    /// How often it may fire.
    pub(crate) budget: Budget,
    /// Whether it only tells what it would do.
    pub(crate) dry_run: bool,
    /// The mail that it sends.
    pub(crate) mail: Option<MailAction>,
    /// Names of the webhooks that it calls.
    pub(crate) webhooks: Vec<String>,
    /// The job that it has done.
    pub(crate) job: Option<JobAction>,
}

/// The job of a rule.
#[derive(Debug)]
pub(crate) struct JobAction {
    /// The action.
    pub(crate) action: &'static ActionSpec,
    /// Its arguments; texts are templates.
    pub(crate) args: Vec<(String, Template)>,
    /// Which hosts, as a template of a target expression; the events' own hosts if none.
    pub(crate) target: Option<Template>,
    /// How long hosts may take to get it.
    pub(crate) deliver_within: Duration,
    /// How long it may run.
    pub(crate) run_limit: Duration,
    /// Whether the hosts only say what they would do.
    pub(crate) dry_run: bool,
}

/// All rules and what holds for all of them.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The rules.
    pub(crate) rules: Vec<Rule>,
    /// How often all of them together may fire.
    pub(crate) budget: Budget,
    /// How often they may fire for one host.
    pub(crate) host_budget: Budget,
    /// How many reactions a chain of causes may have.
    pub(crate) depth_max: u32,
    /// For how long after a job an event of the same host and key is taken to be caused by it, in milliseconds.
    pub(crate) loop_window_ms: u64,
    /// After how many bad ends a rule's breaker opens.
    pub(crate) breaker_after: usize,
    /// Within how many milliseconds.
    pub(crate) breaker_within_ms: u64,
    /// For how many milliseconds.
    pub(crate) breaker_pause_ms: u64,
    /// The webhooks that are told of a breaker.
    pub(crate) tell_webhook: Vec<String>,
    /// Times in which nothing is done.
    pub(crate) maintenance: Vec<Maintenance>,
}

impl Rule {
    /// The names of what it does: `mail`, `webhook:<name>`, `job`.
    pub(crate) fn actions(&self) -> Vec<String> {
        let mail = self.mail.iter().map(|_| "mail".to_owned());
        let webhooks = self.webhooks.iter().map(|name| format!("webhook:{name}"));
        let job = self.job.iter().map(|_| "job".to_owned());
        mail.chain(webhooks).chain(job).collect()
    }
}

impl Rules {
    /// Checks what is written.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub(crate) fn parse(
        general: RawReactions,
        raw: Vec<RawReaction>,
        maintenance: Vec<Spanned<RawMaintenance>>,
    ) -> Result<Self, Fault> {
        let mut rules: Vec<Rule> = Vec::new();
        for raw in raw {
            let at = raw.name.span().start;
            let rule = rule(raw, general.dry_run)?;
            if rules.iter().any(|known| known.name == rule.name) {
                return Err(Fault::new(
                    at,
                    format!("there is another reaction named {:?}", rule.name),
                ));
            }
            rules.push(rule);
        }
        let maintenance = maintenance
            .into_iter()
            .map(Maintenance::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            rules,
            budget: budget(general.budget, (600, 3600))?,
            host_budget: budget(general.host_budget, (60, 3600))?,
            depth_max: general.depth_max.unwrap_or(3),
            loop_window_ms: time(general.loop_window, Duration::from_secs(300), WAIT_MAX)?,
            breaker_after: general.breaker_after.unwrap_or(5).max(1),
            breaker_within_ms: time(general.breaker_within, Duration::from_secs(600), SPAN_MAX)?,
            breaker_pause_ms: time(general.breaker_pause, Duration::from_secs(1800), SPAN_MAX)?,
            tell_webhook: general
                .tell_webhook
                .into_iter()
                .map(Spanned::into_inner)
                .collect(),
            maintenance,
        })
    }

    /// How far back the history must be read for what has fired, in milliseconds.
    pub(crate) fn memory_ms(&self) -> u64 {
        // An event that is young enough to be acted upon must be known where it was.
        let rules = self.rules.iter().map(|rule| {
            let wait_ms = rule.hold_ms + rule.window_ms + rule.interval_ms;
            let known_ms = rule.max_age_ms.saturating_add(2 * wait_ms);
            rule.budget.span_ms.max(known_ms)
        });
        rules
            .chain([
                self.budget.span_ms,
                self.host_budget.span_ms,
                self.loop_window_ms,
                self.breaker_within_ms + self.breaker_pause_ms,
                2 * ms(WAIT_MAX),
            ])
            .max()
            .unwrap_or(0)
    }

    /// The patterns of all topics that the rules want.
    pub(crate) fn patterns(&self) -> Vec<String> {
        let wanted = self
            .rules
            .iter()
            .flat_map(|it| it.on.iter().chain(&it.until));
        wanted.cloned().collect()
    }

    /// How long an event may wait before something is done, in milliseconds.
    pub(crate) fn wait_ms(&self) -> u64 {
        let wait = |rule: &Rule| rule.hold_ms + rule.window_ms + rule.interval_ms;
        self.rules.iter().map(wait).max().unwrap_or(0)
    }
}

fn rule(raw: RawReaction, dry_run: bool) -> Result<Rule, Fault> {
    let name_at = raw.name.span().start;
    let name = raw.name.into_inner();
    if name.parse::<muster_proto::id::KeyId>().is_err() {
        return Err(Fault::new(
            name_at,
            format!("a reaction's name has letters, digits, '.', '-' and '_', found {name:?}"),
        ));
    }
    let on_at = raw.on.span().start;
    let on = patterns(raw.on.into_inner())?;
    if on.is_empty() {
        return Err(Fault::new(on_at, "on: name at least one topic"));
    }
    let (has_for, until) = (raw.hold.is_some(), patterns(raw.until)?);
    if has_for == until.is_empty() {
        return Err(Fault::new(
            name_at,
            "`for` and `until` go together: `until` names the topics that undo the event within that time",
        ));
    }
    let when = raw.when.map(|when| expression("when", when)).transpose()?;
    let none = Duration::ZERO;
    let rule = Rule {
        name,
        on,
        when,
        hold_ms: time(raw.hold, none, WAIT_MAX)?,
        until,
        group_by: raw.group_by,
        window_ms: time(raw.window, none, WAIT_MAX)?,
        interval_ms: time(raw.interval, none, WAIT_MAX)?,
        max_age_ms: time(raw.max_age, Duration::from_secs(3600), 14 * SPAN_MAX)?,
        budget: budget(raw.budget, (60, 3600))?,
        dry_run: raw.dry_run || dry_run,
        mail: raw.mail.map(MailAction::parse).transpose()?,
        webhooks: raw.webhook.into_iter().map(Spanned::into_inner).collect(),
        job: raw.job.map(job).transpose()?,
    };
    if rule.actions().is_empty() {
        return Err(Fault::new(
            name_at,
            "it does nothing: give it mail, webhook or job",
        ));
    }
    Ok(rule)
}

fn job(raw: Spanned<RawJob>) -> Result<JobAction, Fault> {
    let raw = raw.into_inner();
    let at = raw.action.span().start;
    let name = raw.action.into_inner();
    let action = action::find(&name).ok_or_else(|| {
        Fault::new(
            at,
            format!("there is no action {name:?}: `muster actions` lists them"),
        )
    })?;
    if raw.dry_run && !action.dry_run {
        return Err(Fault::new(at, format!("{name} has no dry run")));
    }
    let mut args = Vec::new();
    for (name, value) in raw.args {
        let at = value.span().start;
        let known = action.args.iter().any(|arg| arg.name == name);
        if !known {
            let names: Vec<&str> = action.args.iter().map(|arg| arg.name).collect();
            let why = format!(
                "{} has no argument {name:?}; it takes {}",
                action.name,
                names.join(", ")
            );
            return Err(Fault::new(at, why));
        }
        for item in match value.into_inner() {
            toml::Value::Array(items) => items,
            one => vec![one],
        } {
            let text = match item {
                toml::Value::String(text) => text,
                other => other.to_string(),
            };
            args.push((name.clone(), Template::parse(at, text)?));
        }
    }
    if let Some(missing) = action
        .args
        .iter()
        .find(|arg| arg.required && !args.iter().any(|(name, _)| name == arg.name))
    {
        let why = format!("{} needs the argument {}", action.name, missing.name);
        return Err(Fault::new(at, why));
    }
    let target = raw
        .target
        .map(|target| Template::parse(target.span().start, target.into_inner()))
        .transpose()?;
    let limit = Duration::from_millis(action.run_limit_ms);
    Ok(JobAction {
        action,
        args,
        target,
        deliver_within: Duration::from_millis(time(
            raw.deliver_within,
            Duration::from_secs(300),
            SPAN_MAX,
        )?),
        run_limit: Duration::from_millis(time(raw.run_limit, limit, SPAN_MAX)?),
        dry_run: raw.dry_run,
    })
}
