//! `muster schema`: the messages that go over the broker, for those who read along: a list, the JSON Schema of one, or an
//! AsyncAPI document of all.

use anyhow::Result;
use muster_proto::asyncapi;
use muster_proto::channel::{CHANNELS, Channel, MESSAGES, Place};
use muster_proto::schema::{file_stem, schemas};
use serde::Serialize;

use crate::cmd::Run;
use crate::context::Context;
use crate::exit::{Exit, usage};
use crate::render::{Cell, Column, Style, Table, Tone, to_json_document};

/// Arguments of `muster schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowSchema {
    /// Print the JSON Schema of this message or snapshot, e.g. event, muster.result/1 or snapshot.lvs
    name: Option<String>,
    /// Print an AsyncAPI 3 document of all messages, exchanges and routing keys
    #[arg(long, conflicts_with = "name")]
    asyncapi: bool,
}

/// A message or snapshot, for programs.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    /// Whether a broker user of `muster broker enroll --subscriber` may read it somewhere.
    for_subscribers: bool,
    sender: &'static str,
    summary: String,
    /// Where it goes.
    places: Vec<ShownPlace>,
}

#[derive(Debug, Serialize)]
struct ShownPlace {
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'static str>,
}

impl Run for ShowSchema {
    async fn run(self, context: &Context) -> Result<Exit> {
        match self.name {
            _ if self.asyncapi => {
                let document = asyncapi::document(env!("CARGO_PKG_VERSION"));
                context.print(&to_json_document(&document)?)?;
            }
            Some(name) => context.print(&to_json_document(&find(&name)?)?)?,
            None => {
                let listed = listed();
                context.show_list(&listed, |style| table(&listed, style))?;
            }
        }
        Ok(Exit::Ok)
    }
}

/// The schema of what a person calls `name`: the name on the wire, that of the file, or either without `muster.` and the
/// version.
fn find(name: &str) -> Result<serde_json::Value> {
    let asked = name.trim_end_matches(".json").replace('/', "-");
    let short = |stem: &str| {
        let stem = stem.strip_prefix("muster.").unwrap_or(stem);
        stem.rsplit_once("-1")
            .map_or(stem, |(stem, _)| stem)
            .to_owned()
    };
    let all = schemas();
    let known: Vec<String> = all.iter().map(|(stem, _)| short(stem)).collect();
    let found = all
        .into_iter()
        .find(|(stem, _)| *stem == asked || short(stem) == asked);
    let (_, schema) = found.ok_or_else(|| {
        usage(format!(
            "there is no message {name:?}; there are {}",
            known.join(", ")
        ))
    })?;
    Ok(schema.to_value())
}

fn listed() -> Vec<Listed> {
    let messages = MESSAGES.iter().map(|spec| {
        let channels = || {
            CHANNELS
                .iter()
                .filter(|channel| channel.kinds.contains(&spec.kind))
        };
        Listed {
            name: spec.kind.wire_name().to_owned(),
            for_subscribers: channels().any(Channel::for_subscribers),
            sender: spec.sender,
            summary: spec.summary.to_owned(),
            places: channels().map(ShownPlace::of).collect(),
        }
    });
    let of_messages: Vec<String> = MESSAGES.iter().map(|spec| file_stem(spec.kind)).collect();
    let snapshots = schemas()
        .into_iter()
        .filter(|(stem, _)| !of_messages.contains(stem))
        .map(|(stem, _)| Listed {
            summary: "the field `snapshot` of muster.metrics/1 of this collector".to_owned(),
            name: stem,
            for_subscribers: true,
            sender: "agents",
            places: Vec::new(),
        });
    messages.chain(snapshots).collect()
}

impl ShownPlace {
    fn of(channel: &Channel) -> Self {
        match channel.place {
            Place::Exchange { name, key, .. } => Self {
                exchange: Some(name),
                routing_key: Some(key),
                stream: None,
            },
            Place::Stream(name) => Self {
                exchange: None,
                routing_key: None,
                stream: Some(name),
            },
        }
    }

    fn text(&self) -> Option<String> {
        match (self.exchange, self.routing_key) {
            (Some(exchange), Some(key)) => Some(format!("{exchange}  {key}")),
            _ => None,
        }
    }
}

fn table(listed: &[Listed], style: &Style) -> String {
    let mut table = Table::new([
        Column::text("MESSAGE"),
        Column::text("FIRST OF ITS EXCHANGES AND KEYS"),
        Column::text("SAYS"),
    ]);
    for one in listed {
        let place = one.places.iter().find_map(ShownPlace::text);
        let tone = if one.for_subscribers {
            Tone::Plain
        } else {
            Tone::Dim
        };
        table.row([
            Cell::toned(one.name.as_str(), tone),
            Cell::toned(place.unwrap_or_default(), tone),
            Cell::toned(one.summary.as_str(), tone),
        ]);
    }
    table.render(style)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_by_all_its_names() {
        for (name, title) in [
            ("event", "Event"),
            ("muster.event/1", "Event"),
            ("muster.event-1", "Event"),
            ("muster.job-opened-1.json", "JobOpened"),
            ("job-opened", "JobOpened"),
            ("snapshot.lvs", "LvsSnapshot"),
        ] {
            let schema = find(name).unwrap();
            let found = schema.get("title").and_then(serde_json::Value::as_str);
            assert_eq!(found, Some(title), "{name}");
        }
        let error = find("evnt").unwrap_err().to_string();
        assert!(error.contains("there are job, job-opened"), "{error}");
    }

    #[test]
    fn everything_that_has_a_schema_is_listed_once() {
        let listed = listed();
        assert_eq!(listed.len(), schemas().len());
        assert!(
            listed
                .iter()
                .all(|one| !one.places.is_empty() || one.name.starts_with("snapshot."))
        );
        let open = |name: &str| {
            listed
                .iter()
                .any(|one| one.name == name && one.for_subscribers)
        };
        assert!(open("muster.event/1") && open("muster.metrics/1"));
        assert!(!open("muster.job/1") && !open("muster.result/1"));
    }
}
