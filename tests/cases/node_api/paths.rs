//! Each path, what it says of this very machine, and what is said to those who ask for something else.

use std::path::Path;

use super::*;

const NODE: &str = "node_paths = true";

/// Keys of an object in the order in which they stand in an indented text.
fn keys(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("    \"")?.split_once("\": "))
        .map(|(key, _)| key)
        .collect()
}

#[tokio::test]
async fn processor_memory_and_load_are_those_of_this_machine() -> Result<()> {
    let host = Host::up(NODE).await?;
    let root = host.get("/").await?;
    assert_eq!((root.code, root.text.as_str()), (200, "hello cherrypy"));

    let dist = host.get("/node/dist").await?;
    assert_eq!(dist.headers["content-type"], "application/json");
    let wanted = [
        "os.system",
        "os.version",
        "os.release",
        "os.sysinstall",
        "os.installer",
        "os.arch",
        "os.hostname",
    ];
    assert_eq!(keys(&dist.text), wanted);
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    assert_eq!(dist.json()?["os.hostname"], name.trim());
    assert!(
        dist.json()?
            .as_object()
            .context("a map")?
            .values()
            .all(Value::is_string)
    );

    let cpus = host.get("/node/GetCpuInfo").await?.json()?;
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let count = text
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    assert_eq!(cpus.as_array().map(Vec::len), Some(count));
    for line in text.split("\n\n").next().unwrap_or_default().lines() {
        // The clock moves between two looks.
        let Some((key, value)) = line.split_once(':').filter(|(key, _)| !key.contains("MHz"))
        else {
            continue;
        };
        assert_eq!(
            cpus[0][key.trim().replace(' ', "_")],
            value.trim(),
            "{line}"
        );
    }

    let memory = host.get("/node/GetMemInfo").await?;
    let text = fs::read_to_string("/proc/meminfo")?;
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    names.push("MemUsed");
    assert_eq!(keys(&memory.text), names);
    assert!(
        memory
            .text
            .lines()
            .filter(|line| line.contains(": "))
            .all(|line| line.trim_end_matches(',').ends_with(".0"))
    );
    let total: f64 = text
        .split_ascii_whitespace()
        .nth(1)
        .context("MemTotal")?
        .parse()?;
    let memory = memory.json()?;
    let bytes = |name: &str| memory[name].as_f64().unwrap_or(-1.0);
    assert_eq!(bytes("MemTotal"), total * 1024.0);
    let used = bytes("MemTotal") - bytes("MemFree") - bytes("Buffers") - bytes("Cached");
    assert_eq!(bytes("MemUsed"), used);

    let load = host.get("/node/GetLoadAvg").await?;
    assert_eq!(
        keys(&load.text),
        ["lavg_1", "lavg_5", "lavg_15", "nr", "last_pid"]
    );
    assert!(
        load.json()?["nr"]
            .as_str()
            .is_some_and(|nr| nr.contains('/'))
    );
    Ok(())
}

#[tokio::test]
async fn use_over_a_second_is_measured_for_all_who_ask() -> Result<()> {
    let host = Host::up(NODE).await?;
    let each = (0..80).map(|_| host.get("/node/GetCpuDetail"));
    for answer in futures_util::future::join_all(each).await {
        let answer = answer?;
        assert_eq!(answer.code, 200, "{}", answer.text);
        let used: BTreeMap<String, String> = serde_json::from_str(&answer.text)?;
        let mut names: Vec<_> = used.keys().map(String::as_str).collect();
        names.sort_by_key(|name| answer.text.find(&format!("\"{name}\":")));
        assert_eq!(
            names,
            [
                "user", "nice", "sys", "iowait", "irq", "soft", "steal", "idle"
            ]
        );
        let sum: f64 = used
            .values()
            .map(|text| text.parse().unwrap_or(f64::NAN))
            .sum();
        assert!((99.0..=100.1).contains(&sum), "{}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn interfaces_and_disks_are_those_of_this_machine() -> Result<()> {
    let host = Host::up(NODE).await?;
    let lo = host.get("/node/GetIfInfo?interface=lo").await?;
    assert_eq!(lo.code, 200, "{}", lo.text);
    assert!(
        lo.text
            .starts_with(r#"{"interface": "lo", "ReceiveBytes": ""#),
        "{}",
        lo.text
    );
    let counters = lo.json()?;
    let counters = counters.as_object().context("a map")?;
    assert_eq!(counters.len(), 17);
    assert!(counters.values().all(Value::is_string));
    assert_eq!(host.get("/node/GetIfInfo/lo/").await?.code, 404);
    assert_eq!(host.get("/node/GetIfInfo/lo").await?.code, 200);

    let traffic = host.get("/node/GetIfTraffic/").await?.json()?;
    let dev = fs::read_to_string("/proc/net/dev")?;
    let mut names: Vec<_> = dev
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.rsplit_once(':')?.0.trim()))
        .collect();
    names.retain(|name| *name != "lo");
    names.sort_unstable();
    let traffic = traffic.as_object().context("a map")?;
    assert_eq!(traffic.keys().collect::<Vec<_>>(), names);
    for (name, text) in traffic {
        let inner: Value = serde_json::from_str(text.as_str().context("a text in the map")?)?;
        assert_eq!(&inner["interface"], name);
    }

    let disks = host.get("/node/GetHddInfo").await?.json()?;
    let df = Command::new("df").arg("-lhT").env("LC_ALL", "C").output()?;
    let df = String::from_utf8(df.stdout)?;
    let mut compared = 0;
    for line in df
        .lines()
        .skip(1)
        .filter(|line| !line.contains("tmpfs") && !line.contains("/boot"))
    {
        let [device, fs_type, size, _, _, _, mounted_on] =
            line.split_ascii_whitespace().collect::<Vec<_>>()[..]
        else {
            continue;
        };
        let disk = &disks[device];
        if disk["mounted_on"] != mounted_on {
            continue; // several of one name
        }
        assert_eq!(
            (&disk["type"], &disk["size"]),
            (&fs_type.into(), &size.into()),
            "{line}"
        );
        assert_eq!(disk["file_system"], device);
        assert!(
            disk["used_percent"]
                .as_str()
                .is_some_and(|used| used.ends_with('%')),
            "{disk}"
        );
        compared += 1;
    }
    assert!(compared > 0, "{df}\n{disks}");
    Ok(())
}

#[tokio::test]
async fn lvs_is_told_or_clearly_missed() -> Result<()> {
    let host = Host::up(NODE).await?;
    let sums = host.get("/node/GetLvsStatsSumm").await?;
    if Path::new("/proc/net/ip_vs_stats").exists() {
        assert_eq!(
            keys(&sums.text),
            ["conns", "in_pks", "out_pks", "in_bytes", "out_bytes"]
        );
    } else {
        assert_eq!(sums.code, 503);
        assert!(sums.error()?.contains("no IPVS"), "{}", sums.text);
    }
    Ok(())
}

#[tokio::test]
async fn wrong_methods_and_paths_are_answered_clearly() -> Result<()> {
    let host = Host::up(NODE).await?;
    for path in [
        "/node/GetMemInfo",
        "/node/dist/",
        "/",
        "/metrics",
        "/v1/snapshots/host",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let refused = host.ask(method, path, None).await?;
            assert_eq!(refused.code, 405, "{method} {path}");
            assert_eq!(refused.headers["allow"], "GET,HEAD", "{method} {path}");
            assert!(refused.error()?.contains("GET"), "{}", refused.text);
        }
        let head = host.ask("HEAD", path, None).await?;
        assert!(
            head.code == 200 || head.code == 503,
            "HEAD {path}: {}",
            head.code
        );
        assert_eq!(head.text, "");
    }
    for path in [
        "/node",
        "/node/",
        "/node/Getmeminfo",
        "/node/GetMemInfo/x",
        "/nosuch",
        "/node/../etc/passwd",
    ] {
        let refused = host.get(path).await?;
        assert_eq!(refused.code, 404, "{path}");
        let known = refused.json()?["known"].to_string();
        assert!(
            known.contains("/node/GetMemInfo") && known.contains("/v1/snapshots"),
            "{path}: {known}"
        );
    }
    let which = host.get("/node/GetIfInfo").await?;
    assert_eq!(which.code, 400);
    assert!(which.error()?.contains("lo"), "{}", which.text);
    let none = host.get("/node/GetIfInfo?interface=nosuch0").await?;
    assert_eq!(
        (none.code, none.json()?["known"][0].is_string()),
        (404, true)
    );
    let long = host
        .get(&format!("/node/dist?{}", "x".repeat(4 << 10)))
        .await?;
    assert_eq!(long.code, 414);
    let huge = host
        .ask("GET", "/node/dist", Some(&"x".repeat(64 << 10)))
        .await?;
    assert_eq!(huge.code, 431);
    Ok(())
}

#[tokio::test]
async fn the_paths_are_there_by_choice_alone() -> Result<()> {
    let host = Host::up("").await?;
    assert!(host.get("/").await?.text.contains("/v1/snapshots"));
    let refused = host.get("/node/dist").await?;
    assert_eq!(refused.code, 404);
    assert!(!refused.text.contains("GetMemInfo"), "{}", refused.text);
    Ok(())
}

#[tokio::test]
async fn snapshots_say_how_old_they_are_and_fresh_ones_are_new() -> Result<()> {
    let host = Host::up("[collect.host]\ninterval = \"1h\"").await?;
    let first = eventually("a snapshot", async || {
        match host.get("/v1/snapshots/host").await {
            Ok(answer) if answer.code == 200 => Ok(answer),
            Ok(answer) => Err(answer.text),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    assert!(first.headers["age"].parse::<u64>().is_ok());
    assert!(first.headers["last-modified"].ends_with(" GMT"));
    let at = |answer: &Answer| {
        answer
            .json()
            .map(|value| value["at_ms"].as_u64().unwrap_or(0))
    };
    let first_ms = at(&first)?;
    // What is not a second old may be shown again.
    let fresh = eventually("a newer snapshot", async || {
        let answer = host.get("/v1/snapshots/host?fresh=true").await;
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        match at(&answer) {
            Ok(at_ms) if at_ms > first_ms => Ok(answer),
            other => Err(format!("{other:?}, {}", answer.code)),
        }
    })
    .await?;
    let kept = host.get("/v1/snapshots/host").await?;
    assert!(at(&kept)? >= at(&fresh)?, "the new one is the newest now");
    assert_eq!(host.get("/v1/snapshots/host?fresh=maybe").await?.code, 400);
    assert_eq!(host.get("/v1/snapshots/host?frsh=true").await?.code, 400);
    let refused = host.get("/v1/snapshots/nosuch?fresh=true").await?;
    assert_eq!(
        (refused.code, refused.json()?["known"].is_array()),
        (404, true)
    );
    Ok(())
}
