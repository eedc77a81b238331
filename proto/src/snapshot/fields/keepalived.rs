//! The figures of keepalived's snapshot.

use super::Fold::{Max, Min};
use super::Unit::{Bytes, Milliseconds, MomentMilliseconds, One, Seconds};
use super::{Declared, Field, Label, Table, amount, counter, gauge, label, state};

pub(super) static DECLARED: Declared = Declared {
    collector: "keepalived",
    tables: TABLES,
    left_out: &[
        ("at_ms", "when it was taken"),
        ("daemons[].processes[].pid", "a name in numbers"),
        ("daemons[].vrrp[].vrid", "a label"),
        ("daemons[].vrrp[].version", "what is configured"),
        ("daemons[].vrrp[].preempt", "what is configured"),
        (
            "daemons[].vrrp[].counters.other{}",
            "their names are keepalived's",
        ),
        ("daemons[].scripts[].weight", "what is configured"),
        ("daemons[].scripts[].interval_ms", "what is configured"),
        ("daemons[].scripts[].rise", "what is configured"),
        ("daemons[].scripts[].fall", "what is configured"),
        ("daemons[].virtual_servers[].port", "part of the name"),
        ("daemons[].virtual_servers[].fwmark", "part of the name"),
        (
            "daemons[].virtual_servers[].hysteresis",
            "what is configured",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].port",
            "part of the name",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].inhibit",
            "what is configured",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].enabled",
            "the real server's state says it",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].up",
            "the real server's state says it",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].has_run",
            "the real server's state says it",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].retries",
            "what is configured",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].retries_done",
            "gone within seconds",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].interval_ms",
            "what is configured",
        ),
    ],
};

const DAEMON: Label = label("daemon", "name");

/// A label of the objects in the list number `list`.
const fn inner(name: &'static str, list: usize, path: &'static str) -> Label {
    Label { name, list, path }
}

static TABLES: &[Table] = &[
    Table {
        name: "daemon",
        under: "daemons[]",
        labels: &[DAEMON],
        fields: &[
            state("running", "Whether its parent process is there"),
            counter("respawns", One, "Children seen in the place of others"),
            gauge(
                "dumps.vrrp_at_ms",
                MomentMilliseconds,
                Min,
                "When its VRRP process told its state",
            ),
            gauge(
                "dumps.checker_at_ms",
                MomentMilliseconds,
                Min,
                "When its checker process told its state",
            ),
            gauge(
                "dumps.counters_at_ms",
                MomentMilliseconds,
                Min,
                "When its VRRP process told its counters",
            ),
            state("dumps.late", "Whether it did not tell its state in time"),
        ],
    },
    Table {
        name: "process",
        under: "daemons[].processes[]",
        labels: &[DAEMON, inner("role", 1, "role")],
        fields: &[
            gauge(
                "started_ms",
                MomentMilliseconds,
                Min,
                "When the process began",
            ),
            amount("rss_bytes", Bytes, "Resident memory"),
        ],
    },
    Table {
        name: "fifo",
        under: "daemons[].fifos[]",
        labels: &[DAEMON, inner("path", 1, "path")],
        fields: &[
            state("open", "Whether it is open"),
            counter("lines", One, "Lines read"),
            counter("unknown_lines", One, "Lines that say nothing that is known"),
            counter(
                "dropped_lines",
                One,
                "Lines dropped because too many came at once",
            ),
            gauge(
                "last_at_ms",
                MomentMilliseconds,
                Max,
                "When the last line was read",
            ),
        ],
    },
    Table {
        name: "instance",
        under: "daemons[].vrrp[]",
        labels: INSTANCE,
        fields: VRRP,
    },
    Table {
        name: "instance",
        under: "daemons[].vrrp[].counters",
        labels: INSTANCE,
        fields: COUNTERS,
    },
    Table {
        name: "group",
        under: "daemons[].groups[]",
        labels: &[DAEMON, inner("group", 1, "name")],
        fields: &[
            state("state", "Its state"),
            gauge(
                "since_ms",
                MomentMilliseconds,
                Max,
                "Since when it is in that state",
            ),
        ],
    },
    Table {
        name: "script",
        under: "daemons[].scripts[]",
        labels: &[DAEMON, inner("script", 1, "name")],
        fields: &[
            state("good", "Whether it succeeds"),
            gauge(
                "since_ms",
                MomentMilliseconds,
                Max,
                "Since when it does, or does not",
            ),
        ],
    },
    Table {
        name: "virtual_server",
        under: "daemons[].virtual_servers[]",
        labels: SERVER,
        fields: &[
            state("quorum_up", "Whether it has its quorum"),
            state(
                "sorry_active",
                "Whether clients are sent to the sorry server",
            ),
            amount("alive", One, "Real servers that pass their checks"),
            gauge("quorum", One, Max, "The weight that it needs"),
            gauge(
                "persistence_s",
                Seconds,
                Max,
                "How long a client stays with its real server",
            ),
            gauge(
                "since_ms",
                MomentMilliseconds,
                Max,
                "Since when it has its quorum, or has not",
            ),
        ],
    },
    Table {
        name: "real_server",
        under: "daemons[].virtual_servers[].real_servers[]",
        labels: REAL,
        fields: &[
            state("alive", "Whether it passes its checks"),
            state(
                "set",
                "Whether keepalived has put it into the kernel's table",
            ),
            state(
                "in_step",
                "Whether the kernel's table is as the checkers want it",
            ),
            gauge(
                "since_ms",
                MomentMilliseconds,
                Max,
                "Since when it passes its checks, or does not",
            ),
            amount("weight", One, "The weight that it should have"),
            amount("initial_weight", One, "The weight that is configured"),
            amount("failed_checkers", One, "Checkers that fail"),
            amount("kernel.weight", One, "Its weight in the kernel's table"),
            amount("kernel.active_connections", One, "Active connections"),
            amount("kernel.inactive_connections", One, "Inactive connections"),
        ],
    },
];

static INSTANCE: &[Label] = &[
    DAEMON,
    inner("instance", 1, "name"),
    inner("vrid", 1, "vrid"),
];

static SERVER: &[Label] = &[DAEMON, inner("virtual_server", 1, "name")];

static REAL: &[Label] = &[
    DAEMON,
    inner("virtual_server", 1, "name"),
    inner("real_server", 2, "name"),
];

static VRRP: &[Field] = &[
    state("state", "Its state"),
    state("wanted_state", "The state that it is on its way to"),
    state(
        "addresses_set",
        "Whether its addresses are set on this host",
    ),
    gauge(
        "since_ms",
        MomentMilliseconds,
        Max,
        "Since when it is in its state",
    ),
    gauge("base_priority", One, Max, "The priority that is configured"),
    gauge(
        "effective_priority",
        One,
        Max,
        "The priority with the weights of all that is tracked",
    ),
    gauge(
        "master_priority",
        One,
        Max,
        "The priority of the master that it last heard",
    ),
    gauge(
        "advert_interval_ms",
        Milliseconds,
        Max,
        "Time between two adverts",
    ),
    gauge(
        "master_advert_interval_ms",
        Milliseconds,
        Max,
        "Time between two adverts of the master",
    ),
    amount(
        "faults",
        One,
        "Interfaces and scripts that keep it in fault",
    ),
];

static COUNTERS: &[Field] = &[
    counter("adverts_received", One, "Adverts received"),
    counter("adverts_sent", One, "Adverts sent"),
    counter("became_master", One, "Times that it became master"),
    counter("released_master", One, "Times that it ceased to be master"),
    counter(
        "priority_zero_received",
        One,
        "Adverts of priority 0 received",
    ),
    counter("priority_zero_sent", One, "Adverts of priority 0 sent"),
    counter("length_errors", One, "Packets of a wrong length"),
    counter("ttl_errors", One, "Packets from beyond a router"),
    counter(
        "type_errors",
        One,
        "Packets of a type that VRRP does not have",
    ),
    counter("interval_errors", One, "Adverts at another interval"),
    counter("address_list_errors", One, "Adverts with other addresses"),
    counter(
        "auth_type_errors",
        One,
        "Packets with an unknown authentication type",
    ),
    counter(
        "auth_mismatch_errors",
        One,
        "Packets with another authentication type",
    ),
    counter("auth_failures", One, "Packets that failed authentication"),
];
