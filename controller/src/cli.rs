//! The command line: global options, and a tree of subcommands made from [`COMMANDS`]. It must not know any command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use crate::cmd::{COMMANDS, GROUPS, Spec};
use crate::render::Format;

/// The options that every command takes.
#[derive(Debug, Args)]
pub struct Globals {
    /// Read this config file (or MUSTER_CONFIG) instead of the usual ones
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub config: Option<PathBuf>,
    /// What to write to standard output
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        help_heading = "Global options"
    )]
    pub output: Format,
    /// When to use colour; NO_COLOR is respected
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub color: Color,
    /// Say more on standard error; more often for more
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A command line that was understood.
#[derive(Debug)]
pub struct Invocation {
    /// The global options.
    pub globals: Globals,
    /// The command's row.
    pub spec: &'static Spec,
    /// The command's own arguments.
    pub matches: ArgMatches,
}

/// Understands a command line, the program's own name first.
///
/// # Errors
/// Help, version and usage errors, as clap prints them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    let mut path = Vec::new();
    let mut innermost = &matches;
    while let Some((name, inner)) = innermost.subcommand() {
        path.push(name);
        innermost = inner;
    }
    let globals = Globals::from_arg_matches(innermost)?;
    let Some(spec) = COMMANDS.iter().find(|spec| spec.path == path.as_slice()) else {
        return Err(command.error(clap::error::ErrorKind::MissingSubcommand, "name a command"));
    };
    Ok(Invocation {
        globals,
        spec,
        matches: innermost.clone(),
    })
}

/// The whole command line of `muster`, from [`COMMANDS`].
#[must_use]
pub fn command() -> Command {
    // First, since the doc comment of the options would become the program's.
    let root = Globals::augment_args(Command::new("muster"));
    let mut root = root
        .version(env!("CARGO_PKG_VERSION"))
        .about("Routes signed jobs to the fleet over RabbitMQ, and accounts for every host")
        .long_about(None)
        .after_help(
            "Exit codes: 0 every host succeeded; 1 the program failed; 2 usage or config; 3 no host matched;\n\
             4 some host failed; 5 some host did not answer or the job expired; 6 some host refused;\n\
             7 stopped by a rollout rule; 69 no broker.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true);
    for spec in COMMANDS {
        root = match spec.path {
            [name] => root.subcommand(leaf(name, spec)),
            [group, name] if root.find_subcommand(group).is_some() => {
                root.mut_subcommand(group, |command| command.subcommand(leaf(name, spec)))
            }
            [group, name] => root.subcommand(branch(group).subcommand(leaf(name, spec))),
            _ => root,
        };
    }
    root
}

fn leaf(name: &'static str, spec: &Spec) -> Command {
    // The doc comment of a command's arguments must not replace the row's line.
    (spec.augment)(Command::new(name))
        .about(spec.about)
        .long_about(None)
}

fn branch(name: &'static str) -> Command {
    let about = GROUPS
        .iter()
        .find(|(group, _)| *group == name)
        .map_or("", |(_, about)| *about);
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_row_is_reachable() {
        command().debug_assert();
        let root = command();
        for spec in COMMANDS {
            let found = spec
                .path
                .iter()
                .try_fold(&root, |command, name| command.find_subcommand(name));
            assert!(found.is_some(), "{:?}", spec.path);
            assert!(
                !spec.about.is_empty() && !spec.about.ends_with('.'),
                "{:?}",
                spec.path
            );
        }
        for command in root.get_subcommands() {
            assert!(
                command
                    .get_about()
                    .is_some_and(|about| !about.to_string().is_empty()),
                "{}",
                command.get_name()
            );
        }
    }
}
