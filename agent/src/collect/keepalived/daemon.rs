//! One keepalived that is watched: what was asked of it, what it said, and what changed.

mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use muster_proto::snapshot::keepalived::{Daemon, Process, VrrpInstance};
use serde_json::{Value, json};

use super::super::{Change, SampleTime, Wake};
use super::ask::{Awaited, Dump, Kind, places, wait};
use super::book::Book;
use super::conf::{self, DumpPaths};
use super::config::Files;
use super::draft::Draft;
use super::dump::{CheckDump, VrrpDump, parse_check, parse_json, parse_stats, parse_vrrp};
use super::fifo::{FifoReader, Heard};
use super::process::{Parent, Processes};
use super::signals::{Programs, send};
use super::{signals, topic};

/// Between two requests at the least, however often a run is asked for: writing its files holds up keepalived.
const ASK_GAP_MS: u64 = 2_000;
/// How long a child is gone before that is told.
const LOST_MS: u64 = 5_000;
/// The same after news from a FIFO, which its files say more about.
const NEWS_GAP_MS: u64 = 250;

/// A keepalived, from the moment that it was first seen.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) files: Files,
    parent: Option<Parent>,
    /// It was seen running at some time.
    was_seen: bool,
    config: Option<String>,
    family: Vec<Process>,
    respawns: u64,
    /// Children that were there and are not, by role.
    lost: BTreeMap<&'static str, Lost>,
    book: Book,
    fifos: Vec<FifoReader>,
    fifos_started: bool,
    version: Option<String>,
    asked_ms: Option<u64>,
    vrrp: Option<(VrrpDump, u64)>,
    check: Option<(CheckDump, u64)>,
    counted: Option<(Vec<VrrpInstance>, u64)>,
    late: bool,
}

/// A child that is gone.
#[derive(Debug)]
struct Lost {
    pid: u32,
    since_ms: u64,
    told: bool,
}

/// What a run has at hand for every daemon.
pub(super) struct Run<'a> {
    pub(super) processes: &'a Processes,
    pub(super) programs: &'a mut Programs,
    pub(super) signals: bool,
    pub(super) wait: Duration,
    pub(super) now: SampleTime,
    /// Whether nothing was looked at before.
    pub(super) first: bool,
    pub(super) errors: Vec<(String, String)>,
    pub(super) changes: Vec<Change>,
}

impl Watched {
    /// `prefix` stands before the keys of its events.
    pub(super) fn new(name: String, prefix: String, files: Files) -> Self {
        Self {
            name,
            files,
            parent: None,
            was_seen: false,
            config: None,
            family: Vec::new(),
            respawns: 0,
            lost: BTreeMap::new(),
            book: Book::new(prefix),
            fifos: Vec::new(),
            fifos_started: false,
            version: None,
            asked_ms: None,
            vrrp: None,
            check: None,
            counted: None,
            late: false,
        }
    }

    /// It is this one's from now on.
    pub(super) fn adopt(&mut self, parent: &Parent) {
        self.config = Some(parent.config().to_owned());
    }

    /// The configuration that it had when it was last seen.
    pub(super) fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    pub(super) fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// Begins to read its FIFOs, where somebody will be told of what they say.
    pub(super) fn listen(&mut self, run: &mut Run<'_>, wake: &Wake) {
        if self.fifos_started || !wake.is_connected() {
            return;
        }
        self.fifos_started = true;
        for shown in &self.files.fifos {
            let path = run.processes.on_host(&PathBuf::from(shown));
            match FifoReader::start(path, shown, wake.clone()) {
                Ok(reader) => self.fifos.push(reader),
                Err(error) => {
                    let what = format!("start a thread to read {shown}: {error}");
                    run.errors.push((self.name.clone(), what));
                }
            }
        }
    }

    /// Looks once. `found` is its parent process now.
    pub(super) fn look(&mut self, run: &mut Run<'_>, found: Option<Parent>) -> Daemon {
        self.see_processes(run, found);
        let (heard, fifos): (Vec<Vec<Heard>>, Vec<_>) =
            self.fifos.iter().map(FifoReader::take).unzip();
        let heard = heard.concat();
        let news = heard.iter().any(|heard| !heard.replayed);
        let dumps = self.ask(run, news);
        let mut changes = self.book.hear(&heard);
        changes.extend(self.take(dumps, run));
        for change in &mut changes {
            self.explain(change);
        }
        run.changes.append(&mut changes);
        let mut daemon = self.show(run);
        daemon.fifos = fifos;
        daemon
    }

    fn see_processes(&mut self, run: &mut Run<'_>, found: Option<Parent>) {
        let before = self.parent.take();
        let boot_ms = run.processes.boot_ms();
        let family = found
            .as_ref()
            .map(|parent| run.processes.family(parent, boot_ms))
            .unwrap_or_default();
        let same = |a: &Parent, b: &Parent| (a.pid, a.ticks) == (b.pid, b.ticks);
        match (&before, &found) {
            (Some(before), None) => {
                let draft = process_draft(topic::STOPPED, "keepalived", Some(before.pid), None);
                self.push(run, draft.says(format!("{} has stopped", self.name)));
                self.forget_dumps();
            }
            (before, Some(parent))
                if !before.as_ref().is_some_and(|before| same(before, parent)) =>
            {
                // What is there at the first look may have been there for long.
                if self.was_seen || !run.first {
                    let old = before.as_ref().map(|before| before.pid);
                    let draft = process_draft(topic::STARTED, "keepalived", old, Some(parent.pid));
                    self.push(
                        run,
                        draft.says(format!("{} was started, pid {}", self.name, parent.pid)),
                    );
                }
                self.forget_dumps();
                let program = run
                    .programs
                    .of(run.processes, parent, self.files.binary.as_deref());
                self.version = program.version;
            }
            (Some(_), Some(_)) => self.see_children(run, &family),
            _ => {}
        }
        if let Some(parent) = &found {
            self.was_seen = true;
            self.config = Some(parent.config().to_owned());
        }
        self.parent = found;
        self.family = family;
    }

    /// Children that others have taken the place of, and those that nobody has. A keepalived that stops loses them
    /// before it is gone itself, and one that starts a child again does so at once.
    fn see_children(&mut self, run: &mut Run<'_>, family: &[Process]) {
        for role in ["vrrp", "checker", "bfd"] {
            let pid = |family: &[Process]| {
                let known = family.iter().find(|process| process.role == role);
                known.map(|process| process.pid)
            };
            let old = match (pid(&self.family), pid(family)) {
                (Some(old), Some(new)) if old != new => Some((old, new)),
                (Some(old), None) => {
                    let since_ms = run.now.mono_ms;
                    let lost = Lost {
                        pid: old,
                        since_ms,
                        told: false,
                    };
                    self.lost.insert(role, lost);
                    None
                }
                (None, Some(new)) => self.lost.remove(role).map(|lost| (lost.pid, new)),
                (None, None) => {
                    self.miss(role, run);
                    None
                }
                _ => None,
            };
            if let Some((old, new)) = old {
                self.respawns += 1;
                let name = &self.name;
                let says =
                    format!("the {role} process of {name} died and was started again, pid {new}");
                let draft = process_draft(topic::RESPAWNED, role, Some(old), Some(new));
                self.push(run, draft.says(says));
            }
        }
    }

    /// Tells of a child that has been gone for a while.
    fn miss(&mut self, role: &'static str, run: &mut Run<'_>) {
        let now = run.now.mono_ms;
        let Some(lost) = self.lost.get_mut(role) else {
            return;
        };
        if lost.told || now.saturating_sub(lost.since_ms) < LOST_MS {
            return;
        }
        lost.told = true;
        let draft = process_draft(topic::STOPPED, role, Some(lost.pid), None);
        let says = format!("the {role} process of {} is gone", self.name);
        self.push(run, draft.says(says));
    }

    fn push(&self, run: &mut Run<'_>, draft: Draft) {
        let mut change = draft.0;
        change.key.insert_str(0, self.book.prefix());
        run.changes.push(change);
    }

    /// What it said before it was stopped or started anew is no more.
    fn forget_dumps(&mut self) {
        self.vrrp = None;
        self.check = None;
        self.counted = None;
        self.asked_ms = None;
        self.late = false;
        self.lost.clear();
    }

    /// Asks for its files and gives those that are newer than what is known.
    fn ask(&mut self, run: &mut Run<'_>, news: bool) -> Vec<Dump> {
        let Some(parent) = self.parent.clone() else {
            return Vec::new();
        };
        let now = run.now.mono_ms;
        let gap = if news { NEWS_GAP_MS } else { ASK_GAP_MS };
        let soon = self
            .asked_ms
            .is_some_and(|asked| now.saturating_sub(asked) < gap);
        if soon {
            return Vec::new();
        }
        self.asked_ms = Some(now);
        let program = run
            .programs
            .of(run.processes, &parent, self.files.binary.as_deref());
        let config = run.processes.inside(parent.pid, parent.config().as_ref());
        let moved = config
            .iter()
            .find(|path| path.exists())
            .map(|path| conf::read(path));
        let moved: DumpPaths = moved.unwrap_or_default();
        let counters = if program.json.is_some() {
            Kind::Json
        } else {
            Kind::Stats
        };
        let kinds = self.expected(counters);
        let mut files: Vec<Awaited> = kinds
            .into_iter()
            .map(|kind| {
                Awaited::new(
                    kind,
                    places(run.processes, &parent, &moved, kind),
                    parent.uid,
                )
            })
            .collect();
        self.late = false;
        let mut dumps = Vec::new();
        if run.signals && parent.trusted {
            dumps = self.signal(run, &parent, &program, &mut files);
        }
        // What did not come now, or was never asked for, may have been written for somebody else.
        for file in &files {
            if let Ok(dump) = file.read() {
                dumps.push(dump);
            }
        }
        dumps
    }

    /// The files that its processes write. Where it can't be told which processes there are, each of them.
    fn expected(&self, counters: Kind) -> Vec<Kind> {
        let is = |role: &str| self.family.iter().any(|process| process.role == role);
        let unclear = is("child") || !(is("vrrp") || is("checker") || is("bfd"));
        let mut kinds = Vec::new();
        if is("vrrp") || unclear {
            kinds.extend([Kind::Vrrp, counters]);
        }
        if is("checker") || unclear {
            kinds.push(Kind::Checker);
        }
        kinds
    }

    fn signal(
        &mut self,
        run: &mut Run<'_>,
        parent: &Parent,
        program: &signals::Program,
        files: &mut Vec<Awaited>,
    ) -> Vec<Dump> {
        let numbers = [program.data, program.json.unwrap_or(program.stats)];
        if let Err(error) = send(run.processes, parent, &numbers) {
            run.errors.push((self.name.clone(), error));
            return Vec::new();
        }
        let dumps = wait(files, run.wait);
        // Without any instance no counters are written.
        let none = |dump: &Dump| dump.kind == Kind::Vrrp && !has(&dump.bytes, b" VRRP Instance = ");
        if dumps.iter().any(none) {
            files.retain(|file| !matches!(file.kind(), Kind::Json | Kind::Stats));
        }
        for file in files.iter() {
            self.late = true;
            let what = format!(
                "{} was not there within {} s after the signal; what it said before is shown, if it ever did",
                file.place(),
                run.wait.as_secs_f64()
            );
            run.errors.push((self.name.clone(), what));
        }
        dumps
    }

    /// Takes files in that are newer than what is known.
    fn take(&mut self, dumps: Vec<Dump>, run: &mut Run<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        for dump in dumps {
            let text = String::from_utf8_lossy(&dump.bytes);
            let newer = |known: Option<u64>| known.is_none_or(|known| known < dump.at_ms);
            let read = match dump.kind {
                Kind::Vrrp if newer(self.vrrp.as_ref().map(|known| known.1)) => parse_vrrp(&text)
                    .map(|vrrp| {
                        changes.extend(self.book.see_vrrp(&vrrp, dump.at_ms));
                        self.vrrp = Some((vrrp, dump.at_ms));
                    }),
                Kind::Checker if newer(self.check.as_ref().map(|known| known.1)) => {
                    parse_check(&text).map(|check| {
                        changes.extend(self.book.see_check(&check, dump.at_ms));
                        self.check = Some((check, dump.at_ms));
                    })
                }
                Kind::Stats | Kind::Json if newer(self.counted.as_ref().map(|known| known.1)) => {
                    let read = match dump.kind {
                        Kind::Json => parse_json(&dump.bytes),
                        _ => parse_stats(&text),
                    };
                    read.map(|counted| self.counted = Some((counted, dump.at_ms)))
                }
                _ => Some(()),
            };
            if read.is_none() {
                let what = format!("the {:?} file does not read as keepalived's", dump.kind);
                run.errors.push((self.name.clone(), what));
            }
        }
        changes
    }

    /// Adds to a real server's going out why that is, where the FIFO told of it and the dump after it knows.
    fn explain(&self, change: &mut Change) {
        if change.topic != topic::backend(false).0 || change.fields.contains_key("reason") {
            return;
        }
        let text = |name: &str| change.fields.get(name).and_then(Value::as_str);
        let (server, real) = (text("virtual_server"), text("real_server"));
        let servers = self
            .check
            .iter()
            .flat_map(|(check, _)| &check.virtual_servers);
        let reason = servers
            .filter(|known| Some(known.name.as_str()) == server)
            .flat_map(|known| &known.real_servers)
            .filter(|known| Some(known.name.as_str()) == real)
            .find_map(|known| known.reason.clone());
        if let Some(reason) = reason {
            change.summary.push_str(": ");
            change.summary.push_str(&reason);
            change
                .fields
                .insert("reason".to_owned(), Value::from(reason));
        }
    }
}

fn process_draft(topic: topic::Topic, role: &str, old: Option<u32>, new: Option<u32>) -> Draft {
    let value = |pid: Option<u32>| pid.map_or(Value::Null, |pid| json!({ "pid": pid }));
    Draft::new(topic, role)
        .states(value(old), value(new))
        .field("process", role)
        .field("source", "process")
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
