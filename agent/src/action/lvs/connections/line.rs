//! A line of the kernel's IPVS connection table: `/proc/net/ip_vs_conn` and `/proc/net/ip_vs_conn_sync`
//! (`net/netfilter/ipvs/ip_vs_conn.c`). Pure.
//!
//! Bytes, not text: what a persistence engine adds at the end of a line is taken from clients' packets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A short name of the kernel's, such as `TCP` or `ESTABLISHED`; cut off at 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Word([u8; 16]);

/// How the lines are made up, by the table's first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `ip_vs_conn`.
    Plain,
    /// `ip_vs_conn_sync`, which says where an entry comes from.
    WithOrigin,
}

/// An address and a port.
pub(super) type Place = (IpAddr, u16);

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) protocol: Word,
    pub(super) client: Place,
    pub(super) virtual_server: Place,
    pub(super) real: Place,
    pub(super) state: Word,
    /// Whether it came from another director; not known in the plain form.
    pub(super) synced: bool,
}

impl Word {
    fn new(bytes: &[u8]) -> Self {
        let mut word = [0; 16];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(word)
    }

    pub(super) fn is(&self, name: &str) -> bool {
        *self == Self::new(name.as_bytes())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0);
        let (name, _) = self.0.split_at(end.unwrap_or(self.0.len()));
        f.write_str(&String::from_utf8_lossy(name))
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Form {
    /// The form that the table's first line announces.
    pub(super) fn of_head(line: &[u8]) -> Option<Self> {
        let words: Vec<&[u8]> = words(line).collect();
        if words.first() != Some(&b"Pro".as_slice()) {
            return None;
        }
        Some(if words.contains(&b"Origin".as_slice()) {
            Self::WithOrigin
        } else {
            Self::Plain
        })
    }
}

impl Entry {
    /// The entry in `line`; none where it is not one.
    pub(super) fn parse(form: Form, line: &[u8]) -> Option<Self> {
        let mut words = words(line);
        let mut next = || words.next();
        let protocol = Word::new(next()?);
        let client = (address(next()?)?, port(next()?)?);
        let virtual_server = (address(next()?)?, port(next()?)?);
        let real = (address(next()?)?, port(next()?)?);
        let state = Word::new(next()?);
        let synced = form == Form::WithOrigin && next()? == b"SYNC";
        next()?; // the time that it has left
        Some(Self {
            protocol,
            client,
            virtual_server,
            real,
            state,
            synced,
        })
    }

    /// Whether it is no connection, but keeps a client at a real server.
    pub(super) fn is_template(&self) -> bool {
        // The kernel shows a template's own states by these two names (`ip_vs_state_name`).
        self.client.1 == 0 && (self.state.is("NONE") || self.state.is("ASSURED"))
    }

    /// The firewall mark whose virtual server keeps a client: such a template has the mark in place of an address.
    pub(super) fn mark(&self) -> Option<u32> {
        (self.protocol.is("IP") && self.is_template()).then(|| match self.virtual_server.0 {
            IpAddr::V4(mark) => mark.to_bits(),
            IpAddr::V6(mark) => u32::try_from(mark.to_bits() >> 96).unwrap_or(0),
        })
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

fn address(word: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(word).ok()?;
    if text.contains(':') {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        return bare
            .unwrap_or(text)
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6);
    }
    let bits = (text.len() == 8).then(|| hex(text)).flatten()?;
    Some(IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

fn port(word: &[u8]) -> Option<u16> {
    let text = str::from_utf8(word).ok()?;
    u16::try_from((text.len() == 4).then(|| hex(text)).flatten()?).ok()
}

fn hex(text: &str) -> Option<u32> {
    // `from_str_radix` would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = include_str!("samples/ip_vs_conn");
    const SYNC: &str = include_str!("samples/ip_vs_conn_sync");

    fn shown(form: Form, line: &[u8]) -> String {
        match Entry::parse(form, line) {
            None => "?".to_owned(),
            Some(entry) => format!(
                "{} {:?} {:?} {:?} {}{}{}{}",
                entry.protocol,
                std::net::SocketAddr::from(entry.client),
                std::net::SocketAddr::from(entry.virtual_server),
                std::net::SocketAddr::from(entry.real),
                entry.state,
                if entry.synced { " synced" } else { "" },
                if entry.is_template() { " template" } else { "" },
                entry
                    .mark()
                    .map_or(String::new(), |mark| format!(" of mark {mark}")),
            ),
        }
    }

    #[test]
    fn every_line_of_the_samples_is_understood() {
        for (sample, form) in [(PLAIN, Form::Plain), (SYNC, Form::WithOrigin)] {
            let (head, lines) = sample.split_once('\n').unwrap();
            assert_eq!(Form::of_head(head.as_bytes()), Some(form));
            assert_eq!(lines.lines().count(), 32);
            for line in lines.lines() {
                let entry = Entry::parse(form, line.as_bytes()).unwrap();
                assert!(
                    entry.protocol.is("TCP") && !entry.synced && !entry.is_template(),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn lines_of_all_kinds() {
        use Form::{Plain, WithOrigin};
        let cases: &[(Form, &[u8], &str)] = &[
            (
                Plain,
                b"TCP 0A090002 9372 C0000263 0050 0A080102 1F90 TIME_WAIT       112",
                "TCP 10.9.0.2:37746 192.0.2.99:80 10.8.1.2:8080 TIME_WAIT",
            ),
            (
                WithOrigin,
                b"UDP 0A090002 9372 C000020A 0035 0A010004 0035 UDP         SYNC       298",
                "UDP 10.9.0.2:37746 192.0.2.10:53 10.1.0.4:53 UDP synced",
            ),
            (
                Plain,
                b"TCP 2001:0db8:0000:0000:0000:0000:0000:0002 9372 2001:0db8:0000:0000:0000:0000:0000:0010 0050 0A010009 0050 ESTABLISHED     893",
                "TCP [2001:db8::2]:37746 [2001:db8::10]:80 10.1.0.9:80 ESTABLISHED",
            ),
            (
                Plain,
                b"TCP [2001:0db8:0000:0000:0000:0000:0000:0002] 9372 [2001:0db8:0000:0000:0000:0000:0000:0010] 0050 [2001:0db8:0001:0000:0000:0000:0000:0001] 0050 FIN_WAIT        10",
                "TCP [2001:db8::2]:37746 [2001:db8::10]:80 [2001:db8:1::1]:80 FIN_WAIT",
            ),
            (
                Plain,
                b"TCP 0A090000 0000 C000020A 01BB 0A010001 01BB NONE            299",
                "TCP 10.9.0.0:0 192.0.2.10:443 10.1.0.1:443 NONE template",
            ),
            (
                Plain,
                b"IP  0A090002 0000 00000007 0000 0A010001 0000 ASSURED         299",
                "IP 10.9.0.2:0 0.0.0.7:0 10.1.0.1:0 ASSURED template of mark 7",
            ),
            (
                Plain,
                b"IP  2001:0db8:0000:0000:0000:0000:0000:0002 0000 0000:0008:0000:0000:0000:0000:0000:0000 0000 2001:0db8:0001:0000:0000:0000:0000:0001 0000 NONE             59",
                "IP [2001:db8::2]:0 [0:8::]:0 [2001:db8:1::1]:0 NONE template of mark 8",
            ),
            (
                Plain,
                b"UDP 0A090002 13C4 C000020A 13C4 0A010001 13C4 UDP             299 sip \xff\x00id with blanks@host",
                "UDP 10.9.0.2:5060 192.0.2.10:5060 10.1.0.1:5060 UDP",
            ),
            (
                Plain,
                b"IP_51 0A090002 0000 C000020A 0000 0A010001 0000 ERR! 18446744073709551615",
                "IP_51 10.9.0.2:0 192.0.2.10:0 10.1.0.1:0 ERR!",
            ),
            (Plain, b"", "?"),
            (Plain, b"TCP 0A090002 9372 C0000263 0050 0A080102 1F90 TIME_WAIT", "?"),
            (Plain, b"TCP 0A09002 9372 C0000263 0050 0A080102 1F90 TIME_WAIT 1", "?"),
            (Plain, b"TCP +A090002 9372 C0000263 0050 0A080102 1F90 TIME_WAIT 1", "?"),
            (Plain, b"TCP 0A090002 19372 C0000263 0050 0A080102 1F90 TIME_WAIT 1", "?"),
        ];
        for (form, line, want) in cases {
            assert_eq!(
                shown(*form, line),
                *want,
                "{}",
                String::from_utf8_lossy(line)
            );
        }
        assert_eq!(Form::of_head(b"IP Virtual Server version 1.2.1"), None);
    }

    proptest! {
        #[test]
        fn damaged_lines_never_panic(
            line in 1..33_usize,
            cut in 0..90_usize,
            at in 0..90_usize,
            byte in any::<u8>(),
            sync in any::<bool>(),
        ) {
            let (sample, form) = if sync { (SYNC, Form::WithOrigin) } else { (PLAIN, Form::Plain) };
            let mut line = sample.lines().nth(line).unwrap().as_bytes().to_vec();
            line.truncate(cut);
            if let Some(place) = line.get_mut(at) {
                *place = byte;
            }
            let _ = Entry::parse(form, &line).map(|entry| (entry.mark(), entry.state.to_string()));
            let _ = Form::of_head(&line);
        }

        #[test]
        fn garbage_never_panics(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entry::parse(Form::Plain, &line);
        }
    }
}
