//! Answers that come straight here and not by the ledger: small ones, to jobs that only read. The ledger is told of them in
//! bulk, and the broker only then that they are done with. It must not know what they say.
//!
//! A fleet's answers are one message of the ledger so, where each by itself costs the broker as much as all the rest that
//! it does for it. Nothing gets lost: what a program that dies had not told stays in its queue, and goes by the dead
//! letters to whoever reads the ledger next; what comes when the queue is bound no more goes to the ledger by itself.

use std::collections::VecDeque;
use std::time::Duration;

use muster_link::{
    Acker, Acks, Binding, Consume, Deliveries, Incoming, QueueDecl, QueueKind, Session, SetupError,
    stamp,
};
use muster_proto::id::{JobId, KeyId};
use muster_proto::job::Heard;
use muster_proto::topology::{ANSWERS, ANSWERS_QUEUE_SUFFIX, CONTROLLER_QUEUE_PREFIX, answer_key};
use serde_bytes::ByteBuf;
use tokio::time::Instant;

use crate::ledger::heard;
use crate::ledger::sync::SyncError;

/// Answers that the broker hands out before it is told that they are done with: two messages to the ledger.
const PREFETCH: u16 = 2 * TOLD_MAX as u16;

/// Answers in one message to the ledger.
const TOLD_MAX: usize = 1024;

/// Bytes of answers in one message to the ledger: well within its bound.
const TOLD_BYTES_MAX: usize = 1024 * 1024;

/// How long the ledger may be behind, for those who look on from elsewhere.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// An answer that the ledger does not know yet.
#[derive(Debug)]
struct Untold {
    body: ByteBuf,
    acker: Acker,
}

/// A queue of this program's own, which stays behind if it dies.
#[derive(Debug)]
pub(super) struct Answers {
    queue: String,
    deliveries: Deliveries,
    untold: VecDeque<Untold>,
    untold_bytes: usize,
    tell_at: Option<Instant>,
}

impl Answers {
    /// Makes the queue, bound to the answers to `job`, and begins to take from it.
    pub(super) async fn open(
        session: &Session,
        issuer: &KeyId,
        job: JobId,
    ) -> Result<Self, SetupError> {
        let id = stamp::new_message_id();
        let queue = format!("{CONTROLLER_QUEUE_PREFIX}{issuer}.{id}{ANSWERS_QUEUE_SUFFIX}");
        let declared = QueueDecl {
            name: queue.clone(),
            kind: QueueKind::Classic,
        };
        let consume = Consume {
            queue: queue.clone(),
            exclusive: true,
            prefetch: PREFETCH,
            acks: Acks::Manual,
            offset: None,
        };
        session.declare_queue(&declared).await?;
        let bound = binding(job);
        let (bound, deliveries) =
            tokio::join!(session.bind(&queue, &bound), session.consume_apart(consume));
        bound?;
        Ok(Self {
            queue,
            deliveries: deliveries?,
            untold: VecDeque::new(),
            untold_bytes: 0,
            tell_at: None,
        })
    }

    /// Has it get the answers to `job`, too.
    pub(super) async fn add(&self, session: &Session, job: JobId) -> Result<(), SetupError> {
        session.bind(&self.queue, &binding(job)).await
    }

    /// Has it get no more answers to `job`: the ledger does.
    pub(super) async fn remove(&self, session: &Session, job: JobId) -> Result<(), SetupError> {
        session.unbind(&self.queue, &binding(job)).await
    }

    /// The next answer; none when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Incoming> {
        self.deliveries.recv().await
    }

    /// Notes an answer for the ledger.
    pub(super) fn keep(&mut self, answer: Incoming) {
        self.untold_bytes += answer.body.len();
        self.untold.push_back(Untold {
            body: ByteBuf::from(answer.body),
            acker: answer.acker,
        });
        let full = self.untold.len() >= TOLD_MAX || self.untold_bytes >= TOLD_BYTES_MAX;
        let now = Instant::now();
        let soon = if full { now } else { now + TELL_AFTER };
        self.tell_at = Some(self.tell_at.map_or(soon, |at| at.min(soon)));
    }

    /// When [`Answers::tell`] is to be called; `None` while there is nothing to tell.
    pub(super) fn tell_at(&self) -> Option<Instant> {
        self.tell_at
    }

    /// Tells the ledger of all that it does not know yet. What it does not take is told again a moment later.
    pub(super) async fn tell(&mut self, session: &Session) {
        self.tell_at = None;
        while !self.untold.is_empty() {
            let count = together(self.untold.iter().map(|untold| untold.body.len()));
            let bodies = self.untold.iter().take(count);
            let answers = bodies.map(|untold| untold.body.clone()).collect();
            let heard = Heard { answers };
            if let Err(error) = heard::publish(session, &heard).await {
                tracing::info!(%error, "the ledger was not told of answers");
                self.tell_at = Some(Instant::now() + TELL_AFTER);
                return;
            }
            let last = self.untold.drain(..count).next_back();
            if let Some(last) = last {
                last.acker.ack_up_to().await;
            }
            self.untold_bytes = self.untold.iter().map(|untold| untold.body.len()).sum();
        }
    }

    /// Takes over what another connection's queue has given out and the ledger does not know yet. The broker has it, too,
    /// and gives it to the dead letters: told twice it changes nothing.
    pub(super) fn inherit(&mut self, other: Self) {
        self.untold_bytes = other.untold_bytes;
        self.tell_at = (!other.untold.is_empty()).then(Instant::now);
        self.untold = other.untold;
    }

    /// Has it get nothing more, and deletes the queue where nothing is to come any more that was asked for. What came
    /// meanwhile from others goes to the ledger first, as far as `is_answer` takes it for one. Or else the queue is left to
    /// the broker, which deletes it when what came last is in the ledger.
    ///
    /// # Errors
    /// When the connection is lost. Nothing is lost with it.
    pub(super) async fn close(
        self,
        session: &Session,
        job: JobId,
        all_came: bool,
        is_answer: impl Fn(&Incoming) -> bool,
    ) -> Result<(), SyncError> {
        self.remove(session, job).await?;
        if !all_came || !self.untold.is_empty() {
            return Ok(());
        }
        self.deliveries.give_back(session).await?;
        loop {
            let (mut answers, mut bytes) = (Vec::new(), 0);
            while answers.len() < TOLD_MAX
                && bytes < TOLD_BYTES_MAX
                && let Some(incoming) = session.get(&self.queue).await?
            {
                if is_answer(&incoming) {
                    bytes += incoming.body.len();
                    answers.push(ByteBuf::from(incoming.body));
                }
            }
            if answers.is_empty() {
                break;
            }
            heard::publish(session, &Heard { answers }).await?;
        }
        Ok(session.delete_queue(&self.queue).await?)
    }
}

fn binding(job: JobId) -> Binding {
    Binding {
        exchange: ANSWERS.to_owned(),
        key: answer_key(job),
    }
}

/// How many of the first answers, of these sizes, go into one message: at least one.
fn together(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    sizes
        .take(TOLD_MAX)
        .take_while(|size| {
            let first = bytes == 0;
            bytes += size;
            first || bytes <= TOLD_BYTES_MAX
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_to_the_ledger_is_bounded_by_answers_and_by_bytes() {
        for (sizes, want) in [
            (vec![100; 3], 3),
            (vec![100; 3000], TOLD_MAX),
            (vec![4096; 1000], TOLD_BYTES_MAX / 4096),
            (vec![2 * TOLD_BYTES_MAX, 1], 1),
            (vec![1, 2 * TOLD_BYTES_MAX], 1),
        ] {
            assert_eq!(
                together(sizes.iter().copied()),
                want,
                "{} sizes",
                sizes.len()
            );
        }
    }
}
