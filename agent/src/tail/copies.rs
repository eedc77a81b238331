//! Files that are copies of one that is being read, as rotation by copying and cutting makes them (logrotate's
//! `copytruncate`) and people by hand. A copy is seen at any moment: empty, half made, whole, and before or after the
//! other is cut. So nothing of a new file is read before it is clear what it is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::cursor::{FileId, HEAD_BYTES_MAX, Place};
use super::followed::{Followed, Now};
use super::part::Part;
use super::{TailEvent, names, recover};

/// What the comparison of a new file with those that are read came to.
#[derive(Debug, Default)]
struct Compared {
    /// The file that it is a copy of so far, and where that one is.
    of: Option<(FileId, PathBuf)>,
    /// The paths of those that have been cut, and which it may be a copy of.
    cut: Vec<PathBuf>,
    /// Those that could be compared.
    seen: BTreeSet<FileId>,
}

impl Followed {
    /// Finds out which of the files that are not read yet are copies, and which are to be read.
    pub(super) fn settle(&mut self, now: Now, out: &mut Vec<TailEvent>) {
        let mut changed = Vec::new();
        let unread = self.parts_mut();
        for part in unread.filter(|part| !part.own) {
            match part.changed_size() {
                Ok(Some(size)) => changed.push((part.place.id, size)),
                Ok(None) => {}
                Err(_) => part.set_own(), // reading it tells why
            }
        }
        for (id, size) in changed {
            self.settle_one(id, size, now, out);
        }
    }

    fn settle_one(&mut self, id: FileId, size: u64, now: Now, out: &mut Vec<TailEvent>) {
        let Some(part) = self.unread_part(id) else {
            return; // taken over by the one that it is a copy of
        };
        let path = part.path.clone();
        let file = part.file().and_then(File::try_clone);
        let compared = file.and_then(|file| self.compare(&path, &file, size));
        let compared = compared.unwrap_or_default(); // reading it tells why
        for of in compared.cut {
            let last = self.lanes.get(&of).map_or(0, |lane| lane.parts.len());
            self.replaced(&of, last.saturating_sub(1), now, out);
        }
        let Some(part) = self.unread_part(id) else {
            return;
        };
        let was = part.place.copy_of;
        if let Some((of, of_path)) = compared.of
            && part.pass_over(size, now.wall_ms).is_ok()
        {
            part.place.copy_of = Some(of);
            if was.is_none() {
                let (path, of) = (path.display(), of_path.display());
                tracing::info!(%path, %of, size, "a new log file is a copy of one that is read, so far; it waits until that one is cut");
            }
            return;
        }
        // What was copied from a file that nobody has any more was read there; what goes on by itself is no copy.
        let read = |of| part.place.offset == size || !compared.seen.contains(&of);
        if was.is_some_and(read) {
            part.set_own();
        } else {
            part.restart(&part.place.path(), now.wall_ms);
        }
    }

    /// Compares the first `size` bytes of `file`, which was found at `path`, with the files that are read. By what these
    /// have open: another file may have the name by now.
    fn compare(&mut self, path: &Path, file: &File, size: u64) -> io::Result<Compared> {
        let head = recover::head(file)?;
        let mut compared = Compared::default();
        let lanes = self.lanes.iter_mut().filter(|(of, _)| is_beside(of, path));
        for (of, lane) in lanes {
            let last = lane.parts.len().saturating_sub(1);
            for (index, part) in lane.parts.iter_mut().enumerate() {
                if !part.own || part.place.offset == 0 {
                    continue;
                }
                let id = part.place.id;
                let live = index == last && part.moved_ms.is_none();
                if !part.place.may_begin_with(&head) {
                    compared.seen.insert(id);
                    continue;
                }
                let sure = if size < part.place.offset {
                    head.len() == HEAD_BYTES_MAX // it may be half made
                } else {
                    (part.place.is_certain() || is_rotation_of(of, path))
                        && recover::content(&part.place, file)?
                };
                let place = part.place.clone();
                let Ok(other) = part.file() else {
                    continue; // reading that one tells why
                };
                let is_copy = sure && recover::is_beginning(file, size, other).unwrap_or(false);
                // After the comparison: it may be cut at any moment.
                match recover::content(&place, other) {
                    Ok(true) if is_copy => compared.of = Some((id, part.path.clone())),
                    Ok(false) if live => compared.cut.push(of.clone()),
                    Ok(_) => {}
                    Err(_) => continue,
                }
                compared.seen.insert(id);
            }
        }
        Ok(compared)
    }

    /// Passes over what ends before the place in the file `old` of `path`, which has been cut, and was copied from it.
    pub(super) fn pass_over_copies(&mut self, path: &Path, old: &Place, now: Now) {
        let lanes = self.lanes.iter_mut().filter(|(of, _)| *of != path);
        for part in lanes.flat_map(|(_, lane)| &mut lane.parts) {
            if !may_be_copy(part, path, old) {
                continue;
            }
            let copied = part.place.copy_of == Some(old.id);
            let rotation = is_rotation_of(path, &part.path);
            let passed = part.file().and_then(|file| {
                let begun = rotation && old.is_begun_by(&recover::head(file)?);
                let size = file.metadata()?.len();
                Ok(((copied || begun) && size < old.offset).then_some(size))
            });
            if let Ok(Some(size)) = passed
                && part.pass_over(size, now.wall_ms).is_ok()
            {
                part.set_own();
            }
        }
    }

    /// The files that are not to be searched for what was read of the file `old` of `path`: those that are read
    /// themselves.
    pub(super) fn known_beside(&self, path: &Path, old: &Place) -> BTreeSet<FileId> {
        let lanes = self.lanes.iter();
        let known = lanes.flat_map(|(of, lane)| {
            let parts = lane.parts.iter();
            parts.filter(move |part| of == path || !may_be_copy(part, path, old))
        });
        known.map(|part| part.place.id).collect()
    }

    /// Lets go of the files that are read as parts of `path` from now on.
    pub(super) fn take_over(&mut self, path: &Path, parts: &[Part]) {
        let ids: BTreeSet<FileId> = parts.iter().map(|part| part.place.id).collect();
        for (of, lane) in &mut self.lanes {
            if of != path {
                lane.parts.retain(|part| !ids.contains(&part.place.id));
            }
        }
    }

    /// The file with this id, unless it is read already.
    fn unread_part(&mut self, id: FileId) -> Option<&mut Part> {
        let mut parts = self.parts_mut();
        parts.find(|part| part.place.id == id && !part.own)
    }
}

/// Whether a file may be a copy of `old`, which has, or had, the name `path`.
fn may_be_copy(part: &Part, path: &Path, old: &Place) -> bool {
    let sure = is_rotation_of(path, &part.path) || old.is_certain();
    !part.own && sure && is_beside(path, &part.path)
}

/// Whether `path` may be a copy of `of` by its name.
fn is_beside(of: &Path, path: &Path) -> bool {
    of.parent() == path.parent() && names::is_kin_of(&name(of), &name(path))
}

fn is_rotation_of(of: &Path, path: &Path) -> bool {
    names::is_rotation_of(&name(of), &name(path))
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
