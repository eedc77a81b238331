//! The journal's export format: from bytes as they come to entries (<https://systemd.io/JOURNAL_EXPORT_FORMATS/>). Pure;
//! no bytes make it fail, and nothing in it grows without a bound.

/// What is kept of a value; the rest of it is left out.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Bytes without a line's end after which a field is left out.
const LINE_BYTES_MAX: usize = 1 << 20;

/// One entry, as far as rules and cursors need it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// Where it stands; to be given back as it is.
    pub(super) cursor: String,
    /// When it was written, in microseconds since 1970.
    pub(super) realtime_us: u64,
    pub(super) message: Vec<u8>,
    /// Whether a part of the message is missing.
    pub(super) truncated: bool,
    /// What calls itself by that name.
    pub(super) identifier: String,
    pub(super) pid: String,
    pub(super) unit: String,
    pub(super) command: String,
}

/// A reader of the format.
#[derive(Debug, Default)]
pub(super) struct Export {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are done with.
    done: usize,
    entry: Entry,
    /// A binary value under way: its field, what is kept of it, and what is still to come with the line's end.
    value: Option<(String, Vec<u8>, u64)>,
    /// The rest of a line that is too long is left out.
    skips_line: bool,
}

impl Export {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next entry that is whole.
    pub(super) fn next(&mut self) -> Option<Entry> {
        loop {
            if self.value.is_some() {
                self.binary()?;
                continue;
            }
            let rest = self.buffer.get(self.done..).unwrap_or_default();
            let Some(length) = memchr::memchr(b'\n', rest) else {
                if rest.len() > LINE_BYTES_MAX {
                    self.skips_line = true;
                    self.done = self.buffer.len();
                }
                return None;
            };
            let line = rest.get(..length).unwrap_or_default().to_vec();
            if std::mem::take(&mut self.skips_line) {
                self.done += length + 1;
            } else if line.is_empty() {
                self.done += 1;
                let entry = std::mem::take(&mut self.entry);
                if !entry.cursor.is_empty() {
                    return Some(entry.named());
                }
            } else if let Some(at) = memchr::memchr(b'=', &line) {
                self.done += length + 1;
                let (field, value) = line.split_at(at);
                self.entry.set(
                    &String::from_utf8_lossy(field),
                    value.get(1..).unwrap_or_default(),
                    0,
                );
            } else {
                // A name alone: eight bytes of length follow, then the value and a line's end.
                let size = rest.get(length + 1..length + 9)?;
                let size = u64::from_le_bytes(size.try_into().ok()?);
                let field = String::from_utf8_lossy(&line).into_owned();
                self.done += length + 9;
                self.value = Some((field, Vec::new(), size.saturating_add(1)));
            }
        }
    }

    /// Goes on with a binary value; `None` while more bytes are needed.
    fn binary(&mut self) -> Option<()> {
        let rest = self.buffer.get(self.done..).unwrap_or_default();
        let (field, mut kept, left) = self.value.take()?;
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let room = VALUE_BYTES_MAX.saturating_add(1).saturating_sub(kept.len());
        kept.extend(rest.iter().take(here.min(room)));
        self.done += here;
        let left = left - here as u64;
        if left > 0 {
            self.value = Some((field, kept, left));
            return None;
        }
        let missing = kept.len() > VALUE_BYTES_MAX;
        if !missing {
            kept.pop(); // the line's end
        }
        self.entry.set(&field, &kept, usize::from(missing));
        Some(())
    }
}

impl Entry {
    fn set(&mut self, field: &str, value: &[u8], missing: usize) {
        let kept = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
        let text = || String::from_utf8_lossy(kept).into_owned();
        match field {
            "__CURSOR" => self.cursor = text(),
            "__REALTIME_TIMESTAMP" => self.realtime_us = text().parse().unwrap_or(0),
            "MESSAGE" => {
                self.message = kept.to_vec();
                self.truncated = missing > 0 || kept.len() < value.len();
            }
            "SYSLOG_IDENTIFIER" => self.identifier = text(),
            "_COMM" => self.command = text(),
            "_PID" => self.pid = text(),
            "SYSLOG_PID" if self.pid.is_empty() => self.pid = text(),
            "_SYSTEMD_UNIT" => self.unit = text(),
            _ => {}
        }
    }

    fn named(mut self) -> Self {
        if self.identifier.is_empty() {
            self.identifier = std::mem::take(&mut self.command);
        }
        self
    }

    /// The entry as syslog has it after time and host: `sshd[12]: message`.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = self.identifier.clone().into_bytes();
        if !self.pid.is_empty() {
            line.extend_from_slice(format!("[{}]", self.pid).as_bytes());
        }
        if !line.is_empty() {
            line.extend_from_slice(b": ");
        }
        line.extend_from_slice(&self.message);
        line
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &[u8] = b"__CURSOR=s=1;i=1\n__REALTIME_TIMESTAMP=1795378352990354\n_BOOT_ID=b\nSYSLOG_IDENTIFIER=Keepalived_vrrp\n_PID=745\n\
        MESSAGE=(VI_1) Entering MASTER STATE\n\n__CURSOR=s=1;i=2\n_PID=7\n_COMM=python3\nMESSAGE\n\x07\0\0\0\0\0\0\0bin\nary\n_SYSTEMD_UNIT=a.service\n\n";

    fn entries(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<Entry> {
        let mut export = Export::default();
        let mut entries = Vec::new();
        for chunk in chunks {
            export.push(&chunk);
            entries.extend(std::iter::from_fn(|| export.next()));
        }
        entries
    }

    #[test]
    fn entries_are_read_with_text_and_binary_values() {
        let got = entries([TWO.to_vec()].into_iter());
        let lines: Vec<_> = got
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.line()).into_owned())
            .collect();
        assert_eq!(
            lines,
            [
                "Keepalived_vrrp[745]: (VI_1) Entering MASTER STATE",
                "python3[7]: bin\nary"
            ]
        );
        assert_eq!(
            (got[0].cursor.as_str(), got[0].realtime_us),
            ("s=1;i=1", 1_795_378_352_990_354)
        );
        assert_eq!(got[1].unit, "a.service");
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "x".repeat(VALUE_BYTES_MAX + 5);
        let text = format!("__CURSOR=a\nMESSAGE={long}\n\n").into_bytes();
        let mut binary = b"__CURSOR=a\nMESSAGE\n".to_vec();
        binary.extend((long.len() as u64).to_le_bytes());
        binary.extend(format!("{long}\n\n").into_bytes());
        for bytes in [text, binary] {
            let got = entries(bytes.chunks(1000).map(<[u8]>::to_vec));
            assert_eq!(
                (got.len(), got[0].truncated, got[0].message.len()),
                (1, true, VALUE_BYTES_MAX)
            );
        }
        let endless =
            "__CURSOR=".to_owned() + &"y".repeat(3 * LINE_BYTES_MAX) + "\n\n__CURSOR=b\n\n";
        let got = entries(endless.into_bytes().chunks(1 << 16).map(<[u8]>::to_vec));
        assert_eq!(
            got.iter()
                .map(|entry| entry.cursor.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(sizes in prop::collection::vec(1usize..40, 1..40)) {
            let mut rest = TWO;
            let mut chunks = Vec::new();
            for size in sizes.into_iter().cycle() {
                if rest.is_empty() { break }
                let (head, tail) = rest.split_at(size.min(rest.len()));
                chunks.push(head.to_vec());
                rest = tail;
            }
            prop_assert_eq!(entries(chunks.into_iter()), entries([TWO.to_vec()].into_iter()));
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'='), Just(0)], 0..400)) {
            entries([bytes].into_iter());
        }
    }
}
