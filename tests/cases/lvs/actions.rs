//! `lvs.weight`, `lvs.drain` and `lvs.restore` on two real directors, with connections that live.

use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::uml::Background;
use muster_harness::{eventually, want};
use serde_json::Value;

use super::ipvsadm;
use super::site::{Director, Site};

const TABLES: &str = "[collect.lvs]\ninterval = \"1s\"\n";

/// Two virtual servers with the same real servers.
const TABLE: &str = "-A -t 192.0.2.99:80 -s wrr
-a -t 192.0.2.99:80 -r 10.8.1.2:9000 -m -w 7
-a -t 192.0.2.99:80 -r 10.8.2.2:9000 -m -w 5
-A -t 192.0.2.10:443 -s rr
-a -t 192.0.2.10:443 -r 10.8.1.2:9000 -m -w 3
-a -t 192.0.2.10:443 -r 10.8.2.2:9000 -m -w 3
";

/// One host's answer to a job.
#[derive(Debug)]
struct Answer {
    state: String,
    data: Value,
}

/// A job for all directors: the exit code and each host's answer, in the order of the directors.
async fn job(site: &Site, arguments: &[&str]) -> Result<(i32, Vec<Answer>)> {
    let output = site.run(arguments).await?;
    let json = output.json()?;
    let hosts = super::snapshot::list(&json, "hosts")?;
    let mut answers = Vec::new();
    for director in &site.directors {
        let answer = hosts
            .iter()
            .find(|host| host["host"] == director.host.as_str());
        let answer = answer.with_context(|| format!("no answer of {} in {json}", director.host))?;
        let text = |pointer: &str| {
            let value = answer.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        answers.push(Answer {
            state: text("/state"),
            data: answer["data"].clone(),
        });
    }
    Ok((output.code, answers))
}

/// The weights of every director, as ipvsadm says: of `b1` and `b2` in the web server, then in the other one.
async fn weights(site: &Site) -> Result<Vec<[u64; 4]>> {
    let mut all = Vec::new();
    for director in &site.directors {
        let table = ipvsadm::table(&director.guest).await?;
        let weight = |service: &str, real: &str| table[service].reals[real].weight;
        all.push([
            weight("tcp 192.0.2.99:80", "10.8.1.2:9000"),
            weight("tcp 192.0.2.99:80", "10.8.2.2:9000"),
            weight("tcp 192.0.2.10:443", "10.8.1.2:9000"),
            weight("tcp 192.0.2.10:443", "10.8.2.2:9000"),
        ]);
    }
    Ok(all)
}

/// Connections that are open until they are ended.
fn connect(director: &Director, connections: u32) -> Result<Background> {
    director.guest.spawn(&format!(
        "ip netns exec client bash -c 'for n in $(seq {connections}); do exec {{fd}}<>/dev/tcp/192.0.2.99/80; done; \
         exec busybox sleep 1000'"
    ))
}

async fn active(director: &Director, wanted: u64) -> Result<()> {
    eventually("connections", async || {
        let table = ipvsadm::table(&director.guest).await;
        let table = table.map_err(|error| format!("{error:#}"))?;
        let reals = table["tcp 192.0.2.99:80"].reals.values();
        want(reals.map(|real| real.active).sum::<u64>(), wanted)
    })
    .await
}

#[tokio::test]
async fn a_real_server_is_drained_on_all_directors_and_restored() -> Result<()> {
    let mut site = Site::start(2, TABLES).await?;
    for director in &site.directors {
        director
            .guest
            .succeed(&format!(
                "ipvsadm -R <<'TABLE'\n{TABLE}TABLE\n\
                 for place in b1 b2; do\n\
                   ip netns exec $place busybox nc -ll -p 9000 -e busybox cat >/dev/null 2>&1 </dev/null &\n\
                 done"
            ))
            .await?;
    }
    site.start_agents().await?;
    let before = vec![[7, 5, 3, 3]; 2];
    assert_eq!(weights(&site).await?, before);

    // What can't be an address is refused, and changes nothing.
    let one = "real_server=10.8.1.2:9000";
    let (code, answers) = job(
        &site,
        &["lvs.weight", "real_server=10.8.1.999:9000", "weight=0"],
    )
    .await?;
    assert_ne!(code, 0, "{answers:#?}");
    assert_eq!(weights(&site).await?, before);

    // A weight in one virtual server alone.
    let web = "virtual_server=tcp/192.0.2.99:80";
    let (code, answers) = job(&site, &["lvs.weight", one, web, "weight=9"]).await?;
    assert_eq!(code, 0, "{answers:#?}");
    assert_eq!(answers[0].data["changed"], 1, "{answers:#?}");
    assert_eq!(weights(&site).await?, vec![[9, 5, 3, 3]; 2]);

    // A drain waits for the connections of the one director that has any, and for no longer.
    let (director, other) = (&site.directors[0], &site.directors[1]);
    let clients = connect(director, 6)?;
    active(director, 6).await?;
    let drain = site.fleet.muster.start(
        "drain",
        &[
            "run",
            "-t",
            "*",
            "-o",
            "json",
            "lvs.drain",
            one,
            "limit_s=300",
        ],
    )?;
    let mut drain = drain;
    eventually("the weights are 0", async || {
        let weights = weights(&site).await.map_err(|error| format!("{error:#}"))?;
        want(weights, vec![[0, 5, 0, 3]; 2])
    })
    .await?;
    // Nothing is cut, and new ones go elsewhere.
    let late = connect(director, 2)?;
    active(director, 8).await?;
    let table = ipvsadm::table(&director.guest).await?;
    let drained = table["tcp 192.0.2.99:80"].reals["10.8.1.2:9000"].active;
    assert!(drained > 0, "nothing to wait for: {table:#?}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(drain.exit_status()?, None, "{}", drain.stdout());
    director.guest.end(clients, "KILL").await?;
    let status = drain.wait(Duration::from_secs(60)).await?;
    assert_eq!(
        status.code(),
        Some(0),
        "{}{}",
        drain.stdout(),
        drain.stderr()
    );
    let report: Value = serde_json::from_str(&drain.stdout())?;
    for host in super::snapshot::list(&report, "hosts")? {
        assert_eq!(host["data"]["state"], "drained", "{host:#}");
        assert_eq!(host["data"]["active"], 0, "{host:#}");
    }
    active(director, 2).await?;
    active(other, 0).await?;

    // A limit that is over is a failure that says what is left; the weight stays.
    let two = "real_server=10.8.2.2:9000";
    let (code, answers) = job(&site, &["lvs.drain", two, "limit_s=2", "force=true"]).await?;
    assert_eq!(code, 4, "{answers:#?}");
    let states: Vec<_> = answers.iter().map(|answer| answer.state.as_str()).collect();
    assert_eq!(states, ["failed", "succeeded"], "{answers:#?}");
    assert_eq!(answers[0].data["state"], "limit-over", "{answers:#?}");
    assert_eq!(answers[0].data["active"], 2, "{answers:#?}");
    assert_eq!(weights(&site).await?, vec![[0; 4]; 2]);
    director.guest.end(late, "KILL").await?;

    // What the agents noticed of it so far, each weight once on each director.
    let mut noticed = vec![
        "lvs.backend.weight tcp/192.0.2.99:80/10.8.1.2:9000".to_owned(),
        "lvs.service.down tcp/192.0.2.10:443".to_owned(),
        "lvs.service.down tcp/192.0.2.99:80".to_owned(),
    ];
    noticed.extend(of_each("drained"));
    events(&site, &noticed).await?;

    // Back to what each of them had, whatever happened to the agent in between.
    site.restart_agent("KILL").await?;
    site.director().await_looks("lvs", 1).await?;
    for real in [one, two] {
        let (code, answers) = job(&site, &["lvs.restore", real]).await?;
        assert_eq!(code, 0, "{answers:#?}");
        assert_eq!(answers[1].data["changed"], 2, "{answers:#?}");
    }
    assert_eq!(weights(&site).await?, vec![[9, 5, 3, 3]; 2]);

    noticed.extend([
        "lvs.service.up tcp/192.0.2.10:443".to_owned(),
        "lvs.service.up tcp/192.0.2.99:80".to_owned(),
    ]);
    noticed.extend(of_each("restored"));
    events(&site, &noticed).await
}

/// This topic for both real servers in both virtual ones.
fn of_each(topic: &str) -> Vec<String> {
    let mut names = Vec::new();
    for server in ["192.0.2.10:443", "192.0.2.99:80"] {
        for real in ["10.8.1.2:9000", "10.8.2.2:9000"] {
            names.push(format!("lvs.backend.{topic} tcp/{server}/{real}"));
        }
    }
    names
}

/// Waits until the broker has these events of each director, in whatever order, and no others.
async fn events(site: &Site, wanted: &[String]) -> Result<()> {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    for director in &site.directors {
        eventually("the events of all that", async || {
            let events = site.events(&["lvs.#"]).await;
            let events = events.map_err(|error| format!("{error:#}"))?;
            let mine = events
                .iter()
                .filter(|event| event["from"] == director.host.as_str());
            let mut names: Vec<String> = mine.map(super::site::event_name).collect();
            names.sort();
            want(names, wanted.clone())
        })
        .await?;
    }
    Ok(())
}
