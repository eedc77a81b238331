//! The inventory's file: read at the start and again when it has changed. A file that can't be read or understood leaves
//! what was read before, and says so once. It must not know who asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::{BYTES_MAX, Inventory};

/// How often the file is looked at, at the most.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The inventory of a file, shared by those who send events.
#[derive(Debug, Clone)]
pub struct InventoryFile(Option<Arc<Mutex<Held>>>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    looked: Option<Instant>,
    seen: Option<Version>,
    inventory: Arc<Inventory>,
    news: Option<Result<(), String>>,
    broken: bool,
}

/// By what a changed file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl InventoryFile {
    /// The inventory of this file; of none, it adds nothing.
    #[must_use]
    pub fn at(path: Option<PathBuf>) -> Self {
        let held = |path| {
            Arc::new(Mutex::new(Held {
                path,
                looked: None,
                seen: None,
                inventory: Arc::default(),
                news: None,
                broken: false,
            }))
        };
        Self(path.map(held))
    }

    /// Adds what the inventory knows to the fields of an event, as [`Inventory::enrich`]. Looks after the file first.
    pub fn enrich(&self, topic: &str, fields: &mut BTreeMap<String, Value>) {
        if let Some(inventory) = self.current() {
            inventory.enrich(topic, fields);
        }
    }

    /// Whether the file has become good or bad since this was asked last: nothing, or why it can't be used.
    pub fn news(&self) -> Option<Result<(), String>> {
        let held = self.0.as_ref()?;
        held.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .news
            .take()
    }

    /// Looks after the file at the next event, however long ago the last look was.
    #[cfg(test)]
    pub(super) fn look_again(&self) {
        if let Some(held) = &self.0 {
            held.lock().unwrap_or_else(PoisonError::into_inner).looked = None;
        }
    }

    fn current(&self) -> Option<Arc<Inventory>> {
        let mut held = self
            .0
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if held
            .looked
            .is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL)
        {
            held.looked = Some(Instant::now());
            held.look();
        }
        Some(held.inventory.clone())
    }
}

impl Held {
    fn look(&mut self) {
        let metadata = std::fs::metadata(&self.path);
        let version = metadata.as_ref().ok().map(|metadata| Version {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
        });
        if version.is_some() && version == self.seen {
            return;
        }
        self.seen = version;
        let read = metadata
            .and_then(|metadata| match metadata.len() {
                bytes if bytes > BYTES_MAX => Err(std::io::Error::other(format!(
                    "it is larger than {BYTES_MAX} bytes"
                ))),
                _ => std::fs::read_to_string(&self.path),
            })
            .map_err(|error| error.to_string())
            .and_then(|text| Inventory::parse(&text));
        match read {
            Ok(inventory) => {
                self.inventory = Arc::new(inventory);
                if std::mem::take(&mut self.broken) {
                    self.news = Some(Ok(()));
                }
            }
            Err(why) => {
                let why = format!("read the inventory {}: {why}", self.path.display());
                if !self.broken {
                    tracing::warn!(why, "the inventory stays as it was");
                    self.news = Some(Err(why));
                }
                self.broken = true;
            }
        }
    }
}
