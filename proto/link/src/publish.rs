//! Publishing with confirms: the one task that sends on a session's publish channels and hands out the receipts.
//!
//! One task, because a message that comes back is hard to attribute. The client library gives it to whichever publish
//! is confirmed next, and within one `ack multiple` that may be any. So all confirms are looked at in one place, and
//! messages that came back are told apart by their ids, after all that the broker said before has been seen.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Connection, Event};
use muster_proto::id::MessageId;
use muster_proto::topology::StreamSet;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::channels::{self, Lanes, Opening};
use crate::error::{PublishError, describe};
use crate::life::Shared;
use crate::message::{Outgoing, Receipt, message_id};

/// Most messages without a confirm at a time: the broker is as fast as it gets with 200.
const UNCONFIRMED_MAX: usize = 1000;

/// Most bytes of bodies without a confirm at a time (but always one message): they are held in memory twice.
const UNCONFIRMED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Messages that wait for their turn; more make their senders wait.
pub(crate) const QUEUE_LENGTH: usize = 64;

/// What is to be done when a message has been handed to the connection.
pub type Handed = Box<dyn FnOnce() + Send>;

/// A message, and where its receipt goes.
pub(crate) struct Request {
    pub(crate) outgoing: Outgoing,
    pub(crate) handed: Option<Handed>,
    pub(crate) reply: oneshot::Sender<Result<Receipt, PublishError>>,
}

type Flight = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)> + Send>>;

/// The task's state.
pub(crate) struct Publisher {
    connection: Arc<Connection>,
    lanes: Lanes,
    opening: Option<Opening>,
    /// The next message, which waits for its channel or for its turn, and since when.
    held: Option<(Request, Instant)>,
    shared: Arc<Shared>,
    user: ShortString,
    limit: Duration,
    flights: FuturesUnordered<Flight>,
    /// By number, in the order in which they were sent.
    unconfirmed: BTreeMap<u64, Unconfirmed>,
    unconfirmed_bytes: usize,
    /// When each is overdue, the soonest first; those confirmed meanwhile are still in it.
    overdue: VecDeque<(Instant, u64)>,
    /// Why messages came back whose confirm has not been seen yet.
    returned: HashMap<MessageId, Vec<String>>,
    next: u64,
}

struct Unconfirmed {
    message_id: MessageId,
    mandatory: bool,
    bytes: usize,
    /// Where it goes, when its order counts.
    in_order: Option<StreamSet>,
    /// Nobody waits any more when the connection was blocked past the limit.
    reply: Option<oneshot::Sender<Result<Receipt, PublishError>>>,
}

impl Publisher {
    pub(crate) fn new(
        connection: Arc<Connection>,
        channel: Channel,
        shared: Arc<Shared>,
        user: ShortString,
        limit: Duration,
    ) -> Self {
        Self {
            connection,
            lanes: Lanes::new(channel),
            opening: None,
            held: None,
            shared,
            user,
            limit,
            flights: FuturesUnordered::new(),
            unconfirmed: BTreeMap::new(),
            unconfirmed_bytes: 0,
            overdue: VecDeque::new(),
            returned: HashMap::new(),
            next: 0,
        }
    }

    /// Works until the session ends, and ends it when the connection fails or a confirm does not come.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut events: impl Stream<Item = Event> + Unpin,
        heartbeat: Duration,
    ) {
        let why = self.work(&mut requests, &mut events, heartbeat).await;
        self.shared.end(why);
        let why = self.shared.over().await.why;
        requests.close();
        let held = self.held.take().map(|(request, _)| request);
        for request in held
            .into_iter()
            .chain(std::iter::from_fn(|| requests.try_recv().ok()))
        {
            let _ = request
                .reply
                .send(Err(PublishError::Down { why: why.clone() }));
        }
        for reply in std::mem::take(&mut self.unconfirmed)
            .into_values()
            .filter_map(|one| one.reply)
        {
            let _ = reply.send(Err(PublishError::Down { why: why.clone() }));
        }
    }

    /// Returns why the session is to end, unless that is told already.
    async fn work(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        events: &mut (impl Stream<Item = Event> + Unpin),
        heartbeat: Duration,
    ) -> String {
        let mut ended = self.shared.ended.subscribe();
        // Some ends of a connection are silent: a close with a code that the library does not know.
        let mut alive = interval(heartbeat);
        let mut patience =
            interval((self.limit / 8).clamp(Duration::from_millis(20), Duration::from_millis(500)));
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        patience.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // While nothing can be sent, nobody is kept waiting for room.
            let room = self.held.is_none()
                && (self.shared.blocked.borrow().is_some()
                    || self.flights.is_empty()
                    || (self.flights.len() < UNCONFIRMED_MAX
                        && self.unconfirmed_bytes < UNCONFIRMED_BYTES_MAX));
            tokio::select! {
                biased;
                _ = async { ended.wait_for(Option::is_some).await.is_ok() } => return String::new(),
                event = events.next() => match event {
                    Some(Event::Error(error)) => {
                        self.shared.fail(&error).await;
                        return String::new();
                    }
                    Some(event) => self.happened(event),
                    None => return "the connection is gone".to_owned(),
                },
                Some(first) = self.flights.next(), if !self.flights.is_empty() => {
                    if let Some(why) = self.land(first) { return why }
                    self.offer_held();
                }
                opened = OptionFuture::from(self.opening.as_mut()), if self.opening.is_some() => {
                    self.opening = None;
                    match opened {
                        Some(Ok(channel)) => self.lanes.add(channel),
                        Some(Err(error)) => return describe(&error),
                        None => {}
                    }
                    self.offer_held();
                }
                request = requests.recv(), if room => match request {
                    Some(request) => self.offer(request, Instant::now()),
                    None => return "the session was dropped".to_owned(),
                },
                _ = patience.tick(), if !self.overdue.is_empty() || self.held.is_some() => {
                    if let Some(why) = self.give_up() { return why }
                }
                _ = alive.tick() => if !self.connection.status().connected() {
                    return "the connection is gone".to_owned();
                },
            }
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::ConnectionBlocked(why) => {
                self.shared.blocked.send_replace(Some(why));
                self.offer_held();
            }
            Event::ConnectionUnblocked => {
                self.shared.blocked.send_replace(None);
                // The wait was the broker's: everybody gets the full limit again.
                let limit = Instant::now() + self.limit;
                self.overdue = self
                    .unconfirmed
                    .keys()
                    .map(|number| (limit, *number))
                    .collect();
            }
            _ => {}
        }
    }

    fn offer_held(&mut self) {
        if let Some((request, since)) = self.held.take() {
            self.offer(request, since);
        }
    }

    /// Sends a message, or holds it: until its channel is open, or until what has to come before it is confirmed.
    fn offer(&mut self, request: Request, since: Instant) {
        if let Some(why) = self.shared.blocked.borrow().clone() {
            let _ = request.reply.send(Err(PublishError::Blocked { why }));
            return;
        }
        let outgoing = &request.outgoing;
        let streams = StreamSet::that_keep(outgoing.exchange, &outgoing.routing_key);
        let open = self.lanes.has(streams);
        if !open && self.opening.is_none() {
            self.opening = Some(channels::open(&self.connection));
        }
        if !open || (request.handed.is_some() && self.lanes.overtakes(streams)) {
            self.held = Some((request, since));
            return;
        }
        if let Some(channel) = self.lanes.channel(streams).cloned() {
            self.send(request, streams, channel);
        }
    }

    fn send(&mut self, request: Request, streams: StreamSet, channel: Channel) {
        let Request {
            outgoing,
            handed,
            reply,
        } = request;
        let routing_key = match ShortString::try_new(outgoing.routing_key.as_str()) {
            Ok(key) => key,
            Err(error) => {
                let why = format!("its routing key is no good: {error}");
                let _ = reply.send(Err(PublishError::Invalid { why }));
                return;
            }
        };
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let unconfirmed = Unconfirmed {
            message_id: outgoing.message_id,
            mandatory: outgoing.mandatory,
            bytes: outgoing.body.len(),
            in_order: handed.is_some().then_some(streams),
            reply: Some(reply),
        };
        if handed.is_some() {
            self.lanes.count(streams, true);
        }
        self.unconfirmed_bytes = self.unconfirmed_bytes.saturating_add(unconfirmed.bytes);
        self.unconfirmed.insert(number, unconfirmed);
        self.overdue
            .push_back((Instant::now() + self.limit, number));
        let properties = outgoing.properties(&self.user);
        let mut flight: Flight = Box::pin(async move {
            let options = BasicPublishOptions {
                mandatory: outgoing.mandatory,
                immediate: false,
            };
            let sent = channel
                .basic_publish(
                    outgoing.exchange.into(),
                    routing_key,
                    options,
                    &outgoing.body,
                    properties,
                )
                .await;
            let confirmed = match sent {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            (number, confirmed)
        });
        // Polled once, the library's future has put the frames into the queue of the connection.
        match (&mut flight).now_or_never() {
            Some(landed) => self.flights.push(Box::pin(std::future::ready(landed))),
            None => self.flights.push(flight),
        }
        if let Some(handed) = handed {
            handed();
        }
    }

    /// Takes everything that is confirmed now, and gives out the receipts. Returns why the session is to end, if it is.
    fn land(&mut self, first: (u64, lapin::Result<Confirmation>)) -> Option<String> {
        let mut landed = vec![first];
        loop {
            let before = landed.len();
            self.collect(&mut landed);
            let mandatory = landed.iter().any(|(number, _)| {
                self.unconfirmed
                    .get(number)
                    .is_some_and(|one| one.mandatory)
            });
            if mandatory {
                self.wait_for_the_reader();
                self.collect(&mut landed);
            }
            if landed.len() == before || !mandatory {
                break;
            }
        }
        let mut outcomes = Vec::with_capacity(landed.len());
        for (number, result) in landed {
            let (confirmed, returned) = match result {
                Ok(Confirmation::Ack(returned)) => (true, returned),
                Ok(Confirmation::Nack(returned)) => (false, returned),
                // Can't be: the channel is in confirm mode.
                Ok(Confirmation::NotRequested) => (false, None),
                Err(error) => return Some(describe(&error)),
            };
            if let Some(returned) = returned
                && let Some(id) = message_id(&returned.delivery.properties)
            {
                self.returned
                    .entry(id)
                    .or_default()
                    .push(returned.reply_text.to_string());
            }
            outcomes.push((number, confirmed));
        }
        for (number, confirmed) in outcomes {
            self.give_out(number, confirmed);
        }
        None
    }

    fn collect(&mut self, landed: &mut Vec<(u64, lapin::Result<Confirmation>)>) {
        while let Some(Some(next)) = self.flights.next().now_or_never() {
            landed.push(next);
        }
    }

    /// Returns when the library's reader is through with the frame that it is at, by taking the lock that it holds
    /// meanwhile. One frame may confirm many messages, one after the other; a message that came back may hang on any of
    /// them. RabbitMQ sends the confirms of unroutable messages in their order, each after the message itself, so that
    /// after this everything about a confirmed message has been said.
    fn wait_for_the_reader(&self) {
        for channel in self.lanes.channels() {
            let _ = channel.wait_for_confirms().now_or_never();
        }
    }

    fn give_out(&mut self, number: u64, confirmed: bool) {
        let Some(one) = self.unconfirmed.remove(&number) else {
            return;
        };
        self.unconfirmed_bytes = self.unconfirmed_bytes.saturating_sub(one.bytes);
        if let Some(streams) = one.in_order {
            self.lanes.count(streams, false);
        }
        let returned = if one.mandatory {
            self.take_returned(one.message_id)
        } else {
            None
        };
        let receipt = match (confirmed, returned) {
            (true, None) => Receipt::Confirmed,
            (true, Some(reason)) => Receipt::Returned { reason },
            (false, _) => Receipt::Refused,
        };
        if let Some(reply) = one.reply {
            let _ = reply.send(Ok(receipt));
        }
        while self
            .overdue
            .front()
            .is_some_and(|(_, number)| !self.unconfirmed.contains_key(number))
        {
            self.overdue.pop_front();
        }
    }

    fn take_returned(&mut self, id: MessageId) -> Option<String> {
        let reasons = self.returned.get_mut(&id)?;
        let reason = reasons.pop();
        if reasons.is_empty() {
            self.returned.remove(&id);
        }
        reason
    }

    /// Tells those whose time is up. Returns why the session is to end, if it is: when nothing blocks the connection.
    fn give_up(&mut self) -> Option<String> {
        let now = Instant::now();
        let blocked = self.shared.blocked.borrow().clone();
        // What others wait for is overdue itself; a channel that does not open is not.
        let waits = self.held.as_ref().filter(|_| self.opening.is_some());
        if waits.is_some_and(|(_, since)| now.saturating_duration_since(*since) > self.limit) {
            return Some(format!(
                "no channel from the broker within {:?}",
                self.limit
            ));
        }
        while let Some((limit, number)) = self.overdue.front().copied() {
            if limit > now {
                return None;
            }
            self.overdue.pop_front();
            let Some(one) = self.unconfirmed.get_mut(&number) else {
                continue;
            };
            let error = match &blocked {
                Some(why) => PublishError::Blocked { why: why.clone() },
                None => PublishError::TimedOut { limit: self.limit },
            };
            if let Some(reply) = one.reply.take() {
                let _ = reply.send(Err(error));
            }
            if blocked.is_none() {
                return Some(format!(
                    "no confirm from the broker within {:?}",
                    self.limit
                ));
            }
        }
        None
    }
}
