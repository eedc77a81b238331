//! The `[collect.services]` section. The text for people is in `sample.toml`, which a test holds against these
//! defaults.

use serde::Deserialize;

use super::super::pattern::Patterns;
use super::super::{ConfigError, section};
use super::NAME;

/// Longest name of a unit (`UNIT_NAME_MAX` of systemd).
const NAME_BYTES_MAX: usize = 255;

/// Patterns and names in the section, at most.
const UNITS_MAX: usize = 256;

/// What a unit's name ends with, as of systemd 257.
const SUFFIXES: &[&str] = &[
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// The section, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Units that are watched whether or not they are loaded.
    pub(super) names: Vec<String>,
    /// All that is watched, names included.
    pub(super) patterns: Patterns,
    pub(super) bus: Option<String>,
    pub(super) usage: bool,
    pub(super) sockets: bool,
}

impl Config {
    pub(super) fn parse(section: &toml::Table) -> Result<Self, ConfigError> {
        let raw: Raw = section::parse(NAME, section)?;
        if raw.units.len() > UNITS_MAX {
            let what = format!(
                "expected at most {UNITS_MAX} names and patterns, found {}",
                raw.units.len()
            );
            return Err(section::refused(NAME, "units", &what));
        }
        let mut units = Vec::new();
        for unit in &raw.units {
            units.push(full_name(unit).map_err(|what| section::refused(NAME, "units", &what))?);
        }
        let names = units.iter().filter(|unit| !is_pattern(unit)).cloned();
        Ok(Self {
            names: names.collect(),
            patterns: units.iter().map(String::as_str).collect(),
            bus: (!raw.bus.is_empty()).then_some(raw.bus),
            usage: raw.usage,
            sockets: raw.sockets,
        })
    }

    /// Whether there is anything to watch.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns == Patterns::default()
    }
}

fn is_pattern(unit: &str) -> bool {
    unit.contains(['*', '?'])
}

/// A unit's name with its suffix; patterns stay as they are.
fn full_name(unit: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@*?".contains(&byte);
    if unit.is_empty() || unit.len() > NAME_BYTES_MAX || !unit.bytes().all(fits) {
        return Err(format!(
            "expected names of units or patterns such as \"nginx.service\" or \"app@*\", found {unit:?}"
        ));
    }
    let has_suffix = unit
        .rsplit_once('.')
        .is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix));
    Ok(if is_pattern(unit) || has_suffix {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    })
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    units: Vec<String>,
    bus: String,
    usage: bool,
    sockets: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            units: Vec::new(),
            bus: String::new(),
            usage: true,
            sockets: true,
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
        let sample: toml::Table = super::super::SPEC.sample.parse().unwrap();
        let mut section = sample
            .get("collect")
            .and_then(|collect| collect.get(NAME))
            .and_then(toml::Value::as_table)
            .unwrap()
            .clone();
        let timing = section::take_timing(&super::super::SPEC, &mut section).unwrap();
        assert!(timing.enabled);
        assert_eq!(timing.interval, super::super::SPEC.interval_default);
        assert_eq!(timing.deadline, super::super::SPEC.deadline_default);
        assert_eq!(section.len(), 4, "the sample shows every key");
        assert_eq!(parse(&section.to_string()).unwrap(), parse("").unwrap());
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn names_get_their_suffix_and_patterns_stay() {
        let config =
            parse(r#"units = ["nginx", "app@*", "a.b", "cron.timer", "getty@tty?.service"]"#)
                .unwrap();
        assert_eq!(config.names, ["nginx.service", "a.b.service", "cron.timer"]);
        for (name, want) in [
            ("nginx.service", true),
            ("nginx.socket", false),
            ("app@7.service", true),
            ("getty@tty1.service", true),
            ("cron.service", false),
        ] {
            assert_eq!(config.patterns.matches(name), want, "{name}");
        }
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for text in [
            r#"units = [""]"#,
            r#"units = ["a b"]"#,
            r#"units = ["../x"]"#,
            r#"units = "nginx""#,
            r#"unit = ["nginx"]"#,
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("[collect.services] unit"),
                "{text}: {error}"
            );
        }
    }
}
