//! `muster` as an operator meets it while setting up: the broker, hosts, operators, keys, and everything that can be
//! wrong with them. Each mistake gives one message that says what to do, and the right exit code.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that finds nothing there fails, which is what it is for"
)]

mod enrolment;
mod mistakes;

use std::fs;

use anyhow::{Context, Result, bail};
use muster_harness::{Broker, Muster, Output};
use tempfile::TempDir;

/// An administrator of the broker, with a home of its own.
pub(super) struct Operator {
    pub(super) broker: Broker,
    pub(super) muster: Muster,
    _home: TempDir,
}

impl Operator {
    pub(super) async fn new() -> Result<Self> {
        let broker = Broker::shared().await?;
        let home = tempfile::tempdir()?;
        let muster = Muster::at(home.path())?;
        let operator = Self {
            broker,
            muster,
            _home: home,
        };
        operator.configure(&operator.config())?;
        Ok(operator)
    }

    /// A config that works.
    pub(super) fn config(&self) -> String {
        let broker = &self.broker;
        format!(
            "issuer = \"ann\"\n\n[broker]\nurl = \"amqp://{}/{}\"\nuser = \"admin\"\npassword = \"admin\"\n\n\
             [management]\nurl = \"http://{}\"\n",
            broker.amqp(),
            broker.vhost(),
            broker.management_address()
        )
    }

    pub(super) fn configure(&self, config: &str) -> Result<()> {
        let directory = self.muster.home().join(".config/muster");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("config.toml"), config).context("write the config of muster")
    }

    /// A host's name that no other test on the broker has.
    pub(super) fn host(&self, name: &str) -> String {
        format!("{name}-{}", self.broker.tag())
    }

    /// Runs a command that must end with `code`, one message and nothing on stdout; the message.
    pub(super) async fn refused(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let output = self.muster.run(arguments).await?;
        let one_line = output.stderr.lines().count() == 1 && output.stderr.starts_with("muster: ");
        if output.code != code || !one_line || !output.stdout.is_empty() {
            bail!("muster {arguments:?} should end with {code} and one message: {output:?}");
        }
        Ok(output.stderr)
    }
}

/// What a command did, as `(name, done)`.
pub(super) fn done(output: &Output) -> Result<Vec<(String, String)>> {
    let text = |value: &serde_json::Value, key: &str| {
        value[key]
            .as_str()
            .map(ToOwned::to_owned)
            .unwrap_or_default()
    };
    let listed = output.json()?;
    let items = listed.as_array().context("a list")?;
    Ok(items
        .iter()
        .map(|item| (text(item, "name"), text(item, "done")))
        .collect())
}

#[tokio::test]
async fn init_makes_all_once_and_finds_it_unchanged_after() -> Result<()> {
    let operator = Operator::new().await?;
    let first = operator
        .muster
        .succeed(&["broker", "init", "-o", "json"])
        .await?;
    let made = done(&first)?;
    // The vhost is the test's own and was there.
    assert!(
        made.iter().skip(1).all(|(_, done)| done == "created"),
        "{made:?}"
    );
    for name in [
        "muster.jobs",
        "muster.ledger",
        "muster.dead # -> muster.ledger",
        "muster-agents",
    ] {
        assert!(
            made.iter().any(|(made, _)| made == name),
            "{name} in {made:?}"
        );
    }
    let second = operator
        .muster
        .succeed(&["broker", "init", "-o", "json"])
        .await?;
    assert!(
        done(&second)?.iter().all(|(_, done)| done == "unchanged"),
        "{second:?}"
    );
    assert!(second.stderr.starts_with("unchanged: "), "{second:?}");

    let queues = operator
        .broker
        .management()
        .queues(operator.broker.vhost())
        .await?;
    let mut streams: Vec<_> = queues
        .iter()
        .filter(|queue| queue.kind == "stream")
        .map(|queue| queue.name.as_str())
        .collect();
    streams.sort_unstable();
    assert_eq!(
        streams,
        ["muster.history", "muster.ledger", "muster.presence"]
    );
    Ok(())
}

#[tokio::test]
async fn init_makes_the_vhost_and_puts_right_what_was_taken_away() -> Result<()> {
    let operator = Operator::new().await?;
    let vhost = format!("fleet/{}", operator.broker.tag());
    let config = operator
        .config()
        .replace(operator.broker.vhost(), &vhost.replace('/', "%2F"));
    operator.configure(&config)?;
    let management = operator.broker.management();
    let outcome = async {
        let first = operator
            .muster
            .succeed(&["broker", "init", "-o", "json"])
            .await?;
        assert_eq!(
            done(&first)?.first(),
            Some(&(vhost.clone(), "created".to_owned()))
        );
        management.delete_policy(&vhost, "muster-agents").await?;
        management
            .put_policy(
                &vhost,
                "muster-ledger",
                "^x$",
                serde_json::json!({ "max-age": "1h" }),
            )
            .await?;

        let check = operator.muster.run(&["broker", "check"]).await?;
        assert_eq!(check.code, 1, "{check:?}");
        assert!(
            check
                .stdout
                .contains("policy muster-ledger differs, policy muster-agents is missing"),
            "{check:?}"
        );

        let second = operator
            .muster
            .succeed(&["broker", "init", "-o", "json"])
            .await?;
        let changed: Vec<_> = done(&second)?
            .into_iter()
            .filter(|(_, done)| done != "unchanged")
            .collect();
        let want = [("muster-ledger", "updated"), ("muster-agents", "created")];
        assert_eq!(
            changed,
            want.map(|(name, done)| (name.to_owned(), done.to_owned()))
        );
        operator.muster.succeed(&["broker", "check"]).await
    };
    let outcome = outcome.await;
    management.delete_vhost(&vhost).await?;
    let check = outcome?;
    assert!(!check.stdout.contains(" bad "), "{check:?}");
    Ok(())
}

#[tokio::test]
async fn init_names_what_is_in_its_way_and_changes_nothing() -> Result<()> {
    let operator = Operator::new().await?;
    let (management, vhost) = (operator.broker.management(), operator.broker.vhost());
    let exchange = format!("exchanges/{vhost}/muster.jobs");
    management
        .put(
            &exchange,
            &serde_json::json!({ "type": "fanout", "durable": true }),
        )
        .await?;

    let message = operator.refused(2, &["broker", "init"]).await?;
    assert!(
        message.contains(
            "muster.jobs is a durable fanout exchange there, and a durable topic exchange is needed"
        ),
        "{message}"
    );
    assert_eq!(
        management.queues(vhost).await?.len(),
        0,
        "nothing else was made"
    );
    Ok(())
}

#[tokio::test]
async fn init_print_needs_no_broker() -> Result<()> {
    let operator = Operator::new().await?;
    operator.configure("[broker]\nurl = \"amqp://127.0.0.1:1/some%2Fvhost\"\n")?;
    let printed = operator
        .muster
        .succeed(&["broker", "init", "--print"])
        .await?
        .json()?;
    assert_eq!(printed["vhosts"][0]["name"], "some/vhost");
    assert_eq!(printed["exchanges"][0]["vhost"], "some/vhost");
    Ok(())
}
