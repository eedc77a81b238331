//! Being told by the kernel that something in a directory has changed (inotify(7)). It only wakes: what has changed is
//! found by looking. Where the kernel tells nothing, as on network file systems, looking now and then has to do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::unix::AsyncFd;

/// Room for some hundred events; more come with the next call.
const EVENTS_BYTES: usize = 16 << 10;

/// Directories that are watched at the most; the kernel's own bound is 8192 per user where little is set.
const DIRS_MAX: usize = 2_000;

/// The watched directories.
pub(super) struct Watch {
    inotify: Option<AsyncFd<Inotify>>,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    told: bool,
}

impl Watch {
    /// Watches nothing yet. Without inotify it never tells anything.
    #[expect(
        deprecated,
        reason = "its successor is `unsafe`; an inotify instance keeps its descriptor for as long as it lives"
    )]
    pub(super) fn new() -> Self {
        let inotify = Inotify::init().and_then(AsyncFd::new);
        Self {
            inotify: inotify.map_err(|error| warn(&error)).ok(),
            watched: BTreeMap::new(),
            told: false,
        }
    }

    /// Whether everything that was asked for is watched.
    pub(super) fn is_whole(&self) -> bool {
        self.inotify.is_some() && !self.told
    }

    /// Watches `dirs` and nothing else. `true` where one is new: what has happened in it before is not told.
    pub(super) fn set(&mut self, dirs: &BTreeSet<PathBuf>) -> bool {
        let Some(inotify) = &mut self.inotify else {
            return false;
        };
        let mut watches = inotify.get_ref().watches();
        let gone: Vec<PathBuf> = self
            .watched
            .keys()
            .filter(|dir| !dirs.contains(*dir))
            .cloned()
            .collect();
        for dir in gone {
            // Two paths may lead to one directory, which has one watch.
            let wd = self.watched.remove(&dir);
            let shared = |wd: &WatchDescriptor| self.watched.values().any(|other| other == wd);
            if let Some(wd) = wd.filter(|wd| !shared(wd)) {
                _ = watches.remove(wd); // it is gone with its directory
            }
        }
        let mask = WatchMask::CREATE
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::MODIFY
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let mut new = false;
        self.told = dirs.len() > DIRS_MAX;
        for dir in dirs.iter().take(DIRS_MAX) {
            if self.watched.contains_key(dir) {
                continue;
            }
            match watches.add(dir, mask) {
                Ok(wd) => {
                    self.watched.insert(dir.clone(), wd);
                    new = true;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        warn(&error);
                    }
                }
            }
        }
        new
    }

    /// Waits until something has changed. `true` where it may be names rather than contents alone.
    pub(super) async fn changed(&mut self) -> bool {
        let Some(inotify) = &mut self.inotify else {
            return std::future::pending().await;
        };
        let mut buffer = [0; EVENTS_BYTES];
        loop {
            let Ok(mut ready) = inotify.readable_mut().await else {
                return std::future::pending().await;
            };
            let read = ready.try_io(|inotify| inotify.get_mut().read_events(&mut buffer));
            let Ok(read) = read else { continue };
            let Ok(events) = read else { return true };
            let mut names = false;
            for event in events {
                names |= event.mask != EventMask::MODIFY;
                let lost = EventMask::IGNORED | EventMask::MOVE_SELF | EventMask::UNMOUNT;
                if event.mask.intersects(lost) {
                    // The watch has left its path; what has the path now is watched anew.
                    let of = self.watched.iter().find(|(_, wd)| **wd == event.wd);
                    if let Some(dir) = of.map(|(dir, _)| dir.clone()) {
                        self.watched.remove(&dir);
                        _ = inotify.get_ref().watches().remove(event.wd);
                    }
                }
            }
            return names;
        }
    }
}

fn warn(error: &io::Error) {
    tracing::warn!(%error, "could not be told of changes in all directories of logs; looking into them every second instead (see fs.inotify.max_user_watches and max_user_instances)");
}
