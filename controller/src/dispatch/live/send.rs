//! Sending a job's messages, and what the broker says to each.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;
use muster_link::{Outgoing, PublishError, Receipt, Session, stamp};
use muster_proto::action::{self, Effect};
use muster_proto::envelope::Kind;
use muster_proto::id::HostId;
use muster_proto::job::Observation;
use muster_proto::topology::{ALL_KEY, ANSWERS, JOBS, answers_come_in_time, host_key};

use super::{Live, To};
use crate::dispatch::order::ms;
use crate::exit::{Exit, ending};

/// A message on its way, and what became of it.
pub(super) type Flight = Pin<Box<dyn Future<Output = (To, Result<Receipt, PublishError>)>>>;

impl Live<'_, '_> {
    pub(super) fn send_everywhere(&mut self) {
        let hosts: Vec<HostId> = self.order.resolved.hosts.iter().cloned().collect();
        if self.order.resolved.by_broadcast() {
            self.send(To::All, ALL_KEY.to_owned());
            let now = self.now();
            hosts.iter().for_each(|host| self.waiting.sent(host, now));
        } else {
            self.send_to(&hosts);
        }
        self.deadline = self.waiting.next_deadline();
    }

    pub(super) fn send_to(&mut self, hosts: &[HostId]) {
        for host in hosts {
            self.send(To::Host(host.clone()), host_key(host));
            let now = self.now();
            self.waiting.sent(host, now);
        }
    }

    fn send(&mut self, to: To, routing_key: String) {
        let now_ms = stamp::now_ms();
        let mut limit_ms = self.signed.request.deliver_by_ms.saturating_sub(now_ms);
        if self.rollout.is_some() {
            // A host that does not take it now must not take it later, beside another batch.
            limit_ms = limit_ms.min(ms(self.order.patience.ack));
        }
        let outgoing = Outgoing {
            exchange: JOBS,
            routing_key,
            kind: Kind::Job,
            message_id: stamp::new_message_id(),
            correlation_id: Some(self.signed.request.id),
            timestamp_ms: now_ms,
            expiration_ms: Some(limit_ms),
            mandatory: true,
            transient: self.is_transient(),
            reply_to: self.is_answered_directly().then_some(ANSWERS),
            signature: Some(self.signed.signature.clone()),
            body: Arc::clone(&self.signed.body),
        };
        // The confirm of a message for a thousand queues costs the broker a tenth of the whole. Where this one gets lost the
        // hosts' silence tells, and the connection's end has it sent again.
        let sent = to == To::All
            && outgoing.transient
            && self.desk.session.publish_unconfirmed(&outgoing).is_ok();
        if !sent {
            self.flights
                .push(flight(&self.desk.session, to.clone(), outgoing.clone()));
            self.unconfirmed.insert(to, outgoing);
        }
    }

    /// A job that only reads, for hosts that are there, need not outlive the broker: it is sent again to those that have
    /// not answered when the connection is back.
    pub(super) fn is_transient(&self) -> bool {
        let reads = action::find(&self.signed.request.action)
            .is_some_and(|spec| spec.effect == Effect::Read);
        reads && self.order.resolved.away.is_empty() && !self.order.no_wait
    }

    fn is_answered_directly(&self) -> bool {
        let request = &self.signed.request;
        let deliver_within_ms = request.deliver_by_ms.saturating_sub(request.issued_at_ms);
        self.is_transient() && answers_come_in_time(deliver_within_ms, request.run_limit_ms)
    }

    pub(super) fn landed(&mut self, to: To, outcome: Result<Receipt, PublishError>) -> Result<()> {
        match outcome {
            Ok(Receipt::Confirmed) => {
                self.unconfirmed.remove(&to);
            }
            Ok(Receipt::Refused) if to == To::All => {
                // Some host's queue is full; the others have the job. The dead letter tells the ledger which one it is.
                self.unconfirmed.remove(&to);
            }
            Ok(Receipt::Returned { .. } | Receipt::Refused) => {
                self.unconfirmed.remove(&to);
                let hosts: Vec<HostId> = match to {
                    To::All => self
                        .waiting
                        .account()
                        .hosts()
                        .map(|(host, _)| host.clone())
                        .collect(),
                    To::Host(host) => vec![host],
                };
                for host in hosts {
                    let state = self.waiting.observe(&host, Observation::Unroutable);
                    self.moved(&host, state);
                    self.note.unroutable.push(host);
                }
            }
            Err(PublishError::Invalid { why }) => {
                return Err(ending(Exit::Failed, format!("send the job: {why}")));
            }
            // The connection has ended, of which its reader tells; it is sent again on the next one.
            Err(_) => {}
        }
        Ok(())
    }
}

/// Sends a message; while the broker takes none, it waits.
pub(super) fn flight(session: &Arc<Session>, to: To, outgoing: Outgoing) -> Flight {
    let session = Arc::clone(session);
    Box::pin(async move {
        loop {
            match session.publish(outgoing.clone()).await {
                Err(PublishError::Blocked { .. }) => {
                    let mut blocked = session.blocked();
                    let free = async { blocked.wait_for(Option::is_none).await.is_ok() };
                    tokio::select! {
                        _ = free => {}
                        ended = session.closed() => return (to, Err(PublishError::Down { why: ended.why })),
                    }
                }
                outcome => return (to, outcome),
            }
        }
    })
}
