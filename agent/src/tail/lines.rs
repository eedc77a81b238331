//! Where lines and records begin and end in a block of a file. Pure, and the same however a file is cut into blocks.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memrchr, memrchr_iter};
use regex::bytes::Regex;

use super::cursor::Skip;

/// How a line ends in the file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// One byte, as in UTF-8 and every legacy encoding.
    Byte,
    /// Two bytes, the low one first.
    Utf16Le,
    /// Two bytes, the high one first.
    Utf16Be,
}

impl Ending {
    /// Behind the first line end.
    fn first(self, data: &[u8]) -> Option<usize> {
        match self {
            Self::Byte => memchr(b'\n', data).map(|at| at + 1),
            _ => memchr_iter(b'\n', data).find_map(|at| self.wide(data, at)),
        }
    }

    /// Behind the last line end.
    fn last(self, data: &[u8]) -> Option<usize> {
        match self {
            Self::Byte => memrchr(b'\n', data).map(|at| at + 1),
            _ => memrchr_iter(b'\n', data).find_map(|at| self.wide(data, at)),
        }
    }

    /// The end of the two-byte line end whose `\n` is at `at`, if it is one.
    fn wide(self, data: &[u8], at: usize) -> Option<usize> {
        let (zero, end) = match self {
            Self::Utf16Le if at.is_multiple_of(2) => (at + 1, at + 2),
            Self::Utf16Be if !at.is_multiple_of(2) => (at - 1, at + 1),
            _ => return None,
        };
        (data.get(zero) == Some(&0)).then_some(end)
    }

    /// Behind the line end number `count`; 0 where it is 0.
    pub(super) fn nth(self, data: &[u8], count: u64) -> usize {
        let mut at = 0;
        for _ in 0..count {
            let rest = data.get(at..).unwrap_or_default();
            at = self.first(rest).map_or(data.len(), |end| at + end);
        }
        at
    }

    /// Bytes of a unit.
    fn unit(self) -> usize {
        if self == Self::Byte { 1 } else { 2 }
    }
}

/// What a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Whole lines.
    pub(super) whole: Range<usize>,
    /// The beginning of a line that has no end yet and is longer than any may be.
    pub(super) long: Option<Range<usize>>,
    /// Bytes that are done with.
    pub(super) used: usize,
    /// What is to be passed over in the next block.
    pub(super) skip: Skip,
}

/// Finds the whole lines of `data`, which begins at the begin of a line unless `skip` says otherwise. A line of more than
/// `max` bytes that has no end yet is given up. At the `last` of a file what is left is a line, too.
pub(super) fn cut(data: &[u8], ending: Ending, skip: Skip, max: usize, last: bool) -> Cut {
    let even = data.len() - data.len() % ending.unit();
    let data = data.get(..even).unwrap_or(data);
    let mut from = 0;
    let mut skip = skip;
    if skip == Skip::Line {
        match ending.first(data) {
            Some(end) => (from, skip) = (end, Skip::Nothing),
            None => {
                return Cut {
                    whole: 0..0,
                    long: None,
                    used: data.len(),
                    skip,
                };
            }
        }
    }
    let rest = data.get(from..).unwrap_or_default();
    let end = ending.last(rest).map_or(from, |end| from + end);
    let left = data.len() - end;
    if left > max {
        return Cut {
            whole: from..end,
            long: Some(end..end + max),
            used: data.len(),
            skip: Skip::Line,
        };
    }
    let end = if last { data.len() } else { end };
    Cut {
        whole: from..end,
        long: None,
        used: end,
        skip,
    }
}

/// How lines are joined to records.
#[derive(Debug, Clone)]
pub(super) struct Joining {
    /// A line in which this is found begins a record.
    pub(super) start: Regex,
    /// Lines of a record at the most.
    pub(super) lines_max: usize,
    /// Bytes of a record at the most.
    pub(super) bytes_max: usize,
}

/// A record of one or more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Its bytes with its last line end, and not more than it may have.
    pub(super) range: Range<usize>,
    /// Whether more belonged to it.
    pub(super) truncated: bool,
}

/// The records of a block of whole lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Records {
    pub(super) records: Vec<Record>,
    /// Where the record begins that may go on behind the block; the block's length where there is none.
    pub(super) used: usize,
    /// Whether the lines that follow belong to a record that is too long.
    pub(super) skip: bool,
}

impl Joining {
    /// Joins the lines of `block`. The last record stays for the next block unless it is to be `flush`ed.
    pub(super) fn records(&self, block: &[u8], skip: bool, flush: bool) -> Records {
        let mut found = Records {
            skip,
            ..Records::default()
        };
        let mut open: Option<(usize, usize)> = None; // begin and lines of the record under way
        let mut at = 0;
        for line in lines(block) {
            let end = at + line.len();
            if self.start.is_match(text(line)) {
                found.close(open.take(), at, false);
                found.skip = false;
            }
            if !found.skip {
                let (begin, count) = open.unwrap_or((at, 0));
                open = Some((begin, count + 1));
                if count >= self.lines_max {
                    found.close(open.take(), at, true);
                    found.skip = true;
                } else if end - begin > self.bytes_max {
                    found.close(open.take(), begin + self.bytes_max, true);
                    found.skip = true;
                }
            }
            at = end;
        }
        if flush {
            found.close(open.take(), at, false);
        }
        found.used = open.map_or(at, |(begin, _)| begin);
        found
    }
}

impl Records {
    fn close(&mut self, open: Option<(usize, usize)>, end: usize, truncated: bool) {
        if let Some((begin, _)) = open {
            self.records.push(Record {
                range: begin..end,
                truncated,
            });
        }
    }
}

/// The lines of a block, each with its end.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        Some(line)
    })
}

/// A line without its end.
pub(super) fn text(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many lines end in a block.
pub(super) fn count(block: &[u8]) -> u64 {
    memchr_iter(b'\n', block).count() as u64
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 8;

    /// Reads `data` as it arrives in `chunks`, as the reader does: what is not used comes again.
    fn read(data: &[u8], chunks: &[usize], ending: Ending) -> Vec<(Vec<u8>, bool)> {
        let mut found = Vec::new();
        let (mut at, mut seen, mut skip) = (0, 0, Skip::Nothing);
        let mut chunks = chunks.iter().copied().chain(std::iter::repeat(data.len()));
        while seen < data.len() {
            seen = data.len().min(seen + chunks.next().unwrap().max(1));
            let cut = cut(&data[at..seen], ending, skip, MAX, seen == data.len());
            let whole = &data[at..seen][cut.whole];
            let mut rest = whole;
            while !rest.is_empty() {
                let end = ending.first(rest).unwrap_or(rest.len());
                let mut line = &rest[..end];
                if ending.last(line).is_some() {
                    line = &line[..end - ending.unit()];
                }
                found.push((line[..line.len().min(MAX)].to_vec(), line.len() > MAX));
                rest = &rest[end..];
            }
            found.extend(cut.long.map(|long| (data[at..seen][long].to_vec(), true)));
            (at, skip) = (at + cut.used, cut.skip);
        }
        found
    }

    #[test]
    fn lines_are_found_and_long_ones_cut() {
        let line = |text: &str, cut| (text.as_bytes().to_vec(), cut);
        assert_eq!(
            read(b"a\n\nbb\n123456789\nc", &[], Ending::Byte),
            [
                line("a", false),
                line("", false),
                line("bb", false),
                line("12345678", true),
                line("c", false)
            ]
        );
        // The byte of a line end inside of another letter is none.
        assert_eq!(
            read(b"a\0\x0a\x01\n\0b\0", &[], Ending::Utf16Le),
            [(b"a\0\x0a\x01".to_vec(), false), (b"b\0".to_vec(), false)]
        );
    }

    proptest! {
        #[test]
        fn any_blocks_give_the_same_lines(
            data in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(0), Just(b'a'), any::<u8>()], 0..200),
            chunks in proptest::collection::vec(1usize..30, 0..40),
        ) {
            prop_assert_eq!(read(&data, &chunks, Ending::Byte), read(&data, &[], Ending::Byte));
            let even = &data[..data.len() / 2 * 2];
            for ending in [Ending::Utf16Le, Ending::Utf16Be] {
                prop_assert_eq!(read(even, &chunks, ending), read(even, &[], ending));
            }
        }

        #[test]
        fn any_blocks_give_the_same_records(
            lines in proptest::collection::vec("(> ?)?[a-z]{0,6}\n", 0..40),
            chunks in proptest::collection::vec(1usize..8, 0..40),
        ) {
            let joining = Joining { start: Regex::new("^>").unwrap(), lines_max: 3, bytes_max: 16 };
            let text = lines.concat();
            let join = |chunks: &[usize]| {
                let mut found = Vec::new();
                let (mut at, mut seen, mut line, mut skip) = (0, 0, 0, false);
                let mut chunks = chunks.iter().copied().chain(std::iter::repeat(lines.len()));
                while line < lines.len() {
                    let until = lines.len().min(line + chunks.next().unwrap());
                    seen += lines[line..until].concat().len();
                    line = until;
                    let block = &text.as_bytes()[at..seen];
                    let records = joining.records(block, skip, line == lines.len());
                    for record in records.records {
                        found.push((block[record.range].to_vec(), record.truncated));
                    }
                    (at, skip) = (at + records.used, records.skip);
                }
                found
            };
            prop_assert_eq!(join(&chunks), join(&[]));
        }
    }

    #[test]
    fn records_begin_where_they_are_told_to() {
        let joining = Joining {
            start: Regex::new("^[0-9]").unwrap(),
            lines_max: 2,
            bytes_max: 100,
        };
        let block = b" stray\n1 a\n at x\n at y\n2 b\n";
        let got = joining.records(block, false, true);
        let shown: Vec<_> = got
            .records
            .iter()
            .map(|record| {
                (
                    String::from_utf8_lossy(&block[record.range.clone()]).into_owned(),
                    record.truncated,
                )
            })
            .collect();
        let want = [
            (" stray\n", false),
            ("1 a\n at x\n", true),
            ("2 b\n", false),
        ];
        assert_eq!(shown, want.map(|(text, cut)| (text.to_owned(), cut)));
        let open = joining.records(block, false, false);
        assert_eq!(
            (open.records.len(), open.used),
            (2, 23),
            "the last one may go on"
        );
    }
}
