//! Counts by key in bounded memory: exact while there are few keys, and the most frequent ones with a known error when
//! there are many (Misra and Gries, pruned in batches). Pure.

use std::collections::HashMap;
use std::hash::Hash;

/// Counts by key.
#[derive(Debug)]
pub(super) struct Tops<K> {
    counts: HashMap<K, Count>,
    keys_max: usize,
    error_max: u64,
}

/// How often a key was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    /// In all.
    pub(super) entries: u64,
    /// Established ones among them.
    pub(super) established: u64,
}

impl<K: Eq + Hash + Ord + Copy> Tops<K> {
    /// Never holds more than twice `keys_max` keys.
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            counts: HashMap::new(),
            keys_max: keys_max.max(1),
            error_max: 0,
        }
    }

    pub(super) fn add(&mut self, key: K, established: bool) {
        let count = self.counts.entry(key).or_default();
        count.entries += 1;
        count.established += u64::from(established);
        if self.counts.len() >= 2 * self.keys_max {
            self.prune();
        }
    }

    /// Takes the same from every key, so that about half of them are gone: a key that is frequent stays.
    fn prune(&mut self) {
        let mut entries: Vec<u64> = self.counts.values().map(|count| count.entries).collect();
        let at = self.keys_max.min(entries.len().saturating_sub(1));
        let (_, least, _) = entries.select_nth_unstable_by(at, |a, b| b.cmp(a));
        let least = *least;
        self.counts.retain(|_, count| {
            count.entries = count.entries.saturating_sub(least);
            count.established = count.established.min(count.entries);
            count.entries > 0
        });
        self.error_max += least;
    }

    /// How many keys there are; none where that is not known any more.
    pub(super) fn keys(&self) -> Option<usize> {
        (self.error_max == 0).then_some(self.counts.len())
    }

    /// By how much a count may be too low.
    pub(super) const fn error_max(&self) -> u64 {
        self.error_max
    }

    /// The `shown` most frequent keys, most frequent first.
    pub(super) fn top(&self, shown: usize) -> Vec<(K, Count)> {
        let mut all: Vec<(K, Count)> = self
            .counts
            .iter()
            .map(|(key, count)| (*key, *count))
            .collect();
        all.sort_unstable_by(|(a, left), (b, right)| {
            right.entries.cmp(&left.entries).then_with(|| a.cmp(b))
        });
        all.truncate(shown);
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_keys_are_counted_exactly() {
        let mut tops = Tops::new(3);
        for (key, established) in [(7, true), (8, false), (7, false), (9, true), (9, true)] {
            tops.add(key, established);
        }
        let count = |entries, established| Count {
            entries,
            established,
        };
        assert_eq!(tops.top(2), [(7, count(2, 1)), (9, count(2, 2))]);
        assert_eq!((tops.keys(), tops.error_max()), (Some(3), 0));
    }

    proptest! {
        #[test]
        fn counts_are_never_too_high_and_too_low_by_no_more_than_said(
            keys in prop::collection::vec(prop_oneof![1 => 0..4_u16, 1 => 0..1000_u16], 0..3000),
            keys_max in 1..20_usize,
        ) {
            let mut tops = Tops::new(keys_max);
            let mut exact: HashMap<u16, u64> = HashMap::new();
            for key in &keys {
                tops.add(*key, true);
                *exact.entry(*key).or_default() += 1;
                prop_assert!(tops.counts.len() < 2 * keys_max);
            }
            prop_assert!(tops.error_max() <= keys.len() as u64 / (keys_max as u64 + 1));
            for (key, want) in exact {
                let got = tops.counts.get(&key).map_or(0, |count| count.entries);
                prop_assert!(got <= want && want <= got + tops.error_max(), "{key}: {got} of {want}");
            }
        }
    }
}
