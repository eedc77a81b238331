//! The answers that say no, all of one shape: `{"error": "…"}`, with the known names where a name is not known.

use axum::http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

/// Why a request does not get what it asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Body,
    hint: Option<Hint>,
}

/// What a header adds.
#[derive(Debug, PartialEq, Eq)]
enum Hint {
    /// A token would do.
    Token,
    /// It is worth another try in so many seconds.
    RetryAfter(u64),
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Body {
    error: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    known: Vec<String>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let (error, known) = (error.into(), Vec::new());
        Self {
            status,
            body: Body { error, known },
            hint: None,
        }
    }

    /// The request is not as it should be.
    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// There is no such thing; `known` are the things of this kind that there are.
    pub(super) fn not_found(error: impl Into<String>, known: Vec<String>) -> Self {
        let mut refusal = Self::new(StatusCode::NOT_FOUND, error);
        refusal.body.known = known;
        refusal
    }

    /// The token is missing or wrong.
    pub(super) fn no_token(error: impl Into<String>) -> Self {
        Self {
            hint: Some(Hint::Token),
            ..Self::new(StatusCode::UNAUTHORIZED, error)
        }
    }

    /// The method is not one of those that the header `Allow` names.
    pub(super) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are answered here: nothing can be changed over HTTP",
        )
    }

    /// The address that was asked for is too long.
    pub(super) fn too_long(bytes_max: usize) -> Self {
        let error = format!("an address has at most {bytes_max} bytes here");
        Self::new(StatusCode::URI_TOO_LONG, error)
    }

    /// This host can't tell, at least not now.
    pub(super) fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// This host can tell in so many seconds.
    pub(super) fn not_yet(error: impl Into<String>, seconds: u64) -> Self {
        Self {
            hint: Some(Hint::RetryAfter(seconds)),
            ..Self::unavailable(error)
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let never_kept = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        let mut response = (self.status, never_kept, Json(self.body)).into_response();
        let hint = self.hint.map(|hint| match hint {
            Hint::Token => (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            Hint::RetryAfter(seconds) => (RETRY_AFTER, seconds.into()),
        });
        response.headers_mut().extend(hint);
        response
    }
}
