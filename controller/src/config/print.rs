//! Prints of parts of a config, by which it is seen what a change of the file touches. Passwords don't stay in them.

use std::path::Path;

use sha2::{Digest as _, Sha256};

/// What some settings come down to: equal as long as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print([u8; 32]);

impl Print {
    /// Of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Of what stands at these keys, sections joined by dots, one of several tables by its `name`; missing ones count as
    /// such. And of what the files hold that are named there, relative to `dir`: a password may change without the config.
    pub(super) fn of_keys(table: &toml::Table, keys: &[&str], dir: &Path) -> Self {
        let found: Vec<Option<&toml::Value>> = keys.iter().map(|key| find(table, key)).collect();
        let mut hash = Sha256::new_with_prefix(format!("{found:?}"));
        for (key, value) in keys.iter().zip(found) {
            let key = key.rsplit('.').next().unwrap_or(key);
            value
                .into_iter()
                .for_each(|value| add_files(&mut hash, key, value, dir));
        }
        Self(hash.finalize().into())
    }
}

/// Adds what the files hold that `value` names, which stands at `key`.
fn add_files(hash: &mut Sha256, key: &str, value: &toml::Value, dir: &Path) {
    match value {
        toml::Value::String(path) if key.ends_with("_file") => {
            // One that can't be read is told of by whoever needs it.
            let content = std::fs::read(dir.join(path)).map(Sha256::digest);
            hash.update(content.unwrap_or_default());
        }
        toml::Value::Array(values) => values
            .iter()
            .for_each(|value| add_files(hash, key, value, dir)),
        toml::Value::Table(table) => table
            .iter()
            .for_each(|(key, value)| add_files(hash, key, value, dir)),
        _ => {}
    }
}

fn find<'a>(table: &'a toml::Table, key: &str) -> Option<&'a toml::Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => match table.get(section)? {
            toml::Value::Array(tables) => {
                let named = |table: &&toml::Value| {
                    table.get("name").and_then(toml::Value::as_str) == Some(rest)
                };
                tables.iter().find(named)
            }
            section => find(section.as_table()?, rest),
        },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_print_follows_its_keys_and_no_others() {
        let print = |text: &str| {
            let table: toml::Table = text.parse().unwrap();
            Print::of_keys(
                &table,
                &["broker", "serve.listen", "bridge.b"],
                Path::new("/"),
            )
        };
        let before = print("issuer = 'a'\n[serve]\nlisten = 'x'\n[[bridge]]\nname = 'b'");
        for same in [
            "issuer = 'b'\n[serve]\nlisten = 'x'\nstate_dir = '/'\n[[bridge]]\nname = 'b'",
            "[serve]\nlisten = 'x'\n[[bridge]]\nname = 'a'\n[[bridge]]\nname = 'b'",
            "[[bridge]]\nname = 'b' # of another order\n[serve]\nlisten = \"x\"",
        ] {
            assert_eq!(print(same), before, "{same}");
        }
        for other in [
            "[serve]\nlisten = 'y'\n[[bridge]]\nname = 'b'",
            "[serve]\nlisten = 'x'",
            "[serve]\nlisten = 'x'\n[[bridge]]\nname = 'b'\nkind = 'x'",
            "[broker]\nurl = 'z'\n[serve]\nlisten = 'x'\n[[bridge]]\nname = 'b'",
        ] {
            assert_ne!(print(other), before, "{other}");
        }
    }

    #[test]
    fn a_print_follows_what_the_files_hold_that_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = "key_file = 'k'\n[broker]\npassword_file = 'p'\n[[webhook]]\nsecret_file = 's'";
        let table: toml::Table = text.parse().unwrap();
        let print = |key: &str| Print::of_keys(&table, &[key], dir.path());
        for (key, file) in [("broker", "p"), ("webhook", "s"), ("key_file", "k")] {
            let missing = print(key);
            std::fs::write(dir.path().join(file), "one").unwrap();
            let one = print(key);
            assert_eq!(print(key), one, "{key}");
            std::fs::write(dir.path().join(file), "two").unwrap();
            assert!(one != missing && print(key) != one, "{key}");
        }
    }
}
