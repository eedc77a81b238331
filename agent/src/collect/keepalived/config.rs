//! The `[collect.keepalived]` section: its keys, their defaults and what is refused. The text for people is in
//! `sample.toml`, which a test holds against these defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::super::{ConfigError, section};
use super::NAME;

/// Daemons that are watched at the most.
pub(super) const DAEMONS_MAX: usize = 16;

/// The section, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) signals: bool,
    pub(super) wait: Duration,
    /// What is said of the only daemon, or of each that is found.
    pub(super) usual: Files,
    /// Those that have a section of their own, by name; nothing else is looked for then.
    pub(super) named: BTreeMap<String, Files>,
}

/// The files of one daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) pid_file: Option<PathBuf>,
    pub(super) binary: Option<PathBuf>,
    pub(super) fifos: Vec<String>,
}

impl Config {
    pub(super) fn parse(section: &toml::Table) -> Result<Self, ConfigError> {
        let raw: Raw = section::parse(NAME, section)?;
        let wait =
            section::duration(&raw.wait).map_err(|what| section::refused(NAME, "wait", &what))?;
        let usual = files("", raw.files())?;
        let mut named = BTreeMap::new();
        for (name, daemon) in raw.daemons {
            let key = format!("daemons.{name}");
            let files = files(&format!("{key}."), daemon)?;
            let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || !name.chars().all(word) {
                let what = "expected a name of letters, digits, '-', '_' and '.'";
                return Err(section::refused(NAME, &key, what));
            }
            if files.pid_file.is_none() {
                let what = "expected a pid_file, by which this keepalived is known";
                return Err(section::refused(NAME, &key, what));
            }
            named.insert(name, files);
        }
        if !named.is_empty() && usual != Files::default() {
            let what =
                "expected the files of each keepalived in its own section, and none beside them";
            return Err(section::refused(NAME, "daemons", what));
        }
        if named.len() > DAEMONS_MAX {
            let what = format!(
                "expected at most {DAEMONS_MAX} daemons, found {}",
                named.len()
            );
            return Err(section::refused(NAME, "daemons", &what));
        }
        Ok(Self {
            signals: raw.signals,
            wait,
            usual,
            named,
        })
    }
}

fn files(prefix: &str, raw: RawFiles) -> Result<Files, ConfigError> {
    let absolute = |key: &str, text: String| {
        if text.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(&text);
        if path.is_absolute() {
            return Ok(Some(path));
        }
        let what = format!("expected an absolute path, found {text:?}");
        Err(section::refused(NAME, &format!("{prefix}{key}"), &what))
    };
    let mut fifos: Vec<String> = Vec::new();
    let pipes = [
        ("fifo", raw.fifo),
        ("vrrp_fifo", raw.vrrp_fifo),
        ("lvs_fifo", raw.lvs_fifo),
    ];
    for (key, text) in pipes {
        if let Some(path) = absolute(key, text)? {
            let path = path.to_string_lossy().into_owned();
            if fifos.contains(&path) {
                let what = "expected another FIFO than those before it: each is read once";
                return Err(section::refused(NAME, &format!("{prefix}{key}"), what));
            }
            fifos.push(path);
        }
    }
    Ok(Files {
        pid_file: absolute("pid_file", raw.pid_file)?,
        binary: absolute("binary", raw.binary)?,
        fifos,
    })
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    signals: bool,
    wait: String,
    pid_file: String,
    binary: String,
    fifo: String,
    vrrp_fifo: String,
    lvs_fifo: String,
    daemons: BTreeMap<String, RawFiles>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawFiles {
    pid_file: String,
    binary: String,
    fifo: String,
    vrrp_fifo: String,
    lvs_fifo: String,
}

impl Raw {
    fn files(&self) -> RawFiles {
        RawFiles {
            pid_file: self.pid_file.clone(),
            binary: self.binary.clone(),
            fifo: self.fifo.clone(),
            vrrp_fifo: self.vrrp_fifo.clone(),
            lvs_fifo: self.lvs_fifo.clone(),
        }
    }
}

impl Default for Raw {
    fn default() -> Self {
        let RawFiles {
            pid_file,
            binary,
            fifo,
            vrrp_fifo,
            lvs_fifo,
        } = RawFiles::default();
        Self {
            signals: true,
            wait: "3s".to_owned(),
            pid_file,
            binary,
            fifo,
            vrrp_fifo,
            lvs_fifo,
            daemons: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(&text.parse().unwrap())
    }

    #[test]
    fn the_sample_is_the_default() {
        let mut sample: toml::Table = super::super::SPEC.sample.parse().unwrap();
        let mut collect = sample.remove("collect").unwrap();
        let section = collect.get_mut("keepalived").unwrap();
        let section = section.as_table_mut().unwrap();
        let keys = section.len();
        let timing = section::take_timing(&super::super::SPEC, section).unwrap();
        assert!(timing.enabled);
        assert_eq!(timing.interval, super::super::SPEC.interval_default);
        assert_eq!(timing.deadline, super::super::SPEC.deadline_default);
        assert_eq!(Config::parse(section).unwrap(), parse("").unwrap());
        assert_eq!(keys, 3 + 8, "a key is missing from the sample");
    }

    #[test]
    fn daemons_and_refusals() {
        let two = "[daemons.a]\npid_file = \"/run/a.pid\"\nvrrp_fifo = \"/run/a\"\n[daemons.b]\npid_file = \"/run/b.pid\"";
        let config = parse(two).unwrap();
        assert_eq!(config.named.get("a").unwrap().fifos, ["/run/a"]);
        for (text, key, says) in [
            ("nonsense = 1", "nonsense", "unknown field"),
            ("wait = \"soon\"", "wait", "such as \"10s\""),
            ("fifo = \"run/x\"", "fifo", "absolute path"),
            ("fifo = \"/x\"\nlvs_fifo = \"/x\"", "lvs_fifo", "read once"),
            ("[daemons.a]", "daemons.a", "expected a pid_file"),
            (
                "[daemons.\"a b\"]\npid_file = \"/x\"",
                "daemons.a b",
                "letters",
            ),
            (
                "[daemons.a]\npid_file = \"x\"",
                "daemons.a.pid_file",
                "absolute path",
            ),
            (
                "pid_file = \"/x\"\n[daemons.a]\npid_file = \"/x\"",
                "daemons",
                "its own section",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.key.as_deref(), Some(key), "{text}");
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}
