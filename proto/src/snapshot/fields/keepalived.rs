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
        ("daemons[].vrrp[].vrid", "a name in numbers"),
        ("daemons[].vrrp[].version", "a setting"),
        ("daemons[].vrrp[].preempt", "a setting"),
        (
            "daemons[].vrrp[].counters.other{}",
            "by names that are not known beforehand",
        ),
        ("daemons[].scripts[].weight", "a setting"),
        ("daemons[].scripts[].interval_ms", "a setting"),
        ("daemons[].scripts[].rise", "a setting"),
        ("daemons[].scripts[].fall", "a setting"),
        ("daemons[].virtual_servers[].port", "part of the name"),
        ("daemons[].virtual_servers[].fwmark", "part of the name"),
        (
            "daemons[].virtual_servers[].real_servers[].port",
            "part of the name",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].inhibit",
            "a setting",
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].enabled",
            CHECKER,
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].up",
            CHECKER,
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].has_run",
            CHECKER,
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].retries",
            CHECKER,
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].retries_done",
            CHECKER,
        ),
        (
            "daemons[].virtual_servers[].real_servers[].checkers[].interval_ms",
            CHECKER,
        ),
    ],
};

const CHECKER: &str = "checkers have no names; those that fail are counted for their real server";

static DAEMON: &[Label] = &[label("daemon", "name")];
static PROCESS: &[Label] = &[label("daemon", "name"), inner("role", 1, "role")];
static FIFO: &[Label] = &[label("daemon", "name"), inner("path", 1, "path")];
static INSTANCE: &[Label] = &[label("daemon", "name"), inner("instance", 1, "name")];
static GROUP: &[Label] = &[label("daemon", "name"), inner("group", 1, "name")];
static SCRIPT: &[Label] = &[label("daemon", "name"), inner("script", 1, "name")];
static SERVER: &[Label] = &[label("daemon", "name"), inner("virtual_server", 1, "name")];
static REAL: &[Label] = &[
    label("daemon", "name"),
    inner("virtual_server", 1, "name"),
    inner("real_server", 2, "name"),
];

const fn inner(name: &'static str, list: usize, path: &'static str) -> Label {
    Label { name, list, path }
}

const fn moment(path: &'static str, help: &'static str) -> Field {
    gauge(path, MomentMilliseconds, Max, help)
}

static TABLES: &[Table] = &[
    Table {
        name: "daemon",
        under: "daemons[]",
        labels: DAEMON,
        fields: &[
            state("running", "Whether its parent process is there"),
            counter("respawns", One, "Children in the place of others"),
        ],
    },
    Table {
        name: "dumps",
        under: "daemons[].dumps",
        labels: DAEMON,
        fields: &[
            moment("vrrp_at_ms", "When it told of VRRP"),
            moment("checker_at_ms", "When it told of its checkers"),
            moment("counters_at_ms", "When it told its counters"),
            state("late", "Whether the last request was not answered in time"),
        ],
    },
    Table {
        name: "process",
        under: "daemons[].processes[]",
        labels: PROCESS,
        fields: &[
            moment("started_ms", "When it began"),
            amount("rss_bytes", Bytes, "Resident memory"),
        ],
    },
    Table {
        name: "fifo",
        under: "daemons[].fifos[]",
        labels: FIFO,
        fields: &[
            state("open", "Whether it is open"),
            counter("lines", One, "Lines read"),
            counter("unknown_lines", One, "Lines that say nothing known"),
            counter("dropped_lines", One, "Lines dropped"),
            moment("last_at_ms", "When the last line was read"),
        ],
    },
    Table {
        name: "vrrp",
        under: "daemons[].vrrp[]",
        labels: INSTANCE,
        fields: &[
            state("state", "State of the instance"),
            state("wanted_state", "State that it wants"),
            moment("since_ms", "Since when it is in its state"),
            gauge("base_priority", One, Max, "Configured priority"),
            gauge("effective_priority", One, Max, "Priority now"),
            gauge("master_priority", One, Max, "Priority of the master"),
            state("addresses_set", "Whether it has set the addresses"),
            gauge(
                "advert_interval_ms",
                Milliseconds,
                Max,
                "Time between advertisements",
            ),
            gauge(
                "master_advert_interval_ms",
                Milliseconds,
                Max,
                "Time between the master's advertisements",
            ),
            amount("faults", One, "What keeps it from taking part"),
        ],
    },
    Table {
        name: "vrrp",
        under: "daemons[].vrrp[].counters",
        labels: INSTANCE,
        fields: &[
            counter("adverts_received", One, "Advertisements received"),
            counter("adverts_sent", One, "Advertisements sent"),
            counter("became_master", One, "Times that it became master"),
            counter("released_master", One, "Times that it gave that up"),
            counter("priority_zero_received", One, "Goodbyes received"),
            counter("priority_zero_sent", One, "Goodbyes sent"),
            counter("length_errors", One, "Packets of a wrong length"),
            counter("ttl_errors", One, "Packets with a wrong TTL"),
            counter("type_errors", One, "Packets of a wrong type"),
            counter("interval_errors", One, "Packets of another interval"),
            counter("address_list_errors", One, "Packets of other addresses"),
            counter(
                "auth_type_errors",
                One,
                "Packets of no known authentication",
            ),
            counter(
                "auth_mismatch_errors",
                One,
                "Packets of another authentication",
            ),
            counter("auth_failures", One, "Packets that failed authentication"),
        ],
    },
    Table {
        name: "group",
        under: "daemons[].groups[]",
        labels: GROUP,
        fields: &[
            state("state", "State of the sync group"),
            moment("since_ms", "Since when it is in its state"),
        ],
    },
    Table {
        name: "script",
        under: "daemons[].scripts[]",
        labels: SCRIPT,
        fields: &[
            state("good", "Whether it succeeds"),
            moment("since_ms", "Since when it does or does not"),
        ],
    },
    Table {
        name: "virtual_server",
        under: "daemons[].virtual_servers[]",
        labels: SERVER,
        fields: &[
            gauge("persistence_s", Seconds, Min, "How long clients stick"),
            amount("quorum", One, "Sum of weights that it needs"),
            amount("hysteresis", One, "How far from the quorum it changes"),
            state("quorum_up", "Whether the quorum is there"),
            moment("since_ms", "Since when it is there or not"),
            state("sorry_active", "Whether clients go to the sorry server"),
            amount("alive", One, "Real servers that pass their checks"),
        ],
    },
    Table {
        name: "real_server",
        under: "daemons[].virtual_servers[].real_servers[]",
        labels: REAL,
        fields: &[
            state("alive", "Whether it passes its checks"),
            moment("since_ms", "Since when it does or does not"),
            amount("weight", One, "Weight that it should have"),
            amount("initial_weight", One, "Weight that is configured"),
            state("set", "Whether it is in the kernel's table"),
            amount("failed_checkers", One, "Checkers that fail"),
            state("in_step", "Whether the kernel's table is as wanted"),
        ],
    },
    Table {
        name: "real_server_kernel",
        under: "daemons[].virtual_servers[].real_servers[].kernel",
        labels: REAL,
        fields: &[
            amount("weight", One, "Weight in the kernel's table"),
            amount("active_connections", One, "Active connections"),
            amount("inactive_connections", One, "Inactive connections"),
        ],
    },
];
