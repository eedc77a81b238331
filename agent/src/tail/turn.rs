//! Reading on in the files of one path: a block at a time, oldest file first.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::digest::Stage;
use super::followed::{Followed, Now};
use super::lane::{Farewell, PARTS_MAX};
use super::notice;
use super::part::Look;
use super::{TailEvent, lines};

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// Bytes that were read.
    pub(super) bytes: u64,
    /// Whether there is more to read at once.
    pub(super) more: bool,
    /// When to look again even if nothing changes, by the monotonic clock.
    pub(super) due_ms: Option<u64>,
}

enum Step {
    /// There is more in this file.
    More,
    /// Its end was reached.
    End,
    /// It is not followed any more.
    Left,
    /// It was begun anew, and others may have come before it.
    Replaced,
}

impl Followed {
    /// Reads a block, or what there is, of the files of `path`.
    pub(super) fn turn(
        &mut self,
        path: &Path,
        buffer: &mut [u8],
        now: Now,
        out: &mut Vec<TailEvent>,
    ) -> Turn {
        let mut turn = Turn::default();
        let mut index = 0;
        let mut replaced = 0;
        while index < self.lanes.get(path).map_or(0, |lane| lane.parts.len()) {
            match self.step(path, index, buffer, now, out, &mut turn) {
                Step::More => {
                    turn.more = true;
                    return turn;
                }
                Step::End => index += 1,
                Step::Left => {
                    if let Some(lane) = self.lanes.get_mut(path) {
                        let left = lane.parts.remove(index);
                        self.gone.extend(left.map(|part| part.place.id));
                    }
                }
                Step::Replaced => {
                    replaced += 1;
                    if replaced > PARTS_MAX {
                        turn.more = true; // it is being rewritten as fast as it is read
                        return turn;
                    }
                }
            }
        }
        turn
    }

    fn step(
        &mut self,
        path: &Path,
        index: usize,
        buffer: &mut [u8],
        now: Now,
        out: &mut Vec<TailEvent>,
        turn: &mut Turn,
    ) -> Step {
        let Some(lane) = self.lanes.get_mut(path) else {
            return Step::End;
        };
        let crowded = lane.parts.len() > PARTS_MAX;
        let Some(part) = lane.parts.get_mut(index) else {
            return Step::End;
        };
        if !part.own {
            return match part.farewell(crowded, now.mono_ms) {
                Farewell::Leave => Step::Left,
                _ => Step::End,
            };
        }
        if part.place.lead && part.place.size_seen > part.place.offset {
            _ = part.pass_hole(); // the bytes are zero when they are read, too
        }
        let look = part.read(buffer, false, now.mono_ms);
        if let Some(step) = self.unless_block(path, index, &look, now, out) {
            return step;
        }
        if let Ok(Look::Block { read, at_end }) = look {
            let before = out.len();
            turn.bytes += self.digest_block(path, index, buffer, read, (false, false), now, out);
            // A block that gave many events may not be used up.
            if !at_end || out.len() > before {
                return self.more(path, index);
            }
        }
        let Some(part) = self.part(path, index) else {
            return Step::End;
        };
        let farewell = part.farewell(crowded, now.mono_ms);
        let unread = part.place.unread() > 0;
        let wait_ms = self.wait_ms();
        let Some(part) = self.part(path, index) else {
            return Step::End;
        };
        let joined = wait_ms.map(|wait_ms| part.grown_ms + wait_ms);
        let last = farewell != Farewell::Stay;
        let quiet = joined.is_some_and(|due_ms| due_ms <= now.mono_ms);
        let (grown_ms, due_ms) = (part.grown_ms, part.due_ms());
        if unread && (last || quiet) {
            let look = part.read(buffer, true, now.mono_ms);
            if let Some(step) = self.unless_block(path, index, &look, now, out) {
                return step;
            }
            if let Ok(Look::Block { read, .. }) = look {
                let before = out.len();
                turn.bytes += self.digest_block(path, index, buffer, read, (last, quiet), now, out);
                if out.len() > before {
                    return self.more(path, index);
                }
            }
        }
        if farewell == Farewell::Leave {
            return Step::Left;
        }
        let due = [
            joined.filter(|_| unread && !quiet),
            due_ms.filter(|due| *due > now.mono_ms),
        ];
        let due = due.into_iter().flatten().filter(|_| grown_ms > 0);
        turn.due_ms = turn.due_ms.into_iter().chain(due).min();
        Step::End
    }

    /// What to do where there is no block to digest.
    fn unless_block(
        &mut self,
        path: &Path,
        index: usize,
        look: &std::io::Result<Look>,
        now: Now,
        out: &mut Vec<TailEvent>,
    ) -> Option<Step> {
        let section = self.section.name.clone();
        let part = self.part(path, index)?;
        match look {
            Ok(Look::Other(_)) => {
                self.replaced(path, index, now, out);
                return Some(Step::Replaced);
            }
            Ok(_) => {
                if part.error.take().is_some() {
                    let at = part.path.clone();
                    out.push(notice::readable(&section, &at, now.wall_ms));
                }
                return None;
            }
            Err(_) => {}
        }
        let Err(error) = look else { return None };
        if error.kind() == std::io::ErrorKind::NotFound {
            // Between two looks at the directory; the next one tells.
            return Some(if part.moved_ms.is_some() && !part.listed {
                let (bytes, place) = (part.place.unread(), part.place.path());
                self.lost(&place, bytes, false, now, out);
                Step::Left
            } else {
                Step::End
            });
        }
        if part.error.is_none() {
            let at = part.path.clone();
            out.push(notice::unreadable(&section, &at, error, now.wall_ms));
        }
        if let Some(part) = self.part(path, index) {
            part.error = Some(error.to_string());
            part.forget_seen();
        }
        Some(Step::End)
    }

    /// Matches what was read, and moves the place.
    #[expect(clippy::too_many_arguments, reason = "a block and where it stands")]
    fn digest_block(
        &mut self,
        path: &Path,
        index: usize,
        buffer: &[u8],
        read: usize,
        (last, quiet): (bool, bool),
        now: Now,
        out: &mut Vec<TailEvent>,
    ) -> u64 {
        let Self { lanes, digest, .. } = self;
        let Some(lane) = lanes.get_mut(path) else {
            return 0;
        };
        let source = &lane.source;
        let Some(part) = lane.parts.get_mut(index) else {
            return 0;
        };
        let window = buffer.get(..read).unwrap_or_default();
        let data = window.get(part.place.mark_len()..).unwrap_or_default();
        let stage = Stage {
            last,
            quiet,
            now_ms: now.wall_ms,
        };
        let mut used = digest.take(data, &part.head, &mut part.place, source, stage, out);
        if used == 0 && read == buffer.len() {
            // The buffer holds more than the longest line and record: this can't be, and must not go on for ever.
            tracing::error!(path = %path.display(), "a block of a log could not be cut into lines and is passed over");
            used = data.len();
            let lost = used as u64;
            digest
                .counters
                .lost_bytes
                .fetch_add(lost, Ordering::Relaxed);
        }
        part.dirty |= used > 0;
        part.place.advance(used, window);
        digest
            .counters
            .bytes
            .fetch_add(used as u64, Ordering::Relaxed);
        used as u64
    }

    /// There is more of this file, even though its end was read.
    fn more(&mut self, path: &Path, index: usize) -> Step {
        if let Some(part) = self.part(path, index) {
            part.forget_seen();
        }
        Step::More
    }

    fn part(&mut self, path: &Path, index: usize) -> Option<&mut super::part::Part> {
        self.lanes.get_mut(path)?.parts.get_mut(index)
    }

    /// How long a record may go on after its last line.
    fn wait_ms(&self) -> Option<u64> {
        let wait = self.section.wait.as_millis();
        let joining: Option<&lines::Joining> = self.digest.joining.as_ref();
        joining.map(|_| u64::try_from(wait).unwrap_or(u64::MAX))
    }
}
