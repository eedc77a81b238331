//! What every request passes first: bounds, the token, and a limit to how long it may take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State as Shared};
use axum::http::Uri;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::refusal::Refusal;

/// Longest address; names of interfaces and tokens are short.
const URI_BYTES_MAX: usize = 2 << 10;

/// No answer takes longer: one second of sampling, four filesystems that hang, a collector at its deadline.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Bounds of a token. The lower one is what can't be guessed.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;

/// The word that whoever asks must know; kept as its hash.
#[derive(Debug, Clone)]
pub(crate) struct Token([u8; 32]);

/// A token that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The file can't be read.
    #[error("read the token {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no word of a fit length.
    #[error(
        "the token in {path} is not usable: one word of 16 to 1024 visible characters is wanted; `openssl rand -hex \
         32` makes one"
    )]
    Unfit {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// Reads the file, which holds the token alone; blanks around it don't count.
    pub(crate) fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path).map_err(|source| TokenError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).ok_or_else(|| TokenError::Unfit {
            path: path.to_owned(),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let word = text.trim();
        let fits =
            TOKEN_BYTES.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(Sha256::digest(word).into()))
    }

    /// Whether `word` is it, in a time that does not tell how much of it is right.
    fn is(&self, word: &str) -> bool {
        let other: [u8; 32] = Sha256::digest(word).into();
        let differ = self
            .0
            .iter()
            .zip(other)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        differ == 0
    }

    /// Looks for the token in a request. In an address it may stand under the forerunner's paths alone, whose callers
    /// may not be able to send a header: addresses end in logs.
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let header = request.headers().get(AUTHORIZATION);
        let bearer = header
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, word)| word.trim().to_owned());
        let sent = bearer.or_else(|| in_address(request.uri()));
        match sent {
            Some(word) if self.is(&word) => Ok(()),
            Some(_) => Err(Refusal::no_token(
                "this is not the token of this host's agent",
            )),
            None => Err(Refusal::no_token(
                "a token is wanted: send it as \"Authorization: Bearer TOKEN\"; for /node/ also as ?token=TOKEN",
            )),
        }
    }
}

fn in_address(uri: &Uri) -> Option<String> {
    let old = uri.path() == "/" || uri.path().starts_with("/node/");
    let Query(mut all) = Query::<BTreeMap<String, String>>::try_from_uri(uri).ok()?;
    all.remove("token").filter(|_| old)
}

/// Lets a request through to `next`, or answers it.
pub(super) async fn pass(
    Shared(token): Shared<Option<Arc<Token>>>,
    request: Request,
    next: Next,
) -> Response {
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > URI_BYTES_MAX {
        return Refusal::too_long(URI_BYTES_MAX).into_response();
    }
    // Whether the agent lives is no secret, and those who ask know no secrets.
    if let Some(token) = token.filter(|_| uri.path() != "/healthz")
        && let Err(refusal) = token.check(&request)
    {
        return refusal.into_response();
    }
    match timeout(ANSWER_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Refusal::unavailable(format!("no answer within {ANSWER_LIMIT:?}")).into_response()
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;

    use super::*;

    const WORD: &str = "0123456789abcdef+/=";

    fn asked(uri: &str, header: Option<&str>) -> Option<StatusCode> {
        let mut request = Request::builder().uri(uri);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        let request = request.body(Body::empty()).unwrap();
        let refused = Token::parse(WORD).unwrap().check(&request).err()?;
        Some(refused.into_response().status())
    }

    #[test]
    fn the_token_is_found_where_it_may_stand() {
        let no = Some(StatusCode::UNAUTHORIZED);
        let good = format!("Bearer {WORD}");
        let coded = WORD.replace('+', "%2B");
        assert_eq!(asked("/metrics", Some(&good)), None);
        assert_eq!(asked("/metrics", Some(&format!("bearer  {WORD} "))), None);
        assert_eq!(asked(&format!("/node/dist?token={coded}"), None), None);
        assert_eq!(asked(&format!("/?a=b&token={coded}"), None), None);
        assert_eq!(asked("/metrics", None), no);
        assert_eq!(asked("/metrics", Some(WORD)), no);
        assert_eq!(asked("/metrics", Some(&format!("Basic {WORD}"))), no);
        assert_eq!(asked("/metrics", Some(&format!("{good}x"))), no);
        assert_eq!(asked(&format!("/metrics?token={coded}"), None), no);
        assert_eq!(asked("/node/dist?token=", None), no);
        assert_eq!(asked("/node/dist?token=%ff%fe", None), no);
    }

    #[test]
    fn what_can_be_guessed_or_is_no_word_is_no_token() {
        for text in [
            "",
            " \n",
            "short",
            "two words of some length",
            &"x".repeat(1025),
        ] {
            assert!(Token::parse(text).is_none(), "{text:?}");
        }
        assert!(Token::parse(&format!("  {WORD}\n")).unwrap().is(WORD));
    }
}
