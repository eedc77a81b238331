//! Processes by state, from `/proc/<pid>/stat` (kernel: `fs/proc/array.c`).
//!
//! Hosts have thousands of processes and this runs every few seconds: one open directory, one buffer, three system
//! calls per process, nothing allocated. procfs's `Stat` is not used: it allocates, parses fifty fields, and panics on
//! a line cut short.

use std::mem::MaybeUninit;

use muster_proto::snapshot::host::Processes;
use rustix::fs::{Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

use super::{Part, PartFailed, Run};

/// Room for a name of 16 bytes and fifty figures; the state and the threads stand in front.
const STAT_BYTES: usize = 1024;
/// Room for some hundred directory entries at a time.
const DIRECTORY_BYTES: usize = 8 << 10;
/// Processes looked at in one run, about 50 ms of work.
const PROCESSES_MAX: u32 = 10_000;

/// State letter and number of threads. The name may hold blanks and parentheses, so that the last one counts.
pub(super) fn parse(stat: &[u8]) -> Option<(u8, u64)> {
    const THREADS_AFTER_STATE: usize = 17;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut words = stat
        .get(end + 1..)?
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let [state] = words.next()? else { return None };
    let threads = words.nth(THREADS_AFTER_STATE - 1)?;
    Some((*state, std::str::from_utf8(threads).ok()?.parse().ok()?))
}

fn count(processes: &mut Processes, state: u8, threads: u64) {
    processes.total += 1;
    processes.threads = processes.threads.saturating_add(threads);
    *match state {
        b'R' => &mut processes.running,
        b'S' => &mut processes.sleeping,
        b'D' => &mut processes.disk_sleep,
        b'Z' => &mut processes.zombie,
        b'T' => &mut processes.stopped,
        b't' => &mut processes.traced,
        b'I' => &mut processes.idle,
        _ => &mut processes.other,
    } += 1;
}

#[derive(Default)]
pub(super) struct ProcessesPart {
    directory: Vec<u8>,
    stat: Vec<u8>,
}

impl Part for ProcessesPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let failed =
            |error: Errno| PartFailed::Other(format!("read {}: {error}", run.roots.proc.display()));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open(&run.roots.proc, flags, Mode::empty()).map_err(failed)?;
        self.directory.reserve_exact(DIRECTORY_BYTES);
        self.stat.resize(STAT_BYTES, 0);
        let room: &mut [MaybeUninit<u8>] = self.directory.spare_capacity_mut();
        let mut entries = RawDir::new(&proc, room);
        let mut processes = Processes::default();
        let mut bad = None;
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if !name.iter().all(u8::is_ascii_digit) {
                continue;
            }
            if processes.total >= PROCESSES_MAX {
                run.note(format!(
                    "more than {PROCESSES_MAX} processes, the rest is not counted"
                ));
                break;
            }
            match read_stat(&proc, name, &mut self.stat).map(parse) {
                Ok(Some((state, threads))) => count(&mut processes, state, threads),
                Ok(None) => bad = bad.or_else(|| Some(String::from_utf8_lossy(name).into_owned())),
                // It ended in between; or it belongs to others, and they are hidden.
                Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if let Some(pid) = bad {
            run.note(format!(
                "parse {}/{pid}/stat: expected a state and twenty figures",
                run.roots.proc.display()
            ));
        }
        run.snapshot.processes = Some(processes);
        Ok(())
    }
}

fn read_stat<'a>(
    proc: &rustix::fd::OwnedFd,
    pid: &[u8],
    buffer: &'a mut [u8],
) -> Result<&'a [u8], Errno> {
    // One path, so that the process is looked up once.
    let mut path = [0_u8; 32];
    let suffix = b"/stat";
    let length = pid.len() + suffix.len();
    let Some(place) = path.get_mut(..length) else {
        return Err(Errno::NOENT);
    };
    let (front, back) = place.split_at_mut(pid.len());
    front.copy_from_slice(pid);
    back.copy_from_slice(suffix);
    let file = openat(
        proc,
        &*place,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let count = rustix::io::read(&file, &mut *buffer)?;
    Ok(buffer.get(..count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_threads() {
        let tail = "0 0 0 0 -1 4194560 30359 304098 0 176 49 231 843 611 20 0 13 0 26 43495424";
        for (name, line, want) in [
            ("plain", format!("1 (init) S {tail}"), Some((b'S', 13))),
            (
                "blanks and parentheses in the name",
                format!("7 (a) R (b)) D {tail}"),
                Some((b'D', 13)),
            ),
            (
                "cut off after the threads",
                "1 (x) Z 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1".to_owned(),
                Some((b'Z', 1)),
            ),
            ("cut off before", "1 (x) Z 0 0 0".to_owned(), None),
            ("no name", format!("1 S {tail}"), None),
            (
                "no figure",
                format!("1 (x) S {}", tail.replace("13", "?")),
                None,
            ),
            ("long state", format!("1 (x) SS {tail}"), None),
            ("empty", String::new(), None),
            ("name at the end", "1 (x)".to_owned(), None),
        ] {
            assert_eq!(parse(line.as_bytes()), want, "{name}");
        }
    }

    #[test]
    fn states_add_up_to_the_total() {
        let mut processes = Processes::default();
        for state in b"RSDZTtIXP?" {
            count(&mut processes, *state, 2);
        }
        let Processes {
            total,
            threads,
            running,
            sleeping,
            disk_sleep,
            zombie,
            stopped,
            traced,
            idle,
            other,
        } = processes;
        assert_eq!((total, threads, other), (10, 20, 3));
        assert_eq!(
            running + sleeping + disk_sleep + zombie + stopped + traced + idle + other,
            total
        );
    }
}
