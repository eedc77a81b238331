//! The channels that a session begins with.

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};

/// Which channels a session begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// One to publish on and one for the rest: what is published never waits behind deliveries.
    Apart,
    /// One for all. It costs the broker a third less per message that is answered, and what is handed to it is taken in
    /// that order.
    One,
}

/// The channel to publish on, with confirms, and the one for the rest.
pub(crate) async fn open_channels(
    connection: &Connection,
    channels: Channels,
) -> lapin::Result<(Channel, Channel)> {
    let publish = async {
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    };
    match channels {
        Channels::Apart => tokio::try_join!(publish, connection.create_channel()),
        Channels::One => publish.await.map(|channel| (channel.clone(), channel)),
    }
}
