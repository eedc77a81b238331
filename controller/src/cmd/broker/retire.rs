//! `muster broker retire`: takes a host's access and its queue away, and tells the ledger; or a subscriber's access.
//!
//! Each step can be done again, so a retirement that was cut off is finished by asking for it once more.

use std::time::Duration;

use anyhow::{Result, bail};
use muster_proto::id::HostId;
use muster_proto::topology::{agent_permissions, agent_queue, subscriber_permissions};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::users::{Found, look_for};
use super::{HostEvent, connect, subscriber};
use crate::admin::{Admin, AdminError};
use crate::cmd::Run;
use crate::context::Context;
use crate::exit::{Exit, ending, usage};
use crate::render::plural;

/// How often the broker is asked to close a user's connections.
const CLOSE_TRIES: u32 = 10;

/// The pause between.
const CLOSE_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Arguments of `muster broker retire`.
#[derive(Debug, clap::Args)]
pub(crate) struct Retire {
    /// The host
    #[arg(required_unless_present = "subscriber")]
    host: Option<HostId>,
    /// Retire another service instead; its queues go when nobody has used them for two weeks
    #[arg(long, value_name = "NAME", value_parser = subscriber, conflicts_with_all = ["host", "force"])]
    subscriber: Option<String>,
    /// Even when jobs wait for the host: they are lost
    #[arg(long)]
    force: bool,
}

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Retired<'a> {
    host: &'a HostId,
    user_deleted: bool,
    queue_deleted: bool,
    jobs_lost: u64,
}

impl Run for Retire {
    async fn run(self, context: &Context) -> Result<Exit> {
        let admin = Admin::from_config(&context.config)?;
        match (&self.host, &self.subscriber) {
            (Some(host), _) => self.retire_host(context, &admin, host).await,
            (None, Some(name)) => retire_subscriber(context, &admin, name).await,
            (None, None) => Err(usage("name a host, or another service with --subscriber")),
        }
    }
}

/// Closes what a user has open, who is gone by now. The broker is about to do so itself, and answers with an internal
/// error when a connection ends between its looking for it and its closing it: then it is asked again.
async fn close_connections(admin: &Admin, name: &str) -> Result<(), AdminError> {
    let mut tries_left = CLOSE_TRIES;
    loop {
        tries_left -= 1;
        match admin.delete(&["connections", "username", name], "").await {
            Err(AdminError::Refused { status: 500.., .. }) if tries_left > 0 => {
                sleep(CLOSE_AGAIN_AFTER).await;
            }
            other => return other.map(drop),
        }
    }
}

/// Takes the access of another service away.
async fn retire_subscriber(context: &Context, admin: &Admin, name: &str) -> Result<Exit> {
    if look_for(admin, name, &subscriber_permissions(name)).await? == Found::Nobody {
        return Err(ending(
            Exit::NoHost,
            format!("the broker knows no subscriber {name}"),
        ));
    }
    let user_deleted = admin.delete(&["users", name], "").await?;
    close_connections(admin, name).await?;
    let retired = json!({ "subscriber": name, "user_deleted": user_deleted });
    context.show(&retired, |_| format!("the subscriber {name} is retired\n"))?;
    Ok(Exit::Ok)
}

impl Retire {
    async fn retire_host(&self, context: &Context, admin: &Admin, host: &HostId) -> Result<Exit> {
        let name = host.as_str();
        let found = look_for(admin, name, &agent_permissions(host)).await?;
        let queue = agent_queue(host);
        let waiting = self.waiting_jobs(admin, host, &queue).await?;
        if (found, waiting) == (Found::Nobody, None) && !self.force {
            return Err(ending(
                Exit::NoHost,
                format!("the broker knows no host {name}: see `muster hosts`"),
            ));
        }
        let session = connect(context, "retire").await?;

        // The user first: an agent that was only cut off would be back at once, and declare its queue again.
        let user_deleted = admin.delete(&["users", name], "").await?;
        close_connections(admin, name).await?;
        let queue_deleted = self.delete_queue(admin, host, &queue).await?;
        let event = HostEvent {
            topic: "host.retired",
            host,
            summary: format!("{name} was retired by {}", context.config.issuer),
            fields: [
                ("by", json!(context.config.issuer)),
                ("jobs_lost", json!(waiting.unwrap_or(0))),
            ],
        };
        event.publish(&session).await?;
        session.close().await;

        let retired = Retired {
            host,
            user_deleted,
            queue_deleted,
            jobs_lost: waiting.unwrap_or(0),
        };
        context.show(&retired, |_| format!("the host {name} is retired\n"))?;
        Ok(Exit::Ok)
    }

    /// How many jobs wait in the queue; `None` without a queue.
    async fn waiting_jobs(&self, admin: &Admin, host: &HostId, queue: &str) -> Result<Option<u64>> {
        let Some(found) = admin.get(&["queues", admin.vhost(), queue]).await? else {
            return Ok(None);
        };
        // Left out by the API until the queue's first statistics are in; its deletion looks again.
        let waiting = found.get("messages").and_then(Value::as_u64).unwrap_or(0);
        if waiting > 0 && !self.force {
            bail!(jobs_wait(host, Some(waiting)));
        }
        Ok(Some(waiting))
    }

    /// The API's counts are seconds old, so without `--force` the broker itself makes sure that nothing waits.
    async fn delete_queue(&self, admin: &Admin, host: &HostId, queue: &str) -> Result<bool> {
        let query = if self.force { "" } else { "if-empty=true" };
        match admin.delete(&["queues", admin.vhost(), queue], query).await {
            Err(AdminError::Refused { status: 400, .. }) if !self.force => {
                bail!(
                    "the host's access is gone already, but {}",
                    jobs_wait(host, None)
                )
            }
            other => Ok(other?),
        }
    }
}

fn jobs_wait(host: &HostId, count: Option<u64>) -> String {
    let jobs = match count {
        Some(count) => plural(usize::try_from(count).unwrap_or(usize::MAX), "job"),
        None => "jobs".to_owned(),
    };
    let wait = if count == Some(1) { "waits" } else { "wait" };
    format!("{jobs} {wait} for {host}: cancel them, or lose them with --force")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::delete;

    use super::*;
    use crate::config::Config;

    /// How often an API was asked that answers with `status` so many times, and then with 204; and what came of it.
    async fn asked(status: u16, times: u32) -> (u32, Result<(), AdminError>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let answer = async move || {
            let before = count.fetch_add(1, Ordering::Relaxed);
            let status = if before < times { status } else { 204 };
            StatusCode::from_u16(status).unwrap_or_default()
        };
        let api = Router::new().route("/api/connections/username/reader", delete(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let text = format!(
            "[broker]\nurl = 'amqp://127.0.0.1'\nuser = 'admin'\npassword = 'admin'\n[management]\nurl = 'http://{address}'\n"
        );
        std::fs::write(&file, text).unwrap();
        let admin = Admin::from_config(&Config::load(Some(&file)).unwrap()).unwrap();
        let outcome = tokio::select! {
            outcome = close_connections(&admin, "reader") => outcome,
            _ = async { axum::serve(listener, api).await } => unreachable!(),
        };
        (asked.load(Ordering::Relaxed), outcome)
    }

    #[tokio::test]
    async fn the_broker_is_asked_again_while_it_stumbles_and_not_for_ever() {
        let (times, outcome) = asked(500, 2).await;
        assert!(outcome.is_ok() && times == 3, "{times} {outcome:?}");
        let (times, outcome) = asked(500, u32::MAX).await;
        let told = outcome.unwrap_err().to_string();
        assert!(
            told.contains("500") && times == CLOSE_TRIES,
            "{times} {told}"
        );
        for refusal in [400, 403] {
            let (times, outcome) = asked(refusal, u32::MAX).await;
            assert!(outcome.is_err() && times == 1, "{times} {outcome:?}");
        }
    }
}
