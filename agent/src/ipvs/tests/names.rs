//! The names of virtual and real servers, as people write them.

use proptest::prelude::*;

use crate::ipvs::{DestinationKey, ServiceKey};

#[test]
fn names_are_read_as_they_are_written() {
    for name in [
        "tcp/192.0.2.10:80",
        "udp/[2001:db8::10]:53",
        "sctp/192.0.2.11:3868",
        "proto50/192.0.2.11:0",
        "fwmark/7",
        "fwmark6/4294967295",
    ] {
        let key: ServiceKey = name.parse().unwrap();
        assert_eq!(key.to_string(), name);
    }
    for name in [
        "",
        "tcp",
        "tcp/",
        "tcp/192.0.2.10",
        "tcp/192.0.2.10:",
        "tcp/192.0.2.10:65536",
        "tcp/web:80",
        "tcp/2001:db8::10:53",
        "tcp/[192.0.2.10]:80",
        "icmp/192.0.2.10:80",
        "fwmark/0",
        "fwmark/x",
        "fwmark/-1",
    ] {
        let error = name.parse::<ServiceKey>().unwrap_err().to_string();
        assert!(error.contains("tcp/192.0.2.10:80"), "{name}: {error}");
    }
    let one: DestinationKey = "[2001:db8:1::1]:80".parse().unwrap();
    assert_eq!(one.to_string(), "[2001:db8:1::1]:80");
    assert!("10.1.0.1".parse::<DestinationKey>().is_err());
}

proptest! {
    #[test]
    fn no_name_is_too_wild(text in "[a-z0-9/:.\\[\\]]{0,40}") {
        if let Ok(key) = text.parse::<ServiceKey>() {
            prop_assert_eq!(key.to_string().parse::<ServiceKey>().unwrap(), key);
        }
        _ = text.parse::<DestinationKey>();
    }
}
