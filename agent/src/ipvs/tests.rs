//! The codec on bytes of a real kernel (Linux 6.1: `tests/dump.hex`, requests of another program and the kernel's
//! answers, one datagram a line), on messages made by hand, and on what becomes of both under mutation.

mod names;

use std::net::IpAddr;

use proptest::prelude::*;

use super::attributes::{Malformed, put, put_nested};
use super::exchange::{Answer, Answers, Ask, family_request, request};
use super::*;

const CAPTURE: &str = include_str!("tests/dump.hex");

/// A question and the datagrams that answer it.
struct Talk {
    question: Vec<u8>,
    answers: Vec<Vec<u8>>,
}

fn capture() -> Vec<Talk> {
    let mut talks: Vec<Talk> = Vec::new();
    for line in CAPTURE.lines() {
        let (way, hex) = line.split_once(' ').unwrap();
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap();
        let bytes = (0..hex.len()).step_by(2).map(byte).collect();
        match way {
            ">" => talks.push(Talk {
                question: bytes,
                answers: Vec::new(),
            }),
            _ => talks.last_mut().unwrap().answers.push(bytes),
        }
    }
    talks
}

/// The items of an answer, which must come to its end.
fn items(talk: &Talk) -> Vec<Vec<u8>> {
    let sequence = u32::from_ne_bytes(*talk.question.get(8..).unwrap().first_chunk().unwrap());
    let mut items = Vec::new();
    for datagram in &talk.answers {
        for answer in Answers::of(datagram, sequence) {
            match answer.unwrap() {
                Answer::Item { bytes, torn: false } => items.push(bytes.to_vec()),
                Answer::End {
                    errno: 0,
                    torn: false,
                } => return items,
                other => panic!("{other:?}"),
            }
        }
    }
    items
}

fn captured_table() -> Vec<Entry> {
    let talks = capture();
    let services = items(&talks[1]);
    let services = services
        .iter()
        .map(|bytes| decode::service(decode::nested(bytes, uapi::ATTR_SERVICE).unwrap()).unwrap());
    let destinations = |talk: &Talk, family| {
        let read = |bytes: &Vec<u8>| {
            decode::destination(decode::nested(bytes, uapi::ATTR_DEST).unwrap(), family).unwrap()
        };
        items(talk).iter().map(read).collect()
    };
    services
        .zip(&talks[2..])
        .map(|(service, talk)| Entry {
            destinations: destinations(talk, service.key.family()),
            service,
        })
        .collect()
}

/// As `ipvsadm -Ln` writes it, more or less, with what that leaves out.
fn shown(entry: &Entry) -> String {
    let service = &entry.service;
    let mut text = format!(
        "{} {} {:#x} {} {:#x} {:?} conns={}\n",
        service.key,
        service.scheduler,
        service.flags.0,
        service.timeout_s,
        service.netmask,
        service.engine,
        service.stats.connections,
    );
    for one in &entry.destinations {
        text.push_str(&format!(
            "  {} {:?} weight={} {}/{} {}+{}+{} {:?} in={}/{} out={}/{}\n",
            one.key,
            one.forward,
            one.weight,
            one.upper_threshold,
            one.lower_threshold,
            one.active_connections,
            one.inactive_connections,
            one.persistent_connections,
            one.tunnel,
            one.stats.in_packets,
            one.stats.in_bytes,
            one.stats.out_packets,
            one.stats.out_bytes,
        ));
    }
    text
}

#[test]
fn a_real_table_reads_as_it_was_made() {
    let table = captured_table();
    assert_eq!(table.len(), 15);
    for entry in &table {
        assert!(entry.service.stats.wide, "{}", entry.service.key);
        assert_eq!(entry.service.unknown, []);
        let sum = entry.destinations.iter().map(|one| one.stats.in_bytes);
        assert_eq!(sum.sum::<u64>(), entry.service.stats.in_bytes);
        assert!(entry.destinations.iter().all(|one| one.unknown.is_empty()));
    }
    let text: String = table.iter().map(shown).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn requests_are_those_of_a_program_that_works() {
    let talks = capture();
    let mut bytes = Vec::new();
    family_request(&mut bytes, 1);
    assert_eq!(bytes, talks[0].question);
    let family = exchange::family(&items(&talks[0])[0]).unwrap();
    request(
        &mut bytes,
        family,
        uapi::CMD_GET_SERVICE,
        Ask::Dump,
        2,
        |_| {},
    );
    assert_eq!(bytes, talks[1].question);
    for (entry, talk) in captured_table().iter().zip(&talks[2..]) {
        let sequence = u32::from_ne_bytes(*talk.question[8..].first_chunk().unwrap());
        let command = uapi::CMD_GET_DEST;
        request(&mut bytes, family, command, Ask::Dump, sequence, |into| {
            encode::service_key(into, &entry.service.key);
        });
        assert_eq!(bytes, talk.question, "{}", entry.service.key);
    }
}

#[test]
fn a_change_says_everything_that_must_stay() {
    for entry in captured_table() {
        for one in entry.destinations {
            let mut bytes = Vec::new();
            encode::destination(&mut bytes, &one);
            let inside = decode::nested(&bytes, uapi::ATTR_DEST).unwrap();
            // Whatever the virtual server's family: the real server names its own.
            let read = decode::destination(inside, Family::V4).unwrap();
            let told = Destination {
                active_connections: 0,
                inactive_connections: 0,
                persistent_connections: 0,
                stats: Stats::default(),
                ..one
            };
            assert_eq!(read, told);
        }
    }
}

fn bare_service(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, uapi::SVC_AF, &uapi::AF_INET.to_ne_bytes());
    put(&mut bytes, uapi::SVC_FWMARK, &9_u32.to_ne_bytes());
    fill(&mut bytes);
    bytes
}

fn put_stats(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    put_nested(into, kind, |into| {
        put(into, uapi::STATS_CONNS, value);
        put(into, uapi::STATS_INBYTES, &5_000_000_000_u64.to_ne_bytes());
    });
}

#[test]
fn sixty_four_bits_win_and_thirty_two_will_do() {
    let old = 77_u32.to_ne_bytes();
    let new = 0x1_0000_004d_u64.to_ne_bytes();
    for (name, kinds, want, wide) in [
        ("both", &[true, false][..], 0x1_0000_004d, true),
        (
            "both, the other way round",
            &[false, true],
            0x1_0000_004d,
            true,
        ),
        ("old kernel", &[false], 77, false),
        ("neither", &[], 0, false),
    ] {
        let service = bare_service(|into| {
            for is_new in kinds {
                if *is_new {
                    put_stats(into, uapi::SVC_STATS64, &new);
                } else {
                    put_stats(into, uapi::SVC_STATS, &old);
                }
            }
        });
        let stats = decode::service(&service).unwrap().stats;
        assert_eq!((stats.connections, stats.wide), (want, wide), "{name}");
        if !kinds.is_empty() {
            assert_eq!(stats.in_bytes, 5_000_000_000, "{name}");
        }
    }
}

#[test]
fn what_is_not_known_is_carried() {
    let service = bare_service(|into| {
        put(into, uapi::SVC_SCHED_NAME, b"brandnew\0");
        put(into, uapi::SVC_FLAGS, &[0x82, 1, 0, 0, 255, 255, 255, 255]);
        put(into, 99, b"xyz");
    });
    let service = decode::service(&service).unwrap();
    assert_eq!(service.scheduler, "brandnew");
    assert_eq!(service.flags.nameless(), 0x180);
    assert_eq!(service.unknown, [(99, Box::from(&b"xyz"[..]))]);
    let mut bytes = Vec::new();
    put(&mut bytes, uapi::DEST_ADDR, &[10, 0, 0, 1]);
    put(&mut bytes, uapi::DEST_PORT, &80_u16.to_be_bytes());
    put(&mut bytes, uapi::DEST_FWD_METHOD, &0xf6_u32.to_ne_bytes());
    put(&mut bytes, uapi::DEST_TUN_TYPE, &[200]);
    put(&mut bytes, 1234, &[]);
    let one = decode::destination(&bytes, Family::V4).unwrap();
    assert_eq!(one.key.to_string(), "10.0.0.1:80");
    assert_eq!(one.forward, Forward::Other(6));
    assert_eq!(one.tunnel.unwrap().kind, 200);
    assert_eq!(one.unknown.len(), 1);
}

#[test]
fn one_mark_for_both_families_is_two_virtual_servers() {
    let v4 = decode::service(&bare_service(|_| {})).unwrap();
    let v6 = decode::service(&bare_service(|into| {
        put(into, uapi::SVC_AF, &uapi::AF_INET6.to_ne_bytes());
    }));
    let v6 = v6.unwrap();
    assert_eq!(v4.key.to_string(), "fwmark/9");
    assert_eq!(v6.key.to_string(), "fwmark6/9");
    assert_ne!(v4.key, v6.key);
}

#[test]
fn bad_values_are_errors() {
    for (name, bytes) in [
        ("nothing", Vec::new()),
        ("no family", {
            let mut bytes = Vec::new();
            put(&mut bytes, uapi::SVC_FWMARK, &9_u32.to_ne_bytes());
            bytes
        }),
        (
            "a short mark",
            bare_service(|into| put(into, uapi::SVC_FWMARK, &[1])),
        ),
        (
            "flags of two bytes",
            bare_service(|into| put(into, uapi::SVC_FLAGS, &[1, 2])),
        ),
        (
            "another family",
            bare_service(|into| put(into, uapi::SVC_AF, &[1, 0])),
        ),
        (
            "cut off",
            bare_service(|into| into.extend([9, 0, 6, 0, b'r'])),
        ),
        (
            "longer than it is",
            bare_service(|into| into.extend([255, 255, 6, 0])),
        ),
        ("no length", bare_service(|into| into.extend([0, 0, 6, 0]))),
    ] {
        assert!(decode::service(&bytes).is_err(), "{name}");
    }
    let mut short = Vec::new();
    put(&mut short, uapi::DEST_ADDR, &[10, 0, 0, 1]);
    put(&mut short, uapi::DEST_PORT, &[0, 80]);
    assert!(decode::destination(&short, Family::V6).is_err());
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    request(&mut bytes, kind, 0, Ask::One, sequence, |_| {});
    bytes.truncate(16);
    bytes.extend_from_slice(payload);
    let length = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn a_datagram_says_what_became_of_a_question() {
    const TORN: u16 = 0x10;
    let refused = (-1_i32).to_ne_bytes();
    let fine = 0_i32.to_ne_bytes();
    for (name, datagram, want) in [
        (
            "refused",
            message(2, 0, 5, &refused),
            Ok(Answer::Error { errno: 1 }),
        ),
        (
            "done as asked",
            message(2, 0, 5, &fine),
            Ok(Answer::Error { errno: 0 }),
        ),
        (
            "end of a torn dump",
            message(3, TORN, 5, &fine),
            Ok(Answer::End {
                errno: 0,
                torn: true,
            }),
        ),
        (
            "end of a dump that failed",
            message(3, 0, 5, &refused),
            Ok(Answer::End {
                errno: 1,
                torn: false,
            }),
        ),
        (
            "an item of a torn dump",
            message(28, TORN, 5, &[5, 1, 0, 0, 7]),
            Ok(Answer::Item {
                bytes: &[7],
                torn: true,
            }),
        ),
        (
            "to another question",
            message(28, 0, 4, &[]),
            Ok(Answer::Other),
        ),
        ("nothing", message(1, 0, 5, &[]), Ok(Answer::Other)),
        (
            "data lost",
            message(4, 0, 5, &[]),
            Err(Malformed("the kernel says that data was lost")),
        ),
        (
            "no command",
            message(28, 0, 5, &[1]),
            Err(Malformed("a message has no command")),
        ),
    ] {
        let answers: Vec<_> = Answers::of(&datagram, 5).collect();
        assert_eq!(answers, [want], "{name}");
    }
    let mut two = message(28, 0, 5, &[5, 1, 0, 0, 7]);
    two.extend(message(3, 0, 5, &fine));
    assert_eq!(Answers::of(&two, 5).count(), 2);
    let cut = two.len() - 1;
    let last = Answers::of(&two[..cut], 5).last().unwrap();
    assert!(last.is_err());
}

#[test]
fn a_host_without_ip_vs_is_not_asked() {
    let empty = tempfile::tempdir().unwrap();
    let error = Ipvs::open_at(empty.path()).err().unwrap();
    assert!(error.is_absent(), "{error}");
    assert!(error.to_string().contains("net/ip_vs"), "{error}");
}

/// Every datagram of the capture, through everything that reads one.
fn read_all(datagram: &[u8], sequence: u32) {
    for answer in Answers::of(datagram, sequence).take(10_000) {
        let Ok(Answer::Item { bytes, .. }) = answer else {
            continue;
        };
        for kind in [uapi::ATTR_SERVICE, uapi::ATTR_DEST, uapi::ATTR_DAEMON] {
            let Ok(inside) = decode::nested(bytes, kind) else {
                continue;
            };
            _ = decode::service(inside).map(|service| service.key.to_string());
            _ = decode::destination(inside, Family::V6);
            _ = decode::daemon(inside);
        }
        _ = decode::info(bytes);
        _ = decode::timeouts(bytes);
        _ = exchange::family(bytes);
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_wild(
        line in 0_usize..44,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in any::<prop::sample::Index>(),
        sequence in 0_u32..20,
    ) {
        let datagrams: Vec<Vec<u8>> = capture()
            .into_iter()
            .flat_map(|talk| std::iter::once(talk.question).chain(talk.answers))
            .collect();
        let mut bytes = datagrams[line].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes, sequence);
        bytes.truncate(keep.index(bytes.len() + 1));
        read_all(&bytes, sequence);
    }

    #[test]
    fn every_address_survives(address in any::<IpAddr>(), port in any::<u16>(), protocol in any::<u16>()) {
        let protocol = Protocol::from_number(protocol);
        let key = ServiceKey::Address { protocol, address, port };
        prop_assert_eq!(key.to_string().parse::<ServiceKey>().unwrap(), key);
        let mut bytes = Vec::new();
        encode::service_key(&mut bytes, &key);
        let inside = decode::nested(&bytes, uapi::ATTR_SERVICE).unwrap();
        prop_assert_eq!(decode::service(inside).unwrap().key, key);
    }
}
