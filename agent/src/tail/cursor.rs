//! Where the reading of a file stands, and how the file is known again: by device and inode, by its head, and by the
//! bytes just before the place. No one of them is enough: inodes are reused, heads are alike, and a file may be cut and
//! written anew under its inode. Pure: files are read elsewhere.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a file's head that it is known by; fewer as long as it has fewer.
pub(super) const HEAD_BYTES_MAX: usize = 1024;

/// Bytes before the place that are remembered: with a time stamp in them they don't come twice.
pub(super) const MARK_BYTES_MAX: usize = 64;

/// Bytes before the place from which on another inode with the same head and the same mark is taken for the same file:
/// short logs begin alike.
const COPY_OFFSET_LEAST: u64 = 256;

/// A file as the system knows it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub(super) struct FileId {
    pub(super) dev: u64,
    pub(super) ino: u64,
}

/// What is remembered of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Print {
    len: u16,
    hash: (u64, u64),
}

impl Print {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let half = |from: usize| {
            let bytes = digest.iter().skip(from).take(8);
            bytes.fold(0, |half, byte| half << 8 | u64::from(*byte))
        };
        Self {
            len: u16::try_from(bytes.len()).unwrap_or(u16::MAX),
            hash: (half(0), half(8)),
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether `bytes` begin with what was remembered.
    pub(super) fn begins(&self, bytes: &[u8]) -> bool {
        bytes
            .get(..self.len())
            .is_some_and(|bytes| self.len == 0 || Self::of(bytes) == *self)
    }
}

/// What is passed over before the next line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Skip {
    /// Nothing.
    #[default]
    Nothing,
    /// The rest of a line whose beginning was too long.
    Line,
    /// The rest of a record whose beginning was too long: up to the next line that begins one.
    Record,
}

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same: go on.
    Same,
    /// Shorter than the place: it was cut.
    Truncated,
    /// Something else stands where the known bytes were.
    Replaced,
}

/// How far a file has been read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    pub(super) id: FileId,
    head: Print,
    mark: Print,
    /// Everything before this is done with.
    pub(super) offset: u64,
    pub(super) skip: Skip,
    /// Nothing but zero bytes has been seen: a program that goes on writing at its old place after the file was cut
    /// leaves such a hole.
    pub(super) lead: bool,
    /// The largest size seen.
    pub(super) size_seen: u64,
    /// When it was last looked at, in milliseconds since 1970.
    pub(super) seen_ms: u64,
    /// The file of which it is a copy as far as the place: it waits until that one is cut.
    pub(super) copy_of: Option<FileId>,
}

impl Place {
    /// The beginning of a file that was found at `path`.
    pub(super) fn begin(path: &Path, id: FileId, now_ms: u64) -> Self {
        Self {
            path: path.as_os_str().as_bytes().to_vec(),
            id,
            lead: true,
            seen_ms: now_ms,
            ..Self::default()
        }
    }

    /// The path under which its file is, or was, written to.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path))
    }

    /// Bytes before the place that are to be read along with what follows.
    pub(super) fn mark_len(&self) -> usize {
        self.mark.len()
    }

    /// Whether a file of `size` bytes that begins with `head`, and has `window` from the mark on, is still the same.
    pub(super) fn judge(&self, size: u64, head: &[u8], window: &[u8]) -> Verdict {
        if size < self.offset {
            Verdict::Truncated
        } else if self.head.begins(head) && self.mark.begins(window) {
            Verdict::Same
        } else if head.len() < self.head.len() {
            Verdict::Truncated
        } else {
            Verdict::Replaced
        }
    }

    /// Whether enough is known of the file that it can't be taken for another one.
    pub(super) fn is_certain(&self) -> bool {
        self.offset >= COPY_OFFSET_LEAST && self.mark.len() == MARK_BYTES_MAX
    }

    /// Whether a file that begins with `head` may be a copy of it.
    pub(super) fn may_begin_with(&self, head: &[u8]) -> bool {
        head.len() < self.head.len() || self.head.begins(head)
    }

    /// Whether `head` is its head, and long enough to be no other's.
    pub(super) fn is_begun_by(&self, head: &[u8]) -> bool {
        self.head.len() == HEAD_BYTES_MAX && self.head.begins(head)
    }

    /// Remembers more of the head as the file grows.
    pub(super) fn learn_head(&mut self, head: &[u8]) {
        if head.len() > self.head.len() {
            self.head = Print::of(head.get(..HEAD_BYTES_MAX).unwrap_or(head));
        }
    }

    /// `used` bytes more are done with; `window` begins with the mark, and what was read follows.
    pub(super) fn advance(&mut self, used: usize, window: &[u8]) {
        if used == 0 {
            return;
        }
        let end = self.mark.len() + used;
        let done = window.get(..end).unwrap_or(window);
        let from = done.len().saturating_sub(MARK_BYTES_MAX);
        self.offset += used as u64;
        self.mark = Print::of(done.get(from..).unwrap_or_default());
    }

    /// Goes on at `offset` with what stands before it, as when a file is first read from its end.
    pub(super) fn jump(&mut self, offset: u64, before: &[u8]) {
        let from = before.len().saturating_sub(MARK_BYTES_MAX);
        self.mark = Print::of(before.get(from..).unwrap_or_default());
        self.offset = offset;
        self.lead = offset == 0;
    }

    /// Whether what stands before the place is the end of a line, in any encoding.
    pub(super) fn begins_line(before: &[u8]) -> bool {
        before.is_empty() || before.ends_with(b"\n") || before.ends_with(b"\n\0")
    }

    /// The same place in another file, which has the same bytes.
    pub(super) fn moved_to(&self, id: FileId) -> Self {
        Self {
            id,
            copy_of: None,
            ..self.clone()
        }
    }

    /// Bytes that were seen and not read.
    pub(super) fn unread(&self) -> u64 {
        self.size_seen.saturating_sub(self.offset)
    }

    /// The form in which it is stored.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        rmp_serde::to_vec_named(self).ok()
    }

    /// A stored place; nothing where it is none, as after an update that went back.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    /// A place at `offset` of `text`.
    fn at(text: &[u8], offset: usize) -> Place {
        let mut place = Place::begin(Path::new("/var/log/a"), FileId { dev: 1, ino: 2 }, 5);
        place.learn_head(&text[..text.len().min(HEAD_BYTES_MAX)]);
        place.advance(offset, text);
        place
    }

    fn judge(place: &Place, text: &[u8]) -> Verdict {
        let offset = usize::try_from(place.offset).unwrap();
        let window = text.get(offset - place.mark_len()..).unwrap_or_default();
        let head = &text[..text.len().min(HEAD_BYTES_MAX)];
        place.judge(text.len() as u64, head, window)
    }

    #[test]
    fn a_file_is_known_again_only_by_everything() {
        let text = b"same first line\n10:00 one\n10:01 two\n";
        let place = at(text, 26);
        let longer = [&text[..], b"10:02 three\n"].concat();
        for (now, want) in [
            (&text[..], Verdict::Same),
            (&longer, Verdict::Same),
            (&b""[..], Verdict::Truncated),
            (&text[..20], Verdict::Truncated),
            (
                &b"same first line\n11:00 one\n11:01 two\n11:02 three\n"[..],
                Verdict::Replaced,
            ),
            (
                &b"other first line\n10:00 one\n10:01 two\n"[..],
                Verdict::Replaced,
            ),
            (&[0; 200][..], Verdict::Replaced),
        ] {
            assert_eq!(judge(&place, now), want, "{}", String::from_utf8_lossy(now));
        }
    }

    #[test]
    fn the_mark_tells_files_apart_whose_heads_are_the_same() {
        let head = "h".repeat(HEAD_BYTES_MAX) + "\n";
        let first = head.clone() + "one\n";
        let second = head.clone() + "two\nand more\n";
        let place = at(first.as_bytes(), first.len());
        assert_eq!(judge(&place, second.as_bytes()), Verdict::Replaced);
        assert_eq!(judge(&place, (first + "more\n").as_bytes()), Verdict::Same);
    }

    #[test]
    fn the_head_grows_and_an_empty_file_is_any_file() {
        let mut place = at(b"", 0);
        assert_eq!(judge(&place, b"anything"), Verdict::Same);
        place.learn_head(b"any");
        assert_eq!(judge(&place, b"anything"), Verdict::Same);
        place.learn_head(b"anything");
        assert_eq!(judge(&place, b"anybody"), Verdict::Truncated);
        assert_eq!(judge(&place, b"anybody else"), Verdict::Replaced);
    }

    #[test]
    fn a_place_is_stored_and_read_back() {
        let place = at(b"a\nb\n", 2);
        assert_eq!(Place::decode(&place.encode().unwrap()), Some(place.clone()));
        assert_eq!(place.path(), Path::new("/var/log/a"));
        assert_eq!(Place::decode(b"\xc1nonsense"), None);
    }
}
