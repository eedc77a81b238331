//! The lines of keepalived's notify FIFOs. Pure: bytes in, notices out.
//!
//! Lines of virtual and real servers end in a NUL that is written behind the newline, so that the next line begins with
//! it. A virtual server may be `FWM 5`, with a blank; names of instances stand in quotes and may hold anything.

use muster_proto::snapshot::keepalived::VrrpState;

/// Longest line that is taken: names are short, and what is longer is not a line of keepalived.
const LINE_BYTES_MAX: usize = 4096;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// `INSTANCE "VI_1" MASTER 150`
    Instance {
        name: String,
        state: VrrpState,
        priority: Option<u32>,
    },
    /// `INSTANCE "VI_1" BACKUP_PRIORITY 90`
    Priority { name: String, priority: u32 },
    /// `GROUP "G1" BACKUP 0`
    Group { name: String, state: VrrpState },
    /// `VS [192.0.2.99]:tcp:80 DOWN`
    Virtual { server: String, up: bool },
    /// `RS [10.8.1.2]:tcp:8080 [192.0.2.99]:tcp:80 DOWN`
    Real {
        server: String,
        real: String,
        up: bool,
    },
    /// Known, and no change of anything that is watched.
    Nothing,
}

/// What is being read: bytes of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Adds bytes and gives the lines that end in them, without NULs; a line that is too long is given as an empty one.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&str)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = bytes.split_at(at);
            self.keep(head);
            let text = String::from_utf8_lossy(&self.partial);
            line(if self.too_long { "" } else { &text });
            self.partial.clear();
            self.too_long = false;
            bytes = tail.get(1..).unwrap_or_default();
        }
        self.keep(bytes);
    }

    /// The writer is another one now.
    pub(super) fn forget(&mut self) {
        self.partial.clear();
        self.too_long = false;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let wanted = bytes.iter().filter(|byte| **byte != 0);
        for byte in wanted {
            if self.partial.len() >= LINE_BYTES_MAX {
                self.too_long = true;
                return;
            }
            self.partial.push(*byte);
        }
    }
}

/// Reads a line; `None` where it says nothing that is known.
pub(super) fn parse(line: &str) -> Option<Notice> {
    let line = line.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "INSTANCE" => instance(rest),
        "GROUP" => {
            let (name, state, _) = named(rest)?;
            let state = VrrpState::named(state);
            known(state).map(|state| Notice::Group { name, state })
        }
        "VS" => {
            let (server, up) = updown(rest)?;
            let server = server.to_owned();
            Some(Notice::Virtual { server, up })
        }
        "RS" => {
            let (both, up) = updown(rest)?;
            // A real server is never written with a blank, a virtual server may be.
            let (real, server) = both.split_once(' ')?;
            let (server, real) = (server.trim().to_owned(), real.to_owned());
            (!server.is_empty()).then_some(Notice::Real { server, real, up })
        }
        _ => None,
    }
}

fn instance(rest: &str) -> Option<Notice> {
    let (name, word, priority) = named(rest)?;
    match word {
        "MASTER_PRIORITY" | "BACKUP_PRIORITY" => Some(Notice::Priority {
            name,
            priority: priority?,
        }),
        "MASTER_RX_LOWER_PRI" => Some(Notice::Nothing),
        word => known(VrrpState::named(word)).map(|state| Notice::Instance {
            name,
            state,
            priority,
        }),
    }
}

/// Name, word and number of `"VI_1" MASTER 150`; the number may be missing.
fn named(rest: &str) -> Option<(String, &str, Option<u32>)> {
    let (name, rest) = rest.trim().strip_prefix('"')?.rsplit_once('"')?;
    let mut words = rest.split_ascii_whitespace();
    let word = words.next()?;
    let number = words.next().and_then(|number| number.parse().ok());
    (!name.is_empty()).then(|| (name.to_owned(), word, number))
}

fn updown(rest: &str) -> Option<(&str, bool)> {
    let (what, word) = rest.trim().rsplit_once(' ')?;
    let up = match word {
        "UP" => true,
        "DOWN" => false,
        _ => return None,
    };
    let what = what.trim();
    (!what.is_empty()).then_some((what, up))
}

fn known(state: VrrpState) -> Option<VrrpState> {
    (state != VrrpState::Unknown).then_some(state)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VRRP: &str = include_str!("../../../fixtures/keepalived/2.2.7/vrrp_fifo.txt");
    const LVS: &str = include_str!("../../../fixtures/keepalived/2.2.7/lvs_fifo.txt");

    fn all(bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        Lines::default().push(bytes, |line| found.push(line.to_owned()));
        found
    }

    fn real(server: &str, real: &str, up: bool) -> Option<Notice> {
        let (server, real) = (server.to_owned(), real.to_owned());
        Some(Notice::Real { server, real, up })
    }

    fn virtual_server(server: &str, up: bool) -> Option<Notice> {
        let server = server.to_owned();
        Some(Notice::Virtual { server, up })
    }

    #[test]
    fn every_line_of_the_samples_is_known() {
        for line in VRRP.lines().chain(LVS.lines()) {
            assert!(parse(line).is_some(), "{line:?}");
        }
    }

    #[test]
    fn forms() {
        let state = |name: &str, state, priority| {
            let name = name.to_owned();
            Some(Notice::Instance {
                name,
                state,
                priority,
            })
        };
        for (line, notice) in [
            (
                r#"INSTANCE "VI_1" MASTER 150"#,
                state("VI_1", VrrpState::Master, Some(150)),
            ),
            (
                r#"INSTANCE "a b "c"" FAULT 0"#,
                state("a b \"c\"", VrrpState::Fault, Some(0)),
            ),
            (
                r#"INSTANCE "MASTER 1" STOP"#,
                state("MASTER 1", VrrpState::Stop, None),
            ),
            (
                r#"INSTANCE "V" DELETED 1"#,
                state("V", VrrpState::Deleted, Some(1)),
            ),
            (
                r#"INSTANCE "V" MASTER_RX_LOWER_PRI 1"#,
                Some(Notice::Nothing),
            ),
            (
                r#"INSTANCE "V" BACKUP_PRIORITY 90"#,
                Some(Notice::Priority {
                    name: "V".into(),
                    priority: 90,
                }),
            ),
            (
                r#"GROUP "G 1" BACKUP 0"#,
                Some(Notice::Group {
                    name: "G 1".into(),
                    state: VrrpState::Backup,
                }),
            ),
            ("VS FWM 5 DOWN", virtual_server("FWM 5", false)),
            ("\0VS [VSG1]:0 UP", virtual_server("[VSG1]:0", true)),
            (
                "VS [2001:db8::99]:tcp:80 UP",
                virtual_server("[2001:db8::99]:tcp:80", true),
            ),
            (
                "RS [10.8.2.2]:tcp:8080 FWM 5 DOWN",
                real("FWM 5", "[10.8.2.2]:tcp:8080", false),
            ),
            (
                "RS [10.8.2.2]:tcp:8080 [a b]:0 UP",
                real("[a b]:0", "[10.8.2.2]:tcp:8080", true),
            ),
            ("RS [10.8.2.2]:tcp:8080 UP", None),
            ("VS UP", None),
            ("VS [1.2.3.4]:tcp:80 SIDEWAYS", None),
            (r#"INSTANCE "V" NEW_STATE 1"#, None),
            (r#"INSTANCE "" MASTER 1"#, None),
            ("INSTANCE V MASTER 1", None),
            ("", None),
        ] {
            assert_eq!(parse(line), notice, "{line:?}");
        }
    }

    #[test]
    fn lines_survive_nuls_pieces_and_floods() {
        assert_eq!(all(b"VS a UP\n\0VS b UP\n\0"), ["VS a UP", "VS b UP"]);
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for byte in b"\0VS a UP\nVS b" {
            lines.push(&[*byte], |line| found.push(line.to_owned()));
        }
        lines.push(b" UP\n", |line| found.push(line.to_owned()));
        assert_eq!(found, ["VS a UP", "VS b UP"]);
        let flood = vec![b'x'; 3 * LINE_BYTES_MAX];
        lines.push(&flood, |line| found.push(line.to_owned()));
        assert!(lines.partial.len() <= LINE_BYTES_MAX);
        lines.push(b"\nVS c UP\n", |line| found.push(line.to_owned()));
        assert_eq!(found.split_off(2), ["", "VS c UP"]);
        lines.push(b"half", |_| {});
        lines.forget();
        lines.push(b"VS d UP\n", |line| found.push(line.to_owned()));
        assert_eq!(found.last().unwrap(), "VS d UP");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            for line in all(&bytes) {
                _ = parse(&line);
            }
        }

        #[test]
        fn cuts_never_panic(from in 0..LVS.len(), length in 0..200usize) {
            let end = (from + length).min(LVS.len());
            for line in all(LVS.as_bytes().get(from..end).unwrap()) {
                _ = parse(&line);
            }
        }
    }
}
