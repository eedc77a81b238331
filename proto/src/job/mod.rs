//! A job's messages: the signed request, its opening, and what hosts answer. Times are milliseconds since 1970.

mod account;
mod state;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::Value;

pub use self::account::{Account, HostRecord, Tally};
pub use self::state::{HostState, Observation, transition};
use crate::envelope::{Kind, Message};
use crate::id::{HostId, JobId, KeyId, MessageId};

/// Longest time between a job's `issued_at_ms` and `deliver_by_ms`: seven days. Agents remember the ids of jobs
/// for longer than this, so that none can be replayed.
pub const DELIVER_WINDOW_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// Longest `run_limit_ms` of an action that only reads: ten minutes. Such a job's delivery stays unacknowledged while
/// it runs, and the broker allows that for thirty.
pub const READ_RUN_LIMIT_MS_MAX: u64 = 10 * 60 * 1000;

/// Longest `run_limit_ms` of any job: one day.
pub const RUN_LIMIT_MS_MAX: u64 = 24 * 3600 * 1000;

/// A job's arguments by name.
pub type Args = BTreeMap<String, Value>;

/// What a controller asks hosts to do (`muster.job/1`). Its exact bytes are signed; the signature travels in headers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobRequest {
    /// The job.
    pub id: JobId,
    /// Who asks: the operator's or program's name, for people to read.
    pub issuer: KeyId,
    /// The key that signs it. Must equal the header, so that a signature can't be passed off as another key's.
    pub key_id: KeyId,
    /// The target expression. An agent carries the job out only if its own labels match.
    pub target: String,
    /// The action's name, e.g. `service.restart`.
    pub action: String,
    /// The action's arguments.
    #[serde(default)]
    pub args: Args,
    /// When it was made.
    pub issued_at_ms: u64,
    /// A host that gets it later must not start it.
    pub deliver_by_ms: u64,
    /// How long it may run on a host; the agent ends it then.
    pub run_limit_ms: u64,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// The message that made somebody issue this job: an event, another job's result.
    #[serde(default)]
    pub cause: Option<MessageId>,
}

/// A job and all the hosts it is meant for (`muster.job-opened/1`), in the ledger before any host hears of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobOpened {
    /// The job.
    pub id: JobId,
    /// The signed request's exact bytes.
    #[serde(with = "serde_bytes")]
    #[schemars(with = "String")]
    pub envelope: Vec<u8>,
    /// Its signature, 128 hexadecimal digits.
    pub signature: String,
    /// Every host that is targeted.
    pub hosts: Vec<HostId>,
    /// Those of them that were away when the job was opened; nobody waits for them unless asked to.
    #[serde(default)]
    pub away: Vec<HostId>,
    /// Whether hosts start `held` and are released in batches.
    #[serde(default)]
    pub rollout: bool,
    /// When the controller means to stop waiting: hosts that are open then are `unknown`.
    pub wait_until_ms: u64,
}

/// What the controller did with some of a job's hosts (`muster.job-note/1`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobNote {
    /// The job.
    pub job: JobId,
    /// When.
    pub at_ms: u64,
    /// Hosts whose turn in a rollout came.
    #[serde(default)]
    pub released: Vec<HostId>,
    /// Hosts that have no queue on the broker.
    #[serde(default)]
    pub unroutable: Vec<HostId>,
    /// Hosts that a stopped rollout left out.
    #[serde(default)]
    pub skipped: Vec<HostId>,
    /// Hosts that the controller no longer waits for.
    #[serde(default)]
    pub given_up: Vec<HostId>,
    /// Copies of the job that the broker let go, taken over from the dead letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead: Vec<DeadLetter>,
    /// Why a rollout stopped.
    #[serde(default)]
    pub stopped_by: Option<String>,
    /// Whether the controller is done with the job.
    #[serde(default)]
    pub closed: bool,
}

/// A host's copy of a job that the broker let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// The host whose queue it was in.
    pub host: HostId,
    /// Why, in the broker's word: `expired`, `maxlen`, `rejected`.
    pub reason: String,
}

/// Answers that came straight to a controller (`muster.heard/1`): small ones, to jobs that only read. The ledger has them
/// from its word, so that a fleet's answers are one message there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heard {
    /// Results' exact bytes, of any jobs. The broker had checked for the controller whose they were.
    #[schemars(with = "Vec<String>")]
    pub answers: Vec<ByteBuf>,
}

/// An agent has a job that isn't done yet (`muster.ack/1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ack {
    /// The job.
    pub job: JobId,
    /// The host.
    pub host: HostId,
    /// When.
    pub at_ms: u64,
    /// Whether it runs already, or waits for a free place.
    #[serde(default)]
    pub running: bool,
}

/// How a job ended on one host (`muster.result/1`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobResult {
    /// The job.
    pub job: JobId,
    /// The host.
    pub host: HostId,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not succeed.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// What the action gives; its shape is the action's.
    #[serde(default)]
    pub data: Value,
    /// When the host got the job.
    pub received_at_ms: u64,
    /// When the action was started; `None` where it was not.
    #[serde(default)]
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub finished_at_ms: u64,
    /// Whether it was a dry run.
    #[serde(default)]
    pub dry_run: bool,
}

/// A piece of a running job's output (`muster.output/1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The job.
    pub job: JobId,
    /// The host.
    pub host: HostId,
    /// Number of the piece, from 0; a gap is a piece that was lost.
    pub seq: u64,
    /// Where it was written.
    pub stream: OutputStream,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    #[schemars(with = "String")]
    pub bytes: Vec<u8>,
    /// Bytes that were left out before this piece because the budget was used up.
    #[serde(default)]
    pub dropped_bytes: u64,
}

/// Which of a process's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a job ended on a host, in the agent's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The action did what was asked.
    Succeeded,
    /// The action was carried out and failed.
    Failed,
    /// The agent refused to carry it out.
    Rejected,
    /// It came after its `deliver_by`.
    DeliveryExpired,
    /// It ran into its `run_limit` and was ended.
    ExecutionExpired,
    /// It was cancelled.
    Cancelled,
    /// The agent died while it ran; whether it had its effect is not known.
    Interrupted,
}

/// Why a job did not succeed: a code for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// The code.
    pub code: ReasonCode,
    /// What was tried, on what, and what to do.
    pub message: String,
}

impl Reason {
    /// A reason of `code` in `message`'s words.
    pub fn new(code: ReasonCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Reason codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonCode {
    /// The signature is missing, malformed or not of the named key over this body.
    BadSignature,
    /// The agent's config does not hold the key.
    UnknownKey,
    /// The key is not valid yet, or no longer.
    KeyNotValid,
    /// The job's times contradict each other or are over their bounds.
    BadTimes,
    /// The job came after its `deliver_by`.
    Expired,
    /// The host's labels don't match the target, or the target does not parse.
    NotTargeted,
    /// No policy lets this key run this action with these arguments.
    PolicyDenied,
    /// The agent has no such action.
    UnknownAction,
    /// An argument is missing, unknown or ill-typed.
    BadArgument,
    /// The action can't say what it would do.
    NoDryRun,
    /// It would do harm, such as leave a virtual server without a real server, and was not told to do it all the same.
    Unsafe,
    /// The agent has as many jobs as it may hold.
    Busy,
    /// The agent can't record the job: its state file is full or not writable.
    NotRecorded,
    /// The action was carried out and failed.
    ActionFailed,
    /// The process ended with another exit status than zero.
    ExitStatus,
    /// The process was ended by a signal.
    Signal,
    /// The run limit was reached.
    RunLimit,
    /// Somebody cancelled it.
    CancelRequested,
    /// The agent died while it ran.
    AgentDied,
    /// The agent was stopped before it ran or while it ran.
    AgentStopped,
    /// A code of a newer version.
    #[serde(other)]
    Other,
}

/// A reader's mark in a stream (`muster.mark/1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// Who reads.
    pub reader: String,
}

/// An agent's message to itself through its own queue (`muster.probe/1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// The agent.
    pub host: HostId,
    /// When it was sent.
    pub at_ms: u64,
}

macro_rules! message {
    ($($type:ident = $kind:ident),+ $(,)?) => {
        $(impl Message for $type {
            const KIND: Kind = Kind::$kind;
        })+
    };
}

message! {
    JobRequest = Job,
    JobOpened = JobOpened,
    JobNote = JobNote,
    Ack = Ack,
    JobResult = Result,
    Output = Output,
    Mark = Mark,
    Probe = Probe,
    Heard = Heard,
}
