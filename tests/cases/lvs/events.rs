//! Every change of a real table is one event on a real RabbitMQ, with the state before and after.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::site::{Reader, Site};

const TABLES: &str = "[collect.lvs]\ninterval = \"1s\"\n";

const TABLE: &str = "-A -t 192.0.2.99:80 -s rr
-a -t 192.0.2.99:80 -r 10.8.1.2:8080 -m -w 1
-a -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 2
-A -u 192.0.2.10:53 -s rr
-a -u 192.0.2.10:53 -r 10.8.1.2:53 -m -w 1 -x 3 -y 1
";

#[tokio::test]
async fn every_change_is_one_event() -> Result<()> {
    let mut site = Site::start(1, TABLES).await?;
    site.guest()
        .succeed(&format!(
            "ipvsadm -R <<'TABLE'\n{TABLE}TABLE\n\
             for place in b1 b2; do ip netns exec $place busybox httpd -p 8080 -h /run/www; done"
        ))
        .await?;
    site.start_agents().await?;
    site.director().await_looks("lvs", 1).await?;
    let mut reader = Reader::new(&site, &["lvs.#"], 0);
    let web = "tcp/192.0.2.99:80";
    let (one, two) = (
        format!("{web}/10.8.1.2:8080"),
        format!("{web}/10.8.2.2:8080"),
    );
    let named = |topic: &str, key: &str| format!("lvs.{topic} {key}");

    // Virtual and real servers come.
    reader
        .step(
            "ipvsadm -A -t 192.0.2.10:80 -s wlc",
            &["lvs.service.added tcp/192.0.2.10:80"],
        )
        .await?;
    let events = reader
        .step(
            "ipvsadm -a -t 192.0.2.10:80 -r 10.8.3.2:8080 -m -w 4",
            &[
                "lvs.backend.added tcp/192.0.2.10:80/10.8.3.2:8080",
                "lvs.service.up tcp/192.0.2.10:80",
            ],
        )
        .await?;
    assert_eq!(events[0]["after"]["weight"], 4, "{events:#?}");
    assert_eq!(events[1]["after"]["real_servers_up"], 1, "{events:#?}");

    // Weights, up to the last one.
    let events = reader
        .step(
            "ipvsadm -e -t 192.0.2.99:80 -r 10.8.1.2:8080 -m -w 9",
            &[&named("backend.weight", &one)],
        )
        .await?;
    assert_eq!(
        (
            &events[0]["before"]["weight"],
            &events[0]["after"]["weight"]
        ),
        (&json!(1), &json!(9))
    );
    reader
        .step(
            "ipvsadm -e -t 192.0.2.99:80 -r 10.8.1.2:8080 -m -w 0",
            &[&named("backend.drained", &one)],
        )
        .await?;
    let events = reader
        .step(
            "ipvsadm -e -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 0",
            &[&named("backend.drained", &two), &named("service.down", web)],
        )
        .await?;
    assert_eq!(events[1]["severity"], "critical", "{events:#?}");
    reader
        .step(
            "ipvsadm -e -t 192.0.2.99:80 -r 10.8.1.2:8080 -m -w 1",
            &[&named("backend.restored", &one), &named("service.up", web)],
        )
        .await?;
    reader
        .step(
            "ipvsadm -e -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 1",
            &[&named("backend.restored", &two)],
        )
        .await?;

    // What else a real and a virtual server are.
    let events = reader
        .step(
            "ipvsadm -e -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 1 -x 70 -y 60",
            &[&named("backend.changed", &two)],
        )
        .await?;
    assert_eq!(events[0]["after"]["upper_threshold"], 70, "{events:#?}");
    let events = reader
        .step(
            "ipvsadm -E -t 192.0.2.99:80 -s wlc",
            &[&named("service.changed", web)],
        )
        .await?;
    assert_eq!(
        (
            &events[0]["before"]["scheduler"],
            &events[0]["after"]["scheduler"]
        ),
        (&json!("rr"), &json!("wlc"))
    );
    let events = reader
        .step(
            "ipvsadm -E -t 192.0.2.99:80 -s wlc -p 77",
            &[&named("service.changed", web)],
        )
        .await?;
    assert_eq!(
        events[0]["after"]["persistence_timeout_s"], 77,
        "{events:#?}"
    );

    // Thresholds: three clients are enough, and are forgotten after some seconds.
    let overloaded = "udp/192.0.2.10:53/10.8.1.2:53";
    reader
        .step(
            "ipvsadm --set 0 0 5\n\
             ip netns exec client bash -c 'for n in 1 2 3; do echo x >/dev/udp/192.0.2.10/53; done'",
            &[
                &named("backend.overloaded", overloaded),
                &named("backend.relieved", overloaded),
            ],
        )
        .await?;

    // Counters that begin anew: by hand, and because a virtual server was taken away and made again between two looks.
    let get = "ip netns exec client bash -c 'for n in 1 2 3; do exec 3<>/dev/tcp/192.0.2.99/80; \
               printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3 >/dev/null; done'";
    reader.step(get, &[]).await?;
    site.director().await_looks("lvs", 4).await?;
    let events = reader
        .step("ipvsadm -Z", &["lvs.counters.reset lvs"])
        .await?;
    assert_eq!(
        events[0]["fields"]["names"],
        json!([web, "udp/192.0.2.10:53"]),
        "{events:#?}"
    );
    reader.step(get, &[]).await?;
    site.director().await_looks("lvs", 4).await?;
    let again = "{ echo -D -t 192.0.2.99:80; echo -A -t 192.0.2.99:80 -s wlc -p 77; \
                 echo -a -t 192.0.2.99:80 -r 10.8.1.2:8080 -m -w 1; \
                 echo -a -t 192.0.2.99:80 -r 10.8.2.2:8080 -m -w 1 -x 70 -y 60; } | ipvsadm -R";
    reader.step(again, &[&named("counters.reset", web)]).await?;

    // Sync daemons.
    reader
        .step(
            "ipvsadm --start-daemon master --mcast-interface to-b1 --syncid 5",
            &["lvs.sync.changed lvs"],
        )
        .await?;
    reader
        .step("ipvsadm --stop-daemon master", &["lvs.sync.changed lvs"])
        .await?;

    // All goes. While the agent is away nobody sees what happens; what it finds then is no news, what comes next is.
    reader
        .step(
            "ipvsadm -d -t 192.0.2.10:80 -r 10.8.3.2:8080",
            &[
                "lvs.backend.removed tcp/192.0.2.10:80/10.8.3.2:8080",
                "lvs.service.down tcp/192.0.2.10:80",
            ],
        )
        .await?;
    let seen = reader.seen();
    site.restart_agent("KILL").await?;
    site.director().await_looks("lvs", 2).await?;
    let mut reader = Reader::new(&site, &["lvs.#"], seen);
    reader
        .step(
            "ipvsadm -D -t 192.0.2.10:80",
            &["lvs.service.removed tcp/192.0.2.10:80"],
        )
        .await?;
    let events = reader
        .step(
            "ipvsadm -C",
            &[
                &named("service.removed", web),
                "lvs.service.removed udp/192.0.2.10:53",
            ],
        )
        .await?;
    assert_eq!(events[0]["after"], Value::Null);
    assert_eq!(events[0]["before"]["scheduler"], "wlc", "{events:#?}");

    // Ever so many: none is lost, and none comes twice.
    let many = "for n in $(busybox seq 1 200); do echo -A -t 198.51.100.$n:80 -s rr; done";
    site.guest()
        .succeed(&format!("{{ {many}; }} | ipvsadm -R"))
        .await?;
    let seen = reader.seen();
    muster_harness::eventually_within("200 events", Duration::from_secs(90), async || {
        let events = site
            .events(&["lvs.#"])
            .await
            .map_err(|error| format!("{error:#}"))?;
        let names: std::collections::BTreeSet<String> = events
            .iter()
            .skip(seen)
            .map(super::site::event_name)
            .collect();
        muster_harness::want((events.len() - seen, names.len()), (200, 200))
    })
    .await
}
