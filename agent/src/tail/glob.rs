//! The files that patterns such as `/var/log/*.log` name at the moment, and the directories in which others may turn up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::cursor::FileId;
use super::names;

/// Directories that one pattern may lead through.
const DIRS_MAX: usize = 1000;

/// Directories below each other that `**` goes through.
const DEPTH_MAX: usize = 16;

/// A path with `*`, `?` and `[…]` in its names, and `**` for any directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    text: String,
    names: Vec<String>,
}

/// What the patterns of a section find.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The files with the path and the number of the pattern under which each was found first.
    pub(super) files: BTreeMap<FileId, (PathBuf, usize)>,
    /// Directories to be told of changes in.
    pub(super) dirs: BTreeSet<PathBuf>,
    /// Whether there was more than may be.
    pub(super) too_many: bool,
}

impl Glob {
    /// Reads a pattern.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wanted = || format!("expected a path that begins with /, found {text:?}");
        let mut names = Vec::new();
        for component in Path::new(text).components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
                _ => return Err(wanted()),
            }
        }
        if !text.starts_with('/') || names.is_empty() || text.ends_with('/') {
            return Err(wanted());
        }
        Ok(Self {
            text: text.to_owned(),
            names,
        })
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Looks for files; at most `files_max` in all of `found`.
    pub(super) fn find(
        &self,
        number: usize,
        exclude: &Exclude,
        files_max: usize,
        found: &mut Found,
    ) {
        let walk = Walk {
            number,
            exclude,
            files_max,
        };
        walk.below(Path::new("/"), &self.names, 0, found);
    }
}

struct Walk<'a> {
    number: usize,
    exclude: &'a Exclude,
    files_max: usize,
}

impl Walk<'_> {
    fn below(&self, dir: &Path, names: &[String], depth: usize, found: &mut Found) {
        let Some((name, rest)) = names.split_first() else {
            return;
        };
        if depth > DEPTH_MAX || found.dirs.len() >= DIRS_MAX {
            found.too_many = true;
            return;
        }
        if name == "**" {
            self.below(dir, rest, depth, found);
            for (path, is_dir) in listed(dir, found) {
                if is_dir {
                    self.below(&path, names, depth + 1, found);
                }
            }
            return;
        }
        if !is_pattern(name) {
            let path = dir.join(name);
            if rest.is_empty() {
                found.dirs.insert(dir.to_owned());
                self.file(path, found);
            } else if path.is_dir() {
                self.below(&path, rest, depth, found);
            } else {
                // Until it is there, its nearest parent tells of it.
                found.dirs.insert(dir.to_owned());
            }
            return;
        }
        for (path, _) in listed(dir, found) {
            let fits = path
                .file_name()
                .is_some_and(|found| matches(name.as_bytes(), found.to_string_lossy().as_bytes()));
            if !fits {
                continue;
            }
            if rest.is_empty() {
                self.file(path, found);
            } else if path.is_dir() {
                self.below(&path, rest, depth, found);
            }
        }
    }

    fn file(&self, path: PathBuf, found: &mut Found) {
        if self.exclude.excludes(&path) {
            return;
        }
        let Ok(meta) = fs::metadata(&path) else {
            return;
        };
        if !meta.is_file() {
            return;
        }
        let id = FileId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        if !found.files.contains_key(&id) && found.files.len() >= self.files_max {
            found.too_many = true;
            return;
        }
        if path.is_symlink()
            && let Ok(target) = path.canonicalize()
            && let Some(parent) = target.parent()
        {
            found.dirs.insert(parent.to_owned());
        }
        found.files.entry(id).or_insert((path, self.number));
    }
}

fn listed(dir: &Path, found: &mut Found) -> Vec<(PathBuf, bool)> {
    found.dirs.insert(dir.to_owned());
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .map(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            (entry.path(), is_dir)
        })
        .collect();
    paths.sort();
    paths
}

/// Files that are left alone: packed ones, and what the section says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exclude(Vec<String>);

impl Exclude {
    /// Patterns for file names, or for whole paths where they have a slash.
    pub(super) fn of(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    fn excludes(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        names::is_packed(&name)
            || self.0.iter().any(|pattern| {
                if pattern.contains('/') {
                    matches(pattern.as_bytes(), path.to_string_lossy().as_bytes())
                } else {
                    matches(pattern.as_bytes(), name.as_bytes())
                }
            })
    }
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Goes through both once; after a failure it takes up again at the last star, one byte further, so that the time is
/// bounded by the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, name);
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            star = Some((after, left));
            rest = after;
            continue;
        }
        if rest.is_empty() && left.is_empty() {
            return true;
        }
        match left.split_first().zip(one(rest, left)) {
            Some(((_, name_left), pattern_left)) => (rest, left) = (pattern_left, name_left),
            None => match star {
                Some((after, [_, further @ ..])) => {
                    star = Some((after, further));
                    (rest, left) = (after, further);
                }
                _ => return false,
            },
        }
    }
}

/// Matches one byte; the rest of the pattern where it fits.
fn one<'a>(pattern: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let found = *name.first()?;
    let (want, rest) = pattern.split_first()?;
    match want {
        b'?' => Some(rest),
        b'[' => {
            let Some(end) = rest.iter().skip(1).position(|byte| *byte == b']') else {
                return (found == b'[').then_some(rest);
            };
            let (set, rest) = rest.split_at(end + 1);
            let (not, set) = match set {
                [b'!' | b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            (in_set(set, found) != not).then(|| rest.get(1..).unwrap_or_default())
        }
        want => (*want == found).then_some(rest),
    }
}

fn in_set(set: &[u8], found: u8) -> bool {
    let mut rest = set;
    loop {
        match rest {
            [from, b'-', to, after @ ..] => {
                if (*from..=*to).contains(&found) {
                    return true;
                }
                rest = after;
            }
            [byte, after @ ..] => {
                if *byte == found {
                    return true;
                }
                rest = after;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_match() {
        for (pattern, name, want) in [
            ("*.log", "a.log", true),
            ("*.log", "a.log.1", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[!a-c]x", "dx", true),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*", "", true),
            ("", "", true),
            ("?", "", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                want,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn files_are_found_once_and_directories_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for path in ["a/x.log", "a/y.log.gz", "b/x.log", "b/c/x.log", "b/x.txt"] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("a/x.log"), root.join("b/z.log")).unwrap();
        let find = |patterns: &[&str], exclude: &[&str]| {
            let exclude = Exclude::of(exclude.iter().map(|&text| text.to_owned()).collect());
            let mut found = Found::default();
            for (number, pattern) in patterns.iter().enumerate() {
                let glob = Glob::parse(&format!("{}/{pattern}", root.display())).unwrap();
                glob.find(number, &exclude, 100, &mut found);
            }
            let shown = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
            let files: BTreeSet<String> =
                found.files.values().map(|(path, _)| shown(path)).collect();
            let dirs: Vec<String> = found.dirs.iter().map(shown).collect();
            (Vec::from_iter(files), dirs)
        };
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        for (patterns, exclude, files, dirs) in [
            (
                &["*/*.log"][..],
                &[][..],
                &["a/x.log", "b/x.log"][..],
                &["", "a", "b"][..],
            ),
            (
                &["**/x.log"],
                &["*/c/*"],
                &["a/x.log", "b/x.log"],
                &["", "a", "b", "b/c"],
            ),
            (&["b/z.log", "a/*"], &[], &["b/z.log"], &["a", "b"]),
            (&["new/x.log"], &[], &[], &[""]),
            (&["b/*"], &["x.*"], &["b/z.log"], &["a", "b"]),
        ] {
            assert_eq!(
                find(patterns, exclude),
                (owned(files), owned(dirs)),
                "{patterns:?}"
            );
        }
        assert!(Glob::parse("relative").is_err() && Glob::parse("/a/../b").is_err());
    }
}
