//! The agent's snapshots of a real table against what `ipvsadm` says of it, field by field, from every source.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use muster_harness::Guest;
use serde_json::Value;

use super::ipvsadm::{Counters, Real, Service, Table};

/// The agent's snapshot, in ipvsadm's words.
pub(crate) fn table(snapshot: &Value) -> Result<Table> {
    let mut table = Table::new();
    for server in list(snapshot, "virtual_servers")? {
        let (name, service) =
            service(server).with_context(|| format!("the virtual server {server}"))?;
        let before = table.insert(name.clone(), service);
        assert!(before.is_none(), "{name} is there twice");
    }
    Ok(table)
}

fn service(server: &Value) -> Result<(String, Service)> {
    let (key, name) = names(server)?;
    assert_eq!(text(server, "name")?, name);
    let mut flags: Vec<String> = match server.get("flags") {
        Some(_) => list(server, "flags")?
            .iter()
            .filter_map(|flag| flag.as_str().map(str::to_owned))
            .collect(),
        None => Vec::new(),
    };
    let persistent = server.get("persistence_timeout_s").and_then(Value::as_u64);
    let sticks = flags.iter().any(|flag| flag == "persistent");
    assert!(sticks || persistent.is_none(), "{server}");
    flags.retain(|flag| flag != "persistent");
    // ipvsadm does not say what is so by default: each client by itself.
    let mask = server.get("persistence_netmask").and_then(Value::as_str);
    let mask = mask.filter(|mask| *mask != "255.255.255.255");
    let prefix = server
        .get("persistence_prefix_length")
        .and_then(Value::as_u64);
    let prefix = prefix.filter(|length| *length != 128);
    let mut reals = BTreeMap::new();
    for value in list(server, "real_servers")? {
        let (at, real) = real(value).with_context(|| format!("the real server {value}"))?;
        let before = reals.insert(at.clone(), real);
        assert!(before.is_none(), "{at} is there twice");
    }
    let service = Service {
        scheduler: text(server, "scheduler")?.to_owned(),
        flags: flags.into_iter().collect(),
        persistent,
        mask: mask
            .map(str::to_owned)
            .or(prefix.map(|length| length.to_string())),
        engine: server
            .get("persistence_engine")
            .and_then(Value::as_str)
            .map(str::to_owned),
        counters: counters(server)?,
        reals,
    };
    sums_are_right(server, &service)?;
    Ok((key, service))
}

/// ipvsadm's name for it and ours, both from what it says of itself.
fn names(server: &Value) -> Result<(String, String)> {
    let family = text(server, "family")?;
    if let Some(mark) = server.get("fwmark").and_then(Value::as_u64) {
        return match family {
            "ipv4" => Ok((format!("fwm {mark} v4"), format!("fwmark/{mark}"))),
            "ipv6" => Ok((format!("fwm {mark} v6"), format!("fwmark6/{mark}"))),
            other => bail!("the family {other:?}"),
        };
    }
    let (protocol, at) = (text(server, "protocol")?, place(server)?);
    Ok((format!("{protocol} {at}"), format!("{protocol}/{at}")))
}

/// `10.1.0.1:80` or `[2001:db8::1]:80`, of a family that it says.
fn place(server: &Value) -> Result<String> {
    let (address, port) = (text(server, "address")?, number(server, "port")?);
    match text(server, "family")? {
        "ipv4" => Ok(format!("{address}:{port}")),
        "ipv6" => Ok(format!("[{address}]:{port}")),
        other => bail!("the family {other:?}"),
    }
}

fn real(value: &Value) -> Result<(String, Real)> {
    let at = place(value)?;
    assert_eq!(text(value, "name")?, at);
    let forward = match text(value, "forwarding")? {
        "masquerade" => "Masq",
        "route" => "Route",
        "tunnel" => "Tunnel",
        "local" => "Local",
        other => bail!("the forwarding method {other:?}"),
    };
    let optional = |field: &str| value.get(field).and_then(Value::as_u64).unwrap_or_default();
    let real = Real {
        forward: forward.to_owned(),
        tunnel: value.get("tunnel").map(tunnel).transpose()?,
        weight: number(value, "weight")?,
        upper: optional("upper_threshold"),
        lower: optional("lower_threshold"),
        active: number(value, "active_connections")?,
        inactive: number(value, "inactive_connections")?,
        persistent: optional("persistent_connections"),
        counters: counters(value)?,
    };
    Ok((at, real))
}

/// `ipip`, `gue:6080:-c`, `gre:+c`.
fn tunnel(tunnel: &Value) -> Result<String> {
    let kind = text(tunnel, "kind")?;
    let flags: Vec<&Value> = list(tunnel, "flags")?.iter().collect();
    let flags = match flags.as_slice() {
        [] => "-c",
        [flag] if *flag == "checksum" => "+c",
        [flag] if *flag == "remote-checksum" => "r+c",
        other => bail!("the tunnel's flags {other:?}"),
    };
    Ok(match kind {
        "ipip" => "ipip".to_owned(),
        "gue" => format!("gue:{}:{flags}", number(tunnel, "port")?),
        kind => format!("{kind}:{flags}"),
    })
}

fn counters(value: &Value) -> Result<Counters> {
    let Some(traffic) = value.get("traffic") else {
        return Ok(Counters::default());
    };
    let mut counters = Counters::default();
    let names = [
        "connections",
        "in_packets",
        "out_packets",
        "in_bytes",
        "out_bytes",
    ];
    for (at, name) in names.into_iter().enumerate() {
        let counter = traffic.get(name).context(name)?;
        counters.total[at] = number(counter, "total")?;
        counters.per_second[at] = number(traffic, &format!("{name}_per_s_kernel"))?;
    }
    Ok(counters)
}

fn sums_are_right(server: &Value, service: &Service) -> Result<()> {
    let reals = || service.reals.values();
    let count = |count: usize| u64::try_from(count).context("a count");
    for (field, wanted) in [
        ("real_servers_total", count(reals().count())?),
        (
            "real_servers_up",
            count(reals().filter(|real| real.weight > 0).count())?,
        ),
        ("weight_total", reals().map(|real| real.weight).sum()),
        ("active_connections", reals().map(|real| real.active).sum()),
        (
            "inactive_connections",
            reals().map(|real| real.inactive).sum(),
        ),
    ] {
        assert_eq!(number(server, field)?, wanted, "{field} of {server}");
    }
    Ok(())
}

/// What is said of the whole: version, table size, timeouts, sync daemons.
pub(crate) async fn whole(guest: &Guest) -> Result<Vec<String>> {
    let script =
        "ipvsadm -Ln | busybox head -1\nipvsadm -L --timeout\nipvsadm -L --daemon | sort\n";
    let output = guest.succeed(script).await?;
    Ok(output.lines().map(|line| line.trim().to_owned()).collect())
}

/// The same from a snapshot, in the same words.
pub(crate) fn whole_of(snapshot: &Value) -> Result<Vec<String>> {
    let mut lines = vec![format!(
        "IP Virtual Server version {} (size={})",
        text(snapshot, "version")?,
        number(snapshot, "table_size")?
    )];
    let timeouts = snapshot.get("timeouts").context("timeouts")?;
    lines.push(format!(
        "Timeout (tcp tcpfin udp): {} {} {}",
        number(timeouts, "tcp_s")?,
        number(timeouts, "tcp_fin_s")?,
        number(timeouts, "udp_s")?
    ));
    let mut daemons = Vec::new();
    for daemon in list(snapshot, "sync_daemons")? {
        daemons.push(format!(
            "{} sync daemon (mcast={}, syncid={}, maxlen={}, group={}, port={}, ttl={})",
            text(daemon, "role")?,
            text(daemon, "interface")?,
            number(daemon, "sync_id")?,
            number(daemon, "message_bytes_max")?,
            text(daemon, "group")?,
            number(daemon, "port")?,
            number(daemon, "ttl")?
        ));
    }
    daemons.sort();
    lines.extend(daemons);
    Ok(lines)
}

pub(crate) fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    let list = value.get(field).and_then(Value::as_array);
    list.with_context(|| format!("no list {field} in {value}"))
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    let text = value.get(field).and_then(Value::as_str);
    text.with_context(|| format!("no text {field} in {value}"))
}

pub(crate) fn number(value: &Value, field: &str) -> Result<u64> {
    let number = value.get(field).and_then(Value::as_u64);
    number.with_context(|| format!("no figure {field} in {value}"))
}
