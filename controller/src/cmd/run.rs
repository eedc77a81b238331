//! `muster run`: an action on hosts, live, with rollout options.

use std::time::Duration;

use anyhow::Result;
use muster_proto::action::{ACTIONS, ActionSpec, Effect, find};
use muster_proto::job::{DELIVER_WINDOW_MS_MAX, READ_RUN_LIMIT_MS_MAX, RUN_LIMIT_MS_MAX};

use crate::cmd::Run;
use crate::cmd::sitting::{Sitting, preview, show, span, target};
use crate::context::Context;
use crate::dispatch::account::Patience;
use crate::dispatch::order::{Order, Plan, ms};
use crate::dispatch::resolve::{Known, Resolved};
use crate::dispatch::rollout::{Amount, Rules};
use crate::exit::{Exit, usage};
use crate::render::{duration_ms, plural};
use muster_proto::target::Subject;

/// How long hosts may take to get a job that changes something.
const DELIVER_WITHIN: Duration = Duration::from_secs(3600);

/// The same for a rollout: as long as it may take.
const ROLLOUT_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// Arguments of `muster run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster run service.restart unit=nginx -t 'role=lb and dc=gz' --batch 10% --max-failures 2\n  \
                        muster run script.run name=deploy args=v2 -t 'web*' --canary 1 --pause 30s\n  \
                        muster run service.status unit=sshd -t '*'\n\n\
                        `muster actions` lists the actions and their arguments."
)]
pub(crate) struct RunAction {
    /// The action
    action: String,
    /// Its arguments; one that takes a list may be given more than once
    #[arg(value_name = "NAME=VALUE")]
    args: Vec<String>,
    /// The hosts: an expression over names, labels and facts; `*` is every host
    #[arg(short, long, value_name = "EXPRESSION")]
    target: String,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Show the hosts that it would go to, and stop
    #[arg(long)]
    preview: bool,
    /// Leave out hosts that are away
    #[arg(long)]
    online: bool,
    /// Show output as it comes, with the host before every line
    #[arg(long)]
    stream: bool,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    rollout: RolloutArgs,
}

/// How long things may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Time limits")]
struct Times {
    /// How long it may run on a host, which ends it then [default: the action's]
    #[arg(long, visible_alias = "timeout", value_name = "TIME", value_parser = span)]
    run_limit: Option<Duration>,
    /// How long hosts may take to get it; later it is not started [default: 1h, 1d for a rollout; what only reads: as
    /// long as somebody waits]
    #[arg(long, value_name = "TIME", value_parser = span)]
    deliver_within: Option<Duration>,
    /// How long to wait for a word from a host that should be there
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "15s")]
    ack_wait: Duration,
    /// Longest wait for everything
    #[arg(long, value_name = "TIME", value_parser = span)]
    wait: Option<Duration>,
    /// Wait for hosts that are away, too, until the job's time is over
    #[arg(long)]
    wait_offline: bool,
    /// Wait for nobody: leave once the broker has the job
    #[arg(long, conflicts_with_all = ["wait", "wait_offline", "stream"])]
    no_wait: bool,
}

/// How it is rolled out. Any of these makes the job a rollout.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rollout")]
struct RolloutArgs {
    /// So many hosts go first, and all must succeed
    #[arg(long, value_name = "N", conflicts_with_all = ["wait_offline", "no_wait"])]
    canary: Option<usize>,
    /// Most hosts at a time, a number or a share [default: 10%]
    #[arg(long, value_name = "N|P%", conflicts_with_all = ["wait_offline", "no_wait"])]
    batch: Option<Amount>,
    /// Stop when more hosts than this have failed, a number or a share [default: 0]
    #[arg(long, value_name = "N|P%", conflicts_with_all = ["wait_offline", "no_wait"])]
    max_failures: Option<Amount>,
    /// Count batch and failures for each value of this label on its own
    #[arg(long, value_name = "LABEL", conflicts_with_all = ["wait_offline", "no_wait"])]
    per: Option<String>,
    /// Wait so long between batches
    #[arg(long, value_name = "TIME", value_parser = span, conflicts_with_all = ["wait_offline", "no_wait"])]
    pause: Option<Duration>,
}

impl Run for RunAction {
    async fn run(self, context: &Context) -> Result<Exit> {
        let spec = find(&self.action).ok_or_else(|| unknown(&self.action))?;
        if self.dry_run && !spec.dry_run {
            return Err(usage(format!(
                "{} cannot say what it would do: leave out --dry-run",
                spec.name
            )));
        }
        let args = spec.parse(&pairs(&self.args)?)?;
        let target = target(&self.target)?;
        let (deliver_within, run_limit) = self.limits(spec)?;
        let mut sitting = Sitting::open(context, spec.effect).await?;
        let resolved = sitting.resolve(&target, self.online)?;
        if self.preview {
            preview(context, &target, &resolved)?;
            sitting.close().await;
            return Ok(Exit::Ok);
        }
        let rollout = match self.rollout.rules() {
            None => None,
            Some(rules) => Some(
                self.rollout
                    .plan(rules, &resolved, &sitting.desk.known()?)?,
            ),
        };
        if rollout.is_some() && !resolved.away.is_empty() {
            let away = plural(resolved.away.len(), "host");
            context.note(&format!("{away} away: left out of the rollout"));
        }
        let order = Order {
            action: spec.name,
            args,
            target: target.source().to_owned(),
            resolved,
            dry_run: self.dry_run,
            deliver_within,
            run_limit,
            patience: Patience {
                ack: self.times.ack_wait,
                run: run_limit,
                whole: self.times.wait,
                offline: self.times.wait_offline.then_some(deliver_within),
            },
            rollout,
            cause: None,
            no_wait: self.times.no_wait,
        };
        let done = sitting.ask(&order, self.stream).await?;
        let exit = show(context, &done, self.times.no_wait)?;
        sitting.close().await;
        Ok(exit)
    }
}

impl RunAction {
    /// How long hosts may take to get the job, and how long it may run.
    fn limits(&self, spec: &ActionSpec) -> Result<(Duration, Duration)> {
        let run_limit = self
            .times
            .run_limit
            .unwrap_or(Duration::from_millis(spec.run_limit_ms));
        let read = spec.effect == Effect::Read;
        let run_limit_max = if read {
            READ_RUN_LIMIT_MS_MAX
        } else {
            RUN_LIMIT_MS_MAX
        };
        check("--run-limit", run_limit, run_limit_max)?;
        let default = match (self.rollout.rules(), read) {
            (Some(_), _) => ROLLOUT_WITHIN,
            // Nobody wants to know later what was asked now.
            (None, true) if !self.times.wait_offline && !self.times.no_wait => self.times.ack_wait,
            (None, _) => DELIVER_WITHIN,
        };
        let deliver_within = self.times.deliver_within.unwrap_or(default);
        check("--deliver-within", deliver_within, DELIVER_WINDOW_MS_MAX)?;
        Ok((deliver_within, run_limit))
    }
}

impl RolloutArgs {
    /// The rules, where any is given.
    fn rules(&self) -> Option<Rules> {
        let given = self.canary.is_some()
            || self.batch.is_some()
            || self.max_failures.is_some()
            || self.per.is_some()
            || self.pause.is_some();
        given.then(|| Rules {
            canary: self.canary.unwrap_or(0),
            batch: self.batch.unwrap_or(Amount::Percent(10)),
            max_failures: self.max_failures.unwrap_or(Amount::Count(0)),
            pause_ms: ms(self.pause.unwrap_or_default()),
        })
    }

    fn plan(&self, rules: Rules, resolved: &Resolved, known: &[Known]) -> Result<Plan> {
        let Some(label) = &self.per else {
            return Ok(Plan {
                rules,
                domains: [].into(),
            });
        };
        let targeted = known
            .iter()
            .filter(|host| resolved.hosts.contains(&host.host));
        let domains = targeted
            .filter_map(|host| Some((host.host.clone(), format!("{label}={}", host.value(label)?))))
            .collect::<std::collections::BTreeMap<_, _>>();
        if domains.is_empty() {
            return Err(usage(format!(
                "--per {label}: none of the targeted hosts has that label"
            )));
        }
        Ok(Plan { rules, domains })
    }
}

fn check(option: &str, given: Duration, max_ms: u64) -> Result<()> {
    if given.is_zero() || ms(given) > max_ms {
        let max = duration_ms(max_ms as f64);
        return Err(usage(format!(
            "{option} must be more than nothing and at most {max}"
        )));
    }
    Ok(())
}

/// `name=value` texts as pairs.
fn pairs(texts: &[String]) -> Result<Vec<(String, String)>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(usage(format!(
                "the argument {text:?} is not of the form name=value"
            ))),
        })
        .collect()
}

/// An unknown action, with those that look like it.
fn unknown(name: &str) -> anyhow::Error {
    let mut near: Vec<(usize, &str)> = ACTIONS
        .iter()
        .map(|action| (distance(name, action.name), action.name))
        .collect();
    near.sort_unstable();
    let near: Vec<&str> = near
        .into_iter()
        .filter(|(distance, action)| *distance <= 3 || action.split('.').any(|part| part == name))
        .map(|(_, action)| action)
        .take(4)
        .collect();
    let hint = if near.is_empty() {
        "`muster actions` lists them".to_owned()
    } else {
        format!("is it {}?", near.join(" or "))
    };
    usage(format!("there is no action {name:?}: {hint}"))
}

/// Levenshtein's distance: how many letters to add, drop or change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, from) in a.chars().take(64).enumerate() {
        let mut last = at + 1;
        let mut next = vec![last];
        for (pair, to) in row.windows(2).zip(&b) {
            let (diagonal, above) = (
                pair.first().copied().unwrap_or(0),
                pair.last().copied().unwrap_or(0),
            );
            last = (diagonal + usize::from(from != *to))
                .min(above + 1)
                .min(last + 1);
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        for (given, want) in [
            ("pnig", "there is no action \"pnig\": is it ping?"),
            (
                "service.restrat",
                "there is no action \"service.restrat\": is it service.restart?",
            ),
            (
                "restart",
                "there is no action \"restart\": is it service.restart?",
            ),
            (
                "make.coffee",
                "there is no action \"make.coffee\": `muster actions` lists them",
            ),
        ] {
            assert_eq!(unknown(given).to_string(), want);
        }
        assert_eq!(
            (
                distance("", "abc"),
                distance("abc", "abc"),
                distance("kitten", "sitting")
            ),
            (3, 0, 3)
        );
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, want) in [
            ("15s", Some(15_000)),
            ("2", Some(2_000)),
            ("0.5", Some(500)),
            ("1h 30m", Some(5_400_000)),
            ("100ms", Some(100)),
            ("7d", Some(604_800_000)),
        ] {
            assert_eq!(span(text).ok().map(ms), want, "{text}");
        }
        for text in ["", "-1", "-5s", "soon", "1e400"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_rollout_option_makes_a_rollout_with_careful_defaults() {
        let none = RolloutArgs {
            canary: None,
            batch: None,
            max_failures: None,
            per: None,
            pause: None,
        };
        assert_eq!(none.rules(), None);
        let rules = RolloutArgs {
            canary: Some(1),
            ..none
        }
        .rules()
        .unwrap();
        assert_eq!(
            (rules.batch, rules.max_failures),
            (Amount::Percent(10), Amount::Count(0))
        );
    }
}
