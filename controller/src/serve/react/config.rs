//! The sections of the config that are about reactions, taken together: every name that one uses, another has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lettre::message::Mailbox;
use toml::Spanned;

use super::mail::MailConfig;
pub use super::mail::RawMail;
pub use super::maintenance::RawMaintenance;
use super::rules::{Fault, Rules};
pub use super::rules::{RawReaction, RawReactions};
pub use super::webhook::RawWebhook;
use super::webhook::WebhookConfig;

/// Reactions that one config may have.
const REACTIONS_MAX: usize = 1000;

/// The sections as they are written.
#[derive(Debug, Default)]
pub struct RawReact {
    /// `[mail]`.
    pub mail: Option<Spanned<RawMail>>,
    /// `[[webhook]]`.
    pub webhook: Vec<RawWebhook>,
    /// `[reactions]`.
    pub reactions: RawReactions,
    /// `[[maintenance]]`.
    pub maintenance: Vec<Spanned<RawMaintenance>>,
    /// `[[reaction]]`.
    pub reaction: Vec<RawReaction>,
}

/// What reactions run with.
#[derive(Debug)]
pub struct ReactConfig {
    pub(crate) rules: std::sync::Arc<Rules>,
    pub(crate) mail: Option<MailConfig>,
    pub(crate) webhooks: Vec<WebhookConfig>,
    pub(crate) tell: Vec<Mailbox>,
}

impl ReactConfig {
    /// Checks the sections; relative paths start from `base`. An error has the byte where it is.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn parse(raw: RawReact, base: &Path) -> Result<Self, (usize, String)> {
        Self::checked(raw, base).map_err(|fault| (fault.at, fault.why))
    }

    fn checked(raw: RawReact, base: &Path) -> Result<Self, Fault> {
        let absolute = |path: PathBuf| base.join(path);
        if raw.reaction.len() > REACTIONS_MAX {
            return Err(Fault::new(
                0,
                format!("more than {REACTIONS_MAX} reactions"),
            ));
        }
        let mut hooks = Vec::new();
        let mut names = BTreeSet::new();
        for webhook in raw.webhook {
            let webhook = WebhookConfig::parse(webhook, absolute)?;
            if !names.insert(webhook.name.clone()) {
                let why = format!("there are two webhooks named {:?}", webhook.name);
                return Err(Fault::new(0, why));
            }
            hooks.push(webhook);
        }
        for name in raw
            .reaction
            .iter()
            .flat_map(RawReaction::webhook_names)
            .chain(raw.reactions.webhook_names())
        {
            if !names.contains(name.get_ref()) {
                let why = format!("there is no [[webhook]] with the name {:?}", name.get_ref());
                return Err(Fault::new(name.span().start, why));
            }
        }
        let mail = raw
            .mail
            .map(|mail| MailConfig::parse(mail.into_inner(), absolute))
            .transpose()?;
        let without_mail = raw.reaction.iter().find_map(RawReaction::mail_at);
        if let (None, Some(at)) = (&mail, without_mail.or_else(|| raw.reactions.tell_at())) {
            return Err(Fault::new(at, "it sends mail: write a section [mail]"));
        }
        let tell = raw.reactions.tell()?;
        Ok(Self {
            rules: Rules::parse(raw.reactions, raw.reaction, raw.maintenance)?.into(),
            mail,
            webhooks: hooks,
            tell,
        })
    }

    /// Whether there is a reaction.
    #[must_use]
    pub fn has_reactions(&self) -> bool {
        !self.rules.rules.is_empty()
    }

    /// Whether a reaction has a job, so that a key is needed.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        self.rules.rules.iter().any(|rule| rule.job.is_some())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::config::Config;

    /// The examples of the sample, without the marks before them.
    fn examples() -> String {
        let sample = crate::cmd::config::SAMPLE;
        let lines = sample.lines().filter_map(|line| line.strip_prefix("#   "));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("muster.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file)).map_err(|error| crate::exit::message_of(&error));
        config.map_err(|error| error.replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn the_examples_of_the_sample_are_taken_and_have_every_key() {
        let config = load(&examples()).unwrap();
        assert!(config.react.has_jobs() && config.react.mail.is_some());
        assert_eq!(config.react.rules.maintenance.len(), 2);
        for section in [
            "[mail]",
            "[[webhook]]",
            "[reactions]",
            "[[maintenance]]",
            "[[reaction]]",
            "[reaction.job]",
        ] {
            let text = examples().replacen(section, &format!("{section}\nzzzzzzzzzzzz = 1"), 1);
            let error = load(&text).unwrap_err();
            let keys = error.rsplit("the keys here are ").next().unwrap();
            for key in keys
                .split(", ")
                .filter(|key| !["job", "password", "secret"].contains(key))
            {
                assert!(
                    examples().contains(&format!("\n{key} = ")),
                    "{section} {key}: {error}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (from, to, want) in [
            (
                "role=lb'",
                "role='",
                "muster.toml:60:57: when: character 49: expected a value",
            ),
            (
                "\"starttls\"\n",
                "\"ssl\"\n",
                "muster.toml:4:7: tls: expected",
            ),
            ("[\"sun\"]", "[\"xxx\"]", "expected a day such as"),
            (
                "webhook = [\"alerts\"]",
                "webhook = [\"x\"]",
                "there is no [[webhook]] with the name \"x\"",
            ),
        ] {
            let text = examples();
            assert!(text.contains(from), "{from}");
            let error = load(&text.replace(from, to)).unwrap_err();
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}
