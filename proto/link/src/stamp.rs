//! The clock and the randomness that ids need; `muster-proto`, which owns the ids, has neither.

use std::hash::{BuildHasher, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

use muster_proto::id::{JobId, MessageId};

/// Milliseconds since 1970 by the machine's clock; zero before that.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A job's id that nothing else has, made now.
#[must_use]
pub fn new_job_id() -> JobId {
    JobId::from_parts(now_ms(), random())
}

/// A message's id that nothing else has, made now.
#[must_use]
pub fn new_message_id() -> MessageId {
    MessageId::from_parts(now_ms(), random())
}

/// A random number, for jitter.
pub fn random_u64() -> u64 {
    u64::from_le_bytes(random())
}

/// Random bytes of the kernel. Where it has none to give (which Linux does not do once it is up), the standard
/// library's per-process keys make bytes that still differ.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        for chunk in bytes.chunks_mut(8) {
            let word = std::hash::RandomState::new()
                .build_hasher()
                .finish()
                .to_le_bytes();
            for (byte, from) in chunk.iter_mut().zip(word) {
                *byte = from;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_carry_their_time() {
        let before = now_ms();
        let (first, second) = (new_job_id(), new_job_id());
        assert_ne!(first, second);
        assert!((before..=now_ms()).contains(&first.unix_ms()));
        assert_ne!(new_message_id(), new_message_id());
    }
}
