//! `GetLvsStatsSumm`: the totals of the director, from `/proc/net/ip_vs_stats` (kernel: `net/netfilter/ipvs/ip_vs_ctl.c`).

use std::path::Path;

use serde::Serialize;

use super::super::refusal::Refusal;
use super::json::{Body, pretty};

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Sums {
    conns: [u64; 1],
    in_pks: [u64; 1],
    out_pks: [u64; 1],
    in_bytes: [u64; 1],
    out_bytes: [u64; 1],
}

/// The third line holds the totals, in hexadecimal.
fn parse(text: &str) -> Option<Sums> {
    let mut figures = text
        .lines()
        .nth(2)?
        .split_ascii_whitespace()
        .map(|word| u64::from_str_radix(word, 16).ok());
    let mut next = || Some([figures.next()??]);
    Some(Sums {
        conns: next()?,
        in_pks: next()?,
        out_pks: next()?,
        in_bytes: next()?,
        out_bytes: next()?,
    })
}

/// The answer to `GetLvsStatsSumm`.
pub(super) fn sums(text: &str) -> Result<Body, Refusal> {
    let refused = || {
        Refusal::unavailable(
            "ip_vs_stats does not read as the kernel writes it: five totals are wanted",
        )
    };
    pretty(&parse(text).ok_or_else(refused)?)
}

/// There is nothing to ask.
pub(super) fn no_ipvs(proc: &Path) -> Refusal {
    Refusal::unavailable(format!(
        "there is no {}/net/ip_vs_stats: this host's kernel has no IPVS, or its module ip_vs is not loaded",
        proc.display()
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const REAL: &str = "   Total Incoming Outgoing         Incoming         Outgoing\n   Conns  Packets  Packets            Bytes            Bytes\n      25       D3       A0             3604             3AD0\n\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       2        E        B              3A3              3E5\n";

    #[test]
    fn sums_are_numbers_in_arrays_of_one() {
        let sums = sums(REAL).unwrap().0;
        let one = |name: &str, figure: u64| format!("    \"{name}\": [\n        {figure}\n    ]");
        let want = [
            one("conns", 0x25),
            one("in_pks", 0xD3),
            one("out_pks", 0xA0),
            one("in_bytes", 0x3604),
            one("out_bytes", 0x3AD0),
        ];
        assert_eq!(sums, format!("{{\n{}\n}}", want.join(",\n")));
        for text in [
            "",
            "\n\n1 2 3 4",
            "\n\n1 2 3 4 g",
            "\n\n\u{0}",
            "\n\n11111111111111111 1 1 1 1",
        ] {
            assert!(super::sums(text).is_err(), "{text:?}");
        }
    }
}
