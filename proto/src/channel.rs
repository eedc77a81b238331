//! Where each kind of message goes, as one table: exchange, routing key, who sends it. Documentation for those who read
//! along, on the screen (`muster schema`) and as AsyncAPI, is made from it.

use crate::envelope::Kind;
use crate::topology::{
    ANSWERS, DEAD, EVENTS, HEARD, HISTORY, JOBS, JSON, LEDGER, METRICS, PRESENCE, REPLIES,
};

/// A kind of message, in a few words.
#[derive(Debug)]
pub struct MessageSpec {
    /// The kind.
    pub kind: Kind,
    /// What it says.
    pub summary: &'static str,
    /// Who sends it.
    pub sender: &'static str,
}

const fn message(kind: Kind, sender: &'static str, summary: &'static str) -> MessageSpec {
    MessageSpec {
        kind,
        summary,
        sender,
    }
}

/// Every kind of message, those first that subscribers want.
pub static MESSAGES: &[MessageSpec] = &[
    message(Kind::Event, "agents, controllers", "something happened"),
    message(
        Kind::Metrics,
        "agents",
        "a collector's snapshot; the newest wins",
    ),
    message(Kind::Presence, "agents", "an agent is there"),
    message(
        Kind::JobOpened,
        "controllers",
        "a job and all hosts it is meant for, before any hears of it",
    ),
    message(
        Kind::JobNote,
        "controllers",
        "what became of a job's hosts at the controller",
    ),
    message(Kind::Job, "controllers", "a signed job"),
    message(Kind::Ack, "agents", "a job was taken and is not done yet"),
    message(Kind::Result, "agents", "how a job ended on one host"),
    message(Kind::Output, "agents", "a piece of a running job's output"),
    message(
        Kind::Heard,
        "controllers",
        "answers that came straight to a controller, for the ledger",
    ),
    message(
        Kind::Mark,
        "controllers",
        "a reader's own mark in a stream; of no use to others",
    ),
    message(
        Kind::Probe,
        "agents",
        "an agent's message to itself; of no use to others",
    ),
];

/// A part of a channel's address that differs from message to message.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in the address, between braces.
    pub name: &'static str,
    /// What stands there.
    pub summary: &'static str,
}

const HOST: Parameter = Parameter {
    name: "host",
    summary: "the host; it is the last part of the key, and its name may have dots",
};
const JOB: Parameter = Parameter {
    name: "job",
    summary: "the job's id, a UUID",
};
const TOPIC: Parameter = Parameter {
    name: "topic",
    summary: "what has happened, in dotted words; rules of a host's own config add topics of their own",
};
const COLLECTOR: Parameter = Parameter {
    name: "collector",
    summary: "the collector",
};
const ISSUER: Parameter = Parameter {
    name: "issuer",
    summary: "who asked",
};
const KEY: Parameter = Parameter {
    name: "key",
    summary: "the routing key that it came with",
};

/// Messages with keys of one form, on one exchange; or a stream.
#[derive(Debug)]
pub struct Channel {
    /// Its name in the document.
    pub name: &'static str,
    /// The topic exchange, or the stream.
    pub place: Place,
    /// The kinds of message that come by.
    pub kinds: &'static [Kind],
    /// What it is.
    pub summary: &'static str,
}

/// Where a channel is on the broker.
#[derive(Debug)]
pub enum Place {
    /// Messages with such a routing key on a topic exchange.
    Exchange {
        /// The exchange.
        name: &'static str,
        /// The form of the key, parameters between braces.
        key: &'static str,
        /// The parameters of the key.
        parameters: &'static [Parameter],
    },
    /// A stream, which is consumed from any offset.
    Stream(&'static str),
}

const fn on(
    name: &'static str,
    exchange: &'static str,
    key: &'static str,
    parameters: &'static [Parameter],
    kinds: &'static [Kind],
    summary: &'static str,
) -> Channel {
    Channel {
        name,
        place: Place::Exchange {
            name: exchange,
            key,
            parameters,
        },
        kinds,
        summary,
    }
}

const fn stream(name: &'static str, kinds: &'static [Kind], summary: &'static str) -> Channel {
    Channel {
        name,
        place: Place::Stream(name),
        kinds,
        summary,
    }
}

/// Every channel, those first that subscribers want.
#[rustfmt::skip] // one row, two lines
pub static CHANNELS: &[Channel] = &[
    on("events", EVENTS, "{topic}.{host}", &[TOPIC, HOST], &[Kind::Event],
        "Events of agents and controllers. At least once, in order for each host and sender; kept in muster.history."),
    on("metrics", METRICS, "{collector}.{host}", &[COLLECTOR, HOST], &[Kind::Metrics],
        "Snapshots of collectors. Any may be lost: the newest wins."),
    on("presence", METRICS, "presence.{host}", &[HOST], &[Kind::Presence],
        "Signs of life of agents. Any may be lost: the newest wins."),
    on("json.events", JSON, "{topic}.{host}", &[TOPIC, HOST], &[Kind::Event],
        "Events as JSON, where `muster serve` is told to repeat them. At least once, with the id of the first."),
    on("json.metrics", JSON, "{collector}.{host}", &[COLLECTOR, HOST], &[Kind::Metrics],
        "Snapshots as JSON, where `muster serve` is told to repeat them. Any may be lost: the newest wins."),
    on("json.presence", JSON, "presence.{host}", &[HOST], &[Kind::Presence],
        "Signs of life as JSON, where `muster serve` is told to repeat them. Any may be lost: the newest wins."),
    stream(HISTORY, &[Kind::Event, Kind::JobOpened, Kind::JobNote, Kind::Mark],
        "Everything that was on muster.events, for as long as the policy keeps it: consumed from any offset."),
    on("job.opened", EVENTS, "job.opened.{issuer}", &[ISSUER], &[Kind::JobOpened],
        "Jobs and the hosts they are meant for."),
    on("job.note", EVENTS, "job.note.{issuer}", &[ISSUER], &[Kind::JobNote],
        "What became of a job's hosts at the controller."),
    on("job.mark", EVENTS, "job.mark.{issuer}", &[ISSUER], &[Kind::Mark],
        "Marks of readers of the streams."),
    on("jobs.all", JOBS, "all", &[], &[Kind::Job],
        "Signed jobs for every host."),
    on("jobs.host", JOBS, "host.{host}", &[HOST], &[Kind::Job, Kind::Probe],
        "Signed jobs for one host."),
    on("acks", REPLIES, "ack.{job}.{host}", &[JOB, HOST], &[Kind::Ack],
        "Jobs that were taken and are not done yet."),
    on("results", REPLIES, "result.{job}.{host}", &[JOB, HOST], &[Kind::Result],
        "How jobs ended."),
    on("output", REPLIES, "output.{job}.{host}", &[JOB, HOST], &[Kind::Output],
        "Output of jobs that run."),
    on("answers", ANSWERS, "result.{job}", &[JOB], &[Kind::Result],
        "Small answers to jobs that only read, to the controller that waits for them; otherwise they come by results."),
    on("heard", HEARD, "heard", &[], &[Kind::Heard],
        "Answers that came straight to a controller, for the ledger."),
    on("dead", DEAD, "{key}", &[KEY], &[Kind::Job, Kind::Probe, Kind::Result],
        "What a queue has let go: jobs past their time, refused, or too many; answers that their controller left behind."),
    stream(LEDGER, &[Kind::JobOpened, Kind::JobNote, Kind::Event, Kind::Ack, Kind::Result, Kind::Heard, Kind::Job, Kind::Mark],
        "What happened to every job, and which hosts there are."),
    stream(PRESENCE, &[Kind::Presence],
        "The last hour's presence."),
];

impl Channel {
    /// Whether subscribers may read it ([`crate::topology::subscriber_permissions`]).
    #[must_use]
    pub fn for_subscribers(&self) -> bool {
        match self.place {
            Place::Exchange { name, .. } => [EVENTS, METRICS, JSON].contains(&name),
            Place::Stream(name) => name == HISTORY,
        }
    }
}
