//! What a virtual server and a real server are called: keys that are stable over restarts, with one spelling in
//! snapshots, events and on the command line. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// `ipv4` or `ipv6`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// Transport protocol of a virtual server, by its number in IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// One that this code has no name for.
    Other(u16),
}

impl Protocol {
    /// By number.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            132 => Self::Sctp,
            other => Self::Other(other),
        }
    }

    /// The number in IP.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Sctp => f.write_str("sctp"),
            Self::Other(number) => write!(f, "proto{number}"),
        }
    }
}

impl FromStr for Protocol {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(match text {
            "tcp" | "TCP" => Self::Tcp,
            "udp" | "UDP" => Self::Udp,
            "sctp" | "SCTP" => Self::Sctp,
            other => {
                let number = other.strip_prefix("proto").and_then(|n| n.parse().ok());
                Self::from_number(number.ok_or_else(|| NameError::protocol(text))?)
            }
        })
    }
}

/// What makes a virtual server itself: nothing else can be two of.
///
/// Written `tcp/192.0.2.10:80`, `udp/[2001:db8::10]:53`, `fwmark/7`, or `fwmark6/7` where the same mark stands for
/// IPv6. That is also what [`FromStr`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    /// By address.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual address.
        address: IpAddr,
        /// Port; 0 stands for all.
        port: u16,
    },
    /// By firewall mark.
    Mark {
        /// The mark.
        mark: u32,
        /// The family of packets that it takes.
        family: Family,
    },
}

impl ServiceKey {
    /// The family of packets that it takes.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(*address),
            Self::Mark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                protocol,
                address,
                port,
            } => {
                write!(f, "{protocol}/")?;
                end_point(f, *address, *port)
            }
            Self::Mark {
                mark,
                family: Family::V4,
            } => write!(f, "fwmark/{mark}"),
            Self::Mark {
                mark,
                family: Family::V6,
            } => write!(f, "fwmark6/{mark}"),
        }
    }
}

impl FromStr for ServiceKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::service(text);
        let (kind, rest) = text.split_once('/').ok_or_else(wrong)?;
        let mark = |family| {
            let mark = rest.parse().ok().filter(|mark| *mark != 0);
            mark.map(|mark| Self::Mark { mark, family })
                .ok_or_else(wrong)
        };
        match kind {
            "fwmark" => mark(Family::V4),
            "fwmark6" => mark(Family::V6),
            protocol => {
                let protocol = protocol.parse().map_err(|_| wrong())?;
                let (address, port) = parse_end_point(rest).ok_or_else(wrong)?;
                Ok(Self::Address {
                    protocol,
                    address,
                    port,
                })
            }
        }
    }
}

/// What makes a real server itself within its virtual server: `10.1.0.1:8080`, `[2001:db8:1::1]:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationKey {
    /// Address.
    pub address: IpAddr,
    /// Port; 0 for a real server that is given each packet with the port that it came for.
    pub port: u16,
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        end_point(f, self.address, self.port)
    }
}

impl FromStr for DestinationKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (address, port) = parse_end_point(text).ok_or_else(|| NameError::destination(text))?;
        Ok(Self { address, port })
    }
}

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {wanted}, found {found:?}")]
pub struct NameError {
    wanted: &'static str,
    found: String,
}

impl NameError {
    fn new(wanted: &'static str, found: &str) -> Self {
        const SHOWN_CHARS: usize = 80;
        Self {
            wanted,
            found: found.chars().take(SHOWN_CHARS).collect(),
        }
    }

    fn protocol(found: &str) -> Self {
        Self::new("tcp, udp, sctp or proto<number>", found)
    }

    fn service(found: &str) -> Self {
        Self::new(
            "a virtual server such as tcp/192.0.2.10:80, udp/[2001:db8::10]:53, fwmark/7 or fwmark6/7",
            found,
        )
    }

    fn destination(found: &str) -> Self {
        Self::new(
            "a real server such as 10.1.0.1:8080 or [2001:db8:1::1]:80",
            found,
        )
    }
}

fn end_point(f: &mut fmt::Formatter<'_>, address: IpAddr, port: u16) -> fmt::Result {
    match address {
        IpAddr::V4(address) => write!(f, "{address}:{port}"),
        IpAddr::V6(address) => write!(f, "[{address}]:{port}"),
    }
}

/// `192.0.2.10:80` or `[2001:db8::10]:80`.
fn parse_end_point(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse::<Ipv6Addr>().ok()?),
        None => IpAddr::V4(address.parse::<Ipv4Addr>().ok()?),
    };
    Some((address, port))
}
