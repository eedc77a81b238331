//! keepalived with real health checks on a real IPVS: what it does is in the table, and one event each on RabbitMQ.

use anyhow::{Context, Result};
use muster_harness::eventually;
use serde_json::Value;

use crate::lvs::site::{Reader, Site};

/// One virtual server with a check over HTTP and one over TCP, a sorry server, and one by mark; one VRRP instance.
const CONFIG: &str = r#"
global_defs {
    router_id lb1
    enable_script_security
    script_user root
    vrrp_notify_fifo /run/vrrp.fifo
    lvs_notify_fifo /run/lvs.fifo
    vrrp_garp_master_delay 1
    checker_log_all_failures true
}
vrrp_instance VI_1 {
    state BACKUP
    interface to-b3
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
    alpha
    omega
    quorum 1
    sorry_server 10.8.3.2 8080
    real_server 10.8.1.2 8080 {
        weight 10
        HTTP_GET {
            url {
                path /index.html
                status_code 200
            }
            connect_timeout 2
            retry 1
            delay_before_retry 1
        }
    }
    real_server 10.8.2.2 8080 {
        weight 5
        TCP_CHECK {
            connect_timeout 2
            retry 1
            delay_before_retry 1
        }
    }
}
virtual_server fwmark 9 {
    delay_loop 1
    lvs_sched rr
    lvs_method DR
    protocol TCP
    real_server 10.8.2.2 0 {
        weight 1
        MISC_CHECK {
            misc_path "/usr/bin/test -e /run/misc_ok"
            misc_timeout 2
        }
    }
}
"#;

/// Its peer, in the namespace of `b3`, of a higher priority.
const PEER: &str = r"
global_defs {
    router_id lb2
}
vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 200
    advert_int 1
    virtual_ipaddress { 192.0.2.99/32 dev eth0 }
}
";

const TABLES: &str = r#"
[collect.lvs]
interval = "1s"
[collect.keepalived]
interval = "1s"
pid_file = "/run/k1.pid"
vrrp_fifo = "/run/vrrp.fifo"
lvs_fifo = "/run/lvs.fifo"
"#;

const WEB: &str = "[192.0.2.99]:tcp:80";
const ONE: &str = "[192.0.2.99]:tcp:80 [10.8.1.2]:tcp:8080";
const TWO: &str = "[192.0.2.99]:tcp:80 [10.8.2.2]:tcp:8080";

/// `up b1`, `down b1`: a backend's server, known by its process id.
const SWITCH: &str = r#"
up() {
  ip netns exec $1 busybox httpd -f -p 8080 -h /run/www >/dev/null 2>&1 </dev/null &
  echo $! >/run/$1.pid
}
down() {
  kill -KILL $(cat /run/$1.pid)
}
"#;

/// A site whose first director runs keepalived, with both backends up and the agent watching from before.
async fn start() -> Result<Site> {
    let mut site = Site::start(1, TABLES).await?;
    let guest = site.guest();
    guest
        .succeed(&format!(
            "cat >/run/switch <<'SWITCH'{SWITCH}SWITCH\n\
             cat >/run/k1.conf <<'CONFIG'{CONFIG}CONFIG\n\
             cat >/run/k2.conf <<'CONFIG'{PEER}CONFIG\n\
             chmod 644 /run/k1.conf /run/k2.conf\n\
             ip address del 192.0.2.99/32 dev dummy0\n\
             touch /run/misc_ok\n\
             . /run/switch\n\
             up b1\nup b2\nup b3"
        ))
        .await?;
    site.start_agents().await?;
    let guest = site.guest();
    guest
        .succeed("keepalived -D -f /run/k1.conf -p /run/k1.pid -r /run/k1v.pid -c /run/k1c.pid")
        .await?;
    Ok(site)
}

/// A part of the agent's snapshot of keepalived, as an operator gets it.
async fn daemon(site: &Site) -> Result<Value> {
    let snapshot = site.collect("keepalived").await?;
    let daemon = snapshot.pointer("/daemons/0").cloned();
    daemon.with_context(|| format!("no keepalived in {snapshot}"))
}

#[tokio::test]
async fn real_checks_kill_and_revive_a_backend_and_each_change_is_one_event() -> Result<()> {
    let site = start().await?;
    let topics = [
        "keepalived.backend.#",
        "keepalived.quorum.#",
        "keepalived.service.#",
        "keepalived.sorry.#",
        "lvs.backend.#",
        "lvs.service.#",
    ];
    let mut reader = Reader::new(&site, &topics, 0);
    eventually("both real servers in the table", async || {
        let table = site.guest().succeed("ipvsadm -Sn").await;
        let table = table.map_err(|error| format!("{error:#}"))?;
        let wanted = ["-r 10.8.1.2:8080 -m -w 10", "-r 10.8.2.2:8080 -m -w 5"];
        if wanted.iter().all(|line| table.contains(line)) {
            return Ok(());
        }
        Err(table)
    })
    .await?;
    reader.catch_up().await?;

    // The snapshot: what keepalived thinks, beside what the kernel has.
    let seen = daemon(&site).await?;
    assert_eq!(seen["running"], true, "{seen:#}");
    let servers = seen["virtual_servers"].as_array().context("servers")?;
    assert_eq!(servers.len(), 2, "{seen:#}");

    let (down, up) = (
        format!("keepalived.backend.down {ONE}"),
        format!("keepalived.backend.up {ONE}"),
    );
    let (gone, back) = (
        "lvs.backend.removed tcp/192.0.2.99:80/10.8.1.2:8080",
        "lvs.backend.added tcp/192.0.2.99:80/10.8.1.2:8080",
    );
    // Flapping: five times down and up is five events each, in order.
    for _ in 0..5 {
        reader
            .step(". /run/switch; down b1", &[&down, gone])
            .await?;
        reader.step(". /run/switch; up b1", &[&up, back]).await?;
    }

    // A page that is not found is as bad as no server; clients notice nothing.
    reader
        .step("mv /run/www/index.html /run/www/away", &[&down, gone])
        .await?;
    reader
        .step("mv /run/www/away /run/www/index.html", &[&up, back])
        .await?;

    // All of them, with the sorry server in their place; a check by script beside it.
    let two = |word: &str| format!("keepalived.backend.{word} {TWO}");
    let mark = "FWM 9 [10.8.2.2]:none:0";
    reader
        .step(
            "rm /run/misc_ok",
            &[
                &format!("keepalived.backend.down {mark}"),
                "keepalived.quorum.lost FWM 9",
                "keepalived.service.down FWM 9",
                "lvs.backend.removed fwmark/9/10.8.2.2:0",
                "lvs.service.down fwmark/9",
            ],
        )
        .await?;
    // keepalived takes the last real server out before it puts the sorry server in: who looks just then sees none.
    let empty = [
        "lvs.service.down tcp/192.0.2.99:80",
        "lvs.service.up tcp/192.0.2.99:80",
    ];
    let events = reader
        .step_passing(
            ". /run/switch; down b1; down b2",
            &[
                &down,
                &two("down"),
                &format!("keepalived.quorum.lost {WEB}"),
                &format!("keepalived.service.down {WEB}"),
                &format!("keepalived.sorry.added {WEB}"),
                gone,
                "lvs.backend.removed tcp/192.0.2.99:80/10.8.2.2:8080",
                "lvs.backend.added tcp/192.0.2.99:80/10.8.3.2:8080",
            ],
            &empty,
        )
        .await?;
    let lost = events
        .iter()
        .find(|event| event["topic"] == "keepalived.quorum.lost");
    assert_eq!(lost.context("lost")?["severity"], "critical", "{events:#?}");
    reader
        .step_passing(
            ". /run/switch; up b1; up b2; touch /run/misc_ok",
            &[
                &up,
                &two("up"),
                &format!("keepalived.quorum.gained {WEB}"),
                &format!("keepalived.service.up {WEB}"),
                &format!("keepalived.sorry.removed {WEB}"),
                back,
                "lvs.backend.added tcp/192.0.2.99:80/10.8.2.2:8080",
                "lvs.backend.removed tcp/192.0.2.99:80/10.8.3.2:8080",
                &format!("keepalived.backend.up {mark}"),
                "keepalived.quorum.gained FWM 9",
                "keepalived.service.up FWM 9",
                "lvs.backend.added fwmark/9/10.8.2.2:0",
                "lvs.service.up fwmark/9",
            ],
            &empty,
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn vrrp_states_reloads_and_lost_children_are_events() -> Result<()> {
    let site = start().await?;
    let topics = ["keepalived.vrrp.#", "keepalived.process.#"];
    let mut reader = Reader::new(&site, &topics, 0);
    eventually("it is master", async || {
        let events = site.events(&["keepalived.vrrp.master"]).await;
        let events = events.map_err(|error| format!("{error:#}"))?;
        muster_harness::want(events.len(), 1)
    })
    .await
    .with_context(|| site.director().log())?;
    reader.catch_up().await?;

    // A peer of a higher priority takes over, and goes.
    let peer = site.guest().spawn(
        "ip netns exec b3 keepalived -n -D --vrrp -f /run/k2.conf -p /run/k2.pid -r /run/k2v.pid",
    )?;
    reader.step("", &["keepalived.vrrp.backup VI_1"]).await?;
    let instance = daemon(&site).await?["vrrp"][0].clone();
    assert_eq!(
        (&instance["name"], &instance["state"]),
        (&"VI_1".into(), &"backup".into()),
        "{instance:#}"
    );
    site.guest().end(peer, "TERM").await?;
    reader.step("", &["keepalived.vrrp.master VI_1"]).await?;

    // A link that is down is a fault; when it is back, the election begins anew.
    reader
        .step("ip link set to-b3 down", &["keepalived.vrrp.fault VI_1"])
        .await?;
    reader
        .step(
            "ip link set to-b3 up",
            &["keepalived.vrrp.backup VI_1", "keepalived.vrrp.master VI_1"],
        )
        .await?;

    // A child that dies is started again by its parent.
    let mut checkers = Reader::new(&site, &["keepalived.process.#"], 0);
    checkers.catch_up().await?;
    checkers
        .step(
            "kill -KILL $(cat /run/k1c.pid)",
            &["keepalived.process.respawned checker"],
        )
        .await?;

    // A reload with another weight: in the table and in keepalived's own view.
    let mut weights = Reader::new(
        &site,
        &["lvs.backend.weight", "keepalived.backend.weight"],
        0,
    );
    weights.catch_up().await?;
    weights
        .step(
            "sed -i 's/weight 5/weight 7/' /run/k1.conf; kill -HUP $(cat /run/k1.pid)",
            &[
                "lvs.backend.weight tcp/192.0.2.99:80/10.8.2.2:8080",
                &format!("keepalived.backend.weight {TWO}"),
            ],
        )
        .await?;

    // The end of it is critical; its children may be seen to go before it.
    site.guest().succeed("kill $(cat /run/k1.pid)").await?;
    let stopped = eventually("it has stopped", async || {
        let events = site.events(&["keepalived.process.stopped"]).await;
        let events = events.map_err(|error| format!("{error:#}"))?;
        let parent = events.iter().find(|event| event["key"] == "keepalived");
        parent.cloned().ok_or_else(|| format!("{events:#?}"))
    });
    assert_eq!(stopped.await?["severity"], "critical");
    Ok(())
}
