//! A ready-made pack at work: keepalived's log, as a real one was, and a real server that flaps.

use super::*;

/// The lines of a real server's state, as keepalived writes them.
fn server(state: &str, second: usize) -> String {
    let (verb, to) = if state == "down" {
        ("Removing", "from")
    } else {
        ("Adding", "to")
    };
    format!(
        "Nov 22 14:31:{:02} lb1 Keepalived_healthcheckers[818]: {verb} service [10.8.1.2]:tcp:8080 {to} VS [192.0.2.99]:tcp:80\n",
        second % 60
    )
}

const INVENTORY: &str = "cluster_id: c7\narea: gz\nserver:\n- {vip_instance: shop, descript: the shop, owners: ann, mailto: [shop@example.com], vip_group: [{vip: 192.0.2.99, port: 80}]}\n";

#[tokio::test]
async fn a_flapping_real_server_is_told_once_per_change_over_restarts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("messages");
    let info = folder.path().join("info.yaml");
    fs::write(&info, INVENTORY)?;
    fs::write(&log, "")?;
    let options = FleetOptions {
        agents: 1,
        tables: format!(
            "[inventory]\nfile = {info:?}\n[[tail]]\nname = \"keepalived\"\npaths = [{log:?}]\nstart = \"beginning\"\npacks = [\"keepalived\"]\n"
        ),
        ..FleetOptions::default()
    };
    let broker = Broker::shared().await?;
    let mut fleet = Fleet::start(&broker, &options).await?;
    let write = |text: &str| -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(&log)?;
        Ok(file.write_all(text.as_bytes())?)
    };

    // Up is no news before a down; then every change is, and each once, whatever is repeated.
    let mut wanted: Vec<&str> = Vec::new();
    write(&server("up", 0))?;
    for round in 0..20 {
        for state in ["down", "up"] {
            write(&server(state, round).repeat(1 + round % 3))?;
            wanted.push(state);
        }
    }
    told(&fleet, &wanted).await?;

    // What is known outlives the agent: stopped, and killed.
    for kill in [false, true] {
        write(&server("down", 30))?;
        wanted.push("down");
        told(&fleet, &wanted).await?;
        let agent = fleet.agents.first_mut().context("an agent")?;
        if kill {
            agent.kill().await?;
        } else {
            agent.stop().await?;
        }
        write(&server("down", 31))?;
        write(&server("up", 32))?;
        wanted.push("up");
        agent.start()?;
        told(&fleet, &wanted).await?;
    }

    let events = backend(&fleet).await?;
    let last = events.last().context("an event")?;
    let field = |name: &str| {
        last.pointer(&format!("/fields/{name}"))
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(last["key"], "[192.0.2.99]:tcp:80 [10.8.1.2]:tcp:8080");
    assert_eq!(
        (&last["before"], &last["after"]),
        (&Value::from("down"), &Value::from("up"))
    );
    assert_eq!(
        (field("cluster_id"), field("vip_instance")),
        ("c7".into(), "shop".into())
    );
    assert_eq!(
        (field("virtual_server"), field("source")),
        ("[192.0.2.99]:tcp:80".into(), "log".into())
    );
    Ok(())
}

/// The events of the real server, in the order in which the agent told them.
async fn backend(fleet: &Fleet) -> Result<Vec<Value>> {
    let watch = [
        "watch",
        "keepalived.backend.#",
        "--since",
        "1h",
        "--no-follow",
        "-o",
        "ndjson",
    ];
    let mut events = fleet.muster.succeed(&watch).await?.json_lines()?;
    events.sort_by_key(|event| event["seq"].as_u64());
    Ok(events)
}

/// Waits until the changes are told, and wants them to be these.
async fn told(fleet: &Fleet, wanted: &[&str]) -> Result<()> {
    eventually_within("the changes", LIMIT, async || {
        let events = backend(fleet).await.map_err(|error| format!("{error:#}"))?;
        let states: Vec<&str> = events
            .iter()
            .filter_map(|event| event["after"].as_str())
            .collect();
        if states.len() < wanted.len() {
            return Err(format!("{} of {}", states.len(), wanted.len()));
        }
        assert_eq!(states, wanted);
        Ok(())
    })
    .await
}
