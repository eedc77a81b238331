//! `GetHddInfo`: the local filesystems that hold files, as `df -lhT` prints them.

use std::sync::Arc;

use muster_proto::snapshot::host::Filesystem;
use serde::Serialize;
use tokio::sync::Mutex;

use super::super::refusal::Refusal;
use super::blocking;
use super::json::{Body, Ordered, spaced};
use crate::collect::host::Host;
use crate::collect::{HostRoots, SampleTime};

/// The letters of `df -h`, from 1024 on.
const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];

#[derive(Debug, Serialize)]
struct Disk {
    file_system: String,
    #[serde(rename = "type")]
    fs_type: String,
    size: String,
    used: String,
    avail: String,
    used_percent: String,
    mounted_on: String,
}

/// A size as df(1) rounds it: always up, with one digit behind the point below ten.
fn human(bytes: u64) -> String {
    let bytes = u128::from(bytes);
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut unit: u128 = 1024;
    for letter in UNITS {
        let tenths = (bytes * 10).div_ceil(unit);
        if tenths < 100 {
            return format!("{}.{}{letter}", tenths / 10, tenths % 10);
        }
        let whole = bytes.div_ceil(unit);
        if whole < 1024 {
            return format!("{whole}{letter}");
        }
        unit *= 1024;
    }
    format!("{}E", bytes.div_ceil(unit / 1024))
}

/// The share of what users can have that is used, rounded up.
fn percent(used: u64, available: u64) -> String {
    let (used, all) = (u128::from(used), u128::from(used) + u128::from(available));
    if all == 0 {
        return "-".to_owned();
    }
    format!("{}%", (used * 100).div_ceil(all))
}

/// By device; of several filesystems that name the same one, the first.
fn shape(filesystems: &[Filesystem]) -> Ordered<Disk> {
    let mut disks: Vec<(String, Disk)> = Vec::new();
    for filesystem in filesystems {
        if disks.iter().any(|(known, _)| *known == filesystem.source) {
            continue;
        }
        let used = filesystem.size_bytes.saturating_sub(filesystem.free_bytes);
        let disk = Disk {
            file_system: filesystem.source.clone(),
            fs_type: filesystem.fs_type.clone(),
            size: human(filesystem.size_bytes),
            used: human(used),
            avail: human(filesystem.available_bytes),
            used_percent: percent(used, filesystem.available_bytes),
            mounted_on: filesystem.mount_point.clone(),
        };
        disks.push((filesystem.source.clone(), disk));
    }
    Ordered(disks)
}

/// Asks the filesystems; keeps those that hang apart from one time to the next.
#[derive(Clone, Default)]
pub(super) struct Disks(Arc<Mutex<Option<Host>>>);

impl Disks {
    /// The answer to `GetHddInfo`.
    pub(super) async fn read(&self, roots: &HostRoots) -> Result<Body, Refusal> {
        let mut host = self.0.clone().lock_owned().await;
        if host.is_none() {
            let built = Host::of_part("filesystems", roots, section());
            *host = Some(built.map_err(|error| Refusal::unavailable(error.to_string()))?);
        }
        let now = SampleTime {
            wall_ms: muster_link::stamp::now_ms(),
            mono_ms: 0, // nothing here is a rate
        };
        // Whoever hangs up does not take the lock away from those who ask.
        let snapshot = blocking(move || host.as_mut().map(|host| host.sample(now).0)).await?;
        let snapshot = snapshot.unwrap_or_default();
        match snapshot.filesystems {
            Some(filesystems) => spaced(&shape(&filesystems.mounts)),
            None => {
                let why = snapshot.errors.into_iter().next();
                let why = why.map_or("none is mounted".to_owned(), |why| why.error);
                Err(Refusal::unavailable(format!("list the filesystems: {why}")))
            }
        }
    }
}

/// The collector's section: everything local but what lives in memory, and what the machine boots from.
fn section() -> toml::Table {
    let list = |names: &[&str]| toml::Value::from(names.to_vec());
    [
        (
            "filesystem_types_exclude",
            list(&["*tmpfs", "autofs", "rootfs"]),
        ),
        ("mounts_exclude", list(&["/boot", "/boot/*"])),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into_iter()
    .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_df_prints_them() {
        for (bytes, want) in [
            (0, "0"),
            (1, "1"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (1126, "1.1K"),
            (1127, "1.2K"),
            (10 * 1024 - 1, "10K"),
            (10 * 1024 + 1, "11K"),
            (1023 * 1024, "1023K"),
            (1023 * 1024 + 1, "1.0M"),
            (1 << 20, "1.0M"),
            (20 << 30, "20G"),
            (3 << 40, "3.0T"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(human(bytes), want, "{bytes}");
        }
        assert_eq!(
            (
                &*percent(0, 0),
                &*percent(0, 5),
                &*percent(1, 1000),
                &*percent(5, 0)
            ),
            ("-", "0%", "1%", "100%")
        );
    }

    #[test]
    fn a_map_by_device() {
        let filesystem = |source: &str, mount_point: &str| Filesystem {
            source: source.to_owned(),
            mount_point: mount_point.to_owned(),
            fs_type: "ext4".to_owned(),
            size_bytes: 100 << 30,
            free_bytes: 70 << 30,
            available_bytes: 65 << 30,
            ..Filesystem::default()
        };
        let found = spaced(&shape(&[
            filesystem("/dev/vda1", "/"),
            filesystem("/dev/vda1", "/mnt"),
        ]))
        .unwrap();
        let want = r#"{"/dev/vda1": {"file_system": "/dev/vda1", "type": "ext4", "size": "100G", "used": "30G", "avail": "65G", "used_percent": "32%", "mounted_on": "/"}}"#;
        assert_eq!(found.0, want);
        assert_eq!(spaced(&shape(&[])).unwrap().0, "{}");
    }

    #[test]
    fn the_section_is_one() {
        assert!(Host::of_part("filesystems", &HostRoots::default(), section()).is_ok());
    }
}
