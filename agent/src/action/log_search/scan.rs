//! The search of one file after the other, block by block, within bounds. Knows readers and patterns, no paths and no
//! config.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};

use regex::bytes::Regex;
use serde_json::{Value, json};

/// What is read at once.
const BLOCK_BYTES: usize = 1 << 20;

/// How much of a line is shown.
const LINE_BYTES_MAX: usize = 2048;

/// What is searched for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    /// The pattern over blocks of lines: `^` and `$` are a line's.
    pub(super) block: &'a Regex,
    /// The same over one line.
    pub(super) line: &'a Regex,
    /// Lines before and after that are shown as well.
    pub(super) context: usize,
}

/// What a search may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Lines that match, in the result.
    pub(super) lines: usize,
    /// Bytes of lines in the result.
    pub(super) output_bytes: usize,
    /// Bytes that are read.
    pub(super) scan_bytes: u64,
}

/// A search under way. Of each file the newest lines are kept, and files come newest first.
pub(super) struct Scan<'a> {
    search: Search<'a>,
    bounds: Bounds,
    ended: &'a dyn Fn() -> bool,
    found: Vec<VecDeque<Found>>,
    files: u64,
    bytes: u64,
    matched: u64,
    cut: Option<&'static str>,
}

/// A line of the result.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    file: String,
    offset: u64,
    number: Option<u64>,
    line: String,
    context: bool,
}

/// Where a file's reading stands.
struct Place<'a> {
    path: &'a str,
    /// Where the block begins.
    offset: u64,
    /// Lines before it, if they were counted from the file's begin.
    lines: Option<u64>,
    /// Lines of context that are still to come.
    after: usize,
    /// Room for lines that match.
    room: usize,
    /// Lines that match, in `found`.
    matches: usize,
    /// Where the last line ends that was taken, in the file.
    shown_to: u64,
    found: VecDeque<Found>,
}

/// How far a block's lines were counted, and how many were before that place, if that is known.
type Counted = (usize, Option<u64>);

impl<'a> Scan<'a> {
    pub(super) fn new(search: Search<'a>, bounds: Bounds, ended: &'a dyn Fn() -> bool) -> Self {
        Self {
            search,
            bounds,
            ended,
            found: Vec::new(),
            files: 0,
            bytes: 0,
            matched: 0,
            cut: None,
        }
    }

    /// Searches a file. What is over the bounds is left out, and said in the result.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn file(&mut self, path: &str, file: &mut (impl Read + Seek)) -> io::Result<()> {
        let left = self.bounds.scan_bytes.saturating_sub(self.bytes);
        if left == 0 || (self.ended)() {
            self.cut = self.cut.or(Some(if left == 0 { "bytes" } else { "time" }));
            return Ok(());
        }
        self.files += 1;
        let size = file.seek(SeekFrom::End(0))?;
        let from = size.saturating_sub(left);
        if from > 0 {
            self.cut = Some("bytes");
        }
        file.seek(SeekFrom::Start(from))?;
        let shown = self
            .found
            .iter()
            .flatten()
            .filter(|found| !found.context)
            .count();
        let mut place = Place {
            path,
            offset: from,
            lines: (from == 0).then_some(0),
            after: 0,
            room: self.bounds.lines.saturating_sub(shown),
            matches: 0,
            shown_to: 0,
            found: VecDeque::new(),
        };
        let mut block = Vec::new();
        // No further than its size: a log that is written faster than it is read has no end.
        let mut input = file.take(size - from);
        loop {
            let room = BLOCK_BYTES.saturating_sub(block.len()).max(1);
            let read = input.by_ref().take(room as u64).read_to_end(&mut block)?;
            self.bytes += read as u64;
            let is_last = read < room;
            let whole = match memchr::memrchr(b'\n', &block) {
                Some(at) if !is_last => at + 1,
                _ => block.len(),
            };
            let rest = block.split_off(whole);
            self.block(&block, &mut place);
            let ended = (self.ended)();
            if ended {
                self.cut = Some("time");
            }
            if ended || is_last {
                break;
            }
            block = rest;
        }
        self.found.push(place.found);
        Ok(())
    }

    fn block(&mut self, block: &[u8], place: &mut Place<'_>) {
        let mut from = 0;
        let mut counted = (0, place.lines);
        while from < block.len() {
            // The earliest end of a match: a line that matches by itself has an end of its own there or later.
            let Some(at) = self.search.block.shortest_match_at(block, from) else {
                break;
            };
            let head = block.get(from..at).unwrap_or_default();
            let start = memchr::memrchr(b'\n', head).map_or(from, |before| from + before + 1);
            let end = memchr::memchr(b'\n', block.get(at..).unwrap_or_default())
                .map_or(block.len(), |length| at + length);
            let line = block.get(start..end).unwrap_or_default();
            if start < block.len() && self.search.line.is_match(line) {
                self.context_until(block, from, start, place, &mut counted);
                self.matched += 1;
                place.push(block, start..end, false, &mut counted);
                place.after = self.search.context;
                from = end + 1;
            } else {
                let next = (end + 1).min(block.len());
                self.lines_after(block, from..next, place, &mut counted);
                from = end + 1;
            }
        }
        if from < block.len() {
            self.lines_after(block, from..block.len(), place, &mut counted);
        }
        let rest = block.get(counted.0..).unwrap_or_default();
        place.lines = counted
            .1
            .map(|lines| lines + memchr::memchr_iter(b'\n', rest).count() as u64);
        place.offset += block.len() as u64;
    }

    /// Lines after a match that was shown.
    fn lines_after(
        &self,
        block: &[u8],
        range: std::ops::Range<usize>,
        place: &mut Place<'_>,
        counted: &mut Counted,
    ) {
        let mut start = range.start;
        while place.after > 0 && start < range.end {
            let rest = block.get(start..range.end).unwrap_or_default();
            let end = memchr::memchr(b'\n', rest).map_or(range.end, |length| start + length);
            place.push(block, start..end, true, counted);
            place.after -= 1;
            start = end + 1;
        }
    }

    /// Lines before a match, as far as they are in the block and were not shown.
    fn context_until(
        &self,
        block: &[u8],
        from: usize,
        start: usize,
        place: &mut Place<'_>,
        counted: &mut Counted,
    ) {
        self.lines_after(block, from..start, place, counted);
        let mut begins = Vec::new();
        let mut at = start;
        while begins.len() < self.search.context && at > from {
            let head = block.get(from..at - 1).unwrap_or_default();
            at = memchr::memrchr(b'\n', head).map_or(from, |before| from + before + 1);
            begins.push(at);
        }
        for begin in begins.into_iter().rev() {
            if place.offset + (begin as u64) < place.shown_to {
                continue;
            }
            let rest = block.get(begin..start).unwrap_or_default();
            let end = memchr::memchr(b'\n', rest).map_or(start, |length| begin + length);
            place.push(block, begin..end, true, counted);
        }
    }

    /// The result's data.
    pub(super) fn into_data(mut self, skipped: &[(String, String)]) -> Value {
        let mut room = self.bounds.output_bytes;
        let mut kept: Vec<VecDeque<Found>> = Vec::new();
        for file in self.found.drain(..) {
            let mut newest = VecDeque::new();
            for found in file.into_iter().rev() {
                // A byte that is no text takes six once it is written as JSON.
                let bytes = found.line.len() + found.file.len() + 64;
                if bytes > room {
                    self.cut = Some("output");
                    room = 0;
                    break;
                }
                room -= bytes;
                newest.push_front(found);
            }
            kept.push(newest);
        }
        let matches = kept.iter().flatten().filter(|found| !found.context).count() as u64;
        let found: Vec<Value> = kept
            .into_iter()
            .rev()
            .flatten()
            .map(Found::into_data)
            .collect();
        json!({
            "files": self.files, "bytes": self.bytes, "matched": self.matched,
            "left_out": self.matched.saturating_sub(matches), "cut": self.cut, "found": found,
            "skipped": super::skipped_data(skipped),
        })
    }
}

impl Place<'_> {
    fn push(
        &mut self,
        block: &[u8],
        range: std::ops::Range<usize>,
        context: bool,
        counted: &mut Counted,
    ) {
        let between = block.get(counted.0..range.start).unwrap_or_default();
        let lines = counted
            .1
            .map(|lines| lines + memchr::memchr_iter(b'\n', between).count() as u64);
        *counted = (range.start.max(counted.0), lines);
        let bytes = block.get(range.clone()).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let shown = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
        let mut line = String::from_utf8_lossy(shown).into_owned();
        if shown.len() < bytes.len() {
            line.push_str(&format!(" [{} more bytes]", bytes.len() - shown.len()));
        }
        self.found.push_back(Found {
            file: self.path.to_owned(),
            offset: self.offset + range.start as u64,
            number: lines.map(|lines| lines + 1),
            line,
            context,
        });
        self.shown_to = self.offset + range.end as u64;
        self.matches += usize::from(!context);
        while self.matches > self.room {
            let oldest = self.found.pop_front();
            self.matches -= usize::from(oldest.is_some_and(|found| !found.context));
        }
    }
}

impl Found {
    fn into_data(self) -> Value {
        let Self {
            file,
            offset,
            number,
            line,
            context,
        } = self;
        json!({ "file": file, "offset": offset, "line_number": number, "line": line, "context": context })
    }
}
