//! What the kernel tells of one process. Pure parsers; knows no watch.
//!
//! Source: proc_pid_stat(5), proc_pid_limits(5), kernel `fs/proc/array.c`.

/// A process as `/proc/<pid>/stat` has it, in the kernel's own units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    /// The name; what is no UTF-8 in it is replaced.
    pub(super) name: String,
    pub(super) state: char,
    pub(super) parent: u32,
    /// User and system time.
    pub(super) cpu_ticks: u64,
    pub(super) threads: u64,
    /// Since boot; with the pid it names a process for as long as the host runs.
    pub(super) started_ticks: u64,
    pub(super) virtual_bytes: u64,
    pub(super) rss_pages: u64,
}

impl Stat {
    /// Whether it runs: a zombie has ended, and only its parent does not know yet.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads the line. The name may hold blanks and parentheses, so that the last one counts.
pub(super) fn parse(bytes: &[u8]) -> Option<Stat> {
    const UTIME: usize = 14; // fields as proc_pid_stat(5) counts them
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(bytes.get(..open)?)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let name = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let mut words = rest.split_ascii_whitespace();
    let mut state = words.next()?.chars();
    let (Some(state), None) = (state.next(), state.next()) else {
        return None;
    };
    let parent = words.next()?.parse().ok()?;
    let mut words = words.skip(UTIME - 5); // the state is the third, the parent the fourth
    let mut number = || words.next()?.parse::<i64>().ok();
    let (user, system) = (number()?, number()?);
    let [_, _, _, _, threads, _] = [
        number()?,
        number()?,
        number()?,
        number()?,
        number()?,
        number()?,
    ];
    let mut number = || words.next()?.parse::<u64>().ok();
    let (started_ticks, virtual_bytes, rss_pages) = (number()?, number()?, number()?);
    let positive = |number: i64| u64::try_from(number).unwrap_or_default();
    Some(Stat {
        pid,
        name,
        state,
        parent,
        cpu_ticks: positive(user).saturating_add(positive(system)),
        threads: positive(threads),
        started_ticks,
        virtual_bytes,
        rss_pages,
    })
}

/// The limit of open files in `/proc/<pid>/limits`: the soft one.
pub(super) fn open_files_max(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The moment of boot in `/proc/stat`, in seconds since 1970.
pub(super) fn boot_time_s(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The process id that a pidfile holds: the first word of its first line that has one.
pub(super) fn pidfile(text: &str) -> Option<u32> {
    let pid = text.split_ascii_whitespace().next()?.parse().ok()?;
    (pid > 0).then_some(pid)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "4242 (cod4 (x) R) S 17 4242 4242 0 -1 4194560 30359 304098 0 176 49 231 843 611 20 0 13 0 2600 43495424 321 18446744073709551615 1 1 0 0";

    #[test]
    fn a_line_gives_its_fields() {
        let want = Stat {
            pid: 4242,
            name: "cod4 (x) R".to_owned(),
            state: 'S',
            parent: 17,
            cpu_ticks: 49 + 231,
            threads: 13,
            started_ticks: 2600,
            virtual_bytes: 43_495_424,
            rss_pages: 321,
        };
        assert_eq!(parse(LINE.as_bytes()), Some(want));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 (x) S"), None);
        assert!(
            !parse(LINE.replace(") S ", ") Z ").as_bytes())
                .unwrap()
                .is_alive()
        );
    }

    #[test]
    fn small_files() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\nMax processes             7823                 7823                 processes\nMax open files            1024                 1048576              files\n";
        assert_eq!(open_files_max(limits), Some(1024));
        assert_eq!(
            open_files_max("Max open files unlimited unlimited files"),
            None
        );
        assert_eq!(
            boot_time_s("cpu 1 2\nbtime 1700000000\nprocesses 7\n"),
            Some(1_700_000_000)
        );
        for (text, want) in [
            ("17\n", Some(17)),
            (" 17 x", Some(17)),
            ("", None),
            ("x", None),
            ("0", None),
            ("-3", None),
        ] {
            assert_eq!(pidfile(text), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(at in 0..LINE.len(), byte: u8, cut in 0..LINE.len()) {
            let mut bytes = LINE.as_bytes().to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            _ = parse(&bytes);
            _ = parse(bytes.get(..cut).unwrap_or_default());
        }
    }
}
