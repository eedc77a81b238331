//! Netlink attributes: values out of them, and buffers of them. Pure; a value of another length than expected is a
//! [`Malformed`], never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

use super::name::Family;
use super::uapi::{AF_INET, AF_INET6};

/// A message that is not what the kernel says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// An attribute: its number without flags, and its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    pub(super) kind: u16,
    pub(super) bytes: &'a [u8],
}

/// The attributes one after the other; a torn one ends them with an error.
pub(super) fn attributes(
    bytes: &[u8],
) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> + '_ {
    NlasIterator::new(bytes).map(|attribute| {
        let cut = Malformed("an attribute is cut off");
        let attribute = attribute.map_err(|_| cut)?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        let bytes = attribute.into_inner().get(NLA_HEADER_SIZE..length);
        let bytes = bytes.ok_or(cut)?;
        Ok(Attribute { kind, bytes })
    })
}

impl<'a> Attribute<'a> {
    pub(super) fn u8(self) -> Result<u8, Malformed> {
        self.array().map(u8::from_ne_bytes)
    }

    pub(super) fn u16(self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    /// In network order, as ports are.
    pub(super) fn u16_be(self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// 64 bits, or 32 from a kernel that gives no more.
    pub(super) fn count(self) -> Result<u64, Malformed> {
        match self.bytes.len() {
            8 => self.array().map(u64::from_ne_bytes),
            _ => self.u32().map(u64::from),
        }
    }

    /// Text up to its NUL; bytes that are not UTF-8 become U+FFFD.
    pub(super) fn text(self) -> String {
        let end = self.bytes.iter().position(|byte| *byte == 0);
        let text = self.bytes.get(..end.unwrap_or(self.bytes.len()));
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }

    /// An address of `family`: its first four bytes, or all sixteen.
    pub(super) fn address(self, family: Family) -> Result<IpAddr, Malformed> {
        let short = Malformed("an address is too short");
        match family {
            Family::V4 => {
                let bytes = self.bytes.first_chunk::<4>().ok_or(short)?;
                Ok(IpAddr::V4(Ipv4Addr::from(*bytes)))
            }
            Family::V6 => {
                let bytes = self.bytes.first_chunk::<16>().ok_or(short)?;
                Ok(IpAddr::V6(Ipv6Addr::from(*bytes)))
            }
        }
    }

    pub(super) fn family(self) -> Result<Family, Malformed> {
        match self.u16()? {
            AF_INET => Ok(Family::V4),
            AF_INET6 => Ok(Family::V6),
            _ => Err(Malformed("an address family is neither IPv4 nor IPv6")),
        }
    }

    /// A copy, to be carried.
    pub(super) fn carried(self) -> (u16, Box<[u8]>) {
        (self.kind, Box::from(self.bytes))
    }

    fn array<const N: usize>(self) -> Result<[u8; N], Malformed> {
        let wrong = Malformed("a value has another length than its attribute says");
        <[u8; N]>::try_from(self.bytes).map_err(|_| wrong)
    }
}

/// Appends an attribute. One of more than 64 KiB does not exist here: nothing that we send is longer than a name.
pub(super) fn put(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + NLA_HEADER_SIZE).unwrap_or(u16::MAX);
    into.extend_from_slice(&length.to_ne_bytes());
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(value);
    into.resize(into.len().next_multiple_of(4), 0);
}

/// Appends an attribute whose value is what `fill` appends.
pub(super) fn put_nested(into: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    put(into, kind | NLA_F_NESTED, &[]);
    fill(into);
    let length = u16::try_from(into.len() - start).unwrap_or(u16::MAX);
    if let Some(header) = into.get_mut(start..start + 2) {
        header.copy_from_slice(&length.to_ne_bytes());
    }
}

/// The sixteen bytes that the kernel keeps an address of either family in.
pub(super) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The kernel's number of a family.
pub(super) const fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}
