//! The reader on real files, through every way in which logs are rotated: each line once, in order, whatever happens.

mod copies;
mod encodings;
mod rotation;
mod stopped;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use muster_proto::event::Severity;
use serde_json::Value;

use super::*;

/// Every line with an `!` is an event.
pub(super) struct Marked;

impl Matcher for Marked {
    fn candidates(&self, block: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
        let mut at = 0;
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            if line.contains(&b'!') {
                hit(at..at + line.len() - usize::from(line.ends_with(b"\n")));
            }
            at += line.len();
        }
    }

    fn apply(
        &self,
        line: &Line<'_>,
        alerts: &mut AlertStates,
        _: &mut RateLimits,
        out: &mut Vec<TailEvent>,
    ) {
        alerts.set("last", line.bytes.to_vec());
        out.push(TailEvent {
            topic: "test.line".to_owned(),
            severity: Severity::Info,
            summary: String::from_utf8_lossy(line.bytes).into_owned()
                + if line.truncated { "…" } else { "" },
            key: line.source.origin.clone(),
            before: Value::Null,
            after: Value::Null,
            fields: BTreeMap::new(),
            at_ms: line.at_ms,
        });
    }

    fn tick(&self, _: u64, _: &mut AlertStates, _: &mut RateLimits, _: &mut Vec<TailEvent>) {}
}

/// A directory with logs, a store, and the reader between them.
struct Host {
    dir: tempfile::TempDir,
    config: String,
    engine: Option<Engine>,
    /// Those of the section, as of the last start.
    counters: Arc<SectionCounters>,
    cursors: BTreeMap<Vec<u8>, Vec<u8>>,
    alerts: BTreeMap<(String, String), Vec<u8>>,
    seq: u64,
    now: Now,
    /// Every event so far that was not taken.
    events: Vec<TailEvent>,
}

impl Host {
    /// `config` with `DIR` for the directory.
    fn new(config: &str) -> Self {
        let mut host = Self {
            dir: tempfile::tempdir().unwrap(),
            config: config.to_owned(),
            engine: None,
            counters: Arc::default(),
            cursors: BTreeMap::new(),
            alerts: BTreeMap::new(),
            seq: 0,
            now: Now {
                wall_ms: 0,
                mono_ms: 1_000,
            },
            events: Vec::new(),
        };
        host.start();
        host
    }

    /// One that follows `name` from its beginning.
    fn of(name: &str) -> Self {
        Self::new(&format!(
            "name = \"t\"\npaths = [\"DIR/{name}\"]\nstart = \"beginning\""
        ))
    }

    fn start(&mut self) {
        let text = self
            .config
            .replace("DIR", &self.dir.path().display().to_string());
        let section = Section::parse(text.parse().unwrap(), |_, rest| {
            assert!(rest.is_empty());
            Ok(Arc::new(Marked))
        });
        let stored = Stored {
            seq: self.seq,
            cursors: self.cursors.clone().into_iter().collect(),
            alerts: self.alerts.clone().into_iter().collect(),
        };
        let section = section.unwrap();
        self.counters = section.counters.clone();
        self.engine = Some(Engine::new(vec![section], stored));
    }

    /// As after a kill: nothing is left but what was committed.
    fn kill(&mut self) {
        self.engine = None;
    }

    /// As after an orderly end.
    fn stop(&mut self) {
        self.pass(Wanted {
            scan: false,
            places: true,
        });
        self.engine = None;
    }

    fn pass(&mut self, wanted: Wanted) -> Pass {
        self.now.wall_ms = Now::since(std::time::Instant::now()).wall_ms;
        self.now.mono_ms += 10;
        let pass = self.engine.as_mut().unwrap().pass(self.now, wanted);
        if let Some(batch) = &pass.batch {
            assert_eq!(batch.seq, self.seq + 1);
            self.seq = batch.seq;
            apply(&mut self.cursors, &batch.cursors);
            apply(&mut self.alerts, &batch.alerts);
            self.events.extend(batch.events.iter().cloned());
        }
        pass
    }

    /// Looks and reads until there is no more, starting the reader where it does not run; the lines that were found.
    fn read(&mut self) -> Vec<String> {
        if self.engine.is_none() {
            self.start();
        }
        self.read_on(true)
    }

    /// The same with the reader that runs, which looks for new files only at first and if `scan` says so.
    fn read_on(&mut self, mut scan: bool) -> Vec<String> {
        while self
            .pass(Wanted {
                scan,
                places: false,
            })
            .more
        {
            scan = false;
        }
        self.lines()
    }

    /// The same after `ms` in which nothing happened.
    fn read_after(&mut self, ms: u64) -> Vec<String> {
        self.now.mono_ms += ms;
        self.read()
    }

    /// The lines that were found since the last call.
    fn lines(&mut self) -> Vec<String> {
        let (lines, rest) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|event| event.topic == "test.line");
        self.events = rest;
        let lines: Vec<TailEvent> = lines;
        lines.into_iter().map(|event| event.summary).collect()
    }

    /// Bytes that were reported lost since the last call, and whether it may be more.
    fn lost(&mut self) -> Option<(u64, bool)> {
        let events = std::mem::take(&mut self.events);
        let lost = events
            .iter()
            .filter(|event| event.topic == "agent.log.lost");
        let mut lost = lost.map(|event| {
            let bytes = event.fields["lost_bytes"].as_u64().unwrap();
            (bytes, event.fields["at_least"].as_bool().unwrap())
        });
        let first = lost.next();
        assert_eq!(lost.next(), None, "{events:?}");
        first
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name));
        file.unwrap().write_all(text.as_ref()).unwrap();
    }

    /// Writes numbered lines, every tenth of which counts; those.
    fn log(&self, name: &str, numbers: Range<u32>) -> Vec<String> {
        let lines = numbers.clone().map(|number| line(number) + "\n");
        self.append(name, lines.collect::<String>());
        wanted(numbers)
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    fn truncate(&self, name: &str) {
        let file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.path(name));
        drop(file.unwrap());
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn inode(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).unwrap().ino()
    }
}

fn line(number: u32) -> String {
    let mark = if number.is_multiple_of(10) { "!" } else { "" };
    format!(
        "Nov 22 19:{:02}:{:02} host app[7]: line {number}{mark}",
        number / 60 % 60,
        number % 60
    )
}

/// The lines among `numbers` that count.
fn wanted(numbers: Range<u32>) -> Vec<String> {
    numbers
        .filter(|number| number.is_multiple_of(10))
        .map(line)
        .collect()
}

fn apply<Key: Ord + Clone>(store: &mut BTreeMap<Key, Vec<u8>>, changes: &[Change<Key>]) {
    for (key, record) in changes {
        match record {
            Some(record) => store.insert(key.clone(), record.clone()),
            None => store.remove(key),
        };
    }
}

#[test]
fn lines_are_read_once_as_they_come() {
    let mut host = Host::of("a.log");
    assert!(host.read().is_empty());
    let first = host.log("a.log", 0..100);
    assert_eq!(host.read(), first);
    assert!(host.read().is_empty());
    let more = host.log("a.log", 100..20_000);
    assert_eq!(host.read(), more);
    host.append("a.log", "no line end yet!");
    assert!(host.read().is_empty());
    host.append("a.log", " now\nand!\n");
    assert_eq!(host.read(), ["no line end yet! now", "and!"]);
    let events = std::mem::take(&mut host.events);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].topic, "agent.log.begun");
}

#[test]
fn a_new_section_begins_at_the_end_and_new_files_at_their_beginning() {
    let mut host = Host::new("name = \"t\"\npaths = [\"DIR/*.log\"]");
    host.append("old.log", "before!\nunfinished!");
    assert!(host.read().is_empty());
    host.append("old.log", " rest!\nafter!\n");
    host.append("new.log", "all!\n");
    let mut got = host.read();
    got.sort();
    assert_eq!(got, ["after!", "all!"]);
    host.kill();
    host.append("newer.log", "while down!\n");
    host.append("old.log", "also!\n");
    let mut got = host.read();
    got.sort();
    assert_eq!(got, ["also!", "while down!"]);
}

#[test]
fn every_file_has_its_turn() {
    let mut host = Host::of("*.log");
    host.read();
    let big = host.log("big.log", 0..200_000);
    host.append("small.log", "small!\n");
    host.pass(Wanted {
        scan: true,
        places: false,
    });
    assert!(
        host.lines().contains(&"small!".to_owned()),
        "before the large one is done"
    );
    let rest = host.read();
    assert!(rest.len() < big.len() && rest.last() == big.last());
}

#[test]
fn only_so_many_files_are_held_open_and_all_are_read() {
    let mut host = Host::of("*.log");
    for round in 0..3 {
        for number in 0..400 {
            host.append(&format!("{number}.log"), format!("{number} {round}!\n"));
        }
        assert_eq!(host.read().len(), 400, "round {round}");
        let open = fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(open < 400, "{open}");
    }
}

#[test]
fn what_was_stored_can_be_stored_again() {
    let mut host = Host::of("a.log");
    let first = host.log("a.log", 0..50);
    assert_eq!(host.read(), first);
    let (cursors, alerts) = (host.cursors.clone(), host.alerts.clone());
    host.cursors.clear();
    host.alerts.clear();
    host.engine.as_mut().unwrap().store_again();
    host.read();
    assert_eq!(
        host.cursors.keys().collect::<Vec<_>>(),
        cursors.keys().collect::<Vec<_>>()
    );
    assert_eq!(host.alerts, alerts);
    host.kill();
    assert!(host.read().is_empty());
}

#[test]
fn places_of_sections_that_are_gone_are_forgotten() {
    let mut host = Host::of("a.log");
    host.log("a.log", 0..50);
    host.read();
    host.kill();
    host.config = host.config.replace("name = \"t\"", "name = \"other\"");
    assert_eq!(host.read().len(), 5);
    assert!(
        host.cursors
            .keys()
            .all(|key| !key.starts_with(b"place\0t\0"))
    );
}
