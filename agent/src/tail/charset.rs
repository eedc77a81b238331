//! The encodings of log files: which one a file is in, and from it to UTF-8. Pure.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::lines::Ending;

/// The encoding of a section's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Charset {
    /// As the file's first bytes say; taken as it is, byte for byte, where they say nothing.
    #[default]
    Sniffed,
    /// This one.
    Named(&'static Encoding),
}

/// How a file's bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    /// `None` where the bytes are matched as they are.
    decode: Option<&'static Encoding>,
    /// How its lines end.
    pub(super) ending: Ending,
    /// Bytes at the begin of the file that are no text.
    pub(super) mark_bytes: usize,
}

impl Charset {
    /// Reads an encoding's name, as `utf-16le` or `gbk`; `auto` is [`Charset::Sniffed`].
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if name == "auto" {
            return Ok(Self::Sniffed);
        }
        Encoding::for_label(name.as_bytes())
            .map(Self::Named)
            .ok_or_else(|| format!("expected \"auto\" or an encoding's name such as \"utf-8\", \"utf-16le\", \"latin1\" or \"gbk\", found {name:?}"))
    }

    /// How a file that begins with `head` is read.
    pub(super) fn coding(self, head: &[u8]) -> Coding {
        let marked = Encoding::for_bom(head);
        let (encoding, mark_bytes) = match (self, marked) {
            (Self::Sniffed, Some((encoding, bytes))) => (encoding, bytes),
            (Self::Sniffed, None) => (UTF_8, 0),
            (Self::Named(named), Some((encoding, bytes))) if named == encoding => (named, bytes),
            (Self::Named(named), _) => (named, 0),
        };
        let ending = if encoding == UTF_16LE {
            Ending::Utf16Le
        } else if encoding == UTF_16BE {
            Ending::Utf16Be
        } else {
            Ending::Byte
        };
        Coding {
            decode: (encoding != UTF_8).then_some(encoding),
            ending,
            mark_bytes,
        }
    }
}

impl Coding {
    /// Whether the bytes have to be decoded before they are matched.
    pub(super) fn decodes(&self) -> bool {
        self.decode.is_some()
    }

    /// Appends `raw` to `to` as UTF-8; what is no text becomes U+FFFD.
    pub(super) fn decode_into(&self, raw: &[u8], to: &mut Vec<u8>) {
        match self.decode {
            None => to.extend_from_slice(raw),
            Some(encoding) => {
                let (text, _) = encoding.decode_without_bom_handling(raw);
                to.extend_from_slice(text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_they_say_or_as_they_are_said_to_be() {
        for (name, head, decodes, ending, mark) in [
            ("auto", &b"plain"[..], false, Ending::Byte, 0),
            ("auto", b"", false, Ending::Byte, 0),
            ("auto", b"\xef\xbb\xbfx", false, Ending::Byte, 3),
            ("auto", b"\xff\xfex\0", true, Ending::Utf16Le, 2),
            ("auto", b"\xfe\xff\0x", true, Ending::Utf16Be, 2),
            ("utf-16le", b"x\0", true, Ending::Utf16Le, 0),
            ("utf-16le", b"\xff\xfex\0", true, Ending::Utf16Le, 2),
            ("latin1", b"\xe4", true, Ending::Byte, 0),
            ("gbk", b"\xc4\xe3", true, Ending::Byte, 0),
            ("utf8", b"x", false, Ending::Byte, 0),
        ] {
            let coding = Charset::parse(name).unwrap().coding(head);
            let got = (coding.decodes(), coding.ending, coding.mark_bytes);
            assert_eq!(got, (decodes, ending, mark), "{name} {head:?}");
        }
        assert!(Charset::parse("klingon").unwrap_err().contains("klingon"));
    }

    #[test]
    fn text_comes_out_as_utf_8() {
        for (name, raw, want) in [
            ("latin1", &b"gr\xfc\xdfe\n"[..], "grüße\n"),
            ("gbk", b"\xc4\xe3\xba\xc3", "你好"),
            ("utf-16le", b"h\0i\0\n\0", "hi\n"),
            ("utf-16be", b"\0h\0i", "hi"),
        ] {
            let mut text = Vec::new();
            let coding = Charset::parse(name).unwrap().coding(b"");
            coding.decode_into(raw, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), want, "{name}");
        }
    }
}
