//! `lvs.weight|drain|restore|connections`: a real server taken out of the kernel's load balancer and put back, and what
//! connections there are.
//!
//! A wish ([`plan`]) is refused as a whole where it would leave a virtual server without a real server of a weight above
//! 0. A weight that is set to 0 is remembered first ([`memory`]), so that `lvs.restore` gives it back whatever happened
//! in between. Data: `real_server`, `changed`, and `virtual_servers`, one row for each place that the real server has in
//! the table: `virtual_server`, `real_server`, `before`, `after`, `state` and where it matters a `note`. A host that does
//! not have the real server succeeds, and says `not_here`.

mod connections;
mod deed;
mod director;
mod drain;
mod memory;
mod name;
mod plan;
mod restore;
#[cfg(test)]
mod tests;
mod weight;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use muster_proto::action::NOT_HERE;
use muster_proto::job::{Args, Reason, ReasonCode};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use self::deed::{Fate, Refused, Row, listed};
use self::director::{Director, Kernel};
use self::memory::Memory;
use self::name::RealName;
use self::plan::Wish;
use super::{Action, ActionContext, Failure};

/// The load balancer of this host, and what is remembered of it. Clones share it.
#[derive(Clone)]
pub struct Lvs {
    proc: PathBuf,
    director: Arc<dyn Director>,
    memory: Memory,
    /// One job at a time reads and changes: two that each take another real server away must not both find one left.
    turn: Arc<Mutex<()>>,
}

pub(super) fn weight(context: &ActionContext) -> Box<dyn Action> {
    Box::new(weight::Weight(context.lvs.clone()))
}

pub(super) fn drain(context: &ActionContext) -> Box<dyn Action> {
    Box::new(drain::Drain(context.lvs.clone()))
}

pub(super) fn restore(context: &ActionContext) -> Box<dyn Action> {
    Box::new(restore::Restore(context.lvs.clone()))
}

pub(super) fn connections(context: &ActionContext) -> Box<dyn Action> {
    Box::new(connections::Connections {
        proc: context.lvs.proc.clone(),
    })
}

impl Lvs {
    /// The load balancer of the kernel whose `/proc` is at `proc`; former weights are remembered in the folder
    /// `state_dir`.
    #[must_use]
    pub fn new(proc: &Path, state_dir: &Path) -> Self {
        let kernel = Kernel {
            proc: proc.to_owned(),
        };
        Self::of(Arc::new(kernel), proc, state_dir)
    }

    fn of(director: Arc<dyn Director>, proc: &Path, state_dir: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            director,
            memory: Memory::at(state_dir),
            turn: Arc::default(),
        }
    }

    /// Carries a wish out, after those before it.
    async fn carry_out(
        &self,
        wish: Wish,
        dry_run: bool,
        stop: &CancellationToken,
    ) -> Result<Vec<Row>, Failure> {
        let turn = tokio::select! {
            turn = self.turn.clone().lock_owned() => turn,
            () = stop.cancelled() => return Err(Failure::new("ended before anything was changed")),
        };
        let lvs = self.clone();
        blocking(move || {
            let real = wish.real;
            let done = deed::carry_out(lvs.director.as_ref(), &lvs.memory, &wish, dry_run);
            // Held until the last write, even where nobody waits for it any more.
            drop(turn);
            done.map_err(|refused| refusal(&real, refused))
        })
        .await
    }
}

/// Runs what blocks beside the runtime's own thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::new(format!("it did not come to an end: {error}"))))
}

/// The argument called `name`; none where it is not given.
fn argument<T: FromStr>(args: &Args, name: &str) -> Result<Option<T>, Reason>
where
    T::Err: std::fmt::Display,
{
    let text = args.get(name).and_then(Value::as_str);
    text.map(|text| {
        text.parse()
            .map_err(|why| Reason::new(ReasonCode::BadArgument, format!("{name}: {why}")))
    })
    .transpose()
}

/// The wish that the arguments stand for.
fn wish(args: &Args, to: plan::To) -> Result<Wish, Reason> {
    let real = argument(args, "real_server")?.ok_or_else(|| {
        Reason::new(
            ReasonCode::BadArgument,
            "real_server: a real server is wanted",
        )
    })?;
    Ok(Wish {
        real,
        virtual_server: argument(args, "virtual_server")?,
        to,
        force: flag(args, "force"),
    })
}

fn flag(args: &Args, name: &str) -> bool {
    args.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn refusal(real: &RealName, refused: Refused) -> Failure {
    const NAMED: usize = 5;
    match refused {
        Refused::Fault(why) => Failure::new(why),
        Refused::Last(emptied, rows) => {
            let named: Vec<String> = emptied
                .iter()
                .take(NAMED)
                .map(ToString::to_string)
                .collect();
            let more = match emptied.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let why = format!(
                "without {real}, no real server with a weight above 0 would be left in {}{more}; nothing was changed; force=true does it all the same",
                named.join(", ")
            );
            Failure::of(ReasonCode::Unsafe, why).with(Value::Object(data(real, &rows, false)))
        }
    }
}

/// The answer: what became of each place.
fn data(real: &RealName, rows: &[Row], load: bool) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert("real_server".to_owned(), real.to_string().into());
    let changed = rows.iter().filter(|row| row.fate == Fate::Done).count();
    data.insert("changed".to_owned(), changed.into());
    if rows.is_empty() {
        data.insert(NOT_HERE.to_owned(), true.into());
        return data;
    }
    let (rows, left_out) = listed(rows.iter().map(|row| row.data(load)));
    data.insert("virtual_servers".to_owned(), rows.into());
    if left_out > 0 {
        data.insert("rows_left_out".to_owned(), json!(left_out));
    }
    data
}

/// Why the job failed, where any place is not as it should be.
fn trouble(rows: &[Row]) -> Option<Failure> {
    let bad: Vec<&Row> = rows.iter().filter(|row| row.fate.is_bad()).collect();
    let first = bad.first()?;
    let why = match &first.fate {
        Fate::Failed(why) => why,
        _ => "it would have been the last one by then",
    };
    Some(Failure::new(format!(
        "{} of {} places were not changed; {} in {}: {why}",
        bad.len(),
        rows.len(),
        first.change.real,
        first.change.virtual_server
    )))
}
