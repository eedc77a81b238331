//! The job of a reaction: its arguments and hosts from templates, signed by the controller's own key, opened in the
//! ledger and sent. The agents' policies say what that key may have done. Nobody waits for the answers: they are in the
//! ledger, under an id that is the same if the job is sent again, so that hosts do it once.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use anyhow::Context as _;
use futures_util::future::join_all;
use muster_link::{Outgoing, Receipt, Session, stamp};
use muster_proto::action::ActionSpec;
use muster_proto::envelope::{self, Kind, Message};
use muster_proto::id::{HostId, JobId, KeyId};
use muster_proto::job::{Args, JobNote, JobOpened};
use muster_proto::signing::JobSigner;
use muster_proto::target::Target;
use muster_proto::topology::{EVENTS, JOBS, host_key};
use serde_json::{Value, json};

use super::act::Trouble;
use super::decision::Firing;
use super::facts::cut;
use super::rules::JobAction;
use super::text::{Escape, quote};
use crate::dispatch::account::Patience;
use crate::dispatch::order::{Order, Signed};
use crate::dispatch::resolve::{Known, resolve};
use crate::serve::derived::derived_id;
use crate::serve::fleet::HostState;
use crate::serve::watch::SharedFleet;

/// Hosts that the job of one firing may have.
const HOSTS_MAX: usize = 1000;

/// A job that is ready to be sent.
pub(crate) struct Prepared {
    /// The action.
    pub(crate) action: &'static ActionSpec,
    /// Its arguments, checked.
    pub(crate) args: Args,
    /// Its hosts.
    pub(crate) target: Target,
    deliver_within: std::time::Duration,
    run_limit: std::time::Duration,
    dry_run: bool,
}

impl Prepared {
    /// What `job` asks for about `firing`.
    ///
    /// # Errors
    /// When a template makes no good argument or target.
    pub(crate) fn new(job: &JobAction, firing: &Firing, values: &Value) -> Result<Self, String> {
        let mut texts = Vec::new();
        for (name, template) in &job.args {
            texts.push((name.clone(), template.render(values, Escape::Plain)?));
        }
        let args = job
            .action
            .parse(&texts)
            .map_err(|error| error.to_string())?;
        let target = match &job.target {
            Some(template) => template.render(values, Escape::Target)?,
            None => {
                let hosts: BTreeSet<String> = firing
                    .events
                    .iter()
                    .map(|heard| quote(heard.event.host.as_str()))
                    .collect();
                hosts.into_iter().collect::<Vec<_>>().join(", ")
            }
        };
        let target =
            Target::parse(&target).map_err(|error| format!("target {}: {error}", cut(&target)))?;
        Ok(Self {
            action: job.action,
            args,
            target,
            deliver_within: job.deliver_within,
            run_limit: job.run_limit,
            dry_run: job.dry_run,
        })
    }
}

/// Who sends jobs.
pub(crate) struct Dispatcher {
    /// Who asks.
    pub(crate) issuer: KeyId,
    /// The key that signs; none where no reaction has a job.
    pub(crate) key: Option<(KeyId, JobSigner)>,
    /// Which hosts there are.
    pub(crate) fleet: SharedFleet,
}

impl Dispatcher {
    /// Opens the job in the ledger and sends it.
    ///
    /// # Errors
    /// When there is no host, or the broker does not take it.
    pub(crate) async fn send(
        &self,
        session: &Session,
        job: &Prepared,
        firing: &Firing,
    ) -> Result<Value, Trouble> {
        let key = self
            .key
            .as_ref()
            .ok_or_else(|| Trouble::for_good("there is no key that signs jobs".to_owned()))?;
        let resolved = resolve(&job.target, &self.known(), false)
            .map_err(|error| Trouble::for_good(error.to_string()))?;
        if resolved.hosts.is_empty() {
            // It may be that a host is not known yet.
            let why = format!("no host matches {}", job.target);
            return Err(Trouble::for_now(why));
        }
        if resolved.hosts.len() > HOSTS_MAX {
            let why = format!(
                "{} hosts match, more than {HOSTS_MAX}",
                resolved.hosts.len()
            );
            return Err(Trouble::for_good(why));
        }
        let hosts = resolved.hosts.clone();
        let order = Order {
            action: job.action.name,
            args: job.args.clone(),
            target: job.target.source().to_owned(),
            resolved,
            dry_run: job.dry_run,
            deliver_within: job.deliver_within,
            run_limit: job.run_limit,
            patience: Patience {
                ack: job.deliver_within,
                run: job.run_limit,
                whole: None,
                offline: None,
            },
            rollout: None,
            no_wait: true,
            cause: firing.events.first().map(|heard| heard.id),
        };
        let id = job_id(firing);
        let signed = order
            .sign(id, &self.issuer, key, firing.begun_ms)
            .map_err(|error| Trouble::for_good(format!("{error:#}")))?;
        in_time(signed.request.deliver_by_ms, stamp::now_ms())?;
        let opened: JobOpened = order.opened(&signed);
        self.tell(session, &opened, "job.opened", id)
            .await
            .map_err(|error| Trouble::for_now(format!("{error:#}")))?;
        let unroutable = send_to(session, &signed, &hosts)
            .await
            .map_err(|error| Trouble::for_now(format!("{error:#}")))?;
        if !unroutable.is_empty() {
            self.tell_unroutable(session, id, unroutable.clone())
                .await
                .map_err(|error| Trouble::for_now(format!("{error:#}")))?;
        }
        if unroutable.len() == hosts.len() {
            return Err(Trouble::for_good(format!(
                "job {id}: no host of {} has a queue",
                job.target
            )));
        }
        Ok(
            json!({ "job": id, "job_action": job.action.name, "target": job.target.source(), "hosts": hosts.len() }),
        )
    }

    async fn tell_unroutable(
        &self,
        session: &Session,
        job: JobId,
        unroutable: Vec<HostId>,
    ) -> anyhow::Result<()> {
        let note = JobNote {
            job,
            at_ms: stamp::now_ms(),
            released: Vec::new(),
            unroutable,
            skipped: Vec::new(),
            given_up: Vec::new(),
            dead: Vec::new(),
            stopped_by: None,
            closed: false,
        };
        self.tell(session, &note, "job.note", job).await
    }

    fn known(&self) -> Vec<Known> {
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        fleet
            .hosts()
            .iter()
            .map(|(host, known)| Known {
                host: host.clone(),
                labels: known.presence.labels.clone(),
                facts: known.presence.facts.clone(),
                there: known.state == HostState::There,
            })
            .collect()
    }

    async fn tell<M: Message>(
        &self,
        session: &Session,
        message: &M,
        topic: &str,
        job: JobId,
    ) -> anyhow::Result<()> {
        let outgoing = Outgoing {
            exchange: EVENTS,
            routing_key: format!("{topic}.{}", self.issuer),
            kind: M::KIND,
            message_id: stamp::new_message_id(),
            correlation_id: Some(job),
            timestamp_ms: stamp::now_ms(),
            expiration_ms: None,
            mandatory: false,
            transient: false,
            reply_to: None,
            signature: None,
            body: envelope::encode(message)?.into(),
        };
        match session.publish(outgoing).await? {
            Receipt::Confirmed => Ok(()),
            receipt => anyhow::bail!("publish {topic}: the broker said {receipt:?}"),
        }
    }
}

/// The job's id: the same whoever sends it, and when.
fn job_id(firing: &Firing) -> JobId {
    let id = derived_id(firing.begun_ms, &[firing.id.as_bytes(), b"the job"]);
    JobId::from_bytes(*id.as_bytes())
}

/// One message to each host; gives those that have no queue.
async fn send_to(
    session: &Session,
    signed: &Signed,
    hosts: &BTreeSet<HostId>,
) -> anyhow::Result<Vec<HostId>> {
    let limit_ms = signed.request.deliver_by_ms.saturating_sub(stamp::now_ms());
    let sent = hosts.iter().map(|host| async move {
        let outgoing = Outgoing {
            exchange: JOBS,
            routing_key: host_key(host),
            kind: Kind::Job,
            message_id: stamp::new_message_id(),
            correlation_id: Some(signed.request.id),
            timestamp_ms: signed.request.issued_at_ms,
            expiration_ms: Some(limit_ms),
            mandatory: true,
            transient: false,
            reply_to: None,
            signature: Some(signed.signature.clone()),
            body: Arc::clone(&signed.body),
        };
        let receipt = session.publish(outgoing).await;
        (host, receipt)
    });
    let mut unroutable = Vec::new();
    for (host, receipt) in join_all(sent).await {
        match receipt.with_context(|| format!("send the job to {host}"))? {
            Receipt::Confirmed => {}
            Receipt::Returned { .. } | Receipt::Refused => unroutable.push(host.clone()),
        }
    }
    Ok(unroutable)
}

/// Whether hosts may still take a job; an old one may come from whoever began it and died.
fn in_time(deliver_by_ms: u64, now_ms: u64) -> Result<(), Trouble> {
    if deliver_by_ms > now_ms {
        return Ok(());
    }
    let why = "too late: the time in which hosts may take it is over";
    Err(Trouble::for_good(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_nobody_may_take_any_more_is_not_sent() {
        assert!(in_time(1001, 1000).is_ok());
        for now_ms in [1001, 2000] {
            let trouble = in_time(1001, now_ms).err();
            assert!(trouble.is_some_and(|trouble| !trouble.again && trouble.why.contains("late")));
        }
    }
}
