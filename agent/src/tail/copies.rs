//! Files that are copies of one that is being read, as rotation by copying and cutting makes them (logrotate's
//! `copytruncate`) and people by hand. A copy is seen at any moment: empty, half made, whole, and before or after the
//! other is cut. So nothing of a new file is read before it is clear what it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cursor::{COPY_OFFSET_LEAST, FileId, Place};
use super::followed::{Followed, Now};
use super::part::{Part, Standing};
use super::{TailEvent, names, recover};

impl Followed {
    /// Finds out which of the files that are not read yet are copies, and which are to be read.
    pub(super) fn settle(&mut self, now: Now, out: &mut Vec<TailEvent>) {
        let open = self.parts().filter(|part| part.standing != Standing::Own);
        let open: Vec<FileId> = open.map(|part| part.place.id).collect();
        for id in open {
            let Some(part) = self.unread_part(id) else {
                continue; // taken over by the one that it is a copy of
            };
            match part.changed_size() {
                Ok(Some(size)) => self.settle_one(id, size, now, out),
                Ok(None) => {}
                Err(_) => part.standing = Standing::Own, // reading it tells why
            }
        }
    }

    fn settle_one(&mut self, id: FileId, size: u64, now: Now, out: &mut Vec<TailEvent>) {
        let Some(path) = self.unread_part(id).map(|part| part.path.clone()) else {
            return;
        };
        let (is_copy, cut) = self.compare(&path, size);
        for of in cut {
            let last = self.lanes.get(&of).map_or(0, |lane| lane.parts.len());
            self.replaced(&of, last.saturating_sub(1), now, out);
        }
        let Some(part) = self.unread_part(id) else {
            return;
        };
        if is_copy && part.pass_over(size, now.wall_ms).is_ok() {
            part.standing = Standing::Copy;
            return;
        }
        // A copy of what has gone elsewhere meanwhile was read there; one that goes on by itself is none.
        if part.standing == Standing::New || part.place.offset != size {
            part.restart(&part.place.path(), now.wall_ms);
        }
        part.standing = Standing::Own;
        part.forget_seen();
    }

    /// Whether the first `size` bytes of the file at `path` are in one that is read; and those of which it may be a copy
    /// and that have been cut.
    fn compare(&self, path: &Path, size: u64) -> (bool, Vec<PathBuf>) {
        let mut is_copy = false;
        let mut cut = Vec::new();
        let lanes = self.lanes.iter().filter(|(of, _)| is_beside(of, path));
        for (of, lane) in lanes {
            let sure = size >= COPY_OFFSET_LEAST || is_rotation_of(of, path);
            let last = lane.parts.len().saturating_sub(1);
            for (index, part) in lane.parts.iter().enumerate() {
                if part.standing != Standing::Own || part.place.offset == 0 {
                    continue;
                }
                match recover::content(&part.place, &part.path) {
                    Ok(true) => is_copy |= sure && recover::is_beginning(path, size, &part.path),
                    Ok(false) if index == last && part.moved_ms.is_none() => cut.push(of.clone()),
                    _ => {} // reading that one tells why
                }
            }
        }
        (is_copy, cut)
    }

    /// The files that are not to be searched for what was read of the file `old` of `path`, which has been cut: those
    /// that are read themselves. What ends before the place in `old` and was copied from it has nothing new.
    pub(super) fn known_beside(&mut self, path: &Path, old: &Place, now: Now) -> BTreeSet<FileId> {
        let mut known = BTreeSet::new();
        for (of, lane) in &mut self.lanes {
            for part in &mut lane.parts {
                let rotation = is_rotation_of(path, &part.path);
                let open = part.standing != Standing::Own && of != path;
                if !open || !is_beside(path, &part.path) || !(rotation || old.is_certain()) {
                    known.insert(part.place.id);
                    continue;
                }
                let copied = part.standing == Standing::Copy;
                let copied = copied.then(|| part.state().ok()).flatten();
                let copied = copied
                    .map(|(size, _)| size)
                    .filter(|size| *size < old.offset);
                let begun = || recover::shorter(old, &part.path).filter(|_| rotation);
                if let Some(size) = copied.or_else(begun)
                    && part.pass_over(size, now.wall_ms).is_ok()
                {
                    part.standing = Standing::Own;
                    known.insert(part.place.id);
                }
            }
        }
        known
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
        parts.find(|part| part.place.id == id && part.standing != Standing::Own)
    }
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
