//! How others reach the schedule: a run on demand, and a look at the board.

use std::collections::BTreeMap;

use muster_proto::packed::Packed;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::COLLECTORS;
use super::Board;

/// Requests that wait for the schedule, at most; each is one job.
const REQUESTS_MAX: usize = 16;

/// The handle: asks for runs, and shows how the collectors are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Collectors {
    pub(super) requests: mpsc::Sender<Request>,
    board: watch::Receiver<Board>,
}

/// Where an answer goes.
pub(super) type Answer = oneshot::Sender<Result<Packed, String>>;

#[derive(Debug)]
pub(super) struct Request {
    pub(super) collector: &'static str,
    pub(super) answer: Answer,
}

impl Collectors {
    pub(super) fn new(board: watch::Receiver<Board>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        (Self { requests, board }, receiver)
    }

    /// Runs the named collectors, all of them where `names` is empty, and gives their snapshots and errors by name.
    pub async fn collect(
        &self,
        names: &[String],
    ) -> (BTreeMap<String, Packed>, BTreeMap<String, String>) {
        let mut errors = BTreeMap::new();
        let mut answers = Vec::new();
        let all = || {
            self.board
                .borrow()
                .collectors
                .keys()
                .map(|name| (*name).to_owned())
                .collect()
        };
        for name in if names.is_empty() {
            all()
        } else {
            names.to_vec()
        } {
            match self.ask(&name).await {
                Ok(answer) => answers.push((name, answer)),
                Err(error) => _ = errors.insert(name, error),
            }
        }
        let mut snapshots = BTreeMap::new();
        for (name, answer) in answers {
            match answer
                .await
                .unwrap_or_else(|_| Err("the agent is stopping".to_owned()))
            {
                Ok(snapshot) => _ = snapshots.insert(name, snapshot),
                Err(error) => _ = errors.insert(name, error),
            }
        }
        (snapshots, errors)
    }

    /// How the collectors are, now and whenever it changes.
    #[must_use]
    pub fn board(&self) -> watch::Receiver<Board> {
        self.board.clone()
    }

    async fn ask(&self, name: &str) -> Result<oneshot::Receiver<Result<Packed, String>>, String> {
        let Some(collector) = self
            .board
            .borrow()
            .collectors
            .keys()
            .find(|known| **known == name)
            .copied()
        else {
            return Err(if COLLECTORS.iter().any(|spec| spec.name == name) {
                "switched off, or without anything to watch, in this host's config".to_owned()
            } else {
                let known: Vec<_> = COLLECTORS.iter().map(|spec| spec.name).collect();
                format!("no such collector; there are: {}", known.join(", "))
            });
        };
        let (answer, outcome) = oneshot::channel();
        let gone = |_| "the agent is stopping".to_owned();
        self.requests
            .send(Request { collector, answer })
            .await
            .map_err(gone)?;
        Ok(outcome)
    }
}
