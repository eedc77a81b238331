//! The rules on trees that are made for them: each mistake is caught, and what only looks like one is not.

use std::collections::BTreeMap;

use super::rules::{Rule, check};

fn tree(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    owned.collect()
}

fn broken(files: &[(&str, &str)]) -> Vec<(Rule, usize)> {
    let violations = check(&tree(files));
    violations.iter().map(|one| (one.rule, one.line)).collect()
}

/// Each row is a file with one mistake, and the mistake's line.
fn caught(rule: Rule, rows: &[(&str, usize, &str)]) {
    for (path, line, text) in rows {
        assert_eq!(
            broken(&[(path, text)]),
            [(rule, *line)],
            "in {path}: {text}"
        );
    }
}

/// Each row is a file without a mistake.
fn passed(rows: &[(&str, &str)]) {
    for (path, text) in rows {
        assert_eq!(broken(&[(path, text)]), [], "in {path}: {text}");
    }
}

#[test]
fn borders_of_crates_are_guarded() {
    let id = "proto/src/id.rs";
    caught(
        Rule::Border,
        &[
            (id, 2, "//! Ids.\nuse tokio::time::sleep;"),
            (id, 1, "async fn f() { tokio_util::sync::x() }"),
            (id, 1, "fn f() { std::fs::read(p) }"),
            (id, 1, "use std::{fmt, fs as files};"),
            (id, 3, "use std::{\n  fmt,\n  net::{IpAddr, TcpStream},\n};"),
            (id, 1, "use std::*;"),
            (id, 1, "use std::time::{Duration, Instant};"),
            (id, 2, "use std::time::*;\nfn f() { SystemTime::now() }"),
            (id, 1, "use std::process;"),
            (id, 1, "use muster_link::Session;"),
            (id, 1, "use muster_agent::Config;"),
            (id, 1, "use muster_controller::cli;"),
            (id, 1, "fn f(c: lapin::Channel) {}"),
            ("agent/src/app.rs", 1, "use lapin::Channel;"),
            ("agent/src/app.rs", 1, "use muster_controller::ledger;"),
            ("controller/src/cmd/ping.rs", 1, "use ::lapin::{Channel};"),
            ("controller/src/lib.rs", 1, "use muster_agent::state;"),
            ("proto/link/src/owner.rs", 1, "use muster_agent::state;"),
            ("proto/link/src/owner.rs", 1, "use muster_controller::cli;"),
        ],
    );
    passed(&[
        (
            id,
            "//! Not tokio::time.\n/* lapin::x /* std::fs */ Instant */",
        ),
        (id, "fn f() { g(\"use std::fs; // \\\" lapin::x\") }"),
        (
            id,
            "fn f() { g(r#\"a \" tokio::x\"#, b\"std::fs\", '\\'') }",
        ),
        (id, "use std::time::Duration;\nuse std::time::*;"),
        (id, "fn f(x: &X) { x.tokio::<u8>(); }"),
        (
            id,
            "#[cfg(test)]\n#[expect(x, reason = \"y\")]\nmod tests { use std::fs; }",
        ),
        (id, "#![cfg(test)]\nuse std::fs;"),
        ("proto/tests/golden.rs", "use std::fs;"),
        (
            "proto/link/src/session.rs",
            "use lapin::Channel;\nuse tokio::time::Instant;",
        ),
        (
            "tests/bench/limit.rs",
            "use lapin::Channel;\nuse muster_agent::cli;",
        ),
    ]);
}

#[test]
fn borders_inside_crates_are_guarded() {
    let cpu = "agent/src/collect/host/cpu.rs";
    let fold = "controller/src/ledger/fold.rs";
    caught(
        Rule::Border,
        &[
            ("agent/src/collect/lvs.rs", 1, "use muster_link::Link;"),
            (cpu, 1, "use crate::{facts, state::Outbox};"),
            (cpu, 1, "use super::super::super::state::Outbox;"),
            (
                cpu,
                1,
                "mod rows { use super::super::super::super::state; }",
            ),
            (
                "agent/src/tail/mod.rs",
                1,
                "fn f(c: &crate::config::Config) {}",
            ),
            ("agent/src/tail.rs", 1, "use super::config;"),
            ("agent/src/action/ping.rs", 1, "use crate::config;"),
            ("agent/src/action/ping.rs", 1, "use crate::*;"),
            ("controller/src/render/table.rs", 1, "use tokio::io;"),
            (
                "controller/src/bridge/statsd.rs",
                1,
                "use std::net::UdpSocket;",
            ),
            (
                "controller/src/dispatch/rollout.rs",
                1,
                "#[tokio::main]\nfn f() {}",
            ),
            (
                "controller/src/dispatch/account.rs",
                1,
                "use tokio_util::sync::X;",
            ),
            (fold, 1, "use rusqlite::Row;"),
            (fold, 1, "fn f() { std::fs::write(a, b); }"),
            (
                "controller/src/ledger/fold/late.rs",
                1,
                "use muster_link::Session;",
            ),
        ],
    );
    passed(&[
        (cpu, "use super::config::Config;\nuse super::state;"),
        (
            "agent/src/collect/host/mod.rs",
            "use self::config::Config;\nuse config::Other;",
        ),
        (
            "agent/src/collect/schedule.rs",
            "use crate::config::Config;",
        ),
        ("agent/src/collect/schedule/board.rs", "use crate::state;"),
        (
            "agent/src/app.rs",
            "use crate::{config::Config, state};\nuse muster_link::Link;",
        ),
        ("controller/src/ledger/folder.rs", "use rusqlite::Row;"),
        ("controller/src/dispatch/live.rs", "use tokio::time;"),
    ]);
}

#[test]
fn product_code_does_not_abort() {
    let tick = "agent/src/tick.rs";
    caught(
        Rule::Abort,
        &[
            (tick, 1, "fn f() { x.unwrap(); }"),
            (
                "controller/src/exit.rs",
                3,
                "fn f() {\n  x\n    .expect(\"y\");\n}",
            ),
            ("proto/src/id.rs", 1, "fn f() { panic!(\"x\") }"),
            ("proto/link/src/url.rs", 1, "fn f() { todo!() }"),
            (tick, 1, "fn f() { unimplemented!() }"),
            (tick, 1, "fn f() { dbg!(x); }"),
            (
                tick,
                2,
                "#[cfg(test)] use a::{b, c};\nfn f() { x.unwrap() }",
            ),
            (
                tick,
                3,
                "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }\nfn f() { x.unwrap() }",
            ),
            (tick, 1, "#[cfg(not(test))] fn f() { x.unwrap() }"),
            (
                tick,
                1,
                "fn f<'a>(x: &'a str) { x.find('\"').unwrap(); y('\"') }",
            ),
        ],
    );
    passed(&[
        (tick, "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }"),
        (
            tick,
            "fn f() { x.unwrap_or_default(); y.expect_err(z); } // .unwrap()",
        ),
        (tick, "#[expect(clippy::panic, reason = \"z\")] fn f() {}"),
        ("agent/src/job/verify_tests.rs", "fn f() { x.unwrap(); }"),
        ("tests/bench/limit.rs", "fn f() { x.unwrap(); }"),
    ]);
}

/// Each row is a table, a file that should be in it, and the lines of what is not.
#[test]
fn tables_have_a_row_for_each() {
    let rows: &[(&str, &str, &str, &str, &[usize])] = &[
        (
            "agent/src/collect/mod.rs",
            "static COLLECTORS: &[Spec] = &[host::SPEC];",
            "agent/src/collect/lvs.rs",
            "impl Collect for Lvs {}",
            &[1],
        ),
        (
            "agent/src/collect/host/mod.rs",
            "static PARTS: &[P] = &[P { build: |_| Box::new(cpu::Cpu) }];",
            "agent/src/collect/host/load.rs",
            "//! Load.\nimpl Part for Load {}",
            &[2],
        ),
        (
            "agent/src/action/mod.rs",
            "static ACTIONS: &[R] = &[R { build: ping::build }];\nuse service::x;",
            "agent/src/action/service/mod.rs",
            "impl super::Action for Service {}",
            &[1],
        ),
        (
            "agent/src/action/mod.rs",
            "static ACTIONS: &[R] = &[R { build: service::stop }];",
            "agent/src/action/service.rs",
            "impl Action for Service {}\n#[cfg(test)]\nimpl Action for Fake {}",
            &[],
        ),
        (
            "agent/src/action/mod.rs",
            "//! No table.",
            "agent/src/action/ping.rs",
            "impl Action for Ping {}",
            &[0],
        ),
        (
            "controller/src/cmd/mod.rs",
            "static COMMANDS: &[Spec] = &[spec::<key::New>(&[\"key\"])];",
            "controller/src/cmd/key.rs",
            "impl Run for New {}\nimpl Run for List {}",
            &[2],
        ),
        (
            "controller/src/cmd/mod.rs",
            "static COMMANDS: &[Spec] = &[spec::<broker::Init>(&[\"a\", \"b\"]).quiet()];",
            "controller/src/cmd/broker/init.rs",
            "impl<'a> Run for Init {}",
            &[],
        ),
    ];
    for (home, table, path, text, lines) in rows {
        let wanted: Vec<_> = lines.iter().map(|line| (Rule::Row, *line)).collect();
        assert_eq!(
            broken(&[(home, table), (path, text)]),
            wanted,
            "{table} {text}"
        );
    }
}

#[test]
fn sizes_and_names_are_kept() {
    let long = "//! Long.\n".repeat(451);
    caught(Rule::Long, &[("tests/harness/broker.rs", 451, &long)]);
    caught(
        Rule::Drawer,
        &[
            ("agent/src/util.rs", 0, ""),
            ("controller/src/helpers/text.rs", 0, ""),
        ],
    );
    caught(Rule::Root, &[("scripts/build", 0, ""), ("Makefile", 0, "")]);
    passed(&[
        ("agent/src/collect/host/tests.rs", &long),
        (".ci/run", ""),
        ("LICENSE-MIT", ""),
        ("deploy/misc", ""),
        ("agent/fixtures/common", ""),
    ]);
}
