//! Whether the files of a section can be read, for `muster-agent check`. Changes nothing.

use std::path::Path;

use super::glob::Found;
use super::part::open_plain;
use super::section::Section;

/// Files that are named at the most.
const NAMED_MAX: usize = 20;

/// The section's name with each thing that there is to say.
pub fn check(section: &Section) -> Vec<(&str, Result<String, String>)> {
    let mut said = Vec::new();
    let mut good = 0_usize;
    for (number, glob) in section.globs.iter().enumerate() {
        let mut found = Found::default();
        glob.find(number, &section.exclude, usize::MAX, &mut found);
        for dir in found.dirs.iter().filter(|dir| dir.is_dir()) {
            if let Err(error) = std::fs::read_dir(dir) {
                said.push(Err(format!(
                    "list {}: {error}; new files there will not be found",
                    dir.display()
                )));
            }
        }
        if found.files.is_empty() {
            said.push(Ok(format!("{} finds no file yet", glob.text())));
        }
        for (path, _) in found.files.values() {
            match open_plain(path) {
                Ok(_) => good += 1,
                Err(error) => said.push(Err(unreadable(path, &error))),
            }
        }
    }
    let more = said.len().saturating_sub(NAMED_MAX);
    said.truncate(NAMED_MAX);
    if more > 0 {
        said.push(Err(format!("and {more} more like these")));
    }
    if good > 0 {
        said.push(Ok(format!("{good} file(s) can be read")));
    }
    said.into_iter()
        .map(|said| (section.name.as_str(), said))
        .collect()
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!(
        "read {}: {error}; the agent's user needs the right, as by the group adm",
        path.display()
    )
}
