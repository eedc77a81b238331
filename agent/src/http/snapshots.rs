//! `/v1/snapshots`: what the collectors saw last, with its age, or what they see now.

use axum::extract::{Path, Query, State as Shared};
use axum::http::HeaderMap;
use axum::http::header::{AGE, CACHE_CONTROL, HeaderValue, LAST_MODIFIED};
use axum::response::{IntoResponse, Json, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Health;
use super::refusal::Refusal;

/// What may stand behind the question mark.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Collect now instead of showing the newest snapshot.
    #[serde(default)]
    fresh: bool,
}

/// What every snapshot says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taken {
    at_ms: Option<u64>,
}

/// The names of the collectors that run here.
pub(super) async fn names(Shared(health): Shared<Health>) -> Json<Value> {
    let board = health.board.borrow();
    Json(json!(board.collectors.keys().collect::<Vec<_>>()))
}

/// One collector's snapshot.
pub(super) async fn one(
    Shared(health): Shared<Health>,
    Path(name): Path<String>,
    wish: Result<Query<Wish>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(wish) = wish.map_err(|_| {
        Refusal::bad("behind the question mark only fresh=true or fresh=false is known here")
    })?;
    let status = health.board.borrow().collectors.get(name.as_str()).cloned();
    let Some(status) = status else {
        let board = health.board.borrow();
        let known = board.collectors.keys().map(|name| (*name).to_owned());
        let error = format!("no such collector {name:?} here");
        return Err(Refusal::not_found(error, known.collect()));
    };
    if wish.fresh {
        let (mut snapshots, mut errors) =
            health.collectors.collect(std::slice::from_ref(&name)).await;
        return match snapshots.remove(&name) {
            Some(snapshot) => {
                let at_ms = snapshot.read().ok().and_then(|taken: Taken| taken.at_ms);
                Ok((dated(at_ms), Json(snapshot)).into_response())
            }
            None => Err(Refusal::unavailable(
                errors.remove(&name).unwrap_or_default(),
            )),
        };
    }
    match &status.snapshot {
        Some(snapshot) => Ok((dated(status.success_at_ms), Json(snapshot)).into_response()),
        None => Err(Refusal::unavailable(
            status
                .error
                .unwrap_or_else(|| "it has not run yet".to_owned()),
        )),
    }
}

/// How old an answer is that was seen at `at_ms`.
fn dated(at_ms: Option<u64>) -> HeaderMap {
    headers(at_ms, muster_link::stamp::now_ms())
}

fn headers(at_ms: Option<u64>, now_ms: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let Some(at_ms) = at_ms else { return headers };
    headers.insert(AGE, (now_ms.saturating_sub(at_ms) / 1000).into());
    let seen = i64::try_from(at_ms)
        .ok()
        .and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok())
        .map(|seen| seen.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .and_then(|seen| HeaderValue::try_from(seen).ok());
    if let Some(seen) = seen {
        headers.insert(LAST_MODIFIED, seen);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_old_it_is() {
        let dated = headers(Some(1_700_000_000_999), 1_700_000_003_500);
        let header = |name| dated.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header(AGE), Some("2"));
        assert_eq!(header(LAST_MODIFIED), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
        let ahead = headers(Some(2_000), 1_000);
        assert_eq!(ahead.get(AGE).and_then(|age| age.to_str().ok()), Some("0"));
        assert_eq!(headers(None, 0).get(AGE), None);
    }
}
