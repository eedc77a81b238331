//! `muster watch`: events as they happen, or from the history. Survives restarts of the broker.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;
use muster_link::{Acks, Consume, Incoming, Outgoing, Receipt, Session, StreamOffset, stamp};
use muster_proto::envelope::{self, Kind};
use muster_proto::event::{Event, Severity};
use muster_proto::id::MessageId;
use muster_proto::job::{JobNote, JobOpened, JobRequest, Mark};
use muster_proto::topology::{EVENTS, HISTORY, topic_matches};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::cmd::Run;
use crate::cmd::sitting::span;
use crate::context::Context;
use crate::dispatch::desk::connect;
use crate::exit::{Exit, ending, usage};
use crate::render::{Style, Tone, clean, paint, plural, timestamp};

/// How far back `--no-follow` reads where nothing else is said.
const HISTORY_DEFAULT: Duration = Duration::from_secs(3600);

/// Ids that are remembered to drop what comes twice: an agent resends within minutes.
const IDS_MAX: usize = 100_000;

const PREFETCH: u16 = 500;

/// Longest wait for the mark at the end of the history.
const MARK_LIMIT: Duration = Duration::from_secs(20);

/// Arguments of `muster watch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A pattern is dotted words, `*` for one and `#` for any number of them; it has to match the event's topic\n\
                        (`lvs.#`, `host.*`) or its routing key, which is the topic and then the host (`#.lb1`)."
)]
pub(crate) struct Watch {
    /// Only events that match one of these
    patterns: Vec<String>,
    /// Begin so long ago
    #[arg(long, value_name = "TIME", value_parser = span)]
    since: Option<Duration>,
    /// Stop at the end of the history
    #[arg(long)]
    no_follow: bool,
    /// Only events that are at least so bad: info, notice, warning, error, critical
    #[arg(long, value_name = "SEVERITY", value_parser = severity, default_value = "info")]
    severity: Severity,
}

fn severity(text: &str) -> Result<Severity, String> {
    serde_json::from_value(Value::from(text))
        .map_err(|_| format!("{text:?} is none of info, notice, warning, error, critical"))
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Line {
    topic: String,
    /// The host, or who issued the job.
    from: String,
    at_ms: u64,
    severity: Severity,
    summary: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Value::is_null")]
    before: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    after: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
}

struct Reader {
    from: StreamOffset,
    seen: HashSet<MessageId>,
    order: VecDeque<MessageId>,
    undecodable: usize,
}

impl Run for Watch {
    async fn run(self, context: &Context) -> Result<Exit> {
        if let Some(bad) = self
            .patterns
            .iter()
            .find(|pattern| pattern.is_empty() || pattern.split('.').any(str::is_empty))
        {
            return Err(usage(format!("the pattern {bad:?} has an empty word")));
        }
        let since = self.since.or(self.no_follow.then_some(HISTORY_DEFAULT));
        let from = since.map_or(StreamOffset::Next, |since| {
            StreamOffset::TimestampMs(
                stamp::now_ms().saturating_sub(crate::dispatch::order::ms(since)),
            )
        });
        let mut reader = Reader {
            from,
            seen: HashSet::new(),
            order: VecDeque::new(),
            undecodable: 0,
        };
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        let mut session = connect(context).await?;
        let mut pause = Duration::from_millis(250);
        loop {
            let outcome = tokio::select! {
                outcome = self.read(context, &session, &mut reader) => outcome,
                _ = &mut interrupt => Ok(()),
            };
            match outcome {
                Ok(()) => break,
                Err(error) if !session.has_ended() => return Err(error),
                Err(_) if self.no_follow => {
                    let why = session.closed().await;
                    return Err(ending(
                        Exit::NoBroker,
                        format!("the connection was lost before the end of the history: {why}"),
                    ));
                }
                Err(_) => context.note(&format!("{}; connecting again", session.closed().await)),
            }
            session = tokio::select! {
                session = connect_again(context, &mut pause) => session?,
                _ = &mut interrupt => return Ok(Exit::Ok),
            };
            context.note("connected again");
        }
        if reader.undecodable > 0 {
            context.note(&format!(
                "{} could not be read",
                plural(reader.undecodable, "message")
            ));
        }
        session.close().await;
        Ok(Exit::Ok)
    }
}

/// Tries until there is a connection, with pauses that grow and are random.
async fn connect_again(context: &Context, pause: &mut Duration) -> Result<Session> {
    loop {
        sleep(crate::dispatch::live::random_below(*pause)).await;
        match connect(context).await {
            Ok(session) => {
                *pause = Duration::from_millis(250);
                return Ok(session);
            }
            Err(error) if Exit::of(&error) == Exit::NoBroker => {
                *pause = (*pause * 2).min(Duration::from_secs(10))
            }
            Err(error) => return Err(error),
        }
    }
}

impl Watch {
    /// Reads until the end of the history, or of the session (which is an error).
    async fn read(&self, context: &Context, session: &Session, reader: &mut Reader) -> Result<()> {
        let consume = Consume {
            queue: HISTORY.to_owned(),
            exclusive: false,
            prefetch: PREFETCH,
            acks: Acks::Batched,
            offset: Some(reader.from),
        };
        let mut deliveries = session.consume(consume).await?;
        let mark = if self.no_follow {
            Some(send_mark(context, session).await?)
        } else {
            None
        };
        loop {
            let incoming = match mark {
                None => deliveries.recv().await,
                Some(_) => timeout(MARK_LIMIT, deliveries.recv()).await.map_err(|_| {
                    ending(Exit::Failed, format!("the stream {HISTORY} did not bring our mark: has `muster broker init` bound it?"))
                })?,
            };
            let incoming = incoming.ok_or_else(|| anyhow::anyhow!("the connection was lost"))?;
            if let Some(offset) = incoming.stream_offset {
                reader.from = StreamOffset::Offset(offset.saturating_add(1));
            }
            if mark.is_some() && incoming.message_id == mark {
                return Ok(());
            }
            if let Some(line) = reader.take(&incoming)
                && line.severity >= self.severity
                && self.wants(&line.topic, &incoming.routing_key)
            {
                context.show_next(&line, |style| line.text(style))?;
            }
        }
    }

    fn wants(&self, topic: &str, routing_key: &str) -> bool {
        self.patterns.is_empty()
            || self
                .patterns
                .iter()
                .any(|pattern| topic_matches(pattern, topic) || topic_matches(pattern, routing_key))
    }
}

pub(crate) async fn send_mark(context: &Context, session: &Session) -> Result<MessageId> {
    let (issuer, id) = (&context.config.issuer, stamp::new_message_id());
    let mark = Outgoing {
        exchange: EVENTS,
        routing_key: format!("job.mark.{issuer}"),
        kind: Kind::Mark,
        message_id: id,
        correlation_id: None,
        timestamp_ms: stamp::now_ms(),
        expiration_ms: None,
        mandatory: false,
        transient: false,
        reply_to: None,
        signature: None,
        body: envelope::encode(&Mark {
            reader: issuer.to_string(),
        })?
        .into(),
    };
    match session.publish(mark).await {
        Ok(Receipt::Confirmed) => Ok(id),
        Ok(receipt) => Err(ending(
            Exit::NoBroker,
            format!("the broker did not take a mark: {receipt:?}"),
        )),
        Err(error) => Err(ending(Exit::NoBroker, format!("send a mark: {error}"))),
    }
}

impl Reader {
    /// The line of a message; none for what came before, says nothing, or can't be read.
    fn take(&mut self, incoming: &Incoming) -> Option<Line> {
        if let Some(id) = incoming.message_id {
            if !self.seen.insert(id) {
                return None;
            }
            self.order.push_back(id);
            if self.order.len() > IDS_MAX {
                let oldest = self.order.pop_front()?;
                self.seen.remove(&oldest);
            }
        }
        match line(incoming) {
            Ok(line) => line,
            Err(_) => {
                self.undecodable += 1;
                None
            }
        }
    }
}

fn line(incoming: &Incoming) -> Result<Option<Line>, envelope::DecodeError> {
    let (kind, body) = (&incoming.kind, &incoming.body);
    let id = incoming.message_id;
    let user = incoming.user_id.clone().unwrap_or_default();
    Ok(match Kind::from_wire_name(kind) {
        Some(Kind::Event) => {
            let event: Event = envelope::decode(kind, body)?;
            Some(Line {
                topic: event.topic,
                from: event.host.to_string(),
                at_ms: event.at_ms,
                severity: event.severity,
                summary: event.summary,
                key: event.key,
                fields: event.fields,
                before: event.before,
                after: event.after,
                message_id: id,
            })
        }
        Some(Kind::JobOpened) => {
            let opened: JobOpened = envelope::decode(kind, body)?;
            let request: JobRequest = envelope::decode(Kind::Job.wire_name(), &opened.envelope)?;
            let summary = format!(
                "{} on {} ({}), job {}",
                request.action,
                request.target,
                plural(opened.hosts.len(), "host"),
                request.id
            );
            let fields = json!({ "job": request.id, "action": request.action, "target": request.target, "hosts": opened.hosts.len(), "user": user });
            Some(Line::of_controller(
                "job.opened",
                request.issuer.to_string(),
                request.issued_at_ms,
                summary,
                fields,
                id,
            ))
        }
        Some(Kind::JobNote) => {
            let note: JobNote = envelope::decode(kind, body)?;
            let parts = [
                (note.released.len(), "released"),
                (note.unroutable.len(), "unroutable"),
                (note.skipped.len(), "skipped"),
                (note.given_up.len(), "no longer waited for"),
            ];
            let mut words: Vec<String> = parts
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            words.extend(
                note.stopped_by
                    .iter()
                    .map(|rule| format!("stopped by {rule}")),
            );
            words.extend(note.closed.then(|| "closed".to_owned()));
            let summary = format!("job {}: {}", note.job, words.join(", "));
            let fields = json!({ "job": note.job, "closed": note.closed, "stopped_by": note.stopped_by, "user": user });
            Some(Line::of_controller(
                "job.note", user, note.at_ms, summary, fields, id,
            ))
        }
        _ => None,
    })
}

impl Line {
    fn of_controller(
        topic: &str,
        from: String,
        at_ms: u64,
        summary: String,
        fields: Value,
        message_id: Option<MessageId>,
    ) -> Self {
        let fields = fields
            .as_object()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect();
        Self {
            topic: topic.to_owned(),
            from,
            at_ms,
            severity: Severity::Info,
            summary,
            key: String::new(),
            fields,
            before: Value::Null,
            after: Value::Null,
            message_id,
        }
    }

    fn text(&self, style: &Style) -> String {
        let tone = match self.severity {
            Severity::Info => Tone::Dim,
            Severity::Notice => Tone::Plain,
            Severity::Warning => Tone::Warn,
            Severity::Error | Severity::Critical => Tone::Bad,
        };
        let severity = paint(&format!("{:<8}", self.severity), tone, style);
        let at = timestamp(self.at_ms, &TimeZone::system());
        format!(
            "{at} {severity} {} {}: {}\n",
            clean(&self.from),
            clean(&self.topic),
            clean(&self.summary)
        )
    }
}
