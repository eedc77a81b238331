//! Joins the collectors to the action that runs them at once.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use crate::action::{SnapshotSource, Snapshots as Collected};
use crate::collect::schedule::Collectors;

/// The collectors in the form in which the action `collect` asks them.
pub(super) struct OnDemand(pub(super) Collectors);

impl SnapshotSource for OnDemand {
    fn names(&self) -> Vec<String> {
        self.0
            .board()
            .borrow()
            .collectors
            .keys()
            .map(|name| (*name).to_owned())
            .collect()
    }

    fn collect_now(&self, names: Vec<String>) -> BoxFuture<'_, Collected> {
        Box::pin(async move {
            let (packed, mut errors) = self.0.collect(&names).await;
            let mut snapshots = BTreeMap::new();
            for (name, packed) in packed {
                match packed.value() {
                    Ok(snapshot) => _ = snapshots.insert(name, snapshot),
                    Err(error) => _ = errors.insert(name, error.to_string()),
                }
            }
            Collected { snapshots, errors }
        })
    }
}
