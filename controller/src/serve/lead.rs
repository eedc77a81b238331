//! Who leads: of all `muster serve` on one vhost the one that consumes the queue `muster.lead` alone. The leader speaks
//! for all: it publishes what is true of the fleet as a whole. It must not know what that is.
//!
//! After a cut connection two may believe for some seconds that they lead, until the broker has noticed. What a leader
//! publishes has ids that follow from what it is about, so that readers drop the second copy.

use std::time::Duration;

use anyhow::{Result, bail};
use muster_link::{Acks, Consume, Session, SetupError, stamp};
use muster_proto::topology::LEAD;
use tokio::sync::watch;

use super::session::{Again, Part};

/// Whether this program leads. `false` until it is known.
pub(crate) type Leading = watch::Receiver<bool>;

/// The part that tries to lead.
pub(crate) struct Lead {
    leading: watch::Sender<bool>,
}

/// Pause before a place that another has is asked for again: with the broker's notice of a dead leader the time in which
/// nobody leads.
const ASK_AGAIN: Duration = Duration::from_secs(2);

impl Lead {
    /// The part, which tells what it finds out through `leading`.
    pub(crate) const fn new(leading: watch::Sender<bool>) -> Self {
        Self { leading }
    }
}

impl Part for Lead {
    fn name(&self) -> &str {
        "lead"
    }

    async fn work(&mut self, session: &Session) -> Result<()> {
        let consume = Consume {
            queue: LEAD.to_owned(),
            exclusive: true,
            prefetch: 1,
            acks: Acks::Manual,
            offset: None,
        };
        let _resigns = Resigns(&self.leading);
        match session.consume(consume).await {
            Ok(mut deliveries) => {
                tracing::info!("this program leads");
                self.leading.send_replace(true);
                while let Some(stray) = deliveries.recv().await {
                    stray.acker.ack().await;
                }
                bail!("the connection was lost")
            }
            Err(SetupError::InUse { .. }) => Err(Again(ASK_AGAIN + spread()).into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Ends the lead however the work ends.
struct Resigns<'a>(&'a watch::Sender<bool>);

impl Drop for Resigns<'_> {
    fn drop(&mut self) {
        if self.0.send_replace(false) {
            tracing::info!("this program no longer leads");
        }
    }
}

/// Up to half a second, so that those who wait do not ask in step.
fn spread() -> Duration {
    Duration::from_millis(stamp::random_u64() % 500)
}
