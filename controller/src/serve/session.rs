//! A part's connection to the broker: session, work, backoff, session, for as long as the program serves. The one way in
//! which parts hold a connection; one that is slow or broken troubles no other. It must not know what the parts do.

use std::future::Future;
use std::time::Duration;

use muster_link::{Backoff, BrokerConfig, Session, stamp};
use muster_proto::topology::ALL_STREAMS;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::health::Health;

/// Not an error: there is nothing to do now, and the part wants to be asked again after this time.
#[derive(Debug, thiserror::Error)]
#[error("asked again in {0:?}")]
pub(crate) struct Again(pub(crate) Duration);

/// What needs a connection.
pub(crate) trait Part: Send {
    /// Its name: in the broker's list of connections, in `/readyz` and in the log.
    fn name(&self) -> &str;

    /// Works on one session, until it ends. What was not settled with the broker comes again on the next.
    ///
    /// # Errors
    /// Why it can't go on with this session; the next one is tried after a while.
    fn work(&mut self, session: &Session) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Keeps `part` at work until `stop`.
pub(crate) async fn keep(
    mut part: impl Part,
    broker: BrokerConfig,
    health: Health,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(broker.reconnect_window());
    let name = part.name().to_owned();
    loop {
        let began = Instant::now();
        let why = tokio::select! {
            () = stop.cancelled() => return,
            why = one_session(&mut part, &name, &broker, &health, &stop) => why,
        };
        if stop.is_cancelled() {
            return;
        }
        if began.elapsed() > broker.reconnect_window() {
            backoff.reset();
        }
        let retry_in = match why {
            Why::Again(after) => after,
            Why::Failed(why) => {
                let retry_in = backoff.next(stamp::random_u64());
                tracing::warn!(
                    part = name,
                    retry_in_ms = retry_in.as_millis(),
                    "not at work: {why}"
                );
                health.down(&name, why);
                retry_in
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(retry_in) => {}
        }
    }
}

enum Why {
    Again(Duration),
    Failed(String),
}

/// From connecting to the end; returns why it ended.
async fn one_session(
    part: &mut impl Part,
    name: &str,
    broker: &BrokerConfig,
    health: &Health,
    stop: &CancellationToken,
) -> Why {
    let session = match Session::open(broker, &format!("muster serve {name}")).await {
        Ok(session) => session,
        Err(error) => return Why::Failed(error.to_string()),
    };
    if let Err(error) = session.find_streams(ALL_STREAMS).await {
        return Why::Failed(error.to_string());
    }
    health.up(name);
    let why = tokio::select! {
        biased;
        () = stop.cancelled() => Why::Failed("the program ends".to_owned()),
        outcome = part.work(&session) => match outcome {
            Ok(()) => Why::Failed("its work ended".to_owned()),
            Err(error) => match error.downcast_ref::<Again>() {
                Some(Again(after)) => Why::Again(*after),
                // A session that ended says better why.
                None if session.has_ended() => Why::Failed(session.closed().await.why),
                None => Why::Failed(format!("{error:#}")),
            },
        },
        ended = session.closed() => Why::Failed(ended.why),
    };
    session.close().await;
    why
}
