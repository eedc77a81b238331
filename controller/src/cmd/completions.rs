//! `muster completions`: completions for a shell, from the same table as the command line.

use anyhow::Result;
use clap_complete::Shell;

use crate::cli;
use crate::cmd::Run;
use crate::context::Context;
use crate::exit::Exit;

/// Arguments of `muster completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Run for Completions {
    async fn run(self, context: &Context) -> Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli::command(), "muster", &mut script);
        context.print(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Ok)
    }
}
