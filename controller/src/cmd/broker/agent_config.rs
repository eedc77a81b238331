//! The config files that enrolment prints, as text. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use muster_proto::id::{HostId, KeyId};
use secrecy::{ExposeSecret, SecretString};

/// What follows `[broker]` in both programs' configs.
#[derive(Debug)]
pub(super) struct Access<'a> {
    /// The brokers' URLs; at least one.
    pub(super) urls: Vec<String>,
    /// The broker user.
    pub(super) user: &'a str,
    /// Its password.
    pub(super) password: &'a SecretString,
    /// Where the password is to be read from, in place of standing in the config.
    pub(super) password_file: Option<&'a Path>,
    /// The CA certificates that the broker's certificate is checked against.
    pub(super) ca_file: Option<&'a Path>,
}

/// The config of the agent on `host`; `keys` are the lines about the keys that it shall obey.
pub(super) fn for_agent(
    host: &HostId,
    labels: &BTreeMap<String, String>,
    access: &Access<'_>,
    keys: &str,
) -> String {
    let mut text = format!(
        "# muster-agent's config for {host}, as `muster broker enroll` wrote it.\n\
         # All that may stand here: `muster-agent config default`.\n\nhost = {}\n",
        quoted(host.as_str())
    );
    if !labels.is_empty() {
        text.push_str("\n[labels]\n");
        for (name, value) in labels {
            text.push_str(&format!("{} = {}\n", key(name), quoted(value)));
        }
    }
    text.push_str(&broker(access));
    text.push('\n');
    if keys.is_empty() {
        text.push_str("# No key is known here: until there are [[keys]] and [[policy]] the agent refuses every job.\n");
    } else {
        text.push_str(keys);
    }
    text
}

/// The config of the operator or program `issuer`.
pub(super) fn for_operator(issuer: &KeyId, access: &Access<'_>) -> String {
    format!(
        "# muster's config for {issuer}, as `muster broker enroll --operator` wrote it: ~/.config/muster/config.toml\n\n\
         issuer = {}\n{}",
        quoted(issuer.as_str()),
        broker(access)
    )
}

/// What another service is told: its URL with the password in it, in the form of an environment file.
pub(super) fn for_subscriber(name: &str, access: &Access<'_>) -> String {
    let mut text = format!(
        "# The broker access of the subscriber {name}: it may declare queues sub.{name}.*, and bind them to muster.events,\n\
         # muster.metrics and muster.json; and it may read the stream muster.history.\n"
    );
    for (at, url) in access.urls.iter().enumerate() {
        let login = format!("://{name}:{}@", access.password.expose_secret());
        let line = format!("MUSTER_URL={}\n", url.replacen("://", &login, 1));
        text.push_str(if at == 0 { "" } else { "# or: " });
        text.push_str(&line);
    }
    if let Some(file) = access.ca_file {
        text.push_str(&format!(
            "# The broker's certificate is signed by the CA in {}.\n",
            file.display()
        ));
    }
    text
}

fn broker(access: &Access<'_>) -> String {
    let mut text = String::from("\n[broker]\n");
    match access.urls.as_slice() {
        [url] => text.push_str(&format!("url = {}\n", quoted(url))),
        urls => {
            let urls: Vec<String> = urls.iter().map(|url| quoted(url)).collect();
            text.push_str(&format!("urls = [{}]\n", urls.join(", ")));
        }
    }
    text.push_str(&format!("user = {}\n", quoted(access.user)));
    match access.password_file {
        Some(file) => text.push_str(&format!(
            "password_file = {}\n",
            quoted(&file.display().to_string())
        )),
        None => text.push_str(&format!(
            "password = {}\n",
            quoted(access.password.expose_secret())
        )),
    }
    if let Some(file) = access.ca_file {
        text.push_str(&format!(
            "ca_file = {} # a copy of the file of this name here\n",
            quoted(&file.display().to_string())
        ));
    }
    text
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A bare key where TOML allows it.
fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_agents_config_is_toml_and_holds_all_it_needs() {
        let host: HostId = "lb1.example.com".parse().unwrap();
        let labels = [("role", "lb"), ("rack no", "a \"7\"")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let access = Access {
            urls: vec!["amqps://rabbit:5671/fleet".to_owned()],
            user: "lb1.example.com",
            password: &"00ff".into(),
            password_file: None,
            ca_file: Some(Path::new("/etc/muster/ca.pem")),
        };
        let keys = "[[keys]]\nid = \"ann\"\npublic_key = \"ab\"\n\n[[policy]]\nkey = \"ann\"\nactions = [\"*\"]\n";
        let text = for_agent(&host, &labels, &access, keys);
        insta::assert_snapshot!(text, @r#"
        # muster-agent's config for lb1.example.com, as `muster broker enroll` wrote it.
        # All that may stand here: `muster-agent config default`.

        host = "lb1.example.com"

        [labels]
        "rack no" = 'a "7"'
        role = "lb"

        [broker]
        url = "amqps://rabbit:5671/fleet"
        user = "lb1.example.com"
        password = "00ff"
        ca_file = "/etc/muster/ca.pem" # a copy of the file of this name here

        [[keys]]
        id = "ann"
        public_key = "ab"

        [[policy]]
        key = "ann"
        actions = ["*"]
        "#);
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["labels"]["rack no"].as_str(), Some("a \"7\""));
        assert_eq!(parsed["broker"]["password"].as_str(), Some("00ff"));
        assert_eq!(parsed["policy"][0]["key"].as_str(), Some("ann"));
    }

    #[test]
    fn a_subscriber_is_told_its_urls() {
        let access = Access {
            urls: vec!["amqps://a/fleet".to_owned(), "amqps://b/fleet".to_owned()],
            user: "billing",
            password: &"00ff".into(),
            password_file: None,
            ca_file: Some(Path::new("/etc/muster/ca.pem")),
        };
        insta::assert_snapshot!(for_subscriber("billing", &access), @r"
        # The broker access of the subscriber billing: it may declare queues sub.billing.*, and bind them to muster.events,
        # muster.metrics and muster.json; and it may read the stream muster.history.
        MUSTER_URL=amqps://billing:00ff@a/fleet
        # or: MUSTER_URL=amqps://billing:00ff@b/fleet
        # The broker's certificate is signed by the CA in /etc/muster/ca.pem.
        ");
    }

    #[test]
    fn an_operators_config_can_name_a_cluster_and_a_password_file() {
        let issuer: KeyId = "ann".parse().unwrap();
        let access = Access {
            urls: vec!["amqp://a:5672/".to_owned(), "amqp://b:5672/".to_owned()],
            user: "ann",
            password: &"secret".into(),
            password_file: Some(Path::new("/home/ann/pw")),
            ca_file: None,
        };
        let text = for_operator(&issuer, &access);
        assert!(!text.contains("secret"));
        insta::assert_snapshot!(text, @r#"
        # muster's config for ann, as `muster broker enroll --operator` wrote it: ~/.config/muster/config.toml

        issuer = "ann"

        [broker]
        urls = ["amqp://a:5672/", "amqp://b:5672/"]
        user = "ann"
        password_file = "/home/ann/pw"
        "#);
    }
}
