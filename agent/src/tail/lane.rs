//! The files that have been written to under one path: those that were rotated away and are still read, and the one that
//! has the path now. They are read in this order, so that lines come in the order in which they were written.

use std::collections::VecDeque;

use super::SourceInfo;
use super::part::Part;

/// Files that were rotated away from one path and are still followed; more are read to their end and let go.
pub(super) const PARTS_MAX: usize = 16;

/// How long a file without a name is followed after it has last grown.
pub(super) const DELETED_QUIET_MS: u64 = 5_000;

/// How long a file without a name is followed at all: its disk space is not free before.
pub(super) const DELETED_HOLD_MS: u64 = 60_000;

/// How long a file with another name is followed after it has last grown: programs may go on writing to it for a while.
pub(super) const MOVED_QUIET_MS: u64 = 600_000;

/// How long after its last growth the end of a rotated file counts as a line though it has no line end.
pub(super) const PARTIAL_QUIET_MS: u64 = 5_000;

/// The files of one path.
#[derive(Debug)]
pub(super) struct Lane {
    /// Oldest first.
    pub(super) parts: VecDeque<Part>,
    /// What events say of them.
    pub(super) source: SourceInfo,
}

/// What is to be done with a file that was read to its end and has lost its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Go on with it.
    Stay,
    /// Its last bytes are a line, even without a line end.
    Flush,
    /// The same, and it is not followed any more.
    Leave,
}

impl Lane {
    pub(super) fn new(section: &str, origin: String) -> Self {
        Self {
            parts: VecDeque::new(),
            source: SourceInfo {
                section: section.to_owned(),
                origin,
            },
        }
    }
}

impl Part {
    /// How long to follow a file that was read to its end.
    pub(super) fn farewell(&mut self, crowded: bool, mono_ms: u64) -> Farewell {
        let Some(moved_ms) = self.moved_ms else {
            return Farewell::Stay;
        };
        let quiet_ms = mono_ms.saturating_sub(self.grown_ms.max(moved_ms));
        let moved_ms = mono_ms.saturating_sub(moved_ms);
        if self.listed {
            // Kept in mind for as long as it would be taken for a new file otherwise.
            return if quiet_ms >= PARTIAL_QUIET_MS {
                Farewell::Flush
            } else {
                Farewell::Stay
            };
        }
        let deleted = match self.state() {
            Ok((_, deleted)) => deleted,
            Err(_) => return Farewell::Leave,
        };
        let over = if deleted {
            quiet_ms >= DELETED_QUIET_MS || moved_ms >= DELETED_HOLD_MS
        } else {
            quiet_ms >= MOVED_QUIET_MS
        };
        if over || (crowded && quiet_ms >= PARTIAL_QUIET_MS) {
            Farewell::Leave
        } else if quiet_ms >= PARTIAL_QUIET_MS {
            Farewell::Flush
        } else {
            Farewell::Stay
        }
    }

    /// When [`farewell`](Self::farewell) will say something new, if it will.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let since = self.grown_ms.max(self.moved_ms?);
        Some(since + PARTIAL_QUIET_MS.max(DELETED_QUIET_MS))
    }
}
