//! What a job's arguments call virtual and real servers: one of them, or all of an address. Pure.
//!
//! A name must be spelt as it would be shown again, so that the globs of a policy over it mean one address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::ipvs::{DestinationKey, Family, Protocol, ServiceKey};

/// One or more virtual servers: `tcp/192.0.2.10:80`, `192.0.2.10:80` of any protocol, `192.0.2.10` of any port,
/// `tcp/192.0.2.10`, `fwmark/7`, `fwmark6/7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VirtualName {
    Address {
        protocol: Option<Protocol>,
        ip: IpAddr,
        port: Option<u16>,
    },
    Mark {
        mark: u32,
        family: Family,
    },
}

/// A real server `10.1.0.1:80`, or every port of its address, `10.1.0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RealName {
    ip: IpAddr,
    port: Option<u16>,
}

impl VirtualName {
    pub(super) fn means(&self, key: &ServiceKey) -> bool {
        match (*self, *key) {
            (
                Self::Address { protocol, ip, port },
                ServiceKey::Address {
                    protocol: its,
                    address,
                    port: at,
                },
            ) => {
                ip == address
                    && port.is_none_or(|port| port == at)
                    && protocol.is_none_or(|protocol| protocol == its)
            }
            (
                Self::Mark { mark, family },
                ServiceKey::Mark {
                    mark: its,
                    family: of,
                },
            ) => mark == its && family == of,
            _ => false,
        }
    }
}

impl RealName {
    pub(super) fn means(&self, key: &DestinationKey) -> bool {
        self.ip == key.address && self.port.is_none_or(|port| port == key.port)
    }
}

impl fmt::Display for VirtualName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address { protocol, ip, port } => {
                if let Some(protocol) = protocol {
                    write!(f, "{protocol}/")?;
                }
                write_place(f, ip, port)
            }
            Self::Mark { mark, family } => ServiceKey::Mark { mark, family }.fmt(f),
        }
    }
}

impl fmt::Display for RealName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, self.ip, self.port)
    }
}

impl FromStr for VirtualName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, at) = match text.split_once('/') {
            Some((protocol, at)) => (protocol.parse().ok(), at),
            None => (None, text),
        };
        let name = match text.parse::<ServiceKey>() {
            Ok(ServiceKey::Mark { mark, family }) => Some(Self::Mark { mark, family }),
            _ if at != text && protocol.is_none() => None,
            _ => place(at).map(|(ip, port)| Self::Address { protocol, ip, port }),
        };
        let name = name.ok_or_else(|| {
            format!(
                "{text:?} is no virtual server: ADDRESS:PORT is wanted, tcp/ADDRESS:PORT, ADDRESS for all its ports, or fwmark/NUMBER"
            )
        })?;
        as_shown(text, name)
    }
}

impl FromStr for RealName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ip, port) = place(text).ok_or_else(|| {
            format!(
                "{text:?} is no real server: ADDRESS:PORT is wanted, or ADDRESS for all its ports, [ADDRESS]:PORT for IPv6"
            )
        })?;
        as_shown(text, Self { ip, port })
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, address: IpAddr, port: Option<u16>) -> fmt::Result {
    match port {
        Some(port) => write!(f, "{}", DestinationKey { address, port }),
        None => write!(f, "{address}"),
    }
}

fn place(text: &str) -> Option<(IpAddr, Option<u16>)> {
    match text.parse::<SocketAddr>() {
        Ok(at) => Some((at.ip(), Some(at.port()))),
        Err(_) => text.parse().ok().map(|ip| (ip, None)),
    }
}

/// `value`, if it is shown as it is spelt.
fn as_shown<T: fmt::Display>(text: &str, value: T) -> Result<T, String> {
    let shown = value.to_string();
    if shown == text {
        Ok(value)
    } else {
        Err(format!("{text:?} is to be spelt {shown}"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_they_say() {
        let ids = [
            "tcp/192.0.2.10:80",
            "udp/192.0.2.10:80",
            "tcp/192.0.2.10:443",
            "sctp/192.0.2.11:3868",
            "tcp/[2001:db8::10]:80",
            "fwmark/7",
            "fwmark6/7",
            "proto51/192.0.2.12:0",
        ];
        let ids = ids.map(|id| id.parse::<ServiceKey>().unwrap());
        for (name, want) in [
            (
                "192.0.2.10",
                "tcp/192.0.2.10:80 udp/192.0.2.10:80 tcp/192.0.2.10:443",
            ),
            ("192.0.2.10:80", "tcp/192.0.2.10:80 udp/192.0.2.10:80"),
            ("tcp/192.0.2.10:80", "tcp/192.0.2.10:80"),
            ("tcp/192.0.2.10", "tcp/192.0.2.10:80 tcp/192.0.2.10:443"),
            ("2001:db8::10", "tcp/[2001:db8::10]:80"),
            ("[2001:db8::10]:80", "tcp/[2001:db8::10]:80"),
            ("fwmark/7", "fwmark/7"),
            ("fwmark6/7", "fwmark6/7"),
            ("192.0.2.99", ""),
        ] {
            let name: VirtualName = name.parse().unwrap();
            let meant: Vec<String> = ids
                .iter()
                .filter(|id| name.means(id))
                .map(ToString::to_string)
                .collect();
            assert_eq!(meant.join(" "), want, "{name}");
        }
        let at: DestinationKey = "[2001:db8:1::1]:80".parse().unwrap();
        for (name, want) in [
            ("[2001:db8:1::1]:80", true),
            ("2001:db8:1::1", true),
            ("[2001:db8:1::1]:81", false),
            ("10.1.0.1", false),
        ] {
            assert_eq!(name.parse::<RealName>().unwrap().means(&at), want, "{name}");
        }
    }

    #[test]
    fn a_name_has_one_spelling() {
        for text in [
            "",
            "x",
            "10.1.0.1:",
            "10.1.0.01",
            "10.1.0.1:080",
            "10.1.0.1:65536",
            "[2001:DB8::1]:80",
            "2001:db8:0:0::1",
            "[10.1.0.1]:80",
            "fe80::1%eth0",
            "[fe80::1%2]:80",
            " 10.1.0.1",
            "::ffff:0a01:0001",
        ] {
            assert!(text.parse::<RealName>().is_err(), "{text:?}");
            assert!(text.parse::<VirtualName>().is_err(), "{text:?}");
        }
        for text in [
            "fwmark/07",
            "fwmark/x",
            "fwmark4/7",
            "TCP/10.1.0.1:80",
            "proto6/10.1.0.1:80",
            "quic/10.1.0.1:80",
        ] {
            assert!(text.parse::<VirtualName>().is_err(), "{text:?}");
        }
    }
}
