//! `muster broker check`: whether this operator can work with this broker; one line for each thing looked at.

use std::time::Instant;

use anyhow::Result;
use muster_link::Session;
use serde::Serialize;
use serde_json::Value;

use super::connect;
use super::topology::{State, survey};
use crate::admin::{Admin, AdminError};
use crate::cmd::Run;
use crate::context::Context;
use crate::exit::{Exit, message_of};
use crate::render::{Cell, Column, Style, Table, Tone, duration_ms};

/// Oldest RabbitMQ that Muster is tried with.
const VERSION_MIN: (u64, u64) = (3, 10);

/// Arguments of `muster broker check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: Verdict,
    detail: String,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Unknown,
    Bad,
}

impl Run for Check {
    async fn run(self, context: &Context) -> Result<Exit> {
        let mut findings = vec![check_amqp(context).await, check_key(context)];
        let admin = Admin::from_config(&context.config);
        match admin {
            Err(error) => findings.push(unknown("management", message_of(&error))),
            Ok(admin) => {
                let guessed = context.config.management.url.is_none();
                check_over_api(&admin, guessed, &mut findings).await;
            }
        }
        context.show_list(&findings, |style| table(&findings, style))?;
        Ok(findings
            .iter()
            .map(|finding| finding.exit)
            .max()
            .unwrap_or_default())
    }
}

async fn check_amqp(context: &Context) -> Finding {
    let started = Instant::now();
    match connect(context, "check").await {
        Err(error) => bad("connection", Exit::of(&error), message_of(&error)),
        Ok(session) => {
            let took = duration_ms(started.elapsed().as_secs_f64() * 1000.0);
            let detail = match context.config.broker() {
                Ok(broker) => format!("{} as {}, in {took}", broker.url(), broker.user()),
                Err(error) => message_of(&error),
            };
            let finding = match blocked(&session) {
                None => good("connection", detail),
                Some(why) => bad(
                    "connection",
                    Exit::Failed,
                    format!("{detail}; the broker takes no messages: {why}"),
                ),
            };
            session.close().await;
            finding
        }
    }
}

fn blocked(session: &Session) -> Option<String> {
    session.blocked().borrow().clone()
}

fn check_key(context: &Context) -> Finding {
    match context.config.signer() {
        Ok((id, signer)) => good(
            "signing key",
            format!("{id}, public half {}", signer.public()),
        ),
        Err(error) if !context.config.key_file.exists() => {
            unknown("signing key", message_of(&error))
        }
        Err(error) => bad("signing key", Exit::of(&error), message_of(&error)),
    }
}

/// An operator needs no administrator's rights: where `[management]` says nothing (`guessed`) or the user may not look,
/// the rest is not known, which is no fault.
async fn check_over_api(admin: &Admin, guessed: bool, findings: &mut Vec<Finding>) {
    match admin.get(&["overview"]).await {
        Err(error @ AdminError::Forbidden { .. }) => {
            findings.push(unknown("management", error.to_string()));
            return;
        }
        Err(error @ AdminError::Unreachable { .. }) if guessed => {
            findings.push(unknown("management", error.to_string()));
            return;
        }
        Err(error) => {
            findings.push(bad("management", error.exit(), error.to_string()));
            return;
        }
        Ok(overview) => {
            findings.push(good(
                "management",
                format!("{} as {}", admin.url(), admin.user()),
            ));
            findings.push(check_version(&overview.unwrap_or_default()));
        }
    }
    findings.push(check_alarms(admin).await);
    findings.push(check_topology(admin).await);
}

fn check_version(overview: &Value) -> Finding {
    let text = |key: &str| overview.get(key).and_then(Value::as_str).unwrap_or("?");
    let version = text("rabbitmq_version");
    let detail = format!(
        "RabbitMQ {version}, Erlang {}, cluster {}",
        text("erlang_version"),
        text("cluster_name")
    );
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < VERSION_MIN => {
            let (major, minor) = VERSION_MIN;
            bad(
                "version",
                Exit::Failed,
                format!("{detail}; Muster needs {major}.{minor} or later"),
            )
        }
        (Some(_), Some(_)) => good("version", detail),
        _ => unknown("version", detail),
    }
}

async fn check_alarms(admin: &Admin) -> Finding {
    // The API's own health check has the status 503 while there are alarms, and needs a right that few have.
    let nodes = match admin.get(&["nodes"]).await {
        Ok(nodes) => nodes.unwrap_or_default(),
        Err(error) => return unknown("alarms", error.to_string()),
    };
    let alarm = |node: &Value| {
        let name = node
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned();
        let is = |key: &str| node.get(key).and_then(Value::as_bool).unwrap_or(false);
        match (is("running"), is("mem_alarm"), is("disk_free_alarm")) {
            (false, ..) => Some(format!("{name} does not run")),
            (_, true, _) => Some(format!("{name} is short of memory")),
            (.., true) => Some(format!("{name} is short of disk")),
            _ => None,
        }
    };
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    let alarms: Vec<String> = nodes.iter().filter_map(alarm).collect();
    if alarms.is_empty() {
        return good(
            "alarms",
            format!("none on {}", crate::render::plural(nodes.len(), "node")),
        );
    }
    bad(
        "alarms",
        Exit::Failed,
        format!(
            "{}; publishers are blocked until it is over",
            alarms.join(", ")
        ),
    )
}

async fn check_topology(admin: &Admin) -> Finding {
    let vhost = admin.vhost();
    match survey(admin).await {
        Err(error) => unknown("topology", message_of(&error)),
        Ok(None) => bad(
            "topology",
            Exit::Failed,
            format!("there is no vhost {vhost:?}: run `muster broker init`"),
        ),
        Ok(Some(parts)) => {
            let wrong: Vec<String> = parts
                .iter()
                .filter_map(|part| match &part.state {
                    State::Same => None,
                    State::Missing => Some(format!("{} {} is missing", part.kind, part.name)),
                    State::Differs => Some(format!("{} {} differs", part.kind, part.name)),
                    State::Wrong(is) => Some(format!("{} is {is}", part.name)),
                })
                .collect();
            if wrong.is_empty() {
                return good(
                    "topology",
                    format!("all {} parts are in the vhost {vhost:?}", parts.len()),
                );
            }
            bad(
                "topology",
                Exit::Failed,
                format!("{}; run `muster broker init`", wrong.join(", ")),
            )
        }
    }
}

fn good(check: &'static str, detail: String) -> Finding {
    Finding {
        check,
        state: Verdict::Good,
        detail,
        exit: Exit::Ok,
    }
}

fn unknown(check: &'static str, detail: String) -> Finding {
    Finding {
        check,
        state: Verdict::Unknown,
        detail,
        exit: Exit::Ok,
    }
}

fn bad(check: &'static str, exit: Exit, detail: String) -> Finding {
    Finding {
        check,
        state: Verdict::Bad,
        detail,
        exit,
    }
}

fn table(findings: &[Finding], style: &Style) -> String {
    let mut table = Table::new([
        Column::text("CHECK"),
        Column::text("STATE"),
        Column::text("DETAIL"),
    ]);
    for finding in findings {
        let state = match finding.state {
            Verdict::Good => Cell::toned("good", Tone::Good),
            Verdict::Unknown => Cell::toned("unknown", Tone::Warn),
            Verdict::Bad => Cell::toned("bad", Tone::Bad),
        };
        table.row([
            Cell::from(finding.check),
            state,
            Cell::from(finding.detail.as_str()),
        ]);
    }
    table.render(style)
}
