//! The declarations of the actions: name, arguments, effect, limits. One row each in [`ACTIONS`].
//!
//! The same row makes the command's help, the check of arguments at both ends, and the documentation.
//! What an action does stands in the agent, one file each.

mod table;

use std::collections::BTreeMap;

use serde_json::Value;

pub use self::table::ACTIONS;
use crate::job::Args;

/// The field of an answer by which a host says that it has nothing of what the job is about: it succeeded, with nothing
/// to do. A job of which every host says so has missed its aim.
pub const NOT_HERE: &str = "not_here";

/// An action's declaration.
#[derive(Debug)]
pub struct ActionSpec {
    /// Its name, e.g. `service.restart`.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Whether it changes anything.
    pub effect: Effect,
    /// Whether a job of it that was cut off by the agent's death may be run again within its deadline.
    pub idempotent: bool,
    /// Whether it can say what it would do without doing it.
    pub dry_run: bool,
    /// Run limit where the caller names none, in milliseconds.
    pub run_limit_ms: u64,
    /// Its arguments.
    pub args: &'static [ArgSpec],
}

/// What an action does to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Looks only. Its job is not recorded before it runs: after a crash it is simply run again.
    Read,
    /// Changes something. Its job is recorded, then acknowledged, then run, and never run twice.
    Change,
}

/// An argument's declaration.
#[derive(Debug)]
pub struct ArgSpec {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: ArgKind,
    /// Whether it must be given.
    pub required: bool,
    /// One line for people.
    pub summary: &'static str,
}

/// What an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgKind {
    /// A text of at most so many bytes.
    Text {
        /// Longest, in bytes.
        bytes_max: usize,
    },
    /// A list of texts.
    TextList {
        /// Most items.
        items_max: usize,
        /// Longest item in bytes.
        bytes_max: usize,
    },
    /// A whole number.
    Integer {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// `true` or `false`.
    Flag,
    /// A job's id.
    Job,
}

/// The declaration of the action called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static ActionSpec> {
    ACTIONS.iter().find(|action| action.name == name)
}

/// What is wrong with an argument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// A required one is missing.
    #[error("{action} needs the argument {name}: {summary}")]
    Missing {
        /// The action.
        action: &'static str,
        /// The argument.
        name: &'static str,
        /// What it is.
        summary: &'static str,
    },
    /// One that the action does not have.
    #[error("{action} has no argument {name:?}; it takes {known}")]
    Unknown {
        /// The action.
        action: &'static str,
        /// The argument.
        name: String,
        /// The arguments that it has.
        known: String,
    },
    /// A value of the wrong kind or out of bounds.
    #[error("the argument {name} of {action} is wrong: {why}")]
    Value {
        /// The action.
        action: &'static str,
        /// The argument.
        name: &'static str,
        /// What is wanted.
        why: String,
    },
}

impl ActionSpec {
    /// Checks arguments against the declaration.
    ///
    /// # Errors
    /// The first argument that is missing, unknown, ill-typed or out of bounds.
    pub fn check(&self, args: &Args) -> Result<(), ArgError> {
        for name in args.keys() {
            self.arg(name)?;
        }
        for spec in self.args {
            match args.get(spec.name) {
                Some(value) => spec.kind.check(value).map_err(|why| ArgError::Value {
                    action: self.name,
                    name: spec.name,
                    why,
                })?,
                None if spec.required => {
                    return Err(ArgError::Missing {
                        action: self.name,
                        name: spec.name,
                        summary: spec.summary,
                    });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Makes arguments of `name=value` texts, as a command line gives them. A list's argument may be given more than
    /// once, one item each.
    ///
    /// # Errors
    /// As [`ActionSpec::check`].
    pub fn parse(&self, texts: &[(String, String)]) -> Result<Args, ArgError> {
        let mut args: Args = BTreeMap::new();
        for (name, text) in texts {
            let spec = self.arg(name)?;
            let wrong = |why: &str| ArgError::Value {
                action: self.name,
                name: spec.name,
                why: why.to_owned(),
            };
            let value = match spec.kind {
                ArgKind::Text { .. } | ArgKind::Job | ArgKind::TextList { .. } => {
                    Value::from(text.as_str())
                }
                ArgKind::Integer { .. } => text
                    .parse::<i64>()
                    .map(Value::from)
                    .map_err(|_| wrong("a whole number is wanted"))?,
                ArgKind::Flag => text
                    .parse::<bool>()
                    .map(Value::from)
                    .map_err(|_| wrong("true or false is wanted"))?,
            };
            if matches!(spec.kind, ArgKind::TextList { .. }) {
                let list = args
                    .entry(name.clone())
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Some(items) = list.as_array_mut() {
                    items.push(value);
                }
            } else if args.insert(name.clone(), value).is_some() {
                return Err(wrong("it is given more than once"));
            }
        }
        self.check(&args)?;
        Ok(args)
    }

    fn arg(&self, name: &str) -> Result<&'static ArgSpec, ArgError> {
        self.args
            .iter()
            .find(|spec| spec.name == name)
            .ok_or_else(|| ArgError::Unknown {
                action: self.name,
                name: name.chars().take(64).collect(),
                known: if self.args.is_empty() {
                    "none".to_owned()
                } else {
                    self.args
                        .iter()
                        .map(|spec| spec.name)
                        .collect::<Vec<_>>()
                        .join(", ")
                },
            })
    }
}

impl ArgKind {
    fn check(self, value: &Value) -> Result<(), String> {
        let text_fits = |value: &Value, bytes_max: usize| match value.as_str() {
            None => Err("a text is wanted".to_owned()),
            Some(text) if text.len() > bytes_max => {
                Err(format!("it is longer than {bytes_max} bytes"))
            }
            Some(text) if text.contains('\0') => Err("it has a NUL byte".to_owned()),
            Some(_) => Ok(()),
        };
        match self {
            Self::Text { bytes_max } => text_fits(value, bytes_max),
            Self::TextList {
                items_max,
                bytes_max,
            } => {
                let items = value.as_array().ok_or("a list of texts is wanted")?;
                if items.len() > items_max {
                    return Err(format!("it has more than {items_max} items"));
                }
                items.iter().try_for_each(|item| text_fits(item, bytes_max))
            }
            Self::Integer { min, max } => match value.as_i64() {
                Some(number) if (min..=max).contains(&number) => Ok(()),
                _ => Err(format!("a whole number from {min} to {max} is wanted")),
            },
            Self::Flag => value
                .as_bool()
                .map(|_| ())
                .ok_or_else(|| "true or false is wanted".to_owned()),
            Self::Job => match value.as_str().map(str::parse::<crate::id::JobId>) {
                Some(Ok(_)) => Ok(()),
                _ => Err("a job id is wanted, as `muster job list` shows it".to_owned()),
            },
        }
    }

    /// What it takes, in a word or two.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::TextList { .. } => "list of texts",
            Self::Integer { .. } => "whole number",
            Self::Flag => "true or false",
            Self::Job => "job id",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn arguments_are_checked_against_the_declaration() {
        type Case = (
            &'static str,
            &'static [(&'static str, &'static str)],
            &'static str,
        );
        let cases: &[Case] = &[
            ("ping", &[], ""),
            (
                "ping",
                &[("x", "1")],
                "ping has no argument \"x\"; it takes none",
            ),
            ("service.restart", &[("unit", "nginx")], ""),
            (
                "service.restart",
                &[],
                "service.restart needs the argument unit: the systemd unit; `.service` is added to a bare name",
            ),
            (
                "service.restart",
                &[("unit", "a"), ("unit", "b")],
                "the argument unit of service.restart is wrong: it is given more than once",
            ),
            (
                "script.run",
                &[("name", "x"), ("args", "1"), ("args", "2")],
                "",
            ),
            (
                "script.run",
                &[("name", "x"), ("nmae", "1")],
                "script.run has no argument \"nmae\"; it takes name, args",
            ),
            (
                "job.status",
                &[("job", "7")],
                "the argument job of job.status is wrong: a job id is wanted, as `muster job list` shows it",
            ),
        ];
        for (action, args, want) in cases {
            let got = find(action).map(|spec| spec.parse(&texts(args)));
            let error = got
                .and_then(Result::err)
                .map_or_else(String::new, |error| error.to_string());
            assert_eq!(&error, want, "{action} {args:?}");
        }
    }

    #[test]
    fn values_of_a_wrong_kind_are_refused() {
        let spec = |kind| ActionSpec {
            name: "t",
            summary: "",
            effect: Effect::Read,
            idempotent: true,
            dry_run: false,
            run_limit_ms: 1,
            args: Box::leak(Box::new([ArgSpec {
                name: "a",
                kind,
                required: true,
                summary: "",
            }])),
        };
        let cases = [
            (ArgKind::Text { bytes_max: 3 }, Value::from(1), false),
            (ArgKind::Text { bytes_max: 3 }, Value::from("abc"), true),
            (ArgKind::Text { bytes_max: 3 }, Value::from("abcd"), false),
            (ArgKind::Text { bytes_max: 3 }, Value::from("a\0"), false),
            (
                ArgKind::TextList {
                    items_max: 1,
                    bytes_max: 1,
                },
                serde_json::json!(["a"]),
                true,
            ),
            (
                ArgKind::TextList {
                    items_max: 1,
                    bytes_max: 1,
                },
                serde_json::json!(["a", "b"]),
                false,
            ),
            (
                ArgKind::TextList {
                    items_max: 1,
                    bytes_max: 1,
                },
                serde_json::json!([1]),
                false,
            ),
            (ArgKind::Integer { min: 0, max: 9 }, Value::from(10), false),
            (ArgKind::Integer { min: 0, max: 9 }, Value::from(1.5), false),
            (ArgKind::Flag, Value::from("true"), false),
        ];
        for (kind, value, good) in cases {
            let args = Args::from([("a".to_owned(), value.clone())]);
            assert_eq!(spec(kind).check(&args).is_ok(), good, "{kind:?} {value}");
        }
    }

    #[test]
    fn the_table_is_in_order_and_reads_are_idempotent() {
        assert!(ACTIONS.is_sorted_by_key(|action| action.name));
        assert!(
            ACTIONS
                .iter()
                .all(|action| action.effect == Effect::Change || action.idempotent)
        );
    }
}
