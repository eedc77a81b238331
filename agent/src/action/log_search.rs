//! `log.search`: lines of the host's logs that match a pattern, newest kept:
//! `{"files": n, "bytes": n, "matched": n, "left_out": n, "cut": "…"|null, "found": [{"file", "offset", "line_number",
//! "line", "context"}], "skipped": [{"file", "why"}]}`.
//!
//! It only reads, only files that the config names, never through a link, and no more than its bounds.

mod files;
mod scan;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use muster_proto::job::{Args, Reason, ReasonCode};
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::files::{Allowed, Logs};
use self::scan::{Bounds, Scan, Search};
use super::{Action, ActionContext, Call, Failure};

pub use self::files::LogGlobs;

/// Bytes that one job reads at the most: about as much as a second's reading.
const SCAN_BYTES_MAX: u64 = 2 << 30;

/// Bytes of lines in a result at the most; encoded they stay well within a result of 1 MiB.
const OUTPUT_BYTES_MAX: usize = 192 * 1024;

/// Lines in a result unless the job says otherwise.
const LINES_DEFAULT: usize = 100;

/// How much of its time a search leaves for its answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);

const PATTERN_COMPILED_BYTES_MAX: usize = 4 << 20;

struct LogSearch(Arc<LogGlobs>);

pub(super) fn build(context: &ActionContext) -> Box<dyn Action> {
    Box::new(LogSearch(Arc::new(context.logs.clone())))
}

impl Action for LogSearch {
    fn admit(&self, args: &Args) -> Result<(), Reason> {
        if self.0.is_empty() {
            let what = "this host lets no logs be searched; its config names them in [logs] search";
            return Err(Reason::new(ReasonCode::PolicyDenied, what));
        }
        request(args).map_err(|failure| failure.reason)?;
        Ok(())
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(self.search(call))
    }
}

impl LogSearch {
    async fn search(&self, call: Call) -> Result<Value, Failure> {
        let request = request(&call.args)?;
        let (globs, stop) = (self.0.clone(), call.stop.clone());
        let until = Instant::now() + call.run_limit.saturating_sub(ANSWER_TIME);
        // It looks at `stop` with every block, and so ends soon after it was told to.
        let search = tokio::task::spawn_blocking(move || request.carry_out(&globs, &stop, until));
        search
            .await
            .map_err(|error| Failure::new(format!("the search was lost: {error}")))?
    }
}

/// What is to be searched for.
struct Request {
    block: Regex,
    line: Regex,
    path: Option<String>,
    since: Option<Duration>,
    lines_max: usize,
    context: usize,
}

fn request(args: &Args) -> Result<Request, Failure> {
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let number = |name: &str, default: usize| {
        let number = args.get(name).and_then(Value::as_u64);
        number.map_or(default, |number| usize::try_from(number).unwrap_or(default))
    };
    let bad = |what: String| Failure::of(ReasonCode::BadArgument, what);
    let pattern = text("pattern").unwrap_or_default();
    if pattern.is_empty() {
        return Err(bad(
            "pattern: it is empty and would match every line".to_owned()
        ));
    }
    let ignore_case = args
        .get("ignore_case")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let compile = |multi_line: bool| {
        RegexBuilder::new(pattern)
            .unicode(false)
            .case_insensitive(ignore_case)
            .multi_line(multi_line)
            .size_limit(PATTERN_COMPILED_BYTES_MAX)
            .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| {
                let said = error.to_string();
                let said = said.lines().last().unwrap_or_default().trim();
                bad(format!("pattern: not a regex: {said}"))
            })
    };
    let path = text("path").filter(|path| !path.is_empty());
    if path.is_some_and(|path| path.split('/').any(|part| part == "..")) {
        return Err(bad("path: a path without .. is wanted".to_owned()));
    }
    let since = text("since").filter(|since| !since.is_empty());
    let since = since.map(|since| {
        let span = since
            .parse::<SignedDuration>()
            .ok()
            .and_then(|span| Duration::try_from(span).ok());
        span.ok_or_else(|| {
            bad(format!(
                "since: expected a time such as \"1h\", found {since:?}"
            ))
        })
    });
    Ok(Request {
        block: compile(true)?,
        line: compile(false)?,
        path: path.map(str::to_owned),
        since: since.transpose()?,
        lines_max: number("lines", LINES_DEFAULT),
        context: number("context", 0),
    })
}

impl Request {
    fn carry_out(
        &self,
        globs: &LogGlobs,
        stop: &CancellationToken,
        until: Instant,
    ) -> Result<Value, Failure> {
        let Logs { files, mut skipped } = globs.find();
        let newer_than = self
            .since
            .and_then(|since| SystemTime::now().checked_sub(since));
        let mut files: Vec<Allowed> = files
            .into_iter()
            .filter(|file| {
                self.path
                    .as_deref()
                    .is_none_or(|path| files::matches(path, &file.path))
            })
            .filter(|file| newer_than.is_none_or(|than| file.modified >= than))
            .collect();
        if files.is_empty() && self.since.is_none() {
            let allowed = globs.shown();
            let what = match &self.path {
                Some(path) => {
                    format!("no log here is allowed and called {path}; [logs] search has {allowed}")
                }
                None => format!("there is no log here; [logs] search has {allowed}"),
            };
            return Err(Failure::of(ReasonCode::BadArgument, what));
        }
        // The newest last: what must be left out is the oldest.
        files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        let ended = || stop.is_cancelled() || Instant::now() >= until;
        let mut scan = Scan::new(
            Search {
                block: &self.block,
                line: &self.line,
                context: self.context,
            },
            Bounds {
                lines: self.lines_max,
                output_bytes: OUTPUT_BYTES_MAX,
                scan_bytes: SCAN_BYTES_MAX,
            },
            &ended,
        );
        // From the newest on, so that what the bounds cut off is old.
        for file in files.iter_mut().rev() {
            if let Err(error) = scan.file(&file.path, &mut file.file) {
                skipped.push((file.path.clone(), error.to_string()));
            }
        }
        if stop.is_cancelled() {
            return Err(
                Failure::new("ended before all was searched").with(scan.into_data(&skipped))
            );
        }
        Ok(scan.into_data(&skipped))
    }
}

/// What could not be searched, for the result.
fn skipped_data(skipped: &[(String, String)]) -> Value {
    let one = |(file, why): &(String, String)| json!({ "file": file, "why": why });
    let all: Vec<Value> = skipped.iter().take(files::SKIPPED_MAX).map(one).collect();
    if all.is_empty() {
        Value::Null
    } else {
        all.into()
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
