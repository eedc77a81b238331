//! Reads the kernel's small text files into one buffer that is used again and again. Knows no file's meaning.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest file read; `/proc/stat` of a host with 1,000 cores stays below a quarter of it.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Room for one `read(2)`; most of `/proc` fits.
const CHUNK_BYTES: usize = 16 << 10;
/// What the buffer keeps between two runs.
const KEEP_BYTES: usize = 64 << 10;

/// One buffer for all reads of a collector.
#[derive(Debug, Default)]
pub(crate) struct Files {
    buffer: Vec<u8>,
}

/// Why a file gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The kernel refused.
    #[error("read {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// It is longer than anything that we expect of the kernel.
    #[error("read {path}: longer than {FILE_BYTES_MAX} bytes")]
    TooLong { path: PathBuf },
}

impl ReadError {
    /// Whether this host does not have the file: not built, not loaded, or switched off. Not a fault.
    pub(crate) fn is_absent(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                // `psi=0` leaves the files in place and refuses to open them.
                source.kind() == io::ErrorKind::NotFound
                    || source.kind() == io::ErrorKind::Unsupported
            }
            Self::TooLong { .. } => false,
        }
    }
}

impl Files {
    /// The bytes of a whole file.
    pub(crate) fn bytes(&mut self, path: &Path) -> Result<&[u8], ReadError> {
        let failed = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let mut filled = 0;
        loop {
            if self.buffer.len() < filled + CHUNK_BYTES {
                self.buffer.resize(filled + CHUNK_BYTES, 0);
            }
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            match file.read(room) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
            if filled > FILE_BYTES_MAX {
                return Err(ReadError::TooLong {
                    path: path.to_owned(),
                });
            }
        }
        Ok(self.buffer.get(..filled).unwrap_or_default())
    }

    /// The text of a whole file; bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn text(&mut self, path: &Path) -> Result<Cow<'_, str>, ReadError> {
        self.bytes(path).map(String::from_utf8_lossy)
    }

    /// Gives back what one unusually long file has taken.
    pub(crate) fn trim(&mut self) {
        if self.buffer.len() > KEEP_BYTES {
            self.buffer.truncate(KEEP_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}

/// A text that does not read as the file that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {item}")]
pub(crate) struct ParseError {
    /// Line, from 1; 0 where something is missing from the whole.
    pub(crate) line: usize,
    /// What was expected and what stood there.
    pub(crate) item: String,
}

impl ParseError {
    /// What stood on `line` (from 0) is not `wanted`.
    pub(crate) fn at(line: usize, wanted: &str, found: &str) -> Self {
        const SHOWN_CHARS: usize = 60; // enough to know the line again, and no flood of garbage
        let shown: String = found.chars().take(SHOWN_CHARS).collect();
        Self {
            line: line + 1,
            item: format!("expected {wanted}, found {shown:?}"),
        }
    }

    /// `wanted` is nowhere in the text.
    pub(crate) fn missing(wanted: &str) -> Self {
        Self {
            line: 0,
            item: format!("expected {wanted}, which is missing"),
        }
    }
}

/// What a file with one item per line gave: the lines that read well, and the first that did not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lines<T> {
    /// The good ones.
    pub(crate) items: Vec<T>,
    /// The first bad one.
    pub(crate) bad: Option<ParseError>,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            bad: None,
        }
    }
}

impl<T> Lines<T> {
    /// Adds a line's outcome.
    pub(crate) fn push(&mut self, outcome: Result<T, ParseError>) {
        match outcome {
            Ok(item) => self.items.push(item),
            Err(error) => self.bad = self.bad.take().or(Some(error)),
        }
    }
}

/// Two numbers' worth of the same: the unsigned number that `text` starts with, blanks left out.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}
