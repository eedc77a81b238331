//! The rows: every action there is, by name. A new action is a row here and a file in the agent.

use super::{ActionSpec, ArgKind, ArgSpec, Effect};

const NAME: ArgKind = ArgKind::Text { bytes_max: 256 };

const fn required(name: &'static str, kind: ArgKind, summary: &'static str) -> ArgSpec {
    ArgSpec {
        name,
        kind,
        required: true,
        summary,
    }
}

const fn optional(name: &'static str, kind: ArgKind, summary: &'static str) -> ArgSpec {
    ArgSpec {
        name,
        kind,
        required: false,
        summary,
    }
}

const fn read(name: &'static str, summary: &'static str, args: &'static [ArgSpec]) -> ActionSpec {
    ActionSpec {
        name,
        summary,
        effect: Effect::Read,
        idempotent: true,
        dry_run: false,
        run_limit_ms: 30_000,
        args,
    }
}

const DAEMON: ArgSpec = optional(
    "daemon",
    NAME,
    "which keepalived, where several run: its name in the snapshot",
);

const UNIT: &[ArgSpec] = &[required(
    "unit",
    NAME,
    "the systemd unit; `.service` is added to a bare name",
)];

const fn service(name: &'static str, summary: &'static str) -> ActionSpec {
    ActionSpec {
        name,
        summary,
        effect: Effect::Change,
        idempotent: false,
        dry_run: true,
        run_limit_ms: 120_000,
        args: UNIT,
    }
}

const SERVER: ArgKind = ArgKind::Text { bytes_max: 64 };

const REAL_SERVER: ArgSpec = required(
    "real_server",
    SERVER,
    "the real server as ADDRESS:PORT, or ADDRESS for all its ports; IPv6 as [ADDRESS]:PORT",
);

const VIRTUAL_SERVER: ArgSpec = optional(
    "virtual_server",
    SERVER,
    "only in this virtual server: ADDRESS:PORT, tcp/ADDRESS:PORT, ADDRESS or fwmark/NUMBER; in all, if left out",
);

const FORCE: ArgSpec = optional(
    "force",
    ArgKind::Flag,
    "even where it leaves a virtual server without any real server of a weight above 0",
);

const WEIGHT: ArgKind = ArgKind::Integer {
    min: 0,
    max: 65_535,
};

const fn lvs(
    name: &'static str,
    summary: &'static str,
    idempotent: bool,
    run_limit_ms: u64,
    args: &'static [ArgSpec],
) -> ActionSpec {
    ActionSpec {
        name,
        summary,
        effect: Effect::Change,
        idempotent,
        dry_run: true,
        run_limit_ms,
        args,
    }
}

/// Every action, by name.
pub static ACTIONS: &[ActionSpec] = &[
    read(
        "collect",
        "run collectors now and give their snapshots",
        &[optional(
            "names",
            ArgKind::TextList {
                items_max: 64,
                bytes_max: 64,
            },
            "the collectors; all that the host has, if left out",
        )],
    ),
    read("facts", "labels, facts and version of the host", &[]),
    ActionSpec {
        name: "job.cancel",
        summary: "end a job that runs, or refuse it if it has not come yet",
        effect: Effect::Change,
        idempotent: true,
        dry_run: false,
        run_limit_ms: 30_000,
        args: &[required("job", ArgKind::Job, "the job's id")],
    },
    read(
        "job.status",
        "what the host knows of a job",
        &[required("job", ArgKind::Job, "the job's id")],
    ),
    read(
        "keepalived.check",
        "have keepalived test the configuration that it would read",
        &[DAEMON],
    ),
    ActionSpec {
        name: "keepalived.reload",
        summary: "test keepalived's configuration, have it taken in, and tell what changed",
        effect: Effect::Change,
        idempotent: false,
        dry_run: true,
        run_limit_ms: 60_000,
        args: &[
            DAEMON,
            optional(
                "force",
                ArgKind::Flag,
                "reload also where the test finds errors",
            ),
        ],
    },
    read(
        "log.search",
        "lines of the host's logs that match a pattern, the newest of them",
        &[
            required(
                "pattern",
                ArgKind::Text { bytes_max: 1024 },
                "the regex; ^ and $ are a line's",
            ),
            optional(
                "path",
                ArgKind::Text { bytes_max: 1024 },
                "the logs, as a glob over whole paths; all that the host allows, if left out",
            ),
            optional(
                "since",
                ArgKind::Text { bytes_max: 64 },
                "only logs that were written to within this time, as in 1h",
            ),
            optional(
                "lines",
                ArgKind::Integer { min: 1, max: 1000 },
                "most lines that are given, the newest; 100 if left out",
            ),
            optional(
                "context",
                ArgKind::Integer { min: 0, max: 20 },
                "lines before and after each",
            ),
            optional(
                "ignore_case",
                ArgKind::Flag,
                "let capitals be small letters",
            ),
        ],
    ),
    read(
        "lvs.connections",
        "what the IPVS connection table holds: by state, virtual server, real server and client",
        &[
            VIRTUAL_SERVER,
            optional(
                "real_server",
                SERVER,
                "only to this real server: ADDRESS:PORT or ADDRESS",
            ),
            optional("client", SERVER, "only from this client's address"),
            optional(
                "top",
                ArgKind::Integer { min: 1, max: 100 },
                "how many virtual servers, real servers and clients to list; 10, if left out",
            ),
        ],
    ),
    lvs(
        "lvs.drain",
        "set a real server's weight to 0 and wait until its connections are gone; lvs.restore takes it back",
        // Who restores a server after an interrupted drain must not find it drained once more.
        false,
        900_000,
        &[
            REAL_SERVER,
            VIRTUAL_SERVER,
            optional(
                "limit_s",
                ArgKind::Integer {
                    min: 1,
                    max: 86_400,
                },
                "seconds to wait at the most; 600, if left out, and never past the run limit",
            ),
            optional(
                "inactive",
                ArgKind::Flag,
                "wait for inactive connections (closing, or half open) as well",
            ),
            optional(
                "persistent",
                ArgKind::Flag,
                "wait for persistent clients as well, which may still open connections",
            ),
            FORCE,
        ],
    ),
    lvs(
        "lvs.restore",
        "give a real server back the weight that it had before it was set to 0",
        true,
        30_000,
        &[
            REAL_SERVER,
            VIRTUAL_SERVER,
            optional(
                "weight",
                ArgKind::Integer {
                    min: 1,
                    max: 65_535,
                },
                "this weight instead of the remembered one",
            ),
        ],
    ),
    lvs(
        "lvs.weight",
        "set a real server's weight",
        true,
        30_000,
        &[
            REAL_SERVER,
            required(
                "weight",
                WEIGHT,
                "the weight; 0 gives it no new connections",
            ),
            VIRTUAL_SERVER,
            FORCE,
        ],
    ),
    read("ping", "answer at once", &[]),
    ActionSpec {
        name: "script.run",
        summary: "run a script that the host's config names",
        effect: Effect::Change,
        idempotent: false,
        dry_run: true,
        run_limit_ms: 60_000,
        args: &[
            required("name", NAME, "the script's name in the config"),
            optional(
                "args",
                ArgKind::TextList {
                    items_max: 64,
                    bytes_max: 4096,
                },
                "its arguments, passed as they are, never through a shell",
            ),
        ],
    },
    service(
        "service.reload",
        "have a service read its config again, and wait for the outcome",
    ),
    service(
        "service.restart",
        "restart a service and wait for the outcome",
    ),
    service("service.start", "start a service and wait for the outcome"),
    read(
        "service.status",
        "state, result, main pid and restarts of a service",
        UNIT,
    ),
    service("service.stop", "stop a service and wait for the outcome"),
];
