//! A real keepalived on a kernel with IPVS: the actions on its configuration here, what the agent notices below.

mod watched;

use std::fs;

use anyhow::{Context, Result};
use muster_harness::{Broker, Fleet, FleetOptions, Guest, eventually, want};
use serde_json::Value;

const CONFIG: &str = "
global_defs {
    router_id TEST
}
vrrp_instance VI_1 {
    state BACKUP
    interface vl0
    virtual_router_id 51
    priority 150
    advert_int 1
    virtual_ipaddress { 192.0.2.99/32 dev dummy0 }
}
virtual_server 192.0.2.99 80 {
    delay_loop 1
    lvs_sched wrr
    lvs_method NAT
    protocol TCP
    real_server 10.8.1.2 8080 {
        weight 10
        TCP_CHECK {
            connect_timeout 1
        }
    }
}
";

/// A cable for VRRP, and somebody at its other end.
const NETWORK: &str = "
ip link set dummy0 up
ip netns add other
ip link add vl0 type veth peer name eth0 netns other
ip -n other link set eth0 up
ip link set vl0 up
ip addr add 10.7.0.1/24 dev vl0
";

/// What `muster run` said of the host.
async fn run(fleet: &Fleet, action: &str, more: &[&str]) -> Result<(i32, Value, String)> {
    let arguments = ["run", "-o", "json", "-t", "*", action];
    let output = fleet.muster.run(&[&arguments, more].concat()).await?;
    let answer = output.json()?.pointer("/hosts/0").cloned();
    let answer = answer.with_context(|| format!("no host in {output:?}"))?;
    let message = answer.pointer("/reason/message").and_then(Value::as_str);
    let message = message.unwrap_or_default().to_owned();
    Ok((output.code, answer["data"].clone(), message))
}

#[tokio::test]
async fn a_configuration_is_tested_refused_and_taken_in() -> Result<()> {
    let guest = Guest::start().await?;
    let broker = Broker::shared().await?;
    let proxy = guest.reach(broker.amqp())?;
    let options = FleetOptions {
        agents: 1,
        agents_url: Some(format!("amqp://{}/{}", proxy.address(), broker.vhost())),
        ..FleetOptions::default()
    };
    let fleet = Fleet::enroll(&broker, &options).await?;
    guest.share(fleet.directory()).await?;
    guest.succeed(NETWORK).await?;
    let path = guest.directory().join("keepalived.conf");
    let configure = |text: &str| fs::write(&path, text).context("write keepalived.conf");
    configure(CONFIG)?;
    let agent = fleet.agents.first().context("no agent")?;
    let _agent = guest.spawn_command(&agent.command(&["run"])?)?;
    fleet.await_all().await?;

    let (code, _, message) = run(&fleet, "keepalived.reload", &["force=true"]).await?;
    assert_eq!(code, 4);
    assert!(message.contains("does not run"), "{message}");
    let keepalived = guest.spawn(&format!("keepalived -n -l -D -f {}", path.display()))?;
    eventually("it passes its test", async || {
        let ran = run(&fleet, "keepalived.check", &[]).await;
        let (code, data, message) = ran.map_err(|error| format!("{error:#}"))?;
        let file = data["config_file"].as_str().map(str::to_owned);
        want(
            (code, message, file),
            (0, String::new(), Some(path.display().to_string())),
        )
    })
    .await?;

    // One with a word that it does not know is refused, and nothing happens.
    configure(&CONFIG.replace("priority 150", "prioritee 150"))?;
    let (code, data, message) = run(&fleet, "keepalived.reload", &[]).await?;
    assert_eq!(code, 4, "{data}");
    assert!(data["errors"].to_string().contains("prioritee"), "{data}");
    assert!(message.starts_with("not reloaded: "), "{message}");
    let (code, _, message) = run(&fleet, "keepalived.check", &[]).await?;
    assert_eq!(code, 4, "{message}");

    // A good one is taken in, by the processes that were there.
    configure(
        &CONFIG
            .replace("weight 10", "weight 7")
            .replace("priority 150", "priority 120"),
    )?;
    let (code, data, _) = run(&fleet, "keepalived.reload", &["--dry-run"]).await?;
    assert_eq!((code, data["changes"].is_null()), (0, true), "{data}");
    let (code, data, message) = run(&fleet, "keepalived.reload", &[]).await?;
    assert_eq!(code, 0, "{message}: {data}");
    let changes = data["changes"].to_string();
    assert!(changes.contains("is 7 (was 10)"), "{data}");
    assert!(changes.contains("is 120 (was 150)"), "{data}");
    assert_eq!(
        data["processes"].as_array().map(Vec::len),
        Some(3),
        "{data}"
    );

    guest.end(keepalived, "TERM").await?;
    Ok(())
}
