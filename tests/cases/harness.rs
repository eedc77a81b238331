//! The harness itself, on real servers: what a test relies on when it breaks things.

mod proxy;
mod systemd;
mod uml;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use muster_harness::{Broker, NodeOptions, Process, eventually, want};

/// Far more than a round trip on loopback; a connection that gives nothing for so long gives nothing.
const SILENCE: Duration = Duration::from_millis(500);

async fn declare(channel: &Channel, queue: &str) -> Result<()> {
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), durable, FieldTable::default())
        .await?;
    Ok(())
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> Result<()> {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel.basic_publish(
        "".into(),
        queue.into(),
        BasicPublishOptions::default(),
        body,
        persistent,
    );
    let confirmation = confirm.await?.await?;
    if !confirmation.is_ack() {
        bail!("publishing to {queue} was answered with {confirmation:?}");
    }
    Ok(())
}

#[tokio::test]
async fn shared_broker_gives_each_test_a_vhost() -> Result<()> {
    let one = Broker::shared().await?;
    let other = Broker::shared().await?;
    let (_one_connection, one_channel) = one.channel().await?;
    let (_other_connection, other_channel) = other.channel().await?;
    declare(&one_channel, "q").await?;
    declare(&other_channel, "q").await?;
    publish(&one_channel, "q", b"for one").await?;

    assert_eq!((one.depth("q").await?, other.depth("q").await?), (1, 0));
    Ok(())
}

#[tokio::test]
async fn user_without_permission_is_refused() -> Result<()> {
    let broker = Broker::shared().await?;
    let user = format!("stranger-{}", broker.tag());
    broker.management().put_user(&user, "p:w/d", "").await?;
    let refused = muster_harness::broker::connect(&broker.uri(&user, "p:w/d")).await;
    assert!(
        refused.is_err(),
        "connected without permissions on the vhost"
    );

    broker.put_user(&user, "p:w/d").await?;
    muster_harness::broker::connect(&broker.uri(&user, "p:w/d")).await?;
    Ok(())
}

#[tokio::test]
async fn private_broker_keeps_ports_and_data_over_stop_and_kill() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let address = broker.amqp();
    let (connection, channel) = broker.channel().await?;
    declare(&channel, "kept").await?;
    publish(&channel, "kept", b"first").await?;

    broker.stop().await?;
    assert!(
        broker.connect().await.is_err(),
        "something answers on the port of a stopped broker"
    );
    broker.start().await?;
    assert_eq!(broker.amqp(), address);
    assert_eq!(broker.depth("kept").await?, 1, "after a graceful stop");
    drop(connection);

    let (_connection, channel) = broker.channel().await?;
    publish(&channel, "kept", b"second").await?;
    broker.kill().await?;
    broker.start().await?;
    assert_eq!(broker.depth("kept").await?, 2, "after kill -9");
    Ok(())
}

#[tokio::test]
async fn private_broker_leaves_nothing_behind() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let directory = broker.directory()?.to_owned();
    assert!(
        !processes_with_home(&directory.to_string_lossy()).is_empty(),
        "no process of a running broker found"
    );
    broker.pause().await?;
    drop(broker);
    assert_eq!(
        processes_with_home(&directory.to_string_lossy()),
        Vec::<String>::new()
    );
    assert!(
        !directory.exists(),
        "{} is still there",
        directory.display()
    );
    Ok(())
}

/// Command lines of processes with this HOME: how a broker's are told from others', without the harness's mark.
fn processes_with_home(home: &str) -> Vec<String> {
    let wanted = format!("HOME={home}");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == wanted.as_bytes())
        })
        .map(|process| std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default())
        .collect()
}

#[tokio::test]
async fn paused_broker_is_silent_and_comes_back() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let (_connection, channel) = broker.channel().await?;
    declare(&channel, "q").await?;
    broker.pause().await?;
    let asked = declare(&channel, "q");
    tokio::pin!(asked);
    assert!(
        tokio::time::timeout(SILENCE, &mut asked).await.is_err(),
        "a stopped process answered"
    );
    broker.resume()?;
    asked.await
}

#[tokio::test]
async fn memory_alarm_blocks_publishers_until_cleared() -> Result<()> {
    let mut broker = Broker::private(NodeOptions::default()).await?;
    let (connection, channel) = broker.channel().await?;
    declare(&channel, "q").await?;
    broker.block_publishers(true).await?;
    // The broker blocks a connection at its next publish.
    let publishing = publish(&channel, "q", b"waits");
    tokio::pin!(publishing);
    let blocked = eventually("the connection is blocked", async || {
        let listed = broker
            .management()
            .connections(broker.vhost())
            .await
            .map_err(|error| error.to_string())?;
        want(
            listed
                .iter()
                .map(|one| one.state.as_str())
                .collect::<Vec<_>>(),
            vec!["blocked"],
        )
    });
    tokio::select! {
        blocked = blocked => blocked?,
        published = &mut publishing => bail!("published through a memory alarm: {published:?}"),
    }
    broker.block_publishers(false).await?;
    publishing.await?;
    assert_eq!(broker.depth("q").await?, 1);
    drop(connection);
    Ok(())
}

#[tokio::test]
async fn policy_bounds_a_queue() -> Result<()> {
    let broker = Broker::shared().await?;
    let bound = serde_json::json!({ "max-length": 2, "overflow": "drop-head" });
    broker
        .management()
        .put_policy(broker.vhost(), "bound", "^q$", bound)
        .await?;
    let (_connection, channel) = broker.channel().await?;
    declare(&channel, "q").await?;
    for body in [b"1", b"2", b"3"] {
        publish(&channel, "q", body).await?;
    }
    assert_eq!(broker.depth("q").await?, 2);
    eventually("the list shows two messages", async || {
        let queues = broker
            .management()
            .queues(broker.vhost())
            .await
            .map_err(|error| error.to_string())?;
        want(
            queues
                .iter()
                .map(|queue| (queue.name.as_str(), queue.messages))
                .collect(),
            vec![("q", 2)],
        )
    })
    .await
}

#[tokio::test]
async fn connections_closed_by_the_operator_end() -> Result<()> {
    let broker = Broker::shared().await?;
    let connection = broker.connect().await?;
    eventually("the connection is listed", async || {
        let listed = broker
            .management()
            .connections(broker.vhost())
            .await
            .map_err(|error| error.to_string())?;
        want(listed.len(), 1)
    })
    .await?;
    assert_eq!(broker.close_connections().await?, 1);
    eventually("the client knows", async || {
        want(connection.status().connected(), false)
    })
    .await
}

#[tokio::test]
async fn process_is_paused_killed_and_swept() -> Result<()> {
    let logs = tempfile::tempdir()?;
    let mut command = Command::new("bash");
    // A child in a session of its own is out of reach of a signal to the group. It is the one that tells that it is
    // there: the shell would tell it before the child has left the group.
    command.args([
        "-c",
        "setsid sh -c 'echo started >&2; exec sleep 1000' & wait",
    ]);
    let mut process = Process::spawn("shell", &command, logs.path())?;
    process.await_stderr("started").await?;
    assert!(
        process.memory()?.rss_kib > 500 && process.memory()?.pss_kib > 50,
        "{:?}",
        process.memory()
    );
    process.cpu()?;
    process.pause().await?;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
    assert!(stat.contains(") T "), "{stat}");
    process.resume()?;
    process.kill().await?;
    let left = process.descendants();
    assert_eq!(
        left.len(),
        1,
        "the child in its own session should outlive kill -9 of the group"
    );
    drop(process);
    for pid in left {
        // A killed process takes a moment to end, and stays listed until its new parent asks for its end.
        eventually("it is gone", async || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
                Ok(())
            } else {
                Err(stat)
            }
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn process_that_does_not_end_is_an_error() -> Result<()> {
    let logs = tempfile::tempdir()?;
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' TERM; echo deaf >&2; while :; do sleep 1; done",
    ]);
    let mut process = Process::spawn("deaf", &command, logs.path())?;
    process.await_stderr("deaf").await?;
    let error = process.terminate(SILENCE).await.err().context("it ended")?;
    assert!(
        format!("{error:#}").contains("stderr ends: deaf"),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test]
async fn eventually_tells_the_last_status() -> Result<()> {
    let mut tries = 0;
    let outcome =
        muster_harness::eventually_within("a miracle", SILENCE, async || -> Result<(), String> {
            tries += 1;
            Err(format!("try {tries}"))
        });
    let error = outcome.await.err().context("it happened")?.to_string();
    assert!(
        error.contains("a miracle") && error.ends_with(&format!("try {tries}")),
        "{error}"
    );
    Ok(())
}
