//! What can be wrong with a command line, a config, a key file or a broker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Operator;

#[tokio::test]
async fn a_broker_that_is_not_there_is_exit_69() -> Result<()> {
    let operator = Operator::new().await?;
    let (amqp, api) = (
        operator.broker.amqp().to_string(),
        operator.broker.management_address().to_string(),
    );
    operator.configure(&operator.config().replace(&api, "127.0.0.1:1"))?;
    let message = operator.refused(69, &["broker", "init"]).await?;
    for part in [
        "http://127.0.0.1:1 can't be reached",
        "rabbitmq-plugins enable rabbitmq_management",
    ] {
        assert!(message.contains(part), "{message}");
    }
    operator.configure(&operator.config().replace(&amqp, "127.0.0.1:1"))?;
    let host = operator.host("lb1");
    let message = operator.refused(69, &["broker", "enroll", &host]).await?;
    assert!(
        message.contains("could not reach RabbitMQ at 127.0.0.1:1"),
        "{message}"
    );
    let users = operator.broker.management().get("users").await?;
    assert!(
        !users.to_string().contains(&host),
        "nothing should be half done"
    );
    let check = operator.muster.run(&["broker", "check"]).await?;
    assert_eq!(check.code, 69, "{check:?}");
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_are_exit_2_and_say_where_to_look() -> Result<()> {
    let operator = Operator::new().await?;
    operator.configure(
        &operator
            .config()
            .replace("password = \"admin\"", "password = \"wrong\""),
    )?;
    let message = operator.refused(2, &["broker", "init"]).await?;
    assert!(
        message.contains("does not accept the user \"admin\" (Login failed)"),
        "{message}"
    );
    assert!(
        !message.contains("wrong"),
        "a password should never be shown: {message}"
    );
    let check = operator.muster.run(&["broker", "check"]).await?;
    assert_eq!(check.code, 2, "{check:?}");
    assert_eq!(check.stdout.matches(" bad ").count(), 2, "{check:?}");

    operator.configure(
        &operator
            .config()
            .replace("password = \"admin\"", "password_file = \"none\""),
    )?;
    let message = operator.refused(2, &["broker", "init"]).await?;
    let file = operator.muster.home().join(".config/muster/none");
    assert!(
        message.contains(&file.display().to_string()),
        "relative to the config: {message}"
    );
    Ok(())
}

#[tokio::test]
async fn a_wrong_address_of_the_api_is_recognised() -> Result<()> {
    let operator = Operator::new().await?;
    let (amqp, api) = (
        operator.broker.amqp().to_string(),
        operator.broker.management_address().to_string(),
    );
    for (from, to) in [
        (format!("http://{api}"), format!("http://{amqp}")),
        (format!("http://{api}"), format!("https://{api}")),
        (format!("http://{api}"), "no url".to_owned()),
    ] {
        operator.configure(&operator.config().replace(&from, &to))?;
        let message = operator.refused(2, &["broker", "init"]).await?;
        assert!(
            message.contains("is not RabbitMQ's management API: check [management] url"),
            "{to}: {message}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_config_is_named_with_line_and_column() -> Result<()> {
    let operator = Operator::new().await?;
    let file = operator.muster.home().join(".config/muster/config.toml");
    for (config, want) in [
        (
            "isuer = \"ann\"\n",
            "1:1: unknown key \"isuer\"; did you mean \"issuer\"?",
        ),
        (
            "issuer = \"ann\"\n[broker]\n  usr = \"a\"\n",
            "3:3: unknown key \"usr\"; did you mean \"user\"?",
        ),
        ("[broker]\nurl = \"amqp://u:secret@h/v\"\n", "2:7: "),
    ] {
        operator.configure(config)?;
        let message = operator.refused(2, &["key", "list"]).await?;
        assert!(
            message.contains(&format!("{}:{want}", file.display())),
            "{message}"
        );
        assert!(!message.contains("secret"), "{message}");
    }
    let message = operator
        .refused(2, &["key", "list", "--config", "none.toml"])
        .await?;
    assert!(message.contains("none.toml: No such file"), "{message}");
    operator
        .muster
        .succeed(&["completions", "bash"])
        .await
        .context("needs no config")?;
    operator.configure("issuer = \"ann\"\n")?;
    let message = operator.refused(2, &["broker", "init"]).await?;
    assert!(message.contains("write a section [broker]"), "{message}");
    Ok(())
}

#[tokio::test]
async fn keys_are_private_listed_and_never_overwritten() -> Result<()> {
    let operator = Operator::new().await?;
    let keys = operator.muster.home().join(".config/muster/keys");
    let made = operator.muster.succeed(&["key", "new"]).await?;
    let snippet: toml::Table = made.stdout.parse()?;
    let public = snippet["keys"][0]["public_key"]
        .as_str()
        .context("a public key")?;
    assert_eq!(fs::read_to_string(keys.join("ann.pub"))?.trim(), public);
    assert_eq!(
        fs::metadata(keys.join("ann.pem"))?.permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::metadata(&keys)?.permissions().mode() & 0o777, 0o700);

    let before = fs::read(keys.join("ann.pem"))?;
    let message = operator.refused(2, &["key", "new", "ann"]).await?;
    assert!(message.contains("keys are never overwritten"), "{message}");
    assert_eq!(fs::read(keys.join("ann.pem"))?, before);

    operator.muster.succeed(&["key", "new", "deploy"]).await?;
    let listed = operator
        .muster
        .succeed(&["key", "list", "-o", "ndjson"])
        .await?
        .json_lines()?;
    let names: Vec<_> = listed
        .iter()
        .map(|key| (key["name"].as_str(), key["default"].as_bool()))
        .collect();
    assert_eq!(
        names,
        [(Some("ann"), Some(true)), (Some("deploy"), Some(false))]
    );

    fs::write(keys.join("ann.pem"), "not a key\n")?;
    let message = operator.refused(2, &["key", "list"]).await?;
    assert!(
        message.contains("ann.pem: not an ed25519 private key"),
        "{message}"
    );
    let message = operator
        .refused(2, &["broker", "enroll", &operator.host("lb1")])
        .await?;
    assert!(
        message.contains("ann.pem: not an ed25519 private key"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn wrong_command_lines_are_exit_2_with_a_hint() -> Result<()> {
    let operator = Operator::new().await?;
    for (arguments, want) in [
        (["broker", "enrol"].as_slice(), "'enroll'"),
        (&["broker", "enroll"], "<HOST>"),
        (&["broker", "enroll", "a b"], "only letters"),
        (&["broker", "enroll", "lb1", "--label", "x"], "NAME=VALUE"),
        (&["key", "new", "a/b"], "only letters"),
        (
            &["actions", "pnig"],
            "there is no action \"pnig\"; there are collect, ",
        ),
        (&["-o", "xml", "actions"], "ndjson"),
    ] {
        let output = operator.muster.run(arguments).await?;
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{output:?}");
        assert!(output.stderr.contains(want), "{output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_who_goes_away_is_no_error() -> Result<()> {
    let operator = Operator::new().await?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = operator.muster.command(&["completions", "bash"]);
    let output = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()?;
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(141), "")
    );
    Ok(())
}
