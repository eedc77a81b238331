//! The systemd journal as a source of lines, read by `journalctl`: the one program that is kept in step with the
//! journal's files, through rotation, compression and vacuum. Its cursor is committed with the events, so that neither
//! its death nor ours loses or repeats an entry.
//!
//! `journalctl` gets no filters: with one, some versions leave the entry after a cursor out. Entries are chosen here.

mod export;
mod reader;
mod section;

use std::path::PathBuf;

use toml::Table;

use self::export::Entry;
use super::rules::{RuleError, Step};
use crate::collect::glob;

pub use reader::Journal;
pub use section::{JournalSection, check, run};

/// What to read of which journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSource {
    /// The program and what comes before our arguments.
    pub program: Vec<String>,
    /// The folder of the journal's files, if it is not the machine's own.
    pub directory: Option<PathBuf>,
    /// Names or globs of those who write; all of them where there is none.
    pub identifiers: Vec<String>,
    /// Units or globs of units; all of them where there is none.
    pub units: Vec<String>,
}

impl Default for JournalSource {
    fn default() -> Self {
        Self {
            program: vec!["journalctl".to_owned()],
            directory: None,
            identifiers: Vec::new(),
            units: Vec::new(),
        }
    }
}

impl JournalSource {
    /// Takes the key `journal` out of a `[[tail]]` section: `true`, or a table of what to read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(section: &mut Table) -> Result<Option<Self>, RuleError> {
        let step = Step::Key("journal".to_owned());
        let wrong = |what: String| RuleError {
            path: vec![step.clone()],
            offset: None,
            what,
        };
        match section.remove("journal") {
            None | Some(toml::Value::Boolean(false)) => Ok(None),
            Some(toml::Value::Boolean(true)) => Ok(Some(Self::default())),
            Some(toml::Value::Table(table)) => Self::read(table)
                .map(Some)
                .map_err(|error| error.under(std::slice::from_ref(&step))),
            Some(other) => Err(wrong(format!("expected true or a table, found {other}"))),
        }
    }

    fn read(table: Table) -> Result<Self, RuleError> {
        let mut keys = super::rules::Keys(table);
        let mut source = Self {
            directory: keys.text("directory")?.map(PathBuf::from),
            identifiers: keys.texts("identifiers")?,
            units: keys.texts("units")?,
            ..Self::default()
        };
        let program = keys.texts("program")?;
        if !program.is_empty() {
            source.program = program;
        }
        keys.end()?;
        Ok(source)
    }

    fn wants(&self, entry: &Entry) -> bool {
        let any = |globs: &[String], name: &str| {
            globs.is_empty() || globs.iter().any(|pattern| glob(pattern, name))
        };
        any(&self.identifiers, &entry.identifier) && any(&self.units, &entry.unit)
    }

    /// `journalctl`'s arguments for a look at the last entry.
    fn last_entry(&self) -> Vec<String> {
        let mut arguments = self.plain_arguments();
        arguments.push("--lines=1".to_owned());
        arguments
    }

    /// What it is always given.
    fn plain_arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = self.program.iter().skip(1).cloned().collect();
        arguments.extend(
            [
                "--output=export",
                "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_COMM,_PID,SYSLOG_PID,_SYSTEMD_UNIT",
                "--no-pager",
                "--quiet",
                "--all",
            ]
            .map(str::to_owned),
        );
        if let Some(directory) = &self.directory {
            arguments.push(format!("--directory={}", directory.display()));
        }
        arguments
    }

    /// Its arguments to follow the journal, from `from` on.
    fn arguments(&self, from: &Begin) -> Vec<String> {
        let mut arguments = self.plain_arguments();
        arguments.push("--follow".to_owned());
        match from {
            // Without this it would begin with the last ten.
            Begin::Cursor(cursor) => {
                arguments.extend(["--no-tail".to_owned(), format!("--after-cursor={cursor}")])
            }
            Begin::Time(us) => arguments.extend([
                "--no-tail".to_owned(),
                format!("--since=@{}", us / 1_000_000),
            ]),
            Begin::First => arguments.push("--no-tail".to_owned()),
            Begin::End => arguments.push("--lines=1".to_owned()),
        }
        arguments
    }
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Begin {
    /// After this entry.
    Cursor(String),
    /// At this time, in microseconds since 1970: where a cursor is of no use any more.
    Time(u64),
    /// With everything.
    First,
    /// With what is written from now on. The last entry that is there comes as well, for its cursor.
    End,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_section_says_what_is_read() {
        let take = |text: &str| {
            let mut table: Table = toml::from_str(text).unwrap();
            JournalSource::take(&mut table).map_err(|error| error.to_string())
        };
        assert_eq!(take("x = 1"), Ok(None));
        assert_eq!(take("journal = true"), Ok(Some(JournalSource::default())));
        let some =
            take("journal = { identifiers = ['Keepalived*'], directory = '/var/log/journal' }")
                .unwrap()
                .unwrap();
        let entry = |identifier: &str| Entry {
            identifier: identifier.to_owned(),
            ..Entry::default()
        };
        assert!(some.wants(&entry("Keepalived_vrrp")) && !some.wants(&entry("sshd")));
        let arguments = some.arguments(&Begin::Cursor("s=1".to_owned()));
        assert!(arguments.ends_with(&[
            "--directory=/var/log/journal".to_owned(),
            "--follow".to_owned(),
            "--no-tail".to_owned(),
            "--after-cursor=s=1".to_owned()
        ]));
        assert_eq!(
            take("journal = 1"),
            Err("journal: expected true or a table, found 1".to_owned())
        );
        assert_eq!(
            take("journal = { unit = 'a' }"),
            Err("journal.unit: no such key is known here".to_owned())
        );
    }
}
