//! The original's names from a real kernel: `vip.<vip>.conns` and the others, to a file of carbon's and to statsd.

use muster_harness::sinks::{Carbon, Statsd};

use super::*;
use crate::lvs::site::Site;

/// Seconds apart, so that each snapshot has a place of its own in carbon's files.
const TABLES: &str = "[collect.lvs]\ninterval = \"2s\"\n";

const VIRTUAL_SERVERS: &str = "
ipvsadm -A -u 192.0.2.10:53 -s rr
ipvsadm -a -u 192.0.2.10:53 -r 10.8.1.2:53 -m
ipvsadm -A -t 192.0.2.10:53 -s rr
ipvsadm -a -t 192.0.2.10:53 -r 10.8.1.2:53 -m
ipvsadm -A -u [2001:db8::10]:53 -s rr
ipvsadm -a -u [2001:db8::10]:53 -r [fd00:8:1::2]:53 -m
";

/// Datagrams to each of the two; each comes from a port of its own, and so is a connection.
const DATAGRAMS: u32 = 25;

/// A figure of the UDP service at `address`, as `ipvsadm` prints it: connections, packets in and out, bytes in and out.
async fn printed(site: &Site, address: &str, at: usize) -> Result<f64, String> {
    let stats = site.guest().succeed("ipvsadm -ln --stats --exact").await;
    let stats = stats.map_err(|error| format!("{error:#}"))?;
    let mut lines = stats
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words.starts_with(&["UDP", address]));
    line.and_then(|words| words.get(at + 2)?.parse().ok())
        .ok_or(stats)
}

#[tokio::test]
async fn what_a_virtual_server_had_is_in_a_file_of_carbons_by_the_originals_name() -> Result<()> {
    let mut site = Site::start(1, TABLES).await?;
    let carbon = Carbon::start(site.fleet.directory()).await?;
    let statsd = Statsd::start(site.fleet.directory()).await?;
    let original = "mapping = \"original\"\n";
    let tables = bridge("carbon", "graphite", carbon.lines(), original)
        + &bridge("statsd", "statsd", statsd.udp(), original);
    let serve = Serve::start(&site.fleet.muster, &tables).await?;
    site.guest().succeed(VIRTUAL_SERVERS).await?;
    site.start_agents().await?;
    await_taken(&serve, "carbon", 2).await?;

    let send = |address: &str| {
        format!(
            "ip netns exec client bash -c 'for i in $(seq {DATAGRAMS}); do printf 0123456789 >/dev/udp/{address}/53; done'"
        )
    };
    site.guest().succeed(&send("192.0.2.10")).await?;
    site.guest().succeed(&send("2001:db8::10")).await?;
    let host = tame(&site.director().host);
    for (address, vip) in [
        ("192.0.2.10:53", "192_0_2_10_53"),
        ("[2001:db8::10]:53", "_2001_db8__10__53"),
    ] {
        for (at, name) in ["conns", "inpkts", "outpkts", "inbytes", "outbytes"]
            .iter()
            .enumerate()
        {
            let path = format!("{host}.vip.{vip}.{name}");
            let what = format!("{path} in carbon's file and in statsd");
            eventually(&what, async || {
                // What the real server's kernel answers is counted too, a little later.
                let wanted = printed(&site, address, at).await?;
                let files = carbon.points().map_err(|error| format!("{error:#}"))?;
                let points = files.get(&path).ok_or("no such file")?;
                let sum: f64 = points.values().sum();
                let flushed = statsd.flushed().map_err(|error| format!("{error:#}"))?;
                let timings = flushed.timers.get(&path).cloned().unwrap_or_default();
                let timed: f64 = timings.iter().sum();
                let enough = at > 0 || wanted == f64::from(DATAGRAMS);
                if sum == wanted && timed == wanted && points.len() > 1 && enough {
                    Ok(())
                } else {
                    Err(format!("{sum} and {timed}, wanted {wanted}: {points:?}"))
                }
            })
            .await
            .with_context(|| serve.process.stderr())?;
        }
    }
    // A director's counters begin anew: no jump, in either.
    site.guest().succeed("ipvsadm -Z").await?;
    site.restart_agent("KILL").await?;
    let before = serve
        .figure("snapshots_total", "carbon")
        .await
        .map_err(anyhow::Error::msg)?;
    eventually("some more snapshots", async || {
        let now = serve.figure("snapshots_total", "carbon").await?;
        if now >= before + 3.0 {
            Ok(())
        } else {
            Err(format!("{now}"))
        }
    })
    .await?;
    let files = carbon.points()?;
    let sum: f64 = files[&format!("{host}.vip.192_0_2_10_53.conns")]
        .values()
        .sum();
    assert_eq!(sum, f64::from(DATAGRAMS));
    Ok(())
}
