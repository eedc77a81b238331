//! The figures of the services' snapshot.

use super::Fold::{Max, Min, Sum};
use super::Unit::{Bytes, Microseconds, MomentMilliseconds, One, Percent};
use super::{Declared, Label, Table, amount, counter, gauge, label, state};

pub(super) static DECLARED: Declared = Declared {
    collector: "services",
    tables: TABLES,
    left_out: &[
        ("at_ms", "when it was taken"),
        ("interval_ms", "over what time its rates are"),
        ("units[].main_pid", "a name in numbers"),
        (
            "units[].exit.status",
            "a code of one end, told by its event",
        ),
        (
            "units[].exit.signal",
            "a code of one end, told by its event",
        ),
        (
            "units[].exit.at_ms",
            "a moment of one end, told by its event",
        ),
    ],
};

static UNIT: &[Label] = &[label("unit", "name")];

static TABLES: &[Table] = &[
    Table {
        name: "watched",
        under: "",
        labels: &[],
        fields: &[
            amount("active", One, "Watched units that are active"),
            amount("failed", One, "Watched units that have failed"),
            amount("units_left_out", One, "Watched units that are not shown"),
        ],
    },
    Table {
        name: "manager",
        under: "manager",
        labels: &[],
        fields: &[
            state("connected", "Whether the service manager is connected"),
            gauge(
                "since_ms",
                MomentMilliseconds,
                Max,
                "Since when it is connected or not",
            ),
            counter("calls", One, "Method calls made"),
            counter("signals", One, "Signals heard"),
            counter("changes_merged", One, "Changes not told one by one"),
        ],
    },
    Table {
        name: "unit",
        under: "units[]",
        labels: UNIT,
        fields: &[
            state("load_state", "Whether it could be loaded"),
            state("active_state", "Whether it is active"),
            state("sub_state", "Its state in the words of its type"),
            state("result", "How it ended, or ends"),
            gauge(
                "since_ms",
                MomentMilliseconds,
                Max,
                "When its state changed",
            ),
            gauge(
                "active_since_ms",
                MomentMilliseconds,
                Max,
                "When it became active",
            ),
            gauge(
                "n_restarts",
                One,
                Sum,
                "Automatic restarts since its last start",
            ),
            counter("restarts_seen", One, "Restarts that the agent saw"),
        ],
    },
    Table {
        name: "unit",
        under: "units[].usage",
        labels: UNIT,
        fields: &[
            amount("memory_bytes", Bytes, "Memory, page cache included"),
            gauge("memory_peak_bytes", Bytes, Max, "The most memory"),
            gauge("memory_max_bytes", Bytes, Min, "The limit of its memory"),
            amount("swap_bytes", Bytes, "Swap"),
            counter("cpu_us", Microseconds, "Processor time"),
            gauge("cpu_percent", Percent, Sum, "Share of one processor"),
            counter("cpu_throttled_us", Microseconds, "Time held back"),
            amount("tasks", One, "Processes and threads"),
            gauge("tasks_max", One, Min, "The limit of its tasks"),
            counter("read_bytes", Bytes, "Bytes read from block devices"),
            counter("written_bytes", Bytes, "Bytes written to block devices"),
            amount("processes", One, "Processes"),
            amount("sockets", One, "Sockets"),
        ],
    },
];
