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
