//! Who answers what: pings, every state that a host can be in, and the exit code that follows.

use std::fs;

use anyhow::Result;
use muster_harness::{Broker, Fleet, FleetOptions};
use muster_proto::signing::JobSigner;

use super::*;

#[tokio::test]
async fn three_agents_answer_a_ping_and_one_that_stands_still_is_named() -> Result<()> {
    let (_broker, mut fleet) = fleet(3).await?;
    let table = fleet.muster.succeed(&["ping"]).await?.stdout;
    assert!(table.contains("3 hosts targeted: 3 succeeded"), "{table}");
    let pinged = fleet
        .muster
        .succeed(&["ping", "-o", "json"])
        .await?
        .json()?;
    assert_eq!(pinged["targeted"], 3, "{pinged}");
    for agent in &fleet.agents {
        let host = host(&pinged, agent);
        assert_eq!(host["state"], "succeeded", "{pinged}");
        let round_trip_ms = host["round_trip_ms"].as_f64().unwrap_or(-1.0);
        assert!(round_trip_ms > 0.0 && round_trip_ms < 60_000.0, "{pinged}");
    }

    fleet.agents[1].process()?.pause().await?;
    let silent = fleet.muster.run(&["ping", "-o", "json"]).await?;
    assert_eq!(silent.code, 5, "{silent:?}");
    let pinged = silent.json()?;
    assert_eq!(
        pinged["rounds"][0]["states"],
        serde_json::json!({ "succeeded": 2, "unknown": 1 })
    );
    assert_eq!(
        host(&pinged, &fleet.agents[1])["state"],
        "unknown",
        "{pinged}"
    );
    let job = pinged["rounds"][0]["job"].as_str().unwrap_or_default();
    let report = show(&fleet.muster, job).await?;
    assert_states(&report, &[("succeeded", 2), ("unknown", 1)]);
    let table = fleet.muster.run(&["ping", "--wait", "1s"]).await?;
    let mut lines = table.stdout.lines();
    let told = lines.find(|line| line.starts_with(&fleet.agents[1].host));
    assert!(
        told.is_some_and(|line| line.ends_with("no answer")),
        "{table:?}"
    );

    fleet.agents[1].process()?.resume()?;
    let report = await_states(&fleet.muster, job, &[("succeeded", 3)]).await?;
    for (number, agent) in fleet.agents.iter().enumerate() {
        assert_eq!(host(&report, agent)["late"], number == 1, "{report}");
    }
    let text = fleet.muster.succeed(&["job", "show", job]).await?.stdout;
    assert!(
        text.contains("3 hosts targeted: 3 succeeded (1 late)"),
        "{text}"
    );
    Ok(())
}

/// The key of a program that may do little.
fn limited() -> JobSigner {
    JobSigner::from_seed(&[7; 32])
}

/// An operator's config that signs with the limited key.
fn with_limited_key(fleet: &Fleet) -> Result<String> {
    let folder = fleet.muster.home().join(".config/muster");
    fs::write(folder.join("limited.pem"), limited().to_pem()?)?;
    let config = fs::read_to_string(folder.join("config.toml"))?;
    let key = format!(
        "key_file = {:?}\n",
        folder.join("limited.pem").display().to_string()
    );
    let path = folder.join("limited.toml");
    fs::write(&path, key + &config)?;
    Ok(path.display().to_string())
}

#[tokio::test]
async fn every_end_has_its_state_its_reason_and_its_exit_code() -> Result<()> {
    let broker = Broker::shared().await?;
    let operator = format!("ops-{}", broker.tag());
    let key = format!(
        "[[keys]]\nid = \"limited\"\npublic_key = \"{}\"\n[[policy]]\nkey = \"limited\"\nactions = [\"ping\", \"script.run\"]\n\
         args = {{ name = \"check\" }}\n[services]\nunits = [\"allowed.service\"]\n",
        limited().public()
    );
    let options = FleetOptions {
        tables: key,
        ..options(3)
    };
    let mut fleet = Fleet::enroll(&broker, &options).await?;
    // The last one does not have the script that the others have.
    let last = &fleet.agents[2];
    let config = fs::read_to_string(&last.config)?;
    fs::write(
        &last.config,
        config.replace("[scripts.check]", "[scripts.other]"),
    )?;
    for agent in &mut fleet.agents {
        agent.start()?;
    }
    fleet.await_all().await?;
    let [first, second, third] = fleet.agents.as_slice() else {
        anyhow::bail!("three agents")
    };
    fs::write(second.files.join("bad"), "")?;
    let muster = &fleet.muster;

    let good = ask(
        muster,
        0,
        &["run", "script.run", "name=check", "-t", &first.host],
    )
    .await?;
    assert_states(&good, &[("succeeded", 1)]);
    assert_eq!(good["issuer"], operator.as_str());
    assert_eq!(host(&good, first)["data"]["exit_code"], 0);

    let bad = ask(
        muster,
        4,
        &["run", "script.run", "name=check", "-t", "number in (0, 1)"],
    )
    .await?;
    assert_states(&bad, &[("succeeded", 1), ("failed", 1)]);
    assert_eq!(verdict(&bad, second), ("failed", "exit-status"));
    assert_eq!(host(&bad, second)["data"]["exit_code"], 7);
    assert_eq!(host(&bad, second)["data"]["stderr"], "it is bad\n");

    let mixed = ask(muster, 6, &["run", "script.run", "name=check", "-t", "*"]).await?;
    assert_states(&mixed, &[("succeeded", 1), ("failed", 1), ("rejected", 1)]);
    assert_eq!(verdict(&mixed, third), ("rejected", "bad-argument"));

    let stranger = format!("{}, nosuch-{}", first.host, broker.tag());
    let unroutable = ask(
        muster,
        5,
        &["run", "script.run", "name=check", "-t", &stranger],
    )
    .await?;
    assert_states(&unroutable, &[("succeeded", 1), ("unroutable", 1)]);
    let worse = format!("{}, {stranger}", second.host);
    let unroutable = ask(
        muster,
        5,
        &["run", "script.run", "name=check", "-t", &worse],
    )
    .await?;
    assert_states(
        &unroutable,
        &[("succeeded", 1), ("failed", 1), ("unroutable", 1)],
    );
    let worst = format!("{}, {worse}", third.host);
    let refused = ask(
        muster,
        6,
        &["run", "script.run", "name=check", "-t", &worst],
    )
    .await?;
    assert_states(
        &refused,
        &[
            ("succeeded", 1),
            ("failed", 1),
            ("unroutable", 1),
            ("rejected", 1),
        ],
    );
    assert_eq!(
        show(muster, &id_of(&refused)?).await?["states"],
        refused["states"]
    );

    let runs: Vec<usize> = fleet
        .agents
        .iter()
        .map(|agent| agent.lines("ran").len())
        .collect();
    assert_eq!(runs, [6, 4, 0]);
    refusals_by_rule(&fleet).await?;
    let runs: Vec<usize> = fleet
        .agents
        .iter()
        .map(|agent| agent.lines("ran").len())
        .collect();
    assert_eq!(runs, [7, 4, 0]);
    Ok(())
}

/// What the hosts' configs do not allow; and that nobody was asked.
async fn refusals_by_rule(fleet: &Fleet) -> Result<()> {
    let (muster, first) = (&fleet.muster, &fleet.agents[0]);
    let target = ["-t", first.host.as_str()];
    let config = with_limited_key(fleet)?;
    let as_limited = |arguments: &[&'static str]| {
        [
            &["--config", config.as_str(), "run"],
            arguments,
            &target[..],
        ]
        .concat()
    };
    let allowed = ask(muster, 0, &as_limited(&["script.run", "name=check"])).await?;
    assert_states(&allowed, &[("succeeded", 1)]);
    for arguments in [&["script.run", "name=mark"][..], &["facts"]] {
        let denied = ask(muster, 6, &as_limited(arguments)).await?;
        assert_eq!(
            verdict(&denied, first),
            ("rejected", "policy-denied"),
            "{denied}"
        );
    }
    for arguments in [
        &["script.run", "name=nosuch"][..],
        &["service.restart", "unit=other"],
    ] {
        let denied = ask(muster, 6, &[&["run"], arguments, &target[..]].concat()).await?;
        assert_eq!(verdict(&denied, first).0, "rejected", "{denied}");
    }
    let nobody = muster
        .run(&["run", "script.run", "name=mark", "-t", "number=99"])
        .await?;
    assert_eq!((nobody.code, nobody.stdout.as_str()), (3, ""), "{nobody:?}");
    assert!(
        nobody
            .stderr
            .contains("no host matches number=99: 3 hosts known"),
        "{nobody:?}"
    );
    Ok(())
}
