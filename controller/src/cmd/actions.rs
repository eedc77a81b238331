//! `muster actions`: what jobs can do, from the declarations that both ends check against.

use anyhow::Result;
use muster_proto::action::{ACTIONS, ActionSpec, ArgKind, Effect, find};
use serde::Serialize;

use crate::cmd::Run;
use crate::context::Context;
use crate::exit::{Exit, usage};
use crate::render::{Cell, Column, Style, Table, Tone, duration_ms, fields};

/// Arguments of `muster actions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Actions {
    /// Only this action, with its arguments
    name: Option<String>,
}

/// An action, for programs.
#[derive(Debug, Serialize)]
struct Shown {
    name: &'static str,
    summary: &'static str,
    effect: &'static str,
    idempotent: bool,
    dry_run: bool,
    run_limit_ms: u64,
    args: Vec<ShownArg>,
}

#[derive(Debug, Serialize)]
struct ShownArg {
    name: &'static str,
    takes: &'static str,
    required: bool,
    summary: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items_max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<i64>,
}

impl Run for Actions {
    async fn run(self, context: &Context) -> Result<Exit> {
        match self.name {
            None => {
                let shown: Vec<Shown> = ACTIONS.iter().map(Shown::of).collect();
                context.show_list(&shown, |style| table(&shown, style))?;
            }
            Some(name) => {
                let spec = find(&name).ok_or_else(|| {
                    let known: Vec<&str> = ACTIONS.iter().map(|action| action.name).collect();
                    usage(format!(
                        "there is no action {name:?}; there are {}",
                        known.join(", ")
                    ))
                })?;
                let shown = Shown::of(spec);
                context.show(&shown, |style| detail(&shown, style))?;
            }
        }
        Ok(Exit::Ok)
    }
}

impl Shown {
    fn of(spec: &ActionSpec) -> Self {
        Self {
            name: spec.name,
            summary: spec.summary,
            effect: match spec.effect {
                Effect::Read => "read",
                Effect::Change => "change",
            },
            idempotent: spec.idempotent,
            dry_run: spec.dry_run,
            run_limit_ms: spec.run_limit_ms,
            args: spec
                .args
                .iter()
                .map(|arg| ShownArg::of(arg.name, arg.kind, arg.required, arg.summary))
                .collect(),
        }
    }

    fn usage(&self) -> String {
        let args = self
            .args
            .iter()
            .map(|arg| match (arg.required, arg.items_max) {
                (true, _) => format!("{}=…", arg.name),
                (false, None) => format!("[{}=…]", arg.name),
                (false, Some(_)) => format!("[{}=…]…", arg.name),
            });
        args.collect::<Vec<_>>().join(" ")
    }
}

impl ShownArg {
    fn of(name: &'static str, kind: ArgKind, required: bool, summary: &'static str) -> Self {
        let (bytes_max, items_max) = match kind {
            ArgKind::Text { bytes_max } => (Some(bytes_max), None),
            ArgKind::TextList {
                items_max,
                bytes_max,
            } => (Some(bytes_max), Some(items_max)),
            ArgKind::Integer { .. } | ArgKind::Flag | ArgKind::Job => (None, None),
        };
        let (min, max) = match kind {
            ArgKind::Integer { min, max } => (Some(min), Some(max)),
            _ => (None, None),
        };
        Self {
            name,
            takes: kind.name(),
            required,
            summary,
            bytes_max,
            items_max,
            min,
            max,
        }
    }
}

fn table(actions: &[Shown], style: &Style) -> String {
    let mut table = Table::new([
        Column::text("ACTION"),
        Column::text("EFFECT"),
        Column::text("ARGUMENTS"),
        Column::text("DOES"),
    ]);
    for action in actions {
        let tone = if action.effect == "change" {
            Tone::Warn
        } else {
            Tone::Plain
        };
        table.row([
            Cell::from(action.name),
            Cell::toned(action.effect, tone),
            Cell::from(action.usage()),
            Cell::from(action.summary),
        ]);
    }
    table.render(style)
}

fn detail(action: &Shown, style: &Style) -> String {
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    #[expect(clippy::cast_precision_loss, reason = "limits are minutes")]
    let limit = duration_ms(action.run_limit_ms as f64);
    let mut text = fields(
        &[
            ("action", action.name.to_owned()),
            ("does", action.summary.to_owned()),
            ("effect", action.effect.to_owned()),
            ("run limit", format!("{limit} unless set")),
            ("dry run", yes_no(action.dry_run)),
            ("rerun after a crash", yes_no(action.idempotent)),
            (
                "usage",
                format!("muster run {} {}", action.name, action.usage())
                    .trim_end()
                    .to_owned(),
            ),
        ],
        style,
    );
    if !action.args.is_empty() {
        let mut args = Table::new([
            Column::text("ARGUMENT"),
            Column::text("TAKES"),
            Column::text("NEEDED"),
            Column::text("MEANS"),
        ]);
        for arg in &action.args {
            args.row([
                arg.name,
                arg.takes,
                if arg.required { "yes" } else { "no" },
                arg.summary,
            ]);
        }
        text.push('\n');
        text.push_str(&args.render(style));
    }
    text
}
