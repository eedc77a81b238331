//! The Linux Virtual Server: what the kernel balances, how much of it, and what changes.
//!
//! Read over netlink, else from `/proc/net/ip_vs`, or from `ipvsadm` where that is asked for; a host without IPVS gives
//! an empty snapshot that says so, and nothing is asked that would make the kernel load it. Rates are by our own clock
//! over the kernel's exact counters; counters that began anew have none, once. A change that takes something away is
//! believed after a second look, since the kernel's dump of a table in motion may leave something out.
//!
//! | topic | severity | key | when |
//! |---|---|---|---|
//! | `lvs.service.added` | notice | virtual server | it is new |
//! | `lvs.service.removed` | warning | virtual server | it is gone |
//! | `lvs.service.changed` | notice | virtual server | scheduler, flags, persistence |
//! | `lvs.service.down` | critical | virtual server | no real server with a weight above 0 is left |
//! | `lvs.service.up` | notice | virtual server | there is one again |
//! | `lvs.backend.added` | notice | virtual server/real server | it is new in its virtual server |
//! | `lvs.backend.removed` | warning | virtual server/real server | it is gone from it |
//! | `lvs.backend.weight` | info | virtual server/real server | another weight, not from or to 0 |
//! | `lvs.backend.drained` | warning | virtual server/real server | its weight is now 0: no new connections |
//! | `lvs.backend.restored` | notice | virtual server/real server | its weight is above 0 again |
//! | `lvs.backend.changed` | notice | virtual server/real server | forwarding, tunnel, thresholds |
//! | `lvs.backend.overloaded` | warning | virtual server/real server | it reached its upper threshold |
//! | `lvs.backend.relieved` | notice | virtual server/real server | it left the lower threshold again |
//! | `lvs.counters.reset` | notice | virtual server, or `lvs` | counters began anew (`ipvsadm -Z`, removed and made again) |
//! | `lvs.sync.changed` | notice | `lvs` | a sync daemon was started or stopped |
//! | `lvs.changes.dropped` | warning | `lvs` | more changes in one run than are told one by one |
//!
//! Fields of all that are about a virtual server: `virtual_server`, `family`, `protocol`, `virtual_address`,
//! `virtual_port` or `fwmark`; about a real server also `real_server`, `address`, `port`, `weight`,
//! `active_connections`, `inactive_connections`; else `address`, `port`, `scheduler`, `real_servers`,
//! `real_servers_up`.

mod changes;
mod command;
mod config;
mod ipvsadm;
mod memory;
mod proc;
mod read;
mod seen;
mod show;

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;

use std::time::Duration;

use muster_proto::packed::Packed;
use muster_proto::snapshot::host::PartError;
use muster_proto::snapshot::lvs::{LvsSnapshot, Totals, VirtualServer};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::Value;

use self::changes::Found;
use self::config::Config;
use self::memory::{Gone, Memory, Server};
use self::read::Reader;
use self::seen::{Knows, Seen};
use super::{
    Change, Collect, CollectContext, CollectError, Collected, ConfigError, SampleTime, Spec,
};
use crate::ipvs::Stats;

/// The row of the `lvs` collector.
pub const SPEC: Spec = Spec {
    name: NAME,
    summary: "virtual servers, real servers and their traffic (LVS/IPVS), and what changes, over netlink or from /proc",
    interval_default: Duration::from_secs(10),
    deadline_default: Duration::from_secs(8),
    sample: include_str!("sample.toml"),
    build: |context| Ok(Box::new(Lvs::new(context)?)),
};

const NAME: &str = "lvs";

/// Looks at a table that something vanished from, until two in a row agree.
const LOOKS_MAX: u32 = 4;

/// The collector.
pub struct Lvs {
    config: Config,
    reader: Reader,
    memory: Option<Memory>,
    gone: Gone,
    /// Length of the last snapshot in its packed form.
    packed_bytes: usize,
}

/// A look that was compared with the one before; its servers are in the collector's memory.
struct Judged {
    /// Without virtual servers.
    snapshot: LvsSnapshot,
    changes: Vec<Change>,
    knows: Knows,
    seconds: Option<f64>,
}

/// The virtual servers of a snapshot. Each is made when it is its turn, so that a packed snapshot never has all of them
/// in memory.
struct Listed<'a> {
    servers: &'a [Server],
    real_servers_max: usize,
    knows: Knows,
    seconds: Option<f64>,
}

impl Lvs {
    /// From its section.
    ///
    /// # Errors
    /// A section that it refuses.
    pub fn new(context: &CollectContext) -> Result<Self, ConfigError> {
        let config = Config::parse(&context.section)?;
        Ok(Self {
            reader: Reader::new(&context.roots, &config),
            config,
            memory: None,
            gone: Gone::new(),
            packed_bytes: 0,
        })
    }

    /// Looks once, typed.
    ///
    /// # Errors
    /// Where the kernel has IPVS and no source gives its table.
    pub fn sample(&mut self, now: SampleTime) -> Result<(LvsSnapshot, Vec<Change>), CollectError> {
        let judged = self.run(now)?;
        Ok(self.typed(judged))
    }

    fn typed(&self, mut judged: Judged) -> (LvsSnapshot, Vec<Change>) {
        let listed = self.listed(&judged).shown().collect();
        judged.snapshot.virtual_servers = listed;
        (judged.snapshot, judged.changes)
    }

    fn run(&mut self, now: SampleTime) -> Result<Judged, CollectError> {
        let mut snapshot = LvsSnapshot {
            at_ms: now.wall_ms,
            ..LvsSnapshot::default()
        };
        if !self.reader.is_present() {
            // A module that was unloaded took its virtual servers along, and one that comes brings them: both are
            // worth their events.
            return Ok(self.judge(snapshot, now, Seen::default(), Vec::new(), None));
        }
        let (mut seen, servers) = self.look().map_err(|what| CollectError::Nothing {
            collector: NAME,
            what,
        })?;
        let totals = self.reader.totals().unwrap_or_else(|error| {
            seen.notes.push(error);
            None
        });
        snapshot.present = true;
        snapshot.sysctls = self.reader.sysctls().collect();
        Ok(self.judge(snapshot, now, seen, servers, totals))
    }

    /// The table, sorted; a second time, and a third, where something vanished from it.
    fn look(&mut self) -> Result<(Seen, Vec<Server>), String> {
        let once = |reader: &mut Reader| {
            let mut seen = reader.look()?;
            let servers = memory::servers(std::mem::take(&mut seen.entries));
            Ok::<(Seen, Vec<Server>), String>((seen, servers))
        };
        let (mut seen, mut servers) = once(&mut self.reader)?;
        let before = self.memory.as_ref().map(|memory| &memory.servers);
        for _ in 1..LOOKS_MAX {
            if before.is_none_or(|before| !memory::is_missing(before, &servers)) {
                break;
            }
            let (again, others) = once(&mut self.reader)?;
            let same = memory::are_same(&servers, &others);
            (seen, servers) = (again, others);
            if same {
                break;
            }
        }
        Ok((seen, servers))
    }

    /// Fills the snapshot, finds what changed, and remembers.
    fn judge(
        &mut self,
        mut snapshot: LvsSnapshot,
        now: SampleTime,
        mut seen: Seen,
        mut servers: Vec<Server>,
        totals: Option<Stats>,
    ) -> Judged {
        let before = self.memory.take();
        let same_source = before
            .as_ref()
            .is_some_and(|before| before.source == seen.source);
        let mut found = Found::new(
            &mut self.gone,
            same_source,
            same_source && seen.knows.counters,
        );
        if let Some(before) = &before {
            found.compare(before, &mut servers);
        }
        let mut changes = found.changes;
        if let Some(before) = &before
            && same_source
        {
            changes.extend(sync_change(before, seen.daemons.as_deref()));
        }
        snapshot.interval_ms = before
            .as_ref()
            .map(|before| now.mono_ms.saturating_sub(before.mono_ms));
        let seconds = snapshot
            .interval_ms
            .filter(|ms| *ms > 0)
            .map(|ms| super::rate::lossy(ms) / 1000.0);
        describe(&mut snapshot, &mut seen);
        self.sum(&mut snapshot, &servers);
        let total_base = before.as_ref().and_then(|before| before.totals);
        snapshot.totals.traffic = totals.map(|totals| {
            let base = total_base.filter(|base| !memory::began_anew(base, &totals));
            let knows = Knows {
                estimates: true,
                ..seen.knows
            };
            show::traffic(&totals, base.as_ref(), seconds, knows)
        });
        self.memory = Some(Memory {
            mono_ms: now.mono_ms,
            source: seen.source,
            servers,
            daemons: seen.daemons,
            totals,
        });
        Judged {
            snapshot,
            changes,
            knows: seen.knows,
            seconds,
        }
    }

    /// Sums up everything, and says how much of it the bounds don't let through.
    fn sum(&self, snapshot: &mut LvsSnapshot, servers: &[Server]) {
        let listed = servers.len().min(self.config.virtual_servers_max);
        let mut room = self.config.real_servers_max;
        let mut hidden = servers.len() - listed;
        for (at, server) in servers.iter().enumerate() {
            add(&mut snapshot.totals, server);
            let shown = if at < listed {
                server.backends.len().min(room)
            } else {
                0
            };
            room -= shown;
            hidden += server.backends.len() - shown;
        }
        let hidden = u32::try_from(hidden).unwrap_or(u32::MAX);
        snapshot.skipped = snapshot.skipped.saturating_add(hidden);
    }

    /// What the bounds let through of the look that was just judged.
    fn listed(&self, judged: &Judged) -> Listed<'_> {
        let servers = self.memory.as_ref().map(|memory| &*memory.servers);
        let servers = servers.unwrap_or_default();
        let listed = servers.len().min(self.config.virtual_servers_max);
        Listed {
            servers: servers.get(..listed).unwrap_or_default(),
            real_servers_max: self.config.real_servers_max,
            knows: judged.knows,
            seconds: judged.seconds,
        }
    }
}

impl Collect for Lvs {
    fn collect(&mut self, now: SampleTime) -> Result<Collected, CollectError> {
        let judged = self.run(now)?;
        let snapshot = judged.snapshot.of(self.listed(&judged));
        let about = self.packed_bytes + self.packed_bytes / 16; // figures grow, and a little more is not used
        let packed = Packed::of_about(&snapshot, about).map_err(|source| CollectError::Encode {
            collector: NAME,
            source,
        })?;
        self.packed_bytes = packed.bytes().len();
        Ok(Collected {
            snapshot: packed,
            changes: judged.changes,
        })
    }
}

impl Listed<'_> {
    fn shown(&self) -> impl Iterator<Item = VirtualServer> + '_ {
        let mut room = self.real_servers_max;
        self.servers.iter().map(move |server| {
            let shown = show::virtual_server(server, self.knows, self.seconds, room);
            room -= shown.real_servers.len().min(room);
            shown
        })
    }
}

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.servers.len()))?;
        for shown in self.shown() {
            list.serialize_element(&shown)?;
        }
        list.end()
    }
}

/// What is known of the load balancer as a whole.
fn describe(snapshot: &mut LvsSnapshot, seen: &mut Seen) {
    snapshot.source = snapshot.present.then(|| seen.source.to_owned());
    snapshot.version = seen.info.map(show::version);
    snapshot.table_size = seen.info.map(|info| info.table_size);
    snapshot.timeouts = seen.timeouts.map(show::timeouts);
    snapshot.sync_daemons = seen
        .daemons
        .as_deref()
        .map(|daemons| daemons.iter().map(show::daemon).collect());
    snapshot.skipped = seen.skipped;
    let notes = std::mem::take(&mut seen.notes);
    snapshot.errors = notes.into_iter().map(table_error).collect();
}

fn add(totals: &mut Totals, server: &Server) {
    totals.virtual_servers += 1;
    totals.virtual_servers_down += u32::from(!server.is_up());
    let sums = server.sums();
    totals.real_servers += sums.real_servers;
    totals.real_servers_up += sums.up;
    totals.active_connections += sums.active_connections;
    totals.inactive_connections += sums.inactive_connections;
}

fn table_error(error: String) -> PartError {
    PartError {
        part: "table".to_owned(),
        error,
    }
}

fn sync_change(before: &Memory, after: Option<&[crate::ipvs::Daemon]>) -> Option<Change> {
    let (before, after) = (before.daemons.as_deref()?, after?);
    let shown = |daemons: &[crate::ipvs::Daemon]| {
        let shown: Vec<_> = daemons.iter().map(show::daemon).collect();
        serde_json::to_value(shown).unwrap_or(Value::Null)
    };
    (before != after).then(|| changes::sync_change(&shown(before), &shown(after)))
}
