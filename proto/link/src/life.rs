//! A session's life as its parts share it: its end, which is told once, and whether the broker takes messages. It must
//! not know what they do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::connect::Socket;
use crate::error::{Ended, describe, is_refusal};

/// Longest wait for the set-up that a refusal is about.
const TELL_LIMIT: Duration = Duration::from_secs(2);

/// What a session's parts know of each other.
pub(crate) struct Shared {
    /// How its end is told, before the reason.
    at: String,
    pub(crate) ended: watch::Sender<Option<Ended>>,
    pub(crate) blocked: watch::Sender<Option<String>>,
    /// Set-ups that wait for their answer.
    waiting: watch::Sender<usize>,
    /// Whether it is being closed: what then comes to an end is no failure.
    closing: AtomicBool,
    socket: Socket,
}

impl Shared {
    pub(crate) fn new(at: String, socket: Socket) -> Self {
        Self {
            at,
            ended: watch::Sender::new(None),
            blocked: watch::Sender::new(None),
            waiting: watch::Sender::new(0),
            closing: AtomicBool::new(false),
            socket,
        }
    }

    /// For a set-up, from before its question until it has told what it knows.
    pub(crate) fn waits(&self) -> Waits<'_> {
        self.waiting.send_modify(|number| *number += 1);
        Waits(self)
    }

    /// Ends the session for what the library tells. A refusal ends the channel that it is about, and is told here before
    /// it reaches the set-up that waits for it: that one goes first, for its words say what was refused.
    pub(crate) async fn fail(&self, error: &lapin::Error) {
        if is_refusal(error) {
            let mut waiting = self.waiting.subscribe();
            tokio::select! {
                _ = timeout(TELL_LIMIT, waiting.wait_for(|number| *number == 0)) => {}
                _ = self.over() => {}
            }
        }
        self.end(describe(error));
    }

    /// For as long as the goodbye takes; the session ends with it. Nothing else ends it from here on: consumers and
    /// publisher notice that the connection closes, and what was handed to it before may not be on its way yet. None
    /// where somebody says goodbye already.
    pub(crate) fn goodbye(&self) -> Option<Goodbye<'_>> {
        let first = !self.closing.swap(true, Ordering::AcqRel);
        first.then_some(Goodbye(self))
    }

    /// Ends the session, unless it is being closed; the first reason stays.
    pub(crate) fn end(&self, why: String) {
        if !self.closing.load(Ordering::Acquire) {
            self.finish(&why);
        }
    }

    fn finish(&self, why: &str) {
        let why = format!("{} ({why})", self.at);
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(Ended { why });
            }
            first
        });
        self.socket.cut();
    }

    /// Waits until the session has ended, and says why.
    pub(crate) async fn over(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        let seen = ended.wait_for(Option::is_some).await;
        seen.ok().and_then(|seen| seen.clone()).unwrap_or(Ended {
            why: "the session was dropped".to_owned(),
        })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    pub(crate) fn why_ended(&self) -> String {
        self.ended
            .borrow()
            .as_ref()
            .map_or_else(String::new, |ended| ended.why.clone())
    }
}

/// See [`Shared::goodbye`].
pub(crate) struct Goodbye<'a>(&'a Shared);

impl Drop for Goodbye<'_> {
    fn drop(&mut self) {
        self.0.finish("it was closed");
    }
}

/// Counted among the set-ups that wait, for as long as it lives.
pub(crate) struct Waits<'a>(&'a Shared);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|number| *number -= 1);
    }
}
