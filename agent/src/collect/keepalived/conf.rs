//! The few words of keepalived's own configuration that say where it writes. Pure but for reading the files.

use std::path::{Path, PathBuf};

/// Files read at the most, and how deep they include each other.
const FILES_MAX: usize = 256;
const DEPTH_MAX: usize = 8;
/// Longest file.
const BYTES_MAX: u64 = 16 << 20;

/// Where dumps go, where the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DumpPaths {
    pub(super) state: Option<PathBuf>,
    pub(super) stats: Option<PathBuf>,
    pub(super) json: Option<PathBuf>,
}

/// Words of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    paths: DumpPaths,
    includes: Vec<String>,
}

/// Reads `path` and what it includes. What can't be read says nothing.
pub(super) fn read(path: &Path) -> DumpPaths {
    let mut paths = DumpPaths::default();
    let mut left = FILES_MAX;
    follow(path, DEPTH_MAX, &mut left, &mut paths);
    paths
}

fn follow(path: &Path, depth: usize, left: &mut usize, paths: &mut DumpPaths) {
    let small = std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= BYTES_MAX);
    if *left == 0 || depth == 0 || !small {
        return;
    }
    *left -= 1;
    let Ok(bytes) = std::fs::read(path) else {
        return;
    };
    let words = scan(&String::from_utf8_lossy(&bytes));
    paths.state = words.paths.state.or(paths.state.take());
    paths.stats = words.paths.stats.or(paths.stats.take());
    paths.json = words.paths.json.or(paths.json.take());
    let folder = path.parent().unwrap_or(Path::new("/"));
    for include in words.includes {
        for file in matching(&folder.join(include)) {
            follow(&file, depth - 1, left, paths);
        }
    }
}

fn scan(text: &str) -> Words {
    let mut words = Words::default();
    for line in text.lines() {
        let line = line.split(['#', '!']).next().unwrap_or(line);
        let mut parts = line.split_ascii_whitespace();
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let value = value.trim_matches(['"', '\'']);
        let place = match key {
            "state_dump_file" => &mut words.paths.state,
            "stats_dump_file" => &mut words.paths.stats,
            "json_dump_file" => &mut words.paths.json,
            "include" => {
                words.includes.push(value.to_owned());
                continue;
            }
            _ => continue,
        };
        if value.starts_with('/') {
            *place = Some(PathBuf::from(value));
        }
    }
    words
}

/// The files that a path with `*` and `?` in its last part stands for.
fn matching(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let Some(name) = name.filter(|name| name.contains(['*', '?'])) else {
        return vec![path.to_owned()];
    };
    let pattern = super::super::pattern::Patterns::of(&[name.as_ref()]);
    let entries = path
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok());
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| pattern.matches(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .take(FILES_MAX)
        .collect();
    files.sort();
    files
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn moved_files_are_found_through_includes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("conf.d")).unwrap();
        let main = "global_defs {\n  state_dump_file /run/ka.data # here\n  ! stats_dump_file /no\n}\ninclude conf.d/*.conf\n";
        std::fs::write(at("keepalived.conf"), main).unwrap();
        std::fs::write(
            at("conf.d/a.conf"),
            "json_dump_file \"/run/ka.json\"\ninclude ../keepalived.conf\n",
        )
        .unwrap();
        std::fs::write(at("conf.d/b.other"), "stats_dump_file /run/no\n").unwrap();
        let paths = read(&at("keepalived.conf"));
        assert_eq!(paths.state, Some("/run/ka.data".into()));
        assert_eq!(paths.json, Some("/run/ka.json".into()));
        assert_eq!(paths.stats, None);
        assert_eq!(read(&at("nothing")), DumpPaths::default());
    }
}
