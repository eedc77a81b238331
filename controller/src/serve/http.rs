//! The HTTP interface of `muster serve`: health, readiness, metrics. Read-only. It must not know how the parts work.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::health::Health;
use super::history::History;
use super::lead::Leading;
use super::metrics;
use super::watch::SharedFleet;

/// Pause before a port that is in use is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(10);

/// What there is to show.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) health: Health,
    pub(crate) leading: Leading,
    pub(crate) fleet: SharedFleet,
    pub(crate) history: History,
}

/// Serves for ever. A port that can't be had is a warning, and is tried again.
pub(crate) async fn run(listen: SocketAddr, shown: Shown) {
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                if let Err(error) = serve(listener, router(shown.clone())).await {
                    tracing::warn!(%listen, %error, "the HTTP interface broke off, starting it anew");
                }
            }
            Err(error) => tracing::warn!(
                %listen,
                %error,
                "could not open the HTTP interface; everything else goes on, and it is tried again every 10 s; [serve] \
                 listen names another port, or \"\" for none"
            ),
        }
        sleep(BIND_AGAIN).await;
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(async || "muster serve: /healthz /readyz /metrics\n"))
        // Whoever reads this answer knows that the process is there and its event loop turns.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(shown)
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let ready = shown.health.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body =
        json!({ "ready": ready, "leads": *shown.leading.borrow(), "parts": shown.health.parts() });
    (status, Json(body)).into_response()
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    match metrics::text(&shown) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("could not write the metrics: {error:#}\n"),
        )
            .into_response(),
    }
}
