//! What the agent finds out about its host once, at its start: by these facts jobs are targeted. Reads files under the
//! given roots; knows neither config nor broker.

use std::collections::BTreeMap;
use std::path::Path;

use crate::collect::HostRoots;

/// What is known of a host for as long as the agent lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `os.id`, `os.version`, `kernel`, `arch`, `cpus`, `memory_bytes`; one that can't be found out is left out.
    pub facts: BTreeMap<String, String>,
    /// The kernel's boot id; another one is a reboot. Empty where the kernel does not tell.
    pub boot_id: String,
}

/// Longest value: facts travel in every presence.
const VALUE_BYTES_MAX: usize = 128;

impl Facts {
    /// Looks at the host.
    #[must_use]
    pub fn find(roots: &HostRoots) -> Self {
        let uname = rustix::system::uname();
        let release = read(&roots.root.join("etc/os-release"))
            .or_else(|| read(&roots.root.join("usr/lib/os-release")))
            .unwrap_or_default();
        let found = [
            ("os.id", os_release(&release, "ID")),
            ("os.version", os_release(&release, "VERSION_ID")),
            (
                "kernel",
                Some(uname.release().to_string_lossy().into_owned()),
            ),
            ("arch", Some(uname.machine().to_string_lossy().into_owned())),
            (
                "cpus",
                read(&roots.proc.join("stat")).map(|text| cpus(&text).to_string()),
            ),
            (
                "memory_bytes",
                read(&roots.proc.join("meminfo")).and_then(|text| memory_bytes(&text)),
            ),
        ];
        let fits = |(name, value): (&str, Option<String>)| {
            let value =
                value.filter(|value| !value.is_empty() && value.len() <= VALUE_BYTES_MAX)?;
            Some((name.to_owned(), value))
        };
        let boot_id = read(&roots.proc.join("sys/kernel/random/boot_id")).unwrap_or_default();
        Self {
            facts: found.into_iter().filter_map(fits).collect(),
            boot_id: boot_id.trim().to_owned(),
        }
    }
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The value of `key` in the text of os-release(5), without its quotes.
pub(crate) fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Processors that are online, by the lines of `/proc/stat` (proc(5)).
fn cpus(stat: &str) -> usize {
    let numbered = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    stat.lines().filter(numbered).count()
}

/// `MemTotal` of `/proc/meminfo`, which counts in KiB.
fn memory_bytes(meminfo: &str) -> Option<String> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024).to_string())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_the_given_roots() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            (
                "etc/os-release",
                "NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n",
            ),
            ("proc/stat", "cpu  1 2 3\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n"),
            ("proc/meminfo", "MemTotal:       2048 kB\nMemFree: 1 kB\n"),
            ("proc/sys/kernel/random/boot_id", "0a0b\n"),
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = Facts::find(&HostRoots::at(dir.path()));
        let fact = |name: &str| found.facts.get(name).map(String::as_str);
        assert_eq!(fact("os.id"), Some("debian"));
        assert_eq!(fact("os.version"), Some("12"));
        assert_eq!(fact("cpus"), Some("2"));
        assert_eq!(fact("memory_bytes"), Some("2097152"));
        assert!(fact("kernel").is_some());
        assert_eq!(found.boot_id, "0a0b");
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let found = Facts::find(&HostRoots::at(dir.path()));
        assert_eq!(found.facts.keys().collect::<Vec<_>>(), ["arch", "kernel"]);
        assert_eq!(found.boot_id, "");
    }
}
