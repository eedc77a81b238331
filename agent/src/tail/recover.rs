//! What has become of a file that is not where it was: renamed or copied beside its old name, packed, or gone; and what
//! was written and rotated away since. It must not know lines.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::cursor::{FileId, HEAD_BYTES_MAX, MARK_BYTES_MAX, Place, Verdict};
use super::names;
use super::part::{id_of, open_plain, read_at, written_ms};

/// Entries of a directory that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// By how much clocks and file times may be apart.
const TIME_SLACK_MS: u64 = 2_000;

/// What was found of a file.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// The same content under another name, with the place in it.
    pub(super) same: Option<(Place, PathBuf)>,
    /// Files that were begun and rotated away later, oldest first.
    pub(super) later: Vec<(FileId, PathBuf)>,
    /// Bytes that can't be read any more.
    pub(super) lost_bytes: u64,
    /// Whether it may be more.
    pub(super) at_least: bool,
}

struct Entry {
    id: FileId,
    path: PathBuf,
    name: String,
    written_ms: u64,
}

impl Entry {
    /// What orders files from the oldest to the youngest.
    fn age(&self) -> (u64, (i64, String)) {
        (self.written_ms, names::age(&self.name))
    }
}

/// Looks for the content of `old` beside its name, and for what was begun and rotated away later; where it is known to
/// have been `succeeded` by another file, that is the other's to look for. Files in `known` are read already.
pub(super) fn remains(old: &Place, known: &BTreeSet<FileId>, succeeded: bool) -> Remains {
    let path = old.path();
    let base = path.file_name().unwrap_or_default().to_string_lossy();
    let entries = entries(&path, &base);
    let mut remains = Remains::default();
    let same = same(old, known, &entries);
    let since_ms = old.seen_ms.saturating_sub(TIME_SLACK_MS);
    let is_later = |entry: &&Entry| {
        names::is_rotation_of(&base, &entry.name)
            && entry.written_ms >= since_ms
            && same.is_none_or(|same| entry.age() > same.age())
    };
    if let Some(entry) = same {
        remains.same = Some((old.moved_to(entry.id), entry.path.clone()));
    }
    if !succeeded {
        let later = entries.iter().filter(is_later);
        remains.later = unread(later, |id| known.contains(&id));
    }
    let packed = entries.iter().filter(is_later);
    let packed = packed.filter(|entry| names::is_packed(&entry.name));
    // Only the oldest can be the file itself.
    let own = if succeeded {
        usize::from(same.is_none())
    } else {
        entries.len()
    };
    let packed = packed.take(own);
    let sizes: Vec<Option<u64>> = packed.map(|entry| unpacked_bytes(&entry.path)).collect();
    remains.at_least = sizes.iter().any(Option::is_none);
    remains.lost_bytes = sizes.iter().flatten().sum();
    if same.is_none() {
        if sizes.is_empty() {
            remains.lost_bytes = old.unread();
        } else {
            // The oldest is the file itself, of which that much was read.
            remains.lost_bytes = remains.lost_bytes.saturating_sub(old.offset);
        }
    }
    remains
}

/// Files that were begun after `old`, and rotated away from its name before they were seen; oldest first.
pub(super) fn overtaken(old: &Place, known: &BTreeSet<FileId>) -> Vec<(FileId, PathBuf)> {
    let path = old.path();
    let base = path.file_name().unwrap_or_default().to_string_lossy();
    let since_ms = old.seen_ms.saturating_sub(TIME_SLACK_MS);
    let entries = entries(&path, &base);
    let later = entries
        .iter()
        .filter(|entry| names::is_rotation_of(&base, &entry.name) && entry.written_ms >= since_ms);
    unread(later, |id| known.contains(&id) || id == old.id)
}

fn unread<'a>(
    later: impl Iterator<Item = &'a Entry>,
    known: impl Fn(FileId) -> bool,
) -> Vec<(FileId, PathBuf)> {
    let plain = later.filter(|entry| !names::is_packed(&entry.name) && !known(entry.id));
    plain.map(|entry| (entry.id, entry.path.clone())).collect()
}

fn same<'a>(old: &Place, known: &BTreeSet<FileId>, entries: &'a [Entry]) -> Option<&'a Entry> {
    let plain = || {
        entries
            .iter()
            .filter(|entry| !names::is_packed(&entry.name))
    };
    let by_id = plain().find(|entry| entry.id == old.id && has_content(old, &entry.path));
    by_id.or_else(|| {
        let others = plain().filter(|entry| entry.id != old.id && !known.contains(&entry.id));
        // The youngest: a copy of the same beginning that is older has less in it.
        others
            .filter(|entry| has_content(old, &entry.path))
            .max_by_key(|entry| entry.written_ms)
    })
}

/// Whether the file at `path` has what was read of `old` at its begin.
fn has_content(old: &Place, path: &Path) -> bool {
    open_plain(path).is_ok_and(|file| content(old, &file).unwrap_or(false))
}

/// Whether `file` has what was read of `old` at its begin.
pub(super) fn content(old: &Place, file: &File) -> io::Result<bool> {
    let size = file.metadata()?.len();
    let (mut head, mut mark) = ([0; HEAD_BYTES_MAX], [0; MARK_BYTES_MAX]);
    let head_len = read_at(file, &mut head, 0)?;
    let mark = mark.get_mut(..old.mark_len()).unwrap_or_default();
    let from = old.offset.saturating_sub(mark.len() as u64);
    let read = read_at(file, mark, from)?;
    let (head, mark) = (head.get(..head_len), mark.get(..read));
    let verdict = old.judge(size, head.unwrap_or_default(), mark.unwrap_or_default());
    Ok(old.offset > 0 && verdict == Verdict::Same)
}

/// Whether the first `size` bytes of `file` are those of `of`, by their begin and their end.
pub(super) fn is_beginning(file: &File, size: u64, of: &File) -> io::Result<bool> {
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    let (mut one, mut other) = ([0; HEAD_BYTES_MAX], [0; HEAD_BYTES_MAX]);
    let one = one.get_mut(..len.min(HEAD_BYTES_MAX)).unwrap_or_default();
    let other = other.get_mut(..one.len()).unwrap_or_default();
    for from in [0, size - one.len() as u64] {
        let read = read_at(file, one, from)?;
        if read < one.len() || read_at(of, other, from)? < read || one != other {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first bytes of `file`, as many as a file is known by.
pub(super) fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES_MAX];
    let read = read_at(file, &mut head, 0)?;
    head.truncate(read);
    Ok(head)
}

/// What stands beside `path` under names that begin like its own; oldest first.
fn entries(path: &Path, base: &str) -> Vec<Entry> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let Ok(listed) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut entries: Vec<Entry> = listed
        .flatten()
        .take(ENTRIES_MAX)
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !names::is_kin_of(base, &name) {
                return None;
            }
            let meta = fs::metadata(entry.path()).ok()?;
            meta.is_file().then(|| Entry {
                id: id_of(&meta),
                path: entry.path(),
                name,
                written_ms: written_ms(&meta),
            })
        })
        .collect();
    entries.sort_by_cached_key(Entry::age);
    entries
}

/// How many bytes a packed file had, where it says so: RFC 1952, the last four bytes of a gzip file.
fn unpacked_bytes(path: &Path) -> Option<u64> {
    if path.extension()? != "gz" {
        return None;
    }
    let file = open_plain(path).ok()?;
    let size = file.metadata().ok()?.len();
    let mut last = [0; 4];
    read_at(&file, &mut last, size.checked_sub(4)?).ok()?;
    Some(u64::from(u32::from_le_bytes(last)))
}
