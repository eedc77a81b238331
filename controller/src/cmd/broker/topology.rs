//! What Muster needs on the broker against what is there. The comparison is pure; RabbitMQ does not make it itself: it
//! takes definitions that contradict what exists without a word.

use anyhow::{Context as _, Result};
use muster_proto::definitions::vhost_definitions;
use serde_json::Value;

use crate::admin::Admin;

/// One thing that Muster needs in the vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// `exchange`, `stream`, `queue`, `binding` or `policy`.
    pub(super) kind: &'static str,
    /// Its name; for a binding what it leads where.
    pub(super) name: String,
    /// How it is there.
    pub(super) state: State,
}

/// How a part is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// As it shall be.
    Same,
    /// Not at all.
    Missing,
    /// Otherwise, and posting the definitions puts it right.
    Differs,
    /// As something else of the same name, which only an operator can take away.
    Wrong(String),
}

/// What is in a vhost, as the management API lists it.
#[derive(Debug, Default)]
struct There {
    exchanges: Vec<Value>,
    queues: Vec<Value>,
    bindings: Vec<Value>,
    policies: Vec<Value>,
}

/// Every part and its state; `None` where there is no vhost.
pub(super) async fn survey(admin: &Admin) -> Result<Option<Vec<Part>>> {
    let vhost = admin.vhost();
    if admin.get(&["vhosts", vhost]).await?.is_none() {
        return Ok(None);
    }
    let there = There {
        exchanges: list(admin, "exchanges").await?,
        queues: list(admin, "queues").await?,
        bindings: list(admin, "bindings").await?,
        policies: list(admin, "policies").await?,
    };
    Ok(Some(compare(&vhost_definitions(), &there)))
}

async fn list(admin: &Admin, kind: &str) -> Result<Vec<Value>> {
    let listed = admin
        .get(&[kind, admin.vhost()])
        .await
        .with_context(|| format!("list the {kind}"))?;
    Ok(match listed {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    })
}

fn compare(wanted: &Value, there: &There) -> Vec<Part> {
    let of = |kind: &str| {
        wanted
            .get(kind)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut parts = Vec::new();
    for exchange in of("exchanges") {
        let wanted = text(&exchange, "type");
        parts.push(named("exchange", &exchange, &there.exchanges, |found| {
            let is = (
                text(found, "type"),
                found
                    .get("durable")
                    .and_then(Value::as_bool)
                    .unwrap_or_default(),
            );
            if is == (wanted, true) {
                State::Same
            } else {
                State::Wrong(kind_of_exchange(is))
            }
        }));
    }
    for queue in of("queues") {
        parts.push(compare_queue(&queue, there));
    }
    for binding in of("bindings") {
        let same = |found: &&Value| {
            ["source", "destination", "routing_key"]
                .iter()
                .all(|key| found.get(key) == binding.get(key))
        };
        let state = if there.bindings.iter().any(|found| same(&found)) {
            State::Same
        } else {
            State::Missing
        };
        let (from, key, to) = (
            text(&binding, "source"),
            text(&binding, "routing_key"),
            text(&binding, "destination"),
        );
        parts.push(Part {
            kind: "binding",
            name: format!("{from} {key} -> {to}"),
            state,
        });
    }
    for policy in of("policies") {
        parts.push(named("policy", &policy, &there.policies, |found| {
            let same = ["pattern", "definition", "apply-to", "priority"]
                .iter()
                .all(|key| found.get(key) == policy.get(key));
            if same { State::Same } else { State::Differs }
        }));
    }
    parts
}

fn compare_queue(queue: &Value, there: &There) -> Part {
    let wanted = kind_of_queue(queue);
    let part = if wanted == "stream" {
        "stream"
    } else {
        "queue"
    };
    named(part, queue, &there.queues, |found| {
        match kind_of_queue(found) {
            is if is == wanted => State::Same,
            is => State::Wrong(format!("a {is} queue")),
        }
    })
}

fn named(
    kind: &'static str,
    wanted: &Value,
    there: &[Value],
    state: impl Fn(&Value) -> State,
) -> Part {
    let name = text(wanted, "name");
    let found = there.iter().find(|found| text(found, "name") == name);
    Part {
        kind,
        name: name.to_owned(),
        state: found.map_or(State::Missing, state),
    }
}

fn kind_of_queue(queue: &Value) -> &'static str {
    let kind = queue.pointer("/arguments/x-queue-type");
    let one_active = queue.pointer("/arguments/x-single-active-consumer") == Some(&true.into());
    match (kind.and_then(Value::as_str), one_active) {
        (Some("stream"), _) => "stream",
        (Some("quorum"), true) => "quorum, single active consumer",
        (Some("quorum"), false) => "quorum",
        (_, true) => "classic, single active consumer",
        (_, false) => "classic",
    }
}

fn kind_of_exchange((kind, durable): (&str, bool)) -> String {
    let life = if durable { "durable" } else { "transient" };
    format!("a {life} {kind} exchange")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn all_there() -> There {
        let wanted = vhost_definitions();
        let of = |kind: &str| wanted.get(kind).unwrap().as_array().unwrap().clone();
        There {
            exchanges: of("exchanges"),
            queues: of("queues"),
            bindings: of("bindings"),
            policies: of("policies"),
        }
    }

    fn states(there: &There) -> Vec<(String, State)> {
        let parts = compare(&vhost_definitions(), there);
        parts
            .into_iter()
            .filter(|part| part.state != State::Same)
            .map(|part| (part.name, part.state))
            .collect()
    }

    #[test]
    fn what_is_there_is_the_same_and_what_is_not_is_missing() {
        assert_eq!(states(&all_there()), []);
        let parts = compare(&vhost_definitions(), &There::default());
        assert!(parts.len() > 15 && parts.iter().all(|part| part.state == State::Missing));
    }

    #[test]
    fn contradictions_are_named() {
        let mut there = all_there();
        let set = |list: &mut Vec<Value>, name: &str, key: &str, value: Value| {
            let item = list
                .iter_mut()
                .find(|item| text(item, "name") == name)
                .unwrap();
            item.as_object_mut().unwrap().insert(key.to_owned(), value);
        };
        set(&mut there.exchanges, "muster.jobs", "type", json!("fanout"));
        set(&mut there.exchanges, "muster.dead", "durable", json!(false));
        set(&mut there.queues, "muster.ledger", "arguments", json!({}));
        set(
            &mut there.policies,
            "muster-agents",
            "definition",
            json!({ "max-length": 1 }),
        );
        there
            .bindings
            .retain(|binding| text(binding, "destination") != "muster.presence");
        let wrong = |text: &str| State::Wrong(text.to_owned());
        assert_eq!(
            states(&there),
            [
                ("muster.jobs".to_owned(), wrong("a durable fanout exchange")),
                (
                    "muster.dead".to_owned(),
                    wrong("a transient topic exchange")
                ),
                ("muster.ledger".to_owned(), wrong("a classic queue")),
                (
                    "muster.metrics presence.# -> muster.presence".to_owned(),
                    State::Missing
                ),
                ("muster-agents".to_owned(), State::Differs),
            ]
        );
    }
}
