//! The part that keeps the ledger: caught up with, then followed, with the dead letters taken over. What the rows mean is
//! the ledger's business.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use muster_link::Session;
use muster_proto::id::KeyId;

use super::session::Part;
use crate::ledger::{Ledger, follow, letters, sync};

/// How far back a new ledger goes: as long as the broker's stream.
const SINCE_MS: u64 = 30 * 24 * 3600 * 1000;

/// How often dead letters are looked for.
const LETTERS_EVERY: Duration = Duration::from_secs(5);

/// The part.
pub(crate) struct Books {
    /// The file.
    pub(crate) ledger: Arc<Ledger>,
    /// In whose name marks are sent.
    pub(crate) reader: KeyId,
}

impl Part for Books {
    fn name(&self) -> &str {
        "ledger"
    }

    async fn work(&mut self, session: &Session) -> Result<()> {
        letters::take_over(session, &self.reader)
            .await
            .context("take over dead letters")?;
        let caught_up = sync::catch_up(session, &self.ledger, &self.reader, SINCE_MS).await;
        for notice in self.ledger.notices() {
            tracing::warn!("{notice}");
        }
        caught_up.context("catch up with the ledger")?;
        let letters = async {
            loop {
                tokio::time::sleep(LETTERS_EVERY).await;
                if let Err(error) = letters::take_over(session, &self.reader).await {
                    return error;
                }
            }
        };
        tokio::select! {
            followed = follow::follow(session, &self.ledger, |_| {}) => followed.context("follow the ledger")?,
            error = letters => return Err(error).context("take over dead letters"),
        }
        Ok(())
    }
}
