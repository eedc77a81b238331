//! The `[collect.lvs]` section. The text for people is in `sample.toml`, which a test holds against these defaults.

use serde::Deserialize;

use super::super::{ConfigError, section};
use super::NAME;

/// Where the table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wanted {
    /// Netlink, and proc where that is refused.
    Auto,
    Netlink,
    Proc,
    Ipvsadm,
}

/// The section, checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    pub(super) source: Wanted,
    pub(super) ipvsadm: Vec<String>,
    pub(super) virtual_servers_max: usize,
    pub(super) real_servers_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source: Wanted::Auto,
            ipvsadm: vec!["ipvsadm".to_owned()],
            virtual_servers_max: 4096,
            real_servers_max: 32_768,
        }
    }
}

impl Config {
    pub(super) fn parse(section: &toml::Table) -> Result<Self, ConfigError> {
        let config: Self = section::parse(NAME, section)?;
        if config.ipvsadm.first().is_none_or(String::is_empty) {
            let what = "expected a program and its first arguments, such as [\"sudo\", \"-n\", \"ipvsadm\"]";
            return Err(section::refused(NAME, "ipvsadm", what));
        }
        Ok(config)
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_default() {
        let sample: toml::Table = super::super::SPEC.sample.parse().unwrap();
        let mut section = sample["collect"]["lvs"].as_table().unwrap().clone();
        let keys = section.len();
        let timing = section::take_timing(&super::super::SPEC, &mut section).unwrap();
        assert!(timing.enabled);
        assert_eq!(timing.interval, super::super::SPEC.interval_default);
        assert_eq!(timing.deadline, super::super::SPEC.deadline_default);
        assert_eq!(Config::parse(&section).unwrap(), Config::default());
        assert_eq!(keys, 3 + 4, "a key is missing from the sample");
    }

    #[test]
    fn bad_sections_name_the_key() {
        for (text, key) in [
            ("nonsense = 1", "nonsense"),
            ("source = \"snmp\"", "source"),
            ("ipvsadm = []", "ipvsadm"),
            ("real_servers_max = -1", "real_servers_max"),
        ] {
            let error = Config::parse(&text.parse().unwrap()).unwrap_err();
            assert_eq!(error.key.as_deref(), Some(key), "{text}");
        }
    }
}
