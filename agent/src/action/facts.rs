//! `facts`: labels, facts and version of the host: `{"labels": {}, "facts": {}, "version": "…"}`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Action, ActionContext, Call, Failure, HostFacts};

struct Facts(watch::Receiver<Arc<HostFacts>>);

pub(super) fn build(context: &ActionContext) -> Box<dyn Action> {
    Box::new(Facts(context.facts.clone()))
}

impl Action for Facts {
    fn run(&self, _: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async {
            let facts = self.0.borrow().clone();
            Ok(json!({ "labels": facts.labels, "facts": facts.facts, "version": facts.version }))
        })
    }
}
