#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use super::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/zabbix/muster.yaml");

#[test]
fn the_file_is_what_the_fields_say() {
    let wanted = template();
    if std::env::var_os("MUSTER_BLESS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(FILE).parent().unwrap()).unwrap();
        std::fs::write(FILE, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        found == wanted,
        "deploy/zabbix/muster.yaml is out of date: run this test with MUSTER_BLESS=1"
    );
}

#[test]
fn ids_and_keys_are_there_once() {
    let text = template();
    for word in ["uuid: ", "key: "] {
        let all: Vec<&str> = text
            .lines()
            .filter_map(|line| Some(line.split_once(word)?.1))
            .collect();
        let once: BTreeSet<&&str> = all.iter().collect();
        assert_eq!(all.len(), once.len(), "{word}");
        assert!(all.len() > 200, "{word}");
    }
    assert!(
        text.lines()
            .filter_map(|line| Some(line.split_once("uuid: ")?.1))
            .all(|uuid| {
                uuid.len() == 32
                    && uuid.get(12..13) == Some("4")
                    && uuid.get(16..17).is_some_and(|digit| "89ab".contains(digit))
            })
    );
}
