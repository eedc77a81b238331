//! The config as people write it.

use super::*;

use crate::cmd::config::SAMPLE;

fn load(text: &str) -> Result<Config> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("muster.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file));
    // Without the directory's name, so that it can be compared.
    config.map_err(|error| {
        let message = crate::exit::message_of(&error);
        usage(message.replace(&format!("{}/", directory.path().display()), ""))
    })
}

/// The sample without the marks that make its examples comments, but for the keys named.
fn uncommented(but: &[&str]) -> String {
    let line = |line: &str| {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let key = bare.split(" = ").next().unwrap_or_default();
        let is_example =
            bare.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let wanted = is_example && !but.contains(&key);
        if wanted {
            bare.to_owned()
        } else {
            line.to_owned()
        }
    };
    SAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_is_taken_as_it_is_and_with_all_its_examples() {
    let config = load(SAMPLE).unwrap();
    assert_eq!(config.broker().unwrap().url().vhost(), "muster");
    assert!(config.management.url.is_none());

    let full = load(&uncommented(&[
        "urls",
        "password",
        "ca_file",
        "cert_file",
        "key_file",
    ]))
    .unwrap();
    assert_eq!(full.issuer.as_str(), "ann");
    assert_eq!(full.broker().unwrap().user(), "ann");
    assert_eq!(full.cache_dir, Path::new("/home/ann/.cache/muster"));
    assert!(
        full.broker()
            .unwrap()
            .password_file()
            .unwrap()
            .is_absolute()
    );
    assert_eq!(full.management.user.as_deref(), Some("admin"));
}

const SECTIONS: [&str; 11] = [
    "bridge",
    "rule",
    "broker",
    "management",
    "serve",
    "republish",
    "mail",
    "webhook",
    "reactions",
    "maintenance",
    "reaction",
];

#[test]
fn every_key_is_in_the_sample() {
    // What the parser says that it knows, asked for with a key that it does not.
    for (section, unknown) in [
        ("", "zzzzzzzzzzzz = 1\n"),
        ("[broker]\n", "zzzzzzzzzzzz = 1"),
        ("[management]\n", "zzzzzzzzzzzz = 1"),
        ("[serve]\n", "zzzzzzzzzzzz = 1"),
        ("[[republish]]\n", "zzzzzzzzzzzz = 1"),
        ("[[bridge]]\n", "zzzzzzzzzzzz = 1"),
        (
            "[[bridge]]\n[[bridge.rule]]\nseries = 'x'\n",
            "zzzzzzzzzzzz = 1",
        ),
    ] {
        let error = load(&format!("{section}{unknown}"))
            .unwrap_err()
            .to_string();
        let keys = error.rsplit("the keys here are ").next().unwrap();
        for key in keys.split(", ").filter(|key| !SECTIONS.contains(key)) {
            assert!(
                SAMPLE.contains(&format!("\n# {key} = "))
                    || SAMPLE.contains(&format!("\n#   {key} = "))
                    || SAMPLE.contains(&format!("\n{key} = ")),
                "{key}"
            );
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, want) in [
        (
            "isuer = 'a'",
            "muster.toml:1:1: unknown key \"isuer\"; did you mean \"issuer\"?",
        ),
        (
            "[broker]\nusre = 'a'",
            "muster.toml:2:1: unknown key \"usre\"; did you mean \"user\"?",
        ),
        (
            "\n[broker]\nurl = 'amqp://a'\nca_file = '/x'",
            "muster.toml:2:1: in [broker]: `ca_file` is set, but amqp://a:5672/%2f is not encrypted: write amqps://, or leave `ca_file` out",
        ),
        (
            "[broker]\nheartbeat = 'soon'",
            "muster.toml:2:13: invalid value: string \"soon\", expected a time such as \"10s\" or \"1m 30s\", or a number of seconds",
        ),
        (
            "issuer = 'a b'",
            "muster.toml:1:10: name \"a b\" is not valid: only letters, digits, '.', '-', '_' and '@' are allowed",
        ),
    ] {
        assert_eq!(load(text).unwrap_err().to_string(), want, "{text:?}");
    }
}

#[test]
fn a_config_without_a_broker_is_good_until_one_is_needed() {
    let config = load("issuer = 'ann'").unwrap();
    assert!(config.key_file.ends_with("keys/ann.pem"));
    let error = config.broker().unwrap_err();
    assert_eq!(crate::exit::Exit::of(&error), crate::exit::Exit::Usage);
    let error = config.signer().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("make one with `muster key new ann`"),
        "{error}"
    );
}
