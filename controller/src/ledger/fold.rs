//! What a message of the ledger stream means: pure, from a message to changes of rows. It must not know where the message
//! came from or where the rows are kept.
//!
//! Messages may come twice, late, out of order among hosts, and from somebody who may not say what they say. What
//! they make of a host's state is [`super::standing`]'s.

mod answer;
pub mod dead;

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::envelope::{self, Kind};
use muster_proto::event::Event;
use muster_proto::id::{HostId, JobId, MessageId};
use muster_proto::job::{Ack, JobNote, JobOpened, JobRequest, Observation};
use muster_proto::topology::DEAD;
use serde_json::Value;

pub use self::answer::{answer_of, code_name, sighting_of};
use self::answer::{heard, result};

/// Longest answer that the file keeps, in bytes of JSON; of a longer one it keeps the size. The whole answer is on the
/// screen of whoever asked, and in the stream.
pub const DATA_BYTES_MAX: usize = 64 * 1024;

/// One message of the stream, as the broker gave it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its place in the stream.
    pub offset: u64,
    /// The AMQP `type`.
    pub kind: String,
    /// The AMQP `message_id`, by which duplicates are told.
    pub message_id: Option<MessageId>,
    /// The AMQP `correlation_id`.
    pub job: Option<JobId>,
    /// The broker user that sent it; the broker has checked it.
    pub user_id: Option<String>,
    /// When it was sent, by the sender's clock.
    pub timestamp_ms: Option<u64>,
    /// The exchange that it was published to.
    pub exchange: String,
    /// The queue that let it go and why, where it is a dead letter.
    pub death: Option<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a message changes nothing, though it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ignored {
    /// It does not decode, or names no job.
    Undecodable,
    /// Its type is one that this program does not know.
    UnknownKind,
    /// The broker user that sent it may not say this: a result in another host's name, a note from an agent.
    Impostor,
}

impl Ignored {
    /// The name under which it is counted.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnknownKind => "unknown-kind",
            Self::Impostor => "impostor",
        }
    }
}

/// A change of the ledger's rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A job and its hosts.
    Open(Box<Opening>),
    /// Something became known about a host in a job.
    Observe(Box<Sighting>),
    /// The controller's word of the job as a whole.
    Note(Note),
    /// Something became known about a host.
    Host(Box<HostWord>),
}

/// A job as it was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Opening {
    /// The signed request.
    pub request: JobRequest,
    /// The broker user that opened it.
    pub user: String,
    /// Every targeted host.
    pub hosts: Vec<HostId>,
    /// Those that were away.
    pub away: BTreeSet<HostId>,
    /// Whether hosts start `held`.
    pub rollout: bool,
    /// When the controller means to stop waiting.
    pub wait_until_ms: u64,
}

/// Something became known about a host in a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// The job.
    pub job: JobId,
    /// The host.
    pub host: HostId,
    /// What.
    pub observation: Observation,
    /// When, by the sender's clock.
    pub at_ms: u64,
    /// Code and sentence, where it is not a success.
    pub reason: Option<(String, String)>,
    /// The host's answer, where this is one.
    pub answer: Option<Answer>,
}

/// A host's answer. Times are the host's, in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What the action gave, as JSON; empty where that is nothing, or too large to keep.
    pub data: String,
    /// Its size in bytes of JSON.
    pub data_bytes: u64,
    /// When the host got the job.
    pub received_at_ms: u64,
    /// When the action was started.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub finished_at_ms: u64,
}

/// The controller's word of a job as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The job.
    pub job: JobId,
    /// When.
    pub at_ms: u64,
    /// The rule that stopped a rollout.
    pub stopped_by: Option<String>,
    /// Whether the controller is done with it.
    pub closed: bool,
}

/// Something became known about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostWord {
    /// The host.
    pub host: HostId,
    /// When.
    pub at_ms: u64,
    /// What.
    pub word: Word,
}

/// What became known about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It was given a place on the broker.
    Enrolled,
    /// Its place on the broker was taken back.
    Retired,
    /// Its agent was started.
    Started {
        /// The agent's version.
        version: String,
        /// The kernel's boot id.
        boot_id: String,
        /// The operator's labels.
        labels: BTreeMap<String, String>,
        /// What the agent found out.
        facts: BTreeMap<String, String>,
    },
    /// Its agent was stopped in good order.
    Stopped,
}

/// What `entry` changes. `is_host` tells whether a broker user is an agent's.
///
/// # Errors
/// Why it changes nothing though it should; such messages are counted and never fatal.
pub fn fold(entry: &Entry, is_host: &dyn Fn(&str) -> bool) -> Result<Vec<Change>, Ignored> {
    if entry.exchange == DEAD {
        return dead_letter(entry);
    }
    match Kind::from_wire_name(&entry.kind) {
        Some(Kind::JobOpened) => opened(entry, is_host),
        Some(Kind::JobNote) => note(entry, is_host),
        Some(Kind::Ack) => ack(entry),
        Some(Kind::Result) => result(entry),
        Some(Kind::Heard) => heard(entry, is_host),
        Some(Kind::Event) => event(entry, is_host),
        // Marks say nothing to the ledger; the rest has no business in it.
        Some(_) => Ok(Vec::new()),
        None => Err(Ignored::UnknownKind),
    }
}

fn decoded<M: envelope::Message>(entry: &Entry) -> Result<M, Ignored> {
    envelope::decode(&entry.kind, &entry.body).map_err(|_| Ignored::Undecodable)
}

/// The sender, where it is not an agent.
fn controller<'a>(entry: &'a Entry, is_host: &dyn Fn(&str) -> bool) -> Result<&'a str, Ignored> {
    entry
        .user_id
        .as_deref()
        .filter(|user| !is_host(user))
        .ok_or(Ignored::Impostor)
}

fn from_host(entry: &Entry, host: &HostId) -> Result<(), Ignored> {
    (entry.user_id.as_deref() == Some(host.as_str()))
        .then_some(())
        .ok_or(Ignored::Impostor)
}

fn opened(entry: &Entry, is_host: &dyn Fn(&str) -> bool) -> Result<Vec<Change>, Ignored> {
    let user = controller(entry, is_host)?.to_owned();
    let opened: JobOpened = decoded(entry)?;
    let request: JobRequest = envelope::decode(Kind::Job.wire_name(), &opened.envelope)
        .map_err(|_| Ignored::Undecodable)?;
    if request.id != opened.id {
        return Err(Ignored::Undecodable);
    }
    Ok(vec![Change::Open(Box::new(Opening {
        request,
        user,
        hosts: opened.hosts,
        away: opened.away.into_iter().collect(),
        rollout: opened.rollout,
        wait_until_ms: opened.wait_until_ms,
    }))])
}

fn note(entry: &Entry, is_host: &dyn Fn(&str) -> bool) -> Result<Vec<Change>, Ignored> {
    controller(entry, is_host)?;
    let note: JobNote = decoded(entry)?;
    let (job, at_ms) = (note.job, note.at_ms);
    let of = |hosts: Vec<HostId>, observation, reason: Option<(&str, &str)>| {
        let reason = reason.map(|(code, text)| (code.to_owned(), text.to_owned()));
        hosts.into_iter().map(move |host| {
            let reason = reason.clone();
            Change::Observe(Box::new(Sighting {
                job,
                host,
                observation,
                at_ms,
                reason,
                answer: None,
            }))
        })
    };
    let rule = note
        .stopped_by
        .clone()
        .unwrap_or_else(|| "the rollout ended without it".to_owned());
    let changes = of(note.released, Observation::Released, None)
        .chain(of(
            note.unroutable,
            Observation::Unroutable,
            Some(("no-queue", NO_QUEUE)),
        ))
        .chain(of(
            note.skipped,
            Observation::Skipped,
            Some(("skipped", &rule)),
        ))
        .chain(of(note.given_up, Observation::WaitOver, None))
        .chain(
            note.dead
                .into_iter()
                .map(|letter| dead::change_of(job, letter, at_ms)),
        )
        .chain([Change::Note(Note {
            job,
            at_ms,
            stopped_by: note.stopped_by,
            closed: note.closed,
        })]);
    Ok(changes.collect())
}

/// What is said of a host that the broker returned a job for.
pub const NO_QUEUE: &str =
    "the host has no queue on the broker: its agent has never connected, or was gone for too long";

fn ack(entry: &Entry) -> Result<Vec<Change>, Ignored> {
    let ack: Ack = decoded(entry)?;
    from_host(entry, &ack.host)?;
    let observation = if ack.running {
        Observation::Running
    } else {
        Observation::Acked
    };
    Ok(vec![Change::Observe(Box::new(Sighting {
        job: ack.job,
        host: ack.host,
        observation,
        at_ms: ack.at_ms,
        reason: None,
        answer: None,
    }))])
}

fn dead_letter(entry: &Entry) -> Result<Vec<Change>, Ignored> {
    if entry.kind == Kind::Result.wire_name() && entry.death.is_some() {
        // Worth as much as any other answer: only its controller is gone.
        return result(entry);
    }
    let letter = dead::letter_of(entry)?;
    let at_ms = entry.timestamp_ms.unwrap_or(0);
    Ok(letter
        .map(|(job, letter)| dead::change_of(job, letter, at_ms))
        .into_iter()
        .collect())
}

fn event(entry: &Entry, is_host: &dyn Fn(&str) -> bool) -> Result<Vec<Change>, Ignored> {
    let event: Event = decoded(entry)?;
    let word = match event.topic.as_str() {
        "host.enrolled" | "host.retired" => {
            let user = controller(entry, is_host)?;
            if user == event.host.as_str() {
                return Err(Ignored::Impostor);
            }
            if event.topic == "host.enrolled" {
                Word::Enrolled
            } else {
                Word::Retired
            }
        }
        "host.started" | "host.stopped" => {
            from_host(entry, &event.host)?;
            if event.topic == "host.stopped" {
                Word::Stopped
            } else {
                started(&event.fields)
            }
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![Change::Host(Box::new(HostWord {
        host: event.host,
        at_ms: event.at_ms,
        word,
    }))])
}

fn started(fields: &BTreeMap<String, Value>) -> Word {
    let text = |name: &str| {
        fields
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let texts = |name: &str| -> BTreeMap<String, String> {
        let map = fields.get(name).and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    Word::Started {
        version: text("version"),
        boot_id: text("boot_id"),
        labels: texts("labels"),
        facts: texts("facts"),
    }
}

#[cfg(test)]
mod tests;
