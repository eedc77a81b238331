//! The keys and records under which places are stored. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::cursor::{FileId, Place};

/// What is stored of one section.
#[derive(Debug, Default)]
pub(super) struct OfSection {
    /// Its patterns, as far as their files were looked for.
    pub(super) known: BTreeSet<String>,
    pub(super) places: Vec<Place>,
}

/// The key of a file's place.
pub(super) fn place_key(section: &str, id: FileId) -> Vec<u8> {
    let mut key = [b"place\0", section.as_bytes(), b"\0"].concat();
    key.extend(id.dev.to_be_bytes());
    key.extend(id.ino.to_be_bytes());
    key
}

/// The key of the patterns that a section had.
pub(super) fn known_key(section: &str) -> Vec<u8> {
    [b"known\0", section.as_bytes()].concat()
}

pub(super) fn encode_known(known: &BTreeSet<String>) -> Option<Vec<u8>> {
    rmp_serde::to_vec_named(known).ok()
}

/// Sorts stored records by section. What can't be read is as if it were not there.
pub(super) fn by_section(records: Vec<(Vec<u8>, Vec<u8>)>) -> BTreeMap<String, OfSection> {
    let mut sections: BTreeMap<String, OfSection> = BTreeMap::new();
    for (key, record) in records {
        let mut parts = key.splitn(3, |byte| *byte == 0);
        let (kind, name) = (parts.next(), parts.next().map(String::from_utf8_lossy));
        let Some(name) = name else { continue };
        let section = sections.entry(name.into_owned()).or_default();
        match kind {
            Some(b"place") => section.places.extend(Place::decode(&record)),
            Some(b"known") => section.known = rmp_serde::from_slice(&record).unwrap_or_default(),
            _ => {}
        }
    }
    sections
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_to_their_sections() {
        let id = FileId {
            dev: 0,
            ino: 0x0a00,
        };
        let place = Place::begin(std::path::Path::new("/a"), id, 1);
        let known = BTreeSet::from(["/a*".to_owned()]);
        let records = vec![
            (place_key("one", id), place.encode().unwrap()),
            (known_key("one"), encode_known(&known).unwrap()),
            (known_key("two"), b"\xc1".to_vec()),
            (b"nonsense".to_vec(), Vec::new()),
        ];
        let found = by_section(records);
        assert_eq!(found.len(), 2);
        let one = found.get("one").unwrap();
        assert_eq!((&one.places, &one.known), (&vec![place], &known));
        assert!(found.get("two").unwrap().known.is_empty());
    }
}
