//! The program `muster`: routes signed jobs to the fleet, aggregates every reply, keeps the ledger.
//!
//! This file parses the command line, makes the [`context::Context`], runs one command of [`cmd::COMMANDS`], and prints
//! at most one error. What a command does stands in its own file under `cmd/`.

pub mod admin;
pub mod bridge;
pub mod cli;
pub mod cmd;
pub mod config;
pub mod context;
pub mod dispatch;
pub mod exit;
pub mod ledger;
mod listen;
pub mod render;
mod series;
pub mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::Invocation;
use crate::context::Context;
use crate::exit::Exit;

/// Runs `muster` with the arguments of a process, its own name first, and gives its exit code.
///
/// Errors go to standard error as one message that starts with `muster: `. When whoever reads standard output has gone
/// away, it ends without a word, with the exit code of a process killed by SIGPIPE.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Two TLS providers could be linked in one day; the choice is made once, here, and a second one would be ours too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let invocation = match cli::parse(arguments) {
        Ok(invocation) => invocation,
        Err(error) => {
            let _ = error.print(); // help for a reader who has gone, or usage on a closed stderr: nobody to tell
            return exit::code_of_usage(&error);
        }
    };
    match run(&invocation) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    }
}

fn run(invocation: &Invocation) -> anyhow::Result<Exit> {
    context::start_log(invocation.globals.verbose);
    let context = Context::new(&invocation.globals, invocation.spec.needs_config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let outcome = runtime.block_on((invocation.spec.run)(&context, &invocation.matches));
    // Lookups of names and reads of standard input can't be cut off; they must not hold up the end.
    runtime.shutdown_background();
    outcome
}
