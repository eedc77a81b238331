//! The logs that may be searched: globs from the config, walked from their folder on without following any link, each
//! file opened on the way, so that nothing can be put in its place between. It must not know what is searched for.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fd::OwnedFd;
use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, open, openat};

use crate::collect::glob;

/// Files that one job looks at, at the most.
const FILES_MAX: usize = 1_000;

/// Files that are named as left out, at the most.
pub(super) const SKIPPED_MAX: usize = 20;

/// Entries of folders that are looked at, at the most.
const ENTRIES_MAX: usize = 100_000;

/// Endings of files that are not text.
const NOT_TEXT: &[&str] = &[".gz", ".xz", ".bz2", ".zst", ".journal", ".lz4"];

/// The globs of `[logs] search`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogGlobs(Vec<Vec<String>>);

/// What the globs have found.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) files: Vec<Allowed>,
    /// What was not taken, and why.
    pub(super) skipped: Vec<(String, String)>,
}

/// A log that may be searched, open.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) path: String,
    pub(super) file: File,
    pub(super) modified: SystemTime,
}

impl LogGlobs {
    /// Reads globs: paths from the root, `*` and `?` within their parts.
    ///
    /// # Errors
    /// What is wrong with the first that is.
    pub fn parse(globs: &[String]) -> Result<Self, String> {
        let parse = |text: &String| {
            let parts: Vec<String> = text.split('/').skip(1).map(str::to_owned).collect();
            let bad = |part: &String| part.is_empty() || part == "." || part == "..";
            if !text.starts_with('/') || parts.is_empty() || parts.iter().any(bad) {
                return Err(format!(
                    "expected a path such as \"/var/log/*.log\", from the root and without .., found {text:?}"
                ));
            }
            Ok(parts)
        };
        globs.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing may be searched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The globs as they were written.
    pub(super) fn shown(&self) -> String {
        let globs: Vec<String> = self
            .0
            .iter()
            .map(|parts| format!("/{}", parts.join("/")))
            .collect();
        globs.join(", ")
    }

    /// The files that are there.
    pub(super) fn find(&self) -> Logs {
        let mut walk = Walk::default();
        for parts in &self.0 {
            let fixed = parts.iter().take_while(|part| !part.contains(['*', '?']));
            // The folder that the operator has named may be a link; what is in it may not.
            let fixed = fixed.count().min(parts.len() - 1);
            let (folder, rest) = parts.split_at(fixed);
            let path = PathBuf::from(format!("/{}", folder.join("/")));
            match open(
                &path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                Ok(folder) => walk.go(&folder, &path, rest),
                Err(error) => walk.skip(&path, error.to_string()),
            }
        }
        walk.logs.files.sort_by(|a, b| a.path.cmp(&b.path));
        walk.logs.files.dedup_by(|a, b| a.path == b.path);
        walk.logs
    }
}

/// Whether a path matches a glob; `*` crosses slashes.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    glob(pattern, path)
}

#[derive(Default)]
struct Walk {
    logs: Logs,
    entries: usize,
}

impl Walk {
    fn go(&mut self, folder: &OwnedFd, at: &Path, parts: &[String]) {
        let Some((part, rest)) = parts.split_first() else {
            return;
        };
        let names = match Dir::read_from(folder) {
            Ok(names) => names,
            Err(error) => return self.skip(at, error.to_string()),
        };
        for entry in names.flatten() {
            self.entries += 1;
            if self.entries > ENTRIES_MAX || self.logs.files.len() >= FILES_MAX {
                return self.skip(at, "there are too many files".to_owned());
            }
            let name = entry.file_name().to_bytes();
            let path = at.join(std::ffi::OsStr::from_bytes(name));
            let name = String::from_utf8_lossy(name);
            if name == "." || name == ".." || !glob(part, &name) {
                continue;
            }
            let flags = OFlags::RDONLY
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::NOCTTY
                | OFlags::CLOEXEC;
            if rest.is_empty() {
                self.take(folder, entry.file_name(), &path, flags);
            } else if let Ok(inner) = openat(
                folder,
                entry.file_name(),
                flags | OFlags::DIRECTORY,
                Mode::empty(),
            ) {
                self.go(&inner, &path, rest);
            }
        }
    }

    fn take(&mut self, folder: &OwnedFd, name: &std::ffi::CStr, path: &Path, flags: OFlags) {
        let shown = path.display().to_string();
        if NOT_TEXT.iter().any(|ending| shown.ends_with(ending)) {
            return;
        }
        let opened = match openat(folder, name, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(rustix::io::Errno::LOOP) => return self.skip(path, "it is a link".to_owned()),
            Err(error) => return self.skip(path, error.to_string()),
        };
        let is_file = fstat(&opened)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        if !is_file {
            return;
        }
        let file = File::from(opened);
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        self.logs.files.push(Allowed {
            path: shown,
            modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
            file,
        });
    }

    fn skip(&mut self, path: &Path, why: String) {
        if self.logs.skipped.len() < SKIPPED_MAX {
            self.logs.skipped.push((path.display().to_string(), why));
        }
    }
}
