//! `lvs.drain`: sets a real server's weight to 0 and waits until its connections are gone.
//!
//! It tells how many are left while it waits. It succeeds when none is left at two looks in a row, since a connection that
//! was being opened shows up late. It fails when the limit is over before, or when somebody gives the server a weight
//! again. Whatever ends the wait (limit, cancel, the agent's stop), the weight stays 0, because whoever asked for it may
//! have begun to work on the server: `lvs.restore` takes it back. A place that is taken out of the table meanwhile has
//! nothing left to wait for. Data: that of the others, and `state` (`drained`, `limit-over`, `ended`, `raised`,
//! `not-drained`), `active`, `inactive` and `persistent` left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_proto::job::{Args, OutputStream, Reason};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::deed::{Fate, Row};
use super::director::Fault;
use super::name::RealName;
use super::plan::{Load, To, VirtualServer};
use super::{Lvs, blocking, data, flag, trouble, wish};
use crate::action::{Action, Call, Failure};
use crate::ipvs::ServiceKey;

/// Time between two looks at the connections: the kernel counts them at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks in a row at which nothing may be left.
const QUIET_LOOKS: u32 = 2;

/// How often progress is told although nothing has changed.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long it waits unless the job says otherwise.
const LIMIT_DEFAULT: Duration = Duration::from_secs(600);

/// Before the job's run limit, so that it ends with its own words.
const BEFORE_RUN_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Drain(pub(super) Lvs);

impl Action for Drain {
    fn admit(&self, args: &Args) -> Result<(), Reason> {
        wish(args, To::Weight(0)).map(drop)
    }

    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>> {
        Box::pin(self.drain(call))
    }
}

/// What is waited for beside active connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waits {
    inactive: bool,
    persistent: bool,
}

/// How the wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Drained,
    LimitOver,
    Stopped,
    Raised,
}

/// A drain that waits.
struct Wait<'a> {
    lvs: &'a Lvs,
    call: &'a Call,
    waits: Waits,
    rows: Vec<Row>,
    started: Instant,
    told: Option<(String, Instant)>,
    unread: Option<String>,
}

impl Drain {
    async fn drain(&self, call: Call) -> Result<Value, Failure> {
        let wish = wish(&call.args, To::Weight(0))?;
        let real = wish.real;
        let rows = self.0.carry_out(wish, call.dry_run, &call.stop).await?;
        if call.dry_run || rows.is_empty() {
            return Ok(Value::Object(data(&real, &rows, true)));
        }
        if let Some(failure) = trouble(&rows) {
            let data = answer(&real, &rows, "not-drained");
            return Err(failure.with(Value::Object(data)));
        }
        let limit = call.args.get("limit_s").and_then(Value::as_u64);
        let limit = limit.map_or(LIMIT_DEFAULT, Duration::from_secs);
        let limit = limit.min(call.run_limit.saturating_sub(BEFORE_RUN_LIMIT));
        let mut wait = Wait {
            lvs: &self.0,
            call: &call,
            waits: Waits {
                inactive: flag(&call.args, "inactive"),
                persistent: flag(&call.args, "persistent"),
            },
            rows,
            started: Instant::now(),
            told: None,
            unread: None,
        };
        let end = wait.until(limit).await?;
        wait.outcome(&real, end, limit)
    }
}

impl Wait<'_> {
    async fn until(&mut self, limit: Duration) -> Result<End, Failure> {
        let mut quiet = 0;
        loop {
            match self.look().await? {
                Some(left) => {
                    self.tell(&words(left));
                    quiet = if self.waits.are_over(left) {
                        quiet + 1
                    } else {
                        0
                    };
                }
                None => quiet = 0,
            }
            if quiet >= QUIET_LOOKS {
                return Ok(End::Drained);
            }
            if self.rows.iter().any(|row| row.change.after != Some(0)) {
                return Ok(End::Raised);
            }
            let left = limit.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return Ok(End::LimitOver);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY.min(left)) => {}
                () = self.call.stop.cancelled() => return Ok(End::Stopped),
            }
        }
    }

    /// Reads the places anew; none where they could not be read this time.
    async fn look(&mut self) -> Result<Option<Load>, Failure> {
        let keys: BTreeSet<ServiceKey> = self
            .rows
            .iter()
            .filter(|row| row.fate != Fate::Gone)
            .map(|row| row.change.virtual_server)
            .collect();
        let director = self.lvs.director.clone();
        let read = blocking(move || {
            let read = director.open().and_then(|mut table| {
                let read = keys.into_iter().map(|key| Ok((key, table.one(&key)?)));
                read.collect::<Result<BTreeMap<_, _>, Fault>>()
            });
            Ok(read)
        });
        match read.await? {
            Ok(now) => {
                self.unread = None;
                Ok(Some(seen(&mut self.rows, &now)))
            }
            // Without IPVS there are no connections through it.
            Err(Fault::Absent) => Ok(Some(seen(&mut self.rows, &BTreeMap::new()))),
            Err(fault) => {
                let why = match fault {
                    Fault::Other(why) => why,
                    _ => "the table changed while it was read".to_owned(),
                };
                self.tell(&format!("the connections could not be counted: {why}"));
                self.unread = Some(why);
                Ok(None)
            }
        }
    }

    /// Writes a line of progress, where it says something new or nothing was said for a while.
    fn tell(&mut self, words: &str) {
        let now = Instant::now();
        let told = self
            .told
            .as_ref()
            .is_some_and(|(last, at)| last == words && now - *at < TELL_EVERY);
        if !told {
            self.call
                .output
                .write(OutputStream::Stdout, format!("{words}\n").as_bytes());
            self.told = Some((words.to_owned(), now));
        }
    }

    fn outcome(self, real: &RealName, end: End, limit: Duration) -> Result<Value, Failure> {
        let left = words(total(&self.rows));
        let (state, failure) = match end {
            End::Drained => ("drained", None),
            End::LimitOver => {
                let unread = self.unread.as_ref().map_or(String::new(), |why| {
                    format!("; the last look failed: {why}")
                });
                let why = format!(
                    "not drained within {} s: {left}{unread}; its weight stays 0, lvs.restore takes that back",
                    limit.as_secs()
                );
                ("limit-over", Some(why))
            }
            End::Stopped => {
                let why = format!(
                    "ended while it waited: {left}; the weight stays 0, lvs.restore takes that back"
                );
                ("ended", Some(why))
            }
            End::Raised => {
                let raised = self.rows.iter().find(|row| row.change.after != Some(0));
                let place = raised.map_or(String::new(), |row| {
                    let weight = row.change.after.unwrap_or_default();
                    format!("{weight} in {}", row.change.virtual_server)
                });
                let why = format!(
                    "somebody gave {real} a weight again while it was drained: {place}; {left}"
                );
                ("raised", Some(why))
            }
        };
        let mut data = answer(real, &self.rows, state);
        let took = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        data.insert("duration_ms".to_owned(), took.into());
        let stays = "the weight stays 0; lvs.restore takes that back";
        if matches!(end, End::Stopped | End::LimitOver) {
            data.insert("note".to_owned(), stays.into());
        } else if total(&self.rows).persistent > 0 && !self.clients_are_sent_away() {
            let note = "persistent clients may still open connections, until their time is over: net.ipv4.vs.expire_quiescent_template is 0";
            data.insert("note".to_owned(), note.into());
        }
        match failure {
            None => Ok(Value::Object(data)),
            Some(why) => Err(Failure::new(why).with(Value::Object(data))),
        }
    }

    /// Whether the kernel gives persistent clients of a server of weight 0 another one.
    fn clients_are_sent_away(&self) -> bool {
        let path = "sys/net/ipv4/vs/expire_quiescent_template";
        let value = std::fs::read_to_string(self.lvs.proc.join(path));
        value.is_ok_and(|value| value.trim() != "0")
    }
}

impl Waits {
    fn are_over(self, left: Load) -> bool {
        left.active == 0
            && (!self.inactive || left.inactive == 0)
            && (!self.persistent || left.persistent == 0)
    }
}

/// Takes over what the table has now: connections, weights, and what is gone. Gives what is left in all.
fn seen(rows: &mut [Row], now: &BTreeMap<ServiceKey, Option<VirtualServer>>) -> Load {
    for row in rows.iter_mut().filter(|row| row.fate != Fate::Gone) {
        let server = now.get(&row.change.virtual_server).and_then(Option::as_ref);
        let real = server.and_then(|server| {
            let mut reals = server.reals.iter();
            reals.find(|real| real.key == row.change.real)
        });
        match real {
            Some(real) => {
                row.change.load = real.load;
                row.change.after = Some(real.weight);
            }
            None => {
                row.change.load = Load::default();
                row.fate = Fate::Gone;
            }
        }
    }
    total(rows)
}

fn total(rows: &[Row]) -> Load {
    rows.iter().fold(Load::default(), |sum, row| Load {
        active: sum.active + row.change.load.active,
        inactive: sum.inactive + row.change.load.inactive,
        persistent: sum.persistent + row.change.load.persistent,
    })
}

fn words(left: Load) -> String {
    format!(
        "{} active, {} inactive connections and {} persistent clients left",
        left.active, left.inactive, left.persistent
    )
}

fn answer(real: &RealName, rows: &[Row], state: &str) -> Map<String, Value> {
    let mut data = data(real, rows, true);
    let left = total(rows);
    data.insert("state".to_owned(), state.into());
    data.insert("active".to_owned(), left.active.into());
    data.insert("inactive".to_owned(), left.inactive.into());
    data.insert("persistent".to_owned(), left.persistent.into());
    data
}
