//! Another AMQP client on the fleet's broker: it sees and sends what it likes, signed or not.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use muster_harness::{Agent, Broker, Fleet};
use muster_link::stamp;
use muster_proto::envelope::{self, Kind, Message};
use muster_proto::id::{JobId, KeyId};
use muster_proto::job::{Args, JobRequest, JobResult};
use muster_proto::signing::JobSigner;
use serde_json::Value;

/// How long to wait for a message that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// An administrator's channel with publisher confirms.
pub(crate) struct Wire {
    pub(crate) channel: Channel,
    _connection: Connection,
}

/// A frame as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: String,
    pub(crate) key: Option<String>,
    pub(crate) signature: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// The operator's own key.
pub(crate) struct Signer {
    pub(crate) id: KeyId,
    pub(crate) key: JobSigner,
}

impl Wire {
    pub(crate) async fn open(broker: &Broker) -> Result<Self> {
        let (connection, channel) = broker.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            channel,
            _connection: connection,
        })
    }

    /// Everything that comes to an exchange from now on.
    pub(crate) async fn listen(&self, exchange: &str) -> Result<Tap> {
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self
            .channel
            .queue_declare("".into(), exclusive, FieldTable::default())
            .await?;
        let name = queue.name().as_str();
        self.channel
            .queue_bind(
                name.into(),
                exchange.into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let no_ack = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = self
            .channel
            .basic_consume(name.into(), "".into(), no_ack, FieldTable::default())
            .await?;
        Ok(Tap {
            consumer,
            seen: Vec::new(),
        })
    }

    /// Publishes exactly these properties and bytes as a job for one host, and waits for the confirm.
    pub(crate) async fn send_as_it_was(
        &self,
        agent: &Agent,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<()> {
        let key = format!("host.{}", agent.host);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let confirm = self.channel.basic_publish(
            "muster.jobs".into(),
            key.as_str().into(),
            options,
            body,
            properties,
        );
        match confirm.await?.await? {
            lapin::Confirmation::Ack(None) => Ok(()),
            other => bail!(
                "the broker did not take a frame for {}: {other:?}",
                agent.host
            ),
        }
    }

    pub(crate) async fn send(&self, agent: &Agent, frame: &Frame) -> Result<()> {
        let mut headers = FieldTable::default();
        for (name, value) in [
            (envelope::HEADER_KEY, &frame.key),
            (envelope::HEADER_SIGNATURE, &frame.signature),
        ] {
            if let Some(value) = value {
                headers.insert(name.into(), AMQPValue::LongString(value.as_str().into()));
            }
        }
        let properties = BasicProperties::default()
            .with_type(frame.kind.as_str().into())
            .with_message_id(stamp::new_message_id().to_string().into())
            .with_delivery_mode(2)
            .with_headers(headers);
        self.send_as_it_was(agent, properties, &frame.body).await
    }
}

impl Signer {
    /// The key that the fleet's operator signs with.
    pub(crate) fn of(broker: &Broker, fleet: &Fleet) -> Result<Self> {
        let id = format!("ops-{}", broker.tag());
        let keys = fleet.muster.home().join(".config/muster/keys");
        let file = keys.join(format!("{id}.pem"));
        let pem =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        Ok(Self {
            id: id.parse()?,
            key: JobSigner::from_pem(&pem)?,
        })
    }

    /// A job for everybody that is all right.
    pub(crate) fn request(&self, action: &str, args: &[(&str, Value)]) -> JobRequest {
        let now_ms = stamp::now_ms();
        let args: Args = args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        JobRequest {
            id: stamp::new_job_id(),
            issuer: self.id.clone(),
            key_id: self.id.clone(),
            target: "*".to_owned(),
            action: action.to_owned(),
            args,
            issued_at_ms: now_ms,
            deliver_by_ms: now_ms + 3_600_000,
            run_limit_ms: 30_000,
            dry_run: false,
            cause: None,
        }
    }

    /// The frame of a job, signed as it should be.
    pub(crate) fn frame(&self, request: &JobRequest) -> Result<Frame> {
        Ok(self.sign(envelope::encode(request)?))
    }

    /// A frame of any body with a good signature.
    pub(crate) fn sign(&self, body: Vec<u8>) -> Frame {
        Frame {
            kind: Kind::Job.wire_name().to_owned(),
            key: Some(self.id.to_string()),
            signature: Some(self.key.sign(&body).to_string()),
            body,
        }
    }
}

/// Everything that came to an exchange.
pub(crate) struct Tap {
    consumer: Consumer,
    pub(crate) seen: Vec<Seen>,
}

/// A message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) routing_key: String,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
}

impl Tap {
    /// Waits until something has come that is `wanted`, and gives the first such.
    pub(crate) async fn find(
        &mut self,
        what: &str,
        wanted: impl Fn(&Seen) -> bool,
    ) -> Result<Seen> {
        if let Some(found) = self.seen.iter().find(|delivery| wanted(delivery)) {
            return Ok(found.clone());
        }
        let find = async {
            loop {
                let next = self.consumer.next().await;
                let delivery = next.context("the consumer has ended")??;
                let delivery = Seen {
                    routing_key: delivery.routing_key.to_string(),
                    properties: delivery.properties,
                    body: delivery.data,
                };
                self.seen.push(delivery.clone());
                if wanted(&delivery) {
                    return Ok(delivery);
                }
            }
        };
        tokio::time::timeout(PATIENCE, find)
            .await
            .with_context(|| format!("wait for {what}"))?
    }

    /// Waits for a host's result of a job.
    pub(crate) async fn result(&mut self, agent: &Agent, job: JobId) -> Result<JobResult> {
        let of = |delivery: &Seen| {
            decoded::<JobResult>(delivery)
                .filter(|result| result.job == job && result.host.as_str() == agent.host)
        };
        let what = format!("the result of {job} on {}", agent.host);
        let found = self.find(&what, |delivery| of(delivery).is_some()).await?;
        of(&found).context(what)
    }

    /// The results of a job that have come.
    pub(crate) fn results(&self, job: &str) -> Vec<JobResult> {
        let all = self.seen.iter().filter_map(decoded::<JobResult>);
        all.filter(|result| result.job.to_string() == job).collect()
    }
}

impl Seen {
    pub(crate) fn kind(&self) -> &str {
        let kind = self.properties.kind().as_ref();
        kind.map_or("", |kind| kind.as_str())
    }

    /// The job that it belongs to, as its properties say.
    pub(crate) fn job(&self) -> &str {
        let job = self.properties.correlation_id().as_ref();
        job.map_or("", |job| job.as_str())
    }
}

/// The message in a delivery, if it is of that kind.
pub(crate) fn decoded<M: Message>(delivery: &Seen) -> Option<M> {
    envelope::decode(delivery.kind(), &delivery.body).ok()
}
