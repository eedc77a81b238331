//! Silences: what an operator does not want to hear of for a while, with the reason. Pure; the time is handed in.

use std::collections::BTreeMap;

use muster_proto::id::MessageId;
use muster_proto::target::Target;

use super::heard::Heard;

/// Silences that are kept at a time.
pub(crate) const SILENCES_MAX: usize = 1000;

/// A silence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Silence {
    /// Its id.
    pub(crate) id: MessageId,
    /// Which events it is about.
    pub(crate) matches: Target,
    /// Which reaction; all if none.
    pub(crate) reaction: Option<String>,
    /// When it ends, in milliseconds since 1970.
    pub(crate) until_ms: u64,
    /// Why.
    pub(crate) comment: String,
    /// Whose.
    pub(crate) by: String,
}

/// The silences that there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Silences(BTreeMap<MessageId, Silence>);

impl Silences {
    /// Adds one. Of too many the one that ends first goes.
    pub(crate) fn add(&mut self, silence: Silence) {
        self.0.insert(silence.id, silence);
        if self.0.len() > SILENCES_MAX
            && let Some(id) = self.0.values().min_by_key(|it| it.until_ms).map(|it| it.id)
        {
            self.0.remove(&id);
        }
    }

    /// Takes one away.
    pub(crate) fn remove(&mut self, id: &MessageId) {
        self.0.remove(id);
    }

    /// The one that is about `heard` for the reaction called `reaction` at `now_ms`.
    pub(crate) fn over(&self, heard: &Heard, reaction: &str, now_ms: u64) -> Option<&Silence> {
        self.0.values().find(|silence| {
            now_ms < silence.until_ms
                && silence
                    .reaction
                    .as_deref()
                    .is_none_or(|name| name == reaction)
                && silence.matches.matches(heard)
        })
    }
}
