//! The services that systemd manages on this host: what happens to them by its signals, what they use from their control
//! groups. Nothing is asked as time goes by. Without anything to watch it is not scheduled; without a bus it says so
//! and tries again by itself.

mod config;
mod facts;
mod inbox;
mod listener;
mod session;
mod track;
mod usage;
mod wire;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_proto::event::Severity;
use muster_proto::snapshot::services::{Manager, ServicesSnapshot, Usage};
use serde_json::{Value, json};

use self::config::Config;
use self::inbox::{Counts, News};
use self::listener::Listener;
use self::track::Track;
use self::usage::Hierarchy;
use super::files::Files;
use super::rate::Seen;
use super::{
    Change, Collect, CollectContext, CollectError, Collected, ConfigError, HostRoots, SampleTime,
    Spec, Wake,
};

/// The row of the `services` collector.
pub const SPEC: Spec = Spec {
    name: NAME,
    summary: "units of systemd: states and failures by its signals, use of memory, processor, tasks and sockets",
    interval_default: Duration::from_secs(30),
    deadline_default: Duration::from_secs(5),
    sample: include_str!("sample.toml"),
    build: |context| Ok(Box::new(Services::new(context)?)),
};

const NAME: &str = "services";

/// How long the first run waits for the first reading, so that what is asked for right after the start is there.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Open files that are looked at in one run, about a tenth of a second of work.
const FILES_MAX: usize = 50_000;

/// The collector.
struct Services {
    config: Config,
    roots: HostRoots,
    wake: Wake,
    files: Files,
    listener: Option<Listener>,
    /// Whether everything was read once: only what happens after that is news.
    whole: bool,
    units: BTreeMap<String, Track>,
    manager: Manager,
    /// Whether it was told that nobody can see the services.
    lost: bool,
    counted: BTreeMap<String, Before>,
    mono_ms: Option<u64>,
}

/// A unit's counts at the run before, and the activation that they belong to.
struct Before {
    active_since_mono_us: u64,
    seen: Seen<usage::Counts>,
}

impl Services {
    fn new(context: &CollectContext) -> Result<Self, ConfigError> {
        Ok(Self {
            config: Config::parse(&context.section)?,
            roots: context.roots.clone(),
            wake: context.wake.clone(),
            files: Files::default(),
            listener: None,
            whole: false,
            units: BTreeMap::new(),
            manager: Manager::default(),
            lost: false,
            counted: BTreeMap::new(),
            mono_ms: None,
        })
    }

    /// What was heard since the run before.
    fn news(&mut self) -> Result<(impl IntoIterator<Item = News> + use<>, Counts), CollectError> {
        if !self.wake.is_connected() {
            return Ok(listener::once(&self.config).take());
        }
        if self.listener.as_ref().is_none_or(Listener::has_ended) {
            let started = Listener::start(self.config.clone(), self.wake.clone());
            let started = started.map_err(|error| CollectError::Nothing {
                collector: NAME,
                what: format!("start a thread: {error}"),
            })?;
            let inbox = self.listener.insert(started).inbox.clone();
            inbox.await_settled(FIRST_WAIT);
        }
        let inbox = self.listener.as_ref().map(|listener| listener.inbox.take());
        Ok(inbox.unwrap_or_default())
    }

    fn hear(&mut self, news: News) -> Option<Change> {
        match news {
            News::Unit { name, facts, .. } if !self.whole => {
                self.units.insert(name, Track::found(*facts));
                None
            }
            News::Unit { name, facts, at } => {
                let track = self.units.entry(name.clone()).or_insert_with(Track::absent);
                track.hear(&name, *facts, at)
            }
            News::Gone { name } => {
                let mut track = self.units.remove(&name)?;
                track.gone(&name)
            }
            News::Whole { version, at_ms } => {
                self.whole = true;
                self.manager.version = version;
                self.manager.error = None;
                if !self.manager.connected {
                    self.manager.connected = true;
                    self.manager.since_ms = Some(at_ms);
                }
                std::mem::take(&mut self.lost).then(|| watching(true, String::new()))
            }
            News::Lost { error, at_ms } => {
                let was = std::mem::take(&mut self.manager.connected);
                if was || self.manager.since_ms.is_none() {
                    self.manager.since_ms = Some(at_ms);
                }
                // A bus that is restarted is back at the next attempt, and what was missed is read then: only when that
                // fails is there anything to tell.
                let tell = self.whole && !was && !self.lost;
                self.lost |= tell;
                self.manager.error = Some(error.clone());
                tell.then(|| watching(false, error))
            }
        }
    }

    fn usage(&mut self, now: SampleTime, snapshot: &mut ServicesSnapshot) {
        let hierarchy = Hierarchy::find(&self.roots);
        let mut files_left = FILES_MAX;
        let mut counted = BTreeMap::new();
        for unit in &mut snapshot.units {
            let Some(track) = self.units.get(&unit.name) else {
                continue;
            };
            let facts = &track.facts;
            if !facts.is_alive() || facts.control_group.is_empty() {
                continue;
            }
            let Some(reading) = usage::read(&hierarchy, &facts.control_group, &mut self.files)
            else {
                continue;
            };
            let before = self.counted.get(&unit.name);
            let before =
                before.filter(|one| one.active_since_mono_us == facts.active_since_mono_us);
            let mut usage: Usage = usage::rated(&reading, before.map(|one| &one.seen), now.mono_ms);
            if let Some(pids) = reading.pids.filter(|_| self.config.sockets) {
                usage.sockets = usage::sockets(&self.roots, &pids, &mut files_left);
            }
            unit.usage = Some(usage);
            let seen = Seen {
                mono_ms: now.mono_ms,
                value: reading.counts,
            };
            let before = Before {
                active_since_mono_us: facts.active_since_mono_us,
                seen,
            };
            counted.insert(unit.name.clone(), before);
        }
        self.counted = counted;
    }

    fn sample(&mut self, now: SampleTime) -> Result<(ServicesSnapshot, Vec<Change>), CollectError> {
        let (news, counts) = self.news()?;
        let heard_until = Instant::now();
        let mut changes = Vec::new();
        for one in news {
            changes.extend(self.hear(one));
        }
        for (name, track) in &mut self.units {
            changes.extend(track.wait(name, heard_until));
        }
        let in_state = |state: &str| {
            let units = self.units.values();
            let count = units
                .filter(|track| track.facts.active_state == state)
                .count();
            u64::try_from(count).unwrap_or(u64::MAX)
        };
        let mut snapshot = ServicesSnapshot {
            at_ms: now.wall_ms,
            interval_ms: self
                .mono_ms
                .map(|before| now.mono_ms.saturating_sub(before)),
            manager: Manager {
                calls: counts.calls,
                signals: counts.signals,
                changes_merged: counts.merged,
                ..self.manager.clone()
            },
            active: in_state("active"),
            failed: in_state("failed"),
            units: self
                .units
                .iter()
                .map(|(name, track)| track.unit(name))
                .collect(),
            units_left_out: counts.left_out,
            errors: Vec::new(),
        };
        self.mono_ms = Some(now.mono_ms);
        if self.config.usage {
            self.usage(now, &mut snapshot);
            self.files.trim();
        }
        Ok((snapshot, changes))
    }
}

impl Collect for Services {
    fn collect(&mut self, now: SampleTime) -> Result<Collected, CollectError> {
        let (snapshot, changes) = self.sample(now)?;
        Collected::of(NAME, &snapshot, changes)
    }

    fn is_wanted(&self) -> bool {
        !self.config.is_empty()
    }
}

/// That the services can be seen again, or no longer.
fn watching(connected: bool, error: String) -> Change {
    let (topic, severity, summary) = if connected {
        let summary = "services are watched again; what was missed is told now".to_owned();
        ("service.watch.restored", Severity::Notice, summary)
    } else {
        let summary = format!("services can't be watched: {error}");
        ("service.watch.lost", Severity::Warning, summary)
    };
    let error = (!connected).then(|| ("error".to_owned(), Value::from(error)));
    Change {
        topic,
        severity,
        summary,
        key: "systemd".to_owned(),
        before: json!({ "connected": !connected }),
        after: json!({ "connected": connected }),
        fields: error.into_iter().collect(),
    }
}
