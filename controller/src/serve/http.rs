//! The HTTP interface of `muster serve`: health, readiness, metrics. Read-only. It must not know how the parts work.

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, serve};
use futures_util::stream;
use muster_link::stamp;
use muster_proto::snapshot::fields;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::bridges::board::Board;
use super::gather::SharedSeries;
use super::health::Health;
use super::history::History;
use super::lead::Leading;
use super::react::tally::Tally;
use super::stats::{self, Question};
use super::watch::SharedFleet;
use super::{metrics, scrape};

/// Pause before a port that is in use is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(10);

/// What there is to show.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) health: Health,
    pub(crate) leading: Leading,
    pub(crate) fleet: SharedFleet,
    pub(crate) history: History,
    pub(crate) series: SharedSeries,
    pub(crate) bridges: Board,
    pub(crate) reactions: Tally,
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
        .route("/", get(async || "muster serve: /healthz /readyz /metrics /v1/stats /v1/series\n"))
        // Whoever reads this answer knows that the process is there and its event loop turns.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/v1/stats", get(show_stats))
        .route("/v1/series", get(show_series))
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

/// What of the figures a scrape wants.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Only this collector's; `none` for the hosts' and the program's own alone.
    #[serde(default)]
    collector: Option<String>,
}

/// Our own families at once, then those of the figures one by one, as the reader takes them.
async fn show_metrics(State(shown): State<Shown>, Query(wanted): Query<Wanted>) -> Response {
    let own = match metrics::text(&shown) {
        Ok(text) => text,
        Err(error) => {
            let words = format!("could not write the metrics: {error:#}\n");
            return (StatusCode::INTERNAL_SERVER_ERROR, words).into_response();
        }
    };
    let of_collector = wanted.collector;
    let figures = fields::all().filter(move |series| {
        of_collector
            .as_deref()
            .is_none_or(|wanted| wanted == series.collector)
    });
    let begin = (Some(own), figures, scrape::FIGURES_MAX, 0_usize, false);
    let pieces = stream::unfold(begin, move |(own, mut figures, room, left_out, ended)| {
        let shown = shown.clone();
        async move {
            // Between two families others get their turn.
            tokio::task::yield_now().await;
            if ended {
                return None;
            }
            let piece = |text: String| Ok::<Bytes, std::convert::Infallible>(text.into());
            if let Some(own) = own {
                return Some((piece(own), (None, figures, room, left_out, false)));
            }
            let Some(series) = figures.next() else {
                let end = metrics::end(left_out);
                return Some((piece(end), (None, figures, room, left_out, true)));
            };
            let fleet = shown.fleet.lock().unwrap_or_else(PoisonError::into_inner);
            let gathered = shown.series.lock();
            let is_gone = |host: &_| stats::is_gone(&fleet, host);
            let now_ms = stamp::now_ms();
            let (text, count) = scrape::family(&gathered.store, series, now_ms, is_gone, room);
            let beyond = count.saturating_sub(room);
            Some((
                piece(text),
                (
                    None,
                    figures,
                    room - (count - beyond),
                    left_out + beyond,
                    false,
                ),
            ))
        }
    });
    (
        [(CONTENT_TYPE, metrics::CONTENT_TYPE)],
        Body::from_stream(pieces),
    )
        .into_response()
}

async fn show_stats(State(shown): State<Shown>, Query(question): Query<Question>) -> Response {
    answer(stats::groups(&shown, &question))
}

async fn show_series(State(shown): State<Shown>, Query(question): Query<Question>) -> Response {
    answer(stats::history(&shown, &question))
}

fn answer(found: Result<impl serde::Serialize, String>) -> Response {
    match found {
        Ok(found) => Json(found).into_response(),
        Err(why) => (StatusCode::NOT_FOUND, Json(json!({ "error": why }))).into_response(),
    }
}
