//! The rules of the house, one row or one function each, over paths and texts.

use std::collections::BTreeMap;
use std::fmt;

use super::source::{Code, is_test};

/// Lines that a file has at the most. The aim is 400; what grows past this is two files.
pub(super) const LINES_MAX: usize = 450;

/// Files that are longer, each with the reason why it is still one.
pub(super) const LONG: &[(&str, &str)] = &[];

/// What the root holds; names that begin with a dot or with `LICENSE-` come on top.
const ROOT: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "agent",
    "controller",
    "deploy",
    "proto",
    "tests",
];

/// Names that say nothing of what is inside.
const DRAWERS: &[&str] = &[
    "common", "helper", "helpers", "misc", "shared", "stuff", "util", "utils",
];

/// What ends the program, or says that something is missing, where an error belongs.
const ABORTS: &[(&str, &[&str])] = &[
    ("`.unwrap()`", &[".", "unwrap", "("]),
    ("`.expect()`", &[".", "expect", "("]),
    ("`panic!`", &["panic", "!"]),
    ("`todo!`", &["todo", "!"]),
    ("`unimplemented!`", &["unimplemented", "!"]),
    ("`dbg!`", &["dbg", "!"]),
];

/// A part of the tree and what it must not name.
pub(super) struct Border {
    /// Beginnings of paths; a file is inside where it goes on with `/`, `.rs` or nothing.
    pub(super) inside: &'static [&'static str],
    /// What is inside all the same, and why the rule does not hold for it.
    pub(super) but: &'static [(&'static str, &'static str)],
    /// Paths, or single words, that are not named there.
    pub(super) never: &'static [&'static [&'static str]],
    /// What it knows instead, for whoever breaks it.
    pub(super) knows: &'static str,
}

/// Who may name whom.
pub(super) const BORDERS: &[Border] = &[
    Border {
        inside: &["proto/src"],
        but: &[],
        never: &[
            &["tokio"],
            &["tokio_util"],
            &["muster_link"],
            &["muster_agent"],
            &["muster_controller"],
            &["std", "fs"],
            &["std", "net"],
            &["std", "process"],
            &["SystemTime"],
            &["Instant"],
        ],
        knows: "no runtime, file, network or clock: whoever needs the time passes it in",
    },
    Border {
        inside: &["proto/src", "agent", "controller"],
        but: &[],
        never: &[&["lapin"]],
        knows: "RabbitMQ through muster_link, the only crate that names lapin",
    },
    Border {
        inside: &["proto/link"],
        but: &[],
        never: &[&["muster_agent"], &["muster_controller"]],
        knows: "muster_proto; the agent and the controller stand on it",
    },
    Border {
        inside: &["agent"],
        but: &[],
        never: &[&["muster_controller"]],
        knows: "the controller by its messages",
    },
    Border {
        inside: &["controller"],
        but: &[],
        never: &[&["muster_agent"]],
        knows: "the agent by its messages",
    },
    Border {
        inside: &["agent/src/collect", "agent/src/tail", "agent/src/action"],
        but: &[
            (
                "agent/src/collect/schedule",
                "the daemon's clockwork around the collectors",
            ),
            (
                "agent/src/collect/worker",
                "the daemon's threads for the collectors",
            ),
        ],
        never: &[&["muster_link"], &["crate", "state"], &["crate", "config"]],
        knows: "its own roots, its own section and the handle that it sends to",
    },
    Border {
        inside: &["agent/src/ipvs"],
        but: &[],
        never: &[
            &["tokio"],
            &["muster_link"],
            &["crate", "state"],
            &["crate", "config"],
            &["crate", "collect"],
            &["crate", "action"],
        ],
        knows: "the kernel's table and nothing of who asks",
    },
    Border {
        inside: &[
            "controller/src/render",
            "controller/src/bridge",
            "controller/src/dispatch/rollout",
            "controller/src/dispatch/account",
            "controller/src/ledger/fold",
        ],
        but: &[],
        never: &[
            &["tokio"],
            &["tokio_util"],
            &["rusqlite"],
            &["muster_link"],
            &["std", "fs"],
            &["std", "net"],
        ],
        knows: "values only",
    },
];

/// A table that has a row for every file that implements its trait.
pub(super) struct Table {
    /// The folder of the files, with the table in its `mod.rs`.
    folder: &'static str,
    name: &'static str,
    implements: &'static str,
    /// Whether several rows may come from one file, so that each type needs its own.
    by_type: bool,
}

pub(super) const TABLES: &[Table] = &[
    Table {
        folder: "agent/src/collect",
        name: "COLLECTORS",
        implements: "Collect",
        by_type: false,
    },
    Table {
        folder: "agent/src/collect/host",
        name: "PARTS",
        implements: "Part",
        by_type: false,
    },
    Table {
        folder: "agent/src/action",
        name: "ACTIONS",
        implements: "Action",
        by_type: false,
    },
    Table {
        folder: "controller/src/cmd",
        name: "COMMANDS",
        implements: "Run",
        by_type: true,
    },
];

/// The kinds of mistake, as the report names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Border,
    Abort,
    Long,
    Root,
    Row,
    Drawer,
}

/// A rule that is broken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) path: String,
    /// From 1; 0 where it is about the file as a whole.
    pub(super) line: usize,
    pub(super) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Everything that is wrong with this tree: path and text of each file, the text of Rust sources being enough.
pub(super) fn check(tree: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    violations.extend(tree.keys().filter_map(|path| root(path)));
    let sources = || tree.iter().filter(|(path, _)| path.ends_with(".rs"));
    for (path, text) in sources() {
        violations.extend(drawer(path));
        if is_test(path) {
            continue;
        }
        violations.extend(long(path, text));
        let code = Code::new(path, text);
        violations.extend(
            BORDERS
                .iter()
                .flat_map(|border| crossed(border, path, &code)),
        );
        violations.extend(aborts(path, &code));
    }
    for table in TABLES {
        violations.extend(rows(table, sources()));
    }
    violations
}

/// Whether `path` is `area` or inside it: `agent/src/tail` has `agent/src/tail.rs` and `agent/src/tail/lines.rs`.
pub(super) fn is_within(path: &str, area: &str) -> bool {
    let rest = path.strip_prefix(area);
    rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

fn root(path: &str) -> Option<Violation> {
    let entry = path.split('/').next()?;
    let known = ROOT.contains(&entry) || entry.starts_with('.') || entry.starts_with("LICENSE-");
    (!known).then(|| Violation {
        rule: Rule::Root,
        path: path.to_owned(),
        line: 0,
        what: format!(
            "`{entry}` has no place in the root, which holds {} and dot-files",
            ROOT.join(" ")
        ),
    })
}

fn drawer(path: &str) -> Option<Violation> {
    let mut names = path
        .split('/')
        .map(|part| part.strip_suffix(".rs").unwrap_or(part));
    let name = names.find(|name| DRAWERS.contains(name))?;
    let what = format!("`{name}` says nothing of what is inside: name the thing");
    Some(Violation {
        rule: Rule::Drawer,
        path: path.to_owned(),
        line: 0,
        what,
    })
}

fn long(path: &str, text: &str) -> Option<Violation> {
    let lines = text.lines().count();
    let excused = LONG.iter().any(|(long, _)| *long == path);
    (lines > LINES_MAX && !excused).then(|| Violation {
        rule: Rule::Long,
        path: path.to_owned(),
        line: lines,
        what: format!("{lines} lines, {LINES_MAX} at the most: make it two files"),
    })
}

fn crossed(border: &Border, path: &str, code: &Code) -> Vec<Violation> {
    let inside = border.inside.iter().any(|area| is_within(path, area));
    if !inside || border.but.iter().any(|(area, _)| is_within(path, area)) {
        return Vec::new();
    }
    let mut violations: Vec<Violation> = Vec::new();
    for named in code.names() {
        let forbidden = border.never.iter().find(|never| match never {
            // A type goes by its last name, wherever it was imported from.
            [word] if word.starts_with(char::is_uppercase) => {
                named.parts.iter().any(|part| part == word)
            }
            never => named.is_in(never),
        });
        let Some(forbidden) = forbidden else { continue };
        let what = format!(
            "names `{}`; it knows {}",
            forbidden.join("::"),
            border.knows
        );
        let violation = Violation {
            rule: Rule::Border,
            path: path.to_owned(),
            line: named.line,
            what,
        };
        if !violations.contains(&violation) {
            violations.push(violation);
        }
    }
    violations
}

fn aborts(path: &str, code: &Code) -> Vec<Violation> {
    if !["agent", "controller", "proto"]
        .iter()
        .any(|area| is_within(path, area))
    {
        return Vec::new();
    }
    let violation = |name: &str, line| Violation {
        rule: Rule::Abort,
        path: path.to_owned(),
        line,
        what: format!("{name} outside tests: return an error"),
    };
    let found = ABORTS.iter().flat_map(|(name, sequence)| {
        code.lines_with(sequence)
            .into_iter()
            .map(|line| violation(name, line))
    });
    found.collect()
}

/// The files under `table` that implement its trait and have no row in it.
fn rows<'a>(
    table: &Table,
    sources: impl Iterator<Item = (&'a String, &'a String)>,
) -> Vec<Violation> {
    let home = format!("{}/mod.rs", table.folder);
    let mut listed = None;
    let mut implemented = Vec::new();
    for (path, text) in sources {
        let Some(inside) = path
            .strip_prefix(table.folder)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            continue;
        };
        let code = Code::new(path, text);
        if *path == home {
            listed = code.rows_of(table.name);
        } else if !is_test(path) {
            let module = inside.split(['/', '.']).next().unwrap_or_default();
            let found = code.implementors(table.implements).into_iter();
            implemented.extend(found.map(|(line, name)| (path, line, module, name)));
        }
    }
    let violation = |path: &str, line, what| Violation {
        rule: Rule::Row,
        path: path.to_owned(),
        line,
        what,
    };
    let Some(listed) = listed else {
        // A tree without the folder has no need of the table.
        let first = implemented.first();
        return first
            .map(|_| violation(&home, 0, format!("no static {} here", table.name)))
            .into_iter()
            .collect();
    };
    let has_row = |module: &str, name: &str| {
        listed.iter().any(|row| {
            let (first, last) = (
                row.first().map(String::as_str),
                row.last().map(String::as_str),
            );
            row.len() > 1 && first == Some(module) && (!table.by_type || last == Some(name))
        })
    };
    implemented
        .iter()
        .filter(|(_, _, module, name)| !has_row(module, name))
        .map(|(path, line, _, name)| {
            violation(
                path,
                *line,
                format!("`{name}` has no row in {} of {home}", table.name),
            )
        })
        .collect()
}
