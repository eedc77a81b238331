//! The figures of the watched processes' snapshot.

use super::Fold::{Max, Min, Sum};
use super::Unit::{Bytes, Milliseconds, MomentMilliseconds, One, Percent, Seconds};
use super::{Declared, Label, Table, amount, counter, gauge, label, state};

pub(super) static DECLARED: Declared = Declared {
    collector: "processes",
    tables: TABLES,
    left_out: &[
        ("at_ms", "when it was taken"),
        ("interval_ms", "over what time its rates are"),
        ("watches[].main.pid", "a name in numbers"),
        ("watches[].main.parent_pid", "a name in numbers"),
    ],
};

static WATCH: &[Label] = &[label("watch", "name")];

static TABLES: &[Table] = &[
    Table {
        name: "watches",
        under: "",
        labels: &[],
        fields: &[amount("down", One, "Watches without a process")],
    },
    Table {
        name: "watch",
        under: "watches[]",
        labels: WATCH,
        fields: &[
            state("up", "Whether it has a process"),
            amount("count", One, "Processes that match"),
            counter("restarts_seen", One, "Times that it came back"),
            amount("rss_bytes", Bytes, "Memory of all its processes"),
            gauge("cpu_percent", Percent, Sum, "Share of one processor"),
            amount("threads", One, "Threads of all its processes"),
            amount("open_files", One, "Open files of all its processes"),
        ],
    },
    Table {
        name: "main",
        under: "watches[].main",
        labels: WATCH,
        fields: &[
            state("state", "The kernel's letter for its state"),
            gauge("started_ms", MomentMilliseconds, Max, "When it started"),
            gauge("age_s", Seconds, Min, "How long it has been running"),
            amount("rss_bytes", Bytes, "Memory in core"),
            amount("virtual_bytes", Bytes, "Virtual memory"),
            amount("threads", One, "Threads"),
            amount("open_files", One, "Open files"),
            gauge("open_files_max", One, Min, "Files that it may open"),
            counter("cpu_ms", Milliseconds, "Processor time"),
        ],
    },
];
