//! A real server taken out of directors with live connections, and put back, by the operator's command: a dry run, the
//! drain with its progress, hosts that don't have it, the last one refused, limits, a cancel, somebody else's change, the
//! agent's death in the middle, and the connection table in figures. The table is always checked by `ipvsadm`.

use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::uml::Background;
use muster_harness::{Guest, eventually, want};
use serde_json::Value;

use super::site::{Director, Site};

/// The real server that is taken out, in two virtual servers, beside another.
const RULES: &str = "\
-A -t 192.0.2.10:80 -s rr
-a -t 192.0.2.10:80 -r 10.8.1.2:8080 -m -w 7
-a -t 192.0.2.10:80 -r 10.8.2.2:8080 -m -w 7
-A -t 192.0.2.99:80 -s rr
-a -t 192.0.2.99:80 -r 10.8.1.2:8080 -m -w 100 -x 1000 -y 500
-a -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 100
";

const REAL: &str = "real_server=10.8.1.2:8080";

async fn site(directors: usize) -> Result<Site> {
    let mut site = Site::start(directors, "").await?;
    for director in &site.directors {
        load(&director.guest, RULES).await?;
        let servers = "for place in b1 b2; do \
            ip netns exec $place busybox nc -ll -p 8080 -e busybox cat >/dev/null 2>&1 </dev/null & done";
        director.guest.succeed(servers).await?;
    }
    site.start_agents().await?;
    Ok(site)
}

async fn load(guest: &Guest, rules: &str) -> Result<()> {
    let rules = format!("ipvsadm -R <<'RULES'\n{rules}RULES");
    guest.succeed(&rules).await.map(drop)
}

/// A client that holds `count` connections to a virtual address, which then has `total`.
async fn client(guest: &Guest, address: &str, count: u32, total: u64) -> Result<Background> {
    let script = format!(
        "ip netns exec client bash -c 'for n in $(seq {count}); do exec {{fd}}<>/dev/tcp/{address}/80; done; exec busybox sleep 1000'"
    );
    let client = guest.spawn(&script)?;
    eventually("the connections are there", async || {
        let active = active(guest, address, "").await;
        want(active.map_err(|error| format!("{error:#}"))?, total)
    })
    .await?;
    Ok(client)
}

/// Active connections of the real servers of a virtual address that begin with `real`.
async fn active(guest: &Guest, address: &str, real: &str) -> Result<u64> {
    let table = guest
        .succeed(&format!("ipvsadm -Ln -t {address}:80"))
        .await?;
    let rows = table.lines().filter_map(|line| {
        let columns: Vec<&str> = line.strip_prefix("  -> ")?.split_whitespace().collect();
        let own = columns.first()?.starts_with(real);
        own.then(|| columns.get(3)?.parse::<u64>().ok()).flatten()
    });
    Ok(rows.sum())
}

/// The weights of 10.8.1.2:8080, in the order of [`RULES`].
async fn weights(guest: &Guest) -> Result<Vec<u32>> {
    let table = guest.succeed("ipvsadm -Sn | sort").await?;
    let own = table
        .lines()
        .filter(|line| line.contains("-r 10.8.1.2:8080 "));
    let weight = |line: &str| line.split(" -w ").nth(1)?.split(' ').next()?.parse().ok();
    own.map(|line| weight(line).with_context(|| format!("a weight in {line}")))
        .collect()
}

async fn await_weights(guest: &Guest, wanted: &[u32]) -> Result<()> {
    eventually("the weights", async || {
        let weights = weights(guest).await;
        want(
            weights.map_err(|error| format!("{error:#}"))?,
            wanted.to_vec(),
        )
    })
    .await
}

/// The job `arguments` ask for, to its end: its exit code and its report.
async fn run(site: &Site, arguments: &[&str]) -> Result<(i32, Value)> {
    let output = site.run(arguments).await?;
    let report = output.json()?;
    Ok((output.code, report))
}

/// The job `arguments` ask for, left behind: its id.
async fn leave(site: &Site, arguments: &[&str]) -> Result<String> {
    let (code, report) = run(site, &[&["--no-wait"], arguments].concat()).await?;
    assert_eq!(code, 0, "{report}");
    let id = report["job"].as_str().context("the job's id")?;
    Ok(id.to_owned())
}

/// What the first host has answered, once it is in this state.
async fn await_end(site: &Site, job: &str, state: &str) -> Result<Value> {
    eventually("the job's end", async || {
        let show = ["job", "show", job, "-o", "json"];
        let report = site
            .fleet
            .muster
            .run(&show)
            .await
            .and_then(|output| output.json());
        let report = report.map_err(|error| format!("{error:#}"))?;
        match report.pointer("/hosts/0") {
            Some(host) if host["state"] == state => Ok(host.clone()),
            _ => Err(report.to_string()),
        }
    })
    .await
}

fn host<'a>(report: &'a Value, director: &Director) -> &'a Value {
    let hosts = report["hosts"].as_array().into_iter().flatten();
    let mut own = hosts.filter(|host| host["host"] == director.host.as_str());
    own.next().unwrap_or(&Value::Null)
}

fn states(host: &Value) -> Vec<&str> {
    let rows = host
        .pointer("/data/virtual_servers")
        .and_then(Value::as_array);
    let states = rows.into_iter().flatten();
    states.filter_map(|row| row["state"].as_str()).collect()
}

#[tokio::test]
async fn one_command_drains_a_real_server_on_every_director() -> Result<()> {
    let site = site(2).await?;
    let (one, two) = (&site.directors[0], &site.directors[1]);
    load(&one.guest, "-a -t 192.0.2.10:80 -r 10.8.3.2:8080 -m -w 3\n").await?;
    let before = one.guest.succeed("ipvsadm -Sn").await?;

    // A dry run shows a table for each director and changes nothing.
    let dry = site
        .fleet
        .muster
        .succeed(&["run", "lvs.drain", REAL, "-t", "*", "--dry-run"])
        .await?;
    for line in [
        "VIRTUAL SERVER",
        "tcp/192.0.2.10:80  10.8.1.2:8080       7      0  would-change",
        "tcp/192.0.2.99:80  10.8.1.2:8080     100      0  would-change",
    ] {
        assert!(dry.stdout.contains(line), "{line}\n{}", dry.stdout);
    }
    assert_eq!(one.guest.succeed("ipvsadm -Sn").await?, before);

    // The drain waits for the connections of each director, and says how many are left there.
    let client_one = client(&one.guest, "192.0.2.99", 4, 4).await?;
    let client_two = client(&two.guest, "192.0.2.99", 2, 2).await?;
    let mut drain = site
        .fleet
        .muster
        .start("drain", &["run", "lvs.drain", REAL, "-t", "*", "--stream"])?;
    for line in [
        format!("{}: 2 active", one.host),
        format!("{}: 1 active", two.host),
    ] {
        eventually("progress", async || {
            want(drain.stdout().contains(&line), true)
        })
        .await?;
    }
    assert_eq!(weights(&one.guest).await?, [0, 0]);
    // Meanwhile, who comes anew is served by the others.
    let _others = client(&one.guest, "192.0.2.99", 3, 7).await?;
    assert_eq!(active(&one.guest, "192.0.2.99", "10.8.1.2").await?, 2);
    two.guest.end(client_two, "KILL").await?;
    let line = format!("{}: 0 active", two.host);
    eventually("the end on one", async || {
        want(drain.stdout().contains(&line), true)
    })
    .await?;
    assert!(
        drain.exit_status()?.is_none(),
        "one director is not drained yet"
    );
    one.guest.end(client_one, "KILL").await?;
    let status = drain.wait(Duration::from_secs(60)).await?;
    assert_eq!(
        status.code(),
        Some(0),
        "{}{}",
        drain.stdout(),
        drain.stderr()
    );
    assert!(
        drain.stdout().contains("2 hosts targeted: 2 succeeded"),
        "{}",
        drain.stdout()
    );

    // Put back: everything is as it was, thresholds too.
    let (code, report) = run(&site, &["lvs.restore", REAL]).await?;
    assert_eq!(
        (code, states(host(&report, two))),
        (0, vec!["done", "done"])
    );
    assert_eq!(one.guest.succeed("ipvsadm -Sn").await?, before);

    // One director does not have it: it says so, and the exit code is that of the other. None has it: that is said.
    let (code, report) = run(&site, &["lvs.drain", "real_server=10.8.3.2:8080"]).await?;
    assert_eq!(
        (code, &host(&report, two)["data"]["not_here"]),
        (0, &Value::Bool(true)),
        "{report}"
    );
    assert_eq!(
        (
            states(host(&report, one)),
            &host(&report, one)["data"]["state"]
        ),
        (vec!["done"], &Value::from("drained"))
    );
    let nobody = site
        .run(&["lvs.drain", "real_server=10.8.3.99:8080"])
        .await?;
    assert_eq!(nobody.code, 3, "{nobody:?}");
    assert!(
        nobody.stderr.contains("none of the hosts has"),
        "{nobody:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_would_do_harm_is_refused_and_what_is_not_done_is_said() -> Result<()> {
    let site = site(1).await?;
    let (guest, director) = (site.guest(), site.director());
    let before = guest.succeed("ipvsadm -Sn").await?;

    // The last one of one of the two virtual servers: nothing is changed in either.
    guest
        .succeed("ipvsadm -e -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 0")
        .await?;
    let refusable = guest.succeed("ipvsadm -Sn").await?;
    for arguments in [
        ["lvs.weight", REAL, "weight=0"],
        ["lvs.drain", REAL, "force=false"],
    ] {
        let (code, report) = run(&site, &arguments).await?;
        let own = host(&report, director);
        assert_eq!(
            (code, &own["reason"]["code"]),
            (6, &Value::from("unsafe")),
            "{report}"
        );
        assert!(
            own["reason"]["message"]
                .to_string()
                .contains("tcp/192.0.2.99:80;"),
            "{report}"
        );
        assert_eq!(guest.succeed("ipvsadm -Sn").await?, refusable);
    }
    let (code, _) = run(&site, &["lvs.weight", REAL, "weight=0", "force=true"]).await?;
    assert_eq!((code, weights(guest).await?), (0, vec![0, 0]));
    let (code, _) = run(&site, &["lvs.restore", REAL, "virtual_server=192.0.2.99"]).await?;
    assert_eq!((code, weights(guest).await?), (0, vec![0, 100]));
    guest
        .succeed("ipvsadm -e -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 100")
        .await?;
    let (code, _) = run(&site, &["lvs.restore", REAL]).await?;
    assert_eq!(
        (code, guest.succeed("ipvsadm -Sn").await?),
        (0, before.clone())
    );

    // The limit is over before the connections are gone.
    let client = client(guest, "192.0.2.99", 4, 4).await?;
    let (code, report) = run(&site, &["lvs.drain", REAL, "limit_s=2"]).await?;
    let own = host(&report, director);
    assert_eq!(
        (
            code,
            &own["state"],
            &own["data"]["state"],
            &own["data"]["active"]
        ),
        (4, &"failed".into(), &"limit-over".into(), &2.into()),
        "{report}"
    );
    assert_eq!(weights(guest).await?, [0, 0]);

    // Who is connected: the same as the kernel lists.
    let (_, report) = run(&site, &["lvs.connections", "virtual_server=192.0.2.99"]).await?;
    let own = &host(&report, director)["data"];
    let listed = guest.succeed("ipvsadm -Lnc | grep -c ESTABLISHED").await?;
    let established = own["states"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["state"] == "ESTABLISHED");
    assert_eq!(
        established.map(|row| row["entries"].to_string()).as_deref(),
        Some(listed.trim()),
        "{own}"
    );
    assert_eq!(
        (
            &own["clients"][0]["client"],
            &own["virtual_servers"][0]["virtual_server"]
        ),
        (&"10.8.0.2".into(), &"tcp/192.0.2.99:80".into()),
        "{own}"
    );
    assert_eq!(own.get("cut"), None);

    // Cancelled: the weight stays 0, and that is said.
    let job = leave(&site, &["lvs.drain", REAL]).await?;
    eventually("the drain runs", async || {
        let show = site
            .fleet
            .muster
            .run(&["job", "show", &job, "-o", "json"])
            .await;
        let shown = show.map_err(|error| format!("{error:#}"))?.stdout;
        want(shown.contains("\"running\""), true)
    })
    .await?;
    site.fleet.muster.succeed(&["job", "cancel", &job]).await?;
    let own = await_end(&site, &job, "cancelled").await?;
    assert_eq!(
        (&own["data"]["state"], &own["data"]["active"]),
        (&"ended".into(), &2.into()),
        "{own}"
    );
    assert_eq!(weights(guest).await?, [0, 0]);

    // Somebody takes it out of one virtual server meanwhile, and gives it a weight in the other.
    run(&site, &["lvs.restore", REAL]).await?;
    let job = leave(&site, &["lvs.drain", REAL]).await?;
    await_weights(guest, &[0, 0]).await?;
    guest
        .succeed("ipvsadm -d -t 192.0.2.10:80 -r 10.8.1.2:8080")
        .await?;
    guest
        .succeed("ipvsadm -e -t 192.0.2.99:80 -r 10.8.1.2:8080 -m -w 42")
        .await?;
    let own = await_end(&site, &job, "failed").await?;
    assert_eq!(
        (&own["data"]["state"], states(&own)),
        (&"raised".into(), vec!["gone", "done"]),
        "{own}"
    );
    assert!(
        own["reason"]["message"]
            .to_string()
            .contains("42 in tcp/192.0.2.99:80"),
        "{own}"
    );
    guest.end(client, "KILL").await?;
    Ok(())
}

#[tokio::test]
async fn a_drain_cut_off_by_the_agents_death_is_taken_back_by_restore() -> Result<()> {
    let mut site = site(1).await?;
    let before = site.guest().succeed("ipvsadm -Sn").await?;
    let _client = client(site.guest(), "192.0.2.99", 4, 4).await?;
    let job = leave(&site, &["lvs.drain", REAL]).await?;
    await_weights(site.guest(), &[0, 0]).await?;
    site.restart_agent("KILL").await?;
    let own = await_end(&site, &job, "interrupted").await?;
    assert_eq!(own["reason"]["code"], "agent-died", "{own}");
    assert_eq!(
        weights(site.guest()).await?,
        [0, 0],
        "it is not taken up again by itself"
    );
    let (code, report) = run(&site, &["lvs.restore", REAL]).await?;
    assert_eq!(
        (code, states(host(&report, site.director()))),
        (0, vec!["done", "done"]),
        "{report}"
    );
    assert_eq!(site.guest().succeed("ipvsadm -Sn").await?, before);
    let (code, report) = run(&site, &["lvs.restore", REAL]).await?;
    assert_eq!(
        (code, states(host(&report, site.director()))),
        (0, vec!["unchanged", "unchanged"]),
        "{report}"
    );
    Ok(())
}
