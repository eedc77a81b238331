//! Netlink and generic netlink framing: requests into bytes, datagrams into what they say. Pure.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkBuffer,
};

use super::attributes::{Malformed, attributes, put};
use super::uapi;

/// Bytes of a netlink header.
const HEADER_BYTES: usize = 16;
/// Bytes of a generic netlink header: command, version, two unused.
const GENERIC_BYTES: usize = 4;
/// The family that knows the other families (`include/uapi/linux/genetlink.h`).
const CONTROLLER: u16 = 16;
const CONTROLLER_GET_FAMILY: u8 = 3;
const CONTROLLER_VERSION: u8 = 1;
const CONTROLLER_FAMILY_ID: u16 = 1;
const CONTROLLER_FAMILY_NAME: u16 = 2;

/// How an answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// One message.
    One,
    /// One message for each thing there is, then an end.
    Dump,
    /// Only whether it was done.
    Done,
}

/// One message of a datagram, seen from whoever asked `sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// Attributes.
    Item { bytes: &'a [u8], torn: bool },
    /// No more comes. A dump that failed on its way says so here, as an errno.
    End { errno: i32, torn: bool },
    /// Refused, as an errno; 0 is "done".
    Error { errno: i32 },
    /// An answer to an earlier question, or noise.
    Other,
}

/// Writes a request into `into`, which is emptied before.
pub(super) fn request(
    into: &mut Vec<u8>,
    family: u16,
    command: u8,
    ask: Ask,
    sequence: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let version = if family == CONTROLLER {
        CONTROLLER_VERSION
    } else {
        uapi::FAMILY_VERSION
    };
    let flags = NLM_F_REQUEST
        | match ask {
            Ask::One => 0,
            Ask::Dump => NLM_F_DUMP,
            Ask::Done => NLM_F_ACK,
        };
    into.clear();
    into.extend_from_slice(&[0; HEADER_BYTES]);
    into.extend_from_slice(&[command, version, 0, 0]);
    fill(into);
    let length = u32::try_from(into.len()).unwrap_or(u32::MAX);
    let mut header = NetlinkBuffer::new(into);
    header.set_length(length);
    header.set_message_type(family);
    header.set_flags(flags);
    header.set_sequence_number(sequence);
}

/// Asks for the number that this kernel gave our family.
pub(super) fn family_request(into: &mut Vec<u8>, sequence: u32) {
    let name = format!("{}\0", uapi::FAMILY_NAME);
    request(
        into,
        CONTROLLER,
        CONTROLLER_GET_FAMILY,
        Ask::One,
        sequence,
        |into| put(into, CONTROLLER_FAMILY_NAME, name.as_bytes()),
    );
}

/// The number out of the answer.
pub(super) fn family(bytes: &[u8]) -> Result<u16, Malformed> {
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        if attribute.kind == CONTROLLER_FAMILY_ID {
            return attribute.u16();
        }
    }
    Err(Malformed("the kernel names a family without a number"))
}

/// The messages of a datagram, for whoever asked `sequence`.
pub(super) struct Answers<'a> {
    rest: &'a [u8],
    sequence: u32,
}

impl<'a> Answers<'a> {
    pub(super) fn of(datagram: &'a [u8], sequence: u32) -> Self {
        Self {
            rest: datagram,
            sequence,
        }
    }
}

impl<'a> Iterator for Answers<'a> {
    type Item = Result<Answer<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            return Some(Err(Malformed("a message is cut off")));
        };
        let length = message.length() as usize;
        self.rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let Some(payload) = rest.get(HEADER_BYTES..length) else {
            return Some(Err(Malformed("a message is shorter than its header")));
        };
        let torn = message.flags() & NLM_F_DUMP_INTR != 0;
        if message.sequence_number() != self.sequence {
            return Some(Ok(Answer::Other));
        }
        let errno = || {
            let bytes = payload.first_chunk::<4>();
            bytes.map_or(0, |bytes| i32::from_ne_bytes(*bytes).saturating_neg())
        };
        Some(Ok(match message.message_type() {
            NLMSG_NOOP => Answer::Other,
            NLMSG_ERROR => Answer::Error { errno: errno() },
            NLMSG_DONE => Answer::End {
                errno: errno(),
                torn,
            },
            NLMSG_OVERRUN => return Some(Err(Malformed("the kernel says that data was lost"))),
            _ => match payload.get(GENERIC_BYTES..) {
                Some(bytes) => Answer::Item { bytes, torn },
                None => return Some(Err(Malformed("a message has no command"))),
            },
        }))
    }
}
