//! Which parts are at work, for `/readyz`. Knows their names only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// A board on which every part says how it is. Clones are the same board.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health(Arc<Mutex<BTreeMap<String, PartHealth>>>);

/// How a part is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "why")]
pub(crate) enum PartHealth {
    /// It has not begun yet.
    Starting,
    /// It works.
    Up,
    /// It does not, and why.
    Down(String),
}

impl Health {
    /// Expects a part.
    pub(crate) fn begin(&self, part: &str) {
        self.set(part, PartHealth::Starting);
    }

    /// It was stopped, and is not expected any more.
    pub(crate) fn end(&self, part: &str) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.remove(part);
    }

    /// It works.
    pub(crate) fn up(&self, part: &str) {
        self.set(part, PartHealth::Up);
    }

    /// It does not work.
    pub(crate) fn down(&self, part: &str, why: String) {
        self.set(part, PartHealth::Down(why));
    }

    /// How every part is.
    pub(crate) fn parts(&self) -> BTreeMap<String, PartHealth> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether every part works.
    pub(crate) fn is_ready(&self) -> bool {
        self.parts().values().all(|part| *part == PartHealth::Up)
    }

    fn set(&self, part: &str, health: PartHealth) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(part.to_owned(), health);
    }
}
