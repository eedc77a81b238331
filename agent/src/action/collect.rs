//! `collect`: runs collectors now: `{"snapshots": {"<collector>": {…}}, "errors": {"<collector>": "…"}}`.
//!
//! It succeeds if at least one of the wanted collectors gave a snapshot.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use muster_proto::job::ReasonCode;
use serde_json::{Value, json};

use super::{Action, ActionContext, Call, Failure, SnapshotSource};

struct Collect(Arc<dyn SnapshotSource>);

pub(super) fn build(context: &ActionContext) -> Box<dyn Action> {
    Box::new(Collect(context.snapshots.clone()))
}

impl Action for Collect {
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(self.collect(call))
    }
}

impl Collect {
    async fn collect(&self, call: Call) -> Result<Value, Failure> {
        let names = wanted(call.args.get("names"), &self.0.names())?;
        let got = tokio::select! {
            got = self.0.collect_now(names) => got,
            () = call.stop.cancelled() => return Err(Failure::new("ended before the collectors were done")),
        };
        let data = json!({ "snapshots": got.snapshots, "errors": got.errors });
        if got.snapshots.is_empty() && !got.errors.is_empty() {
            let first = got.errors.values().next().map_or("", String::as_str);
            return Err(Failure::new(format!("no collector gave a snapshot: {first}")).with(data));
        }
        Ok(data)
    }
}

/// The names in the argument, each once; all that there are where it is left out or empty.
fn wanted(arg: Option<&Value>, known: &[String]) -> Result<Vec<String>, Failure> {
    let items = arg
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if items.is_empty() {
        return Ok(known.to_vec());
    }
    let mut names: Vec<String> = Vec::new();
    for name in items.iter().filter_map(Value::as_str) {
        if !known.iter().any(|one| one == name) {
            let have = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            let message = format!("no such collector {name:?}; this host has {have}");
            return Err(Failure::of(ReasonCode::BadArgument, message));
        }
        if !names.iter().any(|one| one == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_against_what_the_host_has() {
        let known = ["host".to_owned(), "nginx".to_owned()];
        let ask =
            |value: Value| wanted(Some(&value), &known).map_err(|failure| failure.reason.message);
        assert_eq!(
            wanted(None, &known).map_err(|f| f.reason.message),
            Ok(known.to_vec())
        );
        assert_eq!(ask(json!(["nginx", "nginx"])), Ok(vec!["nginx".to_owned()]));
        assert_eq!(ask(json!([])), Ok(known.to_vec()));
        assert_eq!(
            ask(json!(["f5"])),
            Err("no such collector \"f5\"; this host has host, nginx".to_owned())
        );
    }
}
