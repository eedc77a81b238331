//! The paths about virtual servers, answered from a kernel that has some.

use muster_harness::Guest;
use serde_json::json;

use super::*;

/// Where the agent listens in the guest.
const PORT: u16 = 9418;

/// Datagrams sent to the virtual server.
const DATAGRAMS: u64 = 25;

const TABLE: &str = "
ip link set lo up; ip link set dummy0 up
ip addr add 10.9.0.254/16 dev dummy0
ip addr add 192.0.2.10/32 dev lo
ip addr add 2001:db8::10/128 dev lo
ipvsadm -A -t 192.0.2.10:80 -s wlc
ipvsadm -a -t 192.0.2.10:80 -r 10.9.1.1:8080 -m -w 100
ipvsadm -a -t 192.0.2.10:80 -r 10.9.1.2:80 -m -w 0
ipvsadm -A -t 192.0.2.10:443 -s wrr -p 300
ipvsadm -a -t 192.0.2.10:443 -r 10.9.1.3:443 -g
ipvsadm -A -u 192.0.2.10:53 -s rr
ipvsadm -a -u 192.0.2.10:53 -r 10.9.1.4:53 -m
ipvsadm -A -u 192.0.2.12:9000 -s sh
ipvsadm -a -u 192.0.2.12:9000 -r 10.9.1.5:9000 -i
ipvsadm -A -t [2001:db8::10]:80 -s sed
ipvsadm -a -t [2001:db8::10]:80 -r [2001:db8:1::1]:80 -g -w 3
ipvsadm -A -t 192.0.2.99:80 -s rr
";

/// Asks the agent in the guest; code, headers and body.
async fn get(guest: &Guest, path: &str) -> Result<(u16, String, Value), String> {
    let script = format!(
        r#"timeout 30 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{PORT}; printf "GET {path} HTTP/1.0\r\n\r\n" >&3; cat <&3'"#
    );
    let output = guest
        .run(&script)
        .await
        .map_err(|error| format!("{error:#}"))?;
    let text = output.stdout;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(format!("no answer: {text}{}", output.stderr))?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
    Ok((code.unwrap_or(0), head.to_ascii_lowercase(), body))
}

/// What `ipvsadm -ln` prints, in the shape of `GetLvsConn`.
fn printed(text: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for line in text.lines().skip(3) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let ["->", rs, lb_kind, weight, active, inactive] = words[..] {
            let node = json!({"rs": rs, "lb_kind": lb_kind, "weight": weight, "activeconn": active, "inactconn": inactive});
            let server = all
                .last_mut()
                .and_then(|server| server["node"].as_array_mut());
            server
                .into_iter()
                .for_each(|nodes| nodes.push(node.clone()));
        } else {
            all.push(json!({"lb_algo": words[2], "vip": words[1], "node": []}));
        }
    }
    sorted(all)
}

/// In an order of their own: the kernel's means nothing.
fn sorted(mut all: Vec<Value>) -> Vec<Value> {
    for server in &mut all {
        if let Some(nodes) = server["node"].as_array_mut() {
            nodes.sort_by_key(|node| node["rs"].to_string());
        }
    }
    all.sort_by_key(|server| (server["vip"].to_string(), server["lb_algo"].to_string()));
    all
}

#[tokio::test]
async fn virtual_servers_are_answered_as_ipvsadm_prints_them() -> Result<()> {
    let guest = Guest::start().await?;
    guest.succeed(TABLE).await?;
    let folder = guest.directory().join("agent");
    fs::create_dir(&folder)?;
    let config = folder.join("agent.toml");
    fs::write(
        &config,
        format!(
            "host = \"lb1\"\nstate_dir = {:?}\n[broker]\nurl = \"amqp://127.0.0.1:1\"\npassword = \"x\"\n\
             [http]\nlisten = \"127.0.0.1:{PORT}\"\nnode_paths = true\n",
            folder.join("state")
        ),
    )?;
    let mut command = Command::new(binary("muster-agent")?);
    command.arg("--config").arg(&config).arg("run");
    let _agent = guest.spawn_command(&command)?;
    eventually("the agent answers", async || {
        get(&guest, "/node/GetLoadAvg").await.map(drop)
    })
    .await?;

    let (code, head, body) = get(&guest, "/node/GetLvsTraffic")
        .await
        .map_err(anyhow::Error::msg)?;
    if code != 200 {
        assert_eq!(code, 503, "{body}");
        assert!(head.contains("retry-after: "), "{head}");
    }

    let answer = async |path: &str| match get(&guest, path).await {
        Ok((200, _, Value::Array(all))) => Ok(all),
        other => Err(format!("{other:?}")),
    };
    let wanted = printed(&guest.succeed("ipvsadm -ln").await?);
    assert_eq!(wanted.len(), 6);
    let connections = answer("/node/GetLvsConn")
        .await
        .map_err(anyhow::Error::msg)?;
    assert_eq!(sorted(connections), wanted);
    let mut status = wanted.clone();
    for server in &mut status {
        for node in server["node"].as_array_mut().into_iter().flatten() {
            node.as_object_mut()
                .map(|node| (node.remove("activeconn"), node.remove("inactconn")));
        }
    }
    let found = answer("/node/GetLvsStatus")
        .await
        .map_err(anyhow::Error::msg)?;
    assert_eq!(sorted(found), status);

    // Each datagram comes from a port of its own, so that it is a connection.
    let send = format!(
        "for i in $(seq {DATAGRAMS}); do bash -c 'printf 0123456789 >/dev/udp/192.0.2.10/53'; done"
    );
    guest.succeed(&send).await?;
    let bytes = DATAGRAMS * (20 + 8 + 10);
    let want = json!({"vip": "192.0.2.10:53", "conns_sum_per": DATAGRAMS, "inpkts_sum_per": DATAGRAMS,
        "outpkts_sum_per": 0, "inbytes_sum_per": bytes, "outbytes_sum_per": 0});
    eventually("the traffic of the last ten seconds", async || {
        let all = answer("/node/GetLvsTraffic").await?;
        if all.len() == 6 && all.contains(&want) {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    })
    .await?;
    eventually("ten seconds without any", async || {
        let all = answer("/node/GetLvsTraffic").await?;
        let none = all.iter().all(|server| server["inpkts_sum_per"] == 0);
        if none {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    })
    .await?;

    eventually("the director's totals", async || {
        let sums = get(&guest, "/node/GetLvsStatsSumm").await?.2;
        let text = guest
            .succeed("cat /proc/net/ip_vs_stats")
            .await
            .map_err(|error| format!("{error:#}"))?;
        let figures = text
            .lines()
            .nth(2)
            .unwrap_or_default()
            .split_ascii_whitespace();
        let figures: Vec<u64> = figures
            .filter_map(|word| u64::from_str_radix(word, 16).ok())
            .collect();
        let found: Vec<u64> = ["conns", "in_pks", "out_pks", "in_bytes", "out_bytes"]
            .iter()
            .filter_map(|name| sums[*name][0].as_u64())
            .collect();
        let enough = found == figures && found.first() == Some(&DATAGRAMS);
        if enough {
            Ok(())
        } else {
            Err(format!("{sums} {text}"))
        }
    })
    .await
}
