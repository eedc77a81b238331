//! The `[collect.<name>]` sections of the configuration: the keys that all collectors share, and the road from a
//! table to a built collector. Knows no collector's own keys.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{COLLECTORS, Collect, CollectContext, ConfigError, HostRoots, Spec, Wake};

/// Shortest interval; below it the agent would be busy with itself.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest interval and deadline: a day.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// When a collector runs: the keys that every section shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Whether it runs at all (`enabled`).
    pub enabled: bool,
    /// Time between the starts of two runs (`interval`).
    pub interval: Duration,
    /// Time after which a run is given up (`deadline`).
    pub deadline: Duration,
}

/// A collector ready to be scheduled.
pub struct Built {
    /// Its row in the table.
    pub spec: &'static Spec,
    /// When it runs.
    pub timing: Timing,
    /// Itself.
    pub collector: Box<dyn Collect>,
    /// By which it asks for a run.
    pub wake: Wake,
}

/// Builds every collector of the table that is enabled and has something to watch, each from its section or from the
/// defaults. Nobody hears them wake: this is for a single run, or for none.
///
/// # Errors
/// The first section that names no collector, or that its collector refuses.
pub fn build_all(
    roots: &HostRoots,
    sections: BTreeMap<String, toml::Table>,
) -> Result<Vec<Built>, ConfigError> {
    build_with(roots, sections, Wake::default)
}

/// As [`build_all`], each collector with a wake of its own.
pub(super) fn build_with(
    roots: &HostRoots,
    mut sections: BTreeMap<String, toml::Table>,
    wake: impl Fn() -> Wake,
) -> Result<Vec<Built>, ConfigError> {
    let mut wanted = Vec::new();
    for spec in COLLECTORS {
        let built = build_one(spec, roots, sections.remove(spec.name), wake())?; // a bad section is never silent
        if built.timing.enabled && built.collector.is_wanted() {
            wanted.push(built);
        }
    }
    let Some(unknown) = sections.into_keys().next() else {
        return Ok(wanted);
    };
    let known: Vec<_> = COLLECTORS.iter().map(|spec| spec.name).collect();
    Err(ConfigError {
        section: unknown,
        key: None,
        what: format!("no such collector; there are: {}", known.join(", ")),
    })
}

/// Builds one collector from its section, also where it is switched off.
pub(super) fn build_one(
    spec: &'static Spec,
    roots: &HostRoots,
    section: Option<toml::Table>,
    wake: Wake,
) -> Result<Built, ConfigError> {
    let mut section = section.unwrap_or_default();
    let timing = take_timing(spec, &mut section)?;
    let context = CollectContext {
        roots: roots.clone(),
        section,
        wake: wake.clone(),
    };
    Ok(Built {
        spec,
        timing,
        collector: (spec.build)(&context)?,
        wake,
    })
}

/// Takes the shared keys out of `section`.
pub(super) fn take_timing(spec: &Spec, section: &mut toml::Table) -> Result<Timing, ConfigError> {
    let enabled = match section.remove("enabled") {
        None => true,
        Some(toml::Value::Boolean(enabled)) => enabled,
        Some(other) => {
            return Err(refused(
                spec.name,
                "enabled",
                &format!("expected true or false, found {other}"),
            ));
        }
    };
    let interval = take_duration(spec.name, section, "interval")?.unwrap_or(spec.interval_default);
    let deadline = take_duration(spec.name, section, "deadline")?.unwrap_or(spec.deadline_default);
    Ok(Timing {
        enabled,
        interval,
        deadline,
    })
}

/// Reads a collector's own keys. `T` has a default for each and denies unknown ones.
pub(super) fn parse<T: DeserializeOwned>(
    name: &str,
    section: &toml::Table,
) -> Result<T, ConfigError> {
    T::deserialize(section.clone()).map_err(|error| {
        // Every key has a default, so that a table of one key shows whether that key is the one at fault.
        let alone = |key: &String, value: &toml::Value| {
            let one: toml::Table = [(key.clone(), value.clone())].into_iter().collect();
            T::deserialize(one).is_err()
        };
        let key = section
            .iter()
            .find(|(key, value)| alone(key, value))
            .map(|(key, _)| key.clone());
        ConfigError {
            section: name.to_owned(),
            key,
            what: one_line(&error.to_string()),
        }
    })
}

/// A value that a collector does not take.
pub(super) fn refused(name: &str, key: &str, what: &str) -> ConfigError {
    ConfigError {
        section: name.to_owned(),
        key: Some(key.to_owned()),
        what: what.to_owned(),
    }
}

/// Reads a duration such as `10s` or `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|error| format!("expected a duration such as \"10s\", found {text:?}: {error}"))?;
    Duration::try_from(signed)
        .ok()
        .filter(|duration| (INTERVAL_MIN..=INTERVAL_MAX).contains(duration))
        .ok_or_else(|| format!("expected a duration between 100ms and 24h, found {text:?}"))
}

fn take_duration(
    name: &str,
    section: &mut toml::Table,
    key: &str,
) -> Result<Option<Duration>, ConfigError> {
    match section.remove(key) {
        None => Ok(None),
        Some(toml::Value::String(text)) => duration(&text)
            .map(Some)
            .map_err(|what| refused(name, key, &what)),
        Some(other) => Err(refused(
            name,
            key,
            &format!("expected a duration such as \"10s\", found {other}"),
        )),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn build(text: &str) -> Result<Vec<Built>, ConfigError> {
        build_all(&HostRoots::default(), toml::from_str(text).unwrap())
    }

    #[test]
    fn every_row_builds_from_its_defaults_and_its_sample() {
        for spec in COLLECTORS {
            let built = build_one(spec, &HostRoots::default(), None, Wake::default()).unwrap();
            assert!(built.timing.enabled && !built.wake.is_connected());
            assert_eq!(
                (built.timing.interval, built.timing.deadline),
                (spec.interval_default, spec.deadline_default)
            );
            let mut sample: toml::Table = spec.sample.parse().unwrap();
            let sections = sample.remove("collect").unwrap().try_into().unwrap();
            assert!(
                build_all(&HostRoots::default(), sections).is_ok(),
                "{}",
                spec.name
            );
        }
    }

    #[test]
    fn timing_is_read_and_a_disabled_collector_is_still_checked() {
        let built = build("[host]\ninterval = \"1m 30s\"\ndeadline = \"500ms\"").unwrap();
        let timing = built.first().unwrap().timing;
        assert_eq!(
            (timing.interval, timing.deadline),
            (Duration::from_secs(90), Duration::from_millis(500))
        );
        assert_eq!(
            build("[host]\nenabled = false").unwrap().len(),
            build("").unwrap().len() - 1
        );
        assert!(build("[host]\nenabled = false\nnonsense = 1").is_err());
    }

    #[test]
    fn refusals_say_where_and_what_would_do() {
        for (text, says) in [
            (
                "[hosts]",
                "[collect.hosts]: no such collector; there are: host",
            ),
            (
                "[host]\nenabled = 1",
                "[collect.host] enabled: expected true or false, found 1",
            ),
            (
                "[host]\ninterval = 10",
                "[collect.host] interval: expected a duration such as \"10s\", found 10",
            ),
            ("[host]\ninterval = \"1ms\"", "between 100ms and 24h"),
            ("[host]\ninterval = \"-5s\"", "between 100ms and 24h"),
            ("[host]\ndeadline = \"2 moons\"", "such as \"10s\""),
            (
                "[host]\nintervall = \"1s\"",
                "[collect.host] intervall: unknown field `intervall`",
            ),
        ] {
            let Err(error) = build(text).map(|_| ()) else {
                unreachable!("accepted {text}")
            };
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}
