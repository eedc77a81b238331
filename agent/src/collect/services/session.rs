//! One connection to the bus and all that is heard on it. Calls are sent without waiting, and their answers come in the
//! same stream as the signals: so everything is seen in the order in which the service manager said it, and what was
//! read never overrides a signal that came after.
//!
//! Calls are made when it begins, when units are read anew, and when a unit starts that was not loaded before. Reading a
//! unit that is not loaded loads it and lets it go again, which gives signals of its own: so a unit is only read where
//! something holds it, and never because it was loaded or let go.

mod books;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until, timeout};
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream};

use super::super::Wake;
use super::config::Config;
use super::facts::Facts;
use super::inbox::Inbox;
use super::wire::{self, Call, RULES, Signal};
use crate::systemd::{CALL_LIMIT, SYSTEM_BUS, UNIT, bus};

/// Answers waited for at a time, so that neither side's buffers fill.
const PENDING_MAX: usize = 32;

/// Messages that the library holds for us; when it is full, the bus holds them.
const QUEUE_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// After units were read anew, until we read them: packages do it several times in a row.
const RELOAD_PAUSE: Duration = Duration::from_millis(300);

/// What is known of the units; it outlives a connection, so that what was missed shows.
#[derive(Debug, Default)]
pub(super) struct Known {
    units: BTreeMap<String, Entry>,
    /// The units behind the configured names, which may be aliases.
    named: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Entry {
    facts: Facts,
    /// As it was last told.
    told: Option<Facts>,
}

/// What a session works with.
#[derive(Clone, Copy)]
pub(super) struct Desk<'a> {
    pub(super) config: &'a Config,
    pub(super) inbox: &'a Inbox,
    pub(super) wake: &'a Wake,
    pub(super) now_ms: fn() -> u64,
}

struct Session<'a> {
    desk: Desk<'a>,
    known: &'a mut Known,
    connection: Connection,
    owner: String,
    version: Option<String>,
    calls: VecDeque<Call>,
    pending: HashMap<NonZeroU32, Call>,
    /// The last answer, or the first call of those that wait.
    heard_at: Instant,
    /// Units that are being read.
    reading: BTreeSet<String>,
    /// While everything is being read: what there is.
    seen: Option<BTreeSet<String>>,
    left_out: u64,
    /// Between the beginning and the end of its reading all units anew.
    reloading: bool,
    read_at: Option<Instant>,
    wake_at: Option<Instant>,
    wake_later_at: Option<Instant>,
}

/// Connects, reads everything, and listens until the connection ends: returns why. With `once`, it ends by itself when
/// everything was read, and returns nothing.
pub(super) async fn run(desk: Desk<'_>, known: &mut Known, once: bool) -> Result<(), String> {
    let address = desk.config.bus.as_deref();
    let failed = |why: &dyn std::fmt::Display| {
        let bus = address.unwrap_or(SYSTEM_BUS);
        format!("listen to the service manager at {bus}: {why}")
    };
    let connection = timeout(CALL_LIMIT, bus(address).max_queued(QUEUE_MAX).build());
    let connection = match connection.await {
        Ok(connection) => connection.map_err(|error| failed(&error))?,
        Err(_) => return Err(failed(&"no answer in time")),
    };
    let mut stream = MessageStream::from(&connection);
    let mut session = Session::new(desk, known, connection);
    session.begin();
    session
        .listen(&mut stream, once)
        .await
        .map_err(|why| failed(&why))
}

impl<'a> Session<'a> {
    fn new(desk: Desk<'a>, known: &'a mut Known, connection: Connection) -> Self {
        Self {
            desk,
            known,
            connection,
            owner: String::new(),
            version: None,
            calls: VecDeque::new(),
            pending: HashMap::new(),
            heard_at: Instant::now(),
            reading: BTreeSet::new(),
            seen: None,
            left_out: 0,
            reloading: false,
            read_at: None,
            wake_at: None,
            wake_later_at: None,
        }
    }

    fn begin(&mut self) {
        // First the ears, then the questions: nothing falls between.
        self.calls.push_back(Call::Owner);
        self.calls.extend(RULES.map(Call::Match));
        self.subscribe();
    }

    /// Asks the service manager for signals, and for everything that there is.
    fn subscribe(&mut self) {
        self.calls.extend([Call::Subscribe, Call::Version]);
        self.read_all();
    }

    fn read_all(&mut self) {
        self.read_at = None;
        self.seen = Some(BTreeSet::new());
        self.left_out = 0;
        self.calls.push_back(Call::List);
        let names = self.desk.config.names.iter().cloned();
        self.calls.extend(names.map(Call::Load));
    }

    async fn listen(&mut self, stream: &mut MessageStream, once: bool) -> Result<(), String> {
        loop {
            self.send().await?;
            if self.is_idle() && self.seen.is_some() {
                self.whole();
                if once {
                    return Ok(());
                }
            }
            let next = self.next();
            tokio::select! {
                message = stream.next() => match message {
                    Some(Ok(message)) => self.hear(&message)?,
                    Some(Err(error)) => return Err(error.to_string()),
                    None => return Err("the connection to the bus has ended".to_owned()),
                },
                () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => self.tick()?,
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.pending.is_empty()
    }

    async fn send(&mut self) -> Result<(), String> {
        if self.pending.is_empty() {
            self.heard_at = Instant::now();
        }
        while self.pending.len() < PENDING_MAX {
            let Some(call) = self.calls.pop_front() else {
                return Ok(());
            };
            let message = call
                .message()
                .map_err(|error| format!("{call:?}: {error}"))?;
            self.pending
                .insert(message.primary_header().serial_num(), call);
            self.desk.inbox.count(|counts| counts.calls += 1);
            let sent = self.connection.send(&message).await;
            sent.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn next(&self) -> Option<Instant> {
        let answer = (!self.pending.is_empty()).then(|| self.heard_at + CALL_LIMIT);
        [answer, self.read_at, self.wake_at, self.wake_later_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn tick(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if !self.pending.is_empty() && self.heard_at + CALL_LIMIT <= now {
            return Err(format!("no answer within {} s", CALL_LIMIT.as_secs()));
        }
        for wake_at in [&mut self.wake_at, &mut self.wake_later_at] {
            if wake_at.take_if(|at| *at <= now).is_some() {
                self.desk.wake.now();
            }
        }
        if self.read_at.is_some_and(|at| at <= now) {
            if self.seen.is_some() {
                self.read_at = Some(now + RELOAD_PAUSE); // one after the other
            } else {
                self.read_all();
            }
        }
        Ok(())
    }

    fn hear(&mut self, message: &Message) -> Result<(), String> {
        match message.message_type() {
            Type::Signal => {
                self.desk.inbox.count(|counts| counts.signals += 1);
                let signal = Signal::read(message, &self.owner);
                self.signal(signal.map_err(odd)?, message)
            }
            Type::MethodReturn | Type::Error => {
                let serial = message.header().reply_serial();
                let Some(call) = serial.and_then(|serial| self.pending.remove(&serial)) else {
                    return Ok(());
                };
                self.heard_at = Instant::now();
                if message.message_type() == Type::Error {
                    self.refused(&call, message)
                } else {
                    self.answered(call, message).map_err(odd)
                }
            }
            Type::MethodCall => Ok(()),
        }
    }

    fn signal(&mut self, signal: Signal, message: &Message) -> Result<(), String> {
        match signal {
            Signal::Changed { name, last } => {
                if self.is_watched(&name) && self.has_room(&name) {
                    let entry = self.known.units.entry(name.clone()).or_default();
                    wire::take_changed(&message.body(), &mut entry.facts).map_err(odd)?;
                    if last {
                        self.tell(&name);
                    }
                }
            }
            Signal::Removed { name } => self.removed(&name),
            Signal::JobRemoved { name } => {
                let known = self.known.units.get(&name);
                if self.is_watched(&name) && !known.is_some_and(|entry| entry.facts.complete) {
                    self.read(&name);
                }
            }
            Signal::Reloading => self.reloading = true,
            Signal::Reloaded => {
                self.reloading = false;
                self.read_at = Some(Instant::now() + RELOAD_PAUSE);
            }
            Signal::Owner(Some(owner)) => {
                if self.owner != owner {
                    self.owner = owner;
                    self.reloading = false;
                    self.subscribe();
                }
            }
            // It is about to come back: when it runs itself anew, it leaves the bus for a moment.
            Signal::Owner(None) => self.owner.clear(),
            Signal::Other => {}
        }
        Ok(())
    }

    fn answered(&mut self, call: Call, message: &Message) -> zbus::Result<()> {
        let body = message.body();
        match call {
            Call::Owner => self.owner = body.deserialize::<&str>()?.to_owned(),
            Call::Version => self.version = Some(wire::text(&body)?),
            Call::List => {
                for name in wire::listed(&body)? {
                    if self.is_watched(&name) {
                        self.found(name);
                    }
                }
            }
            Call::Load(_) => {
                if let Some(name) = wire::loaded(&body)? {
                    self.known.named.insert(name.clone());
                    self.found(name);
                }
            }
            Call::Properties(name, interface) => {
                let entry = self.known.units.entry(name.clone()).or_default();
                wire::take_all(&body, &mut entry.facts)?;
                if interface == UNIT {
                    entry.facts.complete = true;
                    self.reading.remove(&name);
                    self.tell(&name);
                }
            }
            Call::ControlGroup(name, _) => {
                if let Some(entry) = self.known.units.get_mut(&name) {
                    entry.facts.control_group = wire::text(&body)?;
                    self.tell(&name);
                }
            }
            Call::Match(_) | Call::Subscribe => {}
        }
        Ok(())
    }

    /// Without the first ones there is nothing to hear; of single units it only says that they are gone.
    fn refused(&mut self, call: &Call, message: &Message) -> Result<(), String> {
        let header = message.header();
        let name = header.error_name().map_or("", |name| name.as_str());
        let body = message.body();
        let why: &str = body.deserialize().unwrap_or(name);
        match call {
            Call::Subscribe if name.ends_with(".AlreadySubscribed") => Ok(()),
            Call::Owner => Err(format!("it is not there: {why}")),
            Call::Match(_) | Call::Subscribe | Call::List => {
                Err(format!("{call:?} was refused: {why}"))
            }
            Call::Properties(unit, UNIT) => {
                self.reading.remove(unit);
                if let Some(seen) = &mut self.seen {
                    seen.remove(unit);
                }
                Ok(())
            }
            Call::Version | Call::Load(_) | Call::Properties(..) | Call::ControlGroup(..) => Ok(()),
        }
    }
}

/// An answer or a signal that does not read as what it should be: better a new connection than half a picture.
fn odd(error: zbus::Error) -> String {
    format!("an answer does not read: {error}")
}
