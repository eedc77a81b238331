//! `lvs.restore`: gives a real server back the weights that it had before `lvs.drain` or `lvs.weight` set them to 0, or
//! a weight that is named.
//!
//! A weight that somebody else has set since is left alone, being newer than what is remembered. What is remembered of a
//! real server that is no longer in the table is forgotten: whoever adds it again brings a weight along.

use futures_util::future::BoxFuture;
use muster_proto::job::{Args, Reason};
use serde_json::Value;

use super::deed::{Fate, Row};
use super::plan::{Former, To, Wish};
use super::{Lvs, blocking, data, trouble, wish};
use crate::action::{Action, Call, Failure};

pub(super) struct Restore(pub(super) Lvs);

impl Action for Restore {
    fn admit(&self, args: &Args) -> Result<(), Reason> {
        wish(args, To::Weight(1)).map(drop)
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(self.restore(call))
    }
}

impl Restore {
    async fn restore(&self, call: Call) -> Result<Value, Failure> {
        let weight = call.args.get("weight").and_then(Value::as_u64);
        let memory = self.0.memory.clone();
        let former = blocking(move || memory.read().map_err(Failure::new)).await?;
        let to = match weight.and_then(|weight| u32::try_from(weight).ok()) {
            Some(weight) => To::Weight(weight),
            None => To::Former(former.clone()),
        };
        let wish = wish(&call.args, to)?;
        let rows = self
            .0
            .carry_out(wish.clone(), call.dry_run, &call.stop)
            .await?;
        let mut data = data(&wish.real, &rows, false);
        let stale = stale(&former, &wish, &rows);
        if !stale.is_empty() {
            data.insert("forgotten".to_owned(), stale.len().into());
            if !call.dry_run {
                let memory = self.0.memory.clone();
                blocking(move || memory.forget(&stale).map_err(Failure::new)).await?;
            }
        }
        let data = Value::Object(data);
        match trouble(&rows).or_else(|| nothing_known(&wish, &rows)) {
            Some(failure) => Err(failure.with(data)),
            None => Ok(data),
        }
    }
}

/// What is remembered of places that are not in the table any more.
fn stale(former: &Former, wish: &Wish, rows: &[Row]) -> Former {
    former
        .iter()
        .filter(|((service, real), _)| {
            wish.real.means(real)
                && wish.virtual_server.is_none_or(|name| name.means(service))
                && rows.iter().all(|row| row.change.key() != (*service, *real))
        })
        .map(|(key, weight)| (*key, *weight))
        .collect()
}

/// A failure where every place has weight 0 and of none it is known what it had: then nothing was restored.
fn nothing_known(wish: &Wish, rows: &[Row]) -> Option<Failure> {
    let unknown = !rows.is_empty() && rows.iter().all(|row| row.fate == Fate::NotRemembered);
    unknown.then(|| {
        Failure::new(format!(
            "no former weight of {} is remembered on this host, and its weight is 0; weight=N sets one",
            wish.real
        ))
    })
}
