//! The original's way on a real kernel: keepalived's own check takes a real server out; of its log comes one event, of the
//! event one mail with the owner, one POST as the original's alert API wants it, and a job that puts the server back.

use sha2::{Digest, Sha256};

use super::peers::Outlets;
use super::*;
use crate::lvs::site::Site;

const CONFIG: &str = r"
virtual_server 192.0.2.99 80 {
    delay_loop 1
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 10.8.1.2 8080 {
        TCP_CHECK {
            connect_timeout 2
            retry 1
            delay_before_retry 1
        }
    }
}
";

/// Starts the real server: busybox makes itself a daemon, once its first process has ended.
const SERVER: &str = "/sbin/ip netns exec b1 /usr/bin/busybox httpd -p 8080 -h /run/www";

#[tokio::test]
async fn keepalived_takes_a_real_server_out_and_a_job_puts_it_back() -> Result<()> {
    let recover = format!("#!/bin/sh\necho \"$MUSTER_JOB_ID $1\" >>/run/recovered\n{SERVER}\n");
    let sum: String = Sha256::digest(&recover)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tables = format!(
        "[inventory]\nfile = \"/run/info.yaml\"\n[[tail]]\nname = \"keepalived\"\npaths = [\"/run/k1.log\"]\n\
         start = \"beginning\"\npacks = [\"keepalived\"]\n[scripts.recover]\npath = \"/run/recover.sh\"\nsha256 = \"{sum}\"\n"
    );
    let mut site = Site::start(1, &tables).await?;
    let guest = site.guest();
    guest
        .succeed(&format!(
            "cat >/run/k1.conf <<'CONFIG'\n{CONFIG}\nCONFIG\ncat >/run/info.yaml <<'INVENTORY'\n{INVENTORY}\nINVENTORY\n\
             cat >/run/recover.sh <<'SCRIPT'\n{recover}SCRIPT\nchmod 644 /run/k1.conf\n\
             touch /run/k1.log\n{SERVER}"
        ))
        .await?;
    site.start_agents().await?;
    let _keepalived = site.guest().spawn(
        "keepalived -n -l -D -f /run/k1.conf -p /run/k1.pid -r /run/k1v.pid -c /run/k1c.pid >>/run/k1.log 2>&1",
    )?;

    let outlets = Outlets::start("starttls").await?;
    let sections = outlets.sections("body = \"alert\"")
        + r#"
[[reaction]]
name = "backend-down"
on = ["keepalived.backend.down"]
when = 'source=log'
mail = { to_fields = ["mailto"] }
webhook = ["good"]
job = { action = "script.run", args = { name = "recover", args = ["{{ event.fields.real_server }}"] } }
"#;
    let serve = Serve::start(site.fleet.second_desk("serve")?, "serve", &sections)?;
    eventually_within("muster serve is ready", LIMIT, async || serve.ready().await).await?;
    let told = async |topic: &str, wanted: usize| {
        eventually_within(topic, LIMIT, async || {
            let events = site
                .events(&[topic])
                .await
                .map_err(|error| format!("{error:#}"))?;
            let events: Vec<_> = events
                .into_iter()
                .filter(|event| event["fields"]["source"] != "collector")
                .collect();
            (events.len() >= wanted)
                .then_some(events.clone())
                .ok_or_else(|| format!("{events:#?}\n{}", serve.log()))
        })
        .await
    };
    told("reaction.active", 1).await?;
    eventually_within("the server is in the table", LIMIT, async || {
        let table = site
            .guest()
            .succeed("ipvsadm -Sn")
            .await
            .map_err(|error| format!("{error:#}"))?;
        table
            .contains("-r 10.8.1.2:8080")
            .then_some(())
            .ok_or(table)
    })
    .await?;

    site.guest()
        .succeed("kill -KILL $(ip netns pids b1)")
        .await?;
    let fired = told("reaction.fired", 3).await?;
    let job = fired
        .iter()
        .find_map(|event| event["fields"]["job"].as_str());
    let job = job.context("a job")?;
    let again = eventually_within("keepalived has it again", LIMIT, async || {
        let events = site
            .events(&["keepalived.backend.up"])
            .await
            .map_err(|error| format!("{error:#}"))?;
        let up = events
            .iter()
            .any(|event| event["fields"]["source"] == "log");
        let table = site
            .guest()
            .succeed("ipvsadm -Sn")
            .await
            .map_err(|error| format!("{error:#}"))?;
        (up && table.contains("-r 10.8.1.2:8080"))
            .then_some(())
            .ok_or(table)
    })
    .await;
    if let Err(error) = again {
        return Err(error.context(recovered(&site).await));
    }

    let mails = outlets.mail.mails()?;
    assert_eq!(mails.len(), 1, "{mails:#?}");
    assert_eq!(mails[0].to, ["ann@example.com"]);
    assert!(mails[0].text.contains("the shop"), "{}", mails[0].text);
    let posts = outlets.receiver.posts("good");
    assert_eq!(posts.len(), 1, "{posts:#?}");
    let body = &posts[0].body;
    let of = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        [
            of("rs"),
            of("vip_group"),
            of("owners"),
            of("alert_type"),
            of("status")
        ],
        [
            "10.8.1.2:8080",
            "192.0.2.99:80",
            "ann",
            "rs_is_down",
            "disable"
        ]
    );
    assert!(posts[0].signed);
    assert_eq!(
        site.guest().succeed("cat /run/recovered").await?,
        format!("{job} [10.8.1.2]:tcp:8080\n")
    );
    // One of each, and nothing more came while it was put back.
    assert_eq!(told("keepalived.backend.down", 1).await?.len(), 1);
    assert_eq!(told("keepalived.backend.up", 1).await?.len(), 1);
    assert_eq!(told("reaction.fired", 3).await?.len(), 3);
    assert!(site.events(&["reaction.failed"]).await?.is_empty());
    Ok(())
}

/// What the recovery has done: its result, and what runs where the real server should.
async fn recovered(site: &Site) -> String {
    let mut text = String::new();
    for event in site.events(&["reaction.fired"]).await.unwrap_or_default() {
        if let Some(job) = event["fields"]["job"].as_str() {
            let watched = ["job", "watch", job, "-o", "json"];
            text += &format!("{:?}\n", site.fleet.muster.run(&watched).await);
        }
    }
    let look =
        "ip netns pids b1; ip netns exec b1 busybox netstat -tln; cat /run/recovered /run/k1.log";
    text + &format!("{:?}", site.guest().run(look).await)
}
