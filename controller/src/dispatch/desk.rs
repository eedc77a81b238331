//! An operator's place: a connection to the broker, and the ledger of it. It must not know what is asked of it.

use anyhow::Result;
use muster_link::{OpenError, Outgoing, Receipt, Session, SetupError, stamp};
use muster_proto::envelope::{self, Message};
use muster_proto::id::{JobId, KeyId, MessageId};
use muster_proto::topology::{ALL_STREAMS, EVENTS};

use super::resolve::Known;
use crate::context::Context;
use crate::exit::{Exit, ending};
use crate::ledger::presence::is_there;
use crate::ledger::read::HostRow;
use crate::ledger::store::Store;
use crate::ledger::{self, Ledger, letters, sync};

/// A connection and the ledger behind it.
pub struct Desk<'a> {
    /// The program's config and screen.
    pub context: &'a Context,
    /// The connection.
    pub session: std::sync::Arc<Session>,
    /// The ledger.
    pub ledger: Ledger,
    /// How far back the ledger is read where there is no file yet, in milliseconds.
    pub since_ms: u64,
}

impl<'a> Desk<'a> {
    /// Connects to the broker and opens the ledger's file.
    ///
    /// # Errors
    /// When there is no broker, or it does not let us in.
    pub async fn open(context: &'a Context) -> Result<Self> {
        let broker = context.config.broker()?;
        let ledger = Ledger::open(&ledger::dir_of(&context.config.cache_dir, broker))?;
        let session = connect(context).await?;
        let desk = Self {
            context,
            session: session.into(),
            ledger,
            since_ms: sync::SINCE_MS,
        };
        desk.tell();
        Ok(desk)
    }

    /// Who asks.
    #[must_use]
    pub const fn issuer(&self) -> &KeyId {
        &self.context.config.issuer
    }

    /// Reads the ledger up to now.
    ///
    /// # Errors
    /// When the stream can't be read.
    pub async fn catch_up(&self) -> Result<()> {
        let outcome = self.read_ledger().await;
        self.tell();
        outcome.map_err(lost)
    }

    /// Reads the ledger and the presence of hosts up to now, both at once.
    ///
    /// # Errors
    /// When one of the streams can't be read.
    pub async fn catch_up_all(&self) -> Result<()> {
        let ledger = self.read_ledger();
        let presence = sync::catch_up_presence(&self.session, &self.ledger, self.issuer());
        let (ledger, presence) = tokio::join!(ledger, presence);
        self.tell();
        ledger.and(presence).map_err(lost)
    }

    async fn read_ledger(&self) -> Result<(), sync::SyncError> {
        letters::take_over(&self.session, self.issuer()).await?;
        sync::catch_up(&self.session, &self.ledger, self.issuer(), self.since_ms).await
    }

    /// Every host that was ever seen.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn hosts(&self) -> Result<Vec<HostRow>> {
        Ok(self.ledger.with(Store::hosts)?)
    }

    /// The hosts that may be targets.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn known(&self) -> Result<Vec<Known>> {
        Ok(known(self.hosts()?, stamp::now_ms()))
    }

    /// Publishes a message of the ledger, and waits for its confirm.
    ///
    /// # Errors
    /// When the broker does not confirm it.
    pub async fn publish<M: Message>(&self, message: &M, topic: &str, job: JobId) -> Result<()> {
        let outgoing = self.outgoing(message, topic, job, stamp::new_message_id())?;
        match self.session.publish(outgoing).await {
            Ok(Receipt::Confirmed) => Ok(()),
            Ok(receipt) => Err(ending(
                Exit::NoBroker,
                format!(
                    "the broker did not take the {}: {receipt:?}",
                    M::KIND.wire_name()
                ),
            )),
            Err(error) => Err(ending(
                Exit::NoBroker,
                format!("publish the {}: {error}", M::KIND.wire_name()),
            )),
        }
    }

    /// A message of the ledger, with the id that it keeps at every resend.
    ///
    /// # Errors
    /// When it is too large.
    pub fn outgoing<M: Message>(
        &self,
        message: &M,
        topic: &str,
        job: JobId,
        id: MessageId,
    ) -> Result<Outgoing> {
        Ok(Outgoing {
            exchange: EVENTS,
            routing_key: format!("{topic}.{}", self.issuer()),
            kind: M::KIND,
            message_id: id,
            correlation_id: Some(job),
            timestamp_ms: stamp::now_ms(),
            expiration_ms: None,
            mandatory: false,
            transient: false,
            reply_to: None,
            signature: None,
            body: envelope::encode(message)?.into(),
        })
    }

    /// Says goodbye to the broker.
    pub async fn close(self) {
        self.tell();
        self.session.close().await;
    }

    /// Tells the operator what happened to the ledger's file.
    fn tell(&self) {
        self.ledger
            .notices()
            .iter()
            .for_each(|line| self.context.note(line));
    }
}

/// A connection for the operator.
///
/// # Errors
/// When there is no broker, or it does not let us in.
pub async fn connect(context: &Context) -> Result<Session> {
    let broker = context.config.broker()?;
    let name = format!("muster {}", context.config.issuer);
    let session = Session::open(broker, &name).await.map_err(|error| {
        let exit = match error {
            OpenError::Credentials { .. } | OpenError::Vhost { .. } | OpenError::File { .. } => {
                Exit::Usage
            }
            _ => Exit::NoBroker,
        };
        ending(exit, error.to_string())
    })?;
    match session.find_streams(ALL_STREAMS).await {
        Ok(()) => Ok(session),
        Err(error @ (SetupError::Down { .. } | SetupError::TimedOut { .. })) => {
            Err(ending(Exit::NoBroker, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The hosts of `rows` that may be targets at `now_ms`, with what is known of them last.
#[must_use]
pub fn known(rows: Vec<HostRow>, now_ms: u64) -> Vec<Known> {
    rows.into_iter()
        .filter(|row| row.retired_ms.is_none())
        .map(|row| {
            let there = row
                .presence
                .as_ref()
                .is_some_and(|(presence, seen)| is_there(presence, *seen, now_ms));
            let (labels, facts) = match (row.presence, row.at_start) {
                (Some((presence, _)), _) => (presence.labels, presence.facts),
                (None, Some(start)) => (start.labels, start.facts),
                (None, None) => Default::default(),
            };
            Known {
                host: row.host,
                labels,
                facts,
                there,
            }
        })
        .collect()
}

fn lost(error: sync::SyncError) -> anyhow::Error {
    let gone = matches!(
        error,
        sync::SyncError::Down { .. }
            | sync::SyncError::Publish { .. }
            | sync::SyncError::Setup(SetupError::Down { .. } | SetupError::TimedOut { .. })
    );
    let error = anyhow::Error::from(error).context("catch up with the ledger");
    if gone {
        ending(Exit::NoBroker, crate::exit::message_of(&error))
    } else {
        error
    }
}
