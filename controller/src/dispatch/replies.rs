//! The queue that answers come to, and what they say. It must not know what is made of them.

use anyhow::Result;
use muster_link::{Binding, Deliveries, Incoming, Session, SetupError};
use muster_proto::envelope::{self, Kind};
use muster_proto::id::{HostId, JobId, KeyId};
use muster_proto::job::{Ack, JobResult, Output};
use muster_proto::topology::{REPLIES, replies_binding};

use crate::listen::{Listening, listen};

/// Deliveries under way: a fleet's answers come at once, and each is small.
const PREFETCH: u16 = 2048;

/// A queue of this program's own, gone with its connection.
#[derive(Debug)]
pub struct Replies {
    queue: String,
    deliveries: Deliveries,
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
    /// Makes the queue, bound to the answers to `job`, and begins to take from it.
    ///
    /// # Errors
    /// When the broker does not let us.
    pub async fn open(session: &Session, issuer: &KeyId, job: JobId) -> Result<Self, SetupError> {
        let listening = Listening {
            issuer,
            exchange: REPLIES,
            keys: vec![replies_binding(job)],
            prefetch: PREFETCH,
        };
        let (queue, deliveries) = listen(session, listening).await?;
        Ok(Self { queue, deliveries })
    }

    /// Has it get the answers to `job`, too.
    ///
    /// # Errors
    /// When the broker does not let us.
    pub async fn add(&self, session: &Session, job: JobId) -> Result<(), SetupError> {
        session.bind(&self.queue, &binding(job)).await
    }

    /// Has it get no more answers to `job`.
    ///
    /// # Errors
    /// When the broker does not let us.
    pub async fn remove(&self, session: &Session, job: JobId) -> Result<(), SetupError> {
        session.unbind(&self.queue, &binding(job)).await
    }

    /// The next message; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.deliveries.recv().await
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
