//! Which messages go where: what a topic exchange's patterns match, and which streams keep a message.

use super::STREAMS;

/// The streams that keep a message, out of [`STREAMS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamSet(u8);

// One bit for each.
const _: () = assert!(STREAMS.len() <= 8);

impl StreamSet {
    /// The streams that keep what is published to `exchange` with `routing_key`. Nobody publishes to a stream by the
    /// default exchange, `""`.
    #[must_use]
    pub fn that_keep(exchange: &str, routing_key: &str) -> Self {
        let bits = STREAMS.iter().zip(0_u8..).map(|(stream, bit)| {
            let mut bindings = stream.bindings.iter();
            let kept = bindings
                .any(|(from, pattern)| *from == exchange && topic_matches(pattern, routing_key));
            u8::from(kept) << bit
        });
        Self(bits.fold(0, std::ops::BitOr::bitor))
    }

    /// Whether a stream is in both.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whether `key` matches `pattern`, as a topic exchange of AMQP 0-9-1 does: `*` is one word, `#` any number of them.
#[must_use]
pub fn topic_matches(pattern: &str, key: &str) -> bool {
    let words: Vec<&str> = key.split('.').collect();
    // Where in the key the pattern may be after each of its words; both are short.
    let mut places = vec![false; words.len() + 1];
    if let Some(first) = places.first_mut() {
        *first = true;
    }
    for part in pattern.split('.') {
        let mut next = vec![false; words.len() + 1];
        let mut reached = false;
        for (at, place) in next.iter_mut().enumerate() {
            let here = places.get(at).copied().unwrap_or(false);
            reached |= here;
            let before = at.checked_sub(1);
            let stepped = before.is_some_and(|before| places.get(before).copied().unwrap_or(false));
            *place = match part {
                "#" => reached,
                "*" => stepped,
                word => {
                    stepped
                        && before
                            .and_then(|before| words.get(before))
                            .is_some_and(|one| *one == word)
                }
            };
        }
        places = next;
    }
    places.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{ALL_STREAMS, EVENTS, HISTORY, JOBS, LEDGER, METRICS, PRESENCE, REPLIES};

    #[test]
    fn patterns_match_as_a_topic_exchange_does() {
        for (pattern, key, want) in [
            ("#", "a", true),
            ("#", "a.b.c", true),
            ("lvs.#", "lvs", true),
            ("lvs.#", "lvs.backend.down", true),
            ("lvs.#", "host.started", false),
            ("host.*", "host.started", true),
            ("host.*", "host", false),
            ("host.*", "host.a.b", false),
            ("#.lb1", "lvs.backend.down.lb1", true),
            ("#.lb1", "lvs.backend.down.lb2", false),
            ("*.*.down", "lvs.backend.down", true),
            ("a.#.z", "a.z", true),
            ("a.#.z", "a.b.c.z", true),
            ("a.#.z", "a.b.c", false),
            ("#.#", "a", true),
            ("a.b", "a.b.c", false),
        ] {
            assert_eq!(topic_matches(pattern, key), want, "{pattern} {key}");
        }
    }

    #[test]
    fn a_message_is_kept_by_the_streams_that_are_bound_to_it() {
        for (exchange, key, want) in [
            (JOBS, "all", &[] as &[&str]),
            (REPLIES, "ack.job.h1", &[LEDGER]),
            (REPLIES, "result.job.h1", &[LEDGER]),
            (REPLIES, "output.job.h1", &[]),
            (EVENTS, "job.opened.ops", &[LEDGER, HISTORY]),
            (EVENTS, "host.started.h1", &[LEDGER, HISTORY]),
            (EVENTS, "lvs.backend.down.h1", &[HISTORY]),
            (METRICS, "host.cpu.h1", &[]),
            (METRICS, "presence.h1", &[PRESENCE]),
            ("", LEDGER, &[]),
        ] {
            let set = StreamSet::that_keep(exchange, key);
            let names = ALL_STREAMS.iter().zip(0_u8..);
            let names = names.filter(|(_, bit)| set.0 & (1 << bit) != 0);
            let names: Vec<&str> = names.map(|(name, _)| *name).collect();
            assert_eq!(names, want, "{exchange} {key}");
        }
    }

    #[test]
    fn sets_meet_where_a_stream_is_in_both() {
        let event = StreamSet::that_keep(EVENTS, "lvs.backend.down.h1");
        let host = StreamSet::that_keep(EVENTS, "host.started.h1");
        let result = StreamSet::that_keep(REPLIES, "result.job.h1");
        let snapshot = StreamSet::that_keep(METRICS, "host.cpu.h1");
        assert!(event.meets(host) && host.meets(result) && event.meets(event));
        assert!(!event.meets(result) && !snapshot.meets(snapshot));
    }
}
