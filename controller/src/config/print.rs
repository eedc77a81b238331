//! Prints of parts of a config, by which it is seen what a change of the file touches. Passwords don't stay in them.

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

    /// Of what stands at these keys, sections joined by dots, one of several tables by its `name`; missing ones count as such.
    pub(super) fn of_keys(table: &toml::Table, keys: &[&str]) -> Self {
        let found: Vec<Option<&toml::Value>> = keys.iter().map(|key| find(table, key)).collect();
        Self::of(&format!("{found:?}"))
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
            Print::of_keys(&table, &["broker", "serve.listen", "bridge.b"])
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
}
