//! Log files and journals: from lines to events.
//!
//! A reader takes blocks of whole lines from a source, a [`Matcher`] says which lines matter and what they mean, and a
//! [`Sink`] makes the events, the new place in the source and the alert states durable in one commit. It must not know
//! the state file, the broker or the whole config.

mod alerts;
mod charset;
mod check;
mod copies;
mod counters;
mod cursor;
mod digest;
mod engine;
mod followed;
mod glob;
pub mod journal;
mod lane;
mod limits;
mod lines;
mod names;
mod notice;
pub mod packs;
mod part;
mod records;
mod recover;
pub mod rules;
mod section;
mod task;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
mod turn;
mod watch;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use muster_proto::event::Severity;
use serde_json::Value;

pub use alerts::AlertStates;
pub use check::check;
pub use counters::SectionCounters;
pub use engine::{Engine, Pass, WRITER, Wanted};
pub use followed::Now;
pub use limits::RateLimits;
pub use section::{Section, Start};
pub use task::run;

/// Reads a `[[tail]]` table of the configuration with its rules.
///
/// # Errors
/// What is wrong, where in the table, and what would be right.
pub fn section(table: toml::Table) -> Result<Section, rules::RuleError> {
    Section::parse(table, |name, rest| {
        Ok(Arc::new(rules::RuleSet::parse(name, rest)?))
    })
}

/// Where a line came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceInfo {
    /// The name of the `[[tail]]` section.
    pub section: String,
    /// The file's path as the section's pattern found it, or `journal`.
    pub origin: String,
}

/// One line, or one record of several, as the reader hands it on.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// The bytes without the line's end; UTF-8 where the section names another encoding.
    pub bytes: &'a [u8],
    /// Whether the line was longer than the section's bound and its rest is missing.
    pub truncated: bool,
    /// When it was read, in milliseconds since 1970.
    pub at_ms: u64,
    /// Where it came from.
    pub source: &'a SourceInfo,
}

/// The compiled rules of one section.
pub trait Matcher: Send + Sync {
    /// Calls `hit` with the range of every line of `block` in which a rule's pattern may occur, in order and without its
    /// line end. `block` holds whole lines. Lines without a hit are never touched one by one.
    fn candidates(&self, block: &[u8], hit: &mut dyn FnMut(Range<usize>));

    /// What a candidate line means: updates `alerts` and `limits`, appends events to `out`. No other effects.
    fn apply(
        &self,
        line: &Line<'_>,
        alerts: &mut AlertStates,
        limits: &mut RateLimits,
        out: &mut Vec<TailEvent>,
    );

    /// What time alone brings, such as a summary of what a rate limit held back.
    fn tick(
        &self,
        now_ms: u64,
        alerts: &mut AlertStates,
        limits: &mut RateLimits,
        out: &mut Vec<TailEvent>,
    );
}

/// Something that a log said, to become an event.
#[derive(Debug, Clone, PartialEq)]
pub struct TailEvent {
    /// What, in dotted words, without the host: `keepalived.vrrp.master`.
    pub topic: String,
    /// How bad it is.
    pub severity: Severity,
    /// One line for people.
    pub summary: String,
    /// What it is about.
    pub key: String,
    /// The state before, where it is a change of state.
    pub before: Value,
    /// The state after.
    pub after: Value,
    /// More to know, by name, units last.
    pub fields: BTreeMap<String, Value>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A record to store under a key, or `None` to remove it.
pub type Change<Key> = (Key, Option<Vec<u8>>);

/// What is committed at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Who writes it; each writer numbers its own batches.
    pub writer: String,
    /// Rises by one with each batch of the writer. A number that was committed before is not applied again.
    pub seq: u64,
    /// To be sent.
    pub events: Vec<TailEvent>,
    /// Places in sources.
    pub cursors: Vec<Change<Vec<u8>>>,
    /// Alert states, by section and key.
    pub alerts: Vec<Change<(String, String)>>,
}

/// What a writer finds of its earlier batches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// The number of the last batch; 0 where there was none.
    pub seq: u64,
    /// Places in sources.
    pub cursors: Vec<(Vec<u8>, Vec<u8>)>,
    /// Alert states of all sections, by section and key.
    pub alerts: Vec<((String, String), Vec<u8>)>,
}

/// Why a batch was not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Try the same batch again later.
    #[error("{0}")]
    NotNow(String),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Closed,
}

/// Where batches go: each is durable as a whole or not at all.
pub trait Sink: Send + Sync {
    /// What `writer` has stored.
    fn load<'a>(&'a self, writer: &'a str) -> BoxFuture<'a, Result<Stored, SinkError>>;

    /// Commits a batch; waits for as long as there is no room for its events. The answer is how often the store was
    /// damaged and begun anew since the agent was started: once it rises, what was stored before has to be stored again.
    fn commit<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>>;
}
