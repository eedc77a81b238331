//! The files of one section while they are followed: which there are, and what has become of those that were there. What
//! is in them is read in `turn`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::cursor::{FileId, Place};
use super::digest::Digest;
use super::glob::Found;
use super::lane::Lane;
use super::notice;
use super::part::{Part, id_of, written_ms};
use super::recover::{self, Remains};
use super::section::{Section, Start};
use super::{AlertStates, Change, RateLimits, TailEvent, names};

/// Files that one section follows at the most.
const FILES_MAX: usize = 2_000;

/// Now, by both clocks: the wall clock for people and files, the monotonic one for spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Milliseconds since some fixed moment; never goes back.
    pub mono_ms: u64,
}

impl Now {
    /// The wall clock, and the time since `began`.
    #[must_use]
    pub fn since(began: Instant) -> Self {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            wall_ms: wall.map_or(0, ms),
            mono_ms: ms(began.elapsed()),
        }
    }
}

/// A section and its files.
pub(super) struct Followed {
    pub(super) section: Section,
    pub(super) digest: Digest,
    pub(super) lanes: BTreeMap<PathBuf, Lane>,
    /// Patterns whose files were looked for before: what they find from now on is new.
    known: BTreeSet<String>,
    known_dirty: bool,
    /// Places of an earlier run, until the first look.
    stored: Vec<Place>,
    /// Files whose stored places are to be forgotten.
    pub(super) gone: BTreeSet<FileId>,
    too_many_told: bool,
}

impl Followed {
    pub(super) fn new(
        section: Section,
        known: BTreeSet<String>,
        stored: Vec<Place>,
        alerts: AlertStates,
    ) -> Self {
        let digest = Digest {
            matcher: section.matcher.clone(),
            alerts,
            limits: RateLimits::default(),
            charset: section.charset,
            joining: section.joining.clone(),
            line_bytes_max: section.line_bytes_max,
            counters: section.counters.clone(),
            decoded: Vec::new(),
        };
        Self {
            section,
            digest,
            lanes: BTreeMap::new(),
            known,
            known_dirty: false,
            stored,
            gone: BTreeSet::new(),
            too_many_told: false,
        }
    }

    /// Looks which files there are. The directories to be told of changes in.
    pub(super) fn scan(&mut self, now: Now, out: &mut Vec<TailEvent>) -> BTreeSet<PathBuf> {
        let mut found = Found::default();
        for (number, glob) in self.section.globs.iter().enumerate() {
            glob.find(number, &self.section.exclude, FILES_MAX, &mut found);
        }
        self.resume(&found, now, out);
        self.mark(&found, now);
        self.add(&found, now);
        for glob in &self.section.globs {
            self.known_dirty |= self.known.insert(glob.text().to_owned());
        }
        if found.too_many && !self.too_many_told {
            out.push(notice::too_many(&self.section.name, FILES_MAX, now.wall_ms));
        }
        self.too_many_told = found.too_many;
        self.lanes.retain(|_, lane| !lane.parts.is_empty());
        let files = self
            .lanes
            .values()
            .map(|lane| lane.parts.len() as u64)
            .sum();
        self.digest.counters.files.store(files, Ordering::Relaxed);
        found.dirs
    }

    /// Takes up the places of an earlier run.
    fn resume(&mut self, found: &Found, now: Now, out: &mut Vec<TailEvent>) {
        let stored = std::mem::take(&mut self.stored);
        if stored.is_empty() {
            return;
        }
        // The others are copies, for all that is known.
        let own = |place: &&Place| place.offset > 0 && place.copy_of.is_none();
        let known: BTreeSet<FileId> = stored.iter().filter(own).map(|place| place.id).collect();
        let youngest = youngest(&stored, found);
        for place in stored {
            let path = place.path();
            if self.ids().any(|id| id == place.id) {
                continue; // taken over
            }
            if let Some((at, _)) = found.files.get(&place.id) {
                let mut part = Part::new(place, at.clone(), now.mono_ms);
                (part.dirty, part.stored) = (false, true);
                self.lane(&path).push_back(part);
                continue;
            }
            self.gone.insert(place.id);
            if place.copy_of.is_some() {
                continue; // nothing of its own was in it
            }
            if std::fs::metadata(&path).is_ok_and(|meta| id_of(&meta) == place.id) {
                continue; // the patterns have changed: nobody asks for it any more
            }
            let succeeded = youngest.get(&path).is_some_and(|id| *id != place.id);
            let remains = recover::remains(&place, &known, succeeded);
            if remains.same.is_none() {
                // It was gone before it was seen again: nobody knows what came to be written in between.
                let at_least = remains.lost_bytes == 0 || remains.at_least;
                self.lost(&path, remains.lost_bytes, at_least, now, out);
            } else {
                self.lost(&path, remains.lost_bytes, remains.at_least, now, out);
            }
            let parts = self.revived(&path, remains, now);
            self.take_over(&path, &parts);
            self.lane(&path).extend(parts);
        }
        for (path, lane) in &mut self.lanes {
            let age = |part: &Part| {
                let meta = std::fs::metadata(&part.path);
                let written_ms = meta.map_or(0, |meta| written_ms(&meta));
                let name = part.path.file_name().unwrap_or_default().to_string_lossy();
                (part.path == *path, written_ms, names::age(&name))
            };
            lane.parts.make_contiguous().sort_by_cached_key(age);
        }
    }

    /// Takes note of which files still have their paths.
    fn mark(&mut self, found: &Found, now: Now) {
        for (path, lane) in &mut self.lanes {
            for part in &mut lane.parts {
                let at = found.files.get(&part.place.id).map(|(at, _)| at);
                part.listed = at.is_some();
                if let Some(at) = at {
                    part.path.clone_from(at);
                }
                if at == Some(path) {
                    part.moved_ms = None;
                    part.place.seen_ms = now.wall_ms;
                } else {
                    part.moved_ms.get_or_insert(now.mono_ms);
                }
            }
        }
    }

    /// Begins with files that were not there before.
    fn add(&mut self, found: &Found, now: Now) {
        for (id, (path, number)) in &found.files {
            if self.ids().any(|known| known == *id) {
                continue;
            }
            let pattern = self.section.globs.get(*number).map(|glob| glob.text());
            let first = pattern.is_some_and(|pattern| !self.known.contains(pattern));
            let mut part = Part::new(
                Place::begin(path, *id, now.wall_ms),
                path.clone(),
                now.mono_ms,
            );
            if first && self.section.start == Start::End {
                begin_at_end(&mut part);
            }
            let before = self.lanes.get(path).and_then(|lane| lane.parts.back());
            let overtaken = before.map(|before| {
                let known: BTreeSet<FileId> =
                    self.ids().chain(found.files.keys().copied()).collect();
                recover::overtaken(&before.place, &known)
            });
            let overtaken = Remains {
                later: overtaken.unwrap_or_default(),
                ..Remains::default()
            };
            let parts = self.revived(path, overtaken, now);
            let lane = self.lane(path);
            lane.extend(parts);
            lane.push_back(part);
        }
    }

    /// The file number `index` of a path has other content than before: what it had is looked for elsewhere, and it is
    /// begun anew.
    pub(super) fn replaced(
        &mut self,
        path: &Path,
        index: usize,
        now: Now,
        out: &mut Vec<TailEvent>,
    ) {
        let Some(part) = self.lanes.get(path).and_then(|lane| lane.parts.get(index)) else {
            return;
        };
        let old = part.place.clone();
        self.pass_over_copies(path, &old, now);
        let known = self.known_beside(path, &old);
        let Some(lane) = self.lanes.get_mut(path) else {
            return;
        };
        let last = lane.parts.len().saturating_sub(1);
        let Some(part) = lane.parts.get_mut(index) else {
            return;
        };
        let remains = recover::remains(&old, &known, index < last);
        part.restart(path, now.wall_ms);
        part.grown_ms = now.mono_ms;
        tracing::info!(
            path = %path.display(),
            found_again = remains.same.is_some(),
            lost_bytes = remains.lost_bytes,
            "a log file was cut or replaced; reading it from its beginning"
        );
        self.lost(path, remains.lost_bytes, remains.at_least, now, out);
        let revived = self.revived(path, remains, now);
        self.take_over(path, &revived);
        for part in revived.into_iter().rev() {
            self.lane(path).insert(index, part);
        }
    }

    /// Parts of what was found of a file under other names, oldest first.
    fn revived(&mut self, path: &Path, remains: Remains, now: Now) -> Vec<Part> {
        let later = remains
            .later
            .into_iter()
            .map(|(id, at)| (Place::begin(path, id, now.wall_ms), at));
        remains
            .same
            .into_iter()
            .chain(later)
            .map(|(place, at)| {
                let mut part = Part::new(place, at, now.mono_ms);
                part.own = true;
                part.listed = false;
                part.moved_ms = Some(now.mono_ms);
                part
            })
            .collect()
    }

    pub(super) fn lost(
        &self,
        path: &Path,
        bytes: u64,
        at_least: bool,
        now: Now,
        out: &mut Vec<TailEvent>,
    ) {
        if bytes == 0 && !at_least {
            return;
        }
        let counters = &self.digest.counters;
        counters.lost_bytes.fetch_add(bytes, Ordering::Relaxed);
        out.push(notice::lost(
            &self.section.name,
            path,
            bytes,
            at_least,
            now.wall_ms,
        ));
    }

    fn lane(&mut self, path: &Path) -> &mut VecDeque<Part> {
        let section = &self.section.name;
        let lane = self.lanes.entry(path.to_owned());
        let lane = lane.or_insert_with(|| Lane::new(section, path.display().to_string()));
        &mut lane.parts
    }

    fn ids(&self) -> impl Iterator<Item = FileId> {
        self.parts().map(|part| part.place.id)
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.lanes.values().flat_map(|lane| &lane.parts)
    }

    pub(super) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        self.lanes.values_mut().flat_map(|lane| &mut lane.parts)
    }

    /// Whether places have changed since they were stored.
    pub(super) fn is_dirty(&self) -> bool {
        self.known_dirty || !self.gone.is_empty() || self.parts().any(|part| part.dirty)
    }

    /// The changed places, in the form in which they are stored.
    pub(super) fn take_places(&mut self) -> Vec<Change<Vec<u8>>> {
        let name = self.section.name.clone();
        let mut changes = Vec::new();
        let ids: BTreeSet<FileId> = self.ids().collect();
        for id in std::mem::take(&mut self.gone) {
            if !ids.contains(&id) {
                changes.push((super::records::place_key(&name, id), None));
            }
        }
        for part in self.parts_mut().filter(|part| part.dirty) {
            part.dirty = false;
            part.stored = true;
            let record = part.place.encode();
            changes.push((super::records::place_key(&name, part.place.id), record));
        }
        if std::mem::take(&mut self.known_dirty) {
            changes.push((
                super::records::known_key(&name),
                super::records::encode_known(&self.known),
            ));
        }
        changes
    }

    /// What was stored is gone: it is all to be stored again.
    pub(super) fn store_again(&mut self) {
        self.parts_mut().for_each(|part| part.dirty = true);
        self.known_dirty = true;
        self.digest.alerts.mark_all_changed();
    }
}

/// Of the places of each path the one of the youngest file: it knows what came before what is not known. A file of which
/// nothing was read yet can't be told from the one that follows it, and so is none.
fn youngest(stored: &[Place], found: &Found) -> BTreeMap<PathBuf, FileId> {
    let mut youngest: BTreeMap<PathBuf, ((u64, bool), FileId)> = BTreeMap::new();
    for place in stored.iter().filter(|place| place.offset > 0) {
        let path = place.path();
        let is_there = found
            .files
            .get(&place.id)
            .is_some_and(|(at, _)| *at == path);
        let age = (place.seen_ms, is_there);
        let other = youngest.get(&path).is_some_and(|(other, _)| *other > age);
        if !other {
            youngest.insert(path, (age, place.id));
        }
    }
    let ids = youngest.into_iter();
    ids.map(|(path, (_, id))| (path, id)).collect()
}

/// Passes over what a file has already; its unfinished last line as well.
fn begin_at_end(part: &mut Part) {
    let passed = part.state().and_then(|(size, _)| {
        part.jump(size)?;
        Ok(size)
    });
    match passed {
        Ok(size) if size > 0 => {
            part.place.size_seen = size;
            part.own = true;
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(path = %part.path.display(), %error, "could not pass over what a log has already");
        }
    }
}
