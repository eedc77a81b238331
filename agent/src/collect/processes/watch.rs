//! One watch over time: from what was found now and before to figures and events. Pure; knows no file.

use std::collections::BTreeMap;

use muster_proto::event::Severity;
use muster_proto::snapshot::processes::{Process, Watch};
use serde_json::{Value, json};

use super::super::Change;
use super::super::rate::{Seen, Wrap, counter, lossy, thousandth};
use super::find::Found;
use super::stat::Stat;

/// What turns the kernel's units into ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Units {
    pub(super) ticks_per_s: u64,
    pub(super) page_bytes: u64,
    /// When the host was started, in milliseconds since 1970.
    pub(super) boot_ms: u64,
    pub(super) wall_ms: u64,
    pub(super) mono_ms: u64,
}

/// A process for as long as the host runs.
type Identity = (u32, u64);

/// What is kept of a watch from run to run.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    restarts: u64,
    last: Option<Last>,
}

#[derive(Clone, Debug)]
struct Last {
    up: bool,
    processes: BTreeMap<Identity, Seen<u64>>,
    main: Option<Identity>,
    state: Value,
}

fn identity(stat: &Stat) -> Identity {
    (stat.pid, stat.started_ticks)
}

impl Memory {
    /// Puts what was found in the snapshot's form, and tells what has changed. The first look tells nothing.
    pub(super) fn look(
        &mut self,
        name: &str,
        count_min: u64,
        found: &Found,
        units: &Units,
    ) -> (Watch, Option<Change>) {
        let count = u64::try_from(found.processes.len()).unwrap_or(u64::MAX);
        let up = count >= count_min;
        let before = self.last.take();
        let before = before.as_ref();
        let main = found.processes.first();
        let state = state(up, count, main);
        let change = before.and_then(|before| {
            let (topic, severity, what) = match (before.up, up) {
                (true, false) => ("process.stopped", Severity::Error, "is gone"),
                (false, true) => ("process.started", Severity::Notice, "runs"),
                (true, true) if before.is_replaced_by(found) => {
                    ("process.restarted", Severity::Warning, "was restarted")
                }
                _ => return None,
            };
            self.restarts += u64::from(up);
            let mut fields = BTreeMap::from([("count".to_owned(), Value::from(count))]);
            if let Some(note) = &found.note {
                fields.insert("note".to_owned(), Value::from(note.as_str()));
            }
            let summary = match (&found.note, up, count) {
                (Some(note), false, _) => format!("{name} {what}: {note}"),
                (None, false, 1..) => format!("{name} {what}: {count} of {count_min} processes"),
                _ => format!("{name} {what}"),
            };
            Some(Change {
                topic,
                severity,
                summary,
                key: name.to_owned(),
                before: before.state.clone(),
                after: state.clone(),
                fields,
            })
        });
        let watch = Watch {
            name: name.to_owned(),
            up,
            count,
            restarts_seen: self.restarts,
            main: main.map(|stat| shown(stat, before, units)),
            rss_bytes: sum(found, |stat| stat.rss_pages).saturating_mul(units.page_bytes),
            cpu_percent: before.map(|before| before.cpu_percent(found, units)),
            threads: sum(found, |stat| stat.threads),
            open_files: None,
            note: found.note.clone(),
        };
        let seen = |stat: &Stat| Seen {
            mono_ms: units.mono_ms,
            value: stat.cpu_ticks,
        };
        self.last = Some(Last {
            up,
            processes: found
                .processes
                .iter()
                .map(|stat| (identity(stat), seen(stat)))
                .collect(),
            main: main.map(identity),
            state,
        });
        (watch, change)
    }
}

impl Last {
    /// Whether the program is another now: its main process is gone, and what there is was not there before. A worker
    /// more or less is no restart.
    fn is_replaced_by(&self, found: &Found) -> bool {
        let main_is_gone = self
            .main
            .is_some_and(|main| !found.processes.iter().any(|stat| identity(stat) == main));
        let main_is_new = found
            .processes
            .first()
            .is_some_and(|stat| !self.processes.contains_key(&identity(stat)));
        main_is_gone && main_is_new
    }

    /// Processor time since the look before, in percent of one processor. That of processes which came or went in
    /// between is not known, and left out.
    fn cpu_percent(&self, found: &Found, units: &Units) -> f64 {
        let each = found.processes.iter().filter_map(|stat| {
            let before = self.processes.get(&identity(stat))?;
            let ticks = stat.cpu_ticks.checked_sub(before.value)?;
            Some(lossy(ticks) / lossy(units.ticks_per_s) / before.seconds_to(units.mono_ms)?)
        });
        thousandth(each.sum::<f64>() * 100.0)
    }
}

fn sum(found: &Found, of: fn(&Stat) -> u64) -> u64 {
    found.processes.iter().map(of).fold(0, u64::saturating_add)
}

fn state(up: bool, count: u64, main: Option<&Stat>) -> Value {
    json!({
        "up": up,
        "count": count,
        "main_pid": main.map(|stat| stat.pid),
    })
}

fn shown(stat: &Stat, before: Option<&Last>, units: &Units) -> Process {
    let ms = |ticks: u64| ticks.saturating_mul(1000) / units.ticks_per_s.max(1);
    let started_ms = units.boot_ms.saturating_add(ms(stat.started_ticks));
    let before = before.and_then(|before| before.processes.get(&identity(stat)));
    let before = before.and_then(|seen| Some((ms(seen.value), seen.seconds_to(units.mono_ms)?)));
    Process {
        pid: stat.pid,
        name: stat.name.clone(),
        state: stat.state.to_string(),
        started_ms,
        age_s: units.wall_ms.saturating_sub(started_ms) / 1000,
        parent_pid: stat.parent,
        rss_bytes: stat.rss_pages.saturating_mul(units.page_bytes),
        virtual_bytes: stat.virtual_bytes,
        threads: stat.threads,
        open_files: None,
        open_files_max: None,
        cpu_ms: counter(ms(stat.cpu_ticks), before, Wrap::Never),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn found(processes: &[(u32, u64)]) -> Found {
        let stat = |&(pid, started_ticks): &(u32, u64)| Stat {
            pid,
            started_ticks,
            state: 'S',
            threads: 2,
            rss_pages: 3,
            cpu_ticks: started_ticks,
            ..Stat::default()
        };
        Found {
            processes: processes.iter().map(stat).collect(),
            note: None,
        }
    }

    fn units(seconds: u64) -> Units {
        Units {
            ticks_per_s: 100,
            page_bytes: 4096,
            boot_ms: 1_000_000,
            wall_ms: 2_000_000,
            mono_ms: seconds * 1000,
        }
    }

    fn check(name: &str, count_min: u64, looks: &[&[(u32, u64)]], want: &[&str]) {
        let mut memory = Memory::default();
        let changes = looks
            .iter()
            .zip(0..)
            .filter_map(|(look, at)| memory.look("cod4", count_min, &found(look), &units(at)).1);
        let told: Vec<_> = changes.map(|change| change.topic).collect();
        assert_eq!(told, want, "{name}");
    }

    #[test]
    fn what_changes_is_told_once() {
        let [a, b, c] = [(10, 100), (11, 200), (12, 300)];
        check("found up", 1, &[&[a], &[a]], &[]);
        check("found down", 1, &[&[], &[]], &[]);
        check(
            "stops and starts",
            1,
            &[&[a], &[], &[], &[b]],
            &["process.stopped", "process.started"],
        );
        check(
            "restarted between two looks",
            1,
            &[&[a], &[b]],
            &["process.restarted"],
        );
        check(
            "the same pid again",
            1,
            &[&[a], &[(10, 900)]],
            &["process.restarted"],
        );
        check(
            "a worker comes and goes",
            1,
            &[&[a], &[a, b], &[a, c], &[a]],
            &[],
        );
        check(
            "all are replaced",
            1,
            &[&[a, b], &[c, (13, 400)]],
            &["process.restarted"],
        );
        check("the oldest of equals ends", 1, &[&[a, b], &[b]], &[]);
        check(
            "too few",
            2,
            &[&[a, b], &[a], &[a, c]],
            &["process.stopped", "process.started"],
        );
    }

    #[test]
    fn figures() {
        let mut memory = Memory::default();
        let (watch, _) = memory.look("cod4", 1, &found(&[(10, 100), (11, 200)]), &units(0));
        assert_eq!(
            (watch.up, watch.count, watch.threads, watch.rss_bytes),
            (true, 2, 4, 2 * 3 * 4096)
        );
        assert_eq!(watch.cpu_percent, None);
        let main = watch.main.unwrap();
        assert_eq!(
            (main.pid, main.started_ms, main.age_s),
            (10, 1_001_000, 999)
        );
        let mut busy = found(&[(10, 100), (11, 200)]);
        busy.processes
            .iter_mut()
            .for_each(|stat| stat.cpu_ticks += 50);
        let (watch, change) = memory.look("cod4", 1, &busy, &units(2));
        assert_eq!((watch.cpu_percent, change.is_none()), (Some(50.0), true));
        let cpu = watch.main.unwrap().cpu_ms;
        assert_eq!((cpu.total, cpu.per_s), (1500, Some(250.0)));
    }

    #[test]
    fn a_note_says_why_it_is_down() {
        let mut memory = Memory::default();
        _ = memory.look("cod4", 1, &found(&[(10, 100)]), &units(0));
        let gone = Found {
            processes: Vec::new(),
            note: Some("there is no pidfile /run/cod4.pid".to_owned()),
        };
        let (watch, change) = memory.look("cod4", 1, &gone, &units(1));
        assert_eq!(
            change.unwrap().summary,
            "cod4 is gone: there is no pidfile /run/cod4.pid"
        );
        assert_eq!(watch.note, gone.note);
    }
}
