//! A wish carried out: the thin effects around [`plan`]. Blocks; knows no job.
//!
//! The order is what makes it safe: the table is read and the whole wish refused or not; the weights are written down;
//! and each virtual server is read anew, and asked once more whether it keeps a real server, just before it is changed.
//! What others (keepalived, an operator) do meanwhile is told of that virtual server, and stops none of the others.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::director::{Director, Fault, Table};
use super::memory::Memory;
use super::plan::{Change, Former, LastOne, To, VirtualServer, Wish, plan};
use crate::ipvs::ServiceKey;

/// Most rows that an answer lists; it has to fit a message. The counts beside them are of all.
const ROWS_MAX: usize = 1_000;

/// What became of one place of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its weight was set.
    Done,
    /// Its weight would be set, in a dry run.
    Would,
    /// It has the weight already.
    AsItWas,
    /// No weight is remembered of it.
    NotRemembered,
    /// It was taken out of the table meanwhile.
    Gone,
    /// It would have been the last one by the time its turn came.
    Last,
    /// It could not be changed.
    Failed(String),
}

/// A place of the table and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) change: Change,
    pub(super) fate: Fate,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// It would take the last real server away; with all that the wish was about.
    Last(Vec<ServiceKey>, Vec<Row>),
    /// The table or the memory could not be used.
    Fault(String),
}

impl Fate {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Would => "would-change",
            Self::AsItWas => "unchanged",
            Self::NotRemembered => "not-remembered",
            Self::Gone => "gone",
            Self::Last => "refused-last",
            Self::Failed(_) => "failed",
        }
    }

    fn note(&self) -> Option<&str> {
        match self {
            Self::NotRemembered => Some("its weight stays 0: no former one is known here"),
            Self::Gone => Some("not in the table any more: keepalived or somebody took it out"),
            Self::Last => Some("it is the last one there with a weight above 0"),
            Self::Failed(why) => Some(why),
            _ => None,
        }
    }

    /// Whether it is not as the wish wants it.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Last)
    }
}

impl Row {
    /// For the answer; with the connections where they matter.
    pub(super) fn data(&self, load: bool) -> Map<String, Value> {
        let change = &self.change;
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("virtual_server", change.virtual_server.to_string().into());
        put("real_server", change.real.to_string().into());
        put("before", change.before.into());
        put("after", json!(change.after));
        put("state", self.fate.name().into());
        if load {
            put("active", change.load.active.into());
            put("inactive", change.load.inactive.into());
            put("persistent", change.load.persistent.into());
        }
        if let Some(note) = self.fate.note() {
            put("note", note.into());
        }
        fields
    }
}

/// Rows for an answer, bounded, and how many were left out.
pub(super) fn listed(rows: impl Iterator<Item = Map<String, Value>>) -> (Vec<Value>, usize) {
    let mut rows = rows.map(Value::Object);
    let listed: Vec<Value> = rows.by_ref().take(ROWS_MAX).collect();
    (listed, rows.count())
}

/// Carries `wish` out, or says what would be done. No rows where the table has nothing that it is about.
pub(super) fn carry_out(
    director: &dyn Director,
    memory: &Memory,
    wish: &Wish,
    dry_run: bool,
) -> Result<Vec<Row>, Refused> {
    let mut table = match director.open() {
        Ok(table) => table,
        Err(Fault::Absent) => return Ok(Vec::new()),
        Err(fault) => return Err(Refused::of(fault)),
    };
    let servers = table.all().map_err(Refused::of)?;
    let planned =
        plan(&servers, wish).map_err(|LastOne(emptied)| refused(&servers, wish, emptied))?;
    if dry_run {
        return Ok(planned.iter().map(would).collect());
    }
    memory
        .remember(&taken_out(&planned))
        .map_err(|why| Refused::Fault(format!("{why}; nothing was changed")))?;
    let mut work = Work {
        table: table.as_mut(),
        memory,
        wish,
    };
    let affected: Vec<ServiceKey> = planned.iter().map(|change| change.virtual_server).collect();
    let affected: BTreeSet<ServiceKey> = affected.into_iter().collect();
    let mut rows = Vec::with_capacity(planned.len());
    for key in affected {
        let own = planned.iter().filter(|change| change.virtual_server == key);
        work.virtual_server(key, &own.copied().collect::<Vec<_>>(), &mut rows);
    }
    // A weight that is above 0 again needs no memory, whoever set it.
    let back: Former = rows
        .iter()
        .filter(|row| match row.fate {
            Fate::Done => row.change.after.is_some_and(|after| after > 0),
            Fate::AsItWas => row.change.before > 0,
            Fate::Gone => matches!(wish.to, To::Former(_)),
            _ => false,
        })
        .map(|row| (row.change.key(), 0))
        .collect();
    if let Err(why) = memory.forget(&back) {
        tracing::warn!(why, "weights that were given back are still remembered");
    }
    Ok(rows)
}

impl Refused {
    fn of(fault: Fault) -> Self {
        Self::Fault(match fault {
            Fault::Absent => "this kernel has no IPVS any more".to_owned(),
            Fault::Gone => "the table changed while it was read".to_owned(),
            Fault::Other(why) => why,
        })
    }
}

fn refused(servers: &[VirtualServer], wish: &Wish, emptied: Vec<ServiceKey>) -> Refused {
    let all = Wish {
        force: true,
        ..wish.clone()
    };
    let changes = plan(servers, &all).unwrap_or_default();
    let rows = changes.iter().map(|change| {
        let last = emptied.contains(&change.virtual_server) && change.to_set().is_some();
        Row {
            change: *change,
            fate: if last { Fate::Last } else { Fate::AsItWas },
        }
    });
    let rows = rows.collect();
    Refused::Last(emptied, rows)
}

fn would(change: &Change) -> Row {
    let fate = match (change.after, change.to_set()) {
        (None, _) => Fate::NotRemembered,
        (_, Some(_)) => Fate::Would,
        (_, None) => Fate::AsItWas,
    };
    Row {
        change: *change,
        fate,
    }
}

/// The weights that go to 0.
fn taken_out(changes: &[Change]) -> Former {
    changes
        .iter()
        .filter(|change| change.before > 0 && change.after == Some(0))
        .map(|change| (change.key(), change.before))
        .collect()
}

struct Work<'a> {
    table: &'a mut dyn Table,
    memory: &'a Memory,
    wish: &'a Wish,
}

impl Work<'_> {
    /// Changes one virtual server, of which `planned` was known before.
    fn virtual_server(&mut self, key: ServiceKey, planned: &[Change], rows: &mut Vec<Row>) {
        let all = |fate: &Fate| {
            planned
                .iter()
                .map(|change| row(change, fate.clone()))
                .collect()
        };
        let now = match self.table.one(&key) {
            Ok(Some(now)) => now,
            Ok(None) => return rows.extend::<Vec<Row>>(all(&Fate::Gone)),
            Err(fault) => return rows.extend::<Vec<Row>>(all(&failed(fault))),
        };
        let Ok(changes) = plan(&[now], self.wish) else {
            return rows.extend::<Vec<Row>>(all(&Fate::Last));
        };
        let gone = planned
            .iter()
            .filter(|known| changes.iter().all(|change| change.key() != known.key()));
        rows.extend(gone.map(|change| row(change, Fate::Gone)));
        let mut newer = taken_out(&changes);
        for known in planned {
            if newer.get(&known.key()) == Some(&known.before) {
                newer.remove(&known.key());
            }
        }
        if let Err(why) = self.memory.remember(&newer) {
            return rows.extend::<Vec<Row>>(all(&Fate::Failed(why)));
        }
        for change in changes {
            let fate = self.set(&change);
            rows.push(row(&change, fate));
        }
    }

    fn set(&mut self, change: &Change) -> Fate {
        if change.after.is_none() {
            return Fate::NotRemembered;
        }
        let Some(weight) = change.to_set() else {
            return Fate::AsItWas;
        };
        match self
            .table
            .set_weight(&change.virtual_server, &change.real, weight)
        {
            Ok(()) => Fate::Done,
            Err(fault) => failed(fault),
        }
    }
}

fn row(change: &Change, fate: Fate) -> Row {
    Row {
        change: *change,
        fate,
    }
}

fn failed(fault: Fault) -> Fate {
    match fault {
        Fault::Gone => Fate::Gone,
        Fault::Absent => Fate::Failed("this kernel has no IPVS any more".to_owned()),
        Fault::Other(why) => Fate::Failed(why),
    }
}
