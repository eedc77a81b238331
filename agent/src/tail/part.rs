//! One file that is read: opened when there is something to read, judged anew with every block.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{OFlags, SeekFrom, seek};

use super::cursor::{FileId, HEAD_BYTES_MAX, MARK_BYTES_MAX, Place, Skip, Verdict};

/// What tells that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// What reading a file gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It is as it was.
    Unchanged,
    /// Bytes from the mark on, and what they may be used with.
    Block {
        /// Bytes in the buffer, the mark included.
        read: usize,
        /// Whether the file ends here.
        at_end: bool,
    },
    /// It is not the file that it was, or no longer as long.
    Other(Verdict),
}

/// A file and the place in it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) place: Place,
    /// Whether it is read: not before it is clear that it is no copy of another one.
    pub(super) own: bool,
    /// Where it is now, as far as is known.
    pub(super) path: PathBuf,
    /// Whether the section's patterns find it.
    pub(super) listed: bool,
    /// Since when another file, or none, has its name; by the monotonic clock.
    pub(super) moved_ms: Option<u64>,
    /// When it was last seen to have grown.
    pub(super) grown_ms: u64,
    /// Whether the place has changed since it was stored.
    pub(super) dirty: bool,
    /// Whether it was stored at all.
    pub(super) stored: bool,
    /// Why it could not be read, if so.
    pub(super) error: Option<String>,
    /// Its first bytes, as of the last block.
    pub(super) head: Vec<u8>,
    file: Option<File>,
    /// As it was when everything in it had been looked at.
    seen: Option<Stamp>,
}

impl Part {
    pub(super) fn new(place: Place, path: PathBuf, mono_ms: u64) -> Self {
        Self {
            own: place.offset > 0 && place.copy_of.is_none(),
            place,
            path,
            listed: true,
            moved_ms: None,
            grown_ms: mono_ms,
            dirty: true,
            stored: false,
            error: None,
            head: Vec::new(),
            file: None,
            seen: None,
        }
    }

    /// Reads on from the place into `buffer`. `again` reads even what is unchanged.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        again: bool,
        mono_ms: u64,
    ) -> io::Result<Look> {
        let file = open(&mut self.file, &self.path, self.place.id)?;
        let stamp = Stamp::of(&file.metadata()?);
        if self.seen == Some(stamp) && !again {
            return Ok(Look::Unchanged);
        }
        if stamp.size > self.place.size_seen {
            self.grown_ms = mono_ms;
        }
        self.seen = None;
        let from = self.place.offset - self.place.mark_len() as u64;
        let read = read_at(file, buffer, from)?;
        // After the block, so that a file which was cut meanwhile is noticed.
        self.head.resize(HEAD_BYTES_MAX, 0);
        let head = read_at(file, &mut self.head, 0)?;
        self.head.truncate(head);
        let window = buffer.get(..read).unwrap_or_default();
        let verdict = self.place.judge(stamp.size, &self.head, window);
        if verdict != Verdict::Same {
            return Ok(Look::Other(verdict));
        }
        self.place.size_seen = stamp.size.max(from + read as u64);
        self.place.learn_head(&self.head);
        let at_end = read < buffer.len();
        if at_end {
            self.seen = Some(stamp);
        }
        Ok(Look::Block { read, at_end })
    }

    /// The file itself, whatever has its name now.
    pub(super) fn file(&mut self) -> io::Result<&File> {
        open(&mut self.file, &self.path, self.place.id).map(|file| &*file)
    }

    /// Its size, where it is not empty and has changed since it was last looked at.
    pub(super) fn changed_size(&mut self) -> io::Result<Option<u64>> {
        let file = open(&mut self.file, &self.path, self.place.id)?;
        let stamp = Stamp::of(&file.metadata()?);
        let changed = self.seen.replace(stamp) != Some(stamp);
        Ok(Some(stamp.size).filter(|size| changed && *size > 0))
    }

    /// Begins after its first `size` bytes, which were read elsewhere.
    pub(super) fn pass_over(&mut self, size: u64, now_ms: u64) -> io::Result<()> {
        let path = self.place.path();
        self.place = Place::begin(&path, self.place.id, now_ms);
        self.jump(size)
    }

    /// From now on it is read.
    pub(super) fn set_own(&mut self) {
        self.own = true;
        self.place.copy_of = None;
        self.dirty = true;
        self.seen = None;
    }

    /// Passes over the hole at the begin of a file that was cut under a program which goes on where it was.
    pub(super) fn pass_hole(&mut self) -> io::Result<()> {
        let offset = self.place.offset;
        let file = open(&mut self.file, &self.path, self.place.id)?;
        let Ok(data) = seek(&*file, SeekFrom::Data(offset)) else {
            return Ok(()); // none, or a file system that knows no holes
        };
        if data > offset {
            self.jump(data)?;
        }
        Ok(())
    }

    /// Goes on at `offset`, whatever stands before it.
    pub(super) fn jump(&mut self, offset: u64) -> io::Result<()> {
        let file = open(&mut self.file, &self.path, self.place.id)?;
        let mut before = [0; MARK_BYTES_MAX];
        let from = offset.saturating_sub(MARK_BYTES_MAX as u64);
        let wanted = usize::try_from(offset - from).unwrap_or(MARK_BYTES_MAX);
        let read = read_at(file, before.get_mut(..wanted).unwrap_or_default(), from)?;
        let lead = self.place.lead;
        let before = before.get(..read).unwrap_or_default();
        self.place.jump(offset, before);
        self.place.lead = lead && before.iter().all(|byte| *byte == 0);
        if !self.place.lead && !Place::begins_line(before) {
            self.place.skip = Skip::Line;
        }
        self.dirty = true;
        Ok(())
    }

    /// Begins anew: the file is another one by its content.
    pub(super) fn restart(&mut self, path: &Path, now_ms: u64) {
        self.own = true;
        self.place = Place::begin(path, self.place.id, now_ms);
        self.seen = None;
        self.dirty = true;
    }

    /// Everything so far was looked at again and again: it counts as changed.
    pub(super) fn forget_seen(&mut self) {
        self.seen = None;
    }

    /// Size of the open file, and whether it has no name any more.
    pub(super) fn state(&mut self) -> io::Result<(u64, bool)> {
        let meta = open(&mut self.file, &self.path, self.place.id)?.metadata()?;
        Ok((meta.len(), meta.nlink() == 0))
    }

    /// Whether it is held open.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Lets go of the file; it is opened again when it is wanted.
    pub(super) fn close(&mut self) {
        self.file = None;
    }
}

/// Opens the file at `path` if it is not open; it must be the one with `id`.
fn open<'a>(file: &'a mut Option<File>, path: &Path, id: FileId) -> io::Result<&'a mut File> {
    let opened = match file.take() {
        Some(open) => open,
        None => {
            let opened = open_plain(path)?;
            if id_of(&opened.metadata()?) != id {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "another file has its name",
                ));
            }
            opened
        }
    };
    Ok(file.insert(opened))
}

/// Opens a file for reading without ever waiting for one that is no plain file.
pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    Ok(file)
}

/// A file's device and inode.
pub(super) fn id_of(meta: &Metadata) -> FileId {
    FileId {
        dev: meta.dev(),
        ino: meta.ino(),
    }
}

/// When a file was last written to, in milliseconds since 1970.
pub(super) fn written_ms(meta: &Metadata) -> u64 {
    let written = meta.modified().unwrap_or(UNIX_EPOCH);
    let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Reads until `buffer` is full or the file ends.
pub(super) fn read_at(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
