//! The local HTTP interface: health, readiness, metrics, snapshots, and by choice the paths of the agent's forerunner.
//! Read-only, for this host's own eyes. It must not change anything.

mod connections;
mod figures;
mod gate;
mod link_counters;
mod metrics;
mod node;
mod ready;
mod refusal;
mod snapshots;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use muster_link::LinkStatus;
use muster_proto::id::HostId;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

pub(crate) use self::gate::Token;
pub(crate) use self::link_counters::LinkCounters;
use self::node::Node;
use self::refusal::Refusal;
use crate::collect::HostRoots;
use crate::collect::schedule::{Board, Collectors};
use crate::config::HttpSection;
use crate::job::{JobCounters, JobsStatus};
use crate::publish::{OutboxCounters, Snapshots};
use crate::state::StateStatus;
use crate::tail::SectionCounters;

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
    pub(crate) collectors: Collectors,
    pub(crate) roots: HostRoots,
    pub(crate) jobs: watch::Receiver<JobsStatus>,
    pub(crate) job_counters: Arc<JobCounters>,
    pub(crate) outbox: Arc<OutboxCounters>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) logs: Arc<[Arc<SectionCounters>]>,
    pub(crate) link_counters: Arc<LinkCounters>,
    pub(crate) started: Instant,
}

/// Serves for ever. A port that can't be had, or a token that can't be read, is a warning, and is tried again.
pub(crate) async fn serve(listen: SocketAddr, section: HttpSection, health: Health) {
    let node = section
        .node_paths
        .then(|| Node::new(health.roots.clone(), health.collectors.clone()));
    let follow = async {
        match &node {
            Some(node) => match node.follow().await {},
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = follow => {}
        () = listen_for_ever(listen, &section, &health, node.as_ref()) => {}
    }
}

async fn listen_for_ever(
    listen: SocketAddr,
    section: &HttpSection,
    health: &Health,
    node: Option<&Node>,
) {
    loop {
        match open(listen, section).await {
            Ok((listener, token)) => {
                tracing::debug!(%listen, "serving HTTP");
                let own = own(health.clone(), section.metrics_snapshots);
                let router = router(own, node.cloned(), token.map(Arc::new));
                match connections::serve(listener, router).await {}
            }
            Err(error) => tracing::warn!(
                %listen,
                error = format!("{error:#}"),
                "could not open the local HTTP interface; the agent goes on without and tries again every 10 s"
            ),
        }
        sleep(BIND_AGAIN).await;
    }
}

async fn open(
    listen: SocketAddr,
    section: &HttpSection,
) -> anyhow::Result<(TcpListener, Option<Token>)> {
    let token = section.token_file.as_deref().map(Token::read).transpose()?;
    let listener = TcpListener::bind(listen)
        .await
        .context("[http] listen names another port, or \"\" for none")?;
    Ok((listener, token))
}

/// What is answered here besides the forerunner's paths.
const PATHS: [&str; 5] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/snapshots",
    "/v1/snapshots/<collector>",
];

/// The agent's own paths; `snapshots`: the collectors' figures are in `/metrics`.
fn own(health: Health, snapshots: bool) -> Router {
    let metrics = async move |Shared(health): Shared<Health>| show_metrics(&health, snapshots);
    Router::new()
        // Whoever reads this answer knows that the process is there and its event loop turns.
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/snapshots", get(snapshots::names))
        .route("/v1/snapshots/{collector}", get(snapshots::one))
        .with_state(health)
}

fn router(own: Router, node: Option<Node>, token: Option<Arc<Token>>) -> Router {
    let mut known: Vec<String> = PATHS.iter().map(|path| (*path).to_owned()).collect();
    let all = match node {
        Some(node) => {
            known.extend(node::paths());
            own.merge(node::router(node))
        }
        None => {
            let about = format!("muster-agent: {}\n", known.join(" "));
            own.route("/", get(async move || about))
        }
    };
    let nothing = async move |uri: Uri| {
        Refusal::not_found(format!("there is nothing at {}", uri.path()), known)
    };
    all.fallback(nothing)
        .method_not_allowed_fallback(async || Refusal::method())
        .layer(from_fn_with_state(token, gate::pass))
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

fn show_metrics(health: &Health, snapshots: bool) -> Response {
    match metrics::text(health, snapshots) {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("could not write the metrics: {error}\n"),
        )
            .into_response(),
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
