//! Where files are: the config, the keys, the cache; and whose they are. It must not know what stands in them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use muster_proto::id::KeyId;

use crate::exit::usage;

/// The usual places, for messages.
pub(super) const USUAL_PLACES: &str = "~/.config/muster/config.toml or /etc/muster/muster.toml";

const SYSTEM_FILE: &str = "/etc/muster/muster.toml";

/// A config file and the directory that belongs to it.
#[derive(Debug)]
pub(super) struct Place {
    /// The file, where there is one.
    pub(super) file: Option<PathBuf>,
    /// The directory of the keys' directory, and what relative paths in the file start from.
    pub(super) dir: PathBuf,
    base: PathBuf,
}

impl Place {
    /// The file that is named, else that of the environment, else the usual ones, else none.
    pub(super) fn find(named: Option<&Path>) -> Result<Self> {
        let from_environment = || variable("MUSTER_CONFIG").map(PathBuf::from);
        if let Some(file) = named.map(Path::to_owned).or_else(from_environment) {
            // Made absolute, so that what is printed for later use holds in other directories.
            let file = std::path::absolute(&file).unwrap_or(file);
            let dir = parent(&file);
            return Ok(Self {
                file: Some(file),
                base: dir.clone(),
                dir,
            });
        }
        let dir = config_dir()?;
        let file = [dir.join("config.toml"), PathBuf::from(SYSTEM_FILE)]
            .into_iter()
            .find(|file| file.exists());
        let base = file.as_deref().map_or_else(|| dir.clone(), parent);
        Ok(Self { file, dir, base })
    }

    /// No file.
    pub(super) fn find_none() -> Result<Self> {
        let dir = config_dir()?;
        Ok(Self {
            file: None,
            base: dir.clone(),
            dir,
        })
    }

    /// A path in the file: relative ones start from the file's directory, `~/` from the home directory.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), variable("HOME")) {
            (Ok(rest), Some(home)) => Path::new(&home).join(rest),
            _ => self.base.join(path),
        }
    }
}

/// The cache directory: `muster` in `XDG_CACHE_HOME` or `~/.cache`.
pub(super) fn cache_dir() -> Result<PathBuf> {
    Ok(base_dir("XDG_CACHE_HOME", ".cache")?.join("muster"))
}

/// The login name, with what no name may hold left out.
pub(super) fn login_name() -> Result<KeyId> {
    let uid = rustix::process::getuid().as_raw();
    let name = variable("LOGNAME")
        .or_else(|| variable("USER"))
        .or_else(|| name_of_uid(uid));
    let name = name.unwrap_or_else(|| format!("uid{uid}"));
    let good: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || ".-_@".contains(*c))
        .take(64)
        .collect();
    good.parse().map_err(|_| {
        usage(format!(
            "the login name {name:?} can't be an issuer: set `issuer` in the config"
        ))
    })
}

fn config_dir() -> Result<PathBuf> {
    Ok(base_dir("XDG_CONFIG_HOME", ".config")?.join("muster"))
}

/// As the XDG base directory specification says: a relative path in the variable is ignored.
fn base_dir(name: &str, below_home: &str) -> Result<PathBuf> {
    let set = variable(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    set.or_else(|| Some(Path::new(&variable("HOME")?).join(below_home)))
        .ok_or_else(|| {
            usage(format!(
                "neither {name} nor HOME is set: set one, or name a config with --config"
            ))
        })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn parent(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

/// From `/etc/passwd` (passwd(5)): name, password, uid, parted by colons.
fn name_of_uid(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}
