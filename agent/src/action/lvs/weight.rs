//! `lvs.weight`: a real server's weight, in one or all virtual servers. To 0, the former weight is remembered.

use futures_util::future::BoxFuture;
use muster_proto::job::{Args, Reason};
use serde_json::Value;

use super::plan::To;
use super::{Lvs, data, trouble, wish};
use crate::action::{Action, Call, Failure};

pub(super) struct Weight(pub(super) Lvs);

impl Action for Weight {
    fn admit(&self, args: &Args) -> Result<(), Reason> {
        wish(args, To::Weight(0)).map(drop)
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(async move {
            let weight = call.args.get("weight").and_then(Value::as_u64);
            let weight = weight.and_then(|weight| u32::try_from(weight).ok());
            let wish = wish(&call.args, To::Weight(weight.unwrap_or(0)))?;
            let real = wish.real;
            let rows = self.0.carry_out(wish, call.dry_run, &call.stop).await?;
            let data = Value::Object(data(&real, &rows, false));
            match trouble(&rows) {
                Some(failure) => Err(failure.with(data)),
                None => Ok(data),
            }
        })
    }
}
