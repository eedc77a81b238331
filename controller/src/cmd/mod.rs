//! The commands: one file and one row in [`COMMANDS`] each.
//!
//! A command is a struct of its arguments with [`Run`] on it. Its row gives it its place on the command line and its
//! line in the help; the order of the rows is the order in the help.

mod actions;
mod bridge;
mod broker;
mod collect;
mod completions;
pub(crate) mod config;
mod figures;
mod hosts;
mod job;
mod key;
mod ping;
mod reactions;
mod run;
mod schema;
mod serve;
mod silence;
mod sitting;
mod stats;
mod units;
mod virtual_routers;
mod virtual_servers;
mod watch;

use std::future::Future;
use std::pin::Pin;

use clap::ArgMatches;

pub(crate) use self::sitting::span;
use crate::context::Context;
use crate::exit::Exit;

/// Every command, in the order of the help.
pub static COMMANDS: &[Spec] = &[
    spec::<ping::Ping>(&["ping"], "Who answers, and how fast"),
    spec::<hosts::Hosts>(
        &["hosts"],
        "Who there is: presence, labels, versions, last seen",
    ),
    spec::<run::RunAction>(
        &["run"],
        "Run an action on hosts, all at once or as a rollout",
    ),
    spec::<collect::Collect>(&["collect"], "What the hosts' collectors see now"),
    spec::<stats::Stats>(
        &["stats"],
        "The fleet's figures, over all hosts or by a label",
    ),
    spec::<watch::Watch>(&["watch"], "Events as they happen, or from the history"),
    spec::<job::List>(&["job", "list"], "The jobs in the ledger, newest first"),
    spec::<job::Show>(&["job", "show"], "What came of a job, host by host"),
    spec::<job::WatchJob>(
        &["job", "watch"],
        "Follow a job until all its hosts have ended",
    ),
    spec::<job::Cancel>(
        &["job", "cancel"],
        "End a job where it runs, and where it has not come yet",
    ),
    spec::<serve::Serve>(
        &["serve"],
        "Keep the ledger and the fleet's state, and serve them, as a daemon",
    ),
    spec::<config::Default>(
        &["config", "default"],
        "Print the config with every key and its default",
    )
    .without_config(),
    spec::<reactions::List>(&["reactions", "list"], "The reactions of this config"),
    spec::<reactions::Show>(
        &["reactions", "show"],
        "What reactions have done, and have not done and why",
    ),
    spec::<reactions::Test>(
        &["reactions", "test"],
        "What the reactions of this config would do about events in a file",
    ),
    spec::<silence::Add>(
        &["silence", "add"],
        "Have reactions pass over some events for a while",
    ),
    spec::<silence::List>(&["silence", "list"], "The silences that hold now"),
    spec::<silence::Remove>(&["silence", "remove"], "End a silence"),
    spec::<bridge::Bridge>(
        &["bridge"],
        "Run one bridge of the config by itself, as a daemon",
    ),
    spec::<actions::Actions>(
        &["actions"],
        "What jobs can do: the actions, their arguments and effects",
    ),
    spec::<schema::ShowSchema>(
        &["schema"],
        "The messages that others can read along: their places, JSON Schemas, AsyncAPI",
    )
    .without_config(),
    spec::<broker::Init>(
        &["broker", "init"],
        "Make all that Muster needs on the broker",
    ),
    spec::<broker::Enroll>(
        &["broker", "enroll"],
        "Give a host or an operator access, and print its config",
    ),
    spec::<broker::Retire>(&["broker", "retire"], "Take a host's access and queue away"),
    spec::<broker::Check>(
        &["broker", "check"],
        "Look whether this config and this broker work together",
    ),
    spec::<key::New>(&["key", "new"], "Make a key that signs jobs"),
    spec::<key::List>(
        &["key", "list"],
        "The keys that are here, and which one signs",
    ),
    spec::<completions::Completions>(
        &["completions"],
        "Completions for a shell, to standard output",
    )
    .without_config(),
];

/// What stands in the help for the commands that have commands of their own.
pub static GROUPS: &[(&str, &str)] = &[
    ("job", "Jobs in the ledger: list, show, watch, cancel"),
    (
        "reactions",
        "What `muster serve` does about events: list, show, test",
    ),
    (
        "silence",
        "What reactions pass over for a while: add, list, remove",
    ),
    (
        "broker",
        "Set up the broker, and the hosts and operators that may use it",
    ),
    ("config", "The config file"),
    ("key", "The keys that sign jobs"),
];

/// A command: a struct of its arguments.
pub trait Run: clap::Args {
    /// Does it. Data goes to standard output through the context's `show` and `print`, the rest through `note`.
    ///
    /// # Errors
    /// What ends the program; [`Exit::of`] says with which exit code.
    fn run(self, context: &Context) -> impl Future<Output = anyhow::Result<Exit>>;
}

/// A command's row.
#[derive(Debug)]
pub struct Spec {
    /// Where it stands on the command line: one name, or a group and a name.
    pub path: &'static [&'static str],
    /// Its line in the help.
    pub about: &'static str,
    /// Whether the config is read first; where not, a broken config does not stop the command.
    pub needs_config: bool,
    /// Adds its arguments to a clap command.
    pub augment: fn(clap::Command) -> clap::Command,
    /// Reads its arguments and runs it.
    pub run: for<'a> fn(&'a Context, &'a ArgMatches) -> Running<'a>,
}

/// A command that runs.
pub type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Exit>> + 'a>>;

/// The row of the command `C`.
const fn spec<C: Run>(path: &'static [&'static str], about: &'static str) -> Spec {
    Spec {
        path,
        about,
        needs_config: true,
        augment: C::augment_args,
        run: |context, matches| {
            Box::pin(async move { C::from_arg_matches(matches)?.run(context).await })
        },
    }
}

impl Spec {
    /// The same without reading the config.
    const fn without_config(mut self) -> Self {
        self.needs_config = false;
        self
    }
}
