//! Hosts and operators come and go: what they are given, what they may do with it, and that it is taken away.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use muster_harness::broker::connect;
use muster_harness::{Broker, eventually, want};

use super::Operator;

/// A channel as the user of a printed config.
async fn channel_of(broker: &Broker, config: &str) -> Result<(lapin::Connection, Channel)> {
    let config: toml::Table = config.parse().context("read the printed config as TOML")?;
    let text = |key: &str| {
        config["broker"][key]
            .as_str()
            .context(format!("broker.{key}"))
    };
    assert_eq!(
        text("url")?,
        format!("amqp://{}/{}", broker.amqp(), broker.vhost())
    );
    let connection = connect(&broker.uri(text("user")?, text("password")?)).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn publish(channel: &Channel, exchange: &str, key: &str) -> Result<()> {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish(
        exchange.into(),
        key.into(),
        options,
        b"",
        BasicProperties::default(),
    );
    let confirmation = confirm.await?.await?;
    if !confirmation.is_ack() {
        bail!("{confirmation:?}");
    }
    Ok(())
}

async fn declare_own_queue(channel: &Channel, host: &str) -> Result<String> {
    let queue = format!("muster.agent.{host}");
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.as_str().into(), durable, FieldTable::default())
        .await?;
    Ok(queue)
}

async fn bind(channel: &Channel, queue: &str, key: &str) -> Result<()> {
    let bound = channel.queue_bind(
        queue.into(),
        "muster.jobs".into(),
        key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    Ok(bound.await?)
}

/// Events of the vhost from now on.
async fn events(broker: &Broker) -> Result<(lapin::Connection, Channel, lapin::Consumer)> {
    let (connection, channel) = broker.channel().await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), own, FieldTable::default())
        .await?;
    let name = queue.name().clone();
    let binding = channel.queue_bind(
        name.clone(),
        "muster.events".into(),
        "host.#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    binding.await?;
    let ack = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel
        .basic_consume(name, "".into(), ack, FieldTable::default())
        .await?;
    Ok((connection, channel, consumer))
}

#[tokio::test]
async fn an_enrolled_host_can_do_its_work_and_no_more() -> Result<()> {
    let operator = Operator::new().await?;
    operator.muster.succeed(&["broker", "init"]).await?;
    operator.muster.succeed(&["key", "new"]).await?;
    let (host, other) = (operator.host("lb1"), operator.host("lb2"));
    let enrolled = operator
        .muster
        .succeed(&["broker", "enroll", &host, "--label", "role=lb"])
        .await?;

    let config: toml::Table = enrolled.stdout.parse()?;
    assert_eq!(config["host"].as_str(), Some(host.as_str()));
    assert_eq!(config["labels"]["role"].as_str(), Some("lb"));
    assert_eq!(config["keys"][0]["id"].as_str(), Some("ann"));
    assert_eq!(config["policy"][0]["key"].as_str(), Some("ann"));
    let password = config["broker"]["password"]
        .as_str()
        .context("a password")?;
    assert!(
        !enrolled.stderr.contains(password),
        "the password is on stderr"
    );

    let allowed = [
        ("muster.events", format!("host.started.{host}")),
        ("muster.metrics", format!("presence.{host}")),
        ("muster.jobs", format!("host.{host}")),
    ];
    for (exchange, key) in &allowed {
        let (_connection, channel) = channel_of(&operator.broker, &enrolled.stdout).await?;
        publish(&channel, exchange, key)
            .await
            .with_context(|| format!("{key} should be allowed"))?;
    }
    let refused = [
        ("muster.events", format!("host.started.{other}")),
        ("muster.metrics", format!("presence.{other}")),
        ("muster.jobs", "all".to_owned()),
        ("muster.jobs", format!("host.{other}")),
        ("muster.dead", format!("host.{host}")),
        ("amq.topic", format!("host.{host}")),
    ];
    for (exchange, key) in &refused {
        let (_connection, channel) = channel_of(&operator.broker, &enrolled.stdout).await?;
        assert!(
            publish(&channel, exchange, key).await.is_err(),
            "{key} to {exchange} should be refused"
        );
    }

    let (_connection, channel) = channel_of(&operator.broker, &enrolled.stdout).await?;
    let queue = declare_own_queue(&channel, &host).await?;
    bind(&channel, &queue, "all").await?;
    bind(&channel, &queue, &format!("host.{host}")).await?;
    assert!(
        bind(&channel, &queue, &format!("host.{other}"))
            .await
            .is_err(),
        "another host's jobs"
    );
    let (_connection, channel) = channel_of(&operator.broker, &enrolled.stdout).await?;
    assert!(
        declare_own_queue(&channel, &other).await.is_err(),
        "another host's queue"
    );
    Ok(())
}

#[tokio::test]
async fn enrolling_again_gives_a_new_password_and_says_so() -> Result<()> {
    let operator = Operator::new().await?;
    operator.muster.succeed(&["broker", "init"]).await?;
    let host = operator.host("lb1");
    let first = operator
        .muster
        .succeed(&["broker", "enroll", &host])
        .await?;
    assert!(first.stderr.contains("no key is known here"), "{first:?}");
    let files = [("--out", "agent.toml"), ("--password-file", "password")];
    let arguments: Vec<&str> = ["broker", "enroll", &host]
        .into_iter()
        .chain(files.iter().flat_map(|(option, file)| [*option, *file]))
        .collect();
    let second = operator.muster.succeed(&arguments).await?;
    assert!(
        second.stderr.contains("it has a new password"),
        "{second:?}"
    );
    assert_eq!(second.stdout, "");

    let home = operator.muster.home();
    for (_, file) in files {
        assert_eq!(
            fs::metadata(home.join(file))?.permissions().mode() & 0o777,
            0o600,
            "{file}"
        );
    }
    let config: toml::Table = fs::read_to_string(home.join("agent.toml"))?.parse()?;
    assert_eq!(
        config["broker"]["password_file"].as_str(),
        home.join("password").to_str()
    );
    let password = fs::read_to_string(home.join("password"))?;
    connect(&operator.broker.uri(&host, password.trim()))
        .await
        .context("the new password should be good")?;
    assert!(
        channel_of(&operator.broker, &first.stdout).await.is_err(),
        "the old password should be void"
    );
    Ok(())
}

#[tokio::test]
async fn an_enrolled_operator_can_enrol_nobody_and_check() -> Result<()> {
    let operator = Operator::new().await?;
    operator.muster.succeed(&["broker", "init"]).await?;
    let name = operator.host("bob");
    let enrolled = operator
        .muster
        .succeed(&["broker", "enroll", "--operator", &name])
        .await?;
    let management = format!(
        "[management]\nurl = \"http://{}\"\n",
        operator.broker.management_address()
    );
    operator.configure(&format!("{}\n{management}", enrolled.stdout))?;

    let check = operator
        .muster
        .succeed(&["broker", "check", "-o", "json"])
        .await?
        .json()?;
    assert_eq!(
        (&check[0]["check"], &check[0]["state"]),
        (&"connection".into(), &"good".into()),
        "{check}"
    );
    assert!(
        check
            .as_array()
            .context("a list")?
            .iter()
            .any(|finding| finding["state"] == "unknown"),
        "{check}"
    );
    let message = operator
        .refused(2, &["broker", "enroll", &operator.host("lb1")])
        .await?;
    assert!(
        message.contains("use an administrator in [management]"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn enrolling_never_takes_over_somebody_elses_user() -> Result<()> {
    let operator = Operator::new().await?;
    operator.muster.succeed(&["broker", "init"]).await?;
    let bob = operator.host("bob");
    operator
        .muster
        .succeed(&["broker", "enroll", "--operator", &bob])
        .await?;
    for arguments in [
        ["broker", "enroll", "admin"].as_slice(),
        &["broker", "enroll", "--operator", "admin"],
        &["broker", "enroll", &bob],
        &["broker", "retire", "admin", "--force"],
        &["broker", "retire", &bob],
    ] {
        let message = operator.refused(2, arguments).await?;
        assert!(
            message.contains("that Muster did not make"),
            "{arguments:?}: {message}"
        );
    }
    operator
        .broker
        .connect()
        .await
        .context("the administrator's password should be as before")?;
    Ok(())
}

#[tokio::test]
async fn a_retired_host_is_cut_off_and_the_ledger_hears_of_it() -> Result<()> {
    let operator = Operator::new().await?;
    operator.muster.succeed(&["broker", "init"]).await?;
    let (_events_connection, _events_channel, mut heard) = events(&operator.broker).await?;
    let host = operator.host("lb1");
    let enrolled = operator
        .muster
        .succeed(&["broker", "enroll", &host])
        .await?;
    let (connection, channel) = channel_of(&operator.broker, &enrolled.stdout).await?;
    let queue = declare_own_queue(&channel, &host).await?;

    let retired = operator
        .muster
        .succeed(&["broker", "retire", &host, "-o", "json"])
        .await?
        .json()?;
    assert_eq!(
        (&retired["user_deleted"], &retired["queue_deleted"]),
        (&true.into(), &true.into()),
        "{retired}"
    );
    eventually("the agent is cut off", async || {
        want(connection.status().connected(), false)
    })
    .await?;
    assert!(
        channel_of(&operator.broker, &enrolled.stdout)
            .await
            .is_err(),
        "it should not come back"
    );
    assert!(
        operator.broker.depth(&queue).await.is_err(),
        "its queue should be gone"
    );

    for topic in ["host.enrolled", "host.retired"] {
        let delivery = futures_util::StreamExt::next(&mut heard)
            .await
            .context("an event")??;
        assert_eq!(delivery.routing_key.as_str(), format!("{topic}.{host}"));
        let event: muster_proto::event::Event =
            muster_proto::envelope::decode("muster.event/1", &delivery.data)?;
        assert_eq!(
            (event.topic.as_str(), event.host.as_str()),
            (topic, host.as_str())
        );
        assert_eq!(
            delivery
                .properties
                .user_id()
                .as_ref()
                .map(|user| user.as_str()),
            Some("admin")
        );
    }
    let message = operator.refused(3, &["broker", "retire", &host]).await?;
    assert!(message.contains("knows no host"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_host_for_which_jobs_wait_is_retired_only_by_force() -> Result<()> {
    let operator = Operator::new().await?;
    operator.muster.succeed(&["broker", "init"]).await?;
    let host = operator.host("lb1");
    operator
        .muster
        .succeed(&["broker", "enroll", &host])
        .await?;
    let (_connection, channel) = operator.broker.channel().await?;
    let queue = declare_own_queue(&channel, &host).await?;
    publish(&channel, "", &queue).await?;

    // The management API counts with a delay, and says 0 until then: the broker itself refuses to delete the queue.
    let message = operator.refused(1, &["broker", "retire", &host]).await?;
    assert!(
        message.contains(&format!(
            "for {host}: cancel them, or lose them with --force"
        )),
        "{message}"
    );
    assert_eq!(
        operator.broker.depth(&queue).await?,
        1,
        "the job should still wait"
    );

    operator
        .muster
        .succeed(&["broker", "retire", &host, "--force"])
        .await?;
    assert!(
        operator.broker.depth(&queue).await.is_err(),
        "its queue should be gone"
    );
    Ok(())
}
