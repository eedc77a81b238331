//! What can be asked of the state file's owner, and how its answers find their way back.

use std::sync::Arc;

use muster_proto::id::JobId;
use tokio::sync::oneshot;

use super::StateError;
use super::held::Write;
use super::record::{Begun, JobRecord, Lane, NewJob, OutboxKey, OutboxRecord, Recovered};
use super::store::{Applied, Op};
use super::tail::{TailBatch, TailStored};

pub(super) type Answer<T> = oneshot::Sender<Result<T, StateError>>;

/// A request to the owner.
pub(super) enum Request {
    Write(Write, Answer<()>),
    Begin(Box<NewJob>, Answer<Begun>),
    Start(JobId, u64, Answer<()>),
    CancelAhead(JobId, Answer<bool>),
    Recover(Answer<Recovered>),
    Job(JobId, Answer<Option<JobRecord>>),
    Next {
        lane: Lane,
        after: u64,
        bytes_max: usize,
        answer: Answer<Vec<OutboxRecord>>,
    },
    Tail(Arc<TailBatch>, Answer<()>),
    TailStored(String, Answer<TailStored>),
    Confirm(Vec<OutboxKey>),
    Close,
}

/// Whom to tell what became of a write.
pub(super) enum Waiting {
    Write(Write, Answer<()>),
    Begun(Answer<Begun>),
    Done(Answer<()>),
    Flag(Answer<bool>),
    Recovered(Answer<Recovered>),
}

/// A read, done after the writes that came with it.
pub(super) enum Read {
    Job(JobId, Answer<Option<JobRecord>>),
    Tail(String, Answer<TailStored>),
    Next {
        lane: Lane,
        after: u64,
        bytes_max: usize,
        answer: Answer<Vec<OutboxRecord>>,
    },
}

/// A group of requests, sorted: writes with whoever waits for them, then reads.
#[derive(Default)]
pub(super) struct Group {
    pub(super) ops: Vec<Op>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) reads: Vec<Read>,
    pub(super) confirmed: Vec<OutboxKey>,
    pub(super) close: bool,
}

impl Group {
    pub(super) fn of(requests: Vec<Request>) -> Self {
        let mut group = Self::default();
        requests.into_iter().for_each(|request| group.add(request));
        group
    }

    fn add(&mut self, request: Request) {
        match request {
            Request::Write(write, answer) => {
                let op = match &write {
                    Write::Events(events) => Op::Events(events.clone()),
                    Write::Finish(result) => Op::Finish(result.clone()),
                };
                self.write(op, Waiting::Write(write, answer));
            }
            Request::Begin(job, answer) => self.write(Op::Begin(job), Waiting::Begun(answer)),
            Request::Start(job, at_ms, answer) => {
                self.write(Op::Start(job, at_ms), Waiting::Done(answer));
            }
            Request::CancelAhead(job, answer) => {
                self.write(Op::CancelAhead(job), Waiting::Flag(answer));
            }
            Request::Recover(answer) => self.write(Op::Recover, Waiting::Recovered(answer)),
            Request::Tail(batch, answer) => self.write(Op::Tail(batch), Waiting::Done(answer)),
            Request::TailStored(writer, answer) => self.reads.push(Read::Tail(writer, answer)),
            Request::Job(job, answer) => self.reads.push(Read::Job(job, answer)),
            Request::Next {
                lane,
                after,
                bytes_max,
                answer,
            } => {
                self.reads.push(Read::Next {
                    lane,
                    after,
                    bytes_max,
                    answer,
                });
            }
            Request::Confirm(keys) => self.confirmed.extend(keys),
            Request::Close => self.close = true,
        }
    }

    fn write(&mut self, op: Op, waiting: Waiting) {
        self.ops.push(op);
        self.waiting.push(waiting);
    }
}

/// Tells whoever waits what became of a write.
pub(super) fn tell(waiting: Waiting, applied: Applied) {
    match (waiting, applied) {
        (Waiting::Write(_, answer) | Waiting::Done(answer), Applied::Done) => {
            drop(answer.send(Ok(())))
        }
        (Waiting::Begun(answer), Applied::Begun(begun)) => drop(answer.send(Ok(begun))),
        (Waiting::Flag(answer), Applied::Flag(flag)) => drop(answer.send(Ok(flag))),
        (Waiting::Recovered(answer), Applied::Recovered(recovered)) => {
            drop(answer.send(Ok(recovered)))
        }
        // The pairs are made side by side, so there are no others; an answer that is dropped reads as closed.
        _ => tracing::error!("a write and its answer do not belong together"),
    }
}
