//! Ready-made rules, one file each: what the logs of well-known programs mean.

/// A pack of rules.
#[derive(Debug)]
pub struct Pack {
    /// Its name, as in `packs = ["keepalived"]`.
    pub name: &'static str,
    /// Its rules: the text of a rule file.
    pub text: &'static str,
}

/// Every pack, by name.
pub static PACKS: &[Pack] = &[
    Pack {
        name: "haproxy",
        text: include_str!("packs/haproxy.toml"),
    },
    Pack {
        name: "keepalived",
        text: include_str!("packs/keepalived.toml"),
    },
    Pack {
        name: "kernel",
        text: include_str!("packs/kernel.toml"),
    },
    Pack {
        name: "nginx",
        text: include_str!("packs/nginx.toml"),
    },
    Pack {
        name: "sshd",
        text: include_str!("packs/sshd.toml"),
    },
];

/// The rules of a pack.
#[must_use]
pub fn find(name: &str) -> Option<&'static str> {
    PACKS
        .iter()
        .find(|pack| pack.name == name)
        .map(|pack| pack.text)
}

/// The names of all packs.
#[must_use]
pub fn names() -> Vec<&'static str> {
    PACKS.iter().map(|pack| pack.name).collect()
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
