//! The channels to publish on: one for each set of streams that messages go to.
//!
//! RabbitMQ before 4.0 (its pull request 12236) loses messages that it has confirmed where a channel mixes messages for a
//! stream with others. It counts a channel's messages once for the confirms and once for each stream. When a stream gets
//! a new leader, which it also does while a node starts, what is not written yet is sent again with the count for the
//! confirms; what comes later with a count that was used up so is taken for a repetition: dropped, and confirmed. Where
//! every message of a channel goes to the same streams, the counts are the same.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};
use muster_proto::topology::StreamSet;

/// A channel to publish on that is being opened.
pub(crate) type Opening = BoxFuture<'static, lapin::Result<Channel>>;

/// Opens a channel to publish on, with confirms.
pub(crate) fn open(connection: &Arc<Connection>) -> Opening {
    let connection = Arc::clone(connection);
    async move {
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }
    .boxed()
}

/// A channel for the messages that go to the same streams.
struct Lane {
    streams: StreamSet,
    channel: Channel,
    /// Messages without a confirm whose order counts.
    in_order: usize,
}

/// The channels that are open.
pub(crate) struct Lanes {
    /// Has carried nothing yet: it becomes that of the first message.
    spare: Option<Channel>,
    lanes: Vec<Lane>,
}

impl Lanes {
    pub(crate) fn new(first: Channel) -> Self {
        Self {
            spare: Some(first),
            lanes: Vec::new(),
        }
    }

    /// Whether there is a channel for `streams`; the one that carried nothing yet is taken.
    pub(crate) fn has(&mut self, streams: StreamSet) -> bool {
        if self.channel(streams).is_some() {
            return true;
        }
        let spare = self.spare.take();
        let taken = spare.is_some();
        self.lanes.extend(spare.map(|channel| Lane {
            streams,
            channel,
            in_order: 0,
        }));
        taken
    }

    /// Adds a channel that was opened.
    pub(crate) fn add(&mut self, channel: Channel) {
        self.spare = Some(channel);
    }

    pub(crate) fn channel(&self, streams: StreamSet) -> Option<&Channel> {
        let lane = self.lanes.iter().find(|lane| lane.streams == streams);
        lane.map(|lane| &lane.channel)
    }

    /// Every channel that carries something.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.lanes.iter().map(|lane| &lane.channel)
    }

    /// Whether a message for `streams` would overtake one on another channel that is to come before it in a stream.
    pub(crate) fn overtakes(&self, streams: StreamSet) -> bool {
        self.lanes
            .iter()
            .any(|lane| lane.in_order > 0 && lane.streams != streams && lane.streams.meets(streams))
    }

    /// Counts a message whose order counts: sent, or confirmed.
    pub(crate) fn count(&mut self, streams: StreamSet, sent: bool) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.streams == streams) {
            lane.in_order = if sent {
                lane.in_order.saturating_add(1)
            } else {
                lane.in_order.saturating_sub(1)
            };
        }
    }
}
