//! The local HTTP interface: health, readiness, metrics, snapshots. Read-only, for this host's own eyes. It must not
//! change anything.

mod link_counters;
mod metrics;
mod ready;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use muster_link::LinkStatus;
use muster_proto::id::HostId;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

pub(crate) use self::link_counters::LinkCounters;
use crate::collect::schedule::Board;
use crate::job::{JobCounters, JobsStatus};
use crate::publish::{OutboxCounters, Snapshots};
use crate::state::StateStatus;

/// Pause before a port that is in use is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(10);

/// The media type of `/metrics` (OpenMetrics 1.0).
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What there is to see of the agent. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) host: HostId,
    pub(crate) link: watch::Receiver<LinkStatus>,
    pub(crate) state: watch::Receiver<StateStatus>,
    pub(crate) board: watch::Receiver<Board>,
    pub(crate) jobs: watch::Receiver<JobsStatus>,
    pub(crate) job_counters: Arc<JobCounters>,
    pub(crate) outbox: Arc<OutboxCounters>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) link_counters: Arc<LinkCounters>,
    pub(crate) started: Instant,
}

/// Serves for ever. A port that can't be had is a warning, and is tried again.
pub(crate) async fn serve(listen: SocketAddr, health: Health) {
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                tracing::debug!(%listen, "serving HTTP");
                if let Err(error) = axum::serve(listener, router(health.clone())).await {
                    tracing::warn!(%listen, %error, "the local HTTP interface broke off, starting it anew");
                }
            }
            Err(error) => tracing::warn!(
                %listen,
                %error,
                "could not open the local HTTP interface; the agent goes on without and tries again every 10 s; [http] \
                 listen names another port, or \"\" for none"
            ),
        }
        sleep(BIND_AGAIN).await;
    }
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/", get(async || "muster-agent: /healthz /readyz /metrics /v1/snapshots/<collector>\n"))
        // Whoever reads this answer knows that the process is there and its event loop turns.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/v1/snapshots", get(names))
        .route("/v1/snapshots/{collector}", get(snapshot))
        .with_state(health)
}

async fn readyz(Shared(health): Shared<Health>) -> Response {
    let verdict = ready::judge(&health.facts(), muster_link::stamp::now_ms());
    let status = if verdict.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(verdict)).into_response()
}

async fn show_metrics(Shared(health): Shared<Health>) -> Response {
    match metrics::text(&health) {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("could not write the metrics: {error}\n"),
        )
            .into_response(),
    }
}

async fn names(Shared(health): Shared<Health>) -> Json<Value> {
    let board = health.board.borrow();
    Json(json!(board.collectors.keys().collect::<Vec<_>>()))
}

async fn snapshot(Shared(health): Shared<Health>, Path(name): Path<String>) -> Response {
    let board = health.board.borrow().clone();
    let Some(status) = board.collectors.get(name.as_str()) else {
        let known: Vec<_> = board.collectors.keys().collect();
        let body =
            json!({ "error": format!("no such collector {name:?} here"), "collectors": known });
        return (StatusCode::NOT_FOUND, Json(body)).into_response();
    };
    match &status.snapshot {
        Some(snapshot) => Json(&**snapshot).into_response(),
        None => {
            let error = status.error.as_deref().unwrap_or("it has not run yet");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(json!({ "error": error })),
            )
                .into_response()
        }
    }
}

impl Health {
    fn facts(&self) -> ready::Inputs {
        ready::Inputs {
            host: self.host.clone(),
            link: self.link.borrow().clone(),
            state: self.state.borrow().clone(),
            board: self.board.borrow().clone(),
            up_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}
