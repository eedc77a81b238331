//! `GetLvsConn` and `GetLvsStatus`: the virtual servers as `ipvsadm -ln` prints them; `GetLvsStatsSumm`: the director's
//! totals, from `/proc/net/ip_vs_stats` (kernel: `net/netfilter/ipvs/ip_vs_ctl.c`).

use muster_proto::snapshot::lvs::{LvsSnapshot, RealServer, VirtualServer};
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

/// The answer to `GetLvsStatsSumm`. The third line holds the totals, in hexadecimal.
pub(super) fn sums(text: &str) -> Result<Body, Refusal> {
    let line = text.lines().nth(2).unwrap_or_default();
    let figures = line
        .split_ascii_whitespace()
        .map(|word| u64::from_str_radix(word, 16))
        .collect::<Result<Vec<_>, _>>()
        .unwrap_or_default();
    let &[conns, in_pks, out_pks, in_bytes, out_bytes] = figures.as_slice() else {
        return Err(Refusal::unavailable(
            "ip_vs_stats does not read as the kernel writes it: five totals are wanted in its third line",
        ));
    };
    pretty(&Sums {
        conns: [conns],
        in_pks: [in_pks],
        out_pks: [out_pks],
        in_bytes: [in_bytes],
        out_bytes: [out_bytes],
    })
}

/// A virtual server; `Node` is what is shown of its real servers.
#[derive(Debug, Serialize)]
struct Service<'a, Node> {
    lb_algo: &'a str,
    vip: String,
    node: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Connections<'a> {
    rs: &'a str,
    lb_kind: &'a str,
    weight: String,
    activeconn: String,
    inactconn: String,
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    rs: &'a str,
    lb_kind: &'a str,
    weight: String,
}

/// The answer to `GetLvsConn`.
pub(super) fn connections(snapshot: &LvsSnapshot) -> Result<Body, Refusal> {
    services(snapshot, |real| Connections {
        rs: &real.name,
        lb_kind: method(&real.forwarding),
        weight: real.weight.to_string(),
        activeconn: real.active_connections.to_string(),
        inactconn: real.inactive_connections.to_string(),
    })
}

/// The answer to `GetLvsStatus`.
pub(super) fn status(snapshot: &LvsSnapshot) -> Result<Body, Refusal> {
    services(snapshot, |real| Status {
        rs: &real.name,
        lb_kind: method(&real.forwarding),
        weight: real.weight.to_string(),
    })
}

fn services<'a, Node: Serialize>(
    snapshot: &'a LvsSnapshot,
    node: impl Fn(&'a RealServer) -> Node,
) -> Result<Body, Refusal> {
    let service = |server: &'a VirtualServer| Service {
        lb_algo: &server.scheduler,
        vip: vip(server),
        node: server.real_servers.iter().map(&node).collect(),
    };
    let all: Vec<_> = snapshot.virtual_servers.iter().map(service).collect();
    pretty(&all)
}

/// Address and port; of a firewall mark, its number.
pub(super) fn vip(server: &VirtualServer) -> String {
    let port = server.port.unwrap_or_default();
    match (&server.address, server.fwmark) {
        (Some(address), _) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), _) => format!("{address}:{port}"),
        (None, Some(mark)) => mark.to_string(),
        (None, None) => server.name.clone(),
    }
}

/// As `ipvsadm` calls it.
fn method(forwarding: &str) -> &str {
    match forwarding {
        "masquerade" => "Masq",
        "route" => "Route",
        "tunnel" => "Tunnel",
        "local" => "Local",
        "bypass" => "Bypass",
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const REAL: &str = "   Total Incoming Outgoing         Incoming         Outgoing\n   Conns  Packets  Packets            Bytes            Bytes\n      25       D3       A0             3604             3AD0\n\n Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       2        E        B              3A3              3E5\n";

    #[test]
    fn sums_are_numbers_in_arrays_of_one() {
        let one = |name: &str, figure: u64| format!("    \"{name}\": [\n        {figure}\n    ]");
        let want = [
            one("conns", 0x25),
            one("in_pks", 0xD3),
            one("out_pks", 0xA0),
            one("in_bytes", 0x3604),
            one("out_bytes", 0x3AD0),
        ];
        let want = format!("{{\n{}\n}}", want.join(",\n"));
        assert_eq!(sums(REAL).unwrap().0, want);
        for text in [
            "",
            "\n\n1 2 3 4",
            "\n\n1 2 3 4 g",
            "\n\n\u{0}",
            "\n\n11111111111111111 1 1 1 1",
        ] {
            assert!(sums(text).is_err(), "{text:?}");
        }
    }

    fn snapshot() -> LvsSnapshot {
        let text = r#"{"present": true, "virtual_servers": [
            {"name": "tcp/10.0.0.1:80", "protocol": "tcp", "address": "10.0.0.1", "port": 80, "scheduler": "rr", "real_servers": [
                {"name": "192.168.0.2:80", "forwarding": "route", "weight": 1, "active_connections": 3, "inactive_connections": 4},
                {"name": "[2001:db8::2]:80", "forwarding": "method-9", "weight": 0}]},
            {"name": "udp/[2001:db8::10]:53", "address": "2001:db8::10", "port": 53, "scheduler": "nq"},
            {"name": "fwmark/7", "fwmark": 7, "scheduler": "mh"}]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn virtual_servers_as_ipvsadm_prints_them() {
        let head = "[\n    {\n        \"lb_algo\": \"rr\",\n        \"vip\": \"10.0.0.1:80\",\n        \"node\": [\n            {\n                \
                    \"rs\": \"192.168.0.2:80\",\n                \"lb_kind\": \"Route\",\n                \"weight\": \"1\"";
        let counts =
            ",\n                \"activeconn\": \"3\",\n                \"inactconn\": \"4\"";
        let connections = connections(&snapshot()).unwrap().0;
        assert!(
            connections.starts_with(&format!("{head}{counts}\n            }},")),
            "{connections}"
        );
        assert!(
            connections.contains(
                "\"rs\": \"[2001:db8::2]:80\",\n                \"lb_kind\": \"method-9\""
            )
        );
        for vip in ["[2001:db8::10]:53", "7"] {
            assert!(
                connections.contains(&format!("\"vip\": \"{vip}\",\n        \"node\": []")),
                "{connections}"
            );
        }
        let status = status(&snapshot()).unwrap().0;
        assert!(
            status.starts_with(&format!("{head}\n            }},")),
            "{status}"
        );
        assert!(!status.contains("activeconn"), "{status}");
        assert_eq!(super::status(&LvsSnapshot::default()).unwrap().0, "[]");
    }
}
