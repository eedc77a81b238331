//! From a block of a file to events: the lines in it are found, joined, decoded and matched. It must not know files.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::charset::{Charset, Coding};
use super::counters::SectionCounters;
use super::cursor::{Place, Skip};
use super::lines::{self, Cut, Joining};
use super::{AlertStates, Line, Matcher, RateLimits, SourceInfo, TailEvent};

/// What the lines of one section go through.
pub(super) struct Digest {
    pub(super) matcher: Arc<dyn Matcher>,
    pub(super) alerts: AlertStates,
    pub(super) limits: RateLimits,
    pub(super) charset: Charset,
    pub(super) joining: Option<Joining>,
    pub(super) line_bytes_max: usize,
    pub(super) counters: Arc<SectionCounters>,
    /// A block as UTF-8, where it is in another encoding.
    pub(super) decoded: Vec<u8>,
}

/// Events that a block may give before the rest of it waits for the next pass.
const EVENTS_MAX: usize = 2_000;

/// Bytes of the lines that gave them: events are about as large.
const EVENT_LINES_BYTES_MAX: usize = 1 << 20;

/// Which part of its file a block is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    /// Nothing will follow: what has no line end is a line all the same.
    pub(super) last: bool,
    /// Nothing has followed for so long that an open record is closed.
    pub(super) quiet: bool,
    /// Now, in milliseconds since 1970.
    pub(super) now_ms: u64,
}

impl Digest {
    /// Takes what it can of `data`, which begins at the place; the bytes it is done with.
    pub(super) fn take(
        &mut self,
        data: &[u8],
        head: &[u8],
        place: &mut Place,
        source: &SourceInfo,
        stage: Stage,
        out: &mut Vec<TailEvent>,
    ) -> usize {
        let coding = self.charset.coding(head);
        let from = lead(data, &coding, place);
        let Some(data) = data.get(from..).filter(|data| !data.is_empty()) else {
            return from;
        };
        place.lead = false;
        // Decoded text may have half as many bytes.
        let raw_max = self.line_bytes_max * if coding.decodes() { 2 } else { 1 };
        let skip = match (place.skip, &self.joining) {
            (Skip::Record, Some(_)) => Skip::Nothing,
            (Skip::Record, None) => Skip::Line,
            (skip, _) => skip,
        };
        let cut = lines::cut(data, coding.ending, skip, raw_max, stage.last);
        let mut output = Output {
            events_max: out.len().saturating_add(EVENTS_MAX),
            line_bytes: 0,
            full_at: None,
            digest: self,
            source,
            now_ms: stage.now_ms,
            out,
        };
        let (place_skip, used) = if output.digest.joining.is_some() {
            output.records(data, &coding, &cut, place.skip, stage)
        } else {
            output.lines(data, &coding, &cut)
        };
        place.skip = place_skip;
        from + used
    }
}

/// Bytes at the place that are no text: a byte order mark, and the hole that is left where a file was cut.
fn lead(data: &[u8], coding: &Coding, place: &Place) -> usize {
    let mut from = 0;
    if place.offset == 0 {
        from = coding.mark_bytes.min(data.len());
    }
    if place.lead && coding.ending == lines::Ending::Byte {
        let rest = data.get(from..).unwrap_or_default();
        from += rest.iter().take_while(|byte| **byte == 0).count();
    }
    from
}

struct Output<'a> {
    digest: &'a mut Digest,
    source: &'a SourceInfo,
    now_ms: u64,
    out: &'a mut Vec<TailEvent>,
    /// Events in `out` at which the block is given up for now.
    events_max: usize,
    line_bytes: usize,
    /// Where in the block's text that was.
    full_at: Option<usize>,
}

impl Output<'_> {
    /// Every line by itself; what is passed over next, and the bytes of `data` that are done with.
    fn lines(&mut self, data: &[u8], coding: &Coding, cut: &Cut) -> (Skip, usize) {
        let whole = data.get(cut.whole.clone()).unwrap_or_default();
        let mut full = None;
        self.with_text(whole, coding, |output, text| {
            let matcher = output.digest.matcher.clone();
            matcher.candidates(text, &mut |range| {
                if output.is_full(range.start) {
                    return;
                }
                let line = lines::text(text.get(range).unwrap_or_default());
                output.apply(&*matcher, line, false);
            });
            full = output.full_at.map(|at| raw_bytes(whole, text, at, coding));
            output.count(
                text.get(..output.full_at.unwrap_or(text.len()))
                    .unwrap_or(text),
            );
        });
        if let Some(used) = full {
            return (Skip::Nothing, cut.whole.start + used);
        }
        if let Some(long) = cut.long.clone() {
            let long = data.get(long).unwrap_or_default();
            self.with_text(long, coding, |output, text| output.lone(text, true));
        }
        (cut.skip, cut.used)
    }

    /// Whether no more events may come of this block; `at` is where the line that asks begins.
    fn is_full(&mut self, at: usize) -> bool {
        if self.full_at.is_none()
            && (self.out.len() >= self.events_max || self.line_bytes >= EVENT_LINES_BYTES_MAX)
        {
            self.full_at = Some(at);
        }
        self.full_at.is_some()
    }

    /// Lines joined to records; what is passed over next, and the bytes of `data` that are done with.
    fn records(
        &mut self,
        data: &[u8],
        coding: &Coding,
        cut: &Cut,
        skip: Skip,
        stage: Stage,
    ) -> (Skip, usize) {
        let Some(joining) = self.digest.joining.clone() else {
            return (skip, 0);
        };
        if cut.whole.is_empty() && cut.long.is_none() && cut.skip == Skip::Line {
            return (Skip::Line, cut.used);
        }
        let whole = data.get(cut.whole.clone()).unwrap_or_default();
        let long = data
            .get(cut.long.clone().unwrap_or(0..0))
            .unwrap_or_default();
        let begins = cut.long.is_some() && joining.start.is_match(long);
        let flush = begins || (cut.long.is_none() && (stage.last || stage.quiet));
        let mut ended = (Skip::Nothing, cut.used);
        self.with_text(whole, coding, |output, text| {
            let found = joining.records(text, skip != Skip::Nothing, flush);
            output.joined(text, &found.records);
            if let Some(at) = output.full_at {
                ended = (
                    Skip::Nothing,
                    cut.whole.start + raw_bytes(whole, text, at, coding),
                );
                return;
            }
            if cut.long.is_some() {
                if begins || !found.skip {
                    let open = text.get(found.used..).unwrap_or_default();
                    let mut record = open.to_vec();
                    coding.decode_into(long, &mut record);
                    output.lone(&record, true);
                }
                ended = (Skip::Line, cut.used);
                return;
            }
            if found.skip {
                ended.0 = Skip::Record;
            }
            if found.used < text.len() {
                ended.1 = cut.whole.start + raw_bytes(whole, text, found.used, coding);
            }
            output.count(text.get(..found.used).unwrap_or(text));
        });
        ended
    }

    /// Hands on the records in which something was found.
    fn joined(&mut self, text: &[u8], records: &[lines::Record]) {
        let matcher = self.digest.matcher.clone();
        let mut next = records.iter().peekable();
        let mut done = 0;
        matcher.candidates(text, &mut |hit: Range<usize>| {
            while next
                .peek()
                .is_some_and(|record| record.range.end <= hit.start)
            {
                next.next();
            }
            let Some(record) = next.peek() else { return };
            if record.range.start > hit.start || record.range.end <= done {
                return;
            }
            done = record.range.end;
            if self.is_full(record.range.start) {
                return;
            }
            let bytes = text.get(record.range.clone()).unwrap_or_default();
            self.apply(&*matcher, lines::text(bytes), record.truncated);
        });
    }

    /// A line, or a record, that does not stand in a block.
    fn lone(&mut self, text: &[u8], truncated: bool) {
        let matcher = self.digest.matcher.clone();
        let text = text.get(..self.digest.line_bytes_max).unwrap_or(text);
        let mut found = false;
        matcher.candidates(text, &mut |_| found = true);
        if found {
            self.apply(&*matcher, lines::text(text), truncated);
        }
    }

    fn apply(&mut self, matcher: &dyn Matcher, line: &[u8], truncated: bool) {
        let max = self.digest.line_bytes_max;
        let truncated = truncated || line.len() > max;
        let counters = &self.digest.counters;
        counters.hits.fetch_add(1, Ordering::Relaxed);
        if truncated {
            counters.truncated.fetch_add(1, Ordering::Relaxed);
        }
        let line = Line {
            bytes: line.get(..max).unwrap_or(line),
            truncated,
            at_ms: self.now_ms,
            source: self.source,
        };
        let before = self.out.len();
        let bytes = line.bytes.len();
        matcher.apply(
            &line,
            &mut self.digest.alerts,
            &mut self.digest.limits,
            self.out,
        );
        let events = self.out.len().saturating_sub(before) as u64;
        self.line_bytes += if events > 0 { bytes } else { 0 };
        let counters = &self.digest.counters;
        counters.events.fetch_add(events, Ordering::Relaxed);
    }

    /// Runs `with` on `raw` as text.
    fn with_text(&mut self, raw: &[u8], coding: &Coding, with: impl FnOnce(&mut Self, &[u8])) {
        if !coding.decodes() {
            with(self, raw);
            return;
        }
        let mut decoded = std::mem::take(&mut self.digest.decoded);
        decoded.clear();
        coding.decode_into(raw, &mut decoded);
        with(self, &decoded);
        self.digest.decoded = decoded;
    }

    fn count(&self, text: &[u8]) {
        let lines = lines::count(text);
        self.digest
            .counters
            .lines
            .fetch_add(lines, Ordering::Relaxed);
    }
}

/// How many bytes of `raw` became the first `at` bytes of `text`, which is where a line ends.
fn raw_bytes(raw: &[u8], text: &[u8], at: usize, coding: &Coding) -> usize {
    if coding.decodes() {
        let done = text.get(..at).unwrap_or(text);
        coding.ending.nth(raw, lines::count(done))
    } else {
        at
    }
}
