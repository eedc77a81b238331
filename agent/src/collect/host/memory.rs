//! Memory and swap, from `/proc/meminfo` and `/proc/vmstat` (kernel: `fs/proc/meminfo.c`, `mm/vmstat.c`).
//!
//! procfs's `Meminfo` is not used: it refuses a file in which any of fifteen fields is missing, as in containers, may
//! panic on garbage, and builds a map of sixty strings each time. Its `VmStat` builds one of two hundred.

use muster_proto::event::Severity;
use muster_proto::snapshot::host::Memory;
use serde_json::json;

use super::super::files::{ParseError, number};
use super::super::rate::{Seen, Wrap, growth, percent};
use super::counters::{self, Named};
use super::{Part, PartFailed, Run, change};

pub(super) fn parse(text: &str) -> Result<Memory, ParseError> {
    let mut memory = Memory::default();
    let (mut total, mut free, mut available) = (None, None, None);
    for (at, line) in text.lines().enumerate() {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let value = number(rest);
        let bytes = value.map(|kib| kib.saturating_mul(1024));
        match name {
            "MemTotal" => total = bytes,
            "MemFree" => free = bytes,
            "MemAvailable" => available = bytes,
            "Buffers" => memory.buffers_bytes = bytes.unwrap_or(0),
            "Cached" => memory.cached_bytes = bytes.unwrap_or(0),
            "Shmem" => memory.shared_bytes = bytes,
            "AnonPages" => memory.anonymous_bytes = bytes,
            "Slab" => memory.slab_bytes = bytes,
            "SReclaimable" => memory.slab_reclaimable_bytes = bytes,
            "SUnreclaim" => memory.slab_unreclaimable_bytes = bytes,
            "PageTables" => memory.page_tables_bytes = bytes,
            "KernelStack" => memory.kernel_stack_bytes = bytes,
            "Dirty" => memory.dirty_bytes = bytes,
            "Writeback" => memory.writeback_bytes = bytes,
            "Committed_AS" => memory.committed_bytes = bytes,
            "CommitLimit" => memory.commit_limit_bytes = bytes,
            "SwapTotal" => memory.swap_total_bytes = bytes.unwrap_or(0),
            "SwapFree" => memory.swap_free_bytes = bytes.unwrap_or(0),
            "SwapCached" => memory.swap_cached_bytes = bytes,
            "HugePages_Total" => memory.hugepages_total = value,
            "HugePages_Free" => memory.hugepages_free = value,
            "HugePages_Rsvd" => memory.hugepages_reserved = value,
            "Hugepagesize" => memory.hugepage_size_bytes = bytes,
            _ => continue,
        }
        if value.is_none() {
            return Err(ParseError::at(at, "a number of kB", line));
        }
    }
    memory.total_bytes = total.ok_or_else(|| ParseError::missing("MemTotal"))?;
    memory.free_bytes = free.ok_or_else(|| ParseError::missing("MemFree"))?;
    memory.available_estimated = available.is_none();
    memory.available_bytes = available
        .unwrap_or_else(|| estimate(&memory))
        .min(memory.total_bytes);
    memory.used_percent = percent(
        memory.total_bytes.saturating_sub(memory.available_bytes),
        memory.total_bytes,
    );
    Ok(memory)
}

/// What kernels before 3.14 don't tell: the page cache counts, but for the shared memory in it, which has no file to
/// go to.
fn estimate(memory: &Memory) -> u64 {
    let cache = memory
        .cached_bytes
        .saturating_sub(memory.shared_bytes.unwrap_or(0));
    [
        memory.free_bytes,
        memory.buffers_bytes,
        cache,
        memory.slab_reclaimable_bytes.unwrap_or(0),
    ]
    .into_iter()
    .fold(0, u64::saturating_add)
}

/// What `/proc/vmstat` adds.
static VMSTAT: &[Named<Memory>] = &[
    ("oom_kill", |memory| &mut memory.oom_kills),
    ("pswpin", |memory| &mut memory.swap_in_bytes),
    ("pswpout", |memory| &mut memory.swap_out_bytes),
    ("pgmajfault", |memory| &mut memory.major_faults),
];

/// Reads `/proc/vmstat`, whose swap counters are in pages.
pub(super) fn parse_vmstat(text: &str, page_bytes: u64, memory: &mut Memory) {
    counters::fill(VMSTAT, counters::pairs(text), memory);
    for counter in [&mut memory.swap_in_bytes, &mut memory.swap_out_bytes]
        .into_iter()
        .flatten()
    {
        counter.total = counter.total.saturating_mul(page_bytes);
    }
}

pub(super) struct MemoryPart {
    page_bytes: u64,
    before: Option<Seen<Memory>>,
}

impl MemoryPart {
    pub(super) fn new(page_bytes: u64) -> Self {
        Self {
            page_bytes,
            before: None,
        }
    }
}

impl Part for MemoryPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let path = run.proc("meminfo");
        let mut memory =
            parse(&run.files.text(&path)?).map_err(|error| PartFailed::parse(&path, error))?;
        let path = run.proc("vmstat");
        match run.files.text(&path) {
            Ok(text) => parse_vmstat(&text, self.page_bytes, &mut memory),
            Err(error) => run.note(error),
        }
        if let Some(mut before) = self.before.take() {
            let seconds = before.seconds_to(run.now.mono_ms);
            counters::rates(VMSTAT, &mut before.value, &mut memory, seconds, Wrap::LONG);
            oom_kills(run, &before.value, &memory);
        }
        run.snapshot.memory = Some(memory.clone());
        self.before = Some(Seen {
            mono_ms: run.now.mono_ms,
            value: memory,
        });
        Ok(())
    }
}

fn oom_kills(run: &mut Run<'_>, before: &Memory, after: &Memory) {
    let Some((before, after)) = before.oom_kills.zip(after.oom_kills) else {
        return;
    };
    let Some(killed) = growth(before.total, after.total, Wrap::LONG).filter(|killed| *killed > 0)
    else {
        return;
    };
    let summary = format!("{killed} process(es) killed for want of memory");
    let (before, after) = (
        json!({"oom_kills": before.total}),
        json!({"oom_kills": after.total}),
    );
    let mut change = change(
        "host.oom.kill",
        Severity::Error,
        "host",
        summary,
        before,
        after,
    );
    change.fields.insert("killed".to_owned(), json!(killed));
    run.changes.push(change);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn available_is_told_or_estimated() {
        const KIB: u64 = 1024;
        for (name, text, available, estimated, used) in [
            (
                "3.14",
                "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\n",
                600,
                false,
                40.0,
            ),
            (
                "2.6.32",
                "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 300 kB\nShmem: 80 kB\nSReclaimable: 30 kB\n",
                400,
                true,
                60.0,
            ),
            (
                "2.6.18, no Shmem",
                "MemTotal: 1000 kB\nMemFree: 100 kB\nCached: 300 kB\n",
                400,
                true,
                60.0,
            ),
            (
                "more available than there is",
                "MemTotal: 10 kB\nMemFree: 1 kB\nMemAvailable: 20 kB\n",
                10,
                false,
                0.0,
            ),
        ] {
            let memory = parse(text).unwrap();
            assert_eq!(memory.available_bytes, available * KIB, "{name}");
            assert_eq!(memory.available_estimated, estimated, "{name}");
            assert_eq!(memory.used_percent, used, "{name}");
        }
    }

    #[test]
    fn garbage_is_refused_and_huge_figures_saturate() {
        for text in [
            "",
            "MemTotal: 5 kB\n",
            "MemTotal: x kB\nMemFree: 1 kB",
            "MemFree: 1 kB",
            "MemTotal:\nMemFree:\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let memory = parse(
            "MemTotal: 18446744073709551615 kB\nMemFree: 0 kB\nSlab: 18446744073709551615 kB\n",
        )
        .unwrap();
        assert_eq!(memory.total_bytes, u64::MAX);
    }

    #[test]
    fn vmstat_is_in_pages() {
        let mut memory = Memory::default();
        parse_vmstat(
            "nr_free_pages 5\npswpin 3\noom_kill 2\npgmajfault x\n",
            4096,
            &mut memory,
        );
        assert_eq!(memory.swap_in_bytes.unwrap().total, 12_288);
        assert_eq!(memory.oom_kills.unwrap().total, 2);
        assert_eq!(memory.major_faults, None);
        assert_eq!(memory.swap_out_bytes, None);
    }
}
