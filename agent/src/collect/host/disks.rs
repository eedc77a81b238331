//! Block devices, from `/proc/diskstats` (kernel: `block/genhd.c`, Documentation/admin-guide/iostats.rst), each line by
//! procfs's parser: it knows the columns that came with 4.18 and 5.5. A line of seven columns, as partitions had
//! before 2.6.25, is a partition and is left out.

use std::collections::BTreeMap;
use std::path::Path;

use muster_proto::snapshot::host::{Counter, Disk, Disks};
use procfs::DiskStat;

use super::super::files::{Lines, ParseError};
use super::super::pattern::Patterns;
use super::super::rate::{Seen, Wrap, counter, growth, lossy, thousandth};
use super::config::Config;
use super::{Part, PartFailed, Run};

/// Devices shown at the most.
const DISKS_MAX: usize = 1024;
/// What the kernel calls a sector here, whatever the device's own.
const SECTOR_BYTES: u64 = 512;

/// The devices, and how many lines were those of an old kernel's partitions.
pub(super) fn parse(text: &str) -> (Lines<DiskStat>, u32) {
    const COLUMNS_OF_OLD_PARTITION: usize = 7;
    let (mut lines, mut partitions) = (Lines::default(), 0);
    for (at, line) in text.lines().enumerate() {
        if line.split_ascii_whitespace().count() == COLUMNS_OF_OLD_PARTITION {
            partitions += 1;
            continue;
        }
        let wanted = "major, minor, name and eleven or more figures";
        lines.push(DiskStat::from_line(line).map_err(|_| ParseError::at(at, wanted, line)));
    }
    (lines, partitions)
}

/// Tells a partition by its name, where `/sys/block` does not say: `sda1`, `nvme0n1p2`, `mmcblk0p1`.
fn named_like_partition(name: &str) -> bool {
    let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    let letters = ["sd", "hd", "vd", "xvd"]
        .iter()
        .find_map(|prefix| stem.strip_prefix(prefix));
    match (letters, stem.strip_suffix('p')) {
        (Some(letters), _) => {
            !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_lowercase())
        }
        (None, Some(device)) => device.ends_with(|digit: char| digit.is_ascii_digit()),
        (None, None) => false,
    }
}

fn bytes(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR_BYTES)
}

/// Whether any counter that is wide enough never to wrap went backwards: the device was replaced.
fn began_anew(before: &DiskStat, after: &DiskStat, wrap: Wrap) -> bool {
    let wide = |disk: &DiskStat| {
        [
            disk.reads,
            disk.writes,
            disk.sectors_read,
            disk.sectors_written,
        ]
    };
    wide(before)
        .into_iter()
        .zip(wide(after))
        .any(|(before, after)| growth(before, after, wrap).is_none())
        || (before.major, before.minor) != (after.major, after.minor)
}

/// One device; `before` is its line in the sample that is `seconds` old, if it can be compared with.
fn disk(before: Option<(&DiskStat, f64)>, now: &DiskStat, wrap: Wrap) -> Disk {
    let count = |of: fn(&DiskStat) -> u64| {
        counter(
            of(now),
            before.map(|(disk, seconds)| (of(disk), seconds)),
            wrap,
        )
    };
    let volume = |of: fn(&DiskStat) -> u64| {
        let Counter { total, per_s } = count(of);
        Counter {
            total: bytes(total),
            per_s: per_s.map(|per_s| thousandth(per_s * lossy(SECTOR_BYTES))),
        }
    };
    let newer = |of: fn(&DiskStat) -> Option<u64>| {
        let before = before.and_then(|(disk, seconds)| of(disk).map(|total| (total, seconds)));
        of(now).map(|total| counter(total, before, wrap))
    };
    // Times are milliseconds in 32 bits, also on 64-bit kernels.
    let spent = |of: fn(&DiskStat) -> u64| {
        before.and_then(|(disk, _)| growth(of(disk), of(now), Wrap::At32))
    };
    let per_interval = |ms: Option<u64>| {
        ms.zip(before)
            .map(|(ms, (_, seconds))| lossy(ms) / 1000.0 / seconds)
    };
    let wait = |ms: Option<u64>, of: fn(&DiskStat) -> u64| {
        let ended = before
            .and_then(|(disk, _)| growth(of(disk), of(now), wrap))
            .filter(|ended| *ended > 0)?;
        ms.map(|ms| thousandth(lossy(ms) / lossy(ended)))
    };
    Disk {
        name: now.name.clone(),
        major: now.major.unsigned_abs(),
        minor: now.minor.unsigned_abs(),
        stacked: ["dm-", "md", "bcache", "drbd"]
            .iter()
            .any(|prefix| now.name.starts_with(prefix)),
        reads: count(|disk| disk.reads),
        reads_merged: count(|disk| disk.merged),
        read_bytes: volume(|disk| disk.sectors_read),
        read_ms: now.time_reading,
        writes: count(|disk| disk.writes),
        writes_merged: count(|disk| disk.writes_merged),
        written_bytes: volume(|disk| disk.sectors_written),
        write_ms: now.time_writing,
        discards: newer(|disk| disk.discards),
        discarded_bytes: newer(|disk| disk.sectors_discarded).map(|Counter { total, per_s }| {
            Counter {
                total: bytes(total),
                per_s: per_s.map(|per_s| thousandth(per_s * lossy(SECTOR_BYTES))),
            }
        }),
        flushes: newer(|disk| disk.flushes),
        in_flight: now.in_progress,
        io_ms: now.time_in_progress,
        io_weighted_ms: now.weighted_time_in_progress,
        utilisation_percent: per_interval(spent(|disk| disk.time_in_progress))
            .map(|share| thousandth(share * 100.0).min(100.0)),
        read_wait_ms: wait(spent(|disk| disk.time_reading), |disk| disk.reads),
        write_wait_ms: wait(spent(|disk| disk.time_writing), |disk| disk.writes),
        queue_length: per_interval(spent(|disk| disk.weighted_time_in_progress)).map(thousandth),
        resets: 0,
    }
}

pub(super) struct DisksPart {
    exclude: Patterns,
    partitions: bool,
    /// Whether a name is a partition, asked once per name.
    is_partition: BTreeMap<String, bool>,
    resets: BTreeMap<String, u32>,
    before: Option<Seen<Vec<DiskStat>>>,
}

impl DisksPart {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            exclude: config.disks_exclude.clone(),
            partitions: config.partitions,
            is_partition: BTreeMap::new(),
            resets: BTreeMap::new(),
            before: None,
        }
    }

    fn wanted(&mut self, sys: &Path, name: &str) -> bool {
        if self.exclude.matches(name) {
            return false;
        }
        if self.partitions {
            return true;
        }
        if let Some(known) = self.is_partition.get(name) {
            return !known;
        }
        let block = sys.join("block");
        // sysfs has `!` where the device's name has a slash (`cciss/c0d0`).
        let is_partition = if block.is_dir() {
            !block.join(name.replace('/', "!")).exists()
        } else {
            named_like_partition(name)
        };
        self.is_partition.insert(name.to_owned(), is_partition);
        !is_partition
    }

    fn compare(&mut self, now: &[DiskStat], now_ms: u64, wrap: Wrap) -> Vec<Disk> {
        let mut devices = Vec::with_capacity(now.len());
        for (at, stat) in now.iter().enumerate() {
            let before = self.before.as_ref().and_then(|seen| {
                let same = |before: &&DiskStat| before.name == stat.name;
                let found = seen
                    .value
                    .get(at)
                    .filter(same)
                    .or_else(|| seen.value.iter().find(same));
                found.zip(seen.seconds_to(now_ms))
            });
            let anew = before.is_some_and(|(before, _)| began_anew(before, stat, wrap));
            if anew {
                *self.resets.entry(stat.name.clone()).or_default() += 1;
            }
            let mut device = disk(before.filter(|_| !anew), stat, wrap);
            device.resets = self.resets.get(&stat.name).copied().unwrap_or(0);
            devices.push(device);
        }
        devices
    }
}

impl Part for DisksPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let path = run.proc("diskstats");
        let (lines, mut skipped) = parse(&run.files.text(&path)?);
        let mut disks = run.lines(&path, lines)?;
        let all = disks.len();
        // Names that are gone are forgotten: what comes under the same name may be something else.
        self.is_partition
            .retain(|name, _| disks.iter().any(|disk| disk.name == *name));
        self.resets
            .retain(|name, _| disks.iter().any(|disk| disk.name == *name));
        disks.retain(|disk| self.wanted(&run.roots.sys, &disk.name));
        disks.truncate(DISKS_MAX);
        skipped += u32::try_from(all - disks.len()).unwrap_or(u32::MAX);
        let devices = self.compare(&disks, run.now.mono_ms, Wrap::LONG);
        run.snapshot.disks = Some(Disks { devices, skipped });
        self.before = Some(Seen {
            mono_ms: run.now.mono_ms,
            value: disks,
        });
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SDA: &str = "8 0 sda 100 5 2000 300 50 6 800 200 1 400 500";

    fn part() -> DisksPart {
        DisksPart::new(&Config::parse(&toml::Table::new(), &[]).unwrap())
    }

    fn one(line: &str) -> DiskStat {
        let (mut lines, _) = parse(line);
        lines.items.pop().unwrap()
    }

    #[test]
    fn kernels_old_and_new() {
        for (name, line, discards, flushes) in [
            ("2.6, 14 columns", SDA.to_owned(), None, None),
            ("4.18, 18 columns", format!("{SDA} 7 0 8 9"), Some(7), None),
            (
                "5.5, 20 columns",
                format!("{SDA} 7 0 8 9 10 11"),
                Some(7),
                Some(10),
            ),
            (
                "a later kernel's",
                format!("{SDA} 7 0 8 9 10 11 12 13"),
                Some(7),
                Some(10),
            ),
        ] {
            let disk = one(&line);
            assert_eq!((disk.discards, disk.flushes), (discards, flushes), "{name}");
        }
        let (lines, partitions) = parse(&format!("{SDA}\n8 1 sda1 1 2 3 4\n"));
        assert_eq!((lines.items.len(), lines.bad, partitions), (1, None, 1));
        let (lines, _) = parse(&format!("garbage\n{SDA}\n8 0 sda 1 2"));
        assert_eq!((lines.items.len(), lines.bad.unwrap().line), (1, 1));
    }

    #[test]
    fn partitions_by_name() {
        for (name, want) in [
            ("sda", false),
            ("sda1", true),
            ("sdaa12", true),
            ("vdb1", true),
            ("xvda1", true),
            ("nvme0n1", false),
            ("nvme0n1p2", true),
            ("mmcblk0", false),
            ("mmcblk0p1", true),
            ("md0", false),
            ("md127p1", true),
            ("dm-0", false),
            ("sd1", false),
            ("loop0", false),
            ("p1", false),
            ("", false),
        ] {
            assert_eq!(named_like_partition(name), want, "{name}");
        }
    }

    #[test]
    fn rates_and_waits() {
        let after = one("8 0 sda 110 5 2040 350 50 6 800 200 1 5400 10500");
        let disk = disk(Some((&one(SDA), 10.0)), &after, Wrap::Never);
        assert_eq!(
            disk.reads,
            Counter {
                total: 110,
                per_s: Some(1.0)
            }
        );
        assert_eq!(
            disk.read_bytes,
            Counter {
                total: 2040 * 512,
                per_s: Some(2048.0)
            }
        );
        assert_eq!((disk.read_wait_ms, disk.write_wait_ms), (Some(5.0), None));
        assert_eq!(
            (disk.utilisation_percent, disk.queue_length),
            (Some(50.0), Some(1.0))
        );
    }

    #[test]
    fn wraps_and_resets() {
        const TOP: u64 = u32::MAX as u64;
        let near_top = one(&format!("8 0 sda 100 0 {TOP} {TOP} 50 0 0 0 0 {TOP} {TOP}"));
        let wrapped = one("8 0 sda 110 0 1 99 50 0 0 0 0 999 999");
        for (name, wrap, anew, utilisation) in [
            ("32-bit kernel", Wrap::At32, false, Some(10.0)),
            ("64-bit kernel", Wrap::Never, true, None),
        ] {
            let anew_ = began_anew(&near_top, &wrapped, wrap);
            assert_eq!(anew_, anew, "{name}");
            let disk = disk(Some((&near_top, 10.0)).filter(|_| !anew_), &wrapped, wrap);
            assert_eq!(disk.utilisation_percent, utilisation, "{name}");
            assert_eq!(
                disk.read_bytes.per_s,
                utilisation.map(|_| 2.0 * 51.2),
                "{name}"
            );
        }
        let mut part = part();
        for (line, resets, rate) in [
            (SDA, 0, None),
            (SDA, 0, Some(0.0)),
            ("8 0 sda 9 0 0 0 0 0 0 0 0 0 0", 1, None),
        ] {
            let at_ms = part.before.as_ref().map_or(0, |seen| seen.mono_ms + 1000);
            let now = vec![one(line)];
            let disk = part.compare(&now, at_ms, Wrap::Never).pop().unwrap();
            assert_eq!((disk.resets, disk.reads.per_s), (resets, rate), "{line}");
            part.before = Some(Seen {
                mono_ms: at_ms,
                value: now,
            });
        }
    }
}
