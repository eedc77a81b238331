//! Carrying a firing out: each of its actions by itself, tried until it is done, refused for good, or too late. How one
//! goes delays no other, and how it ended is told in the history.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::future::try_join_all;
use muster_link::{Backoff, Outgoing, Receipt, Session, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::id::HostId;
use muster_proto::topology::{EVENTS, topic_key};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use super::config::ReactConfig;
use super::decision::{Firing, Suppressed};
use super::facts::{Ending, Teller, Told, cut};
use super::job::{Dispatcher, Prepared};
use super::mail::{Letter, MailAction, Mailer};
use super::rules::Rule;
use super::tally::Tally;
use super::text::values;
use super::webhook::Hook;

/// Tries under way at one outlet at a time.
const AT_ONCE: usize = 8;

/// Actions that wait for one outlet; more fail when none of these has ended in time, of which the history tells.
const WAITING_MAX: usize = 1000;

/// How long one waits to be among them: what has gathered while nobody reacted is much at once, and is soon done.
const PLACE_LIMIT: Duration = Duration::from_secs(20);

/// Longest pause between two tries; the first is a second, and each is random.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long a job is tried to be sent.
const JOB_RETRY_FOR_MS: u64 = 300_000;

/// Why a try failed.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// What was tried and what went wrong.
    pub(crate) why: String,
    /// Whether trying again may help.
    pub(crate) again: bool,
}

impl Trouble {
    /// Trying again may help.
    pub(crate) fn for_now(why: String) -> Self {
        Self { why, again: true }
    }

    /// Trying again does not help.
    pub(crate) fn for_good(why: String) -> Self {
        Self { why, again: false }
    }
}

/// What actions need.
pub(crate) struct Hands {
    /// The ways to mail server and webhooks.
    pub(crate) outlets: Outlets,
    /// Who sends jobs.
    pub(crate) dispatcher: Dispatcher,
    /// In whose name events are told.
    pub(crate) name: HostId,
    /// What was done.
    pub(crate) tally: Tally,
}

/// The ways out, each with its own limit.
pub(crate) struct Outlets {
    mailer: Option<(Mailer, Gate)>,
    hooks: BTreeMap<String, (Hook, Gate)>,
    jobs: Gate,
}

struct Gate {
    free: Semaphore,
    places: Semaphore,
}

impl Gate {
    fn new() -> Self {
        Self {
            free: Semaphore::new(AT_ONCE),
            places: Semaphore::new(WAITING_MAX),
        }
    }

    /// A place among those who wait, waited for up to `limit`.
    async fn place(&self, limit: Duration) -> Result<SemaphorePermit<'_>, String> {
        let place = timeout(limit, self.places.acquire()).await;
        let full = || format!("{WAITING_MAX} others wait for it already");
        place.ok().and_then(Result::ok).ok_or_else(full)
    }
}

/// One action, ready to be tried.
enum Deed<'a> {
    Mail(&'a Mailer, Box<Letter>),
    Post(&'a Hook, Vec<u8>),
    Job(&'a Dispatcher, &'a Session, Box<Prepared>),
}

impl Deed<'_> {
    async fn once(&mut self, firing: &Firing) -> Result<Value, Trouble> {
        match self {
            Self::Mail(mailer, letter) => mailer.send(letter).await,
            Self::Post(hook, body) => hook.post(&firing.id, body).await,
            Self::Job(dispatcher, session, prepared) => {
                dispatcher.send(session, prepared, firing).await
            }
        }
    }
}

impl Outlets {
    /// Opens every way that the config names.
    ///
    /// # Errors
    /// When a file that it names can't be used.
    pub(crate) fn open(config: &ReactConfig) -> Result<Self> {
        let mailer = config.mail.as_ref().map(Mailer::open).transpose()?;
        let mut hooks = BTreeMap::new();
        for config in &config.webhooks {
            hooks.insert(config.name.clone(), (Hook::open(config)?, Gate::new()));
        }
        Ok(Self {
            mailer: mailer.map(|mailer| (mailer, Gate::new())),
            hooks,
            jobs: Gate::new(),
        })
    }

    /// What `rule` would do about the events, as far as it can be said without doing it.
    pub(crate) fn would(&self, rule: &Rule, firing: &Firing) -> Value {
        let values = values(&rule.name, firing);
        let mut would = serde_json::Map::new();
        if let Some(mail) = &rule.mail {
            let to = mail.receivers(firing);
            let to: Vec<String> = to.iter().map(|mailbox| mailbox.email.to_string()).collect();
            would.insert("mail".to_owned(), json!({ "to": to }));
        }
        let hooks: BTreeMap<&String, String> = rule
            .webhooks
            .iter()
            .filter_map(|name| Some((name, self.hooks.get(name)?.0.shown())))
            .collect();
        if !hooks.is_empty() {
            would.insert("webhook".to_owned(), json!(hooks));
        }
        if let Some(job) = &rule.job {
            let job = match Prepared::new(job, firing, &values) {
                Ok(job) => {
                    json!({ "action": job.action.name, "args": job.args, "target": job.target.source() })
                }
                Err(why) => json!({ "error": cut(&why) }),
            };
            would.insert("job".to_owned(), job);
        }
        Value::Object(would)
    }
}

impl Hands {
    fn teller(&self) -> Teller {
        Teller {
            name: self.name.clone(),
            now_ms: stamp::now_ms(),
        }
    }

    /// Acts, and tells of it. Gives for each action whether it was done.
    ///
    /// # Errors
    /// When the history could not be told: whoever reads it next finds what is left to do.
    pub(crate) async fn carry_out(
        &self,
        session: &Session,
        rule: &Rule,
        firing: Firing,
    ) -> Result<Vec<bool>> {
        let actions = rule.actions();
        if !firing.again {
            let begun = self.teller().begun(&rule.name, &actions, &firing);
            publish(session, begun).await?;
        }
        let left = actions
            .into_iter()
            .filter(|action| !firing.done.contains(action));
        let all = left.map(|action| self.carry_out_one(session, rule, &firing, action));
        try_join_all(all).await
    }

    async fn carry_out_one(
        &self,
        session: &Session,
        rule: &Rule,
        firing: &Firing,
        action: String,
    ) -> Result<bool> {
        let ending = self.perform(session, rule, firing, action).await;
        let good = ending.outcome.is_ok();
        match &ending.outcome {
            Ok(_) => tracing::info!(rule = rule.name, action = ending.action, "done"),
            Err(why) => tracing::warn!(rule = rule.name, action = ending.action, "not done: {why}"),
        }
        publish(session, self.teller().ended(&rule.name, firing, &ending)).await?;
        self.tally.ended(&rule.name, &ending.action, good);
        Ok(good)
    }

    /// Tries one action until it has ended.
    async fn perform(
        &self,
        session: &Session,
        rule: &Rule,
        firing: &Firing,
        action: String,
    ) -> Ending {
        let start = Instant::now();
        let (outcome, attempts) = match self.prepare(session, rule, firing, &action) {
            Err(why) => (Err(why), 0),
            Ok((deed, gate, retry_for_ms)) => tries(deed, gate, retry_for_ms, firing).await,
        };
        Ending {
            action,
            outcome,
            attempts,
            took_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn prepare<'a>(
        &'a self,
        session: &'a Session,
        rule: &Rule,
        firing: &Firing,
        action: &str,
    ) -> Result<(Deed<'a>, &'a Gate, u64), String> {
        let values = values(&rule.name, firing);
        let outlets = &self.outlets;
        if let Some(name) = action.strip_prefix("webhook:") {
            let (hook, gate) = outlets
                .hooks
                .get(name)
                .ok_or_else(|| format!("there is no webhook {name:?}"))?;
            let body = hook.body(firing, &values)?;
            return Ok((Deed::Post(hook, body), gate, hook.retry_for_ms));
        }
        if let (Some(job), "job") = (&rule.job, action) {
            let job = Prepared::new(job, firing, &values)?;
            let deed = Deed::Job(&self.dispatcher, session, Box::new(job));
            return Ok((deed, &outlets.jobs, JOB_RETRY_FOR_MS));
        }
        let (Some(mail), Some((mailer, gate))) = (&rule.mail, &outlets.mailer) else {
            return Err("there is no section [mail]".to_owned());
        };
        let letter = mailer.letter(mail, firing, &values)?;
        let deed = Deed::Mail(mailer, Box::new(letter));
        Ok((deed, gate, mailer.retry_for_ms))
    }

    /// Tells that a rule did not act.
    ///
    /// # Errors
    /// When the history could not be told.
    pub(crate) async fn tell_suppressed(
        &self,
        session: &Session,
        rule: &Rule,
        it: &Suppressed,
        would: &Value,
    ) -> Result<()> {
        publish(session, self.teller().suppressed(&rule.name, it, would)).await?;
        self.tally.suppressed(&rule.name, it);
        Ok(())
    }

    /// Tells the history and the people who are to know that a breaker opened or closed. Who can't be reached is passed
    /// over: the history has it.
    ///
    /// # Errors
    /// When the history could not be told.
    pub(crate) async fn tell_breaker(
        &self,
        session: &Session,
        config: &ReactConfig,
        told: (&Rule, bool, u64),
    ) -> Result<()> {
        let (rule, open, at_ms) = told;
        let pause_ms = config.rules.breaker_pause_ms;
        let (id, event) = self.teller().breaker(&rule.name, open, at_ms, pause_ms);
        tracing::warn!(rule = rule.name, open, "{}", event.summary);
        publish(session, (id, event.clone())).await?;
        let firing = Firing::of_own(id, event);
        let values = values(&rule.name, &firing);
        let mail = async {
            let (mailer, gate) = self.outlets.mailer.as_ref()?;
            let to = config.tell.clone();
            if to.is_empty() {
                return None;
            }
            let letter = mailer
                .letter(&MailAction::plain(to), &firing, &values)
                .ok()?;
            let deed = Deed::Mail(mailer, Box::new(letter));
            tries(deed, gate, mailer.retry_for_ms, &firing)
                .await
                .0
                .err()
        };
        let hooks = config.rules.tell_webhook.iter().map(|name| async {
            let (hook, gate) = self.outlets.hooks.get(name)?;
            let body = hook.body(&firing, &values).ok()?;
            tries(Deed::Post(hook, body), gate, hook.retry_for_ms, &firing)
                .await
                .0
                .err()
        });
        let hooks = futures_util::future::join_all(hooks);
        let (mail, hooks) = tokio::join!(mail, hooks);
        for why in mail.into_iter().chain(hooks.into_iter().flatten()) {
            tracing::warn!(rule = rule.name, "could not tell of the breaker: {why}");
        }
        Ok(())
    }

    /// Tells this program's part in it, `TAKING` or `ACTIVE`, with the topics that its queue is bound to.
    ///
    /// # Errors
    /// When the history could not be told.
    pub(crate) async fn tell_part(
        &self,
        session: &Session,
        what: &'static str,
        keys: &std::collections::BTreeSet<String>,
    ) -> Result<muster_proto::id::MessageId> {
        let id = stamp::new_message_id();
        publish(session, self.teller().part(id, what, keys)).await?;
        Ok(id)
    }
}

/// Tries until it is done, or is no longer worth trying. Gives how often it was tried, too.
async fn tries(
    mut deed: Deed<'_>,
    gate: &Gate,
    retry_for_ms: u64,
    firing: &Firing,
) -> (Result<Value, String>, u32) {
    let _place = match gate.place(PLACE_LIMIT).await {
        Ok(place) => place,
        Err(why) => return (Err(why), 0),
    };
    let start = Instant::now();
    let mut backoff = Backoff::new(PAUSE_MAX);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let tried = {
            // Held for the try alone: one that waits for its next try keeps nobody waiting.
            let _free = gate.free.acquire().await;
            deed.once(firing).await
        };
        let trouble = match tried {
            Ok(done) => return (Ok(done), attempts),
            Err(trouble) => trouble,
        };
        let pause = backoff.next(stamp::random_u64()) + Duration::from_millis(500);
        let over = start.elapsed() + pause > Duration::from_millis(retry_for_ms);
        if !trouble.again || over {
            return (Err(trouble.why), attempts);
        }
        tracing::debug!(attempts, "tried again: {}", trouble.why);
        sleep(pause).await;
    }
}

/// Publishes an event that tells of reactions, confirmed.
///
/// # Errors
/// When the broker does not confirm it.
pub(crate) async fn publish(session: &Session, (message_id, event): Told) -> Result<()> {
    let outgoing = Outgoing {
        exchange: EVENTS,
        routing_key: topic_key(&event.topic, &event.host),
        kind: Kind::Event,
        message_id,
        correlation_id: None,
        timestamp_ms: event.at_ms,
        expiration_ms: None,
        mandatory: false,
        transient: false,
        reply_to: None,
        signature: None,
        body: envelope::encode(&event)?.into(),
    };
    match session.publish(outgoing).await? {
        Receipt::Confirmed => Ok(()),
        receipt => Err(anyhow!(
            "publish {}: the broker said {receipt:?}",
            event.topic
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_too_many_waits_until_another_has_ended_and_not_for_ever() {
        let gate = Gate::new();
        let mut others = Vec::new();
        for _ in 0..WAITING_MAX {
            others.push(gate.place(Duration::ZERO).await.unwrap());
        }
        let why = gate.place(Duration::from_millis(1)).await.unwrap_err();
        assert!(why.contains("1000 others"), "{why}");
        let one_ends = async {
            sleep(Duration::from_millis(50)).await;
            drop(others.pop());
        };
        let (place, ()) = tokio::join!(gate.place(Duration::from_secs(600)), one_ends);
        assert!(place.is_ok());
    }
}
