//! All sections together: one pass reads what there is, within bounds, and gives it as one batch. It must not know who
//! commits the batch, nor what wakes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::followed::{Followed, Now};
use super::part::Part;
use super::section::Section;
use super::{AlertStates, Batch, Stored, notice, records};

/// The name under which it writes.
pub const WRITER: &str = "files";

/// Bytes of a block: large enough that what is done once per block does not count.
const BLOCK_BYTES: usize = 512 << 10;

/// Bytes that a pass reads at the most before it is committed.
const PASS_BYTES_MAX: u64 = 64 << 20;

/// Events in a batch, but for those of its last block: about 1 MiB.
const PASS_EVENTS_MAX: usize = 2_000;

/// Time between two commits of places that have no event with them: what is read again after a crash gives none again.
const PLACES_EVERY_MS: u64 = 5_000;

/// Files that are held open at the most, but for those without a name; the others are opened when they have changed.
const OPEN_MAX: usize = 256;

/// Time between two calls of the rules while they have something to say later.
const TICK_MS: u64 = 1_000;

/// Follows the files of all sections.
pub struct Engine {
    followed: Vec<Followed>,
    buffer: Vec<u8>,
    seq: u64,
    /// Which path is the first in the next round.
    first: usize,
    /// Places to forget: of sections that are gone.
    forget: Vec<Vec<u8>>,
    stored_ms: u64,
    begun: bool,
}

/// What a pass came to.
#[derive(Debug, Default)]
pub struct Pass {
    /// To be committed before the next pass; the same one until it is.
    pub batch: Option<Batch>,
    /// Whether there is more to read at once.
    pub more: bool,
    /// When to look again even if nothing changes, by the monotonic clock.
    pub due_ms: Option<u64>,
    /// Directories to be told of changes in, where they were looked at.
    pub dirs: Option<BTreeSet<PathBuf>>,
}

/// What a pass is to do besides reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Look which files there are.
    pub scan: bool,
    /// Store every place, as before the end.
    pub places: bool,
}

impl Engine {
    /// Takes up what was stored.
    #[must_use]
    pub fn new(sections: Vec<Section>, stored: Stored) -> Self {
        let mut of_sections = records::by_section(stored.cursors.clone());
        let mut alerts: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
        for ((section, key), record) in stored.alerts {
            alerts.entry(section).or_default().push((key, record));
        }
        let line_bytes = sections.iter().map(|section| section.line_bytes_max);
        // Two open lines or records in any encoding, and the mark.
        let block = BLOCK_BYTES.max(line_bytes.max().unwrap_or(0) * 6 + 4096);
        let followed: Vec<Followed> = sections
            .into_iter()
            .map(|section| {
                let found = of_sections.remove(&section.name).unwrap_or_default();
                let alerts = alerts.remove(&section.name).unwrap_or_default();
                Followed::new(
                    section,
                    found.known,
                    found.places,
                    AlertStates::load(alerts),
                )
            })
            .collect();
        let gone = |key: &Vec<u8>| {
            let name = key.split(|byte| *byte == 0).nth(1);
            name.is_some_and(|name| of_sections.contains_key(&*String::from_utf8_lossy(name)))
        };
        let forget = stored.cursors.into_iter().map(|(key, _)| key).filter(gone);
        Self {
            forget: forget.collect(),
            followed,
            buffer: vec![0; block],
            seq: stored.seq,
            first: 0,
            stored_ms: 0,
            begun: stored.seq > 0,
        }
    }

    /// Reads what there is.
    pub fn pass(&mut self, now: Now, wanted: Wanted) -> Pass {
        let mut pass = Pass::default();
        let mut events = Vec::new();
        if wanted.scan {
            let mut dirs = BTreeSet::new();
            for followed in &mut self.followed {
                dirs.extend(followed.scan(now, &mut events));
            }
            if !std::mem::replace(&mut self.begun, true) {
                let begun = self.followed.iter().map(|followed| {
                    notice::begun_anew(
                        &followed.section.name,
                        followed.parts().count(),
                        now.wall_ms,
                    )
                });
                events.extend(begun);
            }
            pass.dirs = Some(dirs);
        }
        for followed in &mut self.followed {
            followed.settle(now, &mut events);
        }
        self.read(now, &mut events, &mut pass);
        for followed in &mut self.followed {
            let digest = &mut followed.digest;
            let matcher = digest.matcher.clone();
            matcher.tick(
                now.wall_ms,
                &mut digest.alerts,
                &mut digest.limits,
                &mut events,
            );
            if digest.limits.pending() {
                pass.due(now.mono_ms + TICK_MS);
            }
            let lag = followed.parts().map(|part| part.place.unread()).sum();
            followed
                .digest
                .counters
                .lag_bytes
                .store(lag, Ordering::Relaxed);
        }
        self.close_idle();
        pass.batch = self.batch(events, now, wanted.places, &mut pass.due_ms);
        pass
    }

    /// What was stored before is gone: everything goes into the next batch.
    pub fn store_again(&mut self) {
        self.followed.iter_mut().for_each(Followed::store_again);
    }

    /// A block of each file in turn, until there is no more or the pass is full.
    fn read(&mut self, now: Now, events: &mut Vec<super::TailEvent>, pass: &mut Pass) {
        let paths = self
            .followed
            .iter()
            .enumerate()
            .flat_map(|(number, followed)| {
                followed
                    .lanes
                    .keys()
                    .map(move |path| (number, path.clone()))
            });
        let mut paths: Vec<(usize, PathBuf)> = paths.collect();
        if paths.is_empty() {
            return;
        }
        let first = self.first % paths.len();
        paths.rotate_left(first);
        self.first = first + 1;
        let mut bytes = 0;
        while !paths.is_empty() {
            let mut more = Vec::new();
            for (number, path) in paths {
                if bytes >= PASS_BYTES_MAX || events.len() >= PASS_EVENTS_MAX {
                    pass.more = true;
                    return;
                }
                let Some(followed) = self.followed.get_mut(number) else {
                    continue;
                };
                let turn = followed.turn(&path, &mut self.buffer, now, events);
                bytes += turn.bytes;
                turn.due_ms.into_iter().for_each(|due_ms| pass.due(due_ms));
                if turn.more {
                    more.push((number, path));
                }
            }
            paths = more;
        }
    }

    /// Lets go of the files that have been quiet for longest.
    fn close_idle(&mut self) {
        let parts = self.followed.iter_mut().flat_map(Followed::parts_mut);
        let mut open: Vec<&mut Part> = parts
            .filter(|part| part.is_open() && part.moved_ms.is_none_or(|_| part.listed))
            .collect();
        if open.len() > OPEN_MAX {
            open.sort_by_key(|part| std::cmp::Reverse(part.grown_ms));
            open.into_iter()
                .skip(OPEN_MAX)
                .for_each(|part| part.close());
        }
    }

    fn batch(
        &mut self,
        events: Vec<super::TailEvent>,
        now: Now,
        places: bool,
        due_ms: &mut Option<u64>,
    ) -> Option<Batch> {
        let mut alerts = Vec::new();
        for followed in &mut self.followed {
            let name = &followed.section.name;
            let changed = followed.digest.alerts.take_changed().into_iter();
            alerts.extend(changed.map(|(key, record)| ((name.clone(), key), record)));
        }
        let is_dirty = self.followed.iter().any(Followed::is_dirty) || !self.forget.is_empty();
        let next_ms = self.stored_ms + PLACES_EVERY_MS;
        if events.is_empty() && alerts.is_empty() {
            if !is_dirty {
                return None;
            }
            if !places && self.stored_ms > 0 && now.mono_ms < next_ms {
                *due_ms = Some(due_ms.map_or(next_ms, |due_ms| due_ms.min(next_ms)));
                return None;
            }
        }
        self.stored_ms = now.mono_ms.max(1);
        self.seq += 1;
        let mut cursors: Vec<_> = self.forget.drain(..).map(|key| (key, None)).collect();
        for followed in &mut self.followed {
            cursors.extend(followed.take_places());
        }
        Some(Batch {
            writer: WRITER.to_owned(),
            seq: self.seq,
            events,
            cursors,
            alerts,
        })
    }
}

impl Pass {
    fn due(&mut self, due_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(due_ms, |due| due.min(due_ms)));
    }
}
