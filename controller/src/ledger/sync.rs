//! Catching up with the broker's streams: up to a mark of one's own, so that everything written before has been read. It
//! must not know what the messages mean.
//!
//! The file remembers the last message that it has read, its offset and its id. Reading begins with that very message: is
//! it gone or another one, then the stream has let go of what was not read yet, or it is another broker's, and the file
//! is begun anew.

use std::time::Duration;

use muster_link::{
    Acks, Consume, Deliveries, Incoming, Outgoing, PublishError, Receipt, Session, SetupError,
    StreamOffset, ends_before, stamp,
};
use muster_proto::envelope::{self, EncodeError, Kind};
use muster_proto::id::{KeyId, MessageId};
use muster_proto::job::Mark;
use muster_proto::presence::Presence;
use muster_proto::topology::{EVENTS, LEDGER, METRICS, PRESENCE};
use tokio::time::timeout;

use super::Ledger;
use super::fold::Entry;
use super::presence::{Arrival, WINDOW_MS};
use super::store::{Position, Seen, StoreError, Stream};

/// How far back the ledger is read where there is no file yet.
pub const SINCE_MS: u64 = 24 * 3600 * 1000;

/// A file that goes back nearly as far as is asked for is good enough.
const COVER_SLACK_MS: u64 = 3600 * 1000;

/// Messages in one transaction: some 10 ms of work, so that programs that share the file don't wait for each other.
const BATCH: usize = 512;

/// Bytes of messages in one transaction, not counting the last: the answers of a fleet are one message.
pub(super) const BATCH_BYTES: usize = 128 * 1024;

/// Deliveries under way: two batches, so that the broker reads on while one is written.
const PREFETCH: u16 = 1024;

/// The broker has the message that reading begins with: one that is not busy brings it at once.
pub(crate) const FIRST_LIMIT: Duration = Duration::from_secs(5);

/// Longest silence before our own mark comes by. It is confirmed by then.
const MARK_LIMIT: Duration = Duration::from_secs(20);

/// Tries, where the file turns out damaged, another's or of another stream.
const TRIES: usize = 4;

/// Why a stream could not be caught up with.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The stream can't be read.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A mark, or what the ledger is to know, can't be sent.
    #[error("write to the stream {stream}: {source}")]
    Publish {
        /// The stream.
        stream: &'static str,
        /// What happened.
        source: PublishError,
    },
    /// The broker does not take it.
    #[error("write to the stream {stream}: the broker refused it")]
    Refused {
        /// The stream.
        stream: &'static str,
    },
    /// The mark was confirmed and did not come by.
    #[error(
        "the stream {stream} did not bring our mark within {MARK_LIMIT:?}: has `muster broker init` bound it?"
    )]
    NoMark {
        /// The stream.
        stream: &'static str,
    },
    /// What the stream has did not come by.
    #[error(
        "the stream {stream} did not bring what it has within {FIRST_LIMIT:?}: is the broker busy?"
    )]
    Busy {
        /// The stream.
        stream: &'static str,
    },
    /// The session ended meanwhile.
    #[error("read the stream {stream}: the connection was lost")]
    Down {
        /// The stream.
        stream: &'static str,
    },
    /// The file can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mark can't be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

enum Stop {
    /// The stream is another one than the file's.
    Foreign(String),
    Error(SyncError),
}

impl<E: Into<SyncError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Reads the ledger stream up to now. Without a file, from `since_ms` ago; a file that does not go back as far is built
/// anew.
///
/// # Errors
/// When the stream can't be read or the file can't be used.
pub async fn catch_up(
    session: &Session,
    ledger: &Ledger,
    reader: &KeyId,
    since_ms: u64,
) -> Result<(), SyncError> {
    let mut last = SyncError::NoMark { stream: LEDGER };
    for _ in 0..TRIES {
        match read_ledger(session, ledger, reader, since_ms).await {
            Ok(()) => return Ok(()),
            Err(Stop::Foreign(why)) => {
                ledger.notice(format!(
                    "the ledger's cache does not match the broker's stream ({why}): built anew"
                ));
                match ledger.with(super::store::Store::begin_anew) {
                    Ok(()) | Err(StoreError::Superseded) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Set aside, or followed, by now: once more.
            Err(Stop::Error(SyncError::Store(
                error @ (StoreError::Damaged { .. } | StoreError::Superseded),
            ))) => {
                last = error.into();
            }
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Err(last)
}

async fn read_ledger(
    session: &Session,
    ledger: &Ledger,
    reader: &KeyId,
    since_ms: u64,
) -> Result<(), Stop> {
    let start_ms = stamp::now_ms().saturating_sub(since_ms);
    let known = ledger.with(|store| store.position(Stream::Ledger))?;
    if known.is_some() && since_ms > SINCE_MS {
        let covered_ms = ledger.with(super::store::Store::covered_from_ms)?;
        if covered_ms.is_none_or(|covered_ms| covered_ms > start_ms.saturating_add(COVER_SLACK_MS))
        {
            return Err(Stop::Foreign(
                "it goes further back than was read".to_owned(),
            ));
        }
    }
    let from = match known {
        Some(position) => StreamOffset::Offset(position.offset),
        None => {
            ledger.with(|store| store.cover_from(start_ms))?;
            StreamOffset::TimestampMs(start_ms)
        }
    };
    let mut source = Source::open(
        session,
        LEDGER,
        from,
        EVENTS,
        format!("job.mark.{reader}"),
        reader,
    )
    .await?;
    let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
    if let Some(position) = known {
        source.first(session, position).await?;
    }
    let mut bytes = 0;
    loop {
        let (incoming, is_mark) = source.next().await?;
        bytes += incoming.body.len();
        batch.push(entry(incoming));
        if is_mark || batch.len() >= BATCH || bytes >= BATCH_BYTES {
            let now_ms = stamp::now_ms();
            ledger.with(|store| store.apply(&batch, now_ms))?;
            batch.clear();
            bytes = 0;
        }
        if is_mark {
            return Ok(());
        }
    }
}

/// Reads the presence stream up to now: from where it was left, if that is not long ago.
///
/// # Errors
/// When the stream can't be read or the file can't be used.
pub async fn catch_up_presence(
    session: &Session,
    ledger: &Ledger,
    reader: &KeyId,
) -> Result<(), SyncError> {
    for try_from_cache in [true, false] {
        match read_presence(session, ledger, reader, try_from_cache).await {
            Ok(()) => return Ok(()),
            Err(
                Stop::Error(SyncError::Store(StoreError::Damaged { .. } | StoreError::Superseded))
                | Stop::Foreign(_),
            ) => {}
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    Err(SyncError::NoMark { stream: PRESENCE })
}

async fn read_presence(
    session: &Session,
    ledger: &Ledger,
    reader: &KeyId,
    from_cache: bool,
) -> Result<(), Stop> {
    let start_ms = stamp::now_ms();
    let recent =
        |position: &Position| from_cache && start_ms.saturating_sub(position.at_ms) < WINDOW_MS;
    let known = ledger
        .with(|store| store.position(Stream::Presence))?
        .filter(recent);
    let from_ms = known.map_or(start_ms.saturating_sub(WINDOW_MS), |position| {
        position.at_ms
    });
    let from = known.map_or(StreamOffset::TimestampMs(from_ms), |position| {
        StreamOffset::Offset(position.offset)
    });
    let mut source = Source::open(
        session,
        PRESENCE,
        from,
        METRICS,
        format!("presence.mark.{reader}"),
        reader,
    )
    .await?;
    if let Some(position) = known {
        source.first(session, position).await?;
    }
    // Newest by host, so that the file is written once for each.
    let mut newest = std::collections::HashMap::new();
    let mut arrival: Option<Arrival> = None;
    loop {
        let (incoming, is_mark) = source.next().await?;
        let now_ms = stamp::now_ms();
        if is_mark {
            let seen: Vec<Seen> = newest.into_values().collect();
            let at = Position {
                offset: incoming.stream_offset.unwrap_or(0),
                message_id: incoming.message_id,
                at_ms: start_ms,
            };
            ledger.with(|store| store.apply_presence(&seen, at))?;
            return Ok(());
        }
        if let Ok(presence) = envelope::decode::<Presence>(&incoming.kind, &incoming.body)
            && incoming.user_id.as_deref() == Some(presence.host.as_str())
        {
            let seen_ms = arrival
                .get_or_insert(Arrival::between(from_ms, now_ms))
                .of(presence.at_ms);
            newest.insert(presence.host.clone(), Seen { presence, seen_ms });
        }
    }
}

pub(super) fn entry(incoming: Incoming) -> Entry {
    Entry {
        offset: incoming.stream_offset.unwrap_or(0),
        kind: incoming.kind,
        message_id: incoming.message_id,
        job: incoming.correlation_id,
        user_id: incoming.user_id,
        timestamp_ms: incoming.timestamp_ms,
        exchange: incoming.exchange,
        death: incoming.death.map(|death| (death.queue, death.reason)),
        body: incoming.body,
    }
}

/// Publishes what `stream` is to keep, and waits for the confirm.
pub(super) async fn confirmed(
    session: &Session,
    stream: &'static str,
    outgoing: Outgoing,
) -> Result<(), SyncError> {
    match session.publish(outgoing).await {
        Ok(Receipt::Confirmed) => Ok(()),
        Ok(_) => Err(SyncError::Refused { stream }),
        Err(source) => Err(SyncError::Publish { stream, source }),
    }
}

/// A stream that is read up to a mark.
struct Source {
    stream: &'static str,
    deliveries: Deliveries,
    mark: MessageId,
}

impl Source {
    /// Begins to read, and sends the mark at the same time: where reading begins lies before it in any case.
    async fn open(
        session: &Session,
        stream: &'static str,
        from: StreamOffset,
        exchange: &'static str,
        routing_key: String,
        reader: &KeyId,
    ) -> Result<Self, Stop> {
        let mark = stamp::new_message_id();
        let outgoing = Outgoing {
            exchange,
            routing_key,
            kind: Kind::Mark,
            message_id: mark,
            correlation_id: None,
            timestamp_ms: stamp::now_ms(),
            expiration_ms: None,
            mandatory: false,
            transient: false,
            reply_to: None,
            signature: None,
            body: envelope::encode(&Mark {
                reader: reader.to_string(),
            })?
            .into(),
        };
        let consume = Consume {
            queue: stream.to_owned(),
            exclusive: false,
            prefetch: PREFETCH,
            acks: Acks::Batched,
            offset: Some(from),
        };
        let (deliveries, confirmed) = tokio::join!(
            session.consume(consume),
            confirmed(session, stream, outgoing)
        );
        let deliveries = deliveries?;
        confirmed?;
        Ok(Self {
            stream,
            deliveries,
            mark,
        })
    }

    /// Takes the message that was read last, which must be the one that the file remembers.
    async fn first(&mut self, session: &Session, known: Position) -> Result<(), Stop> {
        let Ok(first) = timeout(FIRST_LIMIT, self.deliveries.recv()).await else {
            if ends_before(session, self.stream, known.offset, FIRST_LIMIT).await? {
                return Err(Stop::Foreign("it is shorter than what was read".to_owned()));
            }
            let stream = self.stream;
            return Err(SyncError::Busy { stream }.into());
        };
        let first = first.ok_or(SyncError::Down {
            stream: self.stream,
        })?;
        if first.stream_offset != Some(known.offset) {
            return Err(Stop::Foreign(
                "it has let go of messages that were not read yet".to_owned(),
            ));
        }
        if first.message_id != known.message_id {
            return Err(Stop::Foreign("it is another one".to_owned()));
        }
        Ok(())
    }

    /// The next message, and whether it is the mark.
    async fn next(&mut self) -> Result<(Incoming, bool), Stop> {
        let Ok(next) = timeout(MARK_LIMIT, self.deliveries.recv()).await else {
            return Err(SyncError::NoMark {
                stream: self.stream,
            }
            .into());
        };
        let next = next.ok_or(SyncError::Down {
            stream: self.stream,
        })?;
        let is_mark = next.message_id == Some(self.mark);
        Ok((next, is_mark))
    }
}
