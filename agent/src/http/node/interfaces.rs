//! `GetIfInfo` and `GetIfTraffic`: the counters of `/proc/net/dev`.

use serde::Serialize;

use super::super::refusal::Refusal;
use super::json::{Body, Ordered, spaced};
use crate::collect::host::interface_figures;

/// Interfaces answered for at the most, as in the collector.
const INTERFACES_MAX: usize = 1024;

/// One interface. The kernel counts no multicast packets sent, and no frames that went wrong in sending: their places
/// hold zero and the collisions. Carrier errors have no place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Interface {
    #[serde(rename = "interface")]
    name: String,
    receive_bytes: String,
    receive_packets: String,
    receive_errs: String,
    receive_drop: String,
    receive_fifo: String,
    receive_frames: String,
    receive_compressed: String,
    receive_multicast: String,
    transmit_bytes: String,
    transmit_packets: String,
    transmit_errs: String,
    transmit_drop: String,
    transmit_fifo: String,
    transmit_frames: String,
    transmit_compressed: String,
    transmit_multicast: String,
}

fn interface(line: &str) -> Option<Interface> {
    let (name, figures) = interface_figures(line)?;
    let [
        bytes,
        packets,
        errs,
        drop,
        fifo,
        frames,
        compressed,
        multicast,
        ref sent @ ..,
    ] = figures.map(|figure| figure.to_string());
    let [
        tx_bytes,
        tx_packets,
        tx_errs,
        tx_drop,
        tx_fifo,
        tx_collisions,
        _,
        tx_compressed,
    ] = sent.clone();
    Some(Interface {
        name: name.to_owned(),
        receive_bytes: bytes,
        receive_packets: packets,
        receive_errs: errs,
        receive_drop: drop,
        receive_fifo: fifo,
        receive_frames: frames,
        receive_compressed: compressed,
        receive_multicast: multicast,
        transmit_bytes: tx_bytes,
        transmit_packets: tx_packets,
        transmit_errs: tx_errs,
        transmit_drop: tx_drop,
        transmit_fifo: tx_fifo,
        transmit_frames: tx_collisions,
        transmit_compressed: tx_compressed,
        transmit_multicast: "0".to_owned(),
    })
}

fn all(text: &str) -> impl Iterator<Item = Interface> {
    text.lines().filter_map(interface).take(INTERFACES_MAX)
}

/// The answer to `GetIfInfo`: the interface `wanted`.
pub(super) fn one(text: &str, wanted: Option<&str>) -> Result<Body, Refusal> {
    let known = || all(text).map(|interface| interface.name).collect();
    let Some(wanted) = wanted else {
        let known: Vec<String> = known();
        return Err(Refusal::bad(format!(
            "which interface? ask for /node/GetIfInfo?interface=NAME, NAME being one of {}",
            known.join(", ")
        )));
    };
    match all(text).find(|interface| interface.name == wanted) {
        Some(interface) => spaced(&interface),
        None => Err(Refusal::not_found(
            format!("there is no interface {wanted:?} here"),
            known(),
        )),
    }
}

/// The answer to `GetIfTraffic`: the text of each interface's own answer, by name.
pub(super) fn traffic(text: &str) -> Result<Body, Refusal> {
    let each = all(text).filter(|interface| interface.name != "lo");
    let texts = each.map(|interface| Ok((interface.name.clone(), spaced(&interface)?.0)));
    spaced(&Ordered(texts.collect::<Result<_, Refusal>>()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:   1 2 0 0 0 0 0 0  1 2 0 0 0 0 0 0\n  eth0: 101 102 103 104 105 106 107 108 201 202 203 204 205 206 207 208\neth1:4294967295 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
    const ETH0: &str = r#"{"interface": "eth0", "ReceiveBytes": "101", "ReceivePackets": "102", "ReceiveErrs": "103", "ReceiveDrop": "104", "ReceiveFifo": "105", "ReceiveFrames": "106", "ReceiveCompressed": "107", "ReceiveMulticast": "108", "TransmitBytes": "201", "TransmitPackets": "202", "TransmitErrs": "203", "TransmitDrop": "204", "TransmitFifo": "205", "TransmitFrames": "206", "TransmitCompressed": "208", "TransmitMulticast": "0"}"#;

    #[test]
    fn one_interface() {
        assert_eq!(one(DEV, Some("eth0")).unwrap().0, ETH0);
        assert!(
            one(DEV, Some("eth1"))
                .unwrap()
                .0
                .contains(r#""ReceiveBytes": "4294967295""#)
        );
        let refused = |wanted| format!("{:?}", one(DEV, wanted).unwrap_err());
        assert!(refused(None).contains("lo, eth0, eth1") && refused(None).contains("400"));
        assert!(refused(Some("eth9")).contains("404"));
        assert!(refused(Some("face")).contains("404"));
    }

    #[test]
    fn all_but_lo_as_texts_in_a_map() {
        let found: std::collections::BTreeMap<String, String> =
            serde_json::from_str(&traffic(DEV).unwrap().0).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["eth0", "eth1"]);
        assert_eq!(found.get("eth0").unwrap(), ETH0);
        assert_eq!(traffic("").unwrap().0, "{}");
    }
}
