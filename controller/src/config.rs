//! The config file of `muster`: where it is, what may stand in it, and what holds where it is silent.
//!
//! `--config`, else `MUSTER_CONFIG`, else `muster/config.toml` in the user's config directory, else
//! `/etc/muster/muster.toml`; without any, the defaults. Unknown keys are refused with their line and column.

mod parse;
mod place;
mod print;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use muster_link::{BrokerConfig, RawBroker};
use muster_proto::id::KeyId;
use muster_proto::signing::JobSigner;
use secrecy::SecretString;
use serde::Deserialize;

pub use self::parse::ConfigError;
use self::place::Place;
pub use self::print::Print;
use crate::exit::usage;
use crate::serve::bridges::config::{self as bridges, BridgeConfig, RawBridge};
use crate::serve::config::{RawServe, ServeConfig};
use crate::serve::react::config::{self as react, RawReact, ReactConfig};
use crate::serve::republish::{RawRepublish, RepublishConfig};

/// The parsed config.
#[derive(Debug)]
pub struct Config {
    /// The file that it was read from; `None` where there is none.
    pub file: Option<PathBuf>,
    /// Directory of the keys: `keys` beside a config file that was named, else in the user's config directory.
    pub keys_dir: PathBuf,
    /// Who asks, in jobs and events: the login name unless set.
    pub issuer: KeyId,
    /// The private key that signs jobs.
    pub key_file: PathBuf,
    /// Where the ledger is kept.
    pub cache_dir: PathBuf,
    /// The management API.
    pub management: ManagementConfig,
    /// `muster serve`.
    pub serve: ServeConfig,
    /// What `muster serve` repeats as JSON.
    pub republish: RepublishConfig,
    /// What `muster serve` does about events.
    pub react: std::sync::Arc<ReactConfig>,
    /// The bridges.
    pub bridges: Vec<BridgeConfig>,
    broker: Option<Broker>,
    /// The file that was asked for, to be read again.
    named: Option<PathBuf>,
    /// Everything as it was written.
    written: toml::Table,
}

/// The section `[broker]`: the link's config, and what of it other services of the broker need too.
#[derive(Debug)]
struct Broker {
    link: BrokerConfig,
    password: Option<SecretString>,
    ca_file: Option<PathBuf>,
}

/// How RabbitMQ's management API is reached. What is left out follows from `[broker]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagementConfig {
    /// Its URL, e.g. `http://rabbit.example.com:15672`.
    pub url: Option<String>,
    /// The user; `broker init` and `enroll` need an administrator.
    pub user: Option<String>,
    /// A file that holds the user's password.
    pub password_file: Option<PathBuf>,
    /// A file with the CA certificates that the API's certificate is checked against.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    issuer: Option<KeyId>,
    key_file: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    broker: Option<toml::Spanned<RawBroker>>,
    #[serde(default)]
    management: ManagementConfig,
    serve: Option<toml::Spanned<RawServe>>,
    #[serde(default)]
    republish: Vec<RawRepublish>,
    mail: Option<toml::Spanned<react::RawMail>>,
    #[serde(default)]
    webhook: Vec<react::RawWebhook>,
    #[serde(default)]
    reactions: react::RawReactions,
    #[serde(default)]
    maintenance: Vec<toml::Spanned<react::RawMaintenance>>,
    #[serde(default)]
    reaction: Vec<react::RawReaction>,
    #[serde(default)]
    bridge: Vec<RawBridge>,
}

impl Config {
    /// Reads the config file: `named`, or where it usually is.
    ///
    /// # Errors
    /// When a named file is not there, can't be read, or is wrong.
    pub fn load(named: Option<&Path>) -> Result<Self> {
        let place = Place::find(named)?;
        let Some(file) = &place.file else {
            return Self::from_raw(RawConfig::default(), place, "");
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| usage(format!("read the config {}: {error}", file.display())))?;
        let raw = parse::parse(&text, file)?;
        let written = parse::parse(&text, file)?;
        let config = Self::from_raw(raw, place, &text)?;
        Ok(Self {
            named: named.map(Path::to_owned),
            written,
            ..config
        })
    }

    /// Reads the same config again, as it is now.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_again(&self) -> Result<Self> {
        Self::load(self.named.as_deref())
    }

    /// The print of what was written for these keys (`issuer`, `broker`, `serve.listen`) and of the files named there;
    /// the same as long as nothing was changed.
    #[must_use]
    pub fn print_of(&self, keys: &[&str]) -> Print {
        let dir = self.keys_dir.parent().unwrap_or(&self.keys_dir);
        Print::of_keys(&self.written, keys, dir)
    }

    /// The defaults, without reading a file.
    ///
    /// # Errors
    /// When there is no home directory to put things in.
    pub fn without_file() -> Result<Self> {
        Self::from_raw(RawConfig::default(), Place::find_none()?, "")
    }

    fn from_raw(raw: RawConfig, place: Place, text: &str) -> Result<Self> {
        let broker = raw
            .broker
            .map(|section| Broker::from_raw(section, &place, text))
            .transpose()?;
        let issuer = match raw.issuer {
            Some(issuer) => issuer,
            None => place::login_name()?,
        };
        let keys_dir = place.dir.join("keys");
        let key_file = match raw.key_file {
            Some(path) => place.absolute(&path),
            None => keys_dir.join(format!("{issuer}.pem")),
        };
        let cache_dir = match raw.cache_dir {
            Some(path) => place.absolute(&path),
            None => place::cache_dir()?,
        };
        let serve = match raw.serve {
            Some(section) => checked(section, "[serve]", &place, text, |raw| {
                ServeConfig::parse(raw, &place.dir, &cache_dir)
            })?,
            None => {
                ServeConfig::parse(RawServe::default(), &place.dir, &cache_dir).map_err(usage)?
            }
        };
        let republish = RepublishConfig::parse(raw.republish).map_err(|(at, error)| {
            let file = place.file.clone().unwrap_or_default();
            ConfigError::at(text, at, file, format!("in [[republish]]: {error}"))
        })?;
        let react = RawReact {
            mail: raw.mail,
            webhook: raw.webhook,
            reactions: raw.reactions,
            maintenance: raw.maintenance,
            reaction: raw.reaction,
        };
        let react = ReactConfig::parse(react, &place.dir).map_err(|(at, why)| {
            ConfigError::at(text, at, place.file.clone().unwrap_or_default(), why)
        })?;
        let bridges = bridges::parse(raw.bridge).map_err(|wrong| {
            let why = format!("in [[bridge]]: {}", wrong.why);
            ConfigError::at(text, wrong.at, place.file.clone().unwrap_or_default(), why)
        })?;
        let mut management = raw.management;
        management.password_file = management.password_file.map(|path| place.absolute(&path));
        management.ca_file = management.ca_file.map(|path| place.absolute(&path));
        Ok(Self {
            file: place.file,
            keys_dir,
            issuer,
            key_file,
            cache_dir,
            management,
            serve,
            republish,
            react: react.into(),
            bridges,
            broker,
            named: None,
            written: toml::Table::new(),
        })
    }

    /// How the broker is reached.
    ///
    /// # Errors
    /// When there is no section `[broker]`; the error says where to write one.
    pub fn broker(&self) -> Result<&BrokerConfig> {
        Ok(&self.broker_section()?.link)
    }

    /// The password that stands in the section `[broker]` itself.
    #[must_use]
    pub fn broker_password(&self) -> Option<&SecretString> {
        self.broker.as_ref()?.password.as_ref()
    }

    /// The file with the CA certificates that the broker's certificate is checked against.
    #[must_use]
    pub fn broker_ca_file(&self) -> Option<&Path> {
        self.broker.as_ref()?.ca_file.as_deref()
    }

    fn broker_section(&self) -> Result<&Broker> {
        self.broker.as_ref().ok_or_else(|| {
            let place = match &self.file {
                Some(file) => file.display().to_string(),
                None => place::USUAL_PLACES.to_owned(),
            };
            usage(format!(
                "no broker is configured: write a section [broker] with url, user and password_file into {place}, \
                 as `muster broker enroll --operator NAME` prints it"
            ))
        })
    }

    /// The key that signs jobs, and its id: the file's name without `.pem`.
    ///
    /// # Errors
    /// When the file is missing or not a private key, and when its name is not one that a key may have.
    pub fn signer(&self) -> Result<(KeyId, JobSigner)> {
        let file = self.key_file.display();
        let text = std::fs::read_to_string(&self.key_file).map_err(|error| {
            usage(format!(
                "read the signing key {file}: {error}; make one with `muster key new {}`",
                self.issuer
            ))
        })?;
        let signer =
            JobSigner::from_pem(&text).with_context(|| format!("read the signing key {file}"))?;
        let stem = self
            .key_file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let id = stem
            .parse()
            .with_context(|| format!("take the key's id from the file name {file}"))?;
        Ok((id, signer))
    }
}

/// What `check` makes of a section; what is wrong with it is told with the section's name and place.
fn checked<R, T, E: std::fmt::Display>(
    section: toml::Spanned<R>,
    name: &str,
    place: &Place,
    text: &str,
    check: impl FnOnce(R) -> Result<T, E>,
) -> Result<T, ConfigError> {
    let start = section.span().start;
    check(section.into_inner()).map_err(|error| {
        let file = place.file.clone().unwrap_or_default();
        ConfigError::at(text, start, file, format!("in {name}: {error}"))
    })
}

impl Broker {
    fn from_raw(section: toml::Spanned<RawBroker>, place: &Place, text: &str) -> Result<Self> {
        checked(section, "[broker]", place, text, |raw| {
            Self::check(raw, place)
        })
        .map_err(Into::into)
    }

    fn check(mut raw: RawBroker, place: &Place) -> Result<Self, muster_link::ConfigError> {
        for path in [
            &mut raw.password_file,
            &mut raw.ca_file,
            &mut raw.cert_file,
            &mut raw.key_file,
        ] {
            *path = path.take().map(|path| place.absolute(&path));
        }
        let (password, ca_file) = (raw.password.clone(), raw.ca_file.clone());
        Ok(Self {
            link: BrokerConfig::try_from(raw)?,
            password,
            ca_file,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
