//! The `[collect.host]` section: its keys, their defaults and what is refused. The text for people is in
//! `sample.toml`, which a test holds against these defaults.

use std::time::Duration;

use serde::Deserialize;

use super::super::ConfigError;
use super::super::pattern::Patterns;
use super::super::section;
use super::NAME;

/// The section, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub(super) without: Vec<String>,
    pub(super) disks_exclude: Patterns,
    pub(super) partitions: bool,
    pub(super) filesystem_types_exclude: Patterns,
    pub(super) network_filesystems: bool,
    pub(super) mounts_exclude: Patterns,
    pub(super) filesystem_deadline: Duration,
    pub(super) filesystem_warning_percent: f64,
    pub(super) filesystem_critical_percent: f64,
    pub(super) interfaces_exclude: Patterns,
    pub(super) conntrack_warning_percent: f64,
}

impl Config {
    /// Reads the section; `parts` are the names that `without` may hold.
    pub(super) fn parse(section: &toml::Table, parts: &[&str]) -> Result<Self, ConfigError> {
        let raw: Raw = section::parse(NAME, section)?;
        if let Some(unknown) = raw
            .without
            .iter()
            .find(|name| !parts.contains(&name.as_str()))
        {
            let what = format!("no part {unknown:?}; there are: {}", parts.join(", "));
            return Err(section::refused(NAME, "without", &what));
        }
        let percent = |key: &str, value: f64| {
            // Below ten percent nothing could ever be back to normal, two percent lower.
            let fits = (10.0..=100.0).contains(&value);
            let what = format!("expected a percentage from 10 to 100, found {value}");
            if fits {
                Ok(value)
            } else {
                Err(section::refused(NAME, key, &what))
            }
        };
        let warning = percent("filesystem_warning_percent", raw.filesystem_warning_percent)?;
        let critical = percent(
            "filesystem_critical_percent",
            raw.filesystem_critical_percent,
        )?;
        if critical < warning {
            let what = format!(
                "expected at least filesystem_warning_percent ({warning}), found {critical}"
            );
            return Err(section::refused(NAME, "filesystem_critical_percent", &what));
        }
        let deadline = section::duration(&raw.filesystem_deadline)
            .map_err(|what| section::refused(NAME, "filesystem_deadline", &what))?;
        Ok(Self {
            without: raw.without,
            disks_exclude: raw.disks_exclude,
            partitions: raw.partitions,
            filesystem_types_exclude: raw.filesystem_types_exclude,
            network_filesystems: raw.network_filesystems,
            mounts_exclude: raw.mounts_exclude,
            filesystem_deadline: deadline,
            filesystem_warning_percent: warning,
            filesystem_critical_percent: critical,
            interfaces_exclude: raw.interfaces_exclude,
            conntrack_warning_percent: percent(
                "conntrack_warning_percent",
                raw.conntrack_warning_percent,
            )?,
        })
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    without: Vec<String>,
    disks_exclude: Patterns,
    partitions: bool,
    filesystem_types_exclude: Patterns,
    network_filesystems: bool,
    mounts_exclude: Patterns,
    filesystem_deadline: String,
    filesystem_warning_percent: f64,
    filesystem_critical_percent: f64,
    interfaces_exclude: Patterns,
    conntrack_warning_percent: f64,
}

impl Default for Raw {
    #[rustfmt::skip] // the lists of names read better filled
    fn default() -> Self {
        Self {
            without: Vec::new(),
            disks_exclude: Patterns::of(&["loop*", "ram*", "zram*", "sr*", "fd*"]),
            partitions: false,
            filesystem_types_exclude: Patterns::of(&[
                "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs",
                "efivarfs", "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fusectl", "hugetlbfs", "iso9660",
                "mqueue", "nsfs", "overlay", "proc", "pstore", "ramfs", "rootfs", "rpc_pipefs", "securityfs",
                "selinuxfs", "squashfs", "sysfs", "tracefs",
            ]),
            network_filesystems: false,
            mounts_exclude: Patterns::of(&[
                "/proc/*", "/sys/*", "/run/credentials/*", "/run/user/*", "/snap/*", "/var/lib/docker/*",
                "/var/lib/containers/*", "/var/lib/kubelet/pods/*",
            ]),
            filesystem_deadline: "1s".to_owned(),
            filesystem_warning_percent: 90.0,
            filesystem_critical_percent: 95.0,
            interfaces_exclude: Patterns::of(&["veth*", "cali*", "lxc*"]),
            conntrack_warning_percent: 90.0,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const PARTS: &[&str] = &["cpu", "disks"];

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(&text.parse().unwrap(), PARTS)
    }

    #[test]
    fn the_sample_is_the_default() {
        let mut sample: toml::Table = super::super::SPEC.sample.parse().unwrap();
        let mut section = sample
            .remove("collect")
            .unwrap()
            .as_table_mut()
            .unwrap()
            .remove("host")
            .unwrap();
        let section = section.as_table_mut().unwrap();
        let keys = section.len();
        let timing = section::take_timing(&super::super::SPEC, section).unwrap();
        assert!(timing.enabled);
        assert_eq!(timing.interval, super::super::SPEC.interval_default);
        assert_eq!(timing.deadline, super::super::SPEC.deadline_default);
        assert_eq!(Config::parse(section, PARTS).unwrap(), parse("").unwrap());
        assert_eq!(keys, 3 + 11, "a key is missing from the sample");
    }

    #[test]
    fn bad_sections_name_the_key_and_what_would_do() {
        for (text, key, says) in [
            ("nonsense = 1", "nonsense", "unknown field `nonsense`"),
            ("disks_exclude = 1", "disks_exclude", "expected a sequence"),
            ("without = [\"gpu\"]", "without", "there are: cpu, disks"),
            (
                "filesystem_deadline = \"soon\"",
                "filesystem_deadline",
                "such as \"10s\"",
            ),
            (
                "filesystem_deadline = \"0s\"",
                "filesystem_deadline",
                "between 100ms",
            ),
            (
                "filesystem_warning_percent = 101",
                "filesystem_warning_percent",
                "from 10 to 100",
            ),
            (
                "conntrack_warning_percent = 1",
                "conntrack_warning_percent",
                "from 10 to 100",
            ),
            (
                "filesystem_warning_percent = 96",
                "filesystem_critical_percent",
                "at least",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.key.as_deref(), Some(key), "{text}");
            assert!(error.to_string().contains(says), "{text}: {error}");
            assert!(
                error.to_string().starts_with("[collect.host] "),
                "{text}: {error}"
            );
        }
    }
}
