//! Queues that are not consumed: one message at a time, and an end.

use std::sync::Arc;

use lapin::options::{BasicGetOptions, QueueDeleteOptions};

use crate::deliver;
use crate::error::SetupError;
use crate::message::Incoming;
use crate::session::{Session, short};

impl Session {
    /// Takes the next message out of a queue, where there is one. It comes again unless it is acked.
    ///
    /// # Errors
    /// When there is no such queue, or the user may not.
    pub async fn get(&self, queue: &str) -> Result<Option<Incoming>, SetupError> {
        let what = format!("take a message out of the queue {queue}");
        let name = short(queue, &what)?;
        let got = async {
            let opened = self
                .gets
                .get_or_try_init(|| self.connection.create_channel());
            let channel = opened.await?;
            let got = channel.basic_get(name, BasicGetOptions::default()).await?;
            Ok((channel.clone(), got))
        };
        let (channel, got) = self.within(what, queue, got).await?;
        let shared = Arc::clone(&self.shared);
        Ok(got.map(|got| deliver::single(got.delivery, channel, shared)))
    }

    /// Deletes a queue, with what is in it; it is no error when there is none.
    ///
    /// # Errors
    /// When the user may not, or another connection has it for itself.
    pub async fn delete_queue(&self, queue: &str) -> Result<(), SetupError> {
        let what = format!("delete the queue {queue}");
        let name = short(queue, &what)?;
        let options = QueueDeleteOptions::default();
        let deleted = self.control.queue_delete(name, options);
        self.within(what, queue, deleted).await?;
        Ok(())
    }
}
