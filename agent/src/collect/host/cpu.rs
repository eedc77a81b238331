//! Processor time per mode and core, from `/proc/stat` (kernel: `fs/proc/stat.c`, man 5 proc).
//!
//! procfs's `KernelStats` is not used: it drops the cores' numbers, so that an offline core would shift the others,
//! and it knows neither interrupts nor a line that one core's failure leaves good.

use muster_proto::snapshot::host::{Cpu, CpuPercent, CpuSeconds, CpuUse};

use super::super::files::{ParseError, number};
use super::super::rate::{Seen, Wrap, counter, lossy, percent, thousandth};
use super::{Part, PartFailed, Run};

/// Cores shown at the most, twice what Linux can be built for on x86.
const CORES_MAX: usize = 16 << 10;

/// Ticks in each mode, in the order of the kernel: user, nice, system, idle, iowait, irq, softirq, steal, guest,
/// guest_nice. User and nice are without the guests that the kernel counts in them.
type Modes = [u64; 10];

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stat {
    total: Modes,
    cores: Vec<(u32, Modes)>,
    bad: Option<ParseError>,
    context_switches: Option<u64>,
    interrupts: Option<u64>,
    soft_interrupts: Option<u64>,
    forks: Option<u64>,
    running: Option<u64>,
    blocked: Option<u64>,
}

pub(super) fn parse(text: &str) -> Result<Stat, ParseError> {
    let mut stat = Stat::default();
    let mut total = None;
    for (at, line) in text.lines().enumerate() {
        let Some((name, rest)) = line.split_once(' ') else {
            continue;
        };
        match name {
            "cpu" => {
                total = Some(modes(rest).ok_or_else(|| ParseError::at(at, "ticks per mode", line))?)
            }
            "ctxt" => stat.context_switches = number(rest),
            "intr" => stat.interrupts = number(rest),
            "softirq" => stat.soft_interrupts = number(rest),
            "processes" => stat.forks = number(rest),
            "procs_running" => stat.running = number(rest),
            "procs_blocked" => stat.blocked = number(rest),
            _ => match (name.strip_prefix("cpu").map(str::parse), modes(rest)) {
                (None, _) => {}
                (Some(Ok(core)), Some(modes)) if stat.cores.len() < CORES_MAX => {
                    stat.cores.push((core, modes))
                }
                _ => {
                    stat.bad = stat.bad.take().or(Some(ParseError::at(
                        at,
                        "a core's ticks per mode",
                        line,
                    )))
                }
            },
        }
    }
    stat.total = total.ok_or_else(|| ParseError::missing("a line `cpu`"))?;
    Ok(stat)
}

/// The first four are in every kernel, the others came one by one until 2.6.33.
fn modes(text: &str) -> Option<Modes> {
    let mut ticks: Modes = [0; 10];
    let mut found = 0;
    for (place, word) in ticks.iter_mut().zip(text.split_ascii_whitespace()) {
        *place = word.parse().ok()?;
        found += 1;
    }
    let [
        user,
        nice,
        system,
        idle,
        iowait,
        irq,
        softirq,
        steal,
        guest,
        guest_nice,
    ] = ticks;
    let user = user.saturating_sub(guest);
    let nice = nice.saturating_sub(guest_nice);
    (found >= 4).then_some([
        user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice,
    ])
}

fn seconds(modes: &Modes, ticks_per_s: u64) -> CpuSeconds {
    let [
        user_s,
        nice_s,
        system_s,
        idle_s,
        iowait_s,
        irq_s,
        softirq_s,
        steal_s,
        guest_s,
        guest_nice_s,
    ] = modes.map(|ticks| lossy(ticks) / lossy(ticks_per_s.max(1)));
    CpuSeconds {
        user_s,
        nice_s,
        system_s,
        idle_s,
        iowait_s,
        irq_s,
        softirq_s,
        steal_s,
        guest_s,
        guest_nice_s,
    }
}

/// Shares of the interval, and how many modes went backwards in it; those count as zero.
fn shares(before: &Modes, after: &Modes) -> (Option<CpuPercent>, u32) {
    let mut clamped = 0;
    let mut grown = *after;
    for (after, before) in grown.iter_mut().zip(before) {
        clamped += u32::from(*after < *before);
        *after = after.saturating_sub(*before);
    }
    let whole = grown
        .iter()
        .fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
    if whole == 0 {
        return (None, clamped);
    }
    let [
        user,
        nice,
        system,
        idle,
        iowait,
        irq,
        softirq,
        steal,
        guest,
        guest_nice,
    ] = grown.map(|ticks| percent(ticks, whole));
    let shares = CpuPercent {
        busy_percent: thousandth((100.0 - idle - iowait).max(0.0)),
        user_percent: user,
        nice_percent: nice,
        system_percent: system,
        idle_percent: idle,
        iowait_percent: iowait,
        irq_percent: irq,
        softirq_percent: softirq,
        steal_percent: steal,
        guest_percent: guest,
        guest_nice_percent: guest_nice,
    };
    (Some(shares), clamped)
}

fn compare(before: Option<&Seen<Stat>>, after: &Stat, now_ms: u64, ticks_per_s: u64) -> Cpu {
    let mut clamped = 0;
    let mut one = |core, before: Option<&Modes>, after: &Modes| {
        let (interval, backwards) = before.map_or((None, 0), |before| shares(before, after));
        clamped += backwards;
        CpuUse {
            core,
            since_boot: seconds(after, ticks_per_s),
            interval,
        }
    };
    let total = one(None, before.map(|before| &before.value.total), &after.total);
    let mut cores = Vec::with_capacity(after.cores.len());
    for (at, (core, modes)) in after.cores.iter().enumerate() {
        // Mostly at the same place; elsewhere when cores have come or gone.
        let before = before.and_then(|before| {
            let known = &before.value.cores;
            let found = known.get(at).filter(|(known, _)| known == core);
            found
                .or_else(|| known.iter().find(|(known, _)| known == core))
                .map(|(_, modes)| modes)
        });
        cores.push(one(Some(*core), before, modes));
    }
    let seconds = before.and_then(|before| before.seconds_to(now_ms));
    let count = |total: Option<u64>, of: fn(&Stat) -> Option<u64>| {
        let before = before.and_then(|before| of(&before.value)).zip(seconds);
        total.map(|total| counter(total, before, Wrap::Never))
    };
    Cpu {
        total,
        cores,
        clamped,
        context_switches: count(after.context_switches, |stat| stat.context_switches),
        interrupts: count(after.interrupts, |stat| stat.interrupts),
        soft_interrupts: count(after.soft_interrupts, |stat| stat.soft_interrupts),
        forks: count(after.forks, |stat| stat.forks),
        running: after.running,
        blocked: after.blocked,
    }
}

pub(super) struct CpuPart {
    ticks_per_s: u64,
    before: Option<Seen<Stat>>,
}

impl CpuPart {
    pub(super) fn new(ticks_per_s: u64) -> Self {
        Self {
            ticks_per_s,
            before: None,
        }
    }
}

impl Part for CpuPart {
    fn sample(&mut self, run: &mut Run<'_>) -> Result<(), PartFailed> {
        let path = run.proc("stat");
        let mut stat =
            parse(&run.files.text(&path)?).map_err(|error| PartFailed::parse(&path, error))?;
        if let Some(error) = stat.bad.take() {
            run.note(PartFailed::parse(&path, error));
        }
        run.snapshot.cpu = Some(compare(
            self.before.as_ref(),
            &stat,
            run.now.mono_ms,
            self.ticks_per_s,
        ));
        self.before = Some(Seen {
            mono_ms: run.now.mono_ms,
            value: stat,
        });
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn kernels_old_and_new() {
        for (name, text, total, cores) in [
            (
                "2.4",
                "cpu 1 2 3 4\ncpu0 1 2 3 4\n",
                [1, 2, 3, 4, 0, 0, 0, 0, 0, 0],
                vec![0],
            ),
            (
                "offline core",
                "cpu  9 2 3 4 5 6 7 8 4 1\ncpu0 0 0 0 0\ncpu2 0 0 0 0\n",
                [5, 1, 3, 4, 5, 6, 7, 8, 4, 1],
                vec![0, 2],
            ),
            (
                "a later kernel's eleventh mode",
                "cpu  1 1 1 1 1 1 1 1 0 0 77 88\n",
                [1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
                vec![],
            ),
            (
                "guest above user",
                "cpu  1 1 1 1 1 1 1 1 2 3\n",
                [0, 0, 1, 1, 1, 1, 1, 1, 2, 3],
                vec![],
            ),
        ] {
            let stat = parse(text).unwrap();
            assert_eq!(stat.total, total, "{name}");
            assert_eq!(
                stat.cores.iter().map(|(core, _)| *core).collect::<Vec<_>>(),
                cores,
                "{name}"
            );
        }
    }

    #[test]
    fn garbage_is_refused_and_one_bad_core_is_not_fatal() {
        for text in [
            "",
            "cpu 1 2 3\n",
            "cpu a b c d\n",
            "cpu0 1 2 3 4\n",
            "\u{0}\u{fffd}",
            "cpu 99999999999999999999 1 1 1",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let stat = parse("cpu 1 2 3 4\ncpu0 1 2 x 4\ncpux 1 2 3 4\ncpu1 1 2 3 4\n").unwrap();
        assert_eq!(stat.cores.len(), 1);
        assert_eq!(stat.bad.unwrap().line, 2);
    }

    #[test]
    fn shares_add_up_and_going_back_is_clamped() {
        let before = [100, 0, 50, 1000, 30, 0, 0, 0, 0, 0];
        let (shares_, clamped) = shares(&before, &[150, 0, 75, 1020, 20, 0, 5, 0, 0, 0]);
        let shares_ = shares_.unwrap();
        assert_eq!(
            (
                shares_.user_percent,
                shares_.system_percent,
                shares_.idle_percent
            ),
            (50.0, 25.0, 20.0)
        );
        assert_eq!(
            (
                shares_.iowait_percent,
                shares_.softirq_percent,
                shares_.busy_percent
            ),
            (0.0, 5.0, 80.0)
        );
        assert_eq!(clamped, 1);
        assert_eq!(shares(&before, &before), (None, 0), "no time accounted");
        assert_eq!(
            shares(&before, &[0; 10]),
            (None, 4),
            "everything began anew"
        );
    }

    #[test]
    fn a_core_is_compared_with_itself() {
        let before = Seen {
            mono_ms: 0,
            value: parse("cpu 0 0 0 0\ncpu1 0 0 0 0\ncpu2 9 0 0 0\nctxt 5\n").unwrap(),
        };
        let after = parse("cpu 2 0 0 2\ncpu2 9 0 0 4\ncpu3 1 0 0 0\nctxt 25\n").unwrap();
        let cpu = compare(Some(&before), &after, 10_000, 100);
        let idle: Vec<_> = cpu
            .cores
            .iter()
            .map(|core| core.interval.as_ref().map(|shares| shares.idle_percent))
            .collect();
        assert_eq!(idle, [Some(100.0), None]);
        assert_eq!(cpu.cores.first().unwrap().since_boot.user_s, 0.09);
        assert_eq!(cpu.context_switches.unwrap().per_s, Some(2.0));
    }
}
