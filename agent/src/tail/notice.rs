//! Events about the reading itself: what was lost, what can't be read.

use std::collections::BTreeMap;
use std::path::Path;

use muster_proto::event::Severity;
use serde_json::Value;

use super::TailEvent;

/// Bytes of a log are gone that nobody has read.
pub(super) fn lost(
    section: &str,
    path: &Path,
    bytes: u64,
    at_least: bool,
    at_ms: u64,
) -> TailEvent {
    let shown = path.display();
    let summary = match (bytes, at_least) {
        (0, _) => format!(
            "{shown} was rotated away while the agent was not running; what was written to it then is lost"
        ),
        (_, true) => format!("at least {bytes} bytes of {shown} were gone before they were read"),
        (_, false) => format!("{bytes} bytes of {shown} were gone before they were read"),
    };
    let mut event = event(
        "agent.log.lost",
        Severity::Warning,
        section,
        path,
        summary,
        at_ms,
    );
    event.fields.insert("lost_bytes".to_owned(), bytes.into());
    event.fields.insert("at_least".to_owned(), at_least.into());
    event
}

/// A log is there and can't be read.
pub(super) fn unreadable(
    section: &str,
    path: &Path,
    error: &std::io::Error,
    at_ms: u64,
) -> TailEvent {
    let summary = format!(
        "read {}: {error}; the agent needs the right to read it",
        path.display()
    );
    let mut event = event(
        "agent.log.unreadable",
        Severity::Warning,
        section,
        path,
        summary,
        at_ms,
    );
    (event.before, event.after) = ("readable".into(), "unreadable".into());
    event
}

/// It can be read again.
pub(super) fn readable(section: &str, path: &Path, at_ms: u64) -> TailEvent {
    let summary = format!("{} can be read", path.display());
    let mut event = event(
        "agent.log.readable",
        Severity::Notice,
        section,
        path,
        summary,
        at_ms,
    );
    (event.before, event.after) = ("unreadable".into(), "readable".into());
    event
}

/// A section finds more files than it may follow.
pub(super) fn too_many(section: &str, max: usize, at_ms: u64) -> TailEvent {
    let summary = format!(
        "the patterns of [[tail]] {section} find too many files or directories; only {max} files are followed"
    );
    event(
        "agent.log.crowded",
        Severity::Warning,
        section,
        Path::new(""),
        summary,
        at_ms,
    )
}

/// The places of an earlier run are not known, since the state file was damaged.
pub(super) fn begun_anew(section: &str, files: usize, at_ms: u64) -> TailEvent {
    let summary = format!(
        "[[tail]] {section} begins anew with {files} files: nothing is known of an earlier run"
    );
    let mut event = event(
        "agent.log.begun",
        Severity::Notice,
        section,
        Path::new(""),
        summary,
        at_ms,
    );
    event.fields.insert("files".to_owned(), files.into());
    event
}

fn event(
    topic: &str,
    severity: Severity,
    section: &str,
    path: &Path,
    summary: String,
    at_ms: u64,
) -> TailEvent {
    let path = path.display().to_string();
    let mut fields = BTreeMap::from([("section".to_owned(), Value::from(section))]);
    if !path.is_empty() {
        fields.insert("path".to_owned(), path.clone().into());
    }
    TailEvent {
        topic: topic.to_owned(),
        severity,
        summary,
        key: if path.is_empty() {
            section.to_owned()
        } else {
            path
        },
        before: Value::Null,
        after: Value::Null,
        fields,
        at_ms,
    }
}
