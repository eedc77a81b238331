//! Accepts connections and serves HTTP/1 on them, within bounds: so many at a time, and none that is silent for long.
//! Knows nothing of what is asked.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Connections at a time; more wait in the kernel's queue. Each may hold one request.
const CONNECTIONS_MAX: usize = 64;

/// A head of a request that is longer is answered with 431. The least that hyper takes is half of it.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A connection on which no whole head has come for so long is closed.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// Pause after an accept that failed, mostly for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Serves for ever. Connections end with it.
pub(super) async fn serve(listener: TcpListener, router: Router) -> std::convert::Infallible {
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "could not accept a connection");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            // One request each: a caller that goes on holding his connection must not keep others out.
            .keep_alive(false)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            // Whoever hangs up or sends garbage hears of it himself, as far as he listens.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection broke off");
            }
        });
    }
}
