//! `lvs`: our collector against the bare netlink dump of the same table, and against `ipvsadm`, in one guest with a
//! kernel that has IPVS. Rounds of each kind take turns, so that all have the same weather.

pub(crate) mod inside;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use muster_harness::Guest;
use muster_harness::fleet::binary;
use serde_json::{Value, json};

use crate::report::{Samples, heading};
use crate::{LvsArguments, keep, note, say};

/// One kind of measurement: its name, and its command in the guest for a number of rounds.
struct Kind {
    name: &'static str,
    command: String,
    ms: Vec<f64>,
    cpu_ms: f64,
    rss_kib: u64,
}

/// Measures and prints; `false` where the ratio that the caller named is exceeded.
pub(crate) async fn run(arguments: &LvsArguments) -> Result<bool> {
    note("starting a guest with IPVS");
    let guest = Guest::start().await?;
    let home = guest.directory();
    let dump = build_dump(home)?;
    let rules = home.join("rules");
    std::fs::write(&rules, table(arguments.services, arguments.backends)?)
        .with_context(|| format!("write {}", rules.display()))?;
    note(&format!(
        "loading {} x {}",
        arguments.services, arguments.backends
    ));
    guest
        .succeed(&format!("ipvsadm -R <{}", rules.display()))
        .await?;
    let own = binary("muster-bench")?.display().to_string();
    let ours = |what: &str| format!("{own} lvs-inside {what} --rounds");
    let kind = |name, command: String| Kind {
        name,
        command,
        ms: Vec::new(),
        cpu_ms: 0.0,
        rss_kib: 0,
    };
    let mut kinds = [
        kind("bare dump in C", dump),
        kind("our snapshot", ours("snapshot")),
        kind("our run", ours("run")),
        kind("our run and its message", ours("collect")),
        kind("ipvsadm and a parse", ours("ipvsadm")),
    ];
    for turn in 0..arguments.turns {
        note(&format!("turn {} of {}", turn + 1, arguments.turns));
        for kind in &mut kinds {
            kind.measure(&guest, arguments).await?;
        }
    }
    report(&kinds, arguments)
}

impl Kind {
    async fn measure(&mut self, guest: &Guest, arguments: &LvsArguments) -> Result<()> {
        let line = format!("{} {}", self.command, arguments.rounds);
        let output = guest.succeed(&line).await?;
        let told: Value =
            serde_json::from_str(&output).with_context(|| format!("{line} said {output}"))?;
        let counts = (told.get("virtual_servers"), told.get("real_servers"));
        let all = arguments.services * arguments.backends;
        ensure!(
            counts == (Some(&json!(arguments.services)), Some(&json!(all))),
            "{} saw {counts:?}",
            self.name
        );
        let times = told.get("ms").and_then(Value::as_array);
        self.ms
            .extend(times.into_iter().flatten().filter_map(Value::as_f64));
        self.cpu_ms += told
            .get("cpu_ms")
            .and_then(Value::as_f64)
            .unwrap_or(f64::NAN);
        let rss_kib = told.get("rss_kib").and_then(Value::as_u64).unwrap_or(0);
        self.rss_kib = self.rss_kib.max(rss_kib);
        Ok(())
    }
}

fn report(kinds: &[Kind], arguments: &LvsArguments) -> Result<bool> {
    say(&heading());
    let mut figures = serde_json::Map::new();
    let mut bare = f64::NAN;
    let mut ratio = f64::NAN;
    for (at, kind) in kinds.iter().enumerate() {
        let samples = Samples::new(kind.ms.clone());
        if at == 0 {
            bare = samples.median();
        }
        if at == 1 {
            ratio = samples.median() / bare;
        }
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let (cpu_ms, rss_mib) = (
            kind.cpu_ms / kind.ms.len() as f64,
            kind.rss_kib as f64 / 1024.0,
        );
        say(&format!(
            "{}  {:>5.2} times, {cpu_ms:>6.1} ms of CPU, {rss_mib:>5.1} MiB",
            samples.row(kind.name),
            samples.median() / bare
        ));
        let one = json!({
            "ms": samples.json(), "ratio": samples.median() / bare, "cpu_ms": cpu_ms, "rss_mib": rss_mib,
        });
        figures.insert(kind.name.to_owned(), one);
    }
    let figures = json!({
        "benchmark": "lvs", "virtual_servers": arguments.services, "backends": arguments.backends,
        "ratio": ratio, "kinds": figures,
    });
    say(&figures.to_string());
    keep(arguments.json.as_ref(), &figures)?;
    Ok(arguments.ratio_max.is_none_or(|max| ratio <= max))
}

/// Compiles the bare dump; its command, for a number of rounds.
fn build_dump(home: &Path) -> Result<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/lvs/dump.c");
    let program = home.join("dump");
    let status = Command::new("gcc")
        .args(["-O2", "-Wall", "-Wextra", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .context("run gcc")?;
    ensure!(status.success(), "gcc {}: {status}", source.display());
    Ok(program.display().to_string())
}

/// The rules, as `ipvsadm -R` takes them.
fn table(services: usize, backends: usize) -> Result<String> {
    const PER_NETWORK: usize = 250;
    let mut rules = String::new();
    for at in 0..services {
        let address = format!("192.0.{}.{}:80", at / PER_NETWORK, at % PER_NETWORK + 1);
        writeln!(rules, "-A -t {address} -s wrr")?;
        for backend in 0..backends {
            let real = format!(
                "10.{}.{}.{}",
                at % 100,
                backend / PER_NETWORK,
                backend % PER_NETWORK + 1
            );
            writeln!(
                rules,
                "-a -t {address} -r {real}:8080 -m -w {}",
                backend % 7 + 1
            )?;
        }
    }
    Ok(rules)
}
