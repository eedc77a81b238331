//! The config's sections `[scripts.<name>]`: which scripts jobs may run, by path and SHA-256.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The config's section `[scripts.<name>]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptSection {
    /// The file, absolute.
    pub path: PathBuf,
    /// SHA-256 of its content: 64 hexadecimal digits, as `sha256sum` prints them.
    pub sha256: String,
    /// Longest that it may run, whatever the job says.
    pub run_limit: Option<jiff::SignedDuration>,
    /// The user to run it as: a name of `/etc/passwd`, or `uid:gid`. The agent's own where it is left out.
    pub user: Option<String>,
}

/// The scripts, by name.
pub type Scripts = BTreeMap<String, Script>;

/// A script that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The file.
    pub(super) path: PathBuf,
    /// Its content's SHA-256.
    pub(super) sha256: [u8; 32],
    /// Longest that it may run.
    pub(super) run_limit: Option<Duration>,
    /// The user to run it as.
    pub(super) user: Option<String>,
}

impl ScriptSection {
    /// Checks the section called `name`. Whether the file is there and as it should be is seen at each run, so that a
    /// script may come after the agent.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn parse(&self, name: &str) -> Result<Script, String> {
        let refused = |key: &str, what: String| format!("[scripts.{name}] {key}: {what}");
        if !self.path.is_absolute() {
            return Err(refused(
                "path",
                format!("expected an absolute path, found {}", self.path.display()),
            ));
        }
        let sha256 = sha256_from_hex(&self.sha256).ok_or_else(|| {
            refused(
                "sha256",
                format!(
                    "expected 64 hexadecimal digits (sha256sum {}), found {:?}",
                    self.path.display(),
                    self.sha256
                ),
            )
        })?;
        let run_limit = match self.run_limit {
            None => None,
            Some(limit) => Some(
                Duration::try_from(limit)
                    .ok()
                    .filter(|limit| *limit >= Duration::from_secs(1))
                    .ok_or_else(|| {
                        refused(
                            "run_limit",
                            format!("expected a duration of at least 1s, found {limit}"),
                        )
                    })?,
            ),
        };
        Ok(Script {
            path: self.path.clone(),
            sha256,
            run_limit,
            user: self.user.clone(),
        })
    }
}

fn sha256_from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
