//! `GetMemInfo`: every line of `/proc/meminfo`, in bytes, and the memory that is in use. `GetLoadAvg`: `/proc/loadavg`.

use serde::Serialize;

use super::super::refusal::Refusal;
use super::json::{Body, Ordered, pretty};

/// The answer to `GetMemInfo`. Lines that count pages, which say no `kB`, are left as they are.
pub(super) fn info(text: &str) -> Result<Body, Refusal> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let figure: u64 = words.next()?.parse().ok()?;
        let unit = if words.next().is_some() { 1024.0 } else { 1.0 };
        // Exact to 2^53, which is more memory than any machine has.
        Some((name.trim().to_owned(), figure as f64 * unit))
    };
    let mut map: Vec<(String, f64)> = text.lines().filter_map(line).collect();
    let bytes = |name: &str| {
        map.iter()
            .find(|(known, _)| known == name)
            .map(|(_, bytes)| *bytes)
    };
    let missing = || Refusal::unavailable("this kernel's meminfo names no MemTotal and MemFree");
    let (total, free) = bytes("MemTotal")
        .zip(bytes("MemFree"))
        .ok_or_else(missing)?;
    let cache = bytes("Buffers").unwrap_or(0.0) + bytes("Cached").unwrap_or(0.0);
    map.push(("MemUsed".to_owned(), total - free - cache));
    pretty(&Ordered(map))
}

#[derive(Debug, Serialize)]
struct Load<'a> {
    lavg_1: &'a str,
    lavg_5: &'a str,
    lavg_15: &'a str,
    nr: &'a str,
    last_pid: &'a str,
}

/// The answer to `GetLoadAvg`.
pub(super) fn load(text: &str) -> Result<Body, Refusal> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [lavg_1, lavg_5, lavg_15, nr, last_pid] = words[..] else {
        let error = format!("expected five words in loadavg, found {}", words.len());
        return Err(Refusal::unavailable(error));
    };
    pretty(&Load {
        lavg_1,
        lavg_5,
        lavg_15,
        nr,
        last_pid,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn memory_is_floats_in_bytes() {
        let text = "MemTotal:       16384 kB\nMemFree:         4096 kB\nMemAvailable:    8192 kB\nBuffers:          512 kB\nCached:          2048 kB\nActive(anon):    1 kB\nHugePages_Total:       3\nHugepagesize:       2048 kB\n";
        let want = "{\n    \"MemTotal\": 16777216.0,\n    \"MemFree\": 4194304.0,\n    \"MemAvailable\": 8388608.0,\n    \
                    \"Buffers\": 524288.0,\n    \"Cached\": 2097152.0,\n    \"Active(anon)\": 1024.0,\n    \
                    \"HugePages_Total\": 3.0,\n    \"Hugepagesize\": 2097152.0,\n    \"MemUsed\": 9961472.0\n}";
        assert_eq!(info(text).unwrap().0, want);
        for text in ["", "MemTotal: x kB", "MemTotal: 1 kB\n", "\u{0}:"] {
            assert!(info(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn load_is_strings() {
        let want = "{\n    \"lavg_1\": \"0.20\",\n    \"lavg_5\": \"0.18\",\n    \"lavg_15\": \"0.12\",\n    \
                    \"nr\": \"1/80\",\n    \"last_pid\": \"11206\"\n}";
        assert_eq!(load("0.20 0.18 0.12 1/80 11206\n").unwrap().0, want);
        for text in ["", "1 2 3 4", "1 2 3 4 5 6"] {
            assert!(load(text).is_err(), "{text:?}");
        }
    }
}
