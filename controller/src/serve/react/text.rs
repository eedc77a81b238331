//! What is written about a firing: the values that templates see, and the templates themselves. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use minijinja::{Environment, ErrorKind, Value as Shown};
use serde_json::{Value, json};

use super::decision::Firing;
use super::facts::of_events;
use super::heard::Heard;
use super::rules::Fault;

/// Events that are shown one by one; of the rest the number is told.
const SHOWN_MAX: usize = 100;

/// Largest text that a template makes.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// A template (Jinja), checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(String);

/// How values are written into the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// As they are.
    Plain,
    /// For HTML.
    Html,
    /// As quoted texts of a target expression: what an event says can't widen the target.
    Target,
    /// Into JSON: what an event says stays within the quotes around it; `| tojson` brings its own.
    Json,
}

impl Template {
    /// Checks the template at the byte `at` of the config.
    pub(crate) fn parse(at: usize, text: String) -> Result<Self, Fault> {
        let checked = Environment::new()
            .template_from_str(&text)
            .map(drop)
            .map_err(|error| Fault::new(at, format!("template: {error}")));
        checked.map(|()| Self(text))
    }

    /// One of our own.
    pub(crate) fn builtin(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text for `values`.
    ///
    /// # Errors
    /// What the template does wrong with these values.
    pub(crate) fn render(&self, values: &Value, escape: Escape) -> Result<String, String> {
        let mut environment = Environment::new();
        let name = match escape {
            Escape::Html => "text.html",
            Escape::Plain | Escape::Target | Escape::Json => "text.txt",
        };
        let escaped: Option<fn(&Shown) -> String> = match escape {
            Escape::Target => Some(quoted),
            Escape::Json => Some(in_json),
            Escape::Plain | Escape::Html => None,
        };
        if let Some(escaped) = escaped {
            environment.set_formatter(move |out, _, value| {
                out.write_str(&escaped(value))
                    .map_err(|_| minijinja::Error::new(ErrorKind::WriteFailure, "too long"))
            });
        }
        let text = environment
            .render_named_str(name, &self.0, Shown::from(minijinja::value::Serde(values)))
            .map_err(|error| format!("template: {error}"))?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!(
                "the template makes more than {TEXT_BYTES_MAX} bytes"
            ));
        }
        Ok(text)
    }
}

/// A text of a target expression, in quotes.
pub(crate) fn quote(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .replace('\t', "\\t");
    format!("\"{escaped}\"")
}

fn in_json(value: &Shown) -> String {
    use minijinja::value::ValueKind;
    if value.is_safe() {
        return value.to_string();
    }
    match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Number | ValueKind::Bool | ValueKind::Undefined => value.to_string(),
        _ => {
            let json = Value::from(value.to_string()).to_string();
            let text = json
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'));
            text.unwrap_or_default().to_owned()
        }
    }
}

fn quoted(value: &Shown) -> String {
    if value.kind() == minijinja::value::ValueKind::Seq {
        let items = value.try_iter().into_iter().flatten();
        let items: Vec<String> = items.map(|item| quote(&item.to_string())).collect();
        return items.join(", ");
    }
    quote(&value.to_string())
}

/// What templates and webhooks see of a firing.
pub(crate) fn values(rule: &str, firing: &Firing) -> Value {
    let events: Vec<Value> = firing
        .events
        .iter()
        .take(SHOWN_MAX)
        .map(|heard| event(heard))
        .collect();
    let mut topics: BTreeMap<&str, usize> = BTreeMap::new();
    for heard in &firing.events {
        *topics.entry(heard.event.topic.as_str()).or_default() += 1;
    }
    let hosts: BTreeSet<&str> = firing
        .events
        .iter()
        .map(|heard| heard.event.host.as_str())
        .collect();
    json!({
        "rule": rule,
        "firing": firing.id,
        "group": firing.group,
        "again": firing.again,
        "depth": firing.depth,
        "count": firing.events.len(),
        "more": firing.events.len() - events.len(),
        "hosts": hosts,
        "topics": topics,
        "summary": summary(&firing.events),
        "event": firing.events.last().map(|heard| event(heard)),
        "events": events,
    })
}

fn summary(events: &[Arc<Heard>]) -> String {
    match events {
        [one] => format!("{}: {}", one.event.host, one.event.summary),
        many => of_events(many),
    }
}

/// An event as JSON: its own names, with its id, its host's labels, and its time for people.
pub(crate) fn event(heard: &Heard) -> Value {
    let mut value = serde_json::to_value(&heard.event).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("id".to_owned(), json!(heard.id));
        map.insert("labels".to_owned(), json!(heard.labels));
        map.insert("at".to_owned(), at(heard.event.at_ms).into());
    }
    value
}

/// A time for people, in UTC.
pub(crate) fn at(at_ms: u64) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|at| Timestamp::from_millisecond(at).ok());
    at.map_or_else(|| at_ms.to_string(), |at| at.to_string())
}

/// The bodies of the original's alert API, one object for each event.
pub(crate) fn alerts(firing: &Firing) -> Vec<Value> {
    let shown = firing.events.iter().take(SHOWN_MAX);
    shown.map(|heard| alert(heard)).collect()
}

/// `{"cluster_id", "lb_id", "area", "descript", "owners", "rs", "status", "message", "alert_type", "time", "vip_instance",
/// "vip_group", "alert_time"}`.
fn alert(heard: &Heard) -> Value {
    let event = &heard.event;
    let field = |names: &[&str]| {
        let found = names.iter().find_map(|name| heard.field(name));
        found.map(|text| text.into_owned()).unwrap_or_default()
    };
    let rs = address(&field(&["real_server", "backend"]));
    let vip = address(&field(&[
        "virtual_server",
        "service",
        "vip",
        "virtual_address",
    ]));
    let last = event.topic.rsplit('.').next().unwrap_or_default();
    let is_up = ["up", "added", "gained", "enabled", "back"].contains(&last);
    let what = if rs.is_empty() { "service" } else { "rs" };
    json!({
        "cluster_id": field(&["cluster_id"]),
        "lb_id": event.host,
        "area": field(&["area"]),
        "descript": field(&["description", "descript"]),
        "owners": field(&["owners"]),
        "rs": rs,
        "status": if is_up { "enable" } else { "disable" },
        "message": event.summary,
        "alert_type": format!("{what}_is_{}", if is_up { "up" } else { "down" }),
        "time": event.at_ms / 1000,
        "vip_instance": field(&["vip_instance"]),
        "vip_group": vip,
        "alert_time": alert_time(event.at_ms),
    })
}

/// `2026-11-22 14:31:05` in the zone of this machine.
fn alert_time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|at| Timestamp::from_millisecond(at).ok());
    at.map(|at| {
        let zoned = at.to_zoned(jiff::tz::TimeZone::system());
        zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
    })
    .unwrap_or_default()
}

/// `10.8.1.2:8080` of `[10.8.1.2]:tcp:8080` (keepalived), `tcp/10.8.1.2:8080` and the like; else the text as it is.
pub(crate) fn address(text: &str) -> String {
    if let Some((inside, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = rest.rsplit(':').next().unwrap_or_default();
        let mut address = if inside.contains(':') {
            format!("[{inside}]")
        } else {
            inside.to_owned()
        };
        if !port.is_empty() {
            let _ = write!(address, ":{port}"); // writing to a string does not fail
        }
        return address;
    }
    match text.split_once('/') {
        Some(("tcp" | "udp" | "sctp", rest)) => rest.to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_original_did() {
        for (text, want) in [
            ("[10.8.1.2]:tcp:8080", "10.8.1.2:8080"),
            ("[2001:db8::1]:tcp:80", "[2001:db8::1]:80"),
            ("tcp/10.8.1.2:8080", "10.8.1.2:8080"),
            ("10.8.1.2:8080", "10.8.1.2:8080"),
            ("FWM 9", "FWM 9"),
            ("", ""),
        ] {
            assert_eq!(address(text), want);
        }
    }

    #[test]
    fn what_an_event_says_stays_within_its_quotes_in_json() {
        let says = "a \"quoted\" \\ line\nand \",\"channel\":\"#other";
        let values = json!({ "summary": says, "count": 3, "hosts": ["h\"1"] });
        let template = r##"{"text": "{{ summary }} on {{ hosts }}", "own": {{ summary | tojson }}, "n": {{ count }}, "no": "{{ missing }}"}"##;
        let text = Template::builtin(template)
            .render(&values, Escape::Json)
            .unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 4, "{text}");
        assert_eq!(
            (&json["own"], &json["n"], &json["no"]),
            (&says.into(), &3.into(), &"".into())
        );
        assert!(json["text"].as_str().unwrap().starts_with(says), "{text}");
    }

    #[test]
    fn what_an_event_says_cannot_widen_a_target() {
        let template = Template::builtin("host={{ event.fields.peer }} or host in ({{ hosts }})");
        let values = json!({ "event": { "fields": { "peer": "x\" or * or host=\"y" } }, "hosts": ["a", "b"] });
        let text = template.render(&values, Escape::Target).unwrap();
        assert_eq!(
            text,
            "host=\"x\\\" or * or host=\\\"y\" or host in (\"a\", \"b\")"
        );
        let target: muster_proto::target::Target = text.parse().unwrap();
        assert_eq!(target.named_hosts().map(|hosts| hosts.len()), Some(3));
    }

    #[test]
    fn templates_are_checked_and_escape_html() {
        assert!(Template::parse(7, "{{ event.".to_owned()).is_err_and(|fault| fault.at == 7));
        let template = Template::parse(0, "<b>{{ summary }}</b>".to_owned()).unwrap();
        let values = json!({ "summary": "a<b" });
        assert_eq!(
            template.render(&values, Escape::Html).unwrap(),
            "<b>a&lt;b</b>"
        );
        assert_eq!(
            template.render(&values, Escape::Plain).unwrap(),
            "<b>a<b</b>"
        );
    }
}
