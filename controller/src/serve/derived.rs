//! Ids of what several `muster serve` may tell: each derives the same, and whoever hears it twice drops the second. Pure.

use muster_proto::id::MessageId;
use sha2::{Digest as _, Sha256};

/// An id that follows from `parts`.
pub(crate) fn derived_id(unix_ms: u64, parts: &[&[u8]]) -> MessageId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(0).to_be_bytes());
        hash.update(part);
    }
    let mut random = [0; 10];
    for (to, from) in random.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    MessageId::from_parts(unix_ms, random)
}
