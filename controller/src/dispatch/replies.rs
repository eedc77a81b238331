//! The queue that answers come to, and what they say. It must not know what is made of them.

use anyhow::Result;
use muster_link::{Binding, Deliveries, Incoming, Session, SetupError};
use muster_proto::action::Effect;
use muster_proto::envelope::{self, Kind};
use muster_proto::id::{HostId, JobId, KeyId};
use muster_proto::job::{Ack, JobResult, Output};
use muster_proto::topology::{REPLIES, replies_binding};
use tokio::time::Instant;

use super::answers::Answers;
use crate::listen::{Listening, listen};

/// Deliveries under way: a fleet's answers come at once, and each is small.
const PREFETCH: u16 = 2048;

/// Queues of this program's own: one that is gone with its connection for what the ledger has as well, and one for
/// answers that come here alone.
#[derive(Debug)]
pub struct Replies {
    queue: String,
    deliveries: Deliveries,
    answers: Option<Answers>,
}

/// What an agent said about a job.
#[derive(Debug)]
pub enum Said {
    /// It has it.
    Ack(Ack),
    /// How it ended.
    Result(Box<JobResult>),
    /// A piece of output.
    Output(Output),
}

impl Said {
    /// The job.
    #[must_use]
    pub fn job(&self) -> JobId {
        match self {
            Self::Ack(ack) => ack.job,
            Self::Result(result) => result.job,
            Self::Output(output) => output.job,
        }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &HostId {
        match self {
            Self::Ack(ack) => &ack.host,
            Self::Result(result) => &result.host,
            Self::Output(output) => &output.host,
        }
    }
}

impl Replies {
    /// Makes the queues, bound to what is said of `job`, and begins to take from them. Answers come by themselves only to a
    /// job that reads.
    ///
    /// # Errors
    /// When the broker does not let us.
    pub async fn open(
        session: &Session,
        issuer: &KeyId,
        job: JobId,
        effect: Effect,
    ) -> Result<Self, SetupError> {
        let listening = Listening {
            issuer,
            exchange: REPLIES,
            keys: vec![replies_binding(job)],
            prefetch: PREFETCH,
        };
        let answers = async {
            match effect {
                Effect::Read => Answers::open(session, issuer, job).await.map(Some),
                Effect::Change => Ok(None),
            }
        };
        let (listened, answers) = tokio::join!(listen(session, listening), answers);
        let (queue, deliveries) = listened?;
        Ok(Self {
            queue,
            deliveries,
            answers: answers?,
        })
    }

    /// The same on another connection, with what is not told yet.
    ///
    /// # Errors
    /// When the broker does not let us: then nothing has changed.
    pub async fn move_to(
        &mut self,
        session: &Session,
        issuer: &KeyId,
        job: JobId,
    ) -> Result<(), SetupError> {
        let effect = if self.answers.is_some() {
            Effect::Read
        } else {
            Effect::Change
        };
        let mut new = Self::open(session, issuer, job, effect).await?;
        if let (Some(answers), Some(old)) = (&mut new.answers, self.answers.take()) {
            answers.inherit(old);
        }
        *self = new;
        Ok(())
    }

    /// Has it get the answers to `job`, too.
    ///
    /// # Errors
    /// When the broker does not let us.
    pub async fn add(&self, session: &Session, job: JobId) -> Result<(), SetupError> {
        let bound = binding(job);
        let bound = session.bind(&self.queue, &bound);
        let Some(answers) = &self.answers else {
            return bound.await;
        };
        let (bound, added) = tokio::join!(bound, answers.add(session, job));
        bound.and(added)
    }

    /// Has it get no more answers to `job`.
    ///
    /// # Errors
    /// When the broker does not let us.
    pub async fn remove(&self, session: &Session, job: JobId) -> Result<(), SetupError> {
        let bound = binding(job);
        let unbound = session.unbind(&self.queue, &bound);
        let Some(answers) = &self.answers else {
            return unbound.await;
        };
        let (unbound, removed) = tokio::join!(unbound, answers.remove(session, job));
        unbound.and(removed)
    }

    /// What is said next, where it is an answer at all; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Option<Said>> {
        let Some(answers) = &mut self.answers else {
            return self.deliveries.recv().await.map(|incoming| said(&incoming));
        };
        tokio::select! {
            incoming = self.deliveries.recv() => incoming.map(|incoming| said(&incoming)),
            answer = answers.next() => {
                let answer = answer?;
                let said = said(&answer);
                match said {
                    // Also one to an earlier job, which came late.
                    Some(Said::Result(_)) => answers.keep(answer),
                    _ => {
                        answer.acker.ack().await;
                    }
                }
                Some(said)
            }
        }
    }

    /// When [`Replies::tell`] is to be called; `None` while there is nothing to tell.
    #[must_use]
    pub fn tell_at(&self) -> Option<Instant> {
        self.answers.as_ref().and_then(Answers::tell_at)
    }

    /// Tells the ledger of the answers that came here alone.
    pub async fn tell(&mut self, session: &Session) {
        if let Some(answers) = &mut self.answers {
            answers.tell(session).await;
        }
    }

    /// Ends listening. `all_came` says that nobody will answer `job` any more.
    pub async fn close(self, session: &Session, job: JobId, all_came: bool) {
        let Some(answers) = self.answers else { return };
        let is_answer = |incoming: &Incoming| matches!(said(incoming), Some(Said::Result(_)));
        if let Err(error) = answers.close(session, job, all_came, is_answer).await {
            tracing::debug!(%error, "the broker will delete the queue for answers later");
        }
    }
}

fn binding(job: JobId) -> Binding {
    Binding {
        exchange: REPLIES.to_owned(),
        key: replies_binding(job),
    }
}

/// What a message says; none where it is not an answer, or not by the host that it speaks of.
#[must_use]
pub fn said(incoming: &Incoming) -> Option<Said> {
    let said = match Kind::from_wire_name(&incoming.kind)? {
        Kind::Ack => Said::Ack(decoded(incoming)?),
        Kind::Result => Said::Result(Box::new(decoded(incoming)?)),
        Kind::Output => Said::Output(decoded(incoming)?),
        _ => return None,
    };
    (incoming.user_id.as_deref() == Some(said.host().as_str())).then_some(said)
}

fn decoded<M: envelope::Message>(incoming: &Incoming) -> Option<M> {
    envelope::decode(&incoming.kind, &incoming.body).ok()
}
