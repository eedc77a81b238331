//! The figures of the load balancer's snapshot.

use super::Fold::Min;
use super::Unit::{Bytes, One, Seconds};
use super::{Declared, Field, Label, Table, amount, counter, gauge, label, state};

pub(super) static DECLARED: Declared = Declared {
    collector: "lvs",
    tables: TABLES,
    left_out: &[
        ("at_ms", "when it was taken"),
        ("interval_ms", "over what time its rates are"),
        ("virtual_servers[].port", "part of the name"),
        ("virtual_servers[].fwmark", "part of the name"),
        (
            "virtual_servers[].persistence_prefix_length",
            "a mask in numbers",
        ),
        ("virtual_servers[].real_servers[].port", "part of the name"),
        (
            "virtual_servers[].real_servers[].tunnel.port",
            "a name in numbers",
        ),
        ("sync_daemons[].sync_id", "a name in numbers"),
        ("sync_daemons[].message_bytes_max", "a setting"),
        ("sync_daemons[].port", "a name in numbers"),
        ("sync_daemons[].ttl", "a setting"),
        ("totals.traffic.connections_per_s_kernel", KERNEL),
        ("totals.traffic.in_packets_per_s_kernel", KERNEL),
        ("totals.traffic.out_packets_per_s_kernel", KERNEL),
        ("totals.traffic.in_bytes_per_s_kernel", KERNEL),
        ("totals.traffic.out_bytes_per_s_kernel", KERNEL),
        ("virtual_servers[].traffic.connections_per_s_kernel", KERNEL),
        ("virtual_servers[].traffic.in_packets_per_s_kernel", KERNEL),
        ("virtual_servers[].traffic.out_packets_per_s_kernel", KERNEL),
        ("virtual_servers[].traffic.in_bytes_per_s_kernel", KERNEL),
        ("virtual_servers[].traffic.out_bytes_per_s_kernel", KERNEL),
        (
            "virtual_servers[].real_servers[].traffic.connections_per_s_kernel",
            KERNEL,
        ),
        (
            "virtual_servers[].real_servers[].traffic.in_packets_per_s_kernel",
            KERNEL,
        ),
        (
            "virtual_servers[].real_servers[].traffic.out_packets_per_s_kernel",
            KERNEL,
        ),
        (
            "virtual_servers[].real_servers[].traffic.in_bytes_per_s_kernel",
            KERNEL,
        ),
        (
            "virtual_servers[].real_servers[].traffic.out_bytes_per_s_kernel",
            KERNEL,
        ),
    ],
};

const KERNEL: &str = "the kernel's estimate of a rate that the counter beside it has exactly";

static SERVER: &[Label] = &[label("virtual_server", "name")];

static REAL: &[Label] = &[
    label("virtual_server", "name"),
    Label {
        name: "real_server",
        list: 1,
        path: "name",
    },
];

static TRAFFIC: &[Field] = &[
    counter("connections", One, "Connections scheduled"),
    counter("in_packets", One, "Packets from clients"),
    counter("out_packets", One, "Packets to clients"),
    counter("in_bytes", Bytes, "Bytes from clients"),
    counter("out_bytes", Bytes, "Bytes to clients"),
];

static TABLES: &[Table] = &[
    Table {
        name: "director",
        under: "",
        labels: &[],
        fields: &[
            state("present", "Whether the kernel has IPVS"),
            amount("table_size", One, "Buckets of the connection table"),
            amount("skipped", One, "Virtual and real servers not listed"),
        ],
    },
    Table {
        name: "timeout",
        under: "timeouts",
        labels: &[],
        fields: &[
            gauge("tcp_s", Seconds, Min, "Of established TCP connections"),
            gauge("tcp_fin_s", Seconds, Min, "Of TCP connections after a FIN"),
            gauge("udp_s", Seconds, Min, "Of UDP"),
        ],
    },
    Table {
        name: "total",
        under: "totals",
        labels: &[],
        fields: &[
            amount("virtual_servers", One, "Virtual servers"),
            amount(
                "virtual_servers_down",
                One,
                "Virtual servers without any real server of a weight above 0",
            ),
            amount("real_servers", One, "Real servers"),
            amount("real_servers_up", One, "Real servers of a weight above 0"),
            amount("active_connections", One, "Active connections"),
            amount("inactive_connections", One, "Inactive connections"),
        ],
    },
    Table {
        name: "total",
        under: "totals.traffic",
        labels: &[],
        fields: TRAFFIC,
    },
    Table {
        name: "virtual_server",
        under: "virtual_servers[]",
        labels: SERVER,
        fields: &[
            gauge(
                "persistence_timeout_s",
                Seconds,
                Min,
                "How long clients stick to a real server",
            ),
            amount("real_servers_total", One, "Real servers"),
            amount("real_servers_up", One, "Real servers of a weight above 0"),
            amount("weight_total", One, "Sum of the weights"),
            amount("active_connections", One, "Active connections"),
            amount("inactive_connections", One, "Inactive connections"),
            amount("persistent_connections", One, "Persistence templates"),
            counter("resets", One, "Times that the counters began anew"),
        ],
    },
    Table {
        name: "virtual_server",
        under: "virtual_servers[].traffic",
        labels: SERVER,
        fields: TRAFFIC,
    },
    Table {
        name: "real_server",
        under: "virtual_servers[].real_servers[]",
        labels: REAL,
        fields: &[
            amount("weight", One, "Share of the work"),
            amount("active_connections", One, "Active connections"),
            amount("inactive_connections", One, "Inactive connections"),
            amount("persistent_connections", One, "Persistence templates"),
            amount(
                "upper_threshold",
                One,
                "Connections from which on it gets no new ones",
            ),
            amount(
                "lower_threshold",
                One,
                "Connections below which it gets new ones again",
            ),
            state("overloaded", "Whether it has reached its upper threshold"),
            counter("generation", One, "Times that it came back"),
            counter("resets", One, "Times that the counters began anew"),
        ],
    },
    Table {
        name: "real_server",
        under: "virtual_servers[].real_servers[].traffic",
        labels: REAL,
        fields: TRAFFIC,
    },
];
