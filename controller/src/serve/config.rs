//! The section `[serve]` of the controller's config, and the sections of what `muster serve` runs. Each part reads its
//! own; this file only knows where they stand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::series::Bounds;

/// Where the local HTTP interface listens where the config does not say.
const LISTEN_DEFAULT: &str = "127.0.0.1:9419";

/// How long events are kept where the config does not say: as long as the broker's own history.
const HISTORY_AGE_DEFAULT: &str = "14d";

/// How much of the disk the history may take where the config does not say.
const HISTORY_BYTES_DEFAULT: bytesize::ByteSize = bytesize::ByteSize(2_000_000_000);

/// Series of all hosts where the config does not say: ten thousand hosts with four hundred each.
const SERIES_DEFAULT: usize = 4_000_000;

/// Series of one host where the config does not say: a director with a few thousand real servers.
const SERIES_PER_HOST_DEFAULT: usize = 50_000;

/// Points of each where the config does not say: a minute of snapshots every ten seconds.
const POINTS_DEFAULT: usize = 6;

/// Points at the most: what is longer ago belongs into a time-series store.
const POINTS_MAX: usize = 360;

/// `[serve]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawServe {
    /// Directory of the ledger and the history of this `serve`.
    state_dir: Option<PathBuf>,
    /// Address of `/healthz`, `/readyz` and `/metrics`; empty for none.
    listen: Option<String>,
    /// Longest that an event is kept.
    history_age_max: Option<String>,
    /// Most bytes that the history's file may have.
    history_bytes_max: Option<bytesize::ByteSize>,
    /// Most series that are kept of all hosts; 0 for none.
    series_max: Option<usize>,
    /// Most series of one host.
    series_per_host_max: Option<usize>,
    /// Points that are kept of each.
    series_points: Option<usize>,
}

/// What `muster serve` runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeConfig {
    /// Directory of its files.
    pub state_dir: PathBuf,
    /// Where it answers HTTP; nowhere if none.
    pub listen: Option<SocketAddr>,
    /// Longest that an event is kept.
    pub history_age_max: Duration,
    /// Most bytes of the history's file.
    pub history_bytes_max: u64,
    /// How many series of figures it keeps, and how much of each.
    pub(crate) series: Bounds,
}

impl ServeConfig {
    /// Checks the values; what is not written gets its default. Paths are relative to `base`.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn parse(raw: RawServe, base: &Path, cache_dir: &Path) -> Result<Self, String> {
        let state_dir = match raw.state_dir {
            Some(path) => base.join(path),
            None => cache_dir.join("serve"),
        };
        let listen = match raw.listen.as_deref().unwrap_or(LISTEN_DEFAULT) {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                format!("listen: expected an address and a port such as {LISTEN_DEFAULT:?}, or \"\" for none, found {text:?}")
            })?),
        };
        let age = raw
            .history_age_max
            .as_deref()
            .unwrap_or(HISTORY_AGE_DEFAULT);
        let history_age_max = crate::cmd::span(age)
            .ok()
            .filter(|age| *age >= Duration::from_secs(60))
            .ok_or_else(|| {
                format!(
                    "history_age_max: expected a time of at least 1m such as \"14d\", found {age:?}"
                )
            })?;
        let history_bytes_max = raw.history_bytes_max.unwrap_or(HISTORY_BYTES_DEFAULT).0;
        if history_bytes_max < 10_000_000 {
            return Err("history_bytes_max: expected at least 10 MB".to_owned());
        }
        let points = raw.series_points.unwrap_or(POINTS_DEFAULT);
        if !(1..=POINTS_MAX).contains(&points) {
            return Err(format!(
                "series_points: expected 1 to {POINTS_MAX}, found {points}"
            ));
        }
        let series = Bounds {
            series_max: raw.series_max.unwrap_or(SERIES_DEFAULT),
            per_host_max: raw.series_per_host_max.unwrap_or(SERIES_PER_HOST_DEFAULT),
            points,
        };
        Ok(Self {
            state_dir,
            listen,
            history_age_max,
            history_bytes_max,
            series,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServeConfig, String> {
        let raw: RawServe = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        ServeConfig::parse(raw, Path::new("/etc/muster"), Path::new("/cache"))
    }

    #[test]
    fn what_is_not_written_gets_its_default() {
        let config = parse("").unwrap();
        assert_eq!(config.state_dir, Path::new("/cache/serve"));
        assert_eq!(config.listen.unwrap().to_string(), LISTEN_DEFAULT);
        assert_eq!(config.history_age_max, Duration::from_secs(14 * 24 * 3600));
        let config = parse("listen = \"\"\nstate_dir = \"x\"").unwrap();
        assert_eq!(
            (config.listen, config.state_dir.as_path()),
            (None, Path::new("/etc/muster/x"))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, want) in [
            ("listen = \"9419\"", "listen: expected an address"),
            (
                "history_age_max = \"soon\"",
                "history_age_max: expected a time",
            ),
            (
                "history_age_max = \"5s\"",
                "history_age_max: expected a time",
            ),
            (
                "history_bytes_max = \"1MB\"",
                "history_bytes_max: expected at least",
            ),
            ("series_points = 0", "series_points: expected 1 to 360"),
            ("port = 5", "unknown field"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
