//! The weights that real servers had before they were set to 0, in a file that outlives the agent.
//!
//! A weight is written down and on the disk before it is changed, so that whatever ends the agent in between, it can be
//! given back. The file is replaced as a whole; one that can't be read is set aside, and a new one begun.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::plan::Former;

/// Name of the file in the agent's own folder.
const FILE: &str = "lvs-weights.json";

/// Most weights that are remembered: far more than one host has real servers at 0 on purpose. Over it, the oldest go.
const WEIGHTS_MAX: usize = 65_536;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    weights: Vec<Remembered>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    virtual_server: String,
    real_server: String,
    weight: u32,
    /// Since when, in milliseconds since 1970.
    at_ms: u64,
}

impl Memory {
    /// The memory in the folder `dir`.
    pub(super) fn at(dir: &Path) -> Self {
        Self {
            path: dir.join(FILE),
        }
    }

    /// What is remembered.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub(super) fn read(&self) -> Result<Former, String> {
        let kept = self.load()?.weights.into_iter().filter_map(|kept| {
            let key = (
                kept.virtual_server.parse().ok()?,
                kept.real_server.parse().ok()?,
            );
            Some((key, kept.weight))
        });
        Ok(kept.collect())
    }

    /// Remembers `weights` in place of what was known of them, and is on the disk when this returns.
    ///
    /// # Errors
    /// When that could not be written; then what was remembered before still is.
    pub(super) fn remember(&self, weights: &Former) -> Result<(), String> {
        if weights.is_empty() {
            return Ok(());
        }
        let at_ms = now_ms();
        let mut content = self.load()?;
        content.retain_others(weights);
        content
            .weights
            .extend(weights.iter().map(|((service, real), weight)| Remembered {
                virtual_server: service.to_string(),
                real_server: real.to_string(),
                weight: *weight,
                at_ms,
            }));
        let over = content.weights.len().saturating_sub(WEIGHTS_MAX);
        content.weights.drain(..over);
        self.save(&content)
    }

    /// Forgets what is known of these.
    ///
    /// # Errors
    /// As [`Memory::remember`].
    pub(super) fn forget(&self, weights: &Former) -> Result<(), String> {
        let mut content = self.load()?;
        let before = content.weights.len();
        content.retain_others(weights);
        if content.weights.len() == before {
            return Ok(());
        }
        self.save(&content)
    }

    fn load(&self) -> Result<Content, String> {
        let failed = |error| format!("could not read {}: {error}", self.path.display());
        let text = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(error) => return Err(failed(error)),
            Ok(found) if found.len() > FILE_BYTES_MAX => Vec::new(),
            Ok(_) => fs::read(&self.path).map_err(failed)?,
        };
        match serde_json::from_slice(&text) {
            Ok(content) => Ok(content),
            Err(error) => {
                let aside = self.path.with_extension("damaged");
                tracing::error!(path = %self.path.display(), aside = %aside.display(), %error, "the remembered weights can't be read; they are set aside, and a new file is begun");
                fs::rename(&self.path, &aside).map_err(failed)?;
                Ok(Content::default())
            }
        }
    }

    fn save(&self, content: &Content) -> Result<(), String> {
        self.write(content).map_err(|error| {
            format!(
                "could not write the weights down in {}: {error}",
                self.path.display()
            )
        })
    }

    fn write(&self, content: &Content) -> io::Result<()> {
        let text = serde_json::to_vec(content).map_err(io::Error::other)?;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            // The name is on the disk when the folder is.
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Content {
    fn retain_others(&mut self, weights: &Former) {
        let named: std::collections::BTreeSet<(String, String)> = weights
            .keys()
            .map(|(service, real)| (service.to_string(), real.to_string()))
            .collect();
        self.weights.retain(|kept| {
            let key = (kept.virtual_server.clone(), kept.real_server.clone());
            !named.contains(&key)
        });
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::plan::tests::id;
    use super::*;

    fn weights(of: &[(&str, &str, u32)]) -> Former {
        of.iter()
            .map(|(service, real, weight)| ((id(service), real.parse().unwrap()), *weight))
            .collect()
    }

    #[test]
    fn weights_are_remembered_until_they_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::at(dir.path());
        assert!(memory.read().unwrap().is_empty());
        let both = [
            ("tcp/192.0.2.10:80", "10.1.0.1:80", 100),
            ("fwmark6/7", "[2001:db8::1]:0", 3),
        ];
        memory.remember(&weights(&both)).unwrap();
        let newer = [("tcp/192.0.2.10:80", "10.1.0.1:80", 50)];
        memory.remember(&weights(&newer)).unwrap();
        let [_, second] = both;
        assert_eq!(
            Memory::at(dir.path()).read().unwrap(),
            weights(&[newer[0], second])
        );
        memory.forget(&weights(&newer)).unwrap();
        memory.forget(&weights(&newer)).unwrap();
        assert_eq!(memory.read().unwrap(), weights(&[second]));
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_one_that_can_not_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::at(dir.path());
        fs::write(dir.path().join(FILE), b"{\"weights\":[{\"virt").unwrap();
        assert!(memory.read().unwrap().is_empty());
        assert!(dir.path().join("lvs-weights.damaged").exists());
        let one = weights(&[("tcp/192.0.2.10:80", "10.1.0.1:80", 100)]);
        memory.remember(&one).unwrap();
        assert_eq!(memory.read().unwrap(), one);
        let gone = Memory::at(&dir.path().join("nowhere"));
        let error = gone.remember(&one).unwrap_err();
        assert!(
            error.starts_with("could not write the weights down in "),
            "{error}"
        );
    }
}
