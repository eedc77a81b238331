//! The channels that a session begins with.

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};

/// The channel to publish on, with confirms, and the one for the rest: what is published never waits behind deliveries.
pub(crate) async fn open_channels(connection: &Connection) -> lapin::Result<(Channel, Channel)> {
    let publish = async {
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    };
    tokio::try_join!(publish, connection.create_channel())
}
