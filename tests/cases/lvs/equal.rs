//! The agent's snapshots are what `ipvsadm` says of the same kernel: every kind of service, every source, real traffic.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_harness::{eventually, eventually_within};
use serde_json::Value;

use super::ipvsadm::{self, Counters, Table};
use super::site::Site;
use super::snapshot::{self, number, text};

/// One of each: protocols, families, schedulers, flags, persistence, forwarding methods, tunnels, thresholds, weights.
const RULES: &str = r#"
-A -t 192.0.2.10:80 -s wlc
-a -t 192.0.2.10:80 -r 10.1.0.1:8080 -m -w 100
-a -t 192.0.2.10:80 -r 10.1.0.2:8080 -m -w 50 -x 1000 -y 500
-a -t 192.0.2.10:80 -r 10.1.0.3:8080 -m -w 0
-a -t 192.0.2.10:80 -r 10.1.0.4:8080 -m -w 65535 -x 65535
-A -t 192.0.2.10:443 -s wrr -p 300 -M 255.255.255.0
-a -t 192.0.2.10:443 -r 10.1.0.1:443 -g -w 1
-a -t 192.0.2.10:443 -r 192.0.2.12:443 -g -w 1
-A -t 192.0.2.10:5060 -s rr -p
-A -u 192.0.2.10:5060 -s rr -p 60 --pe sip
-A -u 192.0.2.10:53 -s rr -o
-a -u 192.0.2.10:53 -r 10.8.1.2:53 -m -w 1
-A --sctp-service 192.0.2.11:3868 -s sh -b sh-port,sh-fallback
-a --sctp-service 192.0.2.11:3868 -r 10.1.0.6 -m
-A -f 7 -s mh -b mh-port,mh-fallback
-a -f 7 -r 10.1.0.1:0 -g -w 1
-a -f 7 -r 10.1.0.2:0 -i -w 1
-A -f 7 -6 -s mh -b mh-port
-a -f 7 -6 -r [2001:db8:1::7]:0 -i -w 1
-A -f 4294967295 -s wlc -b flag-3
-A -f 8 -6 -s lc -p 60 -M 64
-a -f 8 -6 -r [2001:db8:1::1]:0 -g
-A -t [2001:db8::11]:80 -s sed
-a -t [2001:db8::11]:80 -r [2001:db8:1::1]:80 -g -w 3
-a -t [2001:db8::11]:80 -r [2001:db8:1::2]:80 -m -w 4
-a -t [2001:db8::11]:80 -r 10.1.0.9:80 -i -w 2
-A -u [2001:db8::11]:53 -s nq -o
-A -t 192.0.2.12:21 -s dh
-A -t 192.0.2.12:0 -s lblc -p 3600
-A -t 192.0.2.12:8443 -s fo
-A -t 192.0.2.12:8444 -s ovf
-A -t 192.0.2.12:8445 -s lblcr
-A -t 192.0.2.12:9000 -s rr
-a -t 192.0.2.12:9000 -r 10.1.0.7:9000 -i --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 192.0.2.12:9000 -r 10.1.0.8:9000 -i --tun-type gue --tun-port 6081 --tun-remcsum
-a -t 192.0.2.12:9000 -r 10.1.0.9:9000 -i --tun-type gre --tun-csum
-a -t 192.0.2.12:9000 -r 10.1.0.10:9000 -i --tun-type ipip
-A -t 192.0.2.99:80 -s rr
-a -t 192.0.2.99:80 -r 10.8.1.2:8080 -m -w 1
-a -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 2
-A -t [2001:db8::10]:80 -s wrr -p 120 -M 112
-a -t [2001:db8::10]:80 -r [fd00:8:1::2]:8080 -m -w 1
"#;

/// What a source does not tell.
#[derive(Clone, Copy)]
struct Blind {
    tunnels: bool,
    counters: bool,
    /// Thresholds, persistent connections, the seconds of persistence, flags of schedulers, engines.
    details: bool,
}

/// Each source and what it is blind for.
const SOURCES: [(&str, Blind); 3] = [
    (
        "netlink",
        Blind {
            tunnels: false,
            counters: false,
            details: false,
        },
    ),
    (
        "ipvsadm",
        Blind {
            tunnels: true,
            counters: false,
            details: false,
        },
    ),
    (
        "proc",
        Blind {
            tunnels: true,
            counters: true,
            details: true,
        },
    ),
];

impl Blind {
    /// The table as this source can show it.
    fn see(self, mut table: Table) -> Table {
        for (name, service) in &mut table {
            if self.details {
                // The kernel's file has one-packet scheduling of IPv4 only.
                if name.contains('[') {
                    service.flags.clear();
                }
                service.flags.retain(|flag| flag == "ops");
                service.persistent = None;
                service.engine = None;
            }
            if self.counters {
                service.counters = Counters::default();
            }
            for real in service.reals.values_mut() {
                if self.tunnels {
                    real.tunnel = None;
                }
                if self.counters {
                    real.counters = Counters::default();
                }
                if self.details {
                    (real.upper, real.lower, real.persistent) = (0, 0, 0);
                }
            }
        }
        table
    }
}

/// A config that reads from one source alone.
fn configure(site: &Site, source: &str) -> Result<String> {
    let agent = site.fleet.agents.first().context("an agent")?;
    let good = fs::read_to_string(&agent.config)?;
    let path = agent.config.with_file_name(format!("{source}.toml"));
    fs::write(
        &path,
        good.replace("source = \"auto\"", &format!("source = \"{source}\"")),
    )?;
    Ok(path.display().to_string())
}

/// Looks until a snapshot and ipvsadm say the same, and ipvsadm says so before and after: a table that is in use does
/// not stand still. Gives both.
async fn agree(site: &Site, config: &str, blind: Blind, before: &str) -> Result<(Table, Value)> {
    let program = muster_harness::fleet::binary("muster-agent")?;
    let collect = format!(
        "{before} '{}' --config '{config}' collect lvs",
        program.display()
    );
    let agreed = eventually("the same from the agent and from ipvsadm", async || {
        let words = |error: anyhow::Error| format!("{error:#}");
        let first = ipvsadm::table(site.guest()).await.map_err(words)?;
        let output = site.guest().run(&collect).await.map_err(words)?;
        let snapshot = output
            .json()
            .map_err(words)?
            .get("lvs")
            .cloned()
            .ok_or_else(|| format!("{output:?}"))?;
        let second = ipvsadm::table(site.guest()).await.map_err(words)?;
        if first != second {
            return Err("the table does not stand still".to_owned());
        }
        let seen = snapshot::table(&snapshot).map_err(words)?;
        let wanted = blind.see(first.clone());
        if seen == wanted {
            return Ok((first, snapshot));
        }
        Err(differences(&seen, &wanted))
    });
    agreed.await
}

/// Only what is not the same: whole tables are long.
fn differences(seen: &Table, wanted: &Table) -> String {
    let names = seen.keys().chain(wanted.keys());
    let mut lines: Vec<String> = names
        .filter(|name| seen.get(*name) != wanted.get(*name))
        .map(|name| {
            format!(
                "{name}:\n the agent {:?}\n ipvsadm   {:?}",
                seen.get(name),
                wanted.get(name)
            )
        })
        .collect();
    lines.dedup();
    lines.join("\n")
}

/// Traffic is in the counters within this.
const COUNTED_LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn every_kind_of_service_from_every_source_and_its_counters_after_traffic() -> Result<()> {
    let tables = "[collect.lvs]\nsource = \"auto\"\ninterval = \"1s\"\n";
    let mut site = Site::start(1, tables).await?;
    let guest = site.guest();

    // Without a table: nothing, which is no error.
    let empty = site.collect_once("lvs").await?;
    assert_eq!(snapshot::table(&empty)?, Table::new());
    assert_eq!(empty["present"], true, "{empty}");

    let rules = guest.directory().join("rules");
    fs::write(&rules, RULES.trim_start())?;
    guest
        .succeed(&format!("ipvsadm -R <'{}'", rules.display()))
        .await?;
    guest.succeed("ipvsadm --set 901 121 301").await?;
    // All that is in the rules is in the table: the measure itself is whole.
    let table = ipvsadm::table(guest).await?;
    let lines = |start: &str| RULES.lines().filter(|line| line.starts_with(start)).count();
    let reals: usize = table.values().map(|service| service.reals.len()).sum();
    assert_eq!((table.len(), reals), (lines("-A"), lines("-a")));

    // Every source; then with what the kernel does not let be beside a tunnel between the families: sync daemons.
    let daemons = "ipvsadm -d -t [2001:db8::11]:80 -r 10.1.0.9:80\n\
         ipvsadm --start-daemon master --mcast-interface to-b1 --syncid 5\n\
         ipvsadm --start-daemon backup --mcast-interface to-b2 --syncid 6 --sync-maxlen 1400 \
         --mcast-group 224.0.0.82 --mcast-port 8849 --mcast-ttl 2\n";
    for script in ["", daemons] {
        guest.succeed(script).await?;
        for (source, blind) in SOURCES {
            let config = configure(&site, source)?;
            let (_, seen) = agree(&site, &config, blind, "").await.context(source)?;
            assert_eq!(text(&seen, "source")?, source);
            assert_eq!(seen["errors"], serde_json::json!([]), "{source}: {seen}");
            assert_eq!(number(&seen, "skipped")?, 0);
            if source != "proc" {
                let (seen, wanted) = (snapshot::whole_of(&seen)?, snapshot::whole(guest).await?);
                assert_eq!(seen, wanted, "{source}");
            }
        }
    }

    // Real connections, IPv4 and IPv6, TCP and single packets.
    guest
        .succeed(
            "for place in b1 b2; do ip netns exec $place busybox httpd -p 8080 -h /run/www; done\n\
             cat >/run/get <<'GET'\n\
             for number in 1 2 3 4 5 6 7; do\n\
               exec 3<>/dev/tcp/$1/80\n\
               printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' >&3\n\
               cat <&3 | busybox tail -1\n\
               exec 3>&-\n\
             done\n\
             for number in 1 2 3; do echo x >/dev/udp/192.0.2.10/53; done\n\
             GET",
        )
        .await?;
    for (number, vip) in ["192.0.2.99", "2001:db8::10"].into_iter().enumerate() {
        let client = format!("ip netns exec client bash /run/get {vip}");
        assert_eq!(
            guest.succeed(&client).await?,
            "hello\n".repeat(7),
            "{number}"
        );
    }
    let config = configure(&site, "netlink")?;
    // The kernel adds up its counters every two seconds.
    let (table, _) = eventually_within("the traffic is counted", COUNTED_LIMIT, async || {
        let seen = agree(&site, &config, SOURCES[0].1, "").await;
        let seen = seen.map_err(|error| format!("{error:#}"))?;
        let counted = seen.0["tcp [2001:db8::10]:80"].counters.total[0];
        let before = seen.0["tcp 192.0.2.99:80"].counters.total[0];
        if (before, counted) == (7, 7) {
            Ok(seen)
        } else {
            Err(format!("{before} and {counted}"))
        }
    })
    .await?;
    let total = |name: &str| table[name].counters.total;
    assert_eq!(total("tcp 192.0.2.99:80")[0], 7);
    assert_eq!(total("tcp [2001:db8::10]:80")[0], 7);
    // Each packet is a connection of its own there: twice three.
    assert_eq!(total("udp 192.0.2.10:53")[..2], [6, 6]);
    assert!(total("tcp 192.0.2.99:80").iter().all(|count| *count > 0));
    let persistent = &table["tcp [2001:db8::10]:80"].reals["[fd00:8:1::2]:8080"];
    assert_eq!(persistent.persistent, 1, "{persistent:?}");
    for (source, blind) in SOURCES {
        let config = configure(&site, source)?;
        agree(&site, &config, blind, "").await.context(source)?;
    }

    // Whoever may not ask the kernel reads what everybody may read, and says so.
    let rights =
        "setpriv --bounding-set -net_admin --inh-caps -net_admin --reuid 65534 --clear-groups";
    guest
        .succeed(&format!(
            "chmod a+rx /run; chmod 711 '{}'",
            site.fleet.directory().display()
        ))
        .await?;
    let config = site.fleet.agents[0].config.clone();
    for path in config.ancestors().take(2) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let (_, seen) = agree(&site, &config.display().to_string(), SOURCES[2].1, rights).await?;
    assert_eq!(text(&seen, "source")?, "proc");

    // The same for an operator, over RabbitMQ; and rates by the agent's own clock.
    site.start_agents().await?;
    let guest = site.guest();
    eventually("the operator sees what ipvsadm says", async || {
        let words = |error: anyhow::Error| format!("{error:#}");
        let table = ipvsadm::table(guest).await.map_err(words)?;
        let seen = site.collect("lvs").await.map_err(words)?;
        let seen = snapshot::table(&seen).map_err(words)?;
        if seen == table {
            return Ok(());
        }
        Err(differences(&seen, &table))
    })
    .await?;
    Ok(())
}
