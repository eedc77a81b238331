//! What is told of starts: that the agent was started, and whether the host was booted anew since it last ran. The last
//! boot's id stands in a file beside the state file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use muster_link::stamp;
use muster_proto::event::Severity;

use crate::facts::Facts;
use crate::state::NewEvent;

const FILE: &str = "boot-id";

/// The file that remembers the last boot.
pub(crate) struct LastBoot {
    path: PathBuf,
    before: Option<String>,
}

impl LastBoot {
    /// What `state_dir` remembers; nothing where the file is missing or can't be read.
    pub(crate) fn read(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let before = std::fs::read_to_string(&path).ok();
        let before = before
            .map(|text| text.trim().to_owned())
            .filter(|id| !id.is_empty());
        Self { path, before }
    }

    /// The boot before, where `now` is another one. An agent's first run knows of none.
    pub(crate) fn rebooted(&self, now: &str) -> Option<&str> {
        self.before
            .as_deref()
            .filter(|before| !now.is_empty() && *before != now)
    }

    /// Remembers `now`. To be called when the event is stored, so that it can't be lost in between.
    ///
    /// # Errors
    /// When the file can't be written: the reboot is told once more after the next start.
    pub(crate) fn remember(&self, now: &str) -> io::Result<()> {
        if self.before.as_deref() == Some(now) || now.is_empty() {
            return Ok(());
        }
        let new = self.path.with_extension("new");
        std::fs::write(&new, format!("{now}\n"))?;
        std::fs::rename(&new, &self.path)
    }
}

/// `host.started`: the ledger knows by it every host that ever was.
pub(crate) fn host_started(
    version: &str,
    labels: &BTreeMap<String, String>,
    found: &Facts,
) -> NewEvent {
    let map = |map: &BTreeMap<String, String>| {
        serde_json::Value::Object(
            map.iter()
                .map(|(name, value)| (name.clone(), value.as_str().into()))
                .collect(),
        )
    };
    let summary = format!("the agent {version} was started");
    NewEvent::new("host.started", stamp::now_ms(), Severity::Info, summary)
        .field("version", version)
        .field("boot_id", found.boot_id.as_str())
        .field("labels", map(labels))
        .field("facts", map(&found.facts))
}

/// `host.rebooted`, with the ids of both boots.
pub(crate) fn host_rebooted(before: &str, now: &str) -> NewEvent {
    let mut event = NewEvent::new(
        "host.rebooted",
        stamp::now_ms(),
        Severity::Notice,
        "the host was booted anew since the agent last ran",
    );
    event.before = before.into();
    event.after = now.into();
    event
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = LastBoot::read(dir.path());
        assert_eq!(first.rebooted("a"), None);
        first.remember("a").unwrap();
        assert_eq!(LastBoot::read(dir.path()).rebooted("a"), None);
        let second = LastBoot::read(dir.path());
        assert_eq!(second.rebooted("b"), Some("a"));
        assert_eq!(second.rebooted(""), None);
        second.remember("b").unwrap();
        assert_eq!(LastBoot::read(dir.path()).rebooted("b"), None);
    }
}
