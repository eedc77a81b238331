//! The ledger: what happened to every job, kept in a SQLite file that is built from the broker's stream `muster.ledger`.
//!
//! The stream is the truth and the file a cache of it: it may be deleted at any time. [`fold`] says what a message means,
//! [`standing`] what that makes of a host, [`store`] keeps the rows and the stream offset in one transaction, [`read`] asks
//! it, [`letters`] takes dead letters over into the stream, [`sync`] catches up with it.

mod error;
pub mod fold;
pub mod follow;
pub mod heard;
pub mod letters;
pub mod presence;
pub mod read;
pub mod standing;
pub mod store;
pub mod sync;
pub mod write;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use muster_link::BrokerConfig;

use self::store::{Store, StoreError};

/// The file, shared by the parts of one program.
#[derive(Debug)]
pub struct Ledger {
    store: Mutex<Store>,
    notices: Mutex<Vec<String>>,
}

impl Ledger {
    /// Opens the file in `dir`. Where that can't be, the ledger is kept in memory and built anew by every command; a
    /// notice says so.
    ///
    /// # Errors
    /// When the file is of a newer program.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let (store, notice) = match Store::open(dir) {
            Err(error @ StoreError::Newer { .. }) => return Err(error),
            Err(error) => (
                Store::in_memory()?,
                Some(format!("working without the ledger's cache: {error}")),
            ),
            Ok(opened) => opened,
        };
        Ok(Self {
            store: Mutex::new(store),
            notices: Mutex::new(notice.into_iter().collect()),
        })
    }

    /// Works on the file. A damaged one is set aside and an empty one put in its place, of which a notice is kept: the
    /// error is given, and the next catch-up fills it.
    ///
    /// # Errors
    /// What `work` says.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A panic while it was held has rolled its transaction back.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = work(&mut store);
        match &outcome {
            Err(StoreError::Damaged { .. }) => self.notice(store.replace()?),
            Err(StoreError::Superseded) => store.follow()?,
            _ => {}
        }
        outcome
    }

    /// Keeps a line for the operator.
    pub fn notice(&self, line: String) {
        self.notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// What the operator should be told, once.
    pub fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The directory of a broker's and vhost's ledger in `cache_dir`.
#[must_use]
pub fn dir_of(cache_dir: &Path, broker: &BrokerConfig) -> PathBuf {
    let mut places: Vec<String> = broker
        .urls()
        .iter()
        .map(|url| format!("{}_{}", url.address(), url.vhost()))
        .collect();
    places.sort_unstable(); // of a cluster, whichever the config names first
    let place = places.first().map_or("", String::as_str);
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || ".-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    // Different places may look the same once they are safe: the sum tells them apart.
    let sum = place.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let name: String = place.chars().take(100).map(safe).collect();
    cache_dir.join(format!("{name}-{sum:016x}"))
}
