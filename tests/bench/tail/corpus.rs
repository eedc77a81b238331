//! The log that is searched: a syslog of many programs, one line in a hundred of which matches one of twenty rules, and
//! another one a rule of the keepalived pack. Written once, and kept beside what is built.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_agent::tail::packs;

/// The rules of an operator's own.
pub(super) const PATTERNS: [&str; 20] = [
    r"Failed password for (?<user>\S+) from (?<address>[0-9.]+)",
    r"Out of memory: Killed process (?<pid>[0-9]+)",
    r"I/O error, dev (?<device>[a-z0-9]+), sector",
    r"(?<interface>eth[0-9]+): link is down",
    r"upstream timed out .* upstream: (?<upstream>\S+)",
    r"Server (?<server>\S+) is DOWN, reason",
    r"(?<unit>\S+)\.service: Failed with result",
    r"segfault at [0-9a-f]+ ip",
    r"No space left on device",
    r"nf_conntrack: table full",
    r"certificate has expired|certificate verify failed",
    r"too many open files",
    r"connect to (?<host>\S+) port [0-9]+: Connection refused",
    r"slow query: (?<seconds>[0-9.]+)s",
    r"replication lag (?<seconds>[0-9]+) s",
    r"PANIC|FATAL: ",
    r"temperature above threshold",
    r"soft lockup - CPU#[0-9]+",
    r"EXT4-fs error \(device (?<device>\S+)\)",
    r"task (?<task>\S+) blocked for more than [0-9]+ seconds",
];

/// A line for each of them.
const MATCHING: [&str; 20] = [
    "sshd[2211]: Failed password for root from 203.0.113.7 port 40022 ssh2",
    "kernel: [812.1] Out of memory: Killed process 4242 (java) total-vm:8123456kB",
    "kernel: [99.1] blk_update_request: I/O error, dev sdb, sector 123456 op 0x0",
    "kernel: [17.0] igb 0000:01:00.0 eth1: link is down",
    "nginx[80]: *7 upstream timed out (110: x) while reading, upstream: \"http://10.0.0.7:80/\"",
    "haproxy[31]: Server web/web3 is DOWN, reason: Layer4 timeout",
    "systemd[1]: app.service: Failed with result 'exit-code'.",
    "kernel: [5.2] app[77]: segfault at 7f ip 00007f2a sp 00007ffc error 4",
    "app[9]: write /var/lib/app: No space left on device",
    "kernel: [3.3] nf_conntrack: table full, dropping packet",
    "app[12]: tls: certificate has expired",
    "app[12]: accept: too many open files",
    "app[13]: connect to 10.1.2.3 port 5672: Connection refused",
    "db[5]: slow query: 12.5s SELECT 1",
    "db[5]: replication lag 340 s",
    "db[6]: FATAL: could not start",
    "kernel: [8.8] CPU2: Core temperature above threshold, cpu clock throttled",
    "kernel: [8.9] watchdog: BUG: soft lockup - CPU#3 stuck for 22s!",
    "kernel: [9.1] EXT4-fs error (device sda1): ext4_lookup:1000: inode #2",
    "kernel: [9.2] INFO: task jbd2 blocked for more than 120 seconds.",
];

/// What everything else is about.
const PLAIN: [&str; 10] = [
    "CRON[#]: (root) CMD (/usr/lib/sysstat/debian-sa1 1 1)",
    "sshd[#]: Accepted publickey for deploy from 10.2.3.# port # ssh2: ED25519 SHA256:abc",
    "nginx[#]: 10.0.#.7 - - \"GET /api/v1/items/# HTTP/1.1\" 200 # \"-\" \"curl/7.88.1\"",
    "systemd[1]: Started session-#.scope - Session # of user deploy.",
    "haproxy[#]: 10.9.8.#:50022 [22/Nov/2026:19:00:00.#] front web/web# 0/0/1/#/# 200 # - - ---- 9/9/3/1/0 0/0",
    "kernel: [#.#] audit: type=1400 audit(#.1:#): apparmor=\"STATUS\" operation=\"profile_load\"",
    "dhclient[#]: DHCPACK of 10.0.0.# from 10.0.0.1",
    "app[#]: request # done in # ms, user #, cache hit",
    "postfix/smtpd[#]: connect from mail#.example.com[192.0.2.#]",
    "rsyslogd: -- MARK -- #",
];

/// The file.
pub(super) struct Corpus {
    pub(super) path: PathBuf,
}

impl Corpus {
    /// Writes the file of `mib` MiB where it is not there yet.
    pub(super) fn ready(mib: u64) -> Result<Self> {
        let folder = Path::new("target/bench");
        std::fs::create_dir_all(folder).context("make target/bench; run this from the root")?;
        let path = std::path::absolute(folder.join(format!("syslog-{mib}.log")))?;
        if !path.exists() {
            crate::note(&format!("writing {}", path.display()));
            let part = path.with_extension("part");
            write(&part, mib << 20)?;
            std::fs::rename(&part, &path)?;
        }
        // Warm: what is measured is not the disk.
        std::io::copy(&mut File::open(&path)?, &mut std::io::sink())?;
        Ok(Self { path })
    }

    pub(super) fn bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }
}

fn write(path: &Path, bytes: u64) -> Result<()> {
    let pack: toml::Table = packs::find("keepalived").context("the pack")?.parse()?;
    let examples: Vec<&str> = pack
        .get("rule")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|rule| rule.get("examples")?.as_array())
        .flatten()
        .filter_map(toml::Value::as_str)
        .collect();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut written, mut number, mut chance) = (0, 0_usize, 88_172_645_463_325_252_u64);
    let pick = |chance: u64, from: usize| usize::try_from(chance % from.max(1) as u64).unwrap_or(0);
    while written < bytes {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let second = number / 100;
        let mut line = format!(
            "Nov 22 {:02}:{:02}:{:02} lb{} ",
            second / 3600 % 24,
            second / 60 % 60,
            second % 60,
            chance % 7
        );
        match number % 100 {
            37 => {
                line += MATCHING
                    .get(pick(chance, MATCHING.len()))
                    .copied()
                    .unwrap_or_default()
            }
            73 => {
                line = examples
                    .get(pick(chance, examples.len()))
                    .copied()
                    .unwrap_or_default()
                    .to_owned()
            }
            _ => {
                let plain = PLAIN
                    .get(pick(chance, PLAIN.len()))
                    .copied()
                    .unwrap_or_default();
                let mut digits = chance >> 8;
                for piece in plain.split_inclusive('#') {
                    line += piece.trim_end_matches('#');
                    if piece.ends_with('#') {
                        line += &(digits % 251).to_string();
                        digits /= 3;
                    }
                }
            }
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
        number += 1;
    }
    Ok(out.flush()?)
}
