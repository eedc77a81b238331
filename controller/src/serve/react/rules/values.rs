//! Single values of the config of reactions: expressions, patterns, times, budgets.

use std::time::Duration;

use muster_proto::event::is_topic;
use muster_proto::target::Target;
use toml::Spanned;

use super::{Budget, Fault, SPAN_MAX};
use crate::dispatch::order::ms;

/// Most firings in a budget.
const BUDGET_MAX: usize = 100_000;

/// A target expression over an event's fields.
pub(crate) fn expression(what: &str, text: Spanned<String>) -> Result<Target, Fault> {
    let at = text.span().start;
    Target::parse(text.get_ref()).map_err(|error| {
        // One byte for the quote before it.
        let why = format!("{what}: character {}: {}", error.character, error.message);
        Fault::new(at + 1 + error.at, why)
    })
}

/// Patterns of topics.
pub(super) fn patterns(raw: Vec<Spanned<String>>) -> Result<Vec<String>, Fault> {
    raw.into_iter()
        .map(|pattern| {
            let at = pattern.span().start;
            let pattern = pattern.into_inner();
            let plain = |word: &str| word == "*" || word == "#" || is_topic(word);
            if pattern.split('.').all(plain) {
                Ok(pattern)
            } else {
                Err(Fault::new(
                    at,
                    format!("{pattern:?} is no topic: words parted by dots, `*` for one and `#` for any number"),
                ))
            }
        })
        .collect()
}

/// A time in milliseconds.
pub(crate) fn time(
    text: Option<Spanned<String>>,
    default: Duration,
    max: Duration,
) -> Result<u64, Fault> {
    let Some(text) = text else {
        return Ok(ms(default));
    };
    let wrong = || {
        let why = format!(
            "expected a time such as \"30s\" or \"5m\", at most {} s, found {:?}",
            max.as_secs(),
            text.get_ref()
        );
        Fault::new(text.span().start, why)
    };
    let span = crate::cmd::span(text.get_ref()).map_err(|_| wrong())?;
    if span > max {
        return Err(wrong());
    }
    Ok(ms(span))
}

/// `"30/10m"`.
pub(super) fn budget(
    text: Option<Spanned<String>>,
    default: (usize, u64),
) -> Result<Budget, Fault> {
    let Some(text) = text else {
        return Ok(Budget {
            count: default.0,
            span_ms: default.1 * 1000,
        });
    };
    let parsed = || {
        let (count, span) = text.get_ref().split_once('/')?;
        let count = count.trim().parse().ok()?;
        let span = crate::cmd::span(span.trim()).ok()?;
        let good = (1..=BUDGET_MAX).contains(&count) && !span.is_zero() && span <= SPAN_MAX;
        good.then_some(Budget {
            count,
            span_ms: ms(span),
        })
    };
    parsed().ok_or_else(|| {
        let why = format!(
            "expected so many in so long, such as \"30/10m\" (at most a day), found {:?}",
            text.get_ref()
        );
        Fault::new(text.span().start, why)
    })
}
