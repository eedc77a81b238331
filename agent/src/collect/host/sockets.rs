//! Sockets and the counters of their protocols, from `/proc/net/{sockstat,sockstat6,snmp,snmp6,netstat}` (kernel:
//! `net/ipv4/proc.c`, `net/ipv6/proc.c`), and open files, from `/proc/sys/fs/file-nr`.
//!
//! procfs's `Snmp` is not used: it wants `InCsumErrors`, which kernels before 3.10 lack, and has no `TcpExt`.

use muster_proto::snapshot::host::{Files, Sockets, TcpCounters, UdpCounters};

use super::super::files::{ParseError, number};
use super::super::rate::{Seen, Wrap};
use super::counters::{self, Named};
use super::{Part, PartFailed, Run};

static TCP: &[Named<TcpCounters>] = &[
    ("ActiveOpens", |tcp| &mut tcp.active_opens),
    ("PassiveOpens", |tcp| &mut tcp.passive_opens),
    ("AttemptFails", |tcp| &mut tcp.attempt_failures),
    ("EstabResets", |tcp| &mut tcp.established_resets),
    ("InSegs", |tcp| &mut tcp.segments_in),
    ("OutSegs", |tcp| &mut tcp.segments_out),
    ("RetransSegs", |tcp| &mut tcp.segments_retransmitted),
    ("InErrs", |tcp| &mut tcp.segments_in_errors),
    ("OutRsts", |tcp| &mut tcp.resets_out),
    ("ListenOverflows", |tcp| &mut tcp.listen_overflows),
    ("ListenDrops", |tcp| &mut tcp.listen_drops),
    ("TCPTimeouts", |tcp| &mut tcp.timeouts),
    ("TCPSynRetrans", |tcp| &mut tcp.syn_retransmitted),
    ("SyncookiesSent", |tcp| &mut tcp.syncookies_sent),
    ("TCPReqQFullDrop", |tcp| &mut tcp.syn_queue_drops),
    ("TCPBacklogDrop", |tcp| &mut tcp.backlog_drops),
    ("TCPAbortOnMemory", |tcp| &mut tcp.memory_aborts),
    ("TCPTimeWaitOverflow", |tcp| &mut tcp.time_wait_overflows),
];

static UDP: &[Named<UdpCounters>] = &[
    ("InDatagrams", |udp| &mut udp.datagrams_in),
    ("OutDatagrams", |udp| &mut udp.datagrams_out),
    ("NoPorts", |udp| &mut udp.no_ports),
    ("InErrors", |udp| &mut udp.in_errors),
    ("RcvbufErrors", |udp| &mut udp.receive_buffer_errors),
    ("SndbufErrors", |udp| &mut udp.send_buffer_errors),
];

/// Reads `sockstat` or `sockstat6` into `sockets`. Returns how many of its figures are known.
pub(super) fn parse_sockstat(text: &str, page_bytes: u64, sockets: &mut Sockets) -> usize {
    let mut filled = 0;
    for line in text.lines() {
        let Some((protocol, rest)) = line.split_once(':') else {
            continue;
        };
        let mut words = rest.split_ascii_whitespace();
        while let Some((name, value)) = words.next().zip(words.next()) {
            let Ok(value) = value.parse::<u64>() else {
                continue;
            };
            let (field, unit) = match (protocol, name) {
                ("sockets", "used") => (&mut sockets.used, 1),
                ("TCP", "inuse") => (&mut sockets.tcp_in_use, 1),
                ("TCP", "orphan") => (&mut sockets.tcp_orphan, 1),
                ("TCP", "tw") => (&mut sockets.tcp_time_wait, 1),
                ("TCP", "alloc") => (&mut sockets.tcp_allocated, 1),
                ("TCP", "mem") => (&mut sockets.tcp_memory_bytes, page_bytes),
                ("TCP6", "inuse") => (&mut sockets.tcp6_in_use, 1),
                ("UDP", "inuse") => (&mut sockets.udp_in_use, 1),
                ("UDP", "mem") => (&mut sockets.udp_memory_bytes, page_bytes),
                ("UDP6", "inuse") => (&mut sockets.udp6_in_use, 1),
                ("RAW", "inuse") => (&mut sockets.raw_in_use, 1),
                ("FRAG", "memory") => (&mut sockets.fragments_memory_bytes, 1),
                _ => continue,
            };
            *field = Some(value.saturating_mul(unit));
            filled += 1;
        }
    }
    filled
}

/// Reads `/proc/net/snmp`. Returns how many of its figures are known.
pub(super) fn parse_snmp(text: &str, sockets: &mut Sockets) -> usize {
    let mut tcp = TcpCounters::default();
    let filled_tcp = counters::fill(TCP, counters::section(text, "Tcp"), &mut tcp);
    tcp.established = counters::section(text, "Tcp")
        .find(|(name, _)| *name == "CurrEstab")
        .and_then(|(_, value)| value.parse().ok());
    let mut udp = UdpCounters::default();
    let filled_udp = counters::fill(UDP, counters::section(text, "Udp"), &mut udp);
    sockets.tcp = (filled_tcp > 0).then_some(tcp);
    sockets.udp = (filled_udp > 0).then_some(udp);
    filled_tcp + filled_udp
}

/// Reads `/proc/net/netstat`, which adds to the TCP counters. Returns how many of its figures are known.
pub(super) fn parse_netstat(text: &str, sockets: &mut Sockets) -> usize {
    let mut tcp = sockets.tcp.take().unwrap_or_default();
    let filled = counters::fill(TCP, counters::section(text, "TcpExt"), &mut tcp);
    sockets.tcp = (tcp != TcpCounters::default()).then_some(tcp);
    filled
}

/// Reads `/proc/net/snmp6`. Returns how many of its figures are known.
pub(super) fn parse_snmp6(text: &str, sockets: &mut Sockets) -> usize {
    let mut udp = UdpCounters::default();
    let pairs =
        counters::pairs(text).filter_map(|(name, value)| Some((name.strip_prefix("Udp6")?, value)));
    let filled = counters::fill(UDP, pairs, &mut udp);
    sockets.udp6 = (filled > 0).then_some(udp);
    filled
}

/// Handles in use, handles free (0 since kernel 2.6), the most there can be.
pub(super) fn parse_file_nr(text: &str) -> Result<Files, ParseError> {
    let wanted = || ParseError::at(0, "open, free and most file handles", text);
    let mut words = text.split_ascii_whitespace().map(number);
    let (Some(Some(allocated)), Some(Some(free)), Some(Some(open_max))) =
        (words.next(), words.next(), words.next())
    else {
        return Err(wanted());
    };
    Ok(Files {
        open: allocated.saturating_sub(free),
        open_max,
    })
}

/// One file of this part: where it is, whether a host may lack it, and what reads it.
struct Source {
    path: &'static str,
    optional: bool,
    read: fn(&str, u64, &mut Sockets) -> usize,
}

static SOURCES: &[Source] = &[
    Source {
        path: "net/sockstat",
        optional: false,
        read: parse_sockstat,
    },
    Source {
        path: "net/sockstat6",
        optional: true,
        read: parse_sockstat,
    }, // no IPv6
    Source {
        path: "net/snmp",
        optional: false,
        read: |text, _, sockets| parse_snmp(text, sockets),
    },
    Source {
        path: "net/netstat",
        optional: false,
        read: |text, _, sockets| parse_netstat(text, sockets),
    },
    Source {
        path: "net/snmp6",
        optional: true,
        read: |text, _, sockets| parse_snmp6(text, sockets),
    },
];

pub(super) struct SocketsPart {
    page_bytes: u64,
    before: Option<Seen<Sockets>>,
}

impl SocketsPart {
    pub(super) fn new(page_bytes: u64) -> Self {
        Self {
            page_bytes,
            before: None,
        }
    }
}

impl Part for SocketsPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let mut sockets = Sockets::default();
        for source in SOURCES {
            let path = run.proc(source.path);
            match run
                .files
                .text(&path)
                .map(|text| (source.read)(&text, self.page_bytes, &mut sockets))
            {
                Ok(0) => run.note(PartFailed::parse(
                    &path,
                    ParseError::missing("any figure that is known"),
                )),
                Ok(_) => {}
                Err(error) if source.optional && error.is_absent() => {}
                Err(error) => run.note(error),
            }
        }
        let path = run.proc("sys/fs/file-nr");
        match run.files.text(&path).map(|text| parse_file_nr(&text)) {
            Ok(Ok(files)) => sockets.files = Some(files),
            Ok(Err(error)) => run.note(PartFailed::parse(&path, error)),
            Err(error) => run.note(error),
        }
        if sockets == Sockets::default() {
            return Ok(()); // every reason is noted
        }
        if let Some(before) = &mut self.before {
            let seconds = before.seconds_to(run.now.mono_ms);
            add_rates(&mut before.value, &mut sockets, seconds);
        }
        run.snapshot.sockets = Some(sockets.clone());
        self.before = Some(Seen {
            mono_ms: run.now.mono_ms,
            value: sockets,
        });
        Ok(())
    }
}

fn add_rates(before: &mut Sockets, after: &mut Sockets, seconds: Option<f64>) {
    if let Some((before, after)) = before.tcp.as_mut().zip(after.tcp.as_mut()) {
        counters::rates(TCP, before, after, seconds, Wrap::LONG);
    }
    let udp = [
        (&mut before.udp, &mut after.udp),
        (&mut before.udp6, &mut after.udp6),
    ];
    for (before, after) in udp
        .into_iter()
        .filter_map(|(before, after)| before.as_mut().zip(after.as_mut()))
    {
        counters::rates(UDP, before, after, seconds, Wrap::LONG);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn sockstat_counts_pages_as_bytes() {
        let mut sockets = Sockets::default();
        let text = "sockets: used 16\nTCP: inuse 1 orphan 2 tw 3 alloc 4 mem 5\nUDP: inuse x mem 6\nNEW: odd\n";
        assert_eq!(parse_sockstat(text, 4096, &mut sockets), 7);
        parse_sockstat("TCP6: inuse 7\nUDP6: inuse 8\n", 4096, &mut sockets);
        assert_eq!(
            (sockets.used, sockets.tcp_in_use, sockets.tcp_orphan),
            (Some(16), Some(1), Some(2))
        );
        assert_eq!(
            (sockets.tcp_memory_bytes, sockets.udp_memory_bytes),
            (Some(20_480), Some(24_576))
        );
        assert_eq!(
            (sockets.tcp6_in_use, sockets.udp6_in_use, sockets.udp_in_use),
            (Some(7), Some(8), None)
        );
    }

    #[test]
    fn sections_by_name_whatever_their_order() {
        let mut sockets = Sockets::default();
        let snmp = "Tcp: MaxConn CurrEstab RetransSegs\nTcp: -1 5 6\nUdp: RcvbufErrors\nUdp: 7\nUdpLite: RcvbufErrors\nUdpLite: 9\n";
        parse_snmp(snmp, &mut sockets);
        parse_netstat(
            "TcpExt: Odd ListenDrops TCPTimeouts\nTcpExt: 1 2 3\nIpExt: InNoRoutes\nIpExt: 0\n",
            &mut sockets,
        );
        parse_snmp6(
            "Ip6InReceives 3\nUdp6RcvbufErrors 4\nUdpLite6InErrors 5\n",
            &mut sockets,
        );
        let tcp = sockets.tcp.unwrap();
        assert_eq!(
            (tcp.established, tcp.segments_retransmitted.unwrap().total),
            (Some(5), 6)
        );
        assert_eq!(
            (tcp.listen_drops.unwrap().total, tcp.timeouts.unwrap().total),
            (2, 3)
        );
        assert_eq!(tcp.listen_overflows, None);
        assert_eq!(sockets.udp.unwrap().receive_buffer_errors.unwrap().total, 7);
        assert_eq!(
            sockets.udp6.unwrap().receive_buffer_errors.unwrap().total,
            4
        );
    }

    #[test]
    fn cut_short_or_garbled_sections_give_what_is_there() {
        for (text, want) in [
            ("", 0),
            ("Tcp: InSegs", 0),
            ("Tcp:\nTcp:\n", 0),
            ("Tcp: InSegs OutSegs\nTcp: 5", 1),
            ("Tcp: InSegs\nTcp: x\n", 0),
        ] {
            assert_eq!(parse_snmp(text, &mut Sockets::default()), want, "{text:?}");
        }
    }

    #[test]
    fn file_handles() {
        assert_eq!(
            parse_file_nr("628\t0\t2466177\n").unwrap(),
            Files {
                open: 628,
                open_max: 2_466_177
            }
        );
        assert_eq!(
            parse_file_nr("628 28 9223372036854775807").unwrap().open,
            600
        );
        for text in ["", "1 2", "a b c", "-1 0 5"] {
            assert!(parse_file_nr(text).is_err(), "{text:?}");
        }
    }
}
