//! A `[[tail]]` section that reads the journal: its keys, its task, and its part of `muster-agent check`.

use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use toml::Table;

use super::{Journal, JournalSource};
use crate::tail::rules::{RuleError, RuleSet, refused, wrong};
use crate::tail::section::check_name;
use crate::tail::{Matcher, SectionCounters, Sink, Start};

/// The keys of this file; the others belong to the rules.
const KEYS: [&str; 2] = ["name", "start"];

/// Keys that only mean something for files.
const OF_FILES: [&str; 5] = [
    "paths",
    "exclude",
    "encoding",
    "line_bytes_max",
    "multiline",
];

/// How long a look at the last entry may take.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// One section, checked.
#[derive(Clone)]
pub struct JournalSection {
    /// Its name: in events, metrics and the state file.
    pub name: String,
    /// Where to begin.
    pub start: Start,
    /// What is counted while it is followed.
    pub counters: Arc<SectionCounters>,
    source: JournalSource,
    matcher: Arc<dyn Matcher>,
}

impl fmt::Debug for JournalSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalSection")
            .field("name", &self.name)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    start: Start,
}

impl JournalSection {
    /// The section, if `table` is one that reads the journal; it is then taken out of it.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn take(table: &mut Table) -> Result<Option<Self>, RuleError> {
        let Some(source) = JournalSource::take(table)? else {
            return Ok(None);
        };
        let mut table = std::mem::take(table);
        if let Some(key) = OF_FILES.into_iter().find(|key| table.contains_key(*key)) {
            let what =
                "this section reads the journal, not files; files need a section of their own";
            return Err(wrong(key, what));
        }
        let mut own = Table::new();
        for key in KEYS {
            own.extend(table.remove_entry(key));
        }
        let raw: Raw = own.try_into().map_err(|error| refused(&error))?;
        check_name(&raw.name)?;
        let rules = RuleSet::parse(&raw.name, table)?;
        Ok(Some(Self {
            counters: Arc::new(SectionCounters {
                name: raw.name.clone(),
                ..SectionCounters::default()
            }),
            name: raw.name,
            start: raw.start,
            source,
            matcher: Arc::new(rules),
        }))
    }
}

/// Follows the journal for every section until `stop`; `now_ms` is the time in milliseconds since 1970.
pub async fn run(
    sections: Vec<JournalSection>,
    sink: Arc<dyn Sink>,
    now_ms: fn() -> u64,
    stop: CancellationToken,
) {
    if sections.is_empty() {
        stop.cancelled().await;
    }
    let follow = |section: JournalSection| {
        let journal = Journal {
            section: section.name,
            source: section.source,
            from_begin: section.start == Start::Beginning,
            matcher: section.matcher,
            counters: section.counters,
            sink: sink.clone(),
            now_ms,
        };
        journal.follow(stop.clone())
    };
    join_all(sections.into_iter().map(follow)).await;
}

/// Whether the journal can be read.
///
/// # Errors
/// What `journalctl` said, or that it could not be run.
pub async fn check(section: &JournalSection) -> Result<String, String> {
    let program = section.source.program.first();
    let program = program.map_or("journalctl", String::as_str);
    let look = Command::new(program)
        .args(section.source.last_entry())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(LOOK_LIMIT, look).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("start {program}: {error}")),
        Err(_) => return Err(format!("{program} has not ended after {LOOK_LIMIT:?}")),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let said = said.lines().last().unwrap_or_default().trim();
        return Err(format!(
            "{program}: {said} ({}); the agent's user needs the right, as by the group systemd-journal",
            output.status
        ));
    }
    if output.stdout.is_empty() {
        return Ok("the journal has no entry yet".to_owned());
    }
    Ok("the journal can be read".to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Option<JournalSection>, String> {
        JournalSection::take(&mut toml::from_str(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_section_reads_the_journal_or_files() {
        let section = take("name = 'a'\njournal = true\nstart = 'beginning'\npacks = ['sshd']");
        let section = section.unwrap().unwrap();
        assert_eq!(
            (section.name.as_str(), section.start),
            ("a", Start::Beginning)
        );
        assert!(take("name = 'a'\npaths = ['/a']").unwrap().is_none());
        for (text, says) in [
            (
                "name = 'a'\njournal = true\npaths = ['/a']",
                "paths: this section reads the journal",
            ),
            (
                "name = 'a/b'\njournal = true",
                "name: expected up to 64 letters",
            ),
            ("journal = true", "missing field `name`"),
            (
                "name = 'a'\njournal = { unit = 'x' }",
                "journal.unit: no such key",
            ),
            ("name = 'a'\njournal = true\npack = ['sshd']", "pack"),
        ] {
            let error = take(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_read_is_told() {
        let of = |program: &str| {
            let text = format!("name = 'a'\njournal = {{ program = {program} }}\npacks = ['sshd']");
            take(&text).unwrap().unwrap()
        };
        let error = check(&of("['/nowhere/journalctl']")).await.unwrap_err();
        assert!(error.contains("start /nowhere/journalctl: "), "{error}");
        let refused = of("['sh', '-c', 'echo no permission >&2; exit 1']");
        let error = check(&refused).await.unwrap_err();
        assert!(
            error.contains("no permission (exit status: 1); the agent's user needs"),
            "{error}"
        );
    }
}
